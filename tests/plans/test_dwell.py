"""A run with a dwell setting: decided, set, recorded, read, and gone on with."""

import math

import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from support import events, grouped

from curiosity_bluesky import CuriosityAgent, curiosity_plan, documents
from curiosity_bluesky.analysis import explain_from_documents
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents.reading import dataset_of
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import Sample
from curiosity_bluesky.learning import Observation, Proposal
from curiosity_bluesky.views.report import dwell_in_words
from sim_devices import SyntheticSample

CYCLES = 3


@pytest.fixture(scope="module")
def film() -> Sample:
    """A film whose loops have three cycles, each with noise of its own."""
    one = SyntheticSample((14, 12), seed=2, points=12, noise=0.0)
    [(key, spectra)] = one.spectra.items()
    full = np.tile(spectra, CYCLES)
    full = full + 0.1 * full.std() * np.random.default_rng(0).normal(size=full.shape)
    return Sample(
        name="cycled", images=one.images, spectra={key: full}, x=one.x, y=one.y,
        axis=np.tile(one.axis, CYCLES), axis_name=one.axis_name, axis_units=one.axis_units,
    )  # fmt: skip


def run(film: Sample, n: int = 16, *, stop_after: int | None = None, **settings):
    """Run the plan; return its documents and the instrument."""
    ins = simulated_instrument(film, speed=math.inf)
    found, RE = [], RunEngine({})

    def collect(name, doc):
        found.append((name, doc))
        if stop_after is not None and len(events(found, "primary")) == stop_after:
            RE.request_pause(defer=False)

    settings = {"parameters": {"patch_size": 5, "n_seeds": 8}, **settings}
    plan = curiosity_plan(
        [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, n, **grouped(**settings)
    )
    RE(plan, collect)
    return found, ins


@pytest.fixture(scope="module")
def automatic(film):
    return run(film)


def key_of(found) -> str:
    return documents.channel_keys(
        next(d for n, d in found if n == "descriptor" and d["name"] == "primary")
    )[0]


def test_what_was_decided_is_set_measured_and_recorded(automatic, film):
    found, _ = automatic
    decided = [event["dwell"] for event in events(found, "decisions")]
    measured = events(found, "primary")
    assert decided[:5] == [3.0] * 5 and decided.count(1.0) > 5
    assert [event["spectrometer_dwell"] for event in measured] == decided
    period = len(film.axis) // CYCLES
    for event, dwell in zip(measured, decided, strict=True):
        finite = np.isfinite(event[key_of(found)])
        assert finite.sum() == dwell * period and finite[: int(dwell) * period].all()
    assert found[-1][1]["exit_status"] == "success"
    assert events(found, "failures") == []


def test_the_record_says_how_long_was_chosen_by(automatic):
    start = automatic[0][0][1]
    parameters = start["curiosity_parameters"]
    assert parameters["dwell"] == "auto"
    assert [setting for setting, _ in parameters["dwell_seconds"]] == [1.0, 2.0, 3.0]


def test_documents_alone_lead_to_the_same_decisions(automatic):
    """Each decision is made again from the documents before it."""
    found, _ = automatic
    translate, n = documents.Translator(), 0
    agent = CuriosityAgent()
    for name, doc in found:
        for item in translate(name, doc):
            if isinstance(item, Proposal) and agent.explorer is not None and n < 12:
                [again] = agent.explorer.propose()
                assert (again.pixel, again.dwell) == (item.pixel, item.dwell)
                n += 1
            if isinstance(item, Observation):
                assert item.dwell in (1.0, 2.0, 3.0)
        agent(name, doc)
    assert n == 12


@pytest.mark.parametrize(("dwell", "expected"), [("full", 3.0), (2, 2.0), (1.0, 1.0)])
def test_a_fixed_setting_holds_for_every_spectrum(film, dwell, expected):
    found, _ = run(film, 6, dwell=dwell)
    assert {event["dwell"] for event in events(found, "decisions")} == {expected}
    assert {event["spectrometer_dwell"] for event in events(found, "primary")} == {expected}


def test_a_strategy_that_cannot_choose_measures_full_spectra(film):
    found, _ = run(film, 4, strategy="random", parameters={"n_seeds": 2, "patch_size": 5})
    assert {event["dwell"] for event in events(found, "decisions")} == {3.0}


def test_a_detector_without_a_setting_is_measured_as_ever():
    found, ins = run(SyntheticSample((14, 12), seed=2, points=12), 4)
    assert "dwell" not in events(found, "decisions")[0]
    assert found[0][1]["curiosity_parameters"]["dwell_seconds"] is None
    assert ins.spectrometer.dwell is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dwell": 7}, "expected one of 1, 2, 3, 'full' or 'auto'"),
        ({"dwell": "long"}, "'auto', 'full' or a setting of the detector"),
        ({"dwell": -1}, "dwell"),
        ({"dwell": "auto", "strategy": "random"}, "does not choose how long"),
        ({"dwell": "auto", "per_second": True}, "weighs time already"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_moves(film, settings, words):
    with pytest.raises(InputError, match=words):
        run(film, 4, **settings)


def test_a_setting_for_a_detector_that_has_none_is_refused():
    with pytest.raises(InputError, match="spectrometer has no dwell setting"):
        run(SyntheticSample((14, 12), seed=2, points=12), 4, dwell=2)


def test_a_setting_that_does_not_take_is_a_failure_of_the_instrument(film):
    ins = simulated_instrument(film, speed=math.inf)
    found = []

    class Stuck(type(ins.spectrometer.dwell)):
        def put(self, value, **kwargs):
            super().put(3.0, **kwargs)

    ins.spectrometer.dwell.__class__ = Stuck
    plan = curiosity_plan(
        [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, 3,
        **grouped(dwell=1, retries=0, attended=False, parameters={"n_seeds": 2, "patch_size": 5}),
    )  # fmt: skip
    RunEngine({})(plan, lambda *document: found.append(document))
    reasons = [event["reason"] for event in events(found, "failures")]
    assert any("spectrometer_dwell was set to 1 and reads 3" in reason for reason in reasons)
    assert not events(found, "primary")


def test_cycles_are_read_apart(automatic, film):
    found, _ = automatic
    descriptor = next(d for n, d in found if n == "descriptor" and d["name"] == "primary")
    measured = events(found, "primary")
    columns = {key: np.array([event[key] for event in measured]) for key in measured[0]}
    configuration = {
        name: {"data": device["data"], "data_keys": device["data_keys"]}
        for name, device in descriptor["configuration"].items()
    }
    keys = descriptor["data_keys"]
    times = np.arange(float(len(measured)))
    points = dataset_of(keys, configuration, columns, times)
    apart = documents.split_cycles(points)
    spectra = apart[key_of(found)]
    period = len(film.axis) // CYCLES
    assert spectra.dims == ("event", "cycle", film.axis_name)
    assert spectra.shape[1:] == (CYCLES, period)
    whole = np.isfinite(spectra).all(film.axis_name)
    np.testing.assert_array_equal(whole.sum("cycle"), columns["spectrometer_dwell"])
    np.testing.assert_array_equal(apart[film.axis_name], film.axis[:period])
    flat = spectra.values.reshape(len(measured), -1)
    np.testing.assert_array_equal(flat, points[key_of(found)].values)
    assert documents.split_cycles(apart).identical(apart)


def test_why_says_how_long_and_that_time_counts(automatic):
    found, _ = automatic
    number = next(e["decision_id"] for e in events(found, "decisions") if e["dwell"] == 1.0)
    assert "with 1 of 3 (the dwell setting)" in str(explain_from_documents(found, number))
    last = explain_from_documents(found, 15)
    assert last.agrees and "comes out the same" in str(last)


def test_a_table_says_what_short_spectra_saved(automatic):
    found, _ = automatic
    start, measured = found[0][1], events(found, "primary")
    dwell = np.array([event["spectrometer_dwell"] for event in measured])
    points = xr.Dataset({"spectrometer_dwell": ("point", dwell, {"units": "cycles"})})
    words = dwell_in_words(points.assign_coords(dwell=("point", dwell)), start)
    short, full = int((dwell == 1).sum()), int((dwell == 3).sum())
    assert f"{short} with 1" in words and f"{full} with 3 cycles" in words
    assert f"{dwell.sum() / (3 * len(dwell)):.0%} of the time" in words  # a visit costs nothing
    assert dwell_in_words(points, start) == "" == dwell_in_words(points, {})


def test_a_spectrometer_of_ophyd_async_measures_the_same(automatic, film):
    pytest.importorskip("ophyd_async")
    from async_support import with_async

    expected, _ = automatic
    ins, RE, found = simulated_instrument(film, speed=math.inf), RunEngine({}), []
    with_async(RE, ins, "stage", "spectrometer")
    plan = curiosity_plan(
        [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, 16,
        **grouped(parameters={"patch_size": 5, "n_seeds": 8}),
    )  # fmt: skip
    RE(plan, lambda *document: found.append(document))
    for one, other in zip(events(expected, "primary"), events(found, "primary"), strict=True):
        assert one["spectrometer_dwell"] == other["spectrometer_dwell"]
        assert one["spectrometer_quality"] == other["spectrometer_quality"]
        np.testing.assert_array_equal(one[key_of(expected)], other[key_of(found)])
    assert [e["dwell"] for e in events(found, "decisions")] == [
        e["dwell"] for e in events(expected, "decisions")
    ]
