"""Each spectrum gets to the suggestion that it was measured for, from documents and from Tiled."""

from __future__ import annotations

import math
import threading

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from support import WAIT

from curiosity_bluesky import connect
from curiosity_bluesky.adapters.bluesky_adaptive import FromDocuments, FromTiled
from curiosity_bluesky.agent.remote.codec import deserializer, serializer
from curiosity_bluesky.errors import InputError

POINTS = 20
"""Of a spectrum: as many as Tiled stores as an array."""
AXIS = np.linspace(-1, 1, POINTS)
SUGGESTIONS = [{"_id": n, "x": 0.1 * n, "y": 0.2, "reason": "seed"} for n in range(3)]


def described(**shapes):
    return {
        key: {"source": "test", "dtype": "array" if shape else "number", "shape": shape}
        | ({"dims": ["bias"]} if shape else {})
        for key, shape in shapes.items()
    }


class Run:
    """Documents of a run with one event for each of some readings, as event-model makes them."""

    def __init__(self, *callbacks, order=None, axis=True, **shapes):
        self.callbacks = callbacks
        start = {} if order is None else {"blop_acquisition_order": order}
        bundle = event_model.compose_run(metadata=start)
        self.uid, self._stop = bundle.start_doc["uid"], bundle.compose_stop
        self.emit("start", bundle.start_doc)
        config = {"bias": AXIS.tolist()} if axis else {}
        descriptor = bundle.compose_descriptor(
            name="primary",
            data_keys=described(**(shapes or {"spectrum": [POINTS], "x": [], "y": []})),
            configuration={
                "meter": {
                    "data": config,
                    "data_keys": described(**{key: [POINTS] for key in config}),
                    "timestamps": dict.fromkeys(config, 0.0),
                }
            },
        )
        self.emit("descriptor", descriptor.descriptor_doc)
        self._event = descriptor.compose_event

    def emit(self, name, doc):
        for callback in self.callbacks:
            callback(name, doc)

    def event(self, **data):
        data = {key: np.asarray(v).tolist() for key, v in data.items()}
        doc = self._event(data=data, timestamps=dict.fromkeys(data, 0.0))
        self.emit("event", doc)
        return doc

    def at(self, number, **more):
        """Measure at a suggestion: its number says what."""
        return self.event(spectrum=number + AXIS, x=0.1 * number + 0.001, y=0.2, **more)

    def stop(self):
        self.emit("stop", self._stop())


def numbers(outcomes):
    """What was found for each: the ids, and the numbers in the spectra."""
    return (
        [outcome["_id"] for outcome in outcomes],
        [round(float(outcome.measurement.spectrum.mean())) for outcome in outcomes],
    )


def test_in_one_run_by_the_ids_in_the_order_of_acquisition():
    evaluation = FromDocuments()
    run = Run(evaluation.receive)
    for batch in (0, 1):  # what was asked for once does not come again
        suggestions = [{**s, "_id": s["_id"] + 3 * batch} for s in SUGGESTIONS]
        order = tuple(suggestions[k]["_id"] for k in (2, 0, 1))
        for number in order:
            run.at(number)
        ids = [s["_id"] for s in suggestions]
        assert numbers(evaluation(order, suggestions)) == (ids, ids)
    with pytest.raises(InputError, match=r"nothing was measured in \(0,\) as far as is known here"):
        evaluation((0,), SUGGESTIONS[:1])


def test_in_a_run_of_its_own_by_the_order_in_the_start_document():
    evaluation = FromDocuments()
    runs = [Run(evaluation.receive, order=[2, 0, 1]) for _ in range(2)]
    for run, offset in zip(runs, (0, 10), strict=True):
        for number in (2, 0, 1):
            run.event(spectrum=number + offset + AXIS, x=0.0, y=0.0)
        run.stop()
    assert numbers(evaluation(runs[1].uid, SUGGESTIONS)) == ([0, 1, 2], [10, 11, 12])
    assert numbers(evaluation(uid=runs[0].uid, suggestions=SUGGESTIONS)) == ([0, 1, 2], [0, 1, 2])


def test_an_event_that_a_pause_repeated_counts_once():
    evaluation = FromDocuments()
    run = Run(evaluation.receive)
    run.at(0)
    event = run.at(1)
    run.emit("event", {**event, "data": {**event["data"], "spectrum": list(7 + AXIS)}})
    run.at(2)
    assert numbers(evaluation((0, 1, 2), SUGGESTIONS)) == ([0, 1, 2], [0, 1, 2])
    # Nor when it comes again after it was asked for.
    run.emit("event", event)
    run.at(5)
    assert numbers(evaluation((5,), [{"_id": 5}])) == ([5], [5])


def test_where_a_plan_writes_other_numbers_of_events_the_position_says_it():
    evaluation = FromDocuments()
    run = Run(evaluation.receive)
    for number in (1, 2, 1, 0):
        run.at(number)
    assert numbers(evaluation(None, SUGGESTIONS)) == ([0, 1, 2], [0, 1, 2])
    run.at(1)
    run.at(1)
    with pytest.raises(InputError, match=r"of 2 events none was measured at the suggestion 0, 2"):
        evaluation(None, SUGGESTIONS)
    # For one suggestion, whatever was measured last.
    for number in (1, 2):
        run.at(number)
    assert numbers(evaluation(None, [{"_id": 8}])) == ([8], [2])


def test_without_positions_and_order_nobody_knows():
    evaluation = FromDocuments()
    run = Run(evaluation.receive, spectrum=[POINTS])
    for _ in range(3):
        run.event(spectrum=AXIS)
    with pytest.raises(InputError, match="3 events were written for 2 suggestions.*no position"):
        evaluation(None, SUGGESTIONS[:2])


def test_pages_and_documents_from_the_wire_are_the_same():
    evaluation = FromDocuments()
    send, take = serializer("token"), deserializer("token")

    def receive(name, doc):
        if name == "event":
            name, doc = "event_page", event_model.pack_event_page(doc)
        evaluation.receive(name, take(send(doc)))

    run = Run(receive, order=[1, 0, 2])
    for number in (1, 0, 2):
        run.at(number)
    run.stop()
    assert numbers(evaluation(run.uid, SUGGESTIONS)) == ([0, 1, 2], [0, 1, 2])


def test_one_that_is_subscribed_too_late_says_so():
    evaluation = FromDocuments()
    with pytest.raises(InputError, match=r"RE.subscribe\(evaluation.receive\)"):
        evaluation("some uid", SUGGESTIONS)


def test_runs_that_nobody_asks_for_are_forgotten():
    evaluation = FromDocuments()
    for _ in range(40):
        run = Run(evaluation.receive)
        run.at(0)
        run.stop()
    assert len(evaluation._runs) <= 16
    assert numbers(evaluation(run.uid, SUGGESTIONS[:1])) == ([0], [0])


# ---- what an outcome holds


def test_channels_axis_quality_and_figures():
    seen = []

    def area(measured):
        seen.append(measured)
        return float(np.ptp(measured.spectrum))

    evaluation = FromDocuments(channels=["b", "a"], figures={"area": area})
    run = Run(evaluation.receive, a=[POINTS], b=[POINTS], c=[POINTS], meter_quality=[])
    run.event(a=AXIS, b=2 * AXIS, c=3 * AXIS, meter_quality=0.7)
    [outcome] = evaluation((0,), [{"_id": 0}])
    assert dict(outcome) == {"_id": 0, "quality": 0.7, "area": 4.0}
    assert np.array_equal(outcome.measurement.spectrum, [*(2 * AXIS), *AXIS])
    assert outcome.measurement.axis is None  # of two channels
    assert seen[0].data["meter_quality"] == 0.7
    # All of one's own accord, and the axis of a single one.
    everything = FromDocuments()
    run = Run(everything.receive)
    run.at(3)
    [outcome] = everything((3,), [{"_id": 3}])
    assert np.array_equal(outcome.measurement.axis, AXIS)


def test_a_spectrum_without_a_number_has_no_figure():
    evaluation = FromDocuments(figures={"area": lambda m: 1 / 0})
    run = Run(evaluation.receive)
    run.event(spectrum=np.full(POINTS, np.nan), x=0.0, y=0.0)
    [outcome] = evaluation((0,), [{"_id": 0}])
    assert outcome["quality"] == 0 and math.isnan(outcome["area"])


def test_without_a_spectrum_it_says_what_was_read():
    for evaluation, said in (
        (FromDocuments(), r"a 1-D array is not among what was read \(x, y\)"),
        (FromDocuments(channels=["z"]), r"z is not among what was read \(x, y\)"),
    ):
        run = Run(evaluation.receive, x=[], y=[])
        run.event(x=0.0, y=0.0)
        with pytest.raises(InputError, match=said):
            evaluation((0,), [{"_id": 0}])


# ---- from Tiled


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("runs")) as opened:
        yield opened


@pytest.mark.slow
def test_from_tiled_it_is_the_same(catalog):
    live, stored = FromDocuments(), FromTiled(catalog)
    run = Run(catalog.writer(), live.receive, order=[2, 0, 1])
    for number in (2, 0, 1):
        run.at(number)
    run.stop()
    for outcome, other in zip(
        live(run.uid, SUGGESTIONS), stored(run.uid, SUGGESTIONS), strict=True
    ):
        assert dict(outcome) == dict(other)
        assert np.array_equal(outcome.measurement.spectrum, other.measurement.spectrum)
        assert np.array_equal(outcome.measurement.axis, other.measurement.axis)
    # A client of Tiled does as well.
    assert numbers(FromTiled(catalog.client)(run.uid, SUGGESTIONS))[1] == [0, 1, 2]


def test_from_tiled_it_waits_for_the_end_of_the_run(catalog):
    stored = FromTiled(catalog)
    run = Run(catalog.writer(), order=[0])
    looks, found = threading.Semaphore(0), []

    class Watched:
        def __getitem__(self, uid):
            looks.release()
            return catalog[uid]

    stored.catalog = Watched()

    def ask():
        found.append(stored(run.uid, SUGGESTIONS[:1]))

    thread = threading.Thread(target=ask)
    thread.start()
    assert looks.acquire(timeout=WAIT)
    run.at(0)
    while looks.acquire(blocking=False):
        pass
    for _ in range(2):  # the first may have begun before
        assert looks.acquire(timeout=WAIT)
    assert not found
    run.stop()
    thread.join(20)
    assert numbers(found[0]) == ([0], [0])


def test_from_tiled_what_is_not_there_is_said(catalog):
    with pytest.raises(InputError, match="is not in the catalogue, or not to its end, after"):
        FromTiled(catalog, timeout=0.0)("0123456789", SUGGESTIONS)
    with pytest.raises(InputError, match=r"\(0, 1\) is no uid of a run: optimize_in_run"):
        FromTiled(catalog)((0, 1), SUGGESTIONS)
    run = Run(catalog.writer())
    run.stop()
    with pytest.raises(InputError, match="holds no event of the stream 'primary'"):
        FromTiled(catalog)(run.uid, SUGGESTIONS)


def test_it_is_a_callback_of_a_run_engine(instrument):
    bp = pytest.importorskip("bluesky.plans")
    evaluation = FromDocuments()
    stage = instrument.stage
    RE = RunEngine({})
    plan = bp.list_scan([instrument.spectrometer], stage.x, [0.1, 0.04], stage.y, [0.1, 0.2])
    [uid] = RE(plan, evaluation.receive)
    positions = [(0.1, 0.1), (0.04, 0.2)]
    suggestions = [{"_id": n, "stage_x": x, "stage_y": y} for n, (x, y) in enumerate(positions)]
    outcomes = evaluation(uid, suggestions[::-1])
    truth = [
        instrument.sample.spectra["response"][instrument.survey().pixel(*p)] for p in positions
    ]
    for outcome, expected in zip(outcomes, truth[::-1], strict=True):
        assert np.allclose(outcome.measurement.spectrum, expected)
