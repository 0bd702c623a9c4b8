"""The ophyd devices keep to the protocols, and time, limits and errors come through."""

from __future__ import annotations

import math
import re
import time

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.protocols import (
    Configurable,
    Movable,
    NamedMovable,
    Pausable,
    Readable,
    Stoppable,
    Triggerable,
)
from bluesky.utils import FailedStatus
from event_model import DocumentNames, sanitize_doc, schema_validators
from ophyd.utils import LimitError

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices import (
    AFMStage,
    Imager,
    ImagerDriver,
    Spectrometer,
    SpectrometerDriver,
    StageDriver,
)
from curiosity_bluesky.errors import InputError


def test_devices_speak_the_protocols_of_bluesky(instrument):
    for device in (instrument.imager, instrument.spectrometer):
        for protocol in (Readable, Triggerable, Configurable, Stoppable, Pausable):
            assert isinstance(device, protocol)
    for axis in (instrument.stage.x, instrument.stage.y):
        for protocol in (Movable, NamedMovable, Readable, Stoppable):
            assert isinstance(axis, protocol)
    for protocol in (StageDriver, ImagerDriver, SpectrometerDriver):
        assert isinstance(instrument.microscope, protocol)


def test_an_ordinary_bluesky_scan_runs_on_them_and_its_documents_are_valid(RE, instrument):
    documents = []

    def collect(name, doc):
        schema_validators[DocumentNames[name]].validate(sanitize_doc(doc))
        documents.append((name, doc))

    stage, film = instrument.stage, instrument.sample
    x, y = film.x[[2, 5, 9]], film.y[[3, 3, 11]]
    RE(bp.list_scan([instrument.spectrometer], stage.x, list(x), stage.y, list(y)), collect)
    events = [doc for name, doc in documents if name == "event"]
    for event, pixel in zip(events, [(3, 2), (3, 5), (11, 9)], strict=True):
        np.testing.assert_array_equal(
            event["data"]["spectrometer_response"], film.spectra["response"][pixel]
        )
    [descriptor] = [doc for name, doc in documents if name == "descriptor"]
    response = descriptor["data_keys"]["spectrometer_response"]
    assert response["dims"] == ["bias"] and response["dtype_numpy"] == "<f4"
    assert descriptor["data_keys"]["stage_x"]["units"] == "um"
    bias = descriptor["configuration"]["spectrometer"]
    np.testing.assert_array_equal(bias["data"]["spectrometer_bias"], film.axis)
    assert bias["data_keys"]["spectrometer_bias"]["units"] == "V"


def test_the_imager_reads_every_channel_with_its_axes(instrument):
    imager, film = instrument.imager, instrument.sample
    imager.trigger().wait(5)
    np.testing.assert_array_equal(
        imager.read()["imager_amplitude"]["value"], film.images["amplitude"]
    )
    assert imager.describe()["imager_amplitude"]["dims"] == ["y", "x"]
    axes = imager.read_configuration()
    np.testing.assert_array_equal(axes["imager_x"]["value"], film.x)
    np.testing.assert_array_equal(axes["imager_y"]["value"], film.y)


def test_a_position_outside_the_soft_limits_is_refused_before_anything_moves(instrument):
    x = instrument.stage.x
    with pytest.raises(LimitError, match="outside the soft limits"):
        x.set(x.high_limit + 0.5)
    assert x.position == 0
    x.set_limits(0.02, 0.1)
    with pytest.raises(LimitError, match="0.02 to 0.1 um"):
        x.set(0.2)
    with pytest.raises(LimitError, match="what the stage reaches"):
        x.set_limits(-1, 0.1)


def test_a_move_takes_its_time_and_can_be_stopped_on_the_way(film):
    # 0.26 um at 5 um/s and a hundredth of real speed: some 5 s.
    stage = simulated_instrument(film, speed=0.01).stage
    status = stage.x.set(stage.x.high_limit)
    time.sleep(0.3)
    stage.x.stop()
    with pytest.raises(Exception, match="stage_x was stopped on its way"):
        status.wait(5)
    assert 0 < stage.x.position < stage.x.high_limit
    stage.y.set(0.0).wait(5)  # the other axis is free


def test_what_the_instrument_raises_fails_the_run_with_its_own_words(RE, instrument):
    # Imager and spectrometer are one tip: it cannot do both.
    class Broken:
        spectrum_channels = {"response": "pm"}
        spectrum_axis = ("bias", "V", np.arange(4.0))
        spectrum_settings = {}

        def acquire(self):
            raise OSError("the lock-in does not answer")

        def abort(self):
            pass

    broken = Spectrometer(Broken(), name="broken")
    with pytest.raises(FailedStatus) as caught:
        RE(bp.count([broken]))
    assert "lock-in does not answer" in str(caught.value.__cause__)


def test_a_pause_breaks_off_a_spectrum_quietly_and_the_next_one_works(film):
    spectrometer = simulated_instrument(film, speed=0.01).spectrometer
    status = spectrometer.trigger()
    spectrometer.pause()
    status.wait(5)
    assert status.success
    spectrometer.driver.clock = type(spectrometer.driver.clock)(math.inf)
    spectrometer.trigger().wait(5)
    assert np.isfinite(spectrometer.read()["spectrometer_response"]["value"]).all()


def test_a_pause_before_the_instrument_got_going_is_not_lost(film):
    instrument = simulated_instrument(film, speed=0.01)
    acquire = instrument.microscope.acquire

    def slowly():
        time.sleep(0.05)  # the driver takes a moment before it claims the tip
        return acquire()

    instrument.microscope.acquire = slowly
    instrument.spectrometer.trigger()
    instrument.spectrometer.pause()
    instrument.microscope.clock = type(instrument.microscope.clock)(math.inf)
    instrument.microscope.move("x", 0.02)  # would be refused during a spectrum


def test_settings_are_configuration_and_scalars_are_what_a_live_table_shows(RE, instrument):
    device = instrument.spectrometer
    assert device.read_configuration()["spectrometer_spectrum_s"]["value"] == 0.5
    assert device.describe_configuration()["spectrometer_spectrum_s"]["units"] == "s"
    assert device.hints["fields"] == ["spectrometer_quality", "spectrometer_area"]
    RE(bps.trigger(device, wait=True))
    assert device.read()["spectrometer_quality"]["value"] == 1.0


class Lab:
    """An instrument in the hands of others: its settings change, its buffers are reused."""

    spectrum_channels = {"response": "pm"}
    image_channels = {"height": "nm"}

    def __init__(self, points: int = 4, dtype: str = "f8") -> None:
        self.spectrum_settings = {"dwell_s": 0.1}
        self.n = 0
        self.dtype = dtype
        self.resize(points)

    def resize(self, points: int) -> None:
        self.spectrum_axis = ("bias", "V", np.linspace(-1, 1, points))
        self.image_axes = (np.linspace(0, 1, points), np.linspace(0, 1, 3))
        self._spectrum = np.empty(points, self.dtype)
        self._image = np.empty((3, points), self.dtype)

    def _filled(self, buffer: np.ndarray) -> np.ndarray:
        self.n += 1
        buffer[:] = self.n
        return buffer

    def acquire(self):
        return {"response": self._filled(self._spectrum)}

    def scan(self):
        return {"height": self._filled(self._image)}

    def abort(self):
        pass


class Declaring(Lab):
    """It says what dtype its arrays have."""

    @property
    def spectrum_dtypes(self):
        return {"response": self.dtype}

    @property
    def image_dtypes(self):
        return {"height": self.dtype}


def on_lab(lab: Lab) -> tuple[Spectrometer, Imager]:
    return Spectrometer(lab, name="spm"), Imager(lab, name="cam")


def run_documents(RE, plan):
    documents = {}
    RE(plan, lambda name, doc: documents.setdefault(name, []).append(doc))
    return documents


def test_a_run_has_the_settings_and_axes_of_the_moment_it_was_staged(RE):
    lab = Lab(4)
    spectrometer, imager = on_lab(lab)
    lab.spectrum_settings = {"dwell_s": 0.2, "waveform": "triangle"}
    lab.resize(6)
    documents = run_documents(RE, bp.count([spectrometer, imager]))
    [descriptor], [event] = documents["descriptor"], documents["event"]
    recorded = descriptor["configuration"]["spm"]["data"]
    assert (recorded["spm_dwell_s"], recorded["spm_waveform"]) == (0.2, "triangle")
    np.testing.assert_array_equal(recorded["spm_bias"], np.linspace(-1, 1, 6))
    np.testing.assert_array_equal(
        descriptor["configuration"]["cam"]["data"]["cam_x"], np.linspace(0, 1, 6)
    )
    assert event["data"]["spm_response"].shape == (6,)
    assert descriptor["data_keys"]["spm_response"]["shape"] == [6]
    assert descriptor["data_keys"]["cam_height"]["shape"] == [3, 6]
    # An axis that the driver writes over afterwards does not change what is recorded.
    lab.spectrum_axis[2][:] = 0
    assert recorded["spm_bias"][0] == -1


def test_an_imager_may_have_settings_too(RE):
    lab = Lab()
    lab.image_settings = {"tip": 1.5, "mode": "contact"}
    lab.image_setting_units = {"tip": "V"}
    imager = Imager(lab, name="cam")
    lab.image_settings = {**lab.image_settings, "tip": -2.0}
    [descriptor] = run_documents(RE, bp.count([imager]))["descriptor"]
    recorded = descriptor["configuration"]["cam"]
    assert (recorded["data"]["cam_tip"], recorded["data"]["cam_mode"]) == (-2.0, "contact")
    assert recorded["data_keys"]["cam_tip"]["units"] == "V"


def test_a_driver_that_reuses_its_arrays_does_not_change_what_was_measured(RE):
    spectrometer, imager = on_lab(Lab())
    documents = run_documents(RE, bp.count([spectrometer], 3))
    values = [event["data"]["spm_response"][0] for event in documents["event"]]
    assert values == [1, 2, 3]
    documents = run_documents(RE, bp.count([imager], 2))
    assert [event["data"]["cam_height"][0, 0] for event in documents["event"]] == [4, 5]


@pytest.mark.parametrize(
    ("lab", "expected"),
    [(Declaring(4, "f4"), "<f4"), (Lab(4, "f4"), "<f8"), (Declaring(4, "i2"), "<i2")],
    ids=["declared", "not declared", "whole numbers"],
)
def test_what_is_described_before_the_first_measurement_is_what_comes(RE, lab, expected):
    for device in on_lab(lab):
        before = device.describe()
        documents = run_documents(RE, bp.count([device]))
        [key] = [key for key, described in before.items() if described["dtype"] == "array"]
        assert before[key]["dtype_numpy"] == expected
        assert before == device.describe()
        assert documents["event"][0]["data"][key].dtype.str == expected


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"response": np.zeros(5)}, r"response of spm has shape \(5,\)"),
        ({"response": np.zeros(4, complex)}, "dtype complex128; expected .* float64"),
        ({}, "measured nothing; expected its channels response"),
        ({"response": np.zeros(4), "noise": np.zeros(4)}, "measured response, noise"),
    ],
)
def test_a_measurement_that_is_not_what_the_driver_said_is_refused(RE, measured, said):
    lab = Lab()
    spectrometer, _ = on_lab(lab)
    lab.acquire = lambda: measured
    with pytest.raises(FailedStatus) as caught:
        RE(bp.count([spectrometer]))
    assert isinstance(caught.value.__cause__, InputError)
    assert re.search(said, str(caught.value.__cause__))


def test_two_things_of_one_name_are_refused():
    lab = Lab()
    lab.spectrum_channels = {"bias": "V"}
    with pytest.raises(InputError, match="spm_bias would be more than one data key"):
        Spectrometer(lab, name="spm")


def test_the_devices_hand_on_how_long_things_take(film):
    slow = simulated_instrument(film, speed=2.0)
    assert slow.imager.seconds == 16 * 0.1 / 2
    assert slow.spectrometer.seconds == 0.5 / 2
    assert slow.stage.x.seconds(-0.2) == slow.stage.y.seconds(0.2) == (0.2 / 5 + 0.02) / 2
    instant = simulated_instrument(film, speed=math.inf)
    assert instant.imager.seconds == instant.spectrometer.seconds == instant.stage.x.seconds(1) == 0


def test_a_driver_need_not_know_how_long_things_take_but_must_not_talk_nonsense():
    lab = Lab()
    spectrometer, imager = on_lab(lab)
    lab.limits, lab.position = lambda axis: (0.0, 1.0), lambda axis: 0.0
    axis = AFMStage(lab, name="table").x
    assert spectrometer.seconds is imager.seconds is axis.seconds(0.5) is None
    lab.spectrum_seconds, lab.scan_seconds, lab.move_seconds = (
        -1,
        math.inf,
        lambda axis, way: "long",
    )
    with pytest.raises(InputError, match="spectrum_seconds is -1"):
        _ = spectrometer.seconds
    with pytest.raises(InputError, match="scan_seconds is inf"):
        _ = imager.seconds
    with pytest.raises(InputError, match="move_seconds is 'long'"):
        axis.seconds(0.5)


def test_settings_are_changed_on_the_driver(RE):
    spectrometer, _ = on_lab(Lab())
    with pytest.raises(InputError, match=r"spm_bias, spm_dwell_s.*change the driver"):
        RE(bps.configure(spectrometer, {"dwell_s": 0.5}))
    before, after = spectrometer.configure({})
    assert before["spm_dwell_s"]["value"] == after["spm_dwell_s"]["value"] == 0.1
