"""Kill measuring processes, and count what that cost.

``python tests/killing.py --kills 200 --seed 0 --json FILE`` kills so many processes and prints
what became of their runs; `campaign` does it for tests. An episode is one catalogue that
several processes are killed over, as in a laboratory where nobody looks until the evening:
each finds what those before it left. Then somebody opens the catalogue, looks, recovers, and
goes on with the runs.

What a process was told that is safe, it writes to a file of its own from a callback that comes
after the catalogue's: ``os.write``, so that it outlives the process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import torch
from bluesky import RunEngine
from support import comparable, events, facts, few, grouped, whole_events

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import RESUMES
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import BEGUN
from curiosity_bluesky.plans.steering import Steering
from sim_devices import Faults, SyntheticSample

Documents = list[tuple[str, dict[str, Any]]]

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
PATIENCE = 120.0
"""How long a child may take to get where it is to be killed, s."""

# Imported once, in the server that the children are forked from: each would take seconds.
_PRELOADED = [
    *("torch", "bluesky", "event_model", "tiled.server.app", "zarr", "dask.dataframe"),
    *("tiled.adapters.zarr", "tiled.adapters.sql"),
    *(
        "curiosity_bluesky.catalog.catalog",
        "curiosity_bluesky.plans.plan",
        "curiosity_bluesky.demo.instrument",
    ),
    *("curiosity_bluesky.learning", "sim_devices"),
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a run is made; the same settings always come to the same run."""

    strategy: str
    batch: int = 1
    lookahead: int = 0
    points: int = 10
    faulty: bool = False
    slow: bool = False
    maps_every: int = 0
    seed: int = 3

    @property
    def parameters(self) -> dict[str, Any]:
        longer = {}
        if self.slow and self.strategy != "random":  # a training is a good part of the time
            longer = {key: 12 for key in few(self.strategy) if "epochs" in key}
        if self.faulty:
            longer["min_quality"] = 0.5
        return few(self.strategy, batch=self.batch, **longer)

    @property
    def faults(self) -> Faults:
        """A fault belongs to a pixel, not to what a process has measured before."""
        rng = np.random.default_rng(self.seed)
        kinds = ("nan", ["raises"], "flat", ["raises", "raises"], ["nan"], "saturated")
        pixels = [(row, col) for row in range(16) for col in range(14)]
        chosen = rng.permutation(len(pixels))[: len(pixels) // 3 if self.faulty else 0]
        return Faults.at({pixels[k]: kinds[n % len(kinds)] for n, k in enumerate(chosen)})


SETTINGS = (
    Settings("curious"),
    Settings("random", batch=3),
    Settings("vatsavai2025-latent"),
    Settings("curious", batch=3, lookahead=1, slow=True, maps_every=4),
    Settings("random", lookahead=1, faulty=True),
    Settings("curious", lookahead=1, faulty=True),
    Settings("vatsavai2025-latent", batch=3, slow=True),
    Settings("random", slow=True, points=12),
    Settings("curious", batch=3, faulty=True, slow=True),
    Settings("vatsavai2025-latent", lookahead=1, maps_every=4),
)


def measure(
    settings: Settings, *callbacks: Callable, past: Sequence[Documents] = (), **resumed: Any
) -> None:
    """Run the plan, with these callbacks in this order, on the instrument that made `past`."""
    speed = 40.0 if settings.slow else math.inf  # a spectrum of 12 ms, or of none
    faults = settings.faults
    # Nobody killed the instrument: what it did so far, each attempt that left a document, it does
    # not do again. Where it failed once, it is well the second time.
    for pixel, attempts in begun(past).items():
        for _ in range(attempts):
            faults.of_measurement(pixel, 0.0)
    ins = simulated_instrument(SAMPLE, speed=speed, faults=faults)
    RE = RunEngine({})
    for callback in callbacks:
        RE.subscribe(callback)
    given: dict[str, Any] = dict(resumed)
    if not resumed:
        given = {
            "num_points": settings.points,
            "strategy": settings.strategy,
            "seed": settings.seed,
            "parameters": settings.parameters,
            "lookahead": settings.lookahead,
            "withhold": 0.1,
        }
    devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
    options = {
        "maps_every": settings.maps_every,
        "retry_wait": 0.0,
        "max_failures": 10**6,
        "steering": Steering(),
    }
    RE(curiosity_plan(*devices, **grouped(**given, **options)))


def begun(past: Sequence[Documents]) -> Counter[tuple[int, int]]:
    """Return how often each pixel was measured, as far as the documents say."""
    pixels = {
        d["decision_id"]: (d["row"], d["col"])
        for documents in past
        for d in events(documents, "decisions")
    }
    tried = {
        (data["decision_id"], data["attempt"])
        for documents in past
        for stream in ("failures", "primary")
        for data in events(documents, stream)
        if data.get("reason") != BEGUN
    }
    return Counter(pixels[decision] for decision, _ in tried)


@functools.cache
def undisturbed(settings: Settings) -> Documents:
    """Return the documents of a run that nobody kills."""
    documents: Documents = []
    measure(settings, lambda name, doc: documents.append((name, doc)))
    return documents


# ---- the children


def _told(file: int, name: str, doc: Any) -> None:
    line = json.dumps({"name": name, "doc": doc}, cls=event_model.NumpyEncoder) + "\n"
    os.write(file, line.encode())


def _child(task: Callable, directory: Path, told: Path, *args: Any) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # of faults that are meant
    warnings.simplefilter("ignore")
    file = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    task(directory, functools.partial(_told, file), *args)
    signal.pause()  # to be killed, like all others


def _measure(directory: Path, told: Callable, settings: Settings, uid: str | None) -> None:
    catalog = connect(directory)
    resumed, past = {}, []
    if uid is not None:
        resumed, past = {"resume": uid, "catalog": str(directory)}, catalog.lineage(uid)
    measure(settings, catalog.writer(), told, past=past, **resumed)


def _recover(directory: Path, told: Callable) -> None:
    with connect(directory) as catalog:
        told("recovering", {})
        catalog.recover()
    told("stop", {})


def _open(directory: Path, told: Callable) -> None:
    told("opening", {})
    connect(directory)
    told("stop", {})


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a child is killed: so long (s) after it was told so many documents, or the last."""

    kind: str
    documents: int
    seconds: float


class Nursery:
    """Children to be killed, forked from a process that has imported everything."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)

    def killed(self, moment: Moment, told: Path, task: Callable, *args: Any) -> Documents:
        """Have a task done by a child and kill it; return what it was told.

        Raises
        ------
        RuntimeError
            If it ended before it was killed, or never got that far.
        """
        child = self._context.Process(target=_child, args=(task, told.parent, told, *args))
        child.start()
        try:
            deadline, position, n, ended = time.monotonic() + PATIENCE, 0, 0, False
            while n < moment.documents and not ended:
                if not child.is_alive() or time.monotonic() > deadline:
                    raise RuntimeError(f"{task.__name__}{args} got to {n} documents of {moment}")
                time.sleep(0.001)
                if told.exists():
                    with open(told, "rb") as file:
                        file.seek(position)
                        news = file.read()
                    position += len(news)
                    n += news.count(b"\n")
                    ended = b'{"name": "stop"' in news
            time.sleep(moment.seconds)
        finally:
            child.kill()
            child.join()
        if child.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"{task.__name__}{args} ended by itself: {child.exitcode}")
        return list(_acknowledged(told))


def _acknowledged(told: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in told.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            entry = json.loads(line)
            yield entry["name"], entry["doc"]


# ---- what is counted


@dataclasses.dataclass
class Counts:
    """What came of the kills."""

    kills: int = 0
    moments: dict[str, int] = dataclasses.field(default_factory=dict)
    runs: int = 0
    """Runs whose process was killed after their start document."""
    documents_acknowledged: int = 0
    documents_lost: int = 0
    spectra_acknowledged: int = 0
    spectra_lost: int = 0
    runs_of_wrong_status: int = 0
    recovered: int = 0
    """Runs that were looked for in Tiled after a recovery."""
    ended: int = 0
    """Killed after the stop document was safe: nothing to go on with."""
    unseen: int = 0
    """Killed before the survey was: refused, since there is nothing to go on with."""
    resumed: int = 0
    resumed_identical: int = 0
    read: int = 0
    read_whole: int = 0
    """Resumed runs of which `read` gives every spectrum, once."""
    journals_left: int = 0
    seconds: float = 0.0
    trouble: list[str] = dataclasses.field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost and each run went on as if nothing had been."""
        lost = self.documents_lost + self.spectra_lost + self.runs_of_wrong_status
        same = self.resumed == self.resumed_identical and self.read == self.read_whole
        return lost + self.journals_left == 0 and same and not self.trouble

    def table(self) -> str:
        """Return the counts for people."""
        shown = dataclasses.asdict(self)
        moments = shown.pop("moments")
        lines = [f"{key.replace('_', ' '):28}{value}" for key, value in shown.items()]
        lines[1:1] = [f"  {key:26}{moments[key]}" for key in sorted(moments)]
        return "\n".join(lines)


@dataclasses.dataclass
class Killed:
    """A run whose process was killed."""

    settings: Settings
    told: Documents
    earlier: Killed | None = None
    """The run that it went on with."""
    gone_on: bool = False
    """Whether another run went on with it."""

    @property
    def uid(self) -> str:
        return self.told[0][1]["uid"]

    @property
    def can_be_resumed(self) -> bool:
        return bool(events(self.told, "survey") and self.told[-1][0] != "stop" and not self.gone_on)


# ---- an episode


def campaign(
    kills: int,
    seed: int,
    directory: Path,
    progress: Callable[[Counts], None] = lambda counts: None,
    *,
    thorough: bool = False,
    faulty: bool = True,
    at_once: int = 10,
) -> Counts:
    """Kill so many processes, a few over each catalogue, and count what came of it.

    Parameters
    ----------
    kills
        How many.
    seed
        Of the moments and of what each process does.
    directory
        Where the catalogues are made; each is deleted after its episode.
    progress
        Called after each episode.
    faulty
        Whether some of the instruments fail.
    thorough
        Whether the runs of each episode are recovered in the end, and each one that was resumed
        after a recovery is written to Tiled and read back; else one of each episode.
    at_once
        How many are killed over one catalogue, at most ten.
    """
    counts, started = Counts(), time.monotonic()
    rng = np.random.default_rng(seed)
    settings = itertools.cycle(one for one in SETTINGS if faulty or not one.faulty)
    nursery = Nursery()
    empty = directory / "empty"
    with connect(empty):  # making a catalogue takes seconds; they all begin as this one
        pass
    for number in itertools.count():
        if counts.kills >= kills:
            break
        place = directory / f"episode-{number}"
        # In every other one each run is gone on with as it lies there.
        recovers = number % 2 == 1
        episode = Episode(place, nursery, settings, rng, counts, thorough, recovers)
        if number % 5 == 4:  # killed while it makes the catalogue
            place.mkdir()
            episode.make()
        else:
            shutil.copytree(empty, place)
        # Half of them are served by somebody who lives on.
        with connect(place) if number % 4 in (1, 2) else contextlib.nullcontext():
            episode.kill(min(at_once, kills - counts.kills))
        episode.look_after()
        shutil.rmtree(place)
        counts.seconds = time.monotonic() - started
        progress(counts)
    return counts


class Episode:
    """Processes that are killed over one catalogue, and what is found there afterwards."""

    def __init__(
        self,
        directory: Path,
        nursery: Nursery,
        settings: Iterator[Settings],
        rng: np.random.Generator,
        counts: Counts,
        thorough: bool,
        recovers: bool,
    ) -> None:
        self.directory = directory
        self.nursery = nursery
        self.settings = settings
        self.rng = rng
        self.counts = counts
        self.thorough = thorough
        self.recovers = recovers
        self.unread = 0 if not recovers else math.inf if thorough else 1
        self.killed: list[Killed] = []
        self._numbers = itertools.count()

    def make(self) -> None:
        """Kill a process that makes the catalogue."""
        self._child(Moment("making", 1, self.rng.uniform(0, 3.0)), _open)

    def kill(self, most: int) -> None:
        """Kill up to ten processes."""
        tasks = [
            lambda: self._run("anywhere"),
            lambda: self._resumed(),
            lambda: self._recovering(),
            lambda: self._run("first"),
            lambda: self._resumed(),
            lambda: self._run("stopped"),
            lambda: self._run("anytime"),
            lambda: self._recovering(),
            lambda: self._run("last"),
            lambda: self._resumed(),
        ]
        for task in tasks[:most]:
            task()

    def _run(self, kind: str) -> None:
        settings = next(self.settings)
        moment = self._moment(kind, undisturbed(settings))
        told = self._child(moment, _measure, settings, None)
        self._note(Killed(settings, told))

    def _resumed(self) -> None:
        """Kill a process that goes on with the run of one that was killed."""
        can = [run for run in self.killed if run.can_be_resumed]
        if not can:
            self._run("anywhere")
            return
        earlier = can[-1]
        rest = undisturbed(earlier.settings)[len(earlier.told) :]
        whole = [earlier.told[0], *rest]
        moment = dataclasses.replace(self._moment("anywhere", whole), kind="resuming")
        told = self._child(moment, _measure, earlier.settings, earlier.uid)
        self._note(Killed(earlier.settings, told, earlier))

    def _recovering(self) -> None:
        n = sum(len(run.told) for run in self.killed)
        self._child(Moment("recovering", 1, self.rng.uniform(0, 0.05 * n)), _recover)

    def _moment(self, kind: str, whole: Documents) -> Moment:
        n, soon = len(whole), self.rng.uniform(0, 0.005)
        if kind == "first":
            return Moment(kind, int(self.rng.integers(1, 6)), soon)
        if kind == "last":
            return Moment(kind, int(self.rng.integers(n - 5, n)), soon)
        if kind == "stopped":  # while the last of it goes to Tiled
            return Moment(kind, n, self.rng.uniform(0, 2.0))
        if kind == "anytime":  # so that what takes long is hit often
            times = [doc["time"] for _, doc in whole]
            when = self.rng.uniform(times[0], times[-1])
            k = int(np.searchsorted(times, when, side="right"))
            return Moment(kind, k, when - times[k - 1])
        # After its survey, so that the run can be gone on with.
        return Moment(kind, int(self.rng.integers(min(6, n - 1), n)), soon)

    def _child(self, moment: Moment, task: Callable, *args: Any) -> Documents:
        told = self.directory / f"told-{next(self._numbers)}"
        acknowledged = self.nursery.killed(moment, told, task, *args)
        self.counts.kills += 1
        self.counts.moments[moment.kind] = self.counts.moments.get(moment.kind, 0) + 1
        return acknowledged

    def _note(self, run: Killed) -> None:
        self.counts.runs += 1
        self.counts.documents_acknowledged += len(run.told)
        self.counts.spectra_acknowledged += len(events(run.told, "primary"))
        if run.earlier is not None:
            run.earlier.gone_on = True
        self.killed.append(run)

    # ---- afterwards

    def look_after(self) -> None:
        """Open the catalogue, check what is there, recover, and go on with each run."""
        # As somebody would who knows of nothing: it may be half in Tiled, or not at all.
        with connect(self.directory, create=False) as catalog:
            there = self._checked(catalog)
            if self.recovers:
                there = self._recovered(catalog)
            for run in self.killed:
                self._went_on(catalog, run, there)
            if self.thorough and not self.recovers:
                self._recovered(catalog)

    def _recovered(self, catalog: Catalog) -> dict[str, Documents]:
        """Recover, and check that all is in Tiled now; return the documents of each run."""
        catalog.recover()
        self.counts.recovered += len(self.killed)
        self.counts.journals_left += len(list(catalog.journal.iterdir()))
        for run in self.killed:
            metadata = catalog[run.uid].metadata
            if ("interrupted" in metadata) == bool(metadata.get("stop")):
                self._wrong(run, f"in Tiled as {sorted(metadata)}")
        return self._checked(catalog)

    def _checked(self, catalog: Catalog) -> dict[str, Documents]:
        """Check that each run is there and listed as it ended; return their documents."""
        listed = {run.uid: run.status for run in catalog.runs()}
        there = {run.uid: catalog.documents(run.uid) for run in self.killed}
        for run in self.killed:
            found, journalled = there[run.uid], (catalog.journal / f"{run.uid}.jsonl").exists()
            told, back = (_kept(run.told), _kept(found))
            # A journal holds every key of a document.
            same = _in_order(*((run.told, found) if journalled else (told, back)))
            if same < len(told):
                self.counts.documents_lost += len(told) - same
                where = "its journal" if journalled else "Tiled"
                self._note_trouble(run, f"{where} has {same} of {len(told)} documents in order")
            spectra = {comparable("event", doc) for doc in whole_events(run.told, "primary")}
            self.counts.spectra_lost += len(spectra - set(back))
            # It may have been written and the process killed before it could tell.
            expected = "success" if found[-1][0] == "stop" else "interrupted"
            if listed.get(run.uid) != expected:
                self._wrong(run, f"listed as {listed.get(run.uid)}; expected {expected}")
        return there

    def _wrong(self, run: Killed, what: str) -> None:
        self.counts.runs_of_wrong_status += 1
        self._note_trouble(run, what)

    def _note_trouble(self, run: Killed, what: str) -> None:
        self.counts.trouble.append(f"{self.directory.name}, {run.settings}, run {run.uid}: {what}")

    def _went_on(self, catalog: Catalog, run: Killed, there: dict[str, Documents]) -> None:
        """Go on with a run, and compare what comes of it with a run that nobody killed."""
        if run.gone_on:
            return
        pieces, earlier = [there[run.uid]], run.earlier
        stopped = pieces[0][-1][0] == "stop"
        while earlier is not None:
            pieces.insert(0, there[earlier.uid])
            earlier = earlier.earlier
        if stopped:
            self.counts.ended += 1
        else:
            further: Documents = []
            try:
                measure(
                    run.settings,
                    # All events of a stream in one request: Tiled is not what is tried here.
                    *([catalog.writer(batch_size=1000)] if self.unread > 0 else []),
                    lambda name, doc: further.append((name, doc)),
                    past=pieces,
                    resume=run.uid,
                    catalog=str(self.directory),
                )
            except InputError as error:
                seen = any(events(piece, "survey") for piece in pieces)
                if seen or "before its survey was written" not in str(error):
                    self._note_trouble(run, f"not resumed: {error}")
                self.counts.unseen += 1
                return
            pieces.append(further)
            self.counts.resumed += 1
        why = _different(pieces, undisturbed(run.settings), run.uid if not stopped else None)
        if why:
            self._note_trouble(run, f"the pieces differ from an undisturbed run: {why}")
        elif not stopped:
            self.counts.resumed_identical += 1
        if self.unread > 0 and not stopped:
            self.unread -= 1
            self.counts.read += 1
            missing = _unread(catalog, pieces[-1][0][1]["uid"], undisturbed(run.settings))
            if missing:
                self._note_trouble(run, missing)
            else:
                self.counts.read_whole += 1


def _in_order(told: Sequence[Any], there: Sequence[Any]) -> int:
    """Return how many of the documents, from the first, are there in their order."""
    pairs = zip(told, there, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _kept(documents: Documents) -> list[tuple[str, str]]:
    return [comparable(name, doc) for name, doc in documents]


def _different(pieces: Sequence[Documents], whole: Documents, resumed: str | None) -> str:
    """Say in what the pieces of a run differ from it, "" if in nothing."""
    for stream in ("decisions", "primary", "failures"):
        try:
            there, expected = facts(pieces, stream), facts([whole], stream)
            if there != expected:
                pairs = itertools.zip_longest(there, expected)
                a, b = next(pair for pair in pairs if pair[0] != pair[1])
                return f"{stream}: {a!s:.600}; expected {b!s:.600}"
        except AssertionError:
            return f"{stream} contradict each other"
    good, expected = _good(pieces), _good([whole])
    if good != expected:
        return f"good spectra of decisions {good}; expected {expected}"
    name, stop = pieces[-1][-1]
    if (name, stop.get("exit_status"), stop.get("reason")) != ("stop", "success", _reason(whole)):
        return f"it ended with {name}: {stop}"
    link = pieces[-1][0][1].get(RESUMES)
    return f"it links to {link}" if resumed is not None and link != resumed else ""


def _reason(documents: Documents) -> str:
    return documents[-1][1]["reason"]


def _good(pieces: Sequence[Documents]) -> list[int]:
    """Decisions whose spectra did not fail, in the order in which they were measured."""
    # A bad spectrum may be the last that was written; the next piece says that it is bad.
    failures = [failure for piece in pieces for failure in events(piece, "failures")]
    bad = {(failure["decision_id"], failure["attempt"]) for failure in failures}
    return [
        data["decision_id"]
        for piece in pieces
        for data in events(piece, "primary")
        if (data["decision_id"], data["attempt"]) not in bad
    ]


def _unread(catalog: Catalog, uid: str, whole: Documents) -> str:
    """Say what `read` does not give of the good spectra of a run, "" if it gives all, once."""
    run = catalog[-1]
    if run.start["uid"] != uid:
        return f"the newest run is {run.start['uid']}, not {uid}"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        points = read(run)
    expected = {
        (data["decision_id"], data["attempt"]): np.asarray(data["spectrometer_response"])
        for data in events(whole, "primary")
    }
    keys = list(zip(points["decision_id"].values, points["attempt"].values, strict=True))
    if sorted(keys) != sorted(expected):
        return f"read gives the spectra {keys}; expected {sorted(expected)}"
    for key, spectrum in zip(keys, points["spectrometer_response"].values, strict=True):
        if not np.array_equal(spectrum, expected[key], equal_nan=True):
            return f"read gives another spectrum for {key}"
    return ""


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thorough", action="store_true", help="read each resumed run back")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    given = parser.parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)

    def progress(counts: Counts) -> None:
        print(
            f"{counts.kills} of {given.kills} killed: {counts.spectra_acknowledged} spectra "
            f"acknowledged, {counts.spectra_lost} lost; {counts.resumed_identical} of "
            f"{counts.resumed} went on identically; {counts.seconds:.0f} s",
            *counts.trouble[progress_said[0] :],
            sep="\n  ",
            flush=True,
        )
        progress_said[0] = len(counts.trouble)
        if given.json is not None:
            given.json.write_text(json.dumps(dataclasses.asdict(counts), indent=2) + "\n")

    progress_said = [0]
    with tempfile.TemporaryDirectory() as directory:
        counts = campaign(
            given.kills, given.seed, Path(directory), progress, thorough=given.thorough
        )
    print(counts.table())
    return 0 if counts.good else 1


if __name__ == "__main__":
    sys.exit(main())
