"""Study of the patch size: training and validation loss against its side (Fig. S1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.benchmark.figures import draw_patch_sizes
from curiosity_bluesky.benchmark.trial import Truth, common_area, shared_seeds
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey, withheld_pixels
from curiosity_bluesky.learning.scoring import mean_deviation


def patch_size_study(
    truth: Truth,
    sizes: Sequence[int],
    out: Path,
    *,
    points: int = 100,
    seeds: int = 3,
    withhold: float = 0.2,
    parameters: dict[str, Any] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Learn the same random pixels with patches of several sizes.

    Training loss: over the measured pixels. Validation loss: over the withheld ones. Both are
    mean squared errors divided by the spread of all spectra, over the pixels that have a
    whole patch of the largest size. Pictures and numbers go to ``out``.

    Parameters
    ----------
    truth
        The sample.
    sizes
        Sides of the patches.
    out
        Directory for ``patch-sizes.json`` and ``patch-sizes.png``.
    points, seeds
        Random pixels that are measured, and how often that is repeated.
    withhold
        Share of the pixels that validate.
    parameters
        Of the strategy ``random``; its predictor is ``im2spec`` unless they say ``gp``.
    progress
        Called after each of the seeds x sizes trainings.

    Returns
    -------
    dict
        JSON-ready: the sizes, and for each the mean and the standard deviation over the seeds
        of both losses.

    Raises
    ------
    InputError
        If a size does not fit, or nothing is left to measure or to validate.
    """
    if not sizes or min(seeds, points, *sizes) < 1:
        raise InputError(
            f"sizes {list(sizes)}, {points} points, {seeds} seeds; expected 1 or more of all"
        )
    shape = truth.mask.shape
    withheld = withheld_pixels(shape, withhold)
    area = common_area(shape, max(sizes)) & ~truth.mask
    if not (withheld & area).any():
        raise InputError(f"with --withhold {withhold:g} no pixel is left to validate")
    survey = Survey(truth.channels, truth.x, truth.y, withheld | ~area)
    deviation = mean_deviation(truth.spectra[area])
    training, validation = np.empty((seeds, len(sizes))), np.empty((seeds, len(sizes)))
    given = {"predictor": "im2spec", **(parameters or {})}
    for seed in range(seeds):
        pixels = shared_seeds(survey, points, seed)
        rows, cols = np.array([decision.pixel for decision in pixels]).T
        for k, size in enumerate(sizes):
            strategy = Strategy.named(
                "random", **{**given, "patch_size": size, "n_seeds": points, "budget": points}
            )
            explorer = Explorer(survey, strategy, seed)
            for decision in pixels:
                explorer.observe(Observation(decision.pixel, truth.spectra[decision.pixel]))
            errors = _errors(explorer, truth) / deviation
            training[seed, k] = errors[rows, cols].mean()
            validation[seed, k] = np.nanmean(errors[withheld & area])
            progress()
    out.mkdir(parents=True, exist_ok=True)
    title = f"{truth.name}, {points} random pixels, {seeds} seeds"
    draw_patch_sizes(sizes, training, validation, title, out / "patch-sizes.png")
    result = {
        "sample": truth.name,
        "points": points,
        "seeds": seeds,
        "parameters": given,
        "sizes": list(sizes),
        **_summary("training", training),
        **_summary("validation", validation),
        "best": int(sizes[int(np.argmin(validation.mean(axis=0)))]),
        "picture": str(out / "patch-sizes.png"),
    }
    (out / "patch-sizes.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def _errors(explorer: Explorer, truth: Truth) -> NDArray:
    """Mean squared error of every pixel, ``(rows, cols)``, NaN where a pixel is no candidate."""
    flatten = explorer.patches.flatten
    difference = flatten(explorer.predict().spectra) - flatten(truth.spectra)
    return explorer.patches.unflatten(np.nanmean(difference**2, axis=1))


def _summary(name: str, losses: NDArray) -> dict[str, list[float]]:
    return {
        name: losses.mean(axis=0).tolist(),
        f"{name}_std": losses.std(axis=0).tolist(),
    }
