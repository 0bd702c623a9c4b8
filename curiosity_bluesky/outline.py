"""What a run would do, shown before anything moves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.learning import Explorer, Proposal, Survey

Range = tuple[float, float]


@dataclass(frozen=True)
class Outline:
    """Limits, planned seeds and times of a run that has not begun.

    Parameters
    ----------
    strategy
        Its name.
    num_points, n_observed
        Spectra in the whole run, and those that there are already (of a run to resume).
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
    n_observed: int
    limits: dict[str, tuple[Range | None, Range | None]]
    planned: list[Proposal] | None
    seconds: dict[str, float | None]

    @staticmethod
    def of(
        agent: CuriosityAgent,
        survey: Survey | None,
        detectors: Sequence[Any],
        x: Any,
        y: Any,
        imager: Any,
    ) -> Outline:
        """Work out what an agent would have measured first.

        Parameters
        ----------
        agent
            With strategy and seed, or with the documents of the run to resume.
        survey
            What the seeds are planned on; None if there is none yet.
        detectors, x, y, imager
            The devices; where they have ``seconds`` (see `docs/devices.md`), it is used.

        Raises
        ------
        InputError
            If the survey does not fit the strategy.
        """
        assert agent.strategy is not None and agent.seed is not None
        planned, n_observed, budget = None, 0, agent.strategy.budget
        resumed = agent.resumable
        if survey is not None:
            if resumed:
                planned = [proposal for proposal, *_ in agent.outstanding()]
                explorer = agent.explorer
            else:
                explorer, planned = Explorer(survey, agent.strategy, agent.seed), []
            n_observed, budget = explorer.n_observed, explorer.budget
            seeds = explorer.strategy.n_seeds - n_observed - len(planned)
            if seeds > 0:
                planned = planned + explorer.propose(min(seeds, explorer.budget))
        times = {"survey": None if resumed else _seconds(imager)}
        times |= _times(survey, planned, (budget or 0) - n_observed, detectors, x, y)
        if times["all"] is not None:
            times["all"] += times["survey"] or 0.0
        limits = _limits(x, y, survey)
        return Outline(agent.strategy.name, budget, n_observed, limits, planned, times)

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


def _times(
    survey: Survey | None,
    planned: Sequence[Proposal] | None,
    left: int,
    detectors: Sequence[Any],
    x: Any,
    y: Any,
) -> dict[str, float | None]:
    """Return how long the planned points and all that are left take (s), as far as is known."""
    spectra = [_seconds(detector) for detector in detectors]
    if survey is None or planned is None or None in spectra:
        return {"planned": None, "all": None}
    spectrum = max((s for s in spectra if s is not None), default=0.0)
    places = np.array([[p.x, p.y] for p in planned]).reshape(-1, 2)
    # Between two random places of an interval lies a third of it, on average.
    usual = np.array([[np.ptp(survey.x), np.ptp(survey.y)]]) / 3
    legs = np.concatenate([usual[: len(places)], np.abs(np.diff(places, axis=0))])
    later = np.repeat(usual, max(0, left - len(places)), axis=0)
    times: dict[str, float | None] = {}
    for name, distances in (("planned", legs), ("all", np.concatenate([legs, later]))):
        moves = [_travel(x, y, *leg) for leg in distances]
        known = [move for move in moves if move is not None]
        times[name] = sum(known) + spectrum * len(moves) if len(known) == len(moves) else None
    return times


def _seconds(device: Any) -> float | None:
    seconds = getattr(device, "seconds", None)
    return None if seconds is None or callable(seconds) else float(seconds)


def _travel(x: Any, y: Any, along_x: float, along_y: float) -> float | None:
    # Both axes move at once.
    times = []
    for motor, distance in ((x, along_x), (y, along_y)):
        ask = getattr(motor, "seconds", None)
        times.append(ask(float(distance)) if callable(ask) else None)
    known = [t for t in times if t is not None]
    return max(known) if len(known) == 2 else None


def printed(outline: Outline) -> str:
    """Return an outline in words."""
    table = Table(show_header=False, title="nothing moves: this is what the run would do")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    done = f", {outline.n_observed} of them measured" if outline.n_observed else ""
    table.add_row("strategy", outline.strategy)
    table.add_row("spectra", f"{outline.num_points}{done}")
    for name, (limits, reach) in outline.limits.items():
        table.add_row(name, f"may go {_range(limits)}, the survey reaches {_range(reach)}")
    for name, seconds in outline.seconds.items():
        words = {"survey": "time, survey", "planned": "time, planned", "all": "time, all"}[name]
        table.add_row(words, "not known" if seconds is None else _duration(seconds))
    if outline.planned is None:
        planned = "not known before there is a survey: the imager holds none"
    else:
        planned = " ".join(f"({p.pixel[0]},{p.pixel[1]})" for p in outline.planned) or "none"
        planned = f"{len(outline.planned)} pixels (row,col): {planned}"
    table.add_row("planned", planned)
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    return out.getvalue().rstrip()


def _range(limits: Range | None) -> str:
    return "anywhere" if limits is None else f"{limits[0]:.4g} to {limits[1]:.4g} um"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"
