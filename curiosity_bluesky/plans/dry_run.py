"""What a run would do, shown before anything moves."""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curiosity_bluesky.agent import Agent
from curiosity_bluesky.learning import Explorer, Proposal, Strategy, Survey, limit_seeds
from curiosity_bluesky.plans.preflight_warnings import say_before
from curiosity_bluesky.plans.time_budget import DeviceTimes, TimeEstimate, spectra_in
from curiosity_bluesky.utils.display import Console, Table, duration
from curiosity_bluesky.utils.wording import plural

Range = tuple[float, float]


@dataclass(frozen=True)
class DryRunReport:
    """Limits, planned seeds and times of a run that has not begun.

    Parameters
    ----------
    strategy
        Its name.
    num_points, n_seeds, n_observed
        Spectra in the whole run, those of them that are seeds, and those that there are already
        (of a run to resume).
    limits
        For each motor: where it may go, and where the survey reaches, um; None where that is
        not known.
    planned
        The pixels that are known to be measured: what is left of a run to resume, and the
        seeds; None where there is no survey yet.
    seconds
        Time for the survey, for the planned points and for all points, without the learning;
        None where a device does not say how long it takes.
    """

    strategy: str
    num_points: int | None
    n_seeds: int
    n_observed: int
    limits: dict[str, tuple[Range | None, Range | None]]
    planned: list[Proposal] | None
    seconds: dict[str, float | None]

    @staticmethod
    def of(
        strategy: Strategy,
        seed: int,
        survey: Survey | None,
        detectors: Sequence[Any],
        x: Any,
        y: Any,
        imager: Any,
        tip: Any = None,
        resurvey: tuple[int, float] = (0, 0.0),
        time_budget: float | None = None,
        resumed: Agent | None = None,
        given: Collection[str] = (),
    ) -> DryRunReport:
        """Work out what would be measured first.

        Parameters
        ----------
        strategy, seed
            Of the run.
        survey
            What the seeds are planned on; None if there is none yet.
        detectors, x, y, imager, tip
            The devices; where they have ``seconds`` (see `docs/devices.md`), it is used.
        resurvey
            After how many points, and minutes, the survey is taken again; 0: never.
        time_budget
            Seconds that the run may take; None: any time.
        resumed
            What knows the documents of the run to resume; None: a new run.
        given
            Names of the parameters of the strategy that the user gave.

        Raises
        ------
        InputError
            If the survey does not fit the strategy.
        """
        costs = DeviceTimes.of(detectors, x, y, imager, tip)
        if time_budget is not None and survey is not None and strategy.budget is None:
            most = spectra_in(time_budget, costs, survey, strategy, resurvey)
            strategy = limit_seeds(strategy.replace(budget=most), given)
        planned, n_observed, budget = None, 0, strategy.budget
        if survey is not None:
            if resumed is not None:
                planned = [proposal for proposal, *_ in resumed.outstanding()]
                explorer, strategy = resumed.explorer, resumed.explorer.strategy
            else:
                strategy.validate(survey)
                explorer, planned = Explorer(survey, strategy, seed), []
                say_before(explorer)
            n_observed, budget = explorer.n_observed, explorer.budget
            seeds = explorer.strategy.n_seeds - n_observed - len(planned)
            if seeds > 0:
                planned = planned + explorer.propose(min(seeds, explorer.budget))
        times = {
            "survey": None if resumed is not None else costs.survey,
            "planned": None,
            "all": None,
        }
        left, batch = max(0, (budget or 0) - n_observed), strategy.batch
        if survey is not None and planned is not None:
            pace = TimeEstimate(costs, survey, batch, time.monotonic(), *resurvey)
            times |= {
                "planned": pace.ahead(planned, len(planned)),
                "all": pace.ahead(planned, left),
            }
        if times["all"] is not None:
            times["all"] += times["survey"] or 0.0
        limits = _limits(x, y, survey)
        counts = budget, strategy.n_seeds, n_observed
        return DryRunReport(strategy.name, *counts, limits, planned, times)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        planned = None
        if self.planned is not None:
            planned = [
                {"row": p.pixel[0], "col": p.pixel[1], "x": p.x, "y": p.y, "reason": p.reason}
                for p in self.planned
            ]
        return asdict(self) | {"planned": planned}


def _limits(x: Any, y: Any, survey: Survey | None) -> dict[str, tuple[Range | None, Range | None]]:
    found = {}
    for motor, axis in ((x, "x"), (y, "y")):
        limits = getattr(motor, "limits", None)
        # (0, 0) is ophyd's way to say that there are none.
        limited = isinstance(limits, tuple) and len(limits) == 2 and limits[0] != limits[1]
        reach = None
        if survey is not None:
            values = getattr(survey, axis)
            reach = float(values.min()), float(values.max())
        found[getattr(motor, "name", axis)] = limits if limited else None, reach
    return found


def format_report(outline: DryRunReport) -> str:
    """Return an outline in words."""
    table = Table(show_header=False, title="nothing moves: this is what the run would do")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    done = f", {outline.n_observed} of them measured" if outline.n_observed else ""
    table.add_row("strategy", outline.strategy)
    table.add_row("spectra", f"{outline.num_points}{done}")
    share = "at most a third of the spectra, unless n_seeds is given"
    table.add_row("seeds", f"{outline.n_seeds} ({share})")
    for name, (limits, reach) in outline.limits.items():
        table.add_row(name, f"may go {_range(limits)}, the survey reaches {_range(reach)}")
    for name, seconds in outline.seconds.items():
        said = "not known" if seconds is None else duration(seconds)
        if name == "all" and seconds is not None:
            # What learning takes depends on what is measured: nothing is known of it yet.
            said += ", and the learning: each decision after the seeds takes its time as well"
        table.add_row(f"time, {name}", said)
    if outline.planned is None:
        planned = "not known before there is a survey: the imager holds none"
    else:
        planned = " ".join(f"({p.pixel[0]},{p.pixel[1]})" for p in outline.planned) or "none"
        n = len(outline.planned)
        planned = f"{n} {plural(n, 'pixel')} (row,col): {planned}"
    table.add_row("planned", planned)
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    return out.getvalue().rstrip()


def _range(limits: Range | None) -> str:
    return "anywhere" if limits is None else f"{limits[0]:.4g} to {limits[1]:.4g} um"
