"""Curiosity experiments in the plans of bluesky-adaptive, on the simulated instrument."""

from __future__ import annotations

import json
import math
import threading

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from support import WAIT, events, few, paused_run

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.adapters.bluesky_adaptive import (
    CuriosityOptimizer,
    FromDocuments,
    FromTiled,
    acquire_suggestions,
    optimization_problem,
    survey_of,
)
from curiosity_bluesky.agent.remote.codec import deserializer, serializer
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import read_stream
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy, Survey
from sim_devices import Faults, SyntheticSample

pytest.importorskip("bluesky_adaptive")
from bluesky_adaptive.plan_stubs import navigate_to_best
from bluesky_adaptive.plans import (
    optimize,
    optimize_in_run,
    sample_suggestions,
)

SAMPLE = SyntheticSample((16, 14), seed=1, points=20)


@pytest.fixture
def film():
    """Spectra as long as Tiled stores as arrays."""
    return SAMPLE


def problem_of(instrument, what=None, num_points=8, name="curious", **kwargs):
    what = what or instrument.survey()
    if isinstance(what, Survey):
        kwargs = {"strategy": name, "num_points": num_points, "parameters": few(name), **kwargs}
    stage = instrument.stage
    return optimization_problem(what, stage.x, stage.y, [instrument.spectrometer], **kwargs)


def run(plan, RE=None, *callbacks):
    documents = []
    (RE or RunEngine({}))(plan, [lambda *document: documents.append(document), *callbacks])
    return documents


def decided(documents):
    """Pixel and reason of each decision of our own plan."""
    return [(d["row"], d["col"], d["reason"]) for d in events(documents, "decisions")]


def suggested(problem):
    return [(*p.pixel, p.reason) for p in problem.optimizer.explorer.decisions]


def check_spectra(problem):
    """Each spectrum is that of the pixel that it counts for, bit for bit."""
    observations = problem.optimizer.explorer.observations
    for observation in observations:
        truth = SAMPLE.spectra["response"][observation.pixel]
        assert np.array_equal(observation.spectrum, truth)
    return len(observations)


# ---- the same experiment


@pytest.mark.quick("random")
@pytest.mark.parametrize("name", ["curious", "random"])
def test_their_plans_measure_what_ours_measures(name):
    ours = run(
        curiosity_plan(
            [(film := simulated_instrument(SAMPLE, speed=math.inf)).spectrometer],
            film.stage.x,
            film.stage.y,
            film.imager,
            num_points=8,
            strategy=name,
            options={"parameters": few(name)},
        )
    )
    for plan, in_run in ((optimize_in_run, True), (optimize, False)):
        problem = problem_of(simulated_instrument(SAMPLE, speed=math.inf), name=name, in_run=in_run)
        documents = run(plan(problem, iterations=20))
        assert suggested(problem) == decided(ours)
        assert check_spectra(problem) == 8
        measured = [
            e for e in events(documents, "primary") if "spectrometer_response" in e
        ]  # and not what `optimize` says about them
        assert [e["spectrometer_response"].tolist() for e in measured] == [
            e["spectrometer_response"].tolist() for e in events(ours, "primary")
        ]
        scores = [e for stream in ("optimization", "primary") for e in events(documents, stream)]
        scores = [e for e in scores if "predicted_error" in e]
        for said, decision in zip(scores, events(ours, "decisions"), strict=False):
            for key in ("row", "col", "reason"):
                assert said[key] == decision[key]
            for key in ("predicted_error", "uncertainty", "acquisition", "n_observed"):
                assert repr(said[key]) == repr(decision[key])


@pytest.mark.parametrize("in_run", [True, False])
def test_several_points_at_once_each_with_its_own_spectrum(instrument, in_run):
    problem = problem_of(instrument, in_run=in_run, num_points=9)
    documents = run((optimize_in_run if in_run else optimize)(problem, iterations=9, n_points=3))
    assert check_spectra(problem) == 9  # and no more: it stops at the budget
    x, y = instrument.stage.x, instrument.stage.y
    route = [
        (e[x.name], e[y.name]) for e in events(documents, "primary") if "spectrometer_response" in e
    ]
    # They are measured along a short way, not in the order in which they were suggested.
    decisions = [(p.x, p.y) for p in problem.optimizer.explorer.decisions]
    assert sorted(route) == sorted(decisions) and route != decisions


# ---- the record


@pytest.mark.slow
def test_one_run_is_in_the_catalogue_with_its_decisions(instrument, tmp_path):
    with connect(tmp_path) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        RE(bp.count([instrument.imager]))
        survey = survey_of(catalog.documents(-1))
        for name, image in SAMPLE.images.items():
            assert np.array_equal(survey.channels[f"imager_{name}"], image)
        assert np.allclose(survey.x, SAMPLE.x) and np.allclose(survey.y, SAMPLE.y)
        problem = problem_of(instrument, survey, num_points=7)
        RE(optimize_in_run(problem, iterations=20))
        stored = catalog[-1]
        assert stored.start["optimizer"] == "CuriosityOptimizer"
        assert stored.metadata["stop"]["exit_status"] == "success"
        spectra, decisions = read(stored), read_stream(stored, "optimization")
        explorer = problem.optimizer.explorer
        assert decisions.sizes["event"] == spectra.sizes["point"] == len(explorer.decisions) == 7
        for k, proposal in enumerate(explorer.decisions):
            event = {key: decisions[key].values[k] for key in decisions}
            assert int(event["suggestion_ids"]) == proposal.decision_id
            assert (event["row"], event["col"]) == proposal.pixel
            assert event["reason"] == proposal.reason
            for key in ("predicted_error", "novelty", "uncertainty", "acquisition", "n_observed"):
                assert np.array_equal(event[key], getattr(proposal, key), equal_nan=True)
            assert np.isfinite(event["prediction_error"]) == (proposal.reason != "seed")
        truth = [SAMPLE.spectra["response"][p.pixel] for p in explorer.decisions]
        assert np.array_equal(spectra.spectrometer_response, np.array(truth))


@pytest.mark.slow
def test_a_run_for_each_iteration_read_back_from_tiled(instrument, tmp_path):
    with connect(tmp_path) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        problem = problem_of(instrument, num_points=6, in_run=False, evaluation=FromTiled(catalog))
        RE(optimize(problem, iterations=None, n_points=3))
        assert check_spectra(problem) == 6
        assert len(catalog) == 3
        [outer] = [run for _, run in catalog.items() if run.start["plan_name"] == "optimize"]
        assert outer.start["evaluation_function"] == "FromTiled"
        # Their plan ends before it writes the iteration that made it end.
        assert read_stream(outer, "primary").sizes["event"] == 3


def test_the_survey_comes_from_a_run_of_ours_as_well(instrument):
    mask = np.zeros(SAMPLE.shape, bool)
    mask[:5] = True
    documents = run(
        curiosity_plan(
            [instrument.spectrometer],
            instrument.stage.x,
            instrument.stage.y,
            instrument.imager,
            num_points=5,
            options={"parameters": few("curious"), "mask": mask},
        )
    )
    survey, explorer = survey_of(documents), CuriosityAgent.from_documents(documents).explorer
    assert np.array_equal(survey.mask, explorer.survey.mask)
    assert np.array_equal(survey.stack, explorer.survey.stack)
    assert list(survey.channels) == list(explorer.survey.channels)
    assert not survey_of(documents, np.zeros(SAMPLE.shape)).mask.any()
    with pytest.raises(InputError, match="no 2-D image was read in this run"):
        survey_of(run(bp.count([instrument.spectrometer])))


# ---- when things go wrong


def test_a_failure_gives_the_pixel_back_and_the_experiment_goes_on(instrument):
    problem = problem_of(instrument)
    instrument.microscope.faults = faults = Faults()
    RE = RunEngine({})
    run(optimize_in_run(problem, iterations=5), RE)
    faults.next("raises")
    with pytest.raises(Exception, match="spectrometer"):
        run(optimize_in_run(problem, iterations=5), RE)
    explorer = problem.optimizer.explorer
    assert explorer.n_observed == 5 and len(explorer.decisions) == 6 and not explorer.pending
    failed = explorer.decisions[-1].pixel
    run(optimize_in_run(problem, iterations=5), RE)
    assert explorer.n_observed == 8 and check_spectra(problem) == 8
    assert explorer.decisions[6].pixel != failed


def test_a_useless_spectrum_is_recorded_and_not_learned_from(instrument):
    problem = problem_of(instrument)
    instrument.microscope.faults = faults = Faults()
    faults.next("flat")
    documents = run(optimize_in_run(problem, iterations=9))
    qualities = [e["quality"] for e in events(documents, "optimization")]
    assert qualities == [0.0] + [1.0] * 8
    assert problem.optimizer.explorer.n_observed == 8


def test_from_a_checkpoint_it_goes_on_as_it_would_have(instrument, tmp_path):
    undisturbed = problem_of(instrument)
    run(optimize_in_run(undisturbed, iterations=20))
    path = tmp_path / "experiment.checkpoint"
    begun = problem_of(instrument, checkpoint_path=path)
    run(optimize_in_run(begun, iterations=5, checkpoint_interval=5))
    del begun
    restored = problem_of(instrument, CuriosityOptimizer.from_checkpoint(path))
    run(optimize_in_run(restored, iterations=20))
    assert suggested(restored) == suggested(undisturbed)
    assert check_spectra(restored) == 8


def test_points_of_ones_own_and_back_to_the_greatest_surprise(instrument):
    problem = problem_of(instrument, num_points=8)
    RE = RunEngine({})
    run(optimize_in_run(problem, iterations=20), RE)
    single = problem_of(instrument, problem.optimizer, in_run=False)
    x, y = instrument.survey().position((7, 5))
    documents = run(sample_suggestions(single, [{"stage_x": x + 0.003, "stage_y": y}]), RE)
    assert suggested(problem)[8] == (7, 5, "manual")
    assert [e["reason"] for e in events(documents, "primary") if "reason" in e] == ["manual"]
    assert check_spectra(problem) == 9
    RE(navigate_to_best([instrument.stage.x, instrument.stage.y], problem.optimizer))
    [(_, best, _)] = problem.optimizer.get_best_points()
    where = instrument.microscope.position("x"), instrument.microscope.position("y")
    assert where == pytest.approx((best["stage_x"], best["stage_y"]))


# ---- the RunEngine stays free


class Training:
    """Holds up the first epoch of a training until it is let go."""

    def __init__(self):
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self, model, epoch, epochs):
        self.began.set()
        assert self.go_on.wait(WAIT)


def trained(instrument, training=lambda *_: None):
    strategy = Strategy.named("vatsavai2025-latent", **few("vatsavai2025-latent", budget=7))
    explorer = Explorer(instrument.survey(), strategy, on_epoch=training)
    return problem_of(instrument, CuriosityOptimizer(explorer))


def test_a_training_does_not_keep_a_pause_waiting(instrument):
    training, RE = Training(), RunEngine({})
    problem = trained(instrument, training)

    def pause():
        assert training.began.wait(WAIT)
        RE.request_pause()

    # The first training comes with the seeds, before there is a plan to pause; so let it be.
    training.go_on.set()
    problem.optimizer.think(4)
    training.began.clear()
    training.go_on.clear()
    thread = threading.Thread(target=pause)
    thread.start()
    with pytest.raises(RunEngineInterrupted):
        RE(optimize_in_run(problem, iterations=20))
    assert RE.state == "paused" and not training.go_on.is_set()  # it trains all the while
    training.go_on.set()
    RE.resume()
    thread.join(WAIT)
    undisturbed = trained(instrument)
    run(optimize_in_run(undisturbed, iterations=20))
    assert suggested(problem) == suggested(undisturbed)
    assert check_spectra(problem) == 7


@pytest.mark.parametrize(
    ("plan", "n_points"),
    [
        (optimize_in_run, 2),
        pytest.param(optimize_in_run, 1, marks=pytest.mark.slow),
        pytest.param(optimize, 2, marks=pytest.mark.slow),
    ],
)
def test_pauses_anywhere_change_nothing(plan, n_points):
    in_run = plan is optimize_in_run

    def fresh():
        return problem_of(simulated_instrument(SAMPLE, speed=math.inf), in_run=in_run)

    undisturbed = fresh()
    run(plan(undisturbed, iterations=20, n_points=n_points))
    for where in range(0, 60, 10):
        problem = fresh()

        def here(n, msg, where=where):
            # Once their run is closed, the RunEngine has nothing to go back to.
            return n % 60 == where and msg.command not in ("save", "close_run")

        RE = RunEngine({})
        assert paused_run(RE, plan(problem, iterations=20, n_points=n_points), here) > 1
        assert suggested(problem) == suggested(undisturbed)
        assert check_spectra(problem) == 8


# ---- the Queue Server


class Worker:
    """The part of the Queue Server's worker that makes a plan of an item of the queue."""

    def __init__(self, **space):
        self.ops = pytest.importorskip("bluesky_queueserver.manager.profile_ops")
        found = self.ops.existing_plans_and_devices_from_nspace(nspace=space)
        plans, devices, self.plans, self.devices = found
        self.allowed = {"allowed_plans": plans, "allowed_devices": devices}

    def plan(self, item):
        sent = json.loads(json.dumps(item.to_dict()))
        allowed, why = self.ops.validate_plan(sent, **self.allowed)
        assert allowed, why
        made = self.ops.prepare_plan(
            {**sent, "user_group": "root"},
            plans_in_nspace=self.plans,
            devices_in_nspace=self.devices,
            **{what: {"root": known} for what, known in self.allowed.items()},
        )
        return made["callable"](*made["args"], **made["kwargs"])


def test_what_the_queue_hands_to_its_worker_is_measured(instrument):
    """An item as their runner makes it, through JSON, the worker, and the documents' wire."""
    api = pytest.importorskip("bluesky_queueserver_api")
    stage = instrument.stage
    devices = {"stage_x": stage.x, "stage_y": stage.y, "spectrometer": instrument.spectrometer}
    worker = Worker(acquire_suggestions=acquire_suggestions, **devices)
    optimizer, evaluation = problem_of(instrument).optimizer, FromDocuments()
    send, take = serializer("token"), deserializer("token")
    RE = RunEngine({})
    for _ in range(3):
        suggestions = optimizer.suggest(3)
        # As QueueserverOptimizationRunner._build_plan has it.
        md = {"blop_correlation_uid": "1234", "blop_suggestions": suggestions}
        item = api.BPlan(
            "acquire_suggestions", suggestions, ["stage_x", "stage_y"], ["spectrometer"], md=md
        )
        documents = run(
            worker.plan(item), RE, lambda name, doc: evaluation.receive(name, take(send(doc)))
        )
        start = documents[0][1]
        assert start["blop_correlation_uid"] == "1234"
        optimizer.ingest(evaluation(uid=start["uid"], suggestions=suggestions))
    for observation in optimizer.explorer.observations:
        assert np.array_equal(observation.spectrum, SAMPLE.spectra["response"][observation.pixel])
    assert optimizer.explorer.n_observed == 9
    assert any(np.isfinite(o["prediction_error"]) for *_, o in optimizer.get_best_points(9))


# ---- what does not go together


def test_names_and_devices_have_to_go_together(instrument):
    optimizer = CuriosityOptimizer(Explorer(instrument.survey(), "random"), ("a", "b"))
    with pytest.raises(InputError, match="suggestions are for a and b; x and y are called stage_x"):
        problem_of(instrument, optimizer)

    class Picky:
        name, learned = "picky", ["picky_loop"]

    class Plain:
        name = "plain"

    stage, detectors = instrument.stage, [Plain(), Picky()]
    with pytest.raises(InputError, match="only some say what is to be learned"):
        optimization_problem(instrument.survey(), stage.x, stage.y, detectors)
    problem = optimization_problem(instrument.survey(), stage.x, stage.y, [Picky()])
    assert problem.evaluation_function.evaluation.channels == ["picky_loop"]
