"""What is said of a run: before it begins, and of how it ended."""

import dataclasses
import logging

import numpy as np
import pytest
import xarray as xr
from bluesky.utils import RunEngineInterrupted
from plain import SIDE, Bench
from support import events

from curiosity_bluesky.demo import run as demo
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Survey
from curiosity_bluesky.plans.preflight_warnings import image_problems
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.utils.masked import fill_values_in_words
from curiosity_bluesky.utils.run_end import EndKind
from curiosity_bluesky.views.report import decision_in_words, decisions_explored
from sim_devices import Sample, open_sample

# ---- steering before a run


def test_a_run_that_does_not_go_on_is_not_stopped():
    steering = Steering()
    with pytest.raises(InputError, match="no run goes on that could be stopped"):
        steering.stop("good enough")
    with pytest.raises(InputError, match=r"set wants parameters"):
        steering.set()
    assert steering.in_words == ""


def test_what_waits_for_a_run_is_said_at_its_beginning_and_in_a_dry_run(caplog, capsys):
    caplog.set_level(logging.WARNING, "curiosity_bluesky")
    steering, bench = Steering(), Bench()
    steering.add(5, 6)
    steering.budget(4)
    waiting = "add row=5, col=6; set parameters={'budget': 4}"
    bench.run(dry_run=True, steering=steering)
    assert f"done in the next run: {waiting}" in capsys.readouterr().out
    assert steering.in_words == waiting
    bench.run(6, steering=steering)
    assert any(f"done in it: {waiting} " in r.message for r in caplog.records)
    assert bench.stop["reason"] == "budget: 4 of 4 spectra measured"
    caplog.clear()
    bench.documents.clear()
    bench.run(4, steering=steering)
    assert not any("asked for before this run" in r.message for r in caplog.records)


# ---- images that can hardly be meant


def test_a_survey_of_one_value_or_of_fill_values_is_said(caplog):
    caplog.set_level(logging.WARNING, "curiosity_bluesky")
    image = np.random.default_rng(0).normal(size=(9, 9))
    image[2, 2:5] = -9999
    flat = np.full((9, 9), 2.0)
    flat[0, 0] = 7.0
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = True
    constant, filled = image_problems(Survey({"flat": flat, "height": image}, mask=mask))
    assert "'flat' of the survey is 2 everywhere" in constant
    assert "3 of 80 values are -9999" in filled and "mask" in filled
    mask[2, 2:5] = True
    assert len(image_problems(Survey({"height": image}, mask=mask))) == 0

    bench = Bench()
    whole = type(bench.camera)
    bench.camera.__class__ = type(
        "Flat", (whole,), {"values": property(lambda s: {"camera_h": np.ones((SIDE, SIDE))})}
    )
    bench.run()
    assert any("'camera_h' of the survey is 1 everywhere" in r.message for r in caplog.records)


def test_what_only_resembles_a_fill_value_is_none():
    assert fill_values_in_words(np.linspace(-9999, 9999, 50)) == ""
    assert fill_values_in_words(np.full(5, -9999.0)) == ""
    assert fill_values_in_words(np.array([np.nan, 1.0])) == ""


def test_a_file_with_fill_values_or_a_mask_over_everything_says_so(tmp_path, caplog):
    rng = np.random.default_rng(0)
    image, cube = rng.normal(size=(6, 6)), rng.normal(size=(6, 6, 5))
    cube[1, 2] = image[0, 0] = -9999.0
    np.savez(tmp_path / "f.npz", image=image, spectra=cube, axis=np.arange(5.0),
             axis_units="V\x1b[31m", spectrum_units=["p\x1b[2Jm"])  # fmt: skip
    sample = open_sample(tmp_path / "f.npz")
    said = caplog.text
    assert "1 of 36 values are -9999" in said and "5 of 180 values are -9999" in said
    assert sample.axis_units == "V[31m" and list(sample.spectrum_units.values()) == ["p[2Jm"]
    caplog.clear()
    axes = {"axis": np.arange(5.0), "x": np.arange(6.0), "y": np.arange(6.0)}
    Sample("s", {"h": image}, {"d": cube}, mask=np.ones((6, 6), bool), **axes)
    assert "covers every pixel" in caplog.text


# ---- how a run ended


def test_how_long_a_decision_took_says_of_which():
    points = xr.Dataset({"reason": ("point", np.array(["seed", "seed", "curious"]))})
    assert decisions_explored(points) == 1
    assert decisions_explored(points.isel(point=slice(2))) == 0
    assert decision_in_words(0.5, 1) == "0.5 s (median after the seeds)"
    assert "none was made after them" in decision_in_words(0.5, 0)


class Interrupted:
    """A RunEngine that Ctrl-C pauses."""

    def __init__(self, *documents):
        self.documents = documents

    def __call__(self, plan, note):
        for document in self.documents:
            note(*document)
        raise RunEngineInterrupted

    def stop(self):
        return ()


def test_ctrl_c_in_the_demo_is_called_so(monkeypatch):
    class NoSignals:
        def __init__(self, RE):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(demo, "SignalHandler", NoSignals)
    stop = {"exit_status": "success", "reason": "ended by hand: RE.stop()"}
    uid, end = demo._run(Interrupted(("start", {"uid": "a"}), ("stop", stop)), iter(()))
    assert uid == "a" and end.kind is EndKind.STOPPED
    assert end.words == "ended by hand: Ctrl-C"
    paused = {**stop, "reason": "failures: 3 points failed in a row"}
    _, end = demo._run(Interrupted(("start", {"uid": "a"}), ("stop", paused)), iter(()))
    assert end.words == paused["reason"]
    with pytest.raises(InputError, match="Ctrl-C before the run began"):
        demo._run(Interrupted(), iter(()))


def test_the_result_of_a_demo_says_nothing_of_decisions_that_there_were_not():
    fields = {f.name: "" for f in dataclasses.fields(demo.DemoResult)}
    given = {**fields, "flags": [], "seconds": 1.0, "seconds_per_decision": 0.2, "n_explored": 0}
    given |= dict.fromkeys(("test_nmse", "hidden_nmse", "published_score"))
    rows = dict(demo.DemoResult(**given).rows())  # pyright: ignore[reportArgumentType]
    assert "none was made after them" in rows["a decision"]


def test_the_first_survey_that_fails_says_why():
    bench = Bench()

    def trigger():
        from ophyd.status import Status

        status = Status()
        status.set_exception(RuntimeError("scanner dead"))
        return status

    bench.camera.trigger = trigger
    with pytest.raises(Exception, match=r"survey of camera failed \(RuntimeError: scanner dead\)"):
        bench.run()
    assert not events(bench.documents, "survey")
