"""What a run writes: every document valid, every decision before its spectrum."""

import json
import math
from importlib.metadata import version

import bluesky.plans as bp
import event_model
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.callbacks.best_effort import BestEffortCallback
from event_model import DocumentNames, schema_validators
from ophyd.sim import SynAxis
from support import events, few, grouped, learning_alike, measurable, normal

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import Translator
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from sim_devices import Sample, SyntheticSample

POINTS = 11


def collect(plan, *callbacks):
    """Run a plan and return its documents."""
    documents = []
    RE = RunEngine({})
    for callback in callbacks:
        RE.subscribe(callback)
    RE(plan, lambda name, doc: documents.append((name, doc)))
    return documents


def plan_on(instrument, name="random", detectors=None, x=None, y=None, **kwargs):
    kwargs = {"num_points": POINTS, **kwargs}
    if "parameters" not in kwargs:
        kwargs["parameters"] = few(name)
    detectors = [instrument.spectrometer] if detectors is None else detectors
    x, y = x or instrument.stage.x, y or instrument.stage.y
    return curiosity_plan(detectors, x, y, instrument.imager, **grouped(strategy=name, **kwargs))


def descriptors(documents):
    return {d["name"]: d for n, d in documents if n == "descriptor"}


@pytest.fixture(scope="module", params=learning_alike(measurable()))
def run(request):
    """Sample and documents of one run of each strategy."""
    sample = SyntheticSample((16, 14), seed=1, points=16)
    plan = plan_on(
        simulated_instrument(sample, speed=math.inf),
        request.param,
        maps_every=3,
        md={"sample": "film", "plan_name": "mine", "operator": "me"},
    )
    return request.param, sample, collect(plan)


def test_every_document_is_valid(run):
    for name, doc in run[2]:
        schema_validators[DocumentNames[name]].validate(event_model.sanitize_doc(doc))


def test_streams(run):
    name, _, documents = run
    expected = {"survey", "decisions", "primary", "predictions"}
    if name == "vatsavai2025-latent":
        expected |= {"learning", "maps"}
        models = [event["model"] for event in events(documents, "learning")]
        assert models == ["autoencoder"] + ["im2spec"] * (POINTS - 3)
        assert len(events(documents, "maps")) == 3  # after 6 and 9 spectra, and at the end
    if name in ("random", "vatsavai2025-latent"):
        assert set(descriptors(documents)) == expected
    assert len(events(documents, "survey")) == 1
    assert documents[-1][1]["exit_status"] == "success"


def test_start_document(run):
    name, sample, documents = run
    kind, start = documents[0]
    strategy = Strategy.named(name, **few(name, budget=POINTS))
    expected = {
        "plan_name": "mine",  # the user's md comes last
        "detectors": ["spectrometer"],
        "motors": ["stage_x", "stage_y"],
        "num_points": POINTS,
        "shape": [POINTS],
        "hints": {"dimensions": [(["stage_x"], "primary"), (["stage_y"], "primary")]},
        "sample": "film",
        "operator": "me",
        "curiosity_strategy": name,
        "curiosity_parameters": strategy.parameters,
        "curiosity_seed": 0,
        "curiosity_version": version("curiosity-bluesky"),
    }
    assert kind == "start"
    assert {key: start[key] for key in expected} == expected
    (width, height), extents = sample.extent_um, start["extents"]
    assert np.allclose(extents, [[0, width], [0, height]])


def test_hints_of_the_user_come_beside_those_of_the_plan(instrument):
    dimensions = [(["stage_x"], "primary"), (["stage_y"], "primary")]
    for hints, expected in (
        ({"gridding": "rectilinear"}, {"dimensions": dimensions, "gridding": "rectilinear"}),
        ({"dimensions": [(["time"], "primary")]}, {"dimensions": [(["time"], "primary")]}),
    ):
        documents = collect(plan_on(instrument, num_points=3, md={"hints": hints}))
        assert documents[0][1]["hints"] == expected


def scans(instrument):
    """Scans that know nothing of decisions, over one pixel; the motors moving together or not."""
    detectors, stage = [instrument.spectrometer], instrument.stage
    row, col = 4, 9
    x, y = float(instrument.sample.x[col]), float(instrument.sample.y[row])
    yield bp.list_scan(detectors, stage.x, [x], stage.y, [y])
    yield bp.list_grid_scan(detectors, stage.x, [x], stage.y, [y])


def test_an_event_without_a_decision_is_at_the_pixel_of_its_position(instrument):
    survey = instrument.survey()
    for plan in scans(instrument):
        translate = Translator(survey)
        items = [item for document in collect(plan) for item in translate(*document)]
        assert [item.pixel for item in items] == [(4, 9)]
    # A motor that reads its setpoint too: the first field is where it is.
    x, y = SynAxis(name="mx"), SynAxis(name="my")
    for axis in (x, y):
        axis.setpoint.kind = "hinted"
    translate = Translator(survey)
    positions = [float(survey.x[9])], [float(survey.y[4])]
    reader = Reader(x, y, lambda x, y: np.array([x, y]))
    plan = bp.list_grid_scan([reader], x, positions[0], y, positions[1])
    items = [item for document in collect(plan) for item in translate(*document)]
    assert [item.pixel for item in items] == [(4, 9)]


def test_every_spectrum_has_its_decision_and_the_reason(run):
    _, _, documents = run
    decisions, points = events(documents, "decisions"), events(documents, "primary")
    assert [d["decision_id"] for d in decisions] == list(range(POINTS))
    assert [p["decision_id"] for p in points] == list(range(POINTS))
    assert [d["reason"] for d in decisions[:4]] == ["seed"] * 4
    assert {d["reason"] for d in decisions[4:]} <= {"curious", "random", "design"}
    order = [set(d["data"]) & {"reason", "stage_x"} for n, d in documents if n == "event"]
    assert [key for keys in order for key in keys] == ["reason", "stage_x"] * POINTS


def test_spectra_are_those_of_the_sample_number_for_number(run):
    _, sample, documents = run
    [survey] = events(documents, "survey")
    assert np.array_equal(survey["imager_amplitude"], sample.images["amplitude"])
    assert not survey["mask"].any()
    for decision, point in zip(
        events(documents, "decisions"), events(documents, "primary"), strict=True
    ):
        row, col = decision["row"], decision["col"]
        measured, truth = point["spectrometer_response"], sample.spectra["response"][row, col]
        assert measured.dtype == truth.dtype == np.float32
        assert np.array_equal(measured, truth)
        assert (point["stage_x"], point["stage_y"]) == (decision["x"], decision["y"])
        assert (decision["x"], decision["y"]) == (sample.x[col], sample.y[row])
        predicted = point["spectrometer_response_predicted"]
        assert np.isfinite(predicted).all() == np.isfinite(decision["acquisition"])


def test_arrays_are_described(run):
    _, sample, documents = run
    described = descriptors(documents)
    for stream in described.values():
        data = events(documents, stream["name"])[0]
        for key, about in stream["data_keys"].items():
            assert np.shape(data[key]) == tuple(about["shape"]), key
            if about["dtype"] == "array":
                assert about["dtype_numpy"] == data[key].dtype.str
                assert key.endswith("_predicted") or len(about["dims"]) == len(about["shape"])
    spectrum = described["primary"]["data_keys"]["spectrometer_response"]
    assert (spectrum["dims"], spectrum["units"]) == (["bias"], "pm")
    configuration = described["primary"]["configuration"]["spectrometer"]["data"]
    assert np.array_equal(configuration["spectrometer_bias"], sample.axis)
    axes = described["survey"]["configuration"]["imager"]["data"]
    assert np.array_equal(axes["imager_x"], sample.x)


def test_json_changes_nothing(run):
    _, _, documents = run
    through = json.loads(json.dumps([(n, event_model.sanitize_doc(d)) for n, d in documents]))
    assert [normal(d) for _, d in through] == [normal(d) for _, d in documents]
    last = -2 if documents[-2][0] == "event" else -1
    agents = [CuriosityAgent.from_documents(docs[:last]) for docs in (documents, through)]
    [first], [second] = [agent.suggest() for agent in agents]
    assert first.pixel == second.pixel
    assert repr(first.predicted_error) == repr(second.predicted_error)
    predictions = [agent.explorer.predict().spectra for agent in agents]
    assert np.array_equal(*predictions, equal_nan=True)


def test_float64_stays_float64():
    film = SyntheticSample((8, 8), points=16)
    cube = film.target() * math.pi
    sample = Sample("fine", film.images, {"loop": cube}, film.axis, film.x, film.y)
    documents = collect(plan_on(simulated_instrument(sample, speed=math.inf), num_points=4))
    data_key = descriptors(documents)["primary"]["data_keys"]["spectrometer_loop"]
    assert data_key["dtype_numpy"] == "<f8"
    for decision, point in zip(
        events(documents, "decisions"), events(documents, "primary"), strict=True
    ):
        assert np.array_equal(point["spectrometer_loop"], cube[decision["row"], decision["col"]])


def test_a_decision_is_written_before_the_tip_moves(instrument):
    log = []
    stage = instrument.stage
    for axis in (stage.x, stage.y):
        axis.subscribe(lambda **_: log.append("moves"), axis.SUB_START, run=False)

    def note(name, doc):
        if name == "event" and "reason" in doc["data"]:
            log.append("decided")
        elif name == "event" and "stage_x" in doc["data"]:
            log.append("measured")

    collect(plan_on(instrument, num_points=5), note)
    assert log == ["decided", "moves", "moves", "measured"] * 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "vatsavai"}, "no strategy named"),
        ({"parameters": {"patchsize": 3}}, "no parameter 'patchsize'"),
        ({"parameters": {"patch_size": 15}}, "patch_size is 15"),
        ({"parameters": {"patch_size": "5"}}, "whole number"),
        ({"num_points": 121}, "only 120 pixels"),
        ({"num_points": 0}, "num_points is 0; expected a whole number, 1 or more"),
        ({"withhold": 1.0}, "withhold is 1.0"),
        ({"withhold": -0.2}, "withhold"),
        ({"withhold": 0.5, "num_points": 100}, "100 points"),
        ({"seed": -1}, "seed"),
        ({"maps_every": -1}, "maps_every"),
        ({"mask": [[True]]}, "mask has shape"),
        ({"mask": np.ones((16, 14))}, "no pixel to measure"),
    ],
)
def test_bad_input_is_refused_before_there_is_a_document(instrument, arguments, said):
    RE, documents = RunEngine({}), []
    name = arguments.pop("name", "random")
    arguments = {"parameters": {"patch_size": 5, "rim": "omit"}, **arguments}
    plan = plan_on(instrument, name, **arguments)
    with pytest.raises(InputError, match=said):
        RE(plan, lambda *document: documents.append(document))
    assert documents == []
    assert RE.state == "idle"


class Reader:
    """A detector that can only be read: where the motors are, as a spectrum or a number."""

    name, parent = "reader", None

    def __init__(self, x, y, make):
        self._axes, self._make = (x, y), make

    def read(self):
        value = self._make(*(axis.position for axis in self._axes))
        return {"reader": {"value": value, "timestamp": 0.0}}

    def describe(self):
        shape = np.shape(self.read()["reader"]["value"])
        dtype = "array" if shape else "number"
        return {"reader": {"source": "test", "dtype": dtype, "shape": list(shape)}}

    def read_configuration(self):
        return {}

    describe_configuration = read_configuration


def test_plain_motors_and_a_detector_without_trigger_do(instrument, run):
    name = run[0]
    x, y = SynAxis(name="mx"), SynAxis(name="my")
    reader = Reader(x, y, lambda x, y: np.array([x, y, x * y]))
    if name == "theory":  # no bias, no loop
        with pytest.raises(InputError, match="along the bias"):
            collect(plan_on(instrument, name, [reader], x, y, maps_every=0))
        return
    parameters = few(name, rim="omit")  # a spectrum of zeros, at the origin, is of no use
    documents = collect(
        plan_on(instrument, name, [reader], x, y, parameters=parameters, maps_every=0)
    )
    for kind, doc in documents:
        schema_validators[DocumentNames[kind]].validate(event_model.sanitize_doc(doc))
    assert documents[0][1]["motors"] == ["mx", "my"]
    points = events(documents, "primary")
    assert len({(p["mx"], p["my"]) for p in points}) == POINTS
    assert all(np.array_equal(p["reader"][:2], [p["mx"], p["my"]]) for p in points)


def test_a_detector_without_a_spectrum_is_refused_in_plain_words(instrument):
    x, y = SynAxis(name="mx"), SynAxis(name="my")
    with pytest.raises(InputError, match="1-D"):
        collect(plan_on(instrument, detectors=[Reader(x, y, lambda x, y: x)], x=x, y=y))


def test_a_spectrum_that_is_all_nan_is_kept_and_another_pixel_takes_its_place(instrument, run):
    name = run[0]
    if name == "theory":
        pytest.skip("the reader of this test has no bias axis, which a loop needs")
    x, y = SynAxis(name="mx"), SynAxis(name="my")
    reads = []

    def spectrum(x, y):
        reads.append((round(x, 6), round(y, 6)))  # SynAxis rounds
        return np.full(3, np.nan) if len(set(reads)) in (3, 7) else np.array([x, y, 1.0])

    reader = [Reader(x, y, spectrum)]
    parameters = few(name, rim="omit")  # the origin was read before
    documents = collect(
        plan_on(instrument, name, reader, x, y, parameters=parameters, retry_wait=0)
    )
    points = events(documents, "primary")
    bad = [p for p in points if np.isnan(p["reader"]).all()]
    assert [p["attempt"] for p in bad] == [0, 1] * 2  # tried again once, as by default
    assert len(points) == POINTS + len(bad)
    failures = events(documents, "failures")
    assert [f["decision_id"] for f in failures] == [p["decision_id"] for p in bad]
    assert [f["given_up"] for f in failures] == [f["barred"] for f in failures] == [0, 1] * 2
    assert "quality" in failures[0]["reason"]
    decisions = [(d["row"], d["col"]) for d in events(documents, "decisions")]
    assert len(decisions) == len(set(decisions)) == POINTS + 2


def test_a_pixel_out_of_a_motors_reach_is_refused_before_anything_is_written():
    instrument = simulated_instrument(SyntheticSample((16, 14), points=16), speed=float("inf"))
    documents = []

    def run(low, high):
        instrument.stage.x.set_limits(low, high)
        parameters = few("random", rim="omit")
        plan = plan_on(instrument, num_points=3, parameters=parameters)
        RunEngine({})(plan, lambda name, doc: documents.append(doc))

    with pytest.raises(InputError, match=r"x = 0.04 um, where stage_x may not go"):
        run(0.05, 0.2)
    assert not documents and instrument.stage.x.position == 0
    # The rim that is left out is never visited and may be out of reach.
    run(0.04, 0.22)
    assert documents


def test_the_best_effort_callback_shows_what_was_measured(capsys, recwarn):
    best_effort = BestEffortCallback()
    best_effort.disable_plots()
    instrument = simulated_instrument(SyntheticSample((16, 14), points=16), speed=math.inf)
    collect(plan_on(instrument, num_points=3), best_effort)
    table = capsys.readouterr().out
    assert "stage_x" in table and "spectrometer_area" in table and "predicted" not in table
    assert not [w for w in recwarn if "LiveTable" in str(w.message)]


def test_the_best_effort_callback_draws_where_was_measured(instrument):
    matplotlib.use("Agg")
    plt.close("all")
    best_effort = BestEffortCallback()
    best_effort.disable_table()
    collect(plan_on(instrument, num_points=3), best_effort)
    [figure] = [plt.figure(number) for number in plt.get_fignums()]
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("stage_x", "stage_y")
    plt.close("all")
