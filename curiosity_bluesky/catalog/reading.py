"""Reading a run whose server may end meanwhile: another one takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from curiosity_bluesky.errors import InputError

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.catalog import Catalog

T = TypeVar("T")


def read_run(catalog: Catalog, uid: str | int, ask: Callable[[Any], T]) -> T:
    """Return what is asked of a run, asked once more if its server went away in between.

    Where several processes have one directory, the first of them serves it; when that one ends,
    the run is there again at the next server.

    Parameters
    ----------
    catalog
        Where the run is.
    uid
        Its uid, the first characters of it, or its number.
    ask
        Called with the run.

    Raises
    ------
    InputError
        If there is no such run, or no server takes the place of the one that ended.
    """
    try:
        return ask(catalog[uid])
    except InputError:
        raise
    except Exception as error:
        # Slow to import, and a run that is read from its files needs none of it.
        from curiosity_bluesky.catalog.connection import is_unreachable

        if not is_unreachable(error):
            raise
        return ask(catalog[uid])
