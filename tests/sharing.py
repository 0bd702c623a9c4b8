"""Several processes write into one shared catalogue while others search and read it.

What a run holds follows from who wrote it and which of his it is: so a reader, who knows
neither the writers nor their files, sees at once when something of one run is in another.
What a writer emitted it puts into a file of its own besides, to be compared in the end, document
by document.
"""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import torch
from bluesky import RunEngine
from numpy.typing import NDArray
from support import QUICK, comparable, grouped

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.catalog.document_counts import DocumentCounts
from curiosity_bluesky.catalog.journal import journals
from curiosity_bluesky.catalog.run_uploader import compare
from curiosity_bluesky.catalog.shared.server import SharedCatalogue
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

Documents = list[tuple[str, dict[str, Any]]]

PATIENCE = 240.0
"""How long the processes of a campaign may take, s, unless it is told otherwise."""

SIDE, POINTS = 16, 16

_PRELOADED = [
    *("torch", "bluesky", "event_model", "zarr", "dask.dataframe", "pandas", "tiled.client"),
    *(
        "curiosity_bluesky.catalog.catalog",
        "curiosity_bluesky.plans.plan",
        "curiosity_bluesky.demo.instrument",
    ),
    *("curiosity_bluesky.learning", "sim_devices", "sharing"),
]


@contextmanager
def open_directory() -> Iterator[Path]:
    """Yield a new directory that the user ``postgres`` can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(
        prefix="curiosity-shared-", ignore_cleanup_errors=True
    ) as made:
        os.chmod(made, 0o711)
        yield Path(made)


def spectrum(writer: int, number: int, event: int) -> NDArray[np.float64]:
    """Return what only this event of this run holds."""
    return np.random.default_rng([writer, number, event]).normal(size=POINTS)


def made_run(writer: int, number: int, spectra: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a run: a survey, and spectra with a scalar each."""
    run: Any = event_model.compose_run(
        metadata={
            "plan_name": "made",
            "sample": f"sample-{(writer + number) % 3}",
            "curiosity_strategy": ("curious", "random")[number % 2],
            "writer": writer,
            "number": number,
        }
    )
    yield "start", run.start_doc
    array = {"dtype": "array", "dtype_numpy": "<f8", "source": "made"}
    scalar = {"dtype": "number", "dtype_numpy": "<f8", "shape": [], "source": "made"}
    image = np.random.default_rng([writer, number]).normal(size=(SIDE, SIDE))
    streams = {
        "survey": ({"image_height": {**array, "shape": [SIDE, SIDE], "dims": ["y", "x"]}}, [image]),
        "primary": (
            {"spm_response": {**array, "shape": [POINTS], "dims": ["bias"]}, "spm_area": scalar},
            [spectrum(writer, number, event) for event in range(spectra)],
        ),
    }
    for name, (keys, values) in streams.items():
        described = run.compose_descriptor(name=name, data_keys=keys)
        yield "descriptor", described.descriptor_doc
        for value in values:
            data = dict(zip(keys, (value, float(value.flat[0])), strict=False))
            stamps = dict.fromkeys(data, time.time())
            yield "event", described.compose_event(data=data, timestamps=stamps)
    yield "stop", run.compose_stop()


def measured_run(
    emit: Callable[[str, Any], None], writer: int, points: int = 6, **resumed: Any
) -> None:
    """Measure a run with the plan on the simulated instrument, or go on with one."""
    given: dict[str, Any] = resumed or {
        "num_points": points,
        "parameters": {**QUICK, "n_seeds": 4},
        "seed": writer,
        "md": {"sample": f"film-{writer}", "writer": writer, "number": -1},
    }
    film = SyntheticSample((SIDE, 14), seed=writer, points=POINTS)
    ins = simulated_instrument(film, speed=math.inf)
    RE = RunEngine({})
    RE.subscribe(emit)
    RE(curiosity_plan([ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, **grouped(**given)))


# ---- the processes


def _child(task: Callable, uri: str, key: str, home: Path, *args: Any) -> None:
    """Do a task as on a machine of its own: with its own key and its own journals."""
    torch.set_num_threads(1)
    os.environ |= {"TILED_API_KEY": key, "XDG_DATA_HOME": str(home)}
    home.mkdir(exist_ok=True)
    try:
        task(uri, home, *args)
    except BaseException:
        (home / "failed").write_text(traceback.format_exc())
        raise


def _write(
    uri: str, home: Path, writer: int, runs: int, spectra: int, pause: float, measured: bool
) -> None:
    """Write runs; put what was emitted into ``told.jsonl``."""
    told = os.open(home / "told.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with connect(uri) as catalog:
        feed = catalog.writer(retry=(0.2, 1.0))

        def emit(name: str, doc: Any) -> None:
            feed(name, doc)
            line = json.dumps({"name": name, "doc": doc}, cls=event_model.NumpyEncoder) + "\n"
            os.write(told, line.encode())

        begun = time.time()
        for number in range(runs):
            if measured and number == runs - 1:
                measured_run(emit, writer)
                continue
            for name, doc in made_run(writer, number, spectra):
                emit(name, doc)
                time.sleep(pause)
        deadline = time.monotonic() + PATIENCE
        while journals(catalog.journal) and time.monotonic() < deadline:
            time.sleep(0.05)
    (home / "times.json").write_text(json.dumps([begun, time.time()]))


def _resume(uri: str, home: Path, uid: str, writer: int, points: int) -> None:
    """Go on with a run and read it; say what came of it."""
    with connect(uri) as catalog:
        emitted: Documents = []
        feed = catalog.writer()

        def emit(name: str, doc: Any) -> None:
            feed(name, doc)
            emitted.append((name, doc))

        measured_run(emit, writer, points, resume=uid, catalog=uri)
        catalog.flush()
        whole = read(catalog[emitted[0][1]["uid"]])
        found = {
            "uid": emitted[0][1]["uid"],
            "status": catalog.runs(plan_name="curiosity_plan")[-1].status,
            "spectra": whole["spectrometer_response"].values.tolist(),
            "pixels": [[int(v) for v in whole[key].values] for key in ("row", "col")],
        }
    (home / "resumed.json").write_text(json.dumps(found))


def _read(uri: str, home: Path, seed: int, ended: str) -> None:
    """Search and read until a file says that all is written; say what was wrong."""
    rng = np.random.default_rng(seed)
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    newest = 0
    with connect(uri, create=False) as catalog:
        while not Path(ended).exists() or not counts["read"]:
            try:
                _look(catalog, rng, wrong, counts)
                counts["most"] = max(newest, counts["most"])
                newest = _grown(catalog, newest, wrong)
            except Exception as error:  # the server may be killed meanwhile, if it is meant to be
                counts["errors"] += 1
                wrong_of = home / "errors.txt"
                wrong_of.write_text(f"{type(error).__name__}: {error}")
                time.sleep(0.2)
    (home / "found.json").write_text(json.dumps({"wrong": wrong, **counts}))


def _grown(catalog: Catalog, before: int, wrong: list[str]) -> int:
    now = len(catalog)
    if now < before:
        wrong.append(f"{before} runs became {now}")
    return now


def _look(catalog: Catalog, rng: Any, wrong: list[str], counts: Counter[str]) -> None:
    """Search by sample or by strategy, and open one of what was found."""
    asked: dict[str, str] = {"sample": f"sample-{rng.integers(3)}"}
    if rng.random() < 0.5:
        asked = {"strategy": str(rng.choice(["curious", "random"])), "plan_name": "made"}
    found = catalog.runs(**asked)
    counts["searches"] += 1
    uids = [summary.uid for summary in found]
    if len(set(uids)) != len(uids):
        wrong.append(f"{asked}: a run twice among {uids}")
    wrong += [
        f"{asked}: {summary}"
        for summary in found
        if any(getattr(summary, key) != value for key, value in asked.items())
    ]
    ended = [summary for summary in found if summary.status == "success"]
    if not ended:
        return
    run = catalog[str(rng.choice([summary.uid for summary in ended]))]
    points = read(run)
    writer, number = run.start["writer"], run.start["number"]
    for event, (values, area) in enumerate(
        zip(points["spm_response"].values, points["spm_area"].values, strict=True)
    ):
        expected = spectrum(writer, number, event)
        if not np.array_equal(values, expected) or area != expected[0]:
            wrong.append(f"event {event} of run {run.start['uid']} of {writer}, {number}")
    counts["read"] += 1
    counts["spectra"] += points.sizes["point"]


def resumed_by(shared: SharedCatalogue, home: Path, uid: str, writer: int, count: int) -> list[Any]:
    """Let several processes go on with one run at once; return what came of each.

    One that came too late, when another had begun, is refused and left out.
    """
    context = _context()
    homes = [home / f"resuming-{n}" for n in range(count)]
    children = [
        context.Process(
            target=_child, args=(_resume, shared.uri, shared.write_key, where, uid, writer, 6)
        )
        for where in homes
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
        child.kill()
    failed = [path.read_text() for path in home.glob("resuming-*/failed")]
    failed = [text for text in failed if "was gone on with already" not in text]
    assert not failed, failed
    results = [where / "resumed.json" for where in homes]
    return [json.loads(path.read_text()) for path in results if path.exists()]


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def seconds_to_write(
    uri: str, key: str, home: Path, *, writers: int, runs: int, spectra: int
) -> float:
    """Let so many processes write as fast as they can; return how long it took until all is in."""
    context, homes = _context(), [home / f"writer-{n}" for n in range(writers)]
    given = [(n, runs, spectra, 0.0, False) for n in range(writers)]
    children = [
        context.Process(target=_child, args=(_write, uri, key, where, *rest))
        for where, rest in zip(homes, given, strict=True)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    times = [json.loads((where / "times.json").read_text()) for where in homes]
    return max(end for _, end in times) - min(begin for begin, _ in times)


# ---- the campaign


@dataclasses.dataclass
class Outcome:
    """What became of a campaign.

    Parameters
    ----------
    written
        Documents by run, as the writers emitted them.
    documents
        How many those are.
    lost, doubled, differing
        Runs that are not in the catalogue, twice there, or hold something else.
    left
        Journals that were not taken in.
    searches, read, spectra
        What the readers did.
    errors
        Times that they got an error.
    wrong
        What they saw that nobody wrote so.
    failed
        Processes that failed, and how.
    """

    written: dict[str, Documents]
    documents: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    doubled: list[str] = dataclasses.field(default_factory=list)
    differing: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)
    searches: int = 0
    read: int = 0
    spectra: int = 0
    errors: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> str:
        """Return its counts, a line each."""
        return "\n".join(
            f"{field.name:>10} {value if isinstance(value, int) else len(value)}"
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        )


def campaign(
    shared: SharedCatalogue,
    home: Path,
    *,
    writers: int,
    runs: int,
    readers: int,
    measured: int,
    spectra: int = 6,
    pause: float = 0.0,
    meanwhile: Callable[[Callable[[], int]], None] = lambda written: None,
    patience: float = PATIENCE,
) -> Outcome:
    """Let processes write and read at once; compare all that was written.

    Parameters
    ----------
    shared
        The catalogue.
    home
        Directory for what the processes leave.
    writers, runs
        How many processes write, and how many runs each.
    measured
        How many of the writers have the plan measure their last run.
    readers
        How many read.
    spectra
        In a run.
    pause
        Between two documents, s.
    meanwhile
        Called when all have started, with what returns how many documents were emitted.
    patience
        How long they may take, s.
    """
    context = _context()
    before = set(_uids(shared))
    ended = home / "ended"
    homes = [home / f"writer-{n}" for n in range(writers)]

    def started(task: Callable, key: str, where: Path, *args: Any) -> Any:
        child = context.Process(target=_child, args=(task, shared.uri, key, where, *args))
        child.start()
        return child

    writing = [
        started(_write, shared.write_key, where, n, runs, spectra, pause, n < measured)
        for n, where in enumerate(homes)
    ]
    reading = [
        started(_read, shared.read_key, home / f"reader-{n}", n, str(ended)) for n in range(readers)
    ]
    try:
        meanwhile(lambda: sum(_lines(where / "told.jsonl") for where in homes))
        deadline = time.monotonic() + patience
        for child in writing:
            child.join(max(0.0, deadline - time.monotonic()))
        ended.touch()
        for child in reading:
            child.join(max(60.0, deadline - time.monotonic()))
    finally:
        hanging = [child for child in (*writing, *reading) if child.is_alive()]
        for child in hanging:
            child.kill()
            child.join()
    outcome = _compared(shared, homes, before)
    outcome.failed = [f"process {child.pid} did not end" for child in hanging]
    outcome.failed += [path.read_text() for path in sorted(home.glob("*/failed"))]
    outcome.left = [str(path) for path in home.glob("*/**/journal/**/*.jsonl")]
    for path in home.glob("reader-*/found.json"):
        found = json.loads(path.read_text())
        outcome.wrong += found["wrong"]
        outcome.searches += found.get("searches", 0)
        outcome.read += found.get("read", 0)
        outcome.spectra += found.get("spectra", 0)
        outcome.errors += found.get("errors", 0)
    print(outcome.table())
    return outcome


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def as_user(shared: SharedCatalogue, key: str, home: Path, **options: Any) -> Catalog:
    """Open the catalogue with a key, as on a machine of its own."""
    os.environ |= {"TILED_API_KEY": key, "XDG_DATA_HOME": str(home)}
    return connect(shared.uri, **options)


def put(catalog: Catalog, documents: Iterable[tuple[str, dict[str, Any]]]) -> tuple[str, Documents]:
    """Write a run; return its uid and its documents."""
    emitted = list(documents)
    writer = catalog.writer()
    for name, doc in emitted:
        writer(name, doc)
    catalog.flush()
    uid = emitted[0][1]["uid"]
    if emitted[-1][0] == "stop":  # whatever it had to try again
        deadline = time.monotonic() + PATIENCE
        while (catalog.journal / f"{uid}.jsonl").exists():
            assert time.monotonic() < deadline, f"{uid} is not taken: {writer.offline}"
            time.sleep(0.05)
    return uid, emitted


def _uids(shared: SharedCatalogue) -> list[str]:
    # As PostgreSQL has them: a run is a child of the root with a start document.
    asked = "SELECT key FROM nodes WHERE parent = 0 AND metadata ? 'start'"
    return shared.cluster.sql(asked, "tiled_catalog").split()


def _compared(shared: SharedCatalogue, homes: Sequence[Path], before: set[str]) -> Outcome:
    written: dict[str, Documents] = {}
    for path in (where / "told.jsonl" for where in homes):
        if not path.exists():
            continue
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            name, doc = entry["name"], entry["doc"]
            if name == "start":
                current = written.setdefault(doc["uid"], [])
            current.append((name, doc))
    outcome = Outcome(written, sum(map(len, written.values())))
    there = Counter(uid for uid in _uids(shared) if uid not in before)
    outcome.lost = [uid for uid in written if uid not in there]
    outcome.doubled = [uid for uid, count in there.items() if count > 1 or uid not in written]
    with as_user(shared, shared.read_key, homes[0].parent / "comparing") as catalog:
        for uid, docs in written.items():
            if uid in there and not (same(docs, catalog.documents(uid)) and once(docs, catalog)):
                outcome.differing.append(uid)
    return outcome


def once(emitted: Documents, catalog: Catalog) -> bool:
    """Whether Tiled's tables and arrays hold each event once, in order."""
    tally = DocumentCounts()
    for name, doc in emitted:
        tally.add(name, doc)
    run = catalog[tally.start["uid"]]  # pyright: ignore[reportOptionalSubscript]
    if compare(run, tally).difference:
        return False
    return all(
        list(run[stream].base["internal"].read()["seq_num"]) == list(range(1, count + 1))
        for stream, count in tally.events.items()
    )


def same(emitted: Documents, back: Documents) -> bool:
    """Whether documents that came back are those that were emitted, each in its place."""
    return [_comparable(*doc) for doc in _sorted(emitted)] == [
        _comparable(*doc) for doc in _sorted(back)
    ]


def _comparable(name: str, doc: Any) -> tuple[str, str]:
    # PostgreSQL keeps the keys of JSON, not their order, from which Tiled makes object_keys.
    if name == "descriptor":
        keys = {device: sorted(found) for device, found in doc.get("object_keys", {}).items()}
        doc = {**doc, "object_keys": keys}
    return comparable(name, doc)


def _sorted(documents: Documents) -> Documents:
    """Start, then each descriptor before its events in their order, then stop."""
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    kinds = ("start", "descriptor", "event", "stop")

    def place(entry: tuple[str, dict[str, Any]]) -> Any:
        name, doc = entry
        stream = doc["name"] if name == "descriptor" else streams.get(doc.get("descriptor", ""), "")
        return kinds.index(name), stream, doc.get("seq_num", 0)

    return sorted(documents, key=place)
