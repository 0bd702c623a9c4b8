"""What ``curiosity demo`` and ``curiosity show`` do, without the command line."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from bluesky import RunEngine
from bluesky.utils import MsgGenerator, RunEngineInterrupted

from curiosity_bluesky import documents
from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.catalog import Catalog, connect, last_scan_id
from curiosity_bluesky.demo.instrument import Instrument
from curiosity_bluesky.demo.settings import PLOT, DemoOptions, DemoRun, DemoSample, demo_options
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Anomaly, Scorer, Strategy, withheld_pixels
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.dry_run import DryRunReport
from curiosity_bluesky.plans.options import DriftCorrection
from curiosity_bluesky.plans.posix_signals import (
    ClosedStreamGuard,
    SignalHandler,
    TerminatedBySignal,
)
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import steer
from curiosity_bluesky.plans.warm_start import fetch_interrupted
from curiosity_bluesky.similarity.index import Index
from curiosity_bluesky.utils.run_end import TROUBLE, EndKind, RunEnd
from curiosity_bluesky.views import LiveView, ProgressLine
from curiosity_bluesky.views.report import (
    DEMO,
    check_picture,
    decision_in_words,
    decision_seconds,
    decisions_explored,
    drift_in_words,
    dwell_in_words,
    flag_in_words,
)
from curiosity_bluesky.views.report import format_score as in_words


@dataclass(frozen=True)
class DemoResult:
    """What a demo run came to; a score is None where it is not known.

    Parameters
    ----------
    uid, catalog
        The run, and where it is.
    sample, strategy, points, num_points, seed
        What was measured, of how many spectra that were asked for, and how.
    reason
        Why the run ended.
    seconds
        Duration of the run.
    seconds_per_decision
        Median over the decisions after the seeds (over all if there were only seeds).
    test_nmse, hidden_nmse, published_score
        See `curiosity_bluesky.learning.Score`; the published score is the smallest along
        the run.
    flags
        Regions that structure does not explain.
    picture
        The summary picture, None with ``--no-plot``.
    drift
        What the re-surveys found, in words; "" where there was none.
    warm_start
        What it started from, or why from nothing; "" where that was not asked for.
    by_hand
        Whether Ctrl-C ended it.
    trouble
        Whether it ended because an instrument failed again and again.
    n_explored
        Measured points that were decided after the seeds.
    dwell
        How long the spectra were measured, in words; "" where there is no choice.
    """

    uid: str
    catalog: str
    sample: str
    strategy: str
    points: int
    num_points: int
    seed: int
    reason: str
    seconds: float
    seconds_per_decision: float
    test_nmse: float | None
    hidden_nmse: float | None
    published_score: float | None
    flags: list[Anomaly]
    picture: str | None
    by_hand: bool = False
    trouble: bool = False
    drift: str = ""
    warm_start: str = ""
    n_explored: int = 0
    dwell: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the result, JSON-ready."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the result in words."""
        rows = [
            ("sample", self.sample),
            ("strategy", f"{self.strategy}, seed {self.seed}"),
            ("spectra", f"{self.points} in {self.seconds:.0f} s"),
            ("ended by", self.reason),
            ("a decision", decision_in_words(self.seconds_per_decision, self.n_explored)),
            ("test nMSE", f"{in_words(self.test_nmse)}  (withheld pixels; 1: the mean spectrum)"),
            ("hidden nMSE", f"{in_words(self.hidden_nmse)}  (all pixels not measured)"),
            (
                "published score",
                f"{in_words(self.published_score)}  (sum of MSE over all pixels, least of the run)",
            ),
        ]
        rows += [("dwell", self.dwell)] if self.dwell else []
        rows += [("drift", self.drift)] if self.drift else []
        rows += [("warm start", self.warm_start)] if self.warm_start else []
        rows += [("look closer", flag_in_words(flag)) for flag in self.flags]
        rows += [("uid", self.uid), ("catalogue", self.catalog)]
        return rows + ([("picture", self.picture)] if self.picture else [])


def run_demo(
    setting: DemoSample,
    choice: DemoOptions,
    chosen: Strategy,
    *,
    plot: bool = True,
    index: bool = False,
) -> DemoResult:
    """Explore a sample under the simulated microscope.

    Parameters
    ----------
    setting, choice
        What lies under the microscope, and how it is measured.
    chosen
        The strategy: what `DemoOptions.check` returned.
    plot, index
        Whether to draw, and whether the run is indexed for `similar`.
    """
    with (
        choice.ready(setting) as (instrument, how),
        connect(choice.catalog) as runs,
    ):
        begun = chosen, choice.seed
        result = _explored(runs, instrument, *begun, how, setting, plot, choice.picture)
        if index:
            Index(runs).update([result.uid])
        return result


def outline_demo(setting: DemoSample, choice: DemoOptions, chosen: Strategy) -> DryRunReport:
    """Return what `run_demo` would do; nothing is written."""
    with choice.ready(setting) as (instrument, how):
        stage = instrument.stage
        devices = [instrument.spectrometer], stage.x, stage.y, instrument.imager
        return DryRunReport.of(
            chosen,
            choice.seed,
            instrument.survey(choice.withhold),
            *devices,
            resurvey=how.resurvey,
            time_budget=how.time_budget,
            given=how.options.parameters,
        )


def resume_demo(
    uid: str, *, points: int | None, catalog: str | None, plot: bool | None, picture: Path | None
) -> DemoResult:
    """Go on with a demo that was interrupted, as it would have gone on.

    Parameters
    ----------
    uid
        Of the run, or its first characters.
    points
        Spectra in the whole run; default: as it was.
    plot
        Whether to draw; default: as the run was started, or where there is a `picture` to write.
    catalog, picture
        As for `run_demo`.

    Raises
    ------
    InputError
        If there is no such run, or it was not made by the demo.
    """
    if picture is not None:
        check_picture(picture)
    with contextlib.ExitStack() as held, connect(catalog, create=False) as runs:
        past = fetch_interrupted(runs, uid)
        held.callback(past.release)
        setting = DemoSample.of(past)
        if plot is None:
            plot = picture is not None or bool(past.start[DEMO].get(PLOT, True))
        with setting.instrument(past.seed) as instrument:
            options = demo_options(instrument, withhold=past.withhold, lookahead=past.lookahead)
            every, minutes = past.resurvey
            drift = DriftCorrection(resurvey_every=every, resurvey_minutes=minutes)
            how, begun = DemoRun(options, drift), (past.strategy, past.seed)
            return _explored(runs, instrument, *begun, how, setting, plot, picture, past, points)


def _explored(
    runs: Catalog,
    instrument: Instrument,
    strategy: Strategy,
    seed: int,
    how: DemoRun,
    setting: DemoSample,
    plot: bool,
    picture: Path | None,
    past: InterruptedRun | None = None,
    num_points: int | None = None,
) -> DemoResult:
    """Run the plan with everything that watches it; return what it came to."""
    agent = CuriosityAgent()
    opened, devices = instrument.sample, cast(Any, instrument)
    scorer = Scorer(opened.target(), withheld_pixels(opened.shape, how.options.withhold))
    agent.watchers.append(scorer)
    RE = RunEngine({"scan_id": last_scan_id(runs)})
    # The simulated microscope is faster than a real one: several events a request.
    writer = runs.writer(batch_size=10)
    RE.subscribe(writer)
    window = None if plot else False
    view = LiveView(runs.pictures, window=window, status=lambda: writer.status, steering=steer)
    if plot:
        view.picture.scores = _Curves(scorer)
        for name, doc in past.documents if past else []:
            view.picture(name, doc)
        RE.subscribe(view)
        agent.watchers.append(view.watch)
        view.open()
    started = time.perf_counter()
    with _progress(agent, scorer) as progress:
        if past is not None:
            progress.recall(past.documents)
        RE.subscribe(progress)
        plan = explore(
            agent,
            [devices.spectrometer],
            devices.stage.x,
            devices.stage.y,
            devices.imager,
            num_points,
            strategy=strategy,
            seed=seed,
            options=how.options.replace(mask=opened.mask),
            drift=how.drift,
            time_budget=how.time_budget,
            md={"sample": opened.name, DEMO: setting.as_metadata() | {PLOT: plot}},
            past=past,
        )
        uid, end = _run(RE, plan)
    seconds = time.perf_counter() - started
    runs.flush()  # so that the picture does not speak of what waits only just now
    path = _saved(view, picture) if plot else None
    start = _back(runs, uid).start
    # The server may be that of another process, which ends at any moment.
    measured, flags, drift = runs.read(
        uid,
        lambda run: (documents.read(run), documents.flags_of(run), drift_in_words(run)),
    )
    return DemoResult(
        uid=uid,
        catalog=runs.where,
        sample=opened.name,
        strategy=strategy.name,
        points=agent.explorer.n_observed,
        num_points=agent.explorer.budget,
        seed=seed,
        reason=end.words,
        seconds=round(seconds, 3),
        seconds_per_decision=decision_seconds(measured),
        **scorer.summary(),
        flags=flags,
        picture=None if path is None else str(path),
        by_hand=end.kind is EndKind.STOPPED,
        trouble=end.kind in TROUBLE,
        drift=drift,
        warm_start=start.get(documents.WARM_REASON, ""),
        n_explored=decisions_explored(measured),
        dwell=dwell_in_words(measured, start),
    )


def _back(runs: Catalog, uid: str) -> Any:
    """Return a run from the catalogue, or say where it is if the server is away."""
    if runs.in_memory:
        runs.close()  # tries it a last time, and says what is where
        if lost := runs.in_memory:
            raise InputError(
                f"run {uid} is not whole: its last documents ({lost}) are lost, since the disk of "
                f"{runs.journal} is full; make room there, then `curiosity recover --catalog "
                f"{runs.where}` takes in what is in the journal, and `curiosity resume {uid[:8]} "
                f"--catalog {runs.where}` goes on from there"
            )
    try:
        return runs[uid]
    except InputError as error:
        if not (runs.journal / f"{uid}.jsonl").exists():
            raise
        raise InputError(
            f"run {uid} is measured, and all its documents are in {runs.journal}; "
            f"`curiosity recover --catalog {runs.where}` takes them in later: {error}"
        ) from None


def _saved(view: LiveView, picture: Path | None) -> Path | None:
    try:
        return view.save(picture)
    except OSError as error:  # the run is safe; a picture can be drawn again
        print(f"curiosity: the picture could not be written: {error}", file=sys.stderr)
        return None


def _run(RE: RunEngine, plan: MsgGenerator[str]) -> tuple[str, RunEnd]:
    """Run the plan; return uid of the run and why it ended."""
    found: dict[str, Mapping[str, Any]] = {}

    def note(name: str, doc: Mapping[str, Any]) -> None:
        found[name] = doc

    try:
        with contextlib.redirect_stdout(ClosedStreamGuard(sys.stdout)), SignalHandler(RE):
            try:
                RE(plan, note)
            except RunEngineInterrupted:
                RE.stop()  # Ctrl-C ends the run early and keeps what was measured
    except TerminatedBySignal as told:
        if "start" in found:
            uid = found["start"]["uid"]
            with contextlib.suppress(OSError):  # of a terminal that is closed
                print(
                    f"curiosity: run {uid} ended: {told.end}; what was measured is kept, and "
                    f"`curiosity resume {uid[:8]}` goes on with it",
                    file=sys.stderr,
                )
        raise
    if "start" not in found:
        raise InputError("ended by Ctrl-C before the run began; nothing was measured")
    end = RunEnd.of(found["stop"])
    # What ended it is in the record in the words of the RunEngine: RE.stop().
    return found["start"]["uid"], RunEnd(end.kind, "Ctrl-C") if end.kind is EndKind.STOPPED else end


class _Curves(Mapping):
    """The scores as the picture wants them, always up to date."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __getitem__(self, name: str) -> list[tuple[int, float]]:
        field = name.lower().replace(" ", "_")
        return [(score.n_observed, getattr(score, field)) for score in self._scorer.scores]

    def __iter__(self) -> Iterator[str]:
        return iter(("hidden nMSE", "test nMSE"))

    def __len__(self) -> int:
        return 2


@contextlib.contextmanager
def _progress(agent: CuriosityAgent, scorer: Scorer) -> Iterator[Any]:
    """Show points, error and remaining time on standard error; yield a document callback."""
    line = ProgressLine(ClosedStreamGuard(sys.stderr), lambda: _last_score(scorer))

    def on_epoch(model: str, epoch: int, epochs: int) -> None:
        # Only what takes a while is worth a word; two epochs a point would flicker.
        if epochs > 10:
            line.note(f"training the {model}: epoch {epoch} of {epochs}")

    agent.on_epoch = on_epoch
    try:
        yield line
    finally:
        line.hide()


def _last_score(scorer: Scorer) -> str:
    last = scorer.scores[-1].hidden_nmse if scorer.scores else math.nan
    return f"hidden nMSE {last:.3f}" if math.isfinite(last) else ""
