"""Our optimiser and others in the same problem and plan, on the same instrument."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from support import events, few

from curiosity_bluesky.adapters.bluesky_adaptive import (
    CuriosityOptimizer,
    FromDocuments,
    optimization_problem,
)
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.learning import Explorer, Strategy
from sim_devices import SyntheticSample

pytest.importorskip("bluesky_adaptive")
from bluesky_adaptive.plans import optimize, optimize_in_run

SAMPLE = SyntheticSample((16, 14), seed=1, points=20)


def loop_area(measured):
    """Area of the loop, from the spectrum along its axis."""
    return float(abs(np.trapezoid(measured.spectrum, measured.axis)))


def experiment(optimizer_for, plan, in_run, n_points=1):
    """The same for every optimiser: instrument, evaluation, plan. Return what was recorded."""
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    stage = instrument.stage
    problem = optimization_problem(
        optimizer_for(instrument.survey()),
        stage.x,
        stage.y,
        [instrument.spectrometer],
        in_run=in_run,
        evaluation=FromDocuments(figures={"area": loop_area}),
    )
    documents = []
    RunEngine({})(plan(problem, iterations=6, n_points=n_points), lambda *d: documents.append(d))
    stream = "optimization" if in_run else "primary"
    told = [e for e in events(documents, stream) if "area" in e]
    spectra = [e for e in events(documents, "primary") if "spectrometer_response" in e]
    return problem.optimizer, told, spectra


def check(told, spectra, n):
    """Whoever asked: each area is that of the spectrum at the pixel under its position."""
    assert len(told) == len(spectra) == n
    for event in told:
        x, y = event["stage_x"], event["stage_y"]
        pixel = np.abs(SAMPLE.y - y).argmin(), np.abs(SAMPLE.x - x).argmin()
        spectrum = SAMPLE.spectra["response"][pixel]
        assert event["area"] == pytest.approx(abs(np.trapezoid(spectrum, SAMPLE.axis)))


class Largest:
    """The least that is an optimiser of theirs: random points, and the best of them."""

    def __init__(self, survey):
        self.survey, self.rng = survey, np.random.default_rng(0)
        self.points, self.areas = {}, {}

    def suggest(self, num_points=None):
        new = []
        for _ in range(num_points or 1):
            x, y = self.rng.uniform(0, self.survey.x[-1]), self.rng.uniform(0, self.survey.y[-1])
            new.append({"_id": len(self.points), "stage_x": float(x), "stage_y": float(y)})
            self.points[new[-1]["_id"]] = new[-1]
        return new

    def ingest(self, points):
        self.areas |= {point["_id"]: point["area"] for point in points}

    def get_best_points(self):
        best = max(self.areas, key=self.areas.__getitem__)
        return [(best, self.points[best], {"area": self.areas[best]})]


def curious(survey):
    return CuriosityOptimizer(Explorer(survey, Strategy.named("curious", **few("curious"))))


def bayesian(survey):
    """Their own, with Ax: where is the loop's area largest?"""
    ax = pytest.importorskip("ax")
    from bluesky_adaptive.ax.optimizer import AxOptimizer

    bounds = {"stage_x": survey.x, "stage_y": survey.y}
    return AxOptimizer(
        [
            ax.RangeParameterConfig(
                name=name, bounds=(float(axis.min()), float(axis.max())), parameter_type="float"
            )
            for name, axis in bounds.items()
        ],
        "area",
        client_kwargs={"random_seed": 0},
    )


@pytest.mark.parametrize("optimizer_for", [curious, Largest])
@pytest.mark.parametrize(
    ("plan", "in_run", "n_points"), [(optimize_in_run, True, 2), (optimize, False, 1)]
)
def test_only_the_optimiser_differs(optimizer_for, plan, in_run, n_points):
    optimizer, told, spectra = experiment(optimizer_for, plan, in_run, n_points)
    check(told, spectra, 6 * n_points)
    [(_, _, outcome)] = optimizer.get_best_points()
    if optimizer_for is Largest:
        assert outcome["area"] == max(e["area"] for e in told)
    else:
        errors = [e["prediction_error"] for e in told]
        assert outcome["prediction_error"] == np.nanmax(errors)


@pytest.mark.slow
def test_ax_and_curiosity_are_exchangeable():
    for optimizer_for in (bayesian, curious):
        optimizer, told, spectra = experiment(optimizer_for, optimize_in_run, True)
        check(told, spectra, 6)
        if optimizer_for is bayesian:
            [(_, _, outcome)] = optimizer.get_best_points()
            best = outcome["area"]
            best = best[0] if isinstance(best, tuple) else best  # with its error
            assert best == pytest.approx(max(e["area"] for e in told))


@pytest.mark.slow
def test_the_examples_of_the_docs_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ax")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "bluesky-adaptive.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    space: dict = {}
    for example in examples:
        exec(compile(example, "docs/bluesky-adaptive.md", "exec"), space)
    assert len(examples) == 3
    assert space["decisions"].sizes["event"] == space["spectra"].sizes["point"] == 40
    assert "prediction_error" in capsys.readouterr().out
