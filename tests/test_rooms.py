"""Each room says what others may use, and keeps its privates to itself."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import curiosity_bluesky

ROOT = Path(__file__).parents[1]
PACKAGE = "curiosity_bluesky"
CODE = [
    file
    for folder in (PACKAGE, "sim_devices", "benchmarks", "profiles")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
ROOMS = [
    f"{PACKAGE}.{found.name}"
    for found in pkgutil.iter_modules(curiosity_bluesky.__path__)
    if found.ispkg
]


def room_of(path: str) -> str:
    """Return the room of a dotted path: the package below the root, or another root."""
    root, *below = path.split(".")
    return below[0] if root == PACKAGE and below else root


def is_module(path: str) -> bool:
    place = ROOT.joinpath(*path.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def is_private(path: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in path.split("."))


def foreign_privates(source: str, here: str) -> list[str]:
    """Return the private names of other rooms that a source uses, with their lines."""
    tree, found, modules = ast.parse(source), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported = {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Import):
            imported = {alias.asname or alias.name: alias.name for alias in node.names}
        else:
            continue
        for name, path in imported.items():
            if not path.startswith((f"{PACKAGE}.", "sim_devices.")) or room_of(path) == here:
                continue
            if is_private(path):
                found.append(f"{node.lineno}: {path}")
            if is_module(path):
                modules[name] = path
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            path = modules.get(ast.unparse(node.value))
            if path is not None:
                found.append(f"{node.lineno}: {path}.{node.attr}")
    return found


def test_no_room_uses_the_privates_of_another() -> None:
    assert len(CODE) > 200
    found = []
    for file in CODE:
        place = file.relative_to(ROOT).with_suffix("")
        uses = foreign_privates(file.read_text(), room_of(".".join(place.parts)))
        found += [f"{place}.py:{use}" for use in uses]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from curiosity_bluesky.agent.remote.client import _SLICE", 1),
        ("from curiosity_bluesky.cli._export import run_export", 1),
        ("import curiosity_bluesky.cli._export", 1),
        ("from curiosity_bluesky.catalog import journal\njournal._lock()", 1),
        ("from curiosity_bluesky.catalog import journal as kept\nkept._lock()", 1),
        ("import curiosity_bluesky.catalog.journal\ncuriosity_bluesky.catalog.journal._lock()", 1),
        ("from curiosity_bluesky.views.explore.state import _State", 0),
        ("from curiosity_bluesky.agent import __doc__", 0),
        ("from curiosity_bluesky.catalog import Catalog\nCatalog._client", 0),  # pyright's to tell
    ],
)
def test_privates_are_seen_in_every_form_of_import(source: str, found: int) -> None:
    assert len(foreign_privates(source, "views")) == found


@pytest.mark.parametrize("package", [PACKAGE, *ROOMS])
def test_every_room_says_what_others_may_use(package: str) -> None:
    room = importlib.import_module(package)
    assert room.__all__ and not any(is_private(name) for name in room.__all__)
    assert len(set(room.__all__)) == len(room.__all__)
    for name in room.__all__:
        if not is_module(f"{package}.{name}"):
            assert hasattr(room, name), f"{package} has no {name}"


def test_the_public_page() -> None:
    assert set(curiosity_bluesky.__all__) == {
        *("CuriosityAgent", "RemoteAgent"),
        *("Explorer", "Observation", "Proposal", "Strategy", "Survey", "register"),
        *("connect", "curiosity_plan", "end_in_order", "explore", "predict", "read"),
        "steer",
        *("DriftCorrection", "RunOptions", "SafetyLimits"),
        "InputError",
    }
    assert set(dir(curiosity_bluesky)) >= set(curiosity_bluesky.__all__)
