"""What a device leaves behind when it is broken off in the middle of a measurement or move."""

from __future__ import annotations

import math
import threading

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd.utils import WaitTimeoutError
from support import WAIT, Stubborn, until

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.devices.worker import Worker, WorkerBusy
from sim_devices import Clock, SimMicroscope

WAYS = ["stop", "pause", "unstage"]


@pytest.fixture
def patient(monkeypatch):
    """An instrument that obeys is waited for as long as a busy machine takes."""
    monkeypatch.setattr("curiosity_bluesky.devices.worker.ABORT_SECONDS", WAIT)


def measuring(kind, lab):
    return Spectrometer(lab, name="spm") if kind == "spectrum" else Imager(lab, name="cam")


def ended_well(status, way):
    """Say whether a broken off status is done as it should be."""
    assert status.done
    if way == "stop":
        with pytest.raises(RuntimeError, match="was stopped"):
            status.wait(WAIT)
        return True
    return status.success


# --- measurements --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["spectrum", "scan", "timeout"])
def test_a_measurement_broken_off_leaves_a_free_instrument(patient, film, what, way):
    microscope = SimMicroscope(film, Clock(), line_s=1000.0, spectrum_s=1000.0)
    device = measuring("scan" if what == "scan" else "spectrum", microscope)
    if what == "timeout":
        microscope.clock = Clock(math.inf)
        microscope.faults.next("timeout")
    status = device.trigger()
    until(lambda: microscope._measuring is not None)
    getattr(device, way)()
    assert ended_well(status, way)
    assert (microscope.n_scans, microscope.n_spectra) == (0, 0)
    # At once: nothing measures on, so that the tip may move and measure again.
    microscope.clock = Clock(math.inf)
    microscope.move("x", film.x[3])
    device.trigger().wait(WAIT)
    assert microscope.n_scans + microscope.n_spectra == 1
    assert np.isfinite(next(iter(device.channels.values())).get()).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["spectrum", "scan"])
def test_an_instrument_that_cannot_be_stopped_neither_holds_us_nor_measures_twice(kind, way):
    lab = Stubborn()
    device = measuring(kind, lab)
    status = device.trigger()
    until(lambda: lab.inside)
    getattr(device, way)()
    assert ended_well(status, way)
    assert lab.inside == 1  # it goes on, and we are here
    until(lambda: lab.told)
    with pytest.raises(WorkerBusy, match=f"{device.name}.*was broken off but goes on.*wait for it"):
        device.trigger().wait(WAIT)
    assert device._status is status
    lab.release.set()
    until(lambda: not device._worker.busy)
    device._worker._thread.join(WAIT)
    assert lab.began == 1
    # What came after all belongs to nothing.
    assert np.isnan(next(iter(device.channels.values())).get()).all()
    device.trigger().wait(WAIT)
    assert (lab.began, lab.most) == (2, 1)
    assert np.isfinite(next(iter(device.channels.values())).get()).all()


def test_a_second_trigger_fails_and_the_first_goes_on():
    lab = Stubborn()
    device = measuring("spectrum", lab)
    first = device.trigger()
    until(lambda: lab.inside)
    with pytest.raises(WorkerBusy, match="the call before is under way"):
        device.trigger().wait(WAIT)
    assert not first.done
    lab.release.set()
    first.wait(WAIT)
    assert lab.began == 1 and device.channels["response"].get()[3] == 3


def test_stop_as_a_success():
    lab = Stubborn()
    device = measuring("spectrum", lab)
    status = device.trigger()
    until(lambda: lab.inside)
    device.stop(success=True)
    assert status.success
    lab.release.set()


@pytest.mark.parametrize("way", WAYS)
def test_an_abort_that_does_not_come_back_holds_nobody_and_cannot_hit_the_next(way):
    lab = Stubborn()
    hung, aborted = threading.Event(), []

    def abort():
        hung.wait(WAIT)
        aborted.append(lab.inside)

    lab.abort = abort
    device = measuring("spectrum", lab)
    status = device.trigger()
    until(lambda: lab.inside)
    getattr(device, way)()
    assert ended_well(status, way) and not aborted
    lab.release.set()
    until(device._worker._returned.is_set)
    with pytest.raises(WorkerBusy):  # the abort is still to come
        device.trigger().wait(WAIT)
    hung.set()
    until(lambda: not device._worker.busy)
    device.trigger().wait(WAIT)
    assert aborted == [0]


@pytest.mark.parametrize("way", WAYS)
def test_an_abort_that_raises_is_logged_and_the_status_is_done(way, monkeypatch):
    lab, logged = Stubborn(), []

    def abort():
        raise ConnectionError("no route to the controller")

    lab.abort = abort
    monkeypatch.setattr(
        "curiosity_bluesky.devices.worker.logger.exception", lambda *said: logged.append(said)
    )
    device = measuring("spectrum", lab)
    status = device.trigger()
    until(lambda: lab.inside)
    getattr(device, way)()
    assert ended_well(status, way)
    until(lambda: logged)
    assert len(logged) == 1 and "could not be told to stop" in logged[0][0]
    lab.release.set()


def test_a_device_breaks_off_its_own_measurement_not_another_on_the_same_tip(patient, film):
    microscope = SimMicroscope(film, Clock(), spectrum_s=1000.0)
    imager, spectrometer = Imager(microscope, name="cam"), Spectrometer(microscope, name="spm")
    status = spectrometer.trigger()
    until(lambda: microscope._measuring is not None)
    for way in WAYS:
        getattr(imager, way)()
    assert microscope._measuring is not None and not status.done
    spectrometer.stop()
    assert microscope._measuring is None and status.done


def test_what_ophyd_keeps_for_itself_fails_a_status_all_the_same():
    lab = Stubborn()

    def acquire():
        raise WaitTimeoutError("the signal did not change")

    lab.acquire = acquire
    with pytest.raises(TimeoutError, match="the signal did not change"):
        measuring("spectrum", lab).trigger().wait(WAIT)


def in_the_middle_of_a_timeout(RE, instrument, act):
    """Run one spectrum that hangs, and act once it does."""

    def watch():
        until(lambda: instrument.microscope.faults.happened["timeout"])
        act()

    thread = threading.Thread(target=watch, daemon=True)
    instrument.microscope.faults.next("timeout")
    thread.start()
    names = []
    try:
        RE(bp.count([instrument.spectrometer]), lambda name, _: names.append(name))
    finally:
        thread.join(WAIT)
    return names


def test_a_run_that_hangs_in_a_measurement_can_be_stopped(patient, RE, instrument):
    with pytest.raises(FailedStatus) as caught:
        in_the_middle_of_a_timeout(RE, instrument, instrument.spectrometer.stop)
    assert "spectrometer was stopped" in str(caught.value.__cause__)
    RE(bp.count([instrument.spectrometer]))
    assert instrument.microscope.n_spectra == 1


def test_a_run_that_hangs_in_a_measurement_can_be_paused_and_repeats_it(patient, RE, instrument):
    with pytest.raises(RunEngineInterrupted):
        in_the_middle_of_a_timeout(RE, instrument, RE.request_pause)
    assert instrument.microscope.n_spectra == 0
    RE.resume()
    assert instrument.microscope.n_spectra == 1
    assert instrument.microscope.faults.happened["timeout"] == 1


def test_a_fault_of_the_instrument_fails_the_status_in_its_words(instrument):
    for kind, error, said in [
        ("raises", RuntimeError, "reference unlocked"),
        ("lost", ConnectionError, "connection to the microscope broke"),
    ]:
        instrument.microscope.faults.next(kind)
        with pytest.raises(error, match=said):
            instrument.spectrometer.trigger().wait(WAIT)
    for _ in range(2):  # the rest of what a lost connection costs
        with pytest.raises(ConnectionError):
            instrument.stage.x.set(0.1).wait(WAIT)
    instrument.stage.x.set(0.1).wait(WAIT)
    for kind, quality in [("nan", 0.0), ("flat", 0.0)]:
        instrument.microscope.faults.next(kind)
        instrument.spectrometer.trigger().wait(WAIT)
        assert instrument.spectrometer.read()["spectrometer_quality"]["value"] == quality


# --- moves ---------------------------------------------------------------------------------


def break_off(stage, way):
    if way == "axis":
        stage.x.stop()
    else:
        getattr(stage, way)()


@pytest.mark.parametrize("way", ["axis", *WAYS])
def test_a_move_broken_off_leaves_a_free_stage(patient, film, way):
    # The way takes weeks.
    microscope = SimMicroscope(film, Clock(), speed_um_per_s=1e-7)
    stage = AFMStage(microscope, name="stage")
    status = stage.x.set(stage.x.high_limit)
    until(lambda: microscope._moves)
    break_off(stage, way)
    assert ended_well(status, "stop" if way == "axis" else way)
    assert not stage.x.moving and stage.x.position < stage.x.high_limit
    microscope.clock = Clock(math.inf)
    stage.x.set(film.x[2]).wait(WAIT)
    assert stage.x.position == film.x[2]
    microscope.acquire()  # would be refused during a move


@pytest.mark.parametrize("way", ["axis", *WAYS])
def test_a_stage_that_cannot_be_stopped_neither_holds_us_nor_moves_twice(way):
    lab = Stubborn()
    stage = AFMStage(lab, name="stage")
    status = stage.x.set(3.0)
    until(lambda: lab.inside)
    break_off(stage, way)
    assert ended_well(status, "stop" if way == "axis" else way)
    assert lab.inside == 1 and stage.x.moving
    until(lambda: lab.told)
    with pytest.raises(WorkerBusy, match="stage_x.*was broken off but goes on"):
        stage.x.set(5.0).wait(WAIT)
    assert lab.began == 1 and stage.x.moving
    lab.release.set()
    until(lambda: not (stage.x.moving or stage.x._worker.busy))
    stage.x.set(5.0).wait(WAIT)
    assert (lab.began, lab.most, stage.x.position) == (2, 1, 5.0)


@pytest.mark.parametrize("way", WAYS)
def test_both_axes_are_told_to_stop_before_either_is_waited_for(way, monkeypatch):
    lab, told = Stubborn(), []
    stage = AFMStage(lab, name="stage")
    statuses = [stage.x.set(3.0), stage.y.set(3.0)]
    until(lambda: lab.inside == 2)
    monkeypatch.setattr(
        Worker,
        "wait",
        lambda *_: told.append([axis._worker._broken_off for axis in (stage.x, stage.y)]),
    )
    getattr(stage, way)()
    assert told == [[True, True]] * 2
    assert all(ended_well(status, way) for status in statuses)
    lab.release.set()


def test_a_second_move_of_an_axis_fails_and_the_first_goes_on():
    lab = Stubborn()
    stage = AFMStage(lab, name="stage")
    first = stage.x.set(3.0)
    until(lambda: lab.inside)
    with pytest.raises(WorkerBusy, match="the call before is under way"):
        stage.x.set(5.0).wait(WAIT)
    other = stage.y.set(4.0)  # the other axis is free
    until(lambda: lab.inside == 2)
    assert not first.done
    lab.release.set()
    first.wait(WAIT)
    other.wait(WAIT)
    assert (stage.x.position, stage.y.position) == (3.0, 4.0)


def test_moves_one_after_the_other_do_not_disturb_each_other(film, monkeypatch):
    stage, logged = simulated_instrument(film, speed=math.inf).stage, []
    monkeypatch.setattr(stage.x.log, "exception", lambda *said: logged.append(said))
    moves = []
    for x in film.x[1:4]:
        moves.append(stage.x.set(x))
        moves[-1].wait(WAIT)
    assert all(move.success for move in moves) and not logged


def test_a_move_that_fails_stops_the_axis(patient):
    lab = Stubborn()

    def move(axis, position):
        raise OSError("the controller does not answer")

    lab.move = move
    stage = AFMStage(lab, name="stage")
    with pytest.raises(OSError, match="does not answer"):
        stage.x.set(3.0).wait(WAIT)
    assert lab.told == 1 and not stage.x.moving


def test_a_move_that_takes_longer_than_it_was_given_is_stopped(film):
    microscope = SimMicroscope(film, Clock(), speed_um_per_s=1e-7)
    stage = AFMStage(microscope, name="stage")
    with pytest.raises(TimeoutError):
        stage.x.move(film.x[5], timeout=0.05).wait(WAIT)
    until(lambda: not microscope._moves)


def test_stop_reaches_the_stage_also_without_a_move_of_ours(patient):
    lab = Stubborn()
    AFMStage(lab, name="stage").x.stop()
    assert lab.told == 1


def test_a_stuck_move_is_a_success_whose_read_back_differs(film):
    instrument = simulated_instrument(film, speed=math.inf)
    instrument.microscope.faults.next("stuck")
    status = instrument.stage.x.set(film.x[8])
    status.wait(WAIT)
    read = instrument.stage.x.read()["stage_x"]["value"]
    assert read == instrument.microscope.position("x") < film.x[8]
