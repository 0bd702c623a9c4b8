"""Where somebody is on the explorer page: maps in maps, filters, neighbours, selections."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from explored import image_of, room_of

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import Collection, Image
from curiosity_bluesky.similarity.image_files import read_images
from curiosity_bluesky.views.explore import html, saved_selections
from curiosity_bluesky.views.explore.columns import NONE, OTHER, Column, Filter, colours_of
from curiosity_bluesky.views.explore.projections import Projections
from curiosity_bluesky.views.explore.state import SharedState, ViewState
from curiosity_bluesky.views.explore.upload import LARGEST
from curiosity_bluesky.views.explore.upload import image_of as uploaded

IMAGES = 66


@pytest.fixture(scope="module")
def room() -> SharedState:
    return room_of(IMAGES)


@pytest.fixture
def visit(room: SharedState) -> ViewState:
    return ViewState(room)


def test_maps_in_maps_to_any_depth_and_back(visit: ViewState) -> None:
    sizes = [50, 40, 20, 10, 5, 3]
    for size in sizes:
        visit.select(visit.level.rows[:size])
        visit.enter()
        assert len(visit.level.rows) == size and not len(visit.selected)
    assert "All 66" in html.breadcrumbs(visit) and html.breadcrumbs(visit).count("data-action") == 6
    visit.back(2)
    assert len(visit.level.rows) == 40
    assert visit.selected.tolist() == list(range(20))  # what led on from there
    visit.back(0)
    assert [len(level.rows) for level in visit.levels] == [IMAGES]
    visit.back(0), visit.back(7)
    assert len(visit.levels) == 1


def test_too_few_or_all_are_no_new_map(visit: ViewState) -> None:
    for rows in ([], [1, 2], range(IMAGES)):
        visit.select(list(rows))
        with pytest.raises(InputError):
            visit.enter()
        assert len(visit.levels) == 1


def test_what_passes_can_be_projected_without_a_lasso(visit: ViewState) -> None:
    visit.filter(Filter("exit_status", words=("fail",)))
    visit.enter()
    assert visit.level.rows.tolist() == list(range(0, IMAGES, 11))


def test_filters_add_up_and_are_taken_away(visit: ViewState) -> None:
    visit.select(range(40))
    visit.filter(Filter("operator", words=("ada", "ben")))
    visit.filter(Filter("loop_area", between=(2.0, 6.0)))
    visit.filter(Filter("symmetry", part="P"))
    entries = visit.room.collection.entries
    expected = [
        row
        for row, entry in enumerate(entries)
        if entry.metadata["operator"] in ("ada", "ben")
        and 2 <= entry.properties["loop_area"] <= 6
        and entry.metadata["symmetry"].startswith("p")
    ]
    assert visit.level.rows[visit.passing()].tolist() == expected
    assert visit.selected.tolist() == [row for row in expected if row < 40]
    assert html.filter_chips(visit).count("unfilter:") == 4  # three, and all of them
    visit.unfilter("operator")
    assert set(visit.filters) == {"loop_area", "symmetry"}
    visit.unfilter()
    assert visit.passing().all()


def test_a_filter_of_the_wrong_kind_changes_nothing(visit: ViewState) -> None:
    for wrong in (Filter("operator", between=(0, 1)), Filter("loop_area", words=("3",))):
        with pytest.raises(InputError, match="this filter is for others"):
            visit.filter(wrong)
    with pytest.raises(InputError, match="nothing indexed has"):
        visit.filter(Filter("colour", words=("red",)))
    assert not visit.filters


def test_going_back_selects_only_what_passes(visit: ViewState) -> None:
    visit.select(range(20))
    visit.enter()
    visit.filter(Filter("channel", words=("phase",)))
    visit.back(0)
    assert visit.selected.tolist() == list(range(1, 20, 2))


def test_neighbours_are_on_the_map_and_pass(visit: ViewState) -> None:
    visit.click(5)
    collection = visit.room.collection
    assert visit.found is not None
    expected = [h.row for h in collection.nearest(collection.vectors["texture"][5], "texture", 13)]
    assert [hit.row for hit in visit.found.hits] == [row for row in expected if row != 5]
    visit.select(range(30))
    visit.enter()
    visit.filter(Filter("channel", words=("amplitude",)))
    visit.click(4)
    assert {hit.row for hit in visit.found.hits} <= set(range(0, 30, 2)) - {4}
    with pytest.raises(InputError):
        visit.click(IMAGES)


def test_an_uploaded_image_finds_itself_by_either_descriptor(visit: ViewState) -> None:
    for name in ("texture", "symmetry"):
        visit.describe_by(name)
        visit.search(Image.checked(np.rot90(image_of(17))), "turned.npy")
        assert visit.found is not None and visit.found.hits[0].row == 17
        assert visit.found.hits[0].distance < 1e-3
    visit.describe_by("texture")
    assert visit.found is None  # its vector was one of the other descriptor


def test_a_selection_goes_out_and_comes_back(visit: ViewState) -> None:
    visit.describe_by("symmetry")
    visit.project_by("pacmap")
    visit.select(range(5, 45))
    visit.enter()
    visit.filter(Filter("time", between=(1.7e9, 1.7e9 + 30 * 86400)))
    visit.filter(Filter("operator", words=("cleo",)))
    visit.colour = "loop_area"
    visit.select(range(8, 20))
    visit.click(8)
    saved = json.loads(json.dumps(saved_selections.saved(visit, "stripes", "look again")))
    assert saved["package"].startswith("curiosity-bluesky ")
    step = saved["projections"][1]
    assert (step["descriptor"], step["descriptor_version"]) == ("symmetry", 1)
    assert (step["projection"], step["seed"], step["images"]) == ("pacmap", 0, 40)
    assert step["parameters"]["n_neighbors"] == 10
    sources = {(i["uid"], i["stream"], i["key"], i["event"]) for i in saved["images"]}
    assert sources == {visit.room.collection.entries[row].source for row in range(5, 45)}

    other = ViewState(visit.room)
    assert saved_selections.restore(other, saved) == []
    assert [level.rows.tolist() for level in other.levels] == [
        level.rows.tolist() for level in visit.levels
    ]
    assert [(x.descriptor, x.method) for x in other.levels] == [("symmetry", "pacmap")] * 2
    assert other.filters == visit.filters and other.colour == "loop_area"
    assert other.selected.tolist() == visit.selected.tolist() == [8, 11, 14, 17]
    assert other.found is not None and other.found.row == 8


def test_a_selection_outlives_a_change_of_the_index(visit: ViewState) -> None:
    visit.select(range(10, 30))
    visit.enter()
    visit.select([12, 15, 20])
    saved = saved_selections.saved(visit, "old")
    before, rows = visit.room.collection, [*range(40, 10, -1), 50]
    part = Collection(
        [before.entries[row] for row in rows],
        {name: vectors[rows] for name, vectors in before.vectors.items()},
    )
    other = ViewState(dataclasses.replace(visit.room, collection=part))
    remarks = saved_selections.restore(other, saved)
    assert any("1 of its 20 images" in remark for remark in remarks)
    assert any("66 images then, and has 31 now" in remark for remark in remarks)
    kept = {part.entries[row].source for row in other.selected}
    assert kept == {before.entries[row].source for row in (12, 15, 20)}


def test_what_is_no_selection_is_refused_and_changes_nothing(visit: ViewState) -> None:
    visit.select(range(9))
    good = saved_selections.saved(visit, "good")
    for change in (
        {"projections": None},
        {"images": [{"uid": "x"}]},
        {"selected": [9999]},
        {"projections": [{**good["projections"][0], "descriptor": "smell"}]},
        {"filters": [{"column": "operator", "between": [1, 2]}]},
    ):
        with pytest.raises(InputError):
            saved_selections.restore(visit, {**good, **change})
        assert len(visit.selected) == 9 and not visit.filters
    with pytest.raises(InputError, match="name"):
        saved_selections.saved(visit, "  ")


def test_columns_know_words_numbers_and_dates() -> None:
    assert Column("a", ["x", None, "y", "x"]).words == ["x", "y", NONE]
    number = Column("a", [1, None, 2.5, float("nan")])
    assert number.kind == "number" and number.range == (1.0, 2.5)
    assert number.said(0) == "1" and number.said(1) == NONE
    assert Column("time", [1.7e9, None]).kind == "date"
    assert Column("time", [1.0, 2.0]).kind == "number"
    assert Column("a", [True, False]).kind == "words"
    assert Column("a", [1, "1"]).kind == "words"
    assert Column("a", [None, None]).kind == "words"
    assert not Filter("a", between=(0, 9)).passes(number)[[1, 3]].any()


def test_colours_say_what_is_missing_and_what_is_too_much() -> None:
    few = colours_of(Column("a", ["x", "y", "x", None]), 4, ())
    assert few.values[0] == few.values[2] != few.values[1] and np.isnan(few.values[3])
    assert [(word, count) for word, _, count in few.legend] == [("x", 2), ("y", 1), (NONE, 1)]
    many = colours_of(Column("a", [f"w{k}" for k in range(50)]), 50, ())
    assert many.legend[-1][0] == OTHER and many.legend[-1][2] == 31
    assert len({colour for _, colour, _ in many.legend}) == len(many.legend)
    # A minute's difference between dates is seen.
    dates = colours_of(Column("time", [1.7e9, 1.7e9 + 60, 1.7e9 + 120]), 3, ["#000000", "#ffffff"])
    assert dates.values.tolist() == [0, 60, 120]


def test_nothing_that_a_run_says_becomes_html(visit: ViewState) -> None:
    evil = "<script>window.hacked = 1</script>"
    assert visit.room.collection.entries[3].metadata["sample"] == evil
    visit.click(3)
    visit.colour = "sample"
    visit.filter(Filter("sample", words=(evil, '"><img src=x onerror=alert(1)>')))
    column = visit.room.table["sample"]
    shown = [
        html.neighbours(visit, "t"), html.filter_chips(visit), html.breadcrumbs(visit),
        html.legend(column, colours_of(column, IMAGES, ())),
        html.gallery(visit, "t", [3], 0, 30, evil), html.notice(evil), html.saved('"' + evil, evil),
    ]  # fmt: skip
    for text in shown:
        assert "<script" not in text and "<img src=x" not in text
    assert sum("&lt;script&gt;" in text for text in shown) >= 6


def test_what_cannot_be_searched_by_is_said() -> None:
    def npy(array: np.ndarray) -> bytes:
        np.save(file := io.BytesIO(), array, allow_pickle=True)
        return file.getvalue()

    bad = {
        "a.txt": b"hello", "noend": b"", "a.png": b"no picture", "a.npy": b"no array",
        "large.png": bytes(LARGEST + 1),
        "cut.npy": npy(np.zeros((64, 64)))[:300],
        "objects.npy": npy(np.array([{}, []], object)),
        "flat.npy": npy(np.ones((20, 20))),
        "line.npy": npy(np.arange(100.0)),
        "nan.npy": npy(np.full((20, 20), np.nan)),
        "complex.npy": npy(np.ones((20, 20), complex)),
    }  # fmt: skip
    for name, content in bad.items():
        with pytest.raises(InputError):
            uploaded(name, content)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_are_read_in_8_and_16_bit_in_colour_and_in_floats(suffix: str) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    kinds = [grey, grey.astype(np.uint16) * 257, np.stack([grey] * 3, -1)]
    kinds += [grey.astype(np.float32) / 255] if suffix == "tif" else []
    for values in kinds:
        PIL.Image.fromarray(values).save(file := io.BytesIO(), suffix.replace("tif", "tiff"))
        read = uploaded(f"x.{suffix}", file.getvalue()).values
        assert read.shape == (20, 30)
        assert np.corrcoef(read.ravel(), grey.ravel())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_picture_is_the_same_image_uploaded_and_given_by_its_path(
    tmp_path: Path, mode: str
) -> None:
    # Two readers: files from a browser go through few formats and within bounds alone.
    colours = np.random.default_rng(0).integers(0, 255, (24, 20, 3)).astype(np.uint8)
    if mode == "I;16":
        picture = PIL.Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    else:
        picture = PIL.Image.fromarray(colours).convert(mode)
    picture.save(path := tmp_path / "x.png")
    by_path = read_images(path)[0].image().values
    np.testing.assert_allclose(uploaded("x.png", path.read_bytes()).values, by_path, rtol=1e-6)


def test_an_empty_index_says_what_to_do() -> None:
    with pytest.raises(InputError, match="curiosity index"):
        ViewState(SharedState(Collection([], {}), {}, room_of(3).selections))


def test_maps_are_kept_and_made_anew_when_damaged(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    first = Projections(tmp_path)
    points = first.ask(vectors, "pca").result(30)
    assert first.ask(vectors, "pca").done()
    first.close()
    end = time.monotonic() + 20
    while not (files := list(tmp_path.glob("*.npy"))) and time.monotonic() < end:
        time.sleep(0.01)
    again = Projections(tmp_path)
    assert again.ask(vectors, "pca").done()  # from the disk
    files[0].write_bytes(b"damaged")
    third = Projections(tmp_path)
    assert np.array_equal(third.ask(vectors, "pca").result(30), points)
    for each in (again, third):
        each.close()


def test_a_process_that_dies_is_an_error_and_the_next_map_has_a_new_one(tmp_path: Path) -> None:
    pytest.importorskip("pacmap")
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    projections = Projections(tmp_path)
    future = projections.ask(vectors, "pacmap")
    while (process := projections._worker._process) is None:
        time.sleep(0.01)
    process.kill()
    with pytest.raises(InputError, match="has ended"):
        future.result(60)
    assert projections._worker.start().poll() is None
    projections.close()


@pytest.mark.slow  # numba compiles for half a minute
def test_pacmap_comes_from_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("pacmap")
    vectors = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    projections = Projections(tmp_path)
    points = projections.ask(vectors, "pacmap").result(240)
    assert points.shape == (60, 2) and np.isfinite(points).all()
    assert projections.ask(vectors, "pacmap").done()
    projections.close()
