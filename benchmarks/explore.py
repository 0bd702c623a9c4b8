"""How long the explorer page takes, what it sends, and what its server holds.

``python benchmarks/explore.py --images 25133 --json explore.json`` makes vectors in heaps and
thumbnails by chance (seed 0), starts the server in a process of its own, opens the page in
Chromium, and moves its mouse; without ``--images`` there are 2,000. Seconds are those of a
browser that draws without a graphics card, which emulates WebGL on the processor: ``--gpu``
leaves it what it finds. ``--pacmap`` times that map too.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky.similarity import Collection, Entry
from curiosity_bluesky.views.explore.projections import Projections
from curiosity_bluesky.views.explore.state import SharedState

SIZE = 256
FRONT = 'Bokeh.documents[0].get_model_by_name("front")'
DRAWN = f"window.explorer === true && {FRONT}.data.row.length > 0 && Bokeh.documents[0].is_idle"
PLACES = """() => {
  const at = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("map"))
  const front = Bokeh.documents[0].get_model_by_name("front").data
  const corner = at.el.getBoundingClientRect(), {x_scale, y_scale} = at.frame
  return Array.from(front.row).slice(0, 500).map((row, i) => [
    corner.left + x_scale.compute(front.x[i]), corner.top + y_scale.compute(front.y[i])])
}"""


def collection_of(images: int) -> Collection:
    """Return images that there never were."""
    rng = np.random.default_rng(0)
    heaps = rng.normal(size=(40, SIZE)).astype(np.float32)
    heap = rng.integers(0, 40, images)
    vectors = heaps[heap] + rng.normal(size=(images, SIZE)).astype(np.float32) * 0.7
    entries = [
        Entry(
            f"{n:08x}-0000-4000-8000-000000000000",
            "survey",
            "imager_amplitude",
            ("amplitude", "phase", "height")[n % 3],
            shape=(256, 256),
            metadata={
                "sample": f"film {heap[n]}",
                "operator": "abcdefgh"[n % 8],
                "exit_status": "fail" if n % 9 == 0 else "success",
                "time": 1.5e9 + 6000.0 * n,
            },
            properties={"coercive_bias": float(heap[n] + n % 7)},
        )
        for n in range(images)
    ]
    thumbnails = rng.integers(0, 256, (images, 48, 48), dtype=np.uint8)
    return Collection(entries, {"texture": vectors}, thumbnails)


class _Nowhere:
    def save_selection(self, selection: dict[str, Any]) -> str:
        return "none"

    def selection(self, id: str) -> dict[str, Any]:
        return {}


def serve(images: int, cache: Path) -> None:
    """Serve them, and say where."""
    from curiosity_bluesky.views.explore.server import PageServer

    room = SharedState(collection_of(images), {}, _Nowhere(), where="benchmark")
    server = PageServer(room, port=0, cache=cache)
    server.run(lambda: print(server.link, flush=True))


def resident(pid: int) -> float:
    """Return the memory of a process, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(x for x in lines if x.startswith("VmRSS")).split()[1]) / 1024, 1)


def browse(link: str, pid: int, images: int, gpu: bool) -> dict[str, Any]:
    """Open the page and use it; return how long things take, s, and what is sent, bytes."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--headless=new",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ]
    arguments += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    arguments += [] if gpu else ["--disable-gpu"]
    sent = {"http": 0, "websocket": 0}
    out: dict[str, Any] = {"server_MB_before": resident(pid)}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 860})
        page.set_default_timeout(240_000)

        def count(kind: str, payload: str | bytes) -> None:
            sent[kind] += len(payload)

        page.on("websocket", lambda ws: ws.on("framereceived", lambda f: count("websocket", f)))
        for name in ("first", "again"):
            sent["websocket"] = 0
            started = time.perf_counter()
            page.goto(link)
            page.wait_for_function(DRAWN)
            out[f"{name}_map_s"] = round(time.perf_counter() - started, 2)
            out[f"{name}_websocket_bytes"] = sent["websocket"]
        out["webgl"] = page.evaluate(
            "() => document.createElement('canvas').getContext('webgl2') != null"
        )
        places = page.evaluate(PLACES)
        hovers = []
        for x, y in places[:6]:
            page.mouse.move(5, 5)
            page.wait_for_timeout(100)
            started = time.perf_counter()
            page.mouse.move(x, y)
            page.locator(".bk-tooltip-content:visible img").first.wait_for()
            hovers.append(time.perf_counter() - started)
        out["hover_s"] = round(float(np.median(hovers)), 3)
        middle = np.median(places, 0)
        path = [
            (middle[0] + 120 * math.cos(a), middle[1] + 120 * math.sin(a))
            for a in np.linspace(0, 6.2, 25)
        ]
        for _ in range(5):
            page.mouse.move(*path[0])
            page.mouse.down()
            for xy in path[1:]:
                page.mouse.move(*xy)
            started = time.perf_counter()
            page.mouse.up()
            page.wait_for_timeout(50)
            if page.evaluate(f"{FRONT}.selected.indices.length"):
                break
        page.get_by_text("Selected · ").wait_for()
        out["lasso_s"] = round(time.perf_counter() - started, 2)
        out["lassoed"] = page.evaluate(f"{FRONT}.selected.indices.length")
        started = time.perf_counter()
        page.get_by_role("button", name="Project these").click()
        page.wait_for_function(f"{FRONT}.data.row.length < {images}")
        out["its_map_s"] = round(time.perf_counter() - started, 2)
        started = time.perf_counter()
        page.locator("select").nth(1).select_option("coercive_bias")
        page.locator(".bar").wait_for()
        out["colour_s"] = round(time.perf_counter() - started, 2)
        browser.close()
    return {**out, "server_MB": resident(pid)}


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--pacmap", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.images, arguments.serve)
        return
    out: dict[str, Any] = {"about": about(), "images": arguments.images}
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--images", str(arguments.images), "--serve", cache]
        started = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            link = server.stdout.readline().strip()
            out["start_s"] = round(time.perf_counter() - started, 1)
            out |= browse(link, server.pid, arguments.images, arguments.gpu)
        finally:
            server.terminate()
            server.wait()
        if arguments.pacmap:
            projections = Projections(Path(cache))
            vectors = collection_of(arguments.images).vectors["texture"]
            for name in ("pacmap_first_s", "pacmap_s"):
                started = time.perf_counter()
                projections.ask(vectors, "pacmap", seed=int(name == "pacmap_s")).result()
                out[name] = round(time.perf_counter() - started, 1)
            projections.close()
    print(json.dumps(out, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
