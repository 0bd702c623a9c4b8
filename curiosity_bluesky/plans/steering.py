"""The scientist in charge: what is asked for before and in the middle of a run."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Proposal, SteeringRequest, Strategy, Survey
from curiosity_bluesky.learning.masks import decode_mask, encode_mask
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure
from curiosity_bluesky.utils.validation import LARGEST, LONGEST, number, shown, whole_number
from curiosity_bluesky.utils.wording import plural

logger = logging.getLogger(__name__)


class Steering:
    """Takes wishes from any thread and hands them to the plan.

    The plan looks between two points: each act becomes an event of the ``steering`` stream,
    and from there the explorer, live or in a replay, does it. What is asked for while no run
    goes on waits for the next one.

    Attributes
    ----------
    watchers : list
        Called with the explorer whenever it may have learned, see `CuriosityAgent`; by the plan's
        own agent, in the thread that learns.

    Examples
    --------
    ::

        from curiosity_bluesky import steer
        steer.add(12, 30)                       # a point of one's own, measured next
        steer.add(x=0.42, y=0.10)               # in um
        steer.mask(x=(0.2, 0.4), y=(0.0, 0.3))  # do not go there (um)
        steer.veto()                            # not the one that is proposed now
        steer.set(refit_every=10)               # parameters of the strategy
        steer.budget(200)
        steer.strategy("variance")
        steer.stop("good enough")               # end early, keep everything
    """

    def __init__(self) -> None:
        self.watchers: list[Callable[[Explorer], None]] = []
        self._lock = threading.RLock()
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._survey: Survey | None = None
        self._strategy: Strategy | None = None
        self._next = 0
        self._masked: NDArray[np.bool_] = np.zeros((0, 0), bool)
        self._vetoed: set[int] = set()
        self._ending = False
        self._room: Callable[[int | None], int | None] = lambda budget: None
        self._pending: tuple[Proposal, ...] = ()

    # ---- what can be asked for

    def add(
        self,
        row: int | None = None,
        col: int | None = None,
        *,
        x: float | None = None,
        y: float | None = None,
    ) -> None:
        """Measure a pixel of one's own next, given by row and column or by its position.

        Parameters
        ----------
        row, col
            The pixel of the survey.
        x, y
            Or the position in um: the nearest pixel is taken.

        Raises
        ------
        InputError
            If it is outside the survey or masked, or if no spectrum of the budget is left for it.
        """
        by_pixel = row is not None and col is not None
        if by_pixel == (x is not None and y is not None):
            raise InputError("add wants a pixel, add(row, col), or a position, add(x=..., y=...)")
        if by_pixel:
            pixel = {"row": row, "col": col}
            self._ask("add", {key: whole_number(key, n, -LARGEST) for key, n in pixel.items()})
        else:
            self._ask("add", {key: number(key, n, -LONGEST) for key, n in {"x": x, "y": y}.items()})

    def mask(
        self,
        where: ArrayLike | None = None,
        *,
        x: tuple[float, float] | None = None,
        y: tuple[float, float] | None = None,
    ) -> None:
        """Do not go there any more.

        Parameters
        ----------
        where
            ``(rows, cols)``, True where nothing may be measured.
        x, y
            Or a rectangle, from and to, in um.

        Raises
        ------
        InputError
            If it does not fit the survey, or leaves nothing to measure.
        """
        if (where is None) == (x is None and y is None):
            raise InputError("mask wants an array, mask(where), or a rectangle, mask(x=, y=) in um")
        for name, ends in (("x", x), ("y", y)):
            if ends is not None:
                if not isinstance(ends, Sequence | np.ndarray) or len(ends) != 2:
                    raise InputError(f"{name} is {shown(ends)}; expected from and to, in um")
                for end in ends:
                    number(name, end, -math.inf, math.inf, what="from and to, in um")
        self._ask("mask", encode_mask(where) if where is not None else {"x": x, "y": y})

    def veto(self, row: int | None = None, col: int | None = None) -> None:
        """Do not measure what is proposed now, or what is proposed at a pixel.

        A spectrum that is under way is finished and kept, but after a pause it is not taken
        again.

        Raises
        ------
        InputError
            If nothing is proposed there.
        """
        self._ask("veto", {} if row is None or col is None else {"row": row, "col": col})

    def set(self, **parameters: Any) -> None:
        """Change parameters of the strategy, such as its exploration weight.

        Raises
        ------
        InputError
            If the strategy has no such parameter, or it cannot have this value.
        """
        if not parameters:
            raise InputError("set wants parameters of the strategy, such as set(refit_every=10)")
        self._ask("set", {"strategy": None, "parameters": parameters})

    def strategy(self, name: str, **parameters: Any) -> None:
        """Go on with another strategy, which learns from all that was measured.

        Budget, batch, patch size, seeds and safety stay as they are unless they are given.
        """
        self._ask("set", {"strategy": name, "parameters": parameters})

    def budget(self, num_points: int) -> None:
        """Change the number of spectra in the whole run."""
        self.set(budget=num_points)

    def stop(self, reason: str = "") -> None:
        """End the run after the spectrum that is under way, and keep everything."""
        self._ask("stop", {"reason": reason})

    def clear(self) -> None:
        """Forget what was asked for and not taken up yet."""
        with self._lock:
            self._waiting.clear()

    def __repr__(self) -> str:
        kinds = ", ".join(kind for kind, _ in self._waiting) or "nothing"
        return f"<Steering, {'in' if self._survey else 'before'} a run; waiting: {kinds}>"

    # ---- for the plan

    @property
    def in_words(self) -> str:
        """What was asked for and not taken up yet, "" for nothing."""
        return "; ".join(f"{kind} {_in_words(wanted)}".strip() for kind, wanted in self._waiting)

    def begin(
        self,
        survey: Survey,
        strategy: Strategy,
        masked: NDArray,
        next_act: int,
        room: Callable[[int | None], int | None] = lambda budget: None,
    ) -> None:
        """Belong to a run from now on, which has this survey and strategy.

        Parameters
        ----------
        survey, strategy, masked
            Of the run.
        next_act
            Number of the next act.
        room
            Asked how many spectra of a budget are left for which no pixel is added; None: any
            number.

        Raises
        ------
        InputError
            If something that was asked for before cannot be done; it is forgotten, the rest
            waits for the next run.
        """
        with self._lock:
            self._survey, self._strategy = survey, strategy
            self._masked, self._next, self._pending = masked.copy(), next_act, ()
            self._vetoed, self._ending, self._room = set(), False, lambda budget: None
            asked = list(self._waiting)
            if asked:
                logger.warning(
                    "asked for before this run, and done in it: %s (steer.clear() forgets it)",
                    self.in_words,
                )
            self._waiting.clear()
            for k, (kind, wanted) in enumerate(asked):
                try:
                    self._ask(kind, wanted)
                except InputError as error:
                    self.end()
                    self._waiting.extend(asked[:k] + asked[k + 1 :])
                    raise InputError(
                        f"{error}; this wish is forgotten, {len(asked) - 1} others wait for the "
                        "next run (steer.clear() forgets them)"
                    ) from None
            self._room = room

    def end(self) -> None:
        """Belong to no run any more; what waited for one that never began waits on."""
        with self._lock:
            if self._survey is not None:
                self._waiting.clear()
            self._survey = self._strategy = None
            self._pending, self._ending = (), False

    def propose(self, pending: Iterable[Proposal]) -> None:
        """Know what is proposed now, the next one first."""
        self._pending = tuple(pending)

    def take(self) -> list[SteeringRequest]:
        """Return what was asked for since the last time."""
        with self._lock:
            acts = [
                SteeringRequest(self._next + k, *asked) for k, asked in enumerate(self._waiting)
            ]
            self._next += len(acts)
            self._waiting.clear()
        return acts

    @property
    def waiting(self) -> bool:
        """Whether anything was asked for since the last `take`."""
        return bool(self._waiting)

    def close(self) -> None:
        """Take no wishes any more: the run is ending."""
        self._ending = True

    def refusal(self, proposal: Proposal) -> PointFailure | None:
        """Say why a proposal must not be measured any more; None: the scientist did not say so."""
        if self._masked[proposal.pixel]:
            return PointFailure(FailureKind.MASKED)
        vetoed = proposal.decision_id in self._vetoed
        return PointFailure(FailureKind.VETOED) if vetoed else None

    # ---- inside

    def _ask(self, kind: str, wanted: dict[str, Any]) -> None:
        with self._lock:
            if self._ending:
                raise InputError("the run is ending; ask again when it is over, for the next one")
            arguments = wanted
            if self._survey is None:
                _check_before(kind, wanted)
            else:
                arguments = getattr(self, f"_checked_{kind}")(self._survey, wanted)
            self._waiting.append((kind, arguments))
        logger.info("steer: %s %s", kind, _in_words(wanted))

    def _checked_add(self, survey: Survey, wanted: Mapping[str, Any]) -> dict[str, Any]:
        if "x" in wanted:
            row, col = survey.pixel_inside(float(wanted["x"]), float(wanted["y"]))
        else:
            row, col = wanted["row"], wanted["col"]
        rows, cols = survey.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise InputError(
                f"pixel ({row}, {col}) is outside the survey of {rows} x {cols} pixels"
            )
        if self._masked[row, col]:
            raise InputError(f"pixel ({row}, {col}) is masked; add another one")
        room = self._room(None if self._strategy is None else self._strategy.budget)
        asked = sum(kind == "add" for kind, _ in self._waiting)
        if room is not None and room - len(self._pending) - asked < 1:
            raise InputError(
                f"no spectrum of the budget is left for pixel ({row}, {col}): all that are to come "
                "are under way or asked for; raise it first, steer.budget(n)"
            )
        return {"row": row, "col": col}

    def _checked_mask(self, survey: Survey, wanted: Mapping[str, Any]) -> dict[str, Any]:
        if "bits" in wanted:
            mask = decode_mask(wanted)
        else:
            inside = [np.ones(len(axis), bool) for axis in (survey.y, survey.x)]
            for k, (name, axis) in enumerate((("y", survey.y), ("x", survey.x))):
                if wanted[name] is not None:
                    low, high = sorted(map(float, wanted[name]))
                    inside[k] = (axis >= low) & (axis <= high)
            mask = np.outer(*inside)
        if mask.shape != survey.shape:
            raise InputError(f"the mask has shape {mask.shape}, the survey {survey.shape}")
        if not mask.any():
            raise InputError("the mask covers no pixel of the survey; give it in um, from and to")
        if (self._masked | mask).all():
            raise InputError("the mask leaves no pixel to measure; end the run with steer.stop()")
        self._masked = self._masked | mask
        return encode_mask(mask)

    def _checked_veto(self, survey: Survey, wanted: Mapping[str, Any]) -> dict[str, Any]:
        if "decision_id" in wanted:
            return dict(wanted)
        for proposal in self._pending:
            if not wanted or proposal.pixel == (wanted["row"], wanted["col"]):
                self._vetoed.add(proposal.decision_id)
                return {"decision_id": proposal.decision_id}
        proposed = ", ".join(str(p.pixel) for p in self._pending) or "nothing"
        raise InputError(f"nothing is proposed there to veto; proposed now: {proposed}")

    def _checked_set(self, survey: Survey, wanted: Mapping[str, Any]) -> dict[str, Any]:
        assert self._strategy is not None
        name, parameters = wanted["strategy"], wanted["parameters"]
        if name is None:
            strategy = self._strategy.replace(**parameters)
        else:
            kept = self._strategy.limits
            if not isinstance(self._strategy.dwell, str):
                kept["dwell"] = self._strategy.dwell
            strategy = Strategy.named(name, **{**kept, **parameters})
            if self._strategy.dwell == "auto" and "dwell" not in parameters:
                strategy = strategy.replace(dwell="auto" if strategy.dwell_aware else "full")
            if "per_second" not in parameters and (rates := self._strategy.per_second):
                if strategy.cost_aware:
                    strategy = strategy.replace(per_second=rates)
                else:
                    logger.warning(
                        "%s does not choose by time, as the strategy before it did", strategy.name
                    )
        strategy.validate(survey)
        self._strategy = strategy
        return {"strategy": strategy.name, "parameters": strategy.parameters}

    def _checked_stop(self, survey: Survey, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"reason": str(wanted["reason"])}


def _check_before(kind: str, wanted: Mapping[str, Any]) -> None:
    """Refuse what no run can do, before there is one."""
    if kind == "veto":
        raise InputError("nothing is proposed before a run; veto in the middle of one")
    if kind == "stop":
        raise InputError("no run goes on that could be stopped; the next one is not, either")
    if kind == "set" and wanted["strategy"] is not None:
        Strategy.named(wanted["strategy"], **wanted["parameters"])
    if kind == "set" and "budget" in wanted["parameters"]:
        Strategy.named("random", budget=wanted["parameters"]["budget"])


def _in_words(wanted: Mapping[str, Any]) -> str:
    if "bits" in wanted:
        n = int(decode_mask(wanted).sum())
        return f"{n} {plural(n, 'pixel')}"
    return ", ".join(f"{key}={value}" for key, value in wanted.items() if value is not None)


steer = Steering()
"""The steering of `curiosity_plan` where none other is given."""
