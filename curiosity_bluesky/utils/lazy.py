"""Names of a package that are imported from their modules when they are first used."""

import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any

_OURS = "curiosity_bluesky."


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package, so that importing it stays cheap.

    Parameters
    ----------
    package
        Its ``__name__``.
    modules
        The module that has each name: inside the package, or by its whole name if it is in another
        one of ours.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        whole = module if module.startswith(_OURS) else f"{package}.{module}"
        return getattr(importlib.import_module(whole), name)

    return get, lambda: sorted(modules)


class _LazyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # found at once the next time
        return value


def lazy_module(name: str) -> Any:
    """Return a stand-in for a module that is imported when something of it is first used.

    Parameters
    ----------
    name
        Of the module, such as ``torch``.
    """
    return _LazyModule(name)
