"""AEcroscopy's own code, on a panel in place of BEPyAE, under our devices."""

from __future__ import annotations

import importlib.util
import math
import re
import threading
import time
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from aecroscopy_rig import BEPS, FILM, LINE, PULSE, go, measure, rig
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted
from event_model import DocumentNames, sanitize_doc, schema_validators
from ophyd.utils import LimitError
from support import events, few

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.devices.aecroscopy import (
    BEPSWaveform,
    BEPulse,
    aecroscopy_instrument,
)
from curiosity_bluesky.errors import InputError
from sim_devices import Clock, Faults, SimMicroscope, open_sample
from sim_devices.aecroscopy import SimBEPyAE, com_server

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aecroscopy") is None,
    reason="aecroscopy is not installed: pip install 'curiosity-bluesky[aecroscopy]'",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Twelve points of the plan, and what was left of them."""
    folder, documents = tmp_path_factory.mktemp("run"), []

    def collect(name, doc):
        schema_validators[DocumentNames[name]].validate(sanitize_doc(doc))
        documents.append((name, doc))

    with rig(folder, channels=("topography",)) as rigged:
        plan = curiosity_plan(
            [rigged.spectrometer],
            rigged.stage.x,
            rigged.stage.y,
            rigged.imager,
            num_points=12,
            strategy="random",
            options={"parameters": few("random")},
        )
        RunEngine({})(plan, collect)
        resonance = rigged.panel.resonance(np.arange(14))
    return SimpleNamespace(documents=documents, folder=folder, resonance=resonance)


def test_the_plan_runs_on_aecroscopy_and_measures_the_sample(ran):
    points = events(ran.documents, "primary")
    assert len(points) == 12
    decisions = {d["decision_id"]: d for d in events(ran.documents, "decisions")}
    for point in points:
        decision = decisions[point["decision_id"]]
        row, col = decision["row"], decision["col"]
        assert point["stage_x"] == pytest.approx(FILM.x[col], abs=1e-9)
        assert point["stage_y"] == pytest.approx(FILM.y[row], abs=1e-9)
        loop = point["spectrometer_polarisation"]
        off = np.abs(np.asarray(loop) - FILM.spectra["response"][row, col])
        assert off.max() < 0.1 * np.ptp(FILM.spectra["response"])
        resonance = np.median(point["spectrometer_resonance"])
        assert resonance == pytest.approx(ran.resonance[col], rel=1e-3)
        assert point["spectrometer_quality"] > 0.9
    assert ran.documents[-1][1]["exit_status"] == "success"


def test_the_field_puts_the_electrostatic_part_on_the_branch_recorded_with_it(ran):
    [descriptor] = [d for n, d in ran.documents if n == "descriptor" and d.get("name") == "primary"]
    bias = np.asarray(descriptor["configuration"]["spectrometer"]["data"]["spectrometer_bias"])
    for point in events(ran.documents, "primary"):
        on, off = (np.asarray(point[f"spectrometer_polarisation{e}"]) for e in ("_on", ""))
        slope = np.polyfit(bias, on - off, 1)[0]
        assert slope == pytest.approx(SimBEPyAE.electrostatic, rel=0.2)


def test_the_survey_has_the_images_of_the_sample_the_right_way_round(ran):
    [survey] = events(ran.documents, "survey")
    image = FILM.images["amplitude"]
    found = np.asarray(survey["imager_amplitude"])
    assert np.abs(found - image).max() < 0.2 * np.std(image)
    # None of the other seven ways to lay it would have passed.
    others = [image[::-1], image[:, ::-1], image[::-1, ::-1], image.T, np.rot90(image)]
    assert all(np.abs(found - other).max() > np.std(image) for other in others)
    np.testing.assert_allclose(survey["imager_topography"], image, rtol=1e-6)
    for row in np.asarray(survey["imager_frequency"]):
        np.testing.assert_allclose(row, ran.resonance)
    [axes] = [d for n, d in ran.documents if n == "descriptor" and d.get("name") == "survey"]
    axes = axes["configuration"]["imager"]["data"]
    np.testing.assert_allclose(axes["imager_x"], FILM.x)
    np.testing.assert_allclose(axes["imager_y"], FILM.y)


def test_the_record_says_how_the_loops_were_taken(ran):
    [descriptor] = [d for n, d in ran.documents if n == "descriptor" and d.get("name") == "primary"]
    data = descriptor["configuration"]["spectrometer"]["data"]
    assert data["spectrometer_be_center_hz"] == 335e3
    assert data["spectrometer_beps_amplitude_v"] == 8.0
    assert data["spectrometer_bias_source"] == "BEPyAE"
    assert data["spectrometer_frequency_source"] == "FFT bins of BEPyAE's pulse"


def test_aecroscopy_leaves_its_own_file_of_the_survey(ran):
    h5py = pytest.importorskip("h5py")
    with h5py.File(ran.folder / "BEPFM_0.hf5") as file:
        fits = file["BE Quick Fitting/Quick Fitting/Quick Fitting"]
        np.testing.assert_allclose(fits[..., 1][3], ran.resonance)
        assert file["BE Complex Spectra/Complex Spectra/Complex Spectra"].shape[:2] == (14, 14)


def test_a_dry_run_moves_and_measures_nothing(tmp_path, capsys):
    with rig(tmp_path) as rigged:
        stage, before = rigged.stage, dict(rigged.panel.controls)
        RunEngine({})(
            curiosity_plan(
                *([rigged.spectrometer], stage.x, stage.y, rigged.imager),
                num_points=5,
                dry_run=True,
            )
        )
        assert rigged.panel.controls == before and rigged.microscope.n_spectra == 0
        assert "may go 0 to 2 um" in capsys.readouterr().out


def test_a_pause_in_the_middle_of_a_loop_repeats_it(tmp_path):
    RE, documents, loops = RunEngine({}), [], []
    with rig(tmp_path, speed=8.0, microscope={"speed_um_per_s": 100.0}) as rigged:
        set_control = rigged.panel.set

        def pausing(name, value):
            set_control(name, value)
            if name == BEPS and value[20]:
                loops.append(value)
                if len(loops) == 1:
                    threading.Thread(target=RE.request_pause).start()

        rigged.panel.set = pausing
        plan = curiosity_plan(
            *([rigged.spectrometer], rigged.stage.x, rigged.stage.y, rigged.imager),
            num_points=5,
            strategy="random",
            options={"parameters": few("random")},
        )
        with pytest.raises(RunEngineInterrupted):
            RE(plan, lambda *d: documents.append(d))
        assert not events(documents, "primary")
        RE.resume()
        # BEPyAE has finished the loop that was given up, and begun another one.
        assert len(loops) == rigged.microscope.n_spectra == 6
    points = events(documents, "primary")
    assert len(points) == 5 and documents[-1][1]["exit_status"] == "success"
    for point in points:
        row, col = FILM.pixel(point["stage_x"], point["stage_y"])
        off = np.asarray(point["spectrometer_polarisation"]) - FILM.spectra["response"][row, col]
        assert np.abs(off).max() < 0.1 * np.ptp(FILM.spectra["response"])


@pytest.mark.slow
def test_the_rehearsal_of_the_documentation_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "aecroscopy.md").read_text()
    [script] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(script.replace("num_points=24", "num_points=12"), names)
    assert names["panel"].microscope.n_spectra == 12


def test_both_axes_go_there_in_one_move_of_the_tip(tmp_path):
    with rig(tmp_path) as rigged:
        moves, set_control = [], rigged.panel.set

        def watched(name, value):
            if name == "move_tip_control_cluster" and value[3]:
                moves.append(value)
            set_control(name, value)

        rigged.panel.set = watched
        assert rigged.stage.x.position == 1.0 and rigged.stage.y.position == 0.5
        go(rigged.stage, 1.5, 0.25)
        assert [move[:2] for move in moves] == [(0.5, -0.5)]
        assert rigged.microscope.position("x") == pytest.approx(1.5)
        assert rigged.microscope.position("y") == pytest.approx(0.25)


@pytest.mark.slow
def test_the_plan_lifts_the_tip_by_its_setpoint_and_holds_to_the_largest_bias(tmp_path):
    with rig(tmp_path, setpoints_v=(1.0, -4.0), pixels=7) as rigged:
        told, set_control = [], rigged.panel.set

        def watched(name, value):
            if name == "set_setpoint_control_cluster" and value[1]:
                told.append("down" if value[0] == 1.0 else "up")
            if name == "move_tip_control_cluster" and value[3]:
                told.append("move")
            if name == BEPS and value[20]:
                told.append("loop")
            set_control(name, value)

        plan = partial(
            curiosity_plan,
            *([rigged.spectrometer], rigged.stage.x, rigged.stage.y, rigged.imager),
            num_points=2,
            strategy="random",
            options={"parameters": few("random")},
            tip=rigged.stage.tip,
        )
        with pytest.raises(InputError, match="goes to 8 V, and max_bias allows 7 V"):
            RunEngine({})(plan(safety={"max_bias": 7.0}))
        rigged.panel.set = watched
        RunEngine({})(plan(safety={"max_bias": 8.0}))
        steps = [step for step, _ in groupby(told)]  # told twice, it is up all the same
        assert steps[-9:] == [*["up", "move", "down", "loop"] * 2, "up"]
        assert rigged.panel.controls["set_setpoint_control_cluster"][0] == -4.0


def test_the_tip_does_not_leave_the_scan(tmp_path):
    with rig(tmp_path) as rigged:
        with pytest.raises(LimitError, match="soft limits"):
            rigged.stage.y.set(1.1).wait(5)
        with pytest.raises(InputError, match="outside the scan; expected 0 to 2 um"):
            rigged.stage.driver.move("x", -0.1)
        assert rigged.panel.controls["move_tip_control_cluster"][:2] == (0.0, 0.0)


def test_the_survey_is_taken_at_the_bias_that_was_asked_for(tmp_path):
    with rig(tmp_path, tip_voltage=1.5, pixels=3) as rigged:
        measure(rigged.imager)
        assert rigged.panel.controls[LINE][:2] == (1.5, 3)
        # Without a measured position BEPyAE's last word counts: the end of the last line.
        assert (rigged.stage.x.position, rigged.stage.y.position) == (2.0, 1.0)


def test_an_image_survives_if_aecroscopy_cannot_write_its_file(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    with rig(folder, pixels=3) as rigged:
        for file in folder.iterdir():
            file.unlink()
        rigged.owner.call(
            lambda aebe: setattr(aebe, "_log_file_name", tmp_path / "log"), timeout_s=5
        )
        folder.rmdir()
        data = measure(rigged.imager)
        assert data["imager_frequency"].shape == (3, 3)
        assert np.isfinite(data["imager_amplitude"]).all()
    assert "the scan is complete" in caplog.text


def test_pixels_without_a_fit_do_not_end_the_run(tmp_path, caplog):
    with rig(tmp_path, pixels=3) as rigged:
        get = rigged.panel.get

        def without(name):
            value = get(name)
            if name == "BE_line_scan_indicator_cluster" and value[3]:
                first = (*value[3][0][:1], math.nan, *value[3][0][2:])
                value = (*value[:3], (first, *value[3][1:]), *value[4:])
            return value

        rigged.panel.get = without
        data = measure(rigged.imager)
        expected = rigged.panel.resonance(np.array([0, 6, 13]))
        np.testing.assert_allclose(data["imager_frequency"], [expected[[1, 1, 2]]] * 3)
    assert "frequency has no number at 3 pixels" in caplog.text


@pytest.mark.parametrize("off_field", [True, False])
@pytest.mark.parametrize("cycles", [1, 3])
def test_loops_of_one_and_two_sides_and_any_number_of_cycles(tmp_path, off_field, cycles):
    waveform = BEPSWaveform(8.0, steps_per_cycle=32, cycles=cycles, off_field=off_field)
    with rig(tmp_path, waveform=waveform) as rigged:
        rigged.panel.electrostatic = 0.0
        go(rigged.stage, FILM.x[4], FILM.y[9])
        data = measure(rigged.spectrometer)
        channel = "spectrometer_polarisation" + ("" if off_field else "_on")
        truth = FILM.spectra["response"][9, 4]
        assert np.abs(data[channel] - truth).max() < 0.05 * np.ptp(truth)
        expected = 32 * cycles * (2 if off_field else 1)
        assert data["spectrometer_spectrogram_real"].shape[1] == expected


def test_a_recorded_sample_comes_back_through_it(tmp_path):
    pytest.importorskip("mexpsimu", reason="the recordings come with the extra 'recordings'")
    film = open_sample("PTO_BEPS_1d3um")  # three cycles of 64 steps, up to 12 V
    panel = SimBEPyAE(SimMicroscope(film, Clock(math.inf)), amplifier=10.0)
    with (
        com_server(panel, tmp_path) as connect,
        aecroscopy_instrument(
            connect,
            scan_size_um=film.extent_um,
            pixels=65,
            pulse=PULSE,
            waveform=BEPSWaveform(12.0, steps_per_cycle=64, cycles=3),
            max_bias=12.0,
            folder=tmp_path,
        ) as devices,
    ):
        for row, col in ((50, 10), (7, 44)):
            go(devices.stage, film.x[col], film.y[row])
            found = measure(devices.spectrometer)["spectrometer_polarisation"]
            truth = film.spectra["response"][row, col].reshape(3, 64).mean(axis=0)
            assert np.corrcoef(found, truth)[0, 1] > 0.99
            assert np.abs(found - truth).max() < 0.1 * np.ptp(film.spectra["response"])


def test_a_waveform_that_bepyae_shows_only_with_a_loop_is_computed_until_then(tmp_path):
    with rig(tmp_path, panel={"tells_waveform": False}) as rigged:
        driver = rigged.spectrometer.driver.driver
        assert driver.spectrogram_settings["bias_source"] == "computed from the parameters"
        measure(rigged.spectrometer)  # it agrees


def test_a_waveform_other_than_declared_is_refused_and_the_loop_kept(tmp_path):
    with rig(tmp_path, panel={"tells_waveform": False}) as rigged:
        plain = rigged.panel._waveform
        declared = rigged.spectrometer.axis.get()
        rigged.panel._waveform = lambda: np.roll(plain(), 3)
        with pytest.raises(RuntimeError, match="not the one that was declared"):
            rigged.spectrometer.trigger().wait(30)
        with np.load(tmp_path / "spectrogram-0.npz") as kept:
            assert kept["spectrogram"].shape[0] == 128
        # A second attempt would agree with the first, but not with what was declared.
        with pytest.raises(RuntimeError, match="not the one that was declared"):
            rigged.spectrometer.trigger().wait(30)
        assert rigged.microscope.n_spectra == 1
        driver = rigged.spectrometer.driver
        np.testing.assert_array_equal(driver.spectrum_axis[2], declared)
        # The next run knows it.
        rigged.spectrometer.stage()
        np.testing.assert_allclose(rigged.spectrometer.axis.get(), np.roll(plain(), 3)[:32])
        measure(rigged.spectrometer)
        assert driver.spectrum_settings["bias_source"] == "BEPyAE"


@pytest.mark.slow
def test_no_retry_of_the_plan_records_a_loop_along_an_axis_that_was_not_declared(tmp_path):
    documents, RE = [], RunEngine({})
    with rig(tmp_path, panel={"tells_waveform": False}, pixels=7) as rigged:
        plain = rigged.panel._waveform
        rigged.panel._waveform = lambda: np.roll(plain(), 3)

        def plan():
            return curiosity_plan(
                *([rigged.spectrometer], rigged.stage.x, rigged.stage.y, rigged.imager),
                num_points=2,
                strategy="random",
                options={"parameters": few("random"), "retry_wait": 0, "max_failures": 1},
            )

        with pytest.raises(RunEngineInterrupted):
            RE(plan(), lambda *d: documents.append(d))
        RE.abort()
        assert not events(documents, "primary") and rigged.microscope.n_spectra == 1
        documents.clear()
        RE(plan(), lambda *d: documents.append(d))
    [descriptor] = [d for n, d in documents if n == "descriptor" and d.get("name") == "primary"]
    bias = descriptor["configuration"]["spectrometer"]["data"]["spectrometer_bias"]
    np.testing.assert_allclose(bias, np.roll(plain(), 3)[:32])
    assert len(events(documents, "primary")) == 2


def test_a_panel_changed_by_hand_applies_no_bias(tmp_path):
    with rig(tmp_path) as rigged:
        rigged.panel.set(BEPS, (9.5, *rigged.panel.get(BEPS)[1:]))
        with pytest.raises(InputError, match=r"'amplitude_V_00': 9\.5.*leave the panel alone"):
            rigged.spectrometer.trigger().wait(30)
        assert rigged.microscope.n_spectra == 0


def test_old_numbers_are_not_taken_for_a_new_loop(tmp_path):
    with rig(tmp_path, faults=(faults := Faults())) as rigged:
        measure(rigged.spectrometer)
        faults.next("raises")
        with pytest.raises(RuntimeError, match="the numbers of the loop before"):
            rigged.spectrometer.trigger().wait(30)
        measure(rigged.spectrometer)


def test_a_scan_that_is_given_up_ends_after_the_line_and_the_next_call_waits_for_it(tmp_path):
    pulse = BEPulse(335e3, 100e3, duration_s=20e-3)
    with rig(tmp_path, speed=4.0, pulse=pulse, microscope={"speed_um_per_s": 50.0}) as rigged:
        status = rigged.imager.trigger()
        while not rigged.panel.controls["BE_line_scan_control_cluster"][4]:
            assert not status.done
            time.sleep(0.01)
        rigged.imager.stop()
        with pytest.raises(RuntimeError):
            status.wait(10)
        line = rigged.panel.controls["BE_line_scan_control_cluster"][1]
        measure(rigged.spectrometer)
        assert not rigged.panel.controls["BE_line_scan_control_cluster"][4]
        assert rigged.panel.controls["BE_line_scan_control_cluster"][1] == line < 1.0


def test_a_move_that_is_given_up_is_finished_before_the_next(tmp_path):
    with rig(tmp_path, speed=1.0, microscope={"speed_um_per_s": 2.0}) as rigged:
        status = rigged.stage.x.set(2.0)
        while not rigged.panel.controls["move_tip_control_cluster"][3]:
            time.sleep(0.01)
        rigged.stage.stop()
        with pytest.raises((RuntimeError, FailedStatus)):
            status.wait(10)
        go(rigged.stage, 1.8, 0.5)
        assert rigged.microscope.position("x") == pytest.approx(1.8)


def test_a_lift_waits_for_the_loop_that_was_given_up(tmp_path):
    """Its own time does not run meanwhile: else the run would end with the tip in contact."""
    with rig(tmp_path, speed=1.0, setpoints_v=(1.0, -4.0)) as rigged:
        status = rigged.spectrometer.trigger()
        while not rigged.panel.controls[BEPS][20]:
            assert not status.done
            time.sleep(0.01)
        rigged.spectrometer.stop()
        with pytest.raises(RuntimeError):
            status.wait(10)
        call = rigged.owner.call
        looping = []

        def hurried(work, *, kind=None, timeout_s):
            looping.append(rigged.panel.controls[BEPS][20])
            return call(work, kind=kind, timeout_s=0.3)

        rigged.owner.call = hurried
        rigged.stage.driver._settle_s = 0.0
        rigged.stage.tip.set("up").wait(10)
        assert looping == [True] and not rigged.panel.controls[BEPS][20]
        assert rigged.panel.controls["set_setpoint_control_cluster"][0] == -4.0


def test_what_is_applied_is_told_in_volts(tmp_path):
    waveform = BEPSWaveform(4.0, offset_v=1.0, read_v=-6.0, steps_per_cycle=32)
    with rig(tmp_path, waveform=waveform, tip_voltage=1.5) as rigged:
        applied = {
            key: value["value"]
            for device in (rigged.spectrometer, rigged.imager)
            for key, value in device.read_configuration().items()
            if device.describe_configuration()[key].get("units") == "V"
            and np.ndim(value["value"]) == 0
        }
        assert applied == {
            "spectrometer_be_amplitude_v": 1.0,
            "spectrometer_beps_amplitude_v": 4.0,
            "spectrometer_beps_offset_v": 1.0,
            "spectrometer_beps_read_v": -6.0,
            "imager_tip_voltage": 1.5,
        }
        described = rigged.spectrometer.describe_configuration()
        assert described["spectrometer_be_center_hz"]["units"] == "Hz"
        assert described["spectrometer_beps_delay_s"]["units"] == "s"
        plan = curiosity_plan(
            *([rigged.spectrometer], rigged.stage.x, rigged.stage.y, rigged.imager),
            num_points=2,
            safety={"max_bias": 5.5},
        )
        with pytest.raises(InputError, match="beps_read_v goes to 6 V, and max_bias allows 5.5 V"):
            RunEngine({})(plan)
        with pytest.raises(InputError, match="beps_read_v goes to 6 V.*no bias was applied"):
            rigged.spectrometer.driver.calibrate(max_bias=5.5)
        assert rigged.microscope.n_spectra == 0
        assert math.isfinite(rigged.spectrometer.driver.calibrate(max_bias=6.0))
        assert rigged.microscope.n_spectra == 1
