"""How good maps of the coercive bias are, on generated films whose truth is known.

``python benchmarks/property_maps.py`` prints a line of JSON for each film: at the pixels that were
not measured, correlation with, bias and error (V) against what is read off the spectrum without
noise, the bias against the film's own parameter, and the error of what is read off the measured
spectrum in units of the deviation.
"""

from __future__ import annotations

import json
import math

import numpy as np
from bluesky import RunEngine

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.analysis import property_map
from curiosity_bluesky.analysis.spectrum_properties import loop
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

POINTS = 60
PARAMETERS = {"patch_size": 5, "n_seeds": 15}
NAME = "coercive_bias"


def measured(film: SyntheticSample) -> list:
    """Return the documents of a run."""
    documents: list = []
    instrument = simulated_instrument(film, speed=math.inf)
    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        num_points=POINTS,
        options={"parameters": PARAMETERS},
    )
    RunEngine({})(plan, lambda name, doc: documents.append((name, doc)))
    return documents


def rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    """Measure the films and print how good their maps are."""
    for noise in (0.0, 0.03, 0.1):
        for seed in (1, 2):
            film = SyntheticSample((24, 24), seed=seed, points=32, noise=noise)
            maps = property_map(measured(film), NAME)
            predicted, taken = maps[NAME].values, np.isfinite(maps[f"{NAME}_measured"].values)
            elsewhere = np.isfinite(predicted) & ~taken
            predicted = predicted[elsewhere]
            truth, noisy = (
                loop(spectra, film.axis)[NAME][0][elsewhere]
                for spectra in (film.noiseless, film.target())
            )
            deviations = (predicted - noisy) / maps[f"{NAME}_deviation"].values[elsewhere]
            found = {
                "correlation": float(np.corrcoef(predicted, truth)[0, 1]),
                "bias": float(np.mean(predicted - truth)),
                "error": rms(predicted - truth),
                "spread": float(truth.std()),
                "bias_to_parameter": float(np.mean(predicted - film.truth[NAME][elsewhere])),
                "deviations": rms(deviations),
            }
            rounded = {key: round(value, 3) for key, value in found.items()}
            print(json.dumps({"noise": noise, "film": seed, "pixels": len(predicted), **rounded}))


if __name__ == "__main__":
    main()
