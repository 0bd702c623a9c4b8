"""Text for display: whatever stands in metadata, no display is steered by it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import unicodedata
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib import cbook

from curiosity_bluesky import connect
from curiosity_bluesky.catalog.summaries import _summary
from curiosity_bluesky.cli import images, main, output, runs
from curiosity_bluesky.similarity import Collection, Entry
from curiosity_bluesky.similarity.search import SearchResult
from curiosity_bluesky.utils import display
from curiosity_bluesky.views.explore import html
from curiosity_bluesky.views.explore.columns import colours_of
from curiosity_bluesky.views.explore.state import SharedState, ViewState
from curiosity_bluesky.views.report import RunReport

HOSTILE = [
    "film [/b] 3", "[bold red]film[/]", "[link=file:///etc/passwd]film[/link]",
    ":bomb: [@click=x]", "a\r\nb\tc\x00", "a\u2028b", "`x` | *y*",
    {"name": "PZT", "id": 3}, [1, {"a": None}], 3, 1e308, 10**30, True, None, "", "x" * 30_000,
    "\x1b[2J\x1b]8;;http://evil.example\x07film\x1b]8;;\x07", "\x1b]52;c;ZXZpbA==\x07",
    "\u202etxt.exe\u2066", "fi\u200blm\u200d\ufeff", "\x9b31mfilm", "half \ud83d of a pair",
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)",
    r"$\frac{1}{", r"\$a$", "µm é 試料 قطعة", "\\",
]  # fmt: skip
"""Samples that broke something, or would."""

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(HOSTILE)
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
"""Whatever JSON can hold."""

STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def steers(text: str, allowed: str = "") -> list[str]:
    """Return the characters of a text that would steer a display."""
    return [c for c in text if unicodedata.category(c) in STEERING and c not in allowed]


@FEW
@given(ANYTHING, st.integers(1, 60))
@example({"a": float("nan")}, 5)
@example({3: object()}, 200)
@example(10**5000, 200)
def test_anything_is_one_line_of_bounded_length(value: Any, longest: int) -> None:
    shown = display.plain(value, longest)
    assert not steers(shown) and len(shown) <= longest
    assert not steers(display.plain(value))


def test_what_steers_nothing_is_shown_as_it_is() -> None:
    for word in ("film 3", "µm é 試料", "film [/b] 3", r"$\frac$", "<b>"):
        assert display.plain(word) == word
    assert display.plain("\x1b[2J") == r"\x1b[2J" and display.plain("\u202e") == r"\u202e"
    assert display.plain({"name": "PZT"}) == '{"name": "PZT"}' and display.plain(None) == ""
    assert display.plain("abcdef", 4) == "abc…" and display.plain("abc\x1b", 4) == "abc…"


@FEW
@given(ANYTHING)
def test_a_figure_finds_no_mathematics(value: Any) -> None:
    from matplotlib.text import Text

    escaped = display.figure(value)
    text: Any = Text(text=escaped)
    drawn, mathematics = text._preprocess_math(escaped)
    assert not mathematics and drawn == display.plain(value)
    assert not cbook.is_math_text(escaped)


@FEW
@given(ANYTHING)
def test_markdown_is_text(value: Any) -> None:
    text = display.markdown(value)
    assert re.sub(r"\\([\\`*\[\]<>|$~])", r"\1", text) == display.plain(value)
    assert not re.search(r"[`*\[\]<>|$~]", re.sub(r"\\.", "", text))
    assert display.code(value).count("`") == 2


@FEW
@given(ANYTHING, ANYTHING)
@example("<i a=1>", '" onclick="x')
def test_html_holds_text_alone(inside: Any, attribute: Any) -> None:
    parsed: list[Any] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            parsed.append((tag, dict(attrs)))

    page = f'<dd title="{display.html(attribute)}">{display.html(inside)}</dd>'
    Parser().feed(page)
    assert parsed == [("dd", {"title": display.plain(attribute)})] and not steers(page)


class Given:
    """A catalogue whose runs have the start documents that a test gives."""

    where = "somewhere [/b]"
    reads_files = False

    def __init__(self, *starts: dict[str, Any]) -> None:
        self.starts = starts

    def __enter__(self) -> Given:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def runs(self, **_: Any) -> list[Any]:
        return [_summary(start, "success", 3) for start in self.starts]

    def count(self, **_: Any) -> int:
        return len(self.starts)


def said(command: Any, *args: Any, **kwargs: Any) -> str:
    """Return what a command prints on a wide terminal, without the table's own lines."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        for module in (images, output, runs):
            patch.setattr(module, "console", display.Console(width=120))
        command(*args, **kwargs)
    return out.getvalue()


@FEW
@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, st.floats())
@example("film [/b] 3", 3, {"n": 1}, ["a"], 1e300)
def test_runs_and_show_take_any_metadata(
    monkeypatch, sample: Any, strategy: Any, points: Any, reason: Any, time: float
) -> None:
    start = {
        "uid": "0123456789", "time": time, "sample": sample, "curiosity_strategy": strategy,
        "num_points": points, "plan_name": sample, "curiosity_seed": strategy, "operator": sample,
    }  # fmt: skip
    plain = {"uid": "abcdefghij", "time": 1.7e9, "sample": "film 2"}
    import curiosity_bluesky.catalog.catalog as catalog

    monkeypatch.setattr(catalog, "connect", lambda *_, **__: Given(start, plain))
    listed = said(runs.runs)
    assert not steers(listed, "\n") and "01234567" in listed and "film 2" in listed
    assert "2 runs in somewhere [/b]" in listed
    report = RunReport(start, "success", reason, {str(sample): 3}, None, [], None)  # type: ignore[arg-type]
    shown = said(output.print_table, report.rows())
    assert not steers(shown, "\n") and "0123456789" in shown


def explored(sample: Any, name: str = "sample") -> Collection:
    """Return three images, of which one has metadata that a test gives."""
    metadata = [
        {name: sample, "sample": sample, "file": sample, "time": 1.7e9},
        {"sample": "b"},
        {},
    ]
    entries = [
        Entry(uid=f"{k}{'f' * 9}", stream="survey", key="k", channel="amplitude", metadata=about)
        for k, about in enumerate(metadata)
    ]
    vectors = {"texture": np.eye(3, 4, dtype=np.float32)}
    return Collection(entries, vectors, np.zeros((3, 48, 48), np.uint8))


@FEW
@given(LEAVES, st.text())
@example("film [/b] 3", "<b>")
def test_the_page_takes_any_metadata(sample: Any, name: str) -> None:
    room = SharedState(explored(sample, name), {}, SimpleNamespace(), where=str(sample))  # type: ignore[arg-type]
    visit = ViewState(room, "texture")
    visit.click(0)
    column = room.table["sample"]
    pieces = [
        html.header(room), html.neighbours(visit, "t"), html.notice(str(sample)),
        html.gallery(visit, "t", [0, 1], 0, 30, "x"),
        html.legend(column, colours_of(column, 3, ["#000000"])),
    ]  # fmt: skip
    for piece in pieces:
        assert not steers(piece, "\n") and "<script" not in piece and "<img src=x" not in piece
    assert all(not steers(word) for word in column.words + room.table.names)


@FEW
@given(LEAVES)
@example("film [/b] 3")
def test_similar_takes_any_metadata(monkeypatch, sample: Any) -> None:
    collection = explored(sample)
    import curiosity_bluesky.catalog.catalog as catalog
    import curiosity_bluesky.similarity.index.index as index
    import curiosity_bluesky.similarity.search as searching

    monkeypatch.setattr(catalog, "connect", lambda *_, **__: Given())
    monkeypatch.setattr(index, "Index", lambda *_: None)
    hits = collection.nearest(collection.vectors["texture"][0], "texture", 3)
    found = SearchResult(
        query="[/b]", by="texture", among=3, hits=hits, collection=collection,
        thumbnail=np.zeros((48, 48), np.uint8),
    )  # fmt: skip
    monkeypatch.setattr(searching, "similar", lambda *_, **__: found)
    printed = said(images.similar, "[/b]", verify=False)
    assert not steers(printed, "\n") and "0fffffff" in printed


ODD = [r"$\frac{1}{", "$$$", {"name": "$x$"}, "\x1b[2J"]


@pytest.mark.quick("0", "3")
@pytest.mark.parametrize("sample", ODD, ids=range(len(ODD)))
def test_figures_take_any_metadata(sample: Any, tmp_path) -> None:
    """What stands in titles is drawn: mathematics that cannot be set would end the drawing."""
    from curiosity_bluesky.views import LiveView
    from curiosity_bluesky.views.hits import save_hits

    view = LiveView(tmp_path, window=False, status=lambda: f"red: {sample}")
    start = {"uid": "0123456789", "time": 1.0, "sample": sample, "curiosity_strategy": sample}
    view.picture("start", {**start, "num_points": sample})
    assert view.save(tmp_path / "run.png").stat().st_size > 1000
    grey = np.zeros((4, 4), np.uint8)
    words = (display.plain(sample, 40),)
    assert save_hits(tmp_path / "hits.png", (grey, words), [(grey, words)]).stat().st_size > 1000


def test_one_odd_sample_hides_no_run(tmp_path, capsys, monkeypatch) -> None:
    """Real runs, of which several have names that broke the listing of the whole catalogue."""
    samples = ["film [/b] 3", {"name": "PZT", "id": 3}, "\x1b[2Jred", "plain"]
    with connect(tmp_path / "odd") as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        uids: list[Any] = []
        for sample in samples:

            def plan(sample: Any = sample) -> Any:
                yield from bps.open_run(md={"sample": sample, "curiosity_strategy": 5})
                yield from bps.close_run()

            uids += list(RE(plan()))  # pyright: ignore[reportArgumentType]
    where = str(tmp_path / "odd")

    def curiosity(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["curiosity", *words, "--catalog", where])
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out

    listed = curiosity("runs")
    assert all(uid[:8] in listed for uid in uids) and not steers(listed, "\n")
    found = json.loads(curiosity("runs", "--json"))
    assert [run["sample"] for run in found] == samples
    for uid, word in zip(uids[1:3], ("PZT", r"\x1b[2J"), strict=True):
        shown = curiosity("show", uid)
        assert word in shown and not steers(shown, "\n")
