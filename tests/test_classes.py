"""Classes of the package: no two of one name, all exceptions of one family."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from pathlib import Path

PACKAGES = [Path(__file__).parents[1] / name for name in ("curiosity_bluesky", "sim_devices")]


def classes():
    """Yield the file and the node of each class."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    yield path.relative_to(package.parent), node


def bases_of(node):
    return [base.id if isinstance(base, ast.Name) else ast.unparse(base) for base in node.bases]


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for path, node in classes():
        places[node.name].append(str(path))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_exceptions_have_one_base_class():
    own = {node.name: bases_of(node) for path, node in classes() if path.parts[0] != "sim_devices"}

    def is_exception(name):
        known = getattr(builtins, name, None)
        if isinstance(known, type):
            return issubclass(known, Exception) and not issubclass(known, Warning)
        return any(is_exception(base) for base in own.get(name, []))

    def is_ours(name):
        return name == "CuriosityError" or any(is_ours(base) for base in own.get(name, []))

    found = {name for name in own if not name.startswith("_") and is_exception(name)}
    assert {"InputError", "Unreachable", "JournalLocked"} <= found
    assert {name for name in found if not is_ours(name)} == set()
