"""Selection of pixels: those that may still be proposed, and the learner's choice among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.density_limit import DensityLimit
from curiosity_bluesky.learning.history import History
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import CostAware, Learner, PendingAware
from curiosity_bluesky.learning.records import Reason, Scores
from curiosity_bluesky.learning.scan_path import short_path, travel
from curiosity_bluesky.learning.strategy import Strategy
from curiosity_bluesky.learning.survey import Pixel


class Selection:
    """One round of proposals: each that is chosen takes its pixel, and its dose, from the next.

    Parameters
    ----------
    patches
        The candidates.
    strategy
        How many spectra an area may have, whether time counts, and the batch.
    history
        What has happened.

    Attributes
    ----------
    available : NDArray
        ``(candidates,)``, True where a spectrum may be proposed.
    """

    def __init__(self, patches: Patches, strategy: Strategy, history: History) -> None:
        self._patches, self._strategy = patches, strategy
        self._last = history.decisions[-1].pixel if history.decisions else None
        self._pending = [proposal.pixel for proposal in history.pending]
        limit = strategy.max_per_area
        taken = [] if limit is None else [*history.doses, *self._pending]
        self._crowding = DensityLimit(patches.survey, limit, taken)
        barred = history.masked | history.out_of_reach | self._crowding.full
        self.available: NDArray[np.bool_] = patches.allowed & ~patches.flatten(barred)
        taken_already = patches.indices(history.taken)
        self.available[taken_already[taken_already >= 0]] = False

    @property
    def crowded(self) -> str:
        """In words, what `max_per_area` has to do with there being no pixel left."""
        limit = self._strategy.max_per_area
        if limit is None or not self._crowding.full.any():
            return ""
        return f" with at most {limit[0]} within {limit[1]:g} um of each other (max_per_area)"

    def claim(self, pixel: Pixel) -> None:
        """Have no other proposal take this pixel, or crowd it."""
        self._close(pixel)
        self._pending.append(pixel)
        self._crowding.add(pixel)
        self.available &= ~self._patches.flatten(self._crowding.full)

    def _close(self, pixel: Pixel) -> None:
        if (index := self._patches.index(pixel)) is not None:
            self.available[index] = False

    def pick(
        self, learner: Learner, scores: Scores | None, n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Let the learner choose `n` candidates, each with its reason.

        All at once, unless where each lies says something about the next. A batch comes in an
        order in which it is visited on a short path from where the tip will be.
        """
        rates = self._strategy.visit_cost if self._strategy.dwell == "auto" else None
        rates = self._strategy.per_second or rates
        together = self._strategy.max_per_area is None and rates is None
        start, picked = self._tip, []
        while len(picked) < n and self.available.any():
            if isinstance(learner, PendingAware):
                indices = map(self._patches.index, self._pending)
                known = [index for index in indices if index is not None]
                learner.set_pending(np.array(known, dtype=np.intp))
            if isinstance(learner, CostAware) and rates is not None:
                learner.set_cost(self._seconds(*rates))
            chosen = learner.choose(scores, self.available, n if together else 1, rng)
            for index, _ in chosen:
                self.claim(self._patches.pixel(index))
            picked += chosen
            if together:
                break
        if len(picked) > 1 and self._strategy.batch > 1:
            way = short_path(self._places([index for index, _ in picked]), start)
            picked = [picked[k] for k in way]
        return picked

    def on_a_path(self, indices: Sequence[int]) -> list[int]:
        """Return candidates in an order in which they are visited on a short path."""
        return [indices[k] for k in short_path(self._places(indices))]

    def _places(self, indices: Sequence[int]) -> NDArray:
        survey, pixel = self._patches.survey, self._patches.pixel
        return np.array([survey.position(pixel(index)) for index in indices]).reshape(-1, 2)

    @property
    def _tip(self) -> NDArray | None:
        """Position of the tip when what is under way is done, by the record alone, um."""
        pixel = self._pending[-1] if self._pending else self._last
        return None if pixel is None else np.array(self._patches.survey.position(pixel))

    def _seconds(self, dwell: float, speed: float) -> NDArray | None:
        """Return the time that each candidate would take, ``(candidates,)``, s."""
        if (tip := self._tip) is None:
            return None
        survey = self._patches.survey
        grid = np.stack(np.meshgrid(survey.x, survey.y), axis=2)
        seconds = dwell + travel(self._patches.flatten(grid), tip) / speed
        # One that takes no time at all, the pixel itself, must not be worth infinitely much.
        return np.maximum(seconds, 1e-9)
