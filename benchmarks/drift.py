"""How far points land from where they were meant to be when the sample drifts, and with what.

``python benchmarks/drift.py --json drift.json`` takes runs of a simulated hour on samples that
drift by 20 nm/min: left alone, with a re-survey every so many points, and every 10 minutes;
``--quick`` takes fewer. Beside it, how exact the registration is on each sample, and how well
images correlate that show the same surface, and others.

The microscope is on a virtual clock, so that only what it simulates takes time, and the plan
goes by the same clock. There, no device can say how long it takes, so the plan cannot aim at
half the time of a spectrum: that is most of what is left. The last run of each sample is on an
accelerated clock, with the plan on that on the wall.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky import CuriosityAgent, documents
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.registration import MIN_CORRELATION, register
from curiosity_bluesky.plans.steering import Steering
from sim_devices import Clock, Sample, SimMicroscope, SyntheticSample, list_samples, open_sample
from sim_devices.drift import Drift, drifting_image

NM_PER_MIN = 20.0
POINTS, SPECTRUM_S = 60, 55.0
NOISE = 0.1
COURSES: dict[str, dict[str, Any]] = {
    "left alone": {},
    "every 20 points": {"resurvey_every": 20},
    "every 10 points": {"resurvey_every": 10},
    "every 5 points": {"resurvey_every": 5},
    "every 10 minutes": {"resurvey_minutes": 10.0},
    "every 10 points, clock 300 times real time": {"resurvey_every": 10, "speed": 300.0},
}


def misses(sample: Sample, course: dict[str, Any], strategy: str) -> dict[str, Any]:
    """Take a run; return how far its points were from their pixels, in pixels."""
    rate = 0.8e-3 * NM_PER_MIN, -0.6e-3 * NM_PER_MIN
    course = dict(course)
    clock = Clock(course.pop("speed", math.inf))
    now = clock.now if math.isinf(clock.speed) else time.time
    microscope = SimMicroscope(
        sample, clock, spectrum_s=SPECTRUM_S, noise=NOISE, drift_um_per_min=rate
    )
    stage = AFMStage(microscope, name="stage")
    agent = CuriosityAgent(
        Strategy.named(strategy, budget=POINTS, n_seeds=5, patch_size=5, rim="omit"), 0
    )
    streams: dict[str, str] = {}
    events: dict[str, list[Any]] = {documents.DECISIONS: [], documents.DRIFT: []}

    def callback(name: str, doc: Any) -> None:
        if name == "descriptor":
            streams[doc["uid"]] = doc["name"]
        elif name == "event":
            events.setdefault(streams[doc["descriptor"]], []).append(doc["data"])

    plan = explore(
        agent,
        [Spectrometer(microscope, name="spectrometer")],
        stage.x,
        stage.y,
        Imager(microscope, name="imager"),
        options={"maps_every": 0, "retry_wait": 0},
        drift=course,
        clock=now,
        steering=Steering(),
    )
    started = time.perf_counter()
    RunEngine({})(plan, callback)
    seconds = time.perf_counter() - started
    [survey, *_] = (true for true in microscope.under_tip if true.what == "scan")
    spectra = [true for true in microscope.under_tip if true.what == "spectrum"]
    wanted = {decision["decision_id"]: decision for decision in events[documents.DECISIONS]}
    pixel = float(sample.x[1] - sample.x[0])
    missed = []
    for true, measured in zip(spectra, events[documents.PRIMARY], strict=True):
        decision = wanted[measured["decision_id"]]
        x = true.x - (true.drift_x - survey.drift_x) - decision["x"]
        y = true.y - (true.drift_y - survey.drift_y) - decision["y"]
        missed.append(math.hypot(x, y) / pixel)
    return {
        "points": len(missed),
        "median_px": round(float(np.median(missed)), 3),
        "max_px": round(max(missed), 3),
        "resurveys": len(events[documents.DRIFT]),
        "trusted": sum(event["trusted"] for event in events[documents.DRIFT]),
        "minutes": round(microscope.clock.now() / 60, 1),
        "wall_s": round(seconds, 2),
    }


def registered(sample: Sample, noise: float, times: int) -> dict[str, float]:
    """Register a sample with itself after known shifts of up to 45 % of its size."""
    rng = np.random.default_rng(0)
    images = {name: np.asarray(image, float) for name, image in sample.images.items()}
    steps = float(sample.x[1] - sample.x[0]), float(sample.y[1] - sample.y[0])
    errors, residuals, trusted, started = [], [], [], time.perf_counter()
    for _ in range(times):
        share, angle = rng.uniform(0, 0.45), rng.uniform(0, 2 * np.pi)
        drift = share * np.array([np.cos(angle), np.sin(angle)]) * sample.extent_um
        rate = Drift((60 * drift[0], 60 * drift[1]))
        old, new = {}, {}
        for name, image in images.items():
            moved = drifting_image(image, sample.x, sample.y, rate, 1.0, 0.0)
            old[name], new[name] = (
                i + noise * image.std() * rng.standard_normal(image.shape) for i in (image, moved)
            )
        found = register(old, new, steps)
        away = (np.array([found.dx, found.dy]) - drift) / steps
        errors.append(float(np.hypot(*away)))
        residuals.append(found.residual)
        trusted.append(found.trusted)
    believed = [error for error, sure in zip(errors, trusted, strict=True) if sure]
    return {
        "noise": noise,
        "median_px": round(float(np.median(errors)), 3),
        "max_px_trusted": round(max(believed, default=math.nan), 3),
        "least_correlation": round(1 - max(residuals), 3),
        "trusted": round(float(np.mean(trusted)), 3),
        "ms": round(1e3 * (time.perf_counter() - started) / times, 1),
    }


def others(samples: list[Sample]) -> dict[str, Any]:
    """Correlate each sample with all others, in all orientations: none shows the same."""
    found = []
    for one in samples:
        for other in samples:
            a, b = (next(iter(s.images.values())).astype(float) for s in (one, other))
            side = min(*a.shape, *b.shape)
            for turn in range(4):
                for flip in (1, -1):
                    if one is not other:
                        new = np.rot90(b[-side:, -side:], turn)[:, ::flip]
                        found.append(1 - register({"i": a[:side, :side]}, {"i": new}).residual)
    return {
        "pairs": len(found),
        "median": round(float(np.median(found)), 3),
        "p99": round(float(np.quantile(found, 0.99)), 3),
        "max": round(max(found), 3),
        "trusted": sum(value >= MIN_CORRELATION for value in found),
    }


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--strategy", default="random")
    arguments = parser.parse_args()
    samples = [open_sample(info.name) for info in list_samples()]
    film = SyntheticSample((64, 64), seed=1, points=16, extent_um=(3.0, 3.0))
    hours = [film, *(sample for sample in samples if sample.name == "PTO_BEPS_3um")]
    courses = {name: COURSES[name] for name in list(COURSES)[:: 2 if arguments.quick else 1]}
    out: dict[str, Any] = {"about": about(), "nm_per_min": NM_PER_MIN, "hour": [], "register": []}
    for sample in hours:
        width = f"{sample.extent_um[0]:g} um"
        for name, course in courses.items():
            row = misses(sample, course, arguments.strategy)
            out["hour"].append({"sample": sample.name, "width": width, "course": name, **row})
            print(
                f"{sample.name}, {width}, {name}: {row['points']} points in {row['minutes']} min, "
                f"misses median {row['median_px']} px, max {row['max_px']} px; "
                f"{row['trusted']} of {row['resurveys']} re-surveys trusted"
            )
    for sample in samples:
        for noise in (0.0, 0.3, 1.0):
            row = registered(sample, noise, 10 if arguments.quick else 40)
            out["register"].append({"sample": sample.name, **row})
            print(
                f"{sample.name}, noise {noise}: error median {row['median_px']} px, max "
                f"{row['max_px_trusted']} px of the {100 * row['trusted']:.0f} % trusted; least "
                f"correlation {row['least_correlation']}; {row['ms']} ms"
            )
    out["others"] = others(samples)
    print("images of different surfaces:", out["others"])
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
