"""What devices say of themselves: what cannot be is refused before anything moves."""

import logging

import numpy as np
import pytest
from plain import Bench
from support import events

from curiosity_bluesky.errors import InputError


def units(bench, x="um", y="um", axes=("um", "um")):
    """Let the devices of a bench name units."""

    def named(ask, of):
        def answer():
            return {key: {**about, "units": of.get(key)} for key, about in ask().items()}

        return answer

    for motor, unit in ((bench.x, x), (bench.y, y)):
        motor.describe = named(motor.describe, {motor.name: unit})
    ask = bench.camera.describe_configuration
    bench.camera.describe_configuration = named(
        ask, dict(zip(("camera_x", "camera_y"), axes, strict=True))
    )
    return bench


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": "mm", "y": "mm"}, "the motor mx is in mm.* is 1000 um"),
        ({"y": "nm"}, "the motor my is in nm"),
        ({"x": "pm"}, "mx is in pm"),
        ({"x": "Angstroms"}, "mx is in Angstroms"),
        ({"x": " Millimetres "}, "mx is in  Millimetres"),
        ({"x": "V"}, "mx is in V and the motor my is in um; expected one unit"),
        ({"x": "V", "y": "mV"}, "expected one unit, um"),
        ({"axes": ("nm", "nm")}, "axis camera_x of the survey is in nm"),
        ({"axes": ("um", "m")}, "axis camera_y of the survey is in m"),
        ({"axes": ("px", "um")}, "camera_x of the survey is in px and"),
    ],
)
def test_positions_in_anything_but_um_are_refused_before_anything_moves(given, said, dry_run):
    bench = units(Bench(), **given)
    with pytest.raises(InputError, match=said):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched()


def assumed(caplog):
    return [record.message for record in caplog.records if "um is assumed" in record.message]


def test_micrometres_have_many_names(caplog):
    bench = units(Bench(), "µm", "Micrometers", ("μm", "micron"))
    bench.run()
    assert bench.stop["exit_status"] == "success" and not assumed(caplog)


def test_where_no_length_is_named_um_is_assumed_and_said_once(caplog):
    caplog.set_level(logging.WARNING)
    bench = units(Bench(), None, "counts", (None, "um"))
    bench.run()
    assert bench.stop["exit_status"] == "success"
    of_motors, of_axes = assumed(caplog)
    assert "the motor mx names no units, the motor my is in 'counts'" in of_motors
    assert "camera_x of the survey names no units: um" in of_axes


def test_a_spectrum_has_the_units_that_it_has():
    bench = units(Bench())
    bench.detector.configured = {"det_x": 3.0}
    described = {"det_x": {"source": "", "dtype": "number", "shape": [], "units": "nm"}}
    bench.detector.describe_configuration = lambda: described
    bench.run()
    assert bench.stop["exit_status"] == "success"


# ---- devices that cannot be asked


def off():
    raise RuntimeError("laser off")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("kind", ["describe", "read_configuration", "describe_configuration"])
@pytest.mark.parametrize("which", ["detector", "x"])
def test_a_device_that_cannot_say_what_it_reads_is_refused(which, kind, dry_run):
    bench = Bench()
    setattr(getattr(bench, which), kind, off)
    name = getattr(bench, which).name
    with pytest.raises(InputError, match=rf"{name}\.{kind}\(\) fails \(RuntimeError: laser off\)"):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched()


def test_an_imager_may_describe_itself_once_it_has_an_image():
    bench = Bench()
    describe = bench.camera.describe
    bench.camera.describe = lambda: describe() if bench.camera.measured else off()
    bench.run()
    assert bench.stop["exit_status"] == "success"


def test_an_imager_that_never_describes_itself_costs_no_spectrum():
    bench = Bench()
    bench.camera.describe = off
    with pytest.raises(InputError, match=r"camera\.describe\(\) fails"):
        bench.run()
    assert bench.camera.measured == 1 and not bench.detector.measured and not bench.documents


# ---- a motor that does not know where it is


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), np.array([np.nan]), np.ma.masked])
def test_a_motor_that_does_not_know_where_it_is_is_not_on_its_target(lost):
    bench = Bench(as_read=lambda at: lost if bench.x.moved == 3 else at)
    bench.run(retries=1)
    [failure, *_] = events(bench.documents, "failures")
    assert "where the stage is cannot be told: it reads" in failure["reason"]
    assert bench.stop["reason"].startswith("budget: 6 of 6")
    assert bench.detector.measured == 6


def test_units_that_are_no_part_of_the_description_refuse_nothing(caplog):
    for egu, said in (("mm", 1), ("um", 0)):
        caplog.clear()
        bench = units(Bench(), None, None)
        bench.x.egu = bench.y.egu = egu  # pyright: ignore[reportAttributeAccessIssue]
        bench.run()
        assert bench.stop["exit_status"] == "success" and len(assumed(caplog)) == said
