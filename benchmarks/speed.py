"""How long a decision takes, beside what its arithmetic needs, and on large surveys.

``python benchmarks/speed.py --out speed.json``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from curiosity_bluesky.benchmark.arms import parse
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from curiosity_bluesky.learning.nn import architectures
from curiosity_bluesky.learning.nn import layers as nets
from curiosity_bluesky.learning.threads import one_thread
from sim_devices import SyntheticSample

PUBLISHED_SECONDS = 1.9
"""A decision of the published loop: 133 s for 70 of them, as its progress bar says."""

STRATEGIES = (
    "curious",
    "vatsavai2025-latent",
    "vatsavai2025-mcd[passes=10]",
    "vatsavai2025-spec2im",
    "random",
    "grid",
    "sobol",
    "farthest[space=patch]",
    "lcmd",
    "variance",
    "dkl",
)


def decision_seconds(text: str, decisions: int, side: int = 49) -> dict[str, Any]:
    """Time the decisions of one strategy at the size of the authors' data.

    After each decision one pass of an Im2spec encoder over all patches is timed too, so that
    both see the same machine: it is the least that a decision of the published algorithm
    has to compute.

    Parameters
    ----------
    text
        Strategy, ``NAME[PARAMETER=VALUE,...]``.
    decisions
        How many are timed, after 30 seeds.
    side
        Of the survey: 49 gives the authors' 41 x 41 candidates with patches of 9 x 9.

    Returns
    -------
    dict
        Medians in seconds and their ratio.
    """
    sample = SyntheticSample((side, side), points=50)
    name, parameters = parse(text)
    strategy = Strategy.named(
        name, **{"patch_size": 9, "rim": "omit", "budget": 30 + decisions, **parameters}
    )
    explorer = Explorer(Survey(sample.images, sample.x, sample.y), strategy, 0)
    truth = sample.target()
    images = nets.tensor(explorer.patches.images())
    encoder = nets.build(
        lambda: architectures.Im2Spec(images.shape[1], 9, truth.shape[2]), 0
    ).eval()
    seconds, passes = [], []
    while not explorer.should_stop()[0]:
        [decision] = explorer.propose()
        pixel = decision.pixel
        explorer.observe(Observation(pixel, truth[pixel], decision_id=decision.decision_id))
        if explorer.n_observed <= 31:
            continue  # seeds, and the first training
        seconds.append(decision.seconds)
        with one_thread():
            started = time.perf_counter()
            nets.in_batches(encoder.encode, images)
            passes.append(time.perf_counter() - started)
    median, one_pass = float(np.median(seconds)), float(np.median(passes))
    return {
        "strategy": text,
        "candidates": len(explorer.patches),
        "decisions": len(seconds),
        "seconds": median,
        "encoder_pass_seconds": one_pass,
        "encoder_passes": median / one_pass,
        "times_faster_than_published": PUBLISHED_SECONDS / median,
    }


LARGE = ((49, 200), (256, 300), (1024, 300))
"""Candidates down and across, and spectra observed."""


def large_survey(side: int, observed: int, decisions: int = 10) -> dict[str, Any]:
    """Time decisions of ``curious`` with many candidates, and the memory of the process.

    The survey is a smooth random field; a spectrum is a mixture of two shapes, one of which
    the survey shows. All but the seeds are observed at random pixels.

    Parameters
    ----------
    side
        Candidates down and across.
    observed
        Spectra that are known before the first timed decision.
    decisions
        How many are timed, one spectrum after the other.

    Returns
    -------
    dict
        Medians in seconds, and the largest resident memory so far in MiB.
    """
    rng = np.random.default_rng(0)
    shape = (side + 8, side + 8)
    seen, unseen = (gaussian_filter(rng.normal(size=shape), width) for width in (3, 8))
    seen, unseen = seen / seen.std(), unseen / unseen.std()
    axis = np.linspace(0, 2 * np.pi, 64)

    def spectrum(pixel: tuple[int, int]) -> NDArray:
        signal = seen[pixel] * np.sin(axis) + unseen[pixel] * np.cos(2 * axis)
        return signal + 0.1 * rng.normal(size=64)

    strategy = Strategy.named("curious", patch_size=9, rim="omit", budget=observed + decisions + 1)
    explorer = Explorer(Survey({"amplitude": seen}), strategy, 0)
    started = time.perf_counter()
    pixels = [proposal.pixel for proposal in explorer.propose(30)]
    seeding = time.perf_counter() - started
    more = rng.permutation(len(explorer.patches))[: observed - 30]
    for pixel in dict.fromkeys([*pixels, *map(explorer.patches.pixel, more)]):
        explorer.observe(Observation(pixel, spectrum(pixel)))
    explorer.propose()
    seconds = []
    for _ in range(decisions):
        pixel = explorer.decisions[-1].pixel
        explorer.observe(Observation(pixel, spectrum(pixel)))
        seconds.append(explorer.propose()[0].seconds)
    return {
        "candidates": len(explorer.patches),
        "observed": observed,
        "seconds": float(np.median(seconds)),
        "slowest": float(np.max(seconds)),
        "seeding_seconds": seeding,
        "memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Time all strategies, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    parser.add_argument("--decisions", type=int, default=20)
    parser.add_argument("strategies", nargs="*", default=list(STRATEGIES))
    given = parser.parse_args(arguments)
    if given.decisions < 2:
        parser.error(f"--decisions {given.decisions} is given; expected 2 or more: one is left out")
    results = []
    for text in given.strategies:
        results.append(decision_seconds(text, given.decisions))
        print("{strategy:32} {seconds:8.4f} s  {encoder_passes:7.2f} passes".format(**results[-1]))
    large = []
    for side, observed in () if given.strategies != list(STRATEGIES) else LARGE:
        # A process of its own, so that its memory is its own.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            large.append(process.submit(large_survey, side, observed).result())
        print("curious, {candidates:8d} candidates, {observed} observed: {seconds:.3f} s, "
              "{memory_MiB:.0f} MiB".format(**large[-1]))  # fmt: skip
    machine = {
        "date": str(datetime.now(UTC).date()),
        "machine": f"{os.cpu_count()} {platform.machine()} cores, one thread",
        "published_seconds": PUBLISHED_SECONDS,
    }
    found = {**machine, "results": results, "large_surveys": large}
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
