"""A strategy that trains for as long as a file is there: `curiosity agent --load gated.py`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from curiosity_bluesky.learning import ModelLearner, Scores, Strategy, Training, register
from curiosity_bluesky.learning.acquisition import RandomPixel


@register
@dataclass(frozen=True, kw_only=True)
class Gated(Strategy):
    """Any pixel, after a training that somebody may hold."""

    name: ClassVar[str] = "gated"

    gate: str = ""

    def build(self, patches, budget, seed, on_epoch):
        predictor = Mean(len(patches), Path(self.gate), on_epoch)
        return ModelLearner(
            patches,
            predictor=predictor,
            curiosity=Anything(len(patches)),
            choice=RandomPixel(),
            n_seeds=self.n_seeds,
            seed=seed,
        )


class Mean:
    def __init__(self, candidates, gate, on_epoch):
        self.candidates, self.gate, self.on_epoch = candidates, gate, on_epoch

    def start(self, observed):
        epoch = 0
        while self.gate.is_file():
            epoch += 1
            self.on_epoch("gated", epoch, 10**6)
            time.sleep(0.01)
        self.mean = np.nanmean(observed.spectra, axis=0)
        return Training("gated", "a mean", 1, 0.0, 0.0, n_observed=len(observed))

    update = start

    def predict(self, indices=None):
        return np.tile(self.mean, (self.candidates if indices is None else len(indices), 1))


class Anything:
    def __init__(self, candidates):
        self.candidates = candidates

    def start(self, observed):
        return np.nan

    update = start

    def scores(self, observed):
        return Scores(acquisition=np.zeros(self.candidates))
