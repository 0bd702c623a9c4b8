"""What happens on the explorer page when something is pressed, without a browser."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh", reason='needs "curiosity-bluesky[explore]"')

from bokeh.document import Document
from explored import image_of, room_of

from curiosity_bluesky.similarity import Image
from curiosity_bluesky.views.explore import html
from curiosity_bluesky.views.explore.page import Page
from curiosity_bluesky.views.explore.projections import Projections
from curiosity_bluesky.views.explore.state import SharedState, ViewState

IMAGES = 66
SOME = list(range(20, 60))


@pytest.fixture(scope="module")
def room() -> SharedState:
    return room_of(IMAGES)


@pytest.fixture
def projections(room: SharedState, tmp_path: Path) -> Iterator[Projections]:
    made = Projections(tmp_path)
    # Both maps are kept, so that they are shown at once however busy the machine is.
    vectors = room.collection.vectors["texture"]
    for rows in (range(IMAGES), SOME):
        made.ask(vectors[list(rows)], "pca").result(60)
    yield made
    made.close()


@pytest.fixture
def page(room: SharedState, projections: Projections) -> Iterator[Page]:
    with ThreadPoolExecutor(1) as pool:
        page = Page(Document(), room, projections, pool, "thumbnail", "http://127.0.0.1")
        page.open()
        yield page


def selects(page: Page, rows: list[int]) -> None:
    page.map.front.selected.indices = [int(np.flatnonzero(page.map.rows == r)[0]) for r in rows]


def says(page: Page, what: str) -> None:
    page.parts.action.value = f"{what}#{np.random.default_rng().integers(1 << 60)}"


def marked(page: Page) -> np.ndarray:
    data: Any = page.map.marks.data
    return np.column_stack([data["x"], data["y"]])


def lie(page: Page) -> np.ndarray:
    """Where the neighbours lie, by what is drawn."""
    data: Any = page.map.front.data
    at = {int(r): (x, y) for r, x, y in zip(data["row"], data["x"], data["y"], strict=True)}
    assert page.visit.found is not None
    return np.array([at[hit.row] for hit in page.visit.found.hits])


@pytest.mark.parametrize("uploaded", [False, True])
def test_neighbours_shown_are_those_on_the_map_however_deep(page: Page, uploaded: bool) -> None:
    if uploaded:
        page.visit.search(Image.checked(image_of(5)), "mine.npy")
        page._show_found()
    else:
        says(page, "click:5")  # the image itself is not on the next map
    before = marked(page)
    assert np.array_equal(before, lie(page)) and len(before) == 12
    selects(page, SOME)
    page._do(page._enter)
    assert "bad" not in page.parts.notice.text and len(page.visit.levels) == 2
    assert page.visit.found is not None
    assert {hit.row for hit in page.visit.found.hits} <= set(SOME)
    assert np.array_equal(marked(page), lie(page)) and len(marked(page)) == 12
    says(page, "back:0")
    assert np.array_equal(marked(page), before)


def test_what_fails_leaves_the_page_where_it_was(page: Page, projections: Projections) -> None:
    says(page, "click:5")
    selects(page, list(range(10)))
    before, points, found = page.visit.copy(), page._points, marked(page)
    projections.close()
    page._do(page._enter)  # a map that nobody has made yet
    assert "that failed" in page.parts.notice.text
    assert page.visit.levels == before.levels and page.visit.found == before.found
    assert page.visit.selected.tolist() == list(range(10)) and page._points is points
    assert np.array_equal(marked(page), found)
    assert f"All {IMAGES}" in page.parts.crumbs.text and "›" not in page.parts.crumbs.text
    page.parts.descriptor.value = "symmetry"
    assert "that failed" in page.parts.notice.text
    assert page.visit.level.descriptor == page.parts.descriptor.value == "texture"


def test_a_projection_that_is_not_installed_is_not_chosen(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pacmap", None)
    page.parts.method.active = 1
    assert "PaCMAP is not installed" in page.parts.notice.text
    assert page.visit.level.method == "pca" and page.parts.method.active == 0


def test_a_legend_filters_by_what_it_names_alone(page: Page) -> None:
    page.parts.colour.value = "uid"
    assert "(other)" in page.parts.legend.text
    assert "only:(other)" not in page.parts.legend.text
    page.parts.colour.value = "operator"
    says(page, "only:ben")
    assert page.visit.passing().sum() == IMAGES // 3


def test_what_is_left_out_is_said_at_the_top(room: SharedState) -> None:
    said = html.header(dataclasses.replace(room, remark="5 of 71 images are left out <b>"))
    assert "66 images" in said and "5 of 71 images are left out &lt;b&gt;" in said
    assert "remark" not in html.header(room)


def test_an_image_searched_by_is_forgotten_where_another_descriptor_is_looked_at(
    room: SharedState,
) -> None:
    visit = ViewState(room)
    visit.select(SOME)
    visit.enter()
    visit.describe_by("symmetry")
    visit.search(Image.checked(image_of(30)), "mine.npy")
    visit.back(0)
    assert visit.level.descriptor == "texture" and visit.found is None
