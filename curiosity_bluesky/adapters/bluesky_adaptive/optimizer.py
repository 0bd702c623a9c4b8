"""Explorer behind bluesky-adaptive's protocol `Optimizer`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curiosity_bluesky.adapters.bluesky_adaptive import checkpoint
from curiosity_bluesky.adapters.bluesky_adaptive.points import (
    ID,
    Measurement,
    Suggestion,
    prediction_error,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Failure, Observation, Proposal, SteeringRequest
from curiosity_bluesky.learning.survey import Pixel

SPECTRUM = "spectrum"
"""Key of a point that may hold its spectrum, ``(points,)``, where no evaluation of ours made it."""


class CuriosityOptimizer:
    """Optimizer that suggests the pixels where a spectrum teaches most.

    It has the shape of bluesky-adaptive's protocols `Optimizer`, `SupportsStoppingCriteria`,
    `Checkpointable`, `CanRegisterSuggestions` and `TrialFaultAware`, and does not import it.
    Its methods may be called from different threads, one at a time gets its turn.

    Parameters
    ----------
    explorer
        What decides; from now on only through this.
    actuators
        Names of those that move along x and along y, as suggestions name them.
    checkpoint_path
        The file that `checkpoint` writes. None: it cannot be called.

    Examples
    --------
    >>> import numpy as np
    >>> from curiosity_bluesky.learning import Strategy, Survey
    >>> survey = Survey({"amplitude": np.random.default_rng(0).random((20, 20))})
    >>> strategy = Strategy.named("random", patch_size=3, n_seeds=2, budget=5)
    >>> optimizer = CuriosityOptimizer(Explorer(survey, strategy), ("stage_x", "stage_y"))
    >>> [point] = optimizer.suggest()
    >>> list(point)
    ['_id', 'stage_x', 'stage_y', 'row', 'col', 'reason']
    >>> optimizer.ingest([{"_id": point["_id"], "spectrum": np.zeros(8)}])
    >>> optimizer.should_stop()
    (False, '1 of 5 spectra measured')
    """

    def __init__(
        self,
        explorer: Explorer,
        actuators: Sequence[str] = ("stage_x", "stage_y"),
        checkpoint_path: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(actuators, str) or len(actuators) != 2 or actuators[0] == actuators[1]:
            raise InputError(
                f"the actuators are {actuators!r}; expected the names of two, the one that moves "
                "along x and the one along y"
            )
        self.explorer = explorer
        self.actuators = (actuators[0], actuators[1])
        self.checkpoint_path = None if checkpoint_path is None else Path(checkpoint_path)
        self._busy = threading.RLock()
        self._log = checkpoint.ExplorerLog()
        self._proposals: dict[int, Proposal] = {}
        self._ahead: list[Proposal] = []
        """Suggestions decided ahead, and not handed out yet."""
        for proposal in explorer.decisions:
            self._decided(proposal)
        for observation in explorer.observations:
            self._log.observation(observation)
        self._outcomes: dict[int, dict[str, Any]] = {}
        """What came of each decision, with the error of what was expected."""

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], **kwargs: Any) -> CuriosityOptimizer:
        """Restore an optimiser: it suggests, bit for bit, what the one before would have.

        What was suggested and not ingested is in `pending`.

        Parameters
        ----------
        path
            What `checkpoint` wrote; it is where this one writes, too.
        **kwargs
            For `Explorer`, such as ``on_epoch``.

        Raises
        ------
        InputError
            If there is no such file, or it is none.
        """
        saved = checkpoint.read(path)
        optimizer = cls(Explorer(saved.survey, saved.strategy, saved.seed, **kwargs),
                        saved.actuators, path)  # fmt: skip
        for item in saved.items:
            optimizer._take(item)
        optimizer._outcomes = dict(saved.outcomes)
        optimizer._ahead = [optimizer._proposals[number] for number in saved.ahead]
        return optimizer

    # ---- Optimizer

    def suggest(self, num_points: int | None = None) -> list[Suggestion]:
        """Learn from all that was ingested, and say where to measure next.

        Parameters
        ----------
        num_points
            How many, default 1; fewer come back when the pixels run out. The budget does not
            cut a batch short: `should_stop` is asked after each.

        Raises
        ------
        InputError
            If no pixel is left to measure.
        """
        wanted = 1 if num_points is None else num_points
        with self._busy:
            self.think(wanted)
            chosen, self._ahead = self._ahead[:wanted], self._ahead[wanted:]
            if not chosen:
                unknown = len(self.explorer.pending)
                waiting = f"; of {unknown} suggestions the outcome is not known" if unknown else ""
                raise InputError(f"no pixel is left to measure{waiting}: end the run here")
            return [self._suggestion(proposal) for proposal in chosen]

    def think(self, num_points: int = 1) -> None:
        """Decide what the next `suggest` will say, so that it has it at hand."""
        with self._busy:
            if (missing := num_points - len(self._ahead)) > 0:
                proposals = self.explorer.propose(missing)
                for proposal in proposals:
                    self._decided(proposal)
                self._ahead += proposals

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Record what was measured; learning from it is left to the next suggestion.

        Parameters
        ----------
        points
            Outcomes of `FromDocuments` or `FromTiled`, or mappings with ``_id`` and
            ``spectrum``. One without the ``_id`` of a suggestion, but with the position by the
            names of the actuators (um), is a spectrum at the pixel nearest to it. The same
            twice counts once.

        Raises
        ------
        InputError
            If one has no spectrum, or its position is not known: none is taken in then. If
            one does not fit those before, see `Explorer.observe`.
        """
        with self._busy:
            for observation, point in [(self._observation(point), point) for point in points]:
                number = observation.decision_id
                if number in self._outcomes:
                    continue
                self._take(observation)
                if number is not None:
                    error = prediction_error(self._proposals[number], observation.spectrum)
                    scalars = {k: v for k, v in point.items() if k != ID and np.ndim(v) == 0}
                    self._outcomes[number] = {**scalars, "prediction_error": error}
                    if (quality := observation.quality) < self.explorer.strategy.min_quality:
                        self._take(Failure(number, f"quality {quality:.2g} of the spectrum"))

    def get_best_points(self, n: int = 1) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Return the measured points that taught most: where what was expected was most wrong.

        There is no objective here that one point would meet best. These are the structures
        whose spectrum was the greatest surprise: the mean squared difference to what the model
        had expected before it was measured. It goes by what was known then, so that an early
        point has had more to teach.

        Parameters
        ----------
        n
            How many at most, the greatest surprise first.

        Returns
        -------
        list of (_id, suggestion, outcome)

        Raises
        ------
        InputError
            If none was expected yet: all are seeds, or the strategy has no model.
        """
        with self._busy:
            errors = {
                number: outcome["prediction_error"]
                for number, outcome in self._outcomes.items()
                if np.isfinite(outcome["prediction_error"])
            }
            if not errors:
                raise InputError(
                    "no spectrum was expected before it was measured, so none was a surprise; "
                    "ask again after the seeds, with a strategy that has a model"
                )
            best = sorted(errors, key=lambda number: (-errors[number], number))[:n]
            return [
                (number, dict(self._suggestion(self._proposals[number])), self._outcomes[number])
                for number in best
            ]

    # ---- SupportsStoppingCriteria

    def should_stop(self) -> tuple[bool, str]:
        """Say whether the budget is used up, or the strategy has learned enough, and why."""
        with self._busy:
            return self.explorer.should_stop()

    # ---- Checkpointable

    def checkpoint(self) -> None:
        """Write all that there is to know to the file, whole or not at all.

        Raises
        ------
        InputError
            If no file was named.
        """
        if self.checkpoint_path is None:
            raise InputError(
                "no file was named to write a checkpoint to; give checkpoint_path=, or set "
                "optimizer.checkpoint_path"
            )
        with self._busy:
            saved = checkpoint.OptimizerState(
                self.explorer.survey,
                self.explorer.strategy,
                self.explorer.seed,
                self.actuators,
                self._log.items,
                self._outcomes,
                [proposal.decision_id for proposal in self._ahead],
            )
            checkpoint.write(self.checkpoint_path, saved)

    # ---- CanRegisterSuggestions

    def register_suggestions(self, suggestions: Sequence[Mapping[str, Any]]) -> list[Suggestion]:
        """Make decisions of points of one's own, with the reason ``manual``.

        One that was suggested and not measured yet, by its ``_id`` and position, stays what it
        is.

        Parameters
        ----------
        suggestions
            Positions by the names of the actuators (um); each goes to the nearest pixel.

        Returns
        -------
        list of Suggestion
            In the same order, with ``_id`` and the position of the pixel.

        Raises
        ------
        InputError
            If one is outside the survey or masked; none is registered then.
        """
        with self._busy:
            pixels = [self._pixel(suggestion) for suggestion in suggestions]
            for pixel in pixels:
                if self.explorer.masked[pixel]:
                    raise InputError(f"pixel {pixel} is masked: nothing may be measured there")
            pending = {p.decision_id for p in self.explorer.pending}
            registered = []
            for suggestion, pixel in zip(suggestions, pixels, strict=True):
                proposal = self._known(suggestion)
                waited_for = proposal is not None and proposal.decision_id in pending
                if proposal is None or not waited_for or proposal.pixel != pixel:
                    row, col = pixel
                    self._take(
                        SteeringRequest(self.explorer.n_acts, "add", {"row": row, "col": col})
                    )
                    [proposal] = self.explorer.propose()
                    self._decided(proposal)
                registered.append(self._suggestion(proposal))
            return registered

    # ---- TrialFaultAware

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Give the pixels of suggestions back that could not be measured.

        They may be suggested again once something was measured elsewhere; a pixel that failed
        twice is left alone. What was ingested stays.

        Raises
        ------
        InputError
            If one was not suggested here.
        """
        with self._busy:
            proposals = []
            for suggestion in suggestions:
                if (proposal := self._known(suggestion)) is None:
                    raise InputError(f"nothing was suggested here as {ID} {suggestion.get(ID)!r}")
                proposals.append(proposal)
            for proposal in proposals:
                if (number := proposal.decision_id) not in self._outcomes:
                    self._take(Failure(number, "the plan that measured it failed"))

    # ---- besides

    def pending(self) -> list[Suggestion]:
        """Return the suggestions without an outcome.

        After `from_checkpoint` these are the points that the interruption cost: measure them
        with ``sample_suggestions(problem, optimizer.pending())``, or give them up with
        `register_failures`.
        """
        with self._busy:
            ahead = {proposal.decision_id for proposal in self._ahead}
            pending = [p.decision_id for p in self.explorer.pending if p.decision_id not in ahead]
            return [self._suggestion(self._proposals[number]) for number in pending]

    # ---- inside

    def _suggestion(self, proposal: Proposal) -> Suggestion:
        return Suggestion.of(proposal, self.actuators)

    def _known(self, point: Mapping[str, Any]) -> Proposal | None:
        """Return the proposal that a point names, None if it names none of ours."""
        number = point.get(ID)
        return self._proposals.get(int(number)) if isinstance(number, int | np.integer) else None

    def _decided(self, proposal: Proposal) -> None:
        self._proposals[proposal.decision_id] = proposal
        self._log.decision(proposal)

    def _take(self, item: checkpoint.Item) -> None:
        """Tell the explorer, and remember that it was told."""
        if isinstance(item, Proposal):
            self.explorer.record(item)
            self._decided(item)
        elif isinstance(item, Observation):
            self.explorer.observe(item)
            self._log.observation(item)
        elif isinstance(item, Failure):
            self.explorer.take_failure(item)
            self._log.failure(item)
        else:
            self.explorer.steer(item)
            self._log.act(item)

    def _observation(self, point: Mapping[str, Any]) -> Observation:
        number = point.get(ID)
        measured = getattr(point, "measurement", None)
        if measured is None and SPECTRUM in point:
            spectrum = np.asarray(point[SPECTRUM], float)
            measured = Measurement(spectrum, None, float(point.get("quality", 1.0)), {})
        if measured is None:
            raise InputError(
                f"the outcome of {ID} {number!r} has no spectrum, only {', '.join(point)}; use "
                "FromDocuments or FromTiled as evaluation function and hand on the outcomes that "
                f"it returns, or put the spectrum into the outcome as {SPECTRUM!r}"
            )
        proposal = self._known(point)
        pixel = self._pixel(point) if proposal is None else proposal.pixel
        return Observation(
            pixel,
            np.asarray(measured.spectrum, float),
            quality=measured.quality,
            decision_id=None if proposal is None else proposal.decision_id,
            axis=measured.axis,
        )

    def _pixel(self, point: Mapping[str, Any]) -> Pixel:
        """Return the pixel nearest to where a point is."""
        missing = [name for name in self.actuators if name not in point]
        if missing:
            raise InputError(
                f"{ID} {point.get(ID)!r} was not suggested here, and its position is not known: "
                f"expected the position (um) as {' and '.join(self.actuators)}, got "
                f"{', '.join(point)}"
            )
        x, y = (float(point[name]) for name in self.actuators)
        return self.explorer.survey.pixel_inside(x, y, self.actuators)
