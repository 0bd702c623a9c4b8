"""The explorer page in a browser, driven by its mouse."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("bokeh", reason='needs "curiosity-bluesky[explore]"')
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from explored import image_of, room_of  # noqa: E402

from curiosity_bluesky.errors import InputError  # noqa: E402
from curiosity_bluesky.views.explore.server import PageServer  # noqa: E402

IMAGES = 60
CHROMIUM = shutil.which("chromium")
# Without a graphics card its emulation takes most of two cores.
ARGUMENTS = [
    "--no-sandbox", "--headless=new", "--disable-gpu",
    "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    # What a page does that lets a name of its own point here (DNS rebinding).
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]  # fmt: skip
WAIT = 120_000
# What the server changes reaches the page piece by piece: whatever is said of it is waited for.
expect = sync_api.expect
expect.set_options(timeout=WAIT)
LONGEST = 180
"""Seconds for one test, below those after which pytest gives up."""


FRONT = 'Bokeh.documents[0].get_model_by_name("front")'
# Where each image that passes lies in the window: its row, x and y.
PLACES = """() => {
  const at = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("map"))
  const front = Bokeh.documents[0].get_model_by_name("front").data
  const corner = at.el.getBoundingClientRect(), {x_scale, y_scale} = at.frame
  return Array.from(front.row).map((row, i) => [row,
    corner.left + x_scale.compute(front.x[i]), corner.top + y_scale.compute(front.y[i])])
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    started, made = threading.Event(), []

    def serve() -> None:
        cache = tmp_path_factory.mktemp("maps")
        made.append(PageServer(room_of(IMAGES), port=0, cache=cache))
        made[0].run(started.set, signals=False)

    thread = threading.Thread(target=serve, daemon=True)  # one that hangs is left behind
    thread.start()
    assert started.wait(60)
    yield made[0]
    made[0].stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[], None]]]:
    """Where the browser listens, and what ends it: a page that hangs would hang the driver too."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    profile = tmp_path_factory.mktemp("profile")
    process = subprocess.Popen(
        [CHROMIUM, *ARGUMENTS, "--remote-debugging-port=0", f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    try:
        said, last = profile / "DevToolsActivePort", time.monotonic() + LONGEST
        while not (said.exists() and len(said.read_text().splitlines()) == 2):
            assert process.poll() is None and time.monotonic() < last, "chromium does not start"
            time.sleep(0.05)
        port, path = said.read_text().splitlines()
        yield f"ws://127.0.0.1:{port}{path}", end
    finally:
        end()
        process.wait()


@pytest.fixture(scope="module")
def browser(chromium: tuple[str, Callable[[], None]]) -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        try:
            connected = driver.chromium.connect_over_cdp(chromium[0])
        except sync_api.TimeoutError:  # once in a while it does not answer the first that asks
            connected = driver.chromium.connect_over_cdp(chromium[0], timeout=120_000)
        yield connected
        chromium[1]()


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1400, "height": 860})
    context.set_default_timeout(WAIT)
    yield context


@pytest.fixture
def page(
    server: PageServer, context: Any, chromium: tuple[str, Callable[[], None]]
) -> Iterator[Any]:
    # What the driver waits for without a limit of its own ends with the browser.
    watch = threading.Timer(LONGEST, chromium[1])
    watch.start()
    try:
        yield from _page(server, context)
    finally:
        watch.cancel()


def _page(server: PageServer, context: Any) -> Iterator[Any]:
    page = context.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    # What the policy forbids is said on the console alone.
    page.on("console", lambda said: failed.append(said.text) if "Policy" in said.text else None)
    opened(page, server.link)
    yield page
    assert page.evaluate("window.hacked === undefined"), "what a run says was run as a script"
    page.close()
    assert not failed


def opened(page: Any, link: str) -> None:
    page.goto(link)
    page.wait_for_function(f"window.explorer === true && {FRONT}.data.row.length > 0")
    page.wait_for_function("Bokeh.documents[0].is_idle")


def places(page: Any) -> dict[int, tuple[float, float]]:
    return {int(row): (x, y) for row, x, y in page.evaluate(PLACES)}


def until(page: Any, true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT / 1000
    while not true():
        assert time.monotonic() < end, "that did not happen"
        page.wait_for_timeout(50)


def until_crumbs(page: Any, true: Callable[[str], bool]) -> None:
    said = page.locator(".crumbs")
    until(page, lambda: true(said.inner_text().replace("\n", " ")))


def until_near(page: Any, before: dict[int, tuple[float, float]]) -> None:
    """Wait until the images lie where they lay, which takes the axes too."""

    def there() -> bool:
        now = places(page)
        return set(now) == set(before) and max(math.dist(before[r], now[r]) for r in now) < 1.5

    until(page, there)


def lasso(page: Any, share: float) -> set[int]:
    """Draw around the share of the images nearest to their middle; return which those are."""
    at = places(page)
    middle = np.median(list(at.values()), 0)
    far = {row: math.dist(xy, middle) for row, xy in at.items()}
    order = sorted(far, key=far.__getitem__)
    k = round(share * len(order))
    radius = (far[order[k - 1]] + far[order[k]]) / 2
    turns = np.linspace(0, 2 * np.pi, 49)
    path = [
        (middle[0] + radius * math.cos(turn), middle[1] + radius * math.sin(turn)) for turn in turns
    ]
    # Bokeh takes a button that is held for 0.3 s before it moves for something else, which
    # happens on a busy machine: again, then.
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(f"{FRONT}.selected.indices.length"):
        assert time.monotonic() < end, "no lasso was drawn in time"
        page.mouse.move(*path[0])
        page.mouse.down()
        for xy in path[1:]:
            page.mouse.move(*xy)
        page.mouse.up()
        with contextlib.suppress(sync_api.TimeoutError):
            page.wait_for_function(f"{FRONT}.selected.indices.length > 0", timeout=1000)
    rows = page.evaluate(f"{FRONT}.selected.indices.map(i => {FRONT}.data.row[i])")
    until_shown(page, len(rows), "Selected")
    return set(rows)


def until_shown(page: Any, images: int, what: str = "On this map") -> None:
    """Wait for the gallery of so many images, which comes after all else."""
    page.get_by_role("heading", name=f"{what} · {images}", exact=True).wait_for()


def project_these(page: Any, expected: int) -> None:
    page.get_by_role("button", name=f"Project these {expected}").click()
    until_shown(page, expected)
    page.wait_for_function(f"{FRONT}.data.row.length == {expected}")


def test_hovering_shows_the_image_and_what_is_known_of_it(page: Any) -> None:
    (x, y) = places(page)[7]
    page.mouse.move(x - 5, y - 5)
    page.mouse.move(x, y)
    tooltip = page.locator(".bk-tooltip-content:visible").first
    tooltip.get_by_text("film 0").first.wait_for()
    said = tooltip.inner_text()
    assert "phase" in said and "success" in said and "p4m" in said and "2023-11-2" in said
    picture = tooltip.locator("img").first
    until(page, lambda: picture.evaluate("e => e.naturalWidth") == 48)


def test_a_lasso_makes_a_map_of_its_own_twice_and_back(page: Any) -> None:
    first = lasso(page, 0.6)
    assert 30 <= len(first) <= 40
    before = places(page)
    project_these(page, len(first))
    assert set(places(page)) == first
    until_crumbs(page, lambda said: said.startswith(f"All {IMAGES}›{len(first)}"))
    page.wait_for_function(f"{FRONT}.selected.indices.length == 0")
    second = lasso(page, 0.5)
    assert second < first
    project_these(page, len(second))
    until_crumbs(page, lambda said: said.startswith(f"All {IMAGES}›{len(first)}›{len(second)}"))
    # One step back, with what was selected there; then to the start.
    page.locator(".crumbs button").nth(1).click()
    page.wait_for_function(f"{FRONT}.data.row.length == {len(first)}")
    until_shown(page, len(second), "Selected")
    page.locator(".crumbs button").first.click()
    page.wait_for_function(f"{FRONT}.data.row.length == {IMAGES}")
    until_shown(page, len(first), "Selected")
    until_crumbs(page, lambda said: said.startswith(f"All {IMAGES}") and "›" not in said)
    until_near(page, before)


def test_colours_and_filters_find_what_failed(page: Any) -> None:
    colour, by = page.locator("select").nth(1), page.locator("select").nth(2)
    colour.select_option("coercive_bias")
    page.get_by_text("6 without are grey").wait_for()  # the failed ones have none
    colour.select_option("exit_status")
    page.locator(".legend button").get_by_text("fail").click()
    until_shown(page, 6)
    assert set(places(page)) == {row for row in range(IMAGES) if row % 11 == 0}
    expect(page.locator(".chip")).to_have_text(re.compile("^exit_status: fail"))
    by.select_option("channel")
    page.locator(".choices__inner:visible").click()
    page.get_by_role("option", name="phase").click()
    page.wait_for_function(f"{FRONT}.data.row.length == 3")
    expect(page.locator(".chip")).to_have_count(2)
    until_crumbs(page, lambda said: "3 pass the filters" in said)
    # What does not pass stays in grey until it is hidden.
    back = 'Bokeh.documents[0].get_model_by_name("back").data.x.length'
    page.wait_for_function(f"{back} == {IMAGES - 3}")
    page.get_by_text("hide what does not pass").click()
    page.wait_for_function(f"{back} == 0")
    page.get_by_text("clear all").click()
    page.wait_for_function(f"{FRONT}.data.row.length == {IMAGES}")
    expect(page.locator(".chip")).to_have_count(0)


@pytest.mark.slow
def test_a_range_of_numbers_is_dragged(page: Any) -> None:
    page.locator("select").nth(2).select_option("loop_area")
    handle = page.locator(".noUi-handle-lower:visible")
    box, track = handle.bounding_box(), page.locator(".noUi-base:visible").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, box["y"] + 5, steps=4)
    page.mouse.up()
    page.locator(".chip").get_by_text("loop_area: ").wait_for()
    page.wait_for_function(f"{FRONT}.data.row.length < {IMAGES}")
    assert 10 < page.evaluate(f"{FRONT}.data.row.length") < 50
    page.locator(".chip button").click()
    page.wait_for_function(f"{FRONT}.data.row.length == {IMAGES}")


def test_a_click_shows_the_nearest_and_the_way_to_the_run(page: Any, server: PageServer) -> None:
    page.mouse.click(*places(page)[12])
    page.get_by_text("Nearest to film 5 · amplitude").wait_for()
    vectors = server.room.collection.vectors["texture"]
    expected = [hit.row for hit in server.room.collection.nearest(vectors[12], "texture", 13)]
    shown = page.locator(".grid").first.locator("button")
    rows = [int(b.get_attribute("data-action").partition(":")[2]) for b in shown.all()]
    assert rows == [row for row in expected if row != 12]
    distances = [float(text) for text in shown.locator("small").all_inner_texts()]
    assert distances == sorted(distances) and len(distances) == 12
    marks = 'Bokeh.documents[0].get_model_by_name("marks").data.x.length'
    page.wait_for_function(f"{marks} == 12")
    uid = server.room.collection.entries[12].uid
    link = page.get_by_role("link", name="open in Tiled")
    assert link.get_attribute("href").endswith(f"/ui/browse/{uid}")
    assert page.get_by_text("copy uid").get_attribute("data-copy") == uid
    shown.nth(2).click()  # on to a neighbour's neighbours
    page.locator(".detail code").get_by_text(f"{rows[2]:08x}").wait_for()


@pytest.mark.slow
def test_an_image_from_elsewhere_is_searched_by(page: Any, tmp_path: Path) -> None:
    values = np.rot90(image_of(23))
    grey = np.clip((values - values.min()) / np.ptp(values) * 65535, 0, 65535).astype(np.uint16)
    PIL.Image.fromarray(grey).save(tmp_path / "turned.png")
    np.save(tmp_path / "turned.npy", values)
    spot = 'Bokeh.documents[0].get_model_by_name("spot").data'
    for name in ("turned.npy", "turned.png"):
        page.locator("input[type=file]").set_input_files(tmp_path / name)
        page.get_by_text(f"Nearest to {name}").wait_for()
        first = page.locator(".grid").first.locator("button").first
        assert first.get_attribute("data-action") == "click:23"
        assert float(first.locator("small").inner_text()) < 0.1
        page.wait_for_function(f"String({spot}.marker) == 'star'")


def test_a_bad_file_is_said_and_changes_nothing(page: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones((32, 32)))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "words.png").write_text("this is no picture")
    (tmp_path / "note.txt").write_text("neither is this")
    expected = {
        "flat.npy": "flat.npy is 1 everywhere",
        "objects.npy": "objects.npy",
        "words.png": "words.png cannot be read as png",
        "note.txt": "note.txt is not one of .png",
    }
    for name, text in expected.items():
        page.locator("input[type=file]").set_input_files(tmp_path / name)
        page.locator(".notice.bad").get_by_text(text).wait_for()
    assert page.get_by_text("Nearest to").count() == 0
    assert page.evaluate(f"{FRONT}.data.row.length") == IMAGES


@pytest.mark.slow
def test_a_file_that_is_too_large_is_said(page: Any, tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(bytes(17 * 2**20))
    page.locator("input[type=file]").set_input_files(tmp_path / "huge.png")
    page.locator(".notice.bad").get_by_text("at most 16 MB").wait_for()


@pytest.mark.slow
def test_a_selection_is_saved_and_opened_again(page: Any, server: PageServer, context: Any) -> None:
    chosen = lasso(page, 0.6)
    project_these(page, len(chosen))
    page.locator("select").nth(1).select_option("operator")
    page.locator(".legend button").get_by_text("ben").click()
    until_shown(page, sum(row % 3 == 1 for row in chosen))  # those are ben's
    kept = lasso(page, 0.5)
    at = places(page)
    page.get_by_placeholder("name").fill("striped <b>films</b>")
    page.get_by_placeholder("note").fill("the ones to do again")
    page.get_by_role("button", name="Save selection").click()
    link = page.get_by_role("link", name="striped <b>films</b>").get_attribute("href")
    assert link.startswith(f"{server.link}?selection=")
    saved = server.room.selections.selection(link.partition("=")[2])
    assert [step["images"] for step in saved["projections"]] == [IMAGES, len(chosen)]
    assert saved["note"] == "the ones to do again" and len(saved["selected"]) == len(kept)

    other = context.new_page()
    opened(other, link)
    until_shown(other, len(kept), "Selected")
    until_crumbs(other, lambda said: said.startswith(f"All {IMAGES}›{len(chosen)}"))
    expect(other.locator(".chip")).to_have_text(re.compile("^operator: ben"))
    # The message takes no room from the map, so that it lies where it lay.
    until_near(other, at)
    rows = other.evaluate(f"{FRONT}.selected.indices.map(i => {FRONT}.data.row[i])")
    assert set(rows) == kept
    other.close()


def test_a_link_to_nothing_is_said(page: Any, server: PageServer) -> None:
    for key in ("nosuch", "../../etc/passwd", "%00"):
        opened(page, f"{server.link}?selection={key}")
        page.locator(".notice.bad").get_by_text("no selection").wait_for()
        assert page.evaluate(f"{FRONT}.data.row.length") == IMAGES


@pytest.mark.slow
def test_another_descriptor_makes_another_map(page: Any) -> None:
    before = places(page)
    page.locator("select").first.select_option("symmetry")
    until(page, lambda: max(math.dist(before[r], xy) for r, xy in places(page).items()) > 20)


def test_what_runs_say_is_shown_and_never_run(page: Any) -> None:
    # Image 3 is of a sample whose name is a script: in a tooltip, a legend, a menu, a detail.
    x, y = places(page)[3]
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y)
    page.locator(".bk-tooltip-content:visible").get_by_text("<script>").first.wait_for()
    page.mouse.click(x, y)
    page.locator(".detail").get_by_text("<script>").wait_for()
    page.locator("select").nth(1).select_option("sample")
    page.locator(".legend").get_by_text("<script>").wait_for()
    page.locator("select").nth(2).select_option("sample")
    page.locator(".choices__inner:visible").click()
    page.get_by_role("option", name="<script>").click()
    page.locator(".chip").get_by_text("<script>").wait_for()
    assert page.evaluate("window.hacked === undefined")


def status(link: str, **headers: str) -> tuple[int, bytes, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(link, headers=headers)) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, b"", error.headers


def test_thumbnails_are_served_and_nothing_else(server: PageServer) -> None:
    address = f"{server.address}/thumbnail/{server.room.digest}"
    code, content, headers = status(f"{address}/5.png")
    assert code == 200 and "immutable" in headers["Cache-Control"]
    assert np.array_equal(
        np.asarray(PIL.Image.open(io.BytesIO(content))), server.room.collection.thumbnails[5]
    )
    for wrong in (f"{IMAGES}.png", "-1.png", "..%2f..%2fetc%2fpasswd", "5.png.txt", "../5.png"):
        assert status(f"{address}/{wrong}")[0] == 404
    assert status(f"{address}/5.png", Host="evil.example")[0] == 403


def test_a_page_whose_name_points_here_reads_nothing(server: PageServer, context: Any) -> None:
    port = server.address.rpartition(":")[2]
    page = context.new_page()
    answer = page.goto(f"http://evil.example:{port}/explore")
    assert answer.status == 403 and page.evaluate("location.hostname") == "evil.example"
    assert page.evaluate("typeof Bokeh") == "undefined"
    thumbnail = f"/thumbnail/{server.room.digest}/5.png"
    tried = f"""async () => {{
      const read = (path) => fetch(path).then((answer) => answer.status, () => "none")
      const talk = (where) => new Promise((done) => {{
        const socket = new WebSocket(where, ["bokeh", "token"])
        socket.onopen = () => done("open")
        socket.onerror = () => done("refused")
      }})
      return [await read("/explore"), await read("{thumbnail}"),
              await read("/static/js/bokeh.min.js"),
              await talk(`ws://${{location.host}}/explore/ws`),
              await talk("ws://127.0.0.1:{port}/explore/ws")]
    }}"""
    found = page.evaluate(tried)
    assert found == [403, 403, 403, "refused", "refused"]
    page.close()


def test_the_page_is_shown_in_no_frame(server: PageServer, context: Any) -> None:
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text))
    page.set_content(f'<iframe src="{server.link}"></iframe>')
    until(page, lambda: any("frame" in text for text in refused))
    page.close()


def test_a_port_that_is_taken_is_said(server: PageServer) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(InputError, match=f"port {port} cannot be used"):
        PageServer(server.room, port=port)
    with pytest.raises(InputError, match="no descriptor 'smell'"):
        PageServer(server.room, port=0, descriptor="smell")
