"""What a decision costs as a run grows: the part of ``scale.py`` about learning.

One explorer is told of more and more random pixels, as a replay of a run would tell it, and
decides a few times at each size. The survey is a smooth random field; a spectrum is a mixture of
two shapes, one of which the survey shows.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy, Survey
from curiosity_bluesky.learning.gp import calibration, kernel, predictor

SIDE = 116
"""Pixels down and across: 112 x 112 whole patches of 5 x 5, 12,544 candidates."""
POINTS = 64


class Film:
    """What is measured.

    Parameters
    ----------
    side
        Pixels down and across.
    noise
        Standard deviation of the noise; the signal's is about 1.
    """

    def __init__(self, side: int = SIDE, noise: float = 0.1) -> None:
        self._rng = np.random.default_rng(0)
        shape, self._noise = (side, side), noise
        seen, unseen = (gaussian_filter(self._rng.normal(size=shape), width) for width in (3, 8))
        self.seen, self._unseen = seen / seen.std(), unseen / unseen.std()
        axis = np.linspace(0, 2 * np.pi, POINTS)
        self._shapes = np.sin(axis), np.cos(2 * axis)

    def truth(self) -> NDArray:
        """Return the spectra everywhere without noise, ``(side, side, points)``."""
        one, two = self._shapes
        return self.seen[:, :, None] * one + self._unseen[:, :, None] * two

    def spectrum(self, pixel: tuple[int, int]) -> NDArray:
        """Measure at a pixel."""
        one, two = self._shapes
        noise = self._noise * self._rng.normal(size=POINTS)
        return self.seen[pixel] * one + self._unseen[pixel] * two + noise


def grown(strategy: str, sizes: list[int], decisions: int, side: int = SIDE) -> None:
    """Print, for each size, what a decision takes, as a line of JSON.

    Seconds are those of the clock and, for a machine that has other things to do, those of the
    processor: learning is held to one thread.
    """
    film = Film(side)
    wanted = {"patch_size": 5, "rim": "omit", "budget": sizes[-1] + decisions * len(sizes) + 1}
    explorer = Explorer(Survey({"height": film.seen}), Strategy.named(strategy, **wanted), 0)
    seeds = [proposal.pixel for proposal in explorer.propose(30)]
    order = np.random.default_rng(1).permutation(len(explorer.patches))
    others = [pixel for pixel in map(explorer.patches.pixel, order) if pixel not in seeds]
    for number, pixel in enumerate(seeds):
        explorer.observe(Observation(pixel, film.spectrum(pixel), decision_id=number))
    for size in sizes:
        while explorer.n_observed < size:
            pixel, number = others.pop(), len(explorer.decisions)
            if any(pixel == known.pixel for known in explorer.decisions[-decisions * 4 :]):
                continue
            explorer.record(Proposal(number, pixel, 0.0, 0.0, "random"))
            explorer.observe(Observation(pixel, film.spectrum(pixel), decision_id=number))
        seconds, searched = [], []
        started = time.process_time()
        explorer.propose()
        replay = time.process_time() - started
        explorer.take_trainings()
        for _ in range(decisions):
            last = explorer.decisions[-1]
            spectrum = film.spectrum(last.pixel)
            explorer.observe(Observation(last.pixel, spectrum, decision_id=last.decision_id))
            started = time.perf_counter(), time.process_time()
            explorer.propose()
            took = time.perf_counter() - started[0], time.process_time() - started[1]
            refitted = any(training.epochs for training in explorer.take_trainings())
            (searched if refitted else seconds).append(took)
        last = explorer.decisions[-1]  # is not measured: the next size has a spectrum for it
        spectrum = film.spectrum(last.pixel)
        explorer.observe(Observation(last.pixel, spectrum, decision_id=last.decision_id))
        found: dict[str, Any] = {
            "strategy": strategy,
            "candidates": len(explorer.patches),
            "observed": size,
            "catching_up_cpu_s": round(replay, 2),
            "decision_s": round(float(np.median(seconds, axis=0)[0]), 3),
            "decision_cpu_s": round(float(np.median(seconds, axis=0)[1]), 3),
            "with_search_cpu_s": [round(cpu, 2) for _, cpu in searched],
            "peak_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        print(json.dumps(found), flush=True)


def apart(ask: Callable[[], Any]) -> tuple[float, float]:
    """Do something in a thread of its own, as a plan decides; return seconds, of clock and CPU."""
    took: list[float] = []

    def run() -> None:
        started = time.perf_counter(), time.thread_time()
        ask()
        took.extend([time.perf_counter() - started[0], time.thread_time() - started[1]])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return took[0], took[1]


def resident() -> float:
    """Return the memory that this process has by now, MiB; NaN elsewhere than on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kib = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return kib[0] / 1024 if kib else float("nan")


def remembered(points: int, side: int = SIDE, refit_every: int = 20, tail: int = 20) -> None:
    """Print what memory a run of ``curious`` takes as it grows, and its longest decisions.

    The explorer is told of random pixels up to each search for hyper-parameters, to which it
    leaps as a replay does; then it decides twice, with the search and without. The last
    decisions are a true run, one point ahead. Each decision is a thread, as in a plan.
    """
    film = Film(side)
    wanted = {"patch_size": 5, "rim": "omit", "budget": points, "refit_every": refit_every}
    evaluations = [0]

    def on_epoch(model: str, epoch: int, epochs: int) -> None:
        evaluations[0] += 1

    survey, strategy = Survey({"height": film.seen}), Strategy.named("curious", **wanted)
    explorer = Explorer(survey, strategy, 0, on_epoch=on_epoch)
    learner: Any = explorer._active.learner
    before = resident()
    order = np.random.default_rng(1).permutation(len(explorer.patches))
    others = iter([explorer.patches.pixel(index) for index in order])
    waiting = explorer.propose(30)
    rows: list[dict[str, Any]] = []

    def measure(proposal: Proposal) -> None:
        spectrum = film.spectrum(proposal.pixel)
        explorer.observe(Observation(proposal.pixel, spectrum, decision_id=proposal.decision_id))

    def decide(lookahead: int = 0) -> list[Proposal]:
        evaluations[0], proposals = 0, []
        n = explorer.n_observed
        clock, cpu = apart(lambda: proposals.extend(explorer.propose(1, lookahead=lookahead)))
        searched = any(t.epochs and t.n_observed == n for t in explorer.take_trainings())
        row = {"n": n, "search": searched, "evaluations": evaluations[0], "s": round(clock, 3)}
        rows.append({**row, "cpu_s": round(cpu, 3), "MiB": round(resident(), 1)})
        print(json.dumps(rows[-1]), flush=True)
        return proposals

    for proposal in waiting:
        measure(proposal)
    waiting = decide()
    while explorer.n_observed < points - tail:
        for proposal in waiting:
            measure(proposal)
        until = min(learner._predictor.next_refit, points - tail)
        taken = {known.pixel for known in explorer.decisions}
        while explorer.n_observed < until:
            if (pixel := next(others)) in taken:
                continue
            proposal = Proposal(len(explorer.decisions), pixel, 0.0, 0.0, "random")
            explorer.record(proposal)
            measure(proposal)
        if until < learner._predictor.next_refit:  # one after the other: no decision takes as long
            apart(explorer.maps)
            explorer.take_trainings()
        measure(decide()[0])
        waiting = decide()
    while explorer.n_observed < points - 1:
        waiting += decide(lookahead=1)
        measure(waiting.pop(0))
    n, memory = np.array([(row["n"], row["MiB"]) for row in rows]).T
    large = n > kernel.LARGE
    found: dict[str, Any] = {"points": points, "candidates": len(explorer.patches)}
    found["MiB_before"], found["MiB_after"] = round(before), round(float(memory[-1]))
    found["peak_MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for name, some in (("few", ~large), ("many", large)):
        if some.sum() > 2:
            slope = float(np.polyfit(n[some], memory[some], 1)[0])
            found[f"bytes_a_spectrum_of_{name}"] = round(slope * 2**20)
            found[f"numbers_a_candidate_and_spectrum_of_{name}"] = round(
                slope * 2**20 / 8 / len(explorer.patches), 2
            )
    for name in ("s", "cpu_s", "evaluations"):
        found[f"most_{name}"] = max(row[name] for row in rows)
    print(json.dumps(found), flush=True)


def compared(n: int, side: int = 80) -> None:
    """Print what it costs that of many spectra a part finds the hyper-parameters.

    The same `n` random pixels are learned with all of them and with `kernel.LARGE`; both
    search three times. Errors are those of all pixels that were not measured, without the
    noise, in units of the variance of the spectra.
    """
    film = Film(side)
    truth = film.truth()
    shown: dict[str, Any] = {"compared": n, "candidates": (side - 4) ** 2}
    maps = {}
    for name, large in (("all", n), ("part", kernel.LARGE)):
        for module in (kernel, predictor, calibration):
            module.LARGE = large
        # Searches with 30, with about half and with about all of them.
        wanted = {"patch_size": 5, "rim": "omit", "refit_every": (n - 31) // 2, "budget": n + 1}
        explorer = Explorer(Survey({"height": film.seen}), Strategy.named("curious", **wanted), 0)
        rng, film = np.random.default_rng(1), Film(side)
        for number, index in enumerate(rng.permutation(len(explorer.patches))[:n]):
            pixel = explorer.patches.pixel(index)
            explorer.record(Proposal(number, pixel, 0.0, 0.0, "random"))
            explorer.observe(Observation(pixel, film.spectrum(pixel), decision_id=number))
        started = time.process_time()
        maps[name] = explorer.maps()
        spent = time.process_time() - started
        new = np.isfinite(maps[name]["acquisition"])
        new[tuple(np.transpose([observation.pixel for observation in explorer.observations]))] = 0
        error = ((explorer.predict().spectra[new] - truth[new]) ** 2).mean() / truth[new].var()
        shown[name] = {"nmse": round(float(error), 6), "cpu_s": round(spent, 1)}
    for key in ("error", "acquisition"):
        one, two = (maps[name][key][new] for name in ("all", "part"))
        shown[f"correlation_of_{key}"] = round(float(np.corrcoef(one, two)[0, 1]), 4)
    best = np.nanargmax(np.where(new, maps["part"]["acquisition"], np.nan))
    exact = np.where(new, maps["all"]["acquisition"], np.nan)
    shown["worth_of_the_choice"] = round(float(exact.ravel()[best] / np.nanmax(exact)), 4)
    print(json.dumps(shown), flush=True)


def main(arguments: list[str]) -> None:
    """Measure in this process; the arguments are strategy, sizes, decisions and the side.

    Or ``compared N``, or ``remembered POINTS [SIDE [REFIT_EVERY]]``.
    """
    if arguments[0] == "compared":
        compared(int(arguments[1]))
        return
    if arguments[0] == "remembered":
        remembered(*map(int, arguments[1:]))
        return
    strategy, sizes, decisions, side = arguments
    grown(strategy, [int(size) for size in sizes.split(",")], int(decisions), int(side))


if __name__ == "__main__":
    main(sys.argv[1:])
