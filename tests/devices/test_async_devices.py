"""Devices of ophyd-async keep the promises of the ophyd ones."""

from __future__ import annotations

import errno
import itertools
import math
import os
import threading
from pathlib import PurePosixPath, PureWindowsPath

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import h5py
import numpy as np
import pytest
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd.utils import LimitError

pytest.importorskip("ophyd_async")

from async_support import WAIT, awaited, with_async, with_band_excitation
from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
from support import Stubborn, until

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices.async_devices import AsyncAFMStage, AsyncSpectrometer
from curiosity_bluesky.devices.hdf5_imager import HDF5Imager
from curiosity_bluesky.devices.worker import WorkerBusy
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hdf5 import path_of, uri_of
from sim_devices import Clock, SimBandExcitation, SimMicroscope


class WithGain(Stubborn):
    """One that has a setting to be told."""

    spectrum_settings = {"gain": 2.0}


def paths(directory, name="image"):
    return StaticPathProvider(StaticFilenameProvider(name), directory)


async def begun(start):
    return start()


async def ended(status):
    await status


def device(kind, lab, RE, tmp_path):
    with init_devices():
        if kind == "spectrum":
            made = AsyncSpectrometer(lab)
        elif kind == "image":
            made = HDF5Imager(lab, paths(tmp_path))
        else:
            made = AsyncAFMStage(lab)
    return made


def starts(kind, made):
    return (lambda: made.x.set(3.0)) if kind == "move" else made.trigger


@pytest.mark.parametrize("spectra", ["loops", "band excitation"])
def test_the_descriptions_are_those_of_the_ophyd_devices(RE, instrument, tmp_path, spectra):
    if spectra == "band excitation":
        with_band_excitation(instrument)
    classic = {d.name: d for d in (instrument.spectrometer, instrument.imager, instrument.stage.x)}
    made = with_async(RE, instrument, "stage", "spectrometer", "imager", files=tmp_path)
    for ask in ("hints", "learned"):
        twins = made.spectrometer, classic["spectrometer"]
        assert getattr(twins[0], ask) == getattr(twins[1], ask)
    awaited(RE, ended(awaited(RE, begun(made.imager.stage))))
    awaited(RE, ended(awaited(RE, begun(made.imager.trigger))))
    for twin in (made.spectrometer, made.imager, made.stage.x):
        for ask in ("describe", "describe_configuration"):
            expected = getattr(classic[twin.name], ask)()
            found = awaited(RE, getattr(twin, ask)())
            if twin.name == "stage_x":
                expected = {key: expected[key] for key in found}  # a setpoint is not read
            assert list(found) == list(expected)
            for key, about in found.items():
                assert list(about["shape"]) == list(expected[key]["shape"])
                for part in ("dims", "units", "dtype"):
                    assert about.get(part) == expected[key].get(part), (key, part)
                if about["dtype"] == "array":
                    assert about["dtype_numpy"] == expected[key]["dtype_numpy"]


@pytest.mark.parametrize(
    ("kind", "way"),
    # The RunEngine stops motors for a pause, and does not pause them.
    [*itertools.product(["spectrum", "image"], ["stop", "pause"]), ("move", "stop")],
)
def test_what_cannot_be_stopped_neither_holds_us_nor_is_begun_twice(RE, tmp_path, kind, way):
    lab = WithGain()
    made = device(kind, lab, RE, tmp_path)
    status = awaited(RE, begun(starts(kind, made)))
    until(lambda: lab.inside)
    awaited(RE, getattr(made.x if kind == "move" else made, way)())
    if way == "stop":
        with pytest.raises(RuntimeError, match="was stopped"):
            awaited(RE, ended(status))
    else:
        awaited(RE, ended(status))
        assert status.success
    assert lab.inside == 1 and lab.told  # it goes on, and we are here
    with pytest.raises(WorkerBusy, match="broken off but goes on"):
        awaited(RE, ended(awaited(RE, begun(starts(kind, made)))))
    lab.release.set()
    calls = {"spectrum": "_calls", "image": "calls"}.get(kind)
    worker = (getattr(made, calls) if calls else made.x.calls)._worker
    until(lambda: not worker.busy)
    assert lab.began == 1 and not list(tmp_path.iterdir())
    awaited(RE, ended(awaited(RE, begun(starts(kind, made)))))
    assert (lab.began, lab.most) == (2, 1)
    if kind == "spectrum":
        values = awaited(RE, made.read())[f"{made.name}_response"]["value"]
        np.testing.assert_array_equal(values, np.arange(4.0))


@pytest.mark.parametrize("kind", ["spectrum", "image", "move"])
def test_an_instrument_that_obeys_is_free_at_once(RE, film, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("curiosity_bluesky.devices.worker.ABORT_SECONDS", WAIT)
    microscope = SimMicroscope(film, Clock(), line_s=1e3, spectrum_s=1e3, speed_um_per_s=1e-7)
    made = device(kind, microscope, RE, tmp_path)
    start = (lambda: made.x.set(film.x[3])) if kind == "move" else made.trigger
    status = awaited(RE, begun(start))
    until(lambda: microscope._moves or microscope._measuring is not None)
    awaited(RE, (made.x if kind == "move" else made).stop())
    with pytest.raises(RuntimeError, match="was stopped"):
        awaited(RE, ended(status))
    microscope.clock = Clock(math.inf)
    awaited(RE, ended(awaited(RE, begun(start))))
    if kind == "move":
        assert awaited(RE, made.x.locate()) == {"setpoint": film.x[3], "readback": film.x[3]}


def test_limits_are_refused_before_anything_moves(RE, instrument):
    stage = with_async(RE, instrument, "stage").stage
    low, high = stage.x.limits
    for position in (low - 0.01, high + 0.01, math.nan):
        with pytest.raises(LimitError, match="stage_x.*outside the soft limits"):
            awaited(RE, stage.x.check_value(position))
        with pytest.raises(FailedStatus) as caught:
            RE(bps.mv(stage.x, position))
        assert isinstance(caught.value.__cause__, LimitError)
    stage.x.limits = (0.1, 0.2)
    with pytest.raises(LimitError, match=r"0\.1 to 0\.2 um"):
        awaited(RE, stage.x.check_value(0.05))
    RE(bps.mv(stage.x, 0.1))
    assert instrument.microscope.position("x") == 0.1


@pytest.mark.parametrize("kind", ["spectrum", "image", "move"])
def test_what_the_driver_raises_fails_the_status_in_its_words(RE, tmp_path, kind):
    lab = WithGain()
    made = device(kind, lab, RE, tmp_path)

    def broken(*args):
        raise ConnectionError("no route to the controller")

    lab.acquire = lab.scan = lab.move = broken
    with pytest.raises(ConnectionError, match="no route"):
        awaited(RE, ended(awaited(RE, begun(starts(kind, made)))))


def test_a_driver_that_measures_something_else_is_refused(RE, tmp_path):
    lab = WithGain()
    lab.release.set()
    spectrometer = device("spectrum", lab, RE, tmp_path)
    imager = device("image", lab, RE, tmp_path)
    lab.acquire = lambda: {"response": np.arange(5.0)}
    lab.scan = lambda: {"phase": np.ones((2, 3))}
    with pytest.raises(InputError, match=r"shape \(5,\).*expected \(4,\)"):
        awaited(RE, ended(awaited(RE, begun(spectrometer.trigger))))
    with pytest.raises(InputError, match="measured phase; expected its channels height"):
        awaited(RE, ended(awaited(RE, begun(imager.trigger))))
    lab.spectrum_settings = {"gain": "high"}
    with pytest.raises(InputError, match="make the device again"):
        awaited(RE, ended(awaited(RE, begun(spectrometer.stage))))
    lab.spectrum_axis = ("bias", "V", np.arange(5.0))
    lab.image_axes = (np.arange(4.0), np.arange(2.0))
    for made in (spectrometer, imager):
        with pytest.raises(InputError, match="make the device again"):
            awaited(RE, ended(awaited(RE, begun(made.stage))))


def test_band_excitation_measures_the_same_whatever_kind_the_device_is_of(RE, film):
    def measured(*which):
        instrument = with_band_excitation(
            simulated_instrument(film, speed=math.inf), phase_offset=0.6
        )
        spectrometer = with_async(RE, instrument, *which).spectrometer
        found = []
        for offset in (0.6, 0.5):  # asked for each time that it is staged
            spectrometer.driver.phase_offset = offset
            RE(bp.count([spectrometer]), {"event": lambda name, doc: found.append(doc["data"])})
        return found

    for expected, found in zip(measured(), measured("spectrometer"), strict=True):
        assert list(found) == list(expected)
        assert np.isfinite(found["spectrometer_area"])
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)
    assert found["spectrometer_spectrogram_real"].shape == (24, 32)
    assert found["spectrometer_phase_offset"] == 0.5


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("spectrum_arrays", {"picture": (("row",), "")}, "lie along row"),
        ("spectrum_arrays", {"response": (("row",), "")}, "response would be more than one"),
        ("spectrum_array_axes", {"gain": ("row", "", np.arange(3))}, "gain would be more than one"),
        ("learned", ["phase"], "phase is to be learned; expected some of its channels response"),
    ],
)
def test_what_a_driver_has_besides_has_to_fit(RE, member, value, message):
    lab = WithGain()
    setattr(lab, member, value)
    with pytest.raises(InputError, match=message):
        _ = AsyncSpectrometer(lab, "spm").learned


def test_a_device_whose_driver_has_another_spectrogram_is_to_be_made_anew(RE, instrument):
    with_band_excitation(instrument)
    spectrometer = with_async(RE, instrument, "spectrometer").spectrometer
    spectrometer.driver.driver = SimBandExcitation(instrument.microscope, bins=20)
    with pytest.raises(InputError, match="make the device again"):
        awaited(RE, ended(awaited(RE, begun(spectrometer.stage))))


def test_settings_are_those_of_the_driver_when_staged(RE, tmp_path):
    lab = WithGain()
    lab.spectrum_setting_units = {"gain": "mV"}
    spectrometer = device("spectrum", lab, RE, tmp_path)
    lab.spectrum_settings = {"gain": 5.0}
    lab.spectrum_axis = ("bias", "V", np.arange(4.0) / 2)
    awaited(RE, ended(awaited(RE, begun(spectrometer.stage))))
    read = awaited(RE, spectrometer.read_configuration())
    assert read[f"{spectrometer.name}_gain"]["value"] == 5.0
    described = awaited(RE, spectrometer.describe_configuration())
    assert described[f"{spectrometer.name}_gain"]["units"] == "mV"
    np.testing.assert_array_equal(read[f"{spectrometer.name}_bias"]["value"], np.arange(4.0) / 2)


def test_one_name_for_two_things_is_refused(RE):
    lab = WithGain()
    lab.spectrum_settings = {"quality": 1.0}
    with pytest.raises(InputError, match="quality would be more than one data key"):
        AsyncSpectrometer(lab, "spm")


def test_each_image_is_in_a_file_of_its_own_that_is_never_overwritten(RE, instrument, tmp_path):
    imager = with_async(RE, instrument, "imager", files=tmp_path).imager
    for _ in range(2):
        awaited(RE, ended(awaited(RE, begun(imager.trigger))))
    written = list(tmp_path.iterdir())
    assert len(written) == 2
    for path in written:
        with h5py.File(path) as file:
            amplitude = file["entry/amplitude"]
            np.testing.assert_array_equal(amplitude[0], instrument.sample.images["amplitude"])
            assert amplitude.attrs["units"] == "pm" and file["entry/x"].attrs["units"] == "um"
            np.testing.assert_array_equal(file["entry/y"], instrument.sample.y)
    same = HDF5Imager(instrument.microscope, paths(tmp_path, "one"), "imager")
    awaited(RE, ended(awaited(RE, begun(same.trigger))))
    before = (tmp_path / "one.h5").read_bytes()
    with pytest.raises(InputError, match=r"one\.h5.*file names are new each time"):
        awaited(RE, ended(awaited(RE, begun(same.trigger))))
    assert (tmp_path / "one.h5").read_bytes() == before
    nowhere = HDF5Imager(instrument.microscope, paths(tmp_path / "nowhere"), "imager")
    with pytest.raises(InputError, match="nowhere.*directory exists"):
        awaited(RE, ended(awaited(RE, begun(nowhere.trigger))))


def test_an_image_is_forced_to_the_disk_where_only_a_writer_may(
    RE, instrument, tmp_path, monkeypatch
):
    """As on Windows, where AEcroscopy runs."""
    fcntl = pytest.importorskip("fcntl")
    flushed = []

    def fsync(number):
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flushed.append(number)

    monkeypatch.setattr(os, "fsync", fsync)
    imager = with_async(RE, instrument, "imager", files=tmp_path).imager
    awaited(RE, ended(awaited(RE, begun(imager.trigger))))
    assert len(flushed) == len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/data/a b#1.h5"), "file://localhost/data/a%20b%231.h5"),
        (PureWindowsPath(r"C:\data\a b;1.h5"), "file://localhost/C:/data/a%20b%3B1.h5"),
        (PureWindowsPath(r"\\lab\images\a.h5"), "file://lab/images/a.h5"),
    ],
)
def test_a_file_is_found_under_the_path_that_it_was_written_to(path, uri):
    assert uri_of(path) == uri
    windows = isinstance(path, PureWindowsPath)
    assert type(path)(path_of(uri, windows=windows)) == path
    assert type(path)(path_of(path.as_uri(), windows=windows)) == path


def in_the_middle_of_a_timeout(RE, instrument, act):
    """Run one spectrum that hangs, and act once it does."""

    def watch():
        until(lambda: instrument.microscope.faults.happened["timeout"])
        act()

    thread = threading.Thread(target=watch, daemon=True)
    instrument.microscope.faults.next("timeout")
    thread.start()
    try:
        RE(bp.count([instrument.spectrometer]))
    finally:
        thread.join(WAIT)


def test_a_run_that_hangs_in_a_spectrum_can_be_stopped(RE, instrument):
    with_async(RE, instrument, "spectrometer")
    with pytest.raises(FailedStatus) as caught:
        in_the_middle_of_a_timeout(
            RE, instrument, lambda: awaited(RE, instrument.spectrometer.stop())
        )
    assert "spectrometer was stopped" in str(caught.value.__cause__)
    RE(bp.count([instrument.spectrometer]))
    assert instrument.microscope.n_spectra == 1


def test_a_run_that_hangs_in_a_spectrum_can_be_paused_and_repeats_it(RE, instrument):
    with_async(RE, instrument, "spectrometer")
    with pytest.raises(RunEngineInterrupted):
        in_the_middle_of_a_timeout(RE, instrument, RE.request_pause)
    assert instrument.microscope.n_spectra == 0
    RE.resume()
    assert instrument.microscope.n_spectra == 1
    assert instrument.microscope.faults.happened["timeout"] == 1
