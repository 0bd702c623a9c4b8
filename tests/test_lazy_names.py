"""Names that packages import when they are first used."""

import importlib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_lazy_name_is_that_of_a_module_beside_it():
    """Once the module is imported, the package would give it in place of the name."""
    hidden = {}
    for path in sorted((ROOT / "curiosity_bluesky").rglob("__init__.py")):
        if "lazy_names" in path.read_text():
            package = ".".join(path.parent.relative_to(ROOT).parts)
            modules = {each.stem for each in path.parent.iterdir()}
            if both := modules & set(importlib.import_module(package).__all__):
                hidden[package] = both
    assert hidden == {}
