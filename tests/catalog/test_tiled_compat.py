"""Names of Tiled and of what it stands on that may move: one test for each, which says which."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import fastapi
import httpx
import pytest

from curiosity_bluesky.catalog import _tiled_compat as compat

SOURCES = Path(compat.__file__).parent


def found(name):
    module, _, path = name.partition(":")
    thing = importlib.import_module(module)
    for part in path.split("."):
        thing = (
            inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
        )
    return thing


@pytest.mark.parametrize("upstream", compat.UPSTREAM, ids=str)
def test_upstream_has_the_name(upstream):
    try:
        thing = found(upstream.name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{upstream.name} has moved ({error}); it is needed: {upstream.why}")
    if upstream.within:
        thing = getattr(thing, "__func__", thing)
        assert upstream.within in inspect.getsource(thing), (
            f"{upstream.name} has no {upstream.within!r} any more; needed: {upstream.why}"
        )
    if upstream.value is not None:
        assert thing == upstream.value, f"{upstream.name} is {thing!r}; needed: {upstream.why}"


@pytest.mark.parametrize("name", compat._CLASSES)
def test_names_of_classes_are_those_of_upstream(name):
    assert f"{compat._CLASSES[name]}:{name}" in {
        re.sub(r"(:\w+).*", r"\1", upstream.name) for upstream in compat.UPSTREAM
    }
    assert getattr(compat, name) is found(f"{compat._CLASSES[name]}:{name}")


def test_it_imports_nothing_of_tiled_by_itself():
    code = (
        "import sys, curiosity_bluesky.catalog._tiled_compat as c; "
        "assert c.UPSTREAM; print([m for m in sys.modules if m.split('.')[0] in "
        "('tiled', 'bluesky_tiled_plugins', 'sqlalchemy', 'zarr')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def setting() -> str:
    return "default"


def asked(found: Annotated[str, fastapi.Depends(setting)]) -> str:
    return found


def test_a_request_inspects_no_dependency_again_and_each_app_keeps_its_own(monkeypatch):
    compat._inspect_dependencies_once()
    apps = []
    for name in ("first", "second"):
        app = fastapi.FastAPI()
        app.get("/")(asked)
        app.dependency_overrides[setting] = lambda name=name: name
        apps.append(app)

    async def answer(app: fastapi.FastAPI) -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return (await client.get("/")).json()

    assert [asyncio.run(answer(app)) for app in apps] == ["first", "second"]

    def inspected(call):
        raise AssertionError(f"{call} was inspected again")

    monkeypatch.setattr("fastapi.dependencies.utils.get_typed_signature", inspected)
    assert [asyncio.run(answer(app)) for app in apps] == ["first", "second"]


PUBLIC = {
    *("tiled.client", "tiled.queries", "bluesky_tiled_plugins", "bluesky_tiled_plugins.queries"),
}


def test_the_room_imports_all_else_of_tiled_through_it():
    imported = {}
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name != "_tiled_compat.py":
            for module in re.findall(
                r"^\s*from ((?:tiled|bluesky_tiled_plugins)[\w.]*) import", path.read_text(), re.M
            ):
                imported.setdefault(module, set()).add(path.name)
    assert set(imported) <= PUBLIC, {m: p for m, p in imported.items() if m not in PUBLIC}
