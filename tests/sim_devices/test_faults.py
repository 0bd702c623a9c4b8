"""Faults: planned, ordered or drawn, each does what it says, and a run can be repeated."""

import math
import threading
from collections import Counter

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from sim_devices import Aborted, Clock, Faults, SimMicroscope, SyntheticSample

WAIT = 20.0
FILM = SyntheticSample((9, 12), points=16)


def instant(faults=None, **options):
    return SimMicroscope(FILM, Clock(math.inf), faults=faults, **options)


def goto(microscope, row, col):
    microscope.move("x", FILM.x[col])
    microscope.move("y", FILM.y[row])


def kind_of(microscope):
    """Measure, and tell from the outside what went wrong."""
    try:
        values = microscope.acquire()["response"]
    except ConnectionError:
        return "lost"
    except RuntimeError:
        return "raises"
    assert values.dtype == FILM.spectra["response"].dtype and values.shape == (16,)
    if np.isnan(values).all():
        return "nan"
    if np.ptp(values) == 0:
        return "flat"
    if np.isin(values, (values.min(), values.max())).mean() > 0.5:
        return "saturated"
    return None


@pytest.mark.parametrize("kind", ["raises", "nan", "saturated", "flat", "lost"])
def test_each_kind_is_what_it_says_once_and_then_all_is_well(kind):
    microscope = instant(Faults(lost_calls=1), noise=0.1)
    good = instant(noise=0.1).acquire()["response"]
    microscope.faults.next(kind)
    assert kind_of(microscope) == kind
    assert microscope.faults.happened == {
        **dict.fromkeys(microscope.faults.happened, 0),
        kind: 1,
    }
    assert kind_of(microscope) is None
    if kind in ("raises", "lost"):  # nothing was measured: the noise is that of the first time
        again = instant(Faults.at({(0, 0): [kind]}, lost_calls=1), noise=0.1)
        kind_of(again)
        np.testing.assert_array_equal(again.acquire()["response"], good)


def test_a_saturated_spectrum_is_the_good_one_clipped():
    microscope = instant()
    microscope.faults.next("saturated")
    values, good = microscope.acquire()["response"], FILM.spectra["response"][0, 0]
    assert np.ptp(values) < 0.5 * np.ptp(good)
    np.testing.assert_array_equal(values, np.clip(good, values.min(), values.max()))


@pytest.mark.parametrize("speed", [1.0, math.inf])
def test_a_timeout_lasts_until_it_is_aborted(speed):
    microscope = SimMicroscope(FILM, Clock(speed), spectrum_s=0.0)
    microscope.faults.next("timeout")
    raised = []

    def measure():
        try:
            microscope.acquire()
        except Aborted as error:
            raised.append(error)

    thread = threading.Thread(target=measure, daemon=True)
    thread.start()
    while not microscope.faults.happened["timeout"]:
        assert thread.is_alive()
    thread.join(0.05)
    assert thread.is_alive()
    with pytest.raises(RuntimeError, match="during a spectrum"):
        microscope.acquire()
    microscope.abort()
    thread.join(WAIT)
    assert len(raised) == 1 and microscope.n_spectra == 0
    assert kind_of(microscope) is None


def test_a_stuck_move_ends_short_without_an_error():
    microscope = instant()
    microscope.faults.next("stuck")
    target = FILM.x[6]
    microscope.move("x", target)
    assert 0 < microscope.position("x") < 0.6 * target
    assert microscope.faults.happened["stuck"] == 1
    microscope.move("x", target)
    assert microscope.position("x") == target


def test_a_lost_connection_costs_the_calls_it_was_given():
    microscope = instant(Faults(lost_calls=4))
    microscope.faults.next("lost")
    for call in (microscope.acquire, microscope.scan, lambda: goto(microscope, 2, 2)):
        with pytest.raises(ConnectionError, match="connection to the microscope"):
            call()
        assert microscope.position("x") == 0.0
    assert kind_of(microscope) == "lost"
    assert kind_of(microscope) is None
    assert microscope.faults.happened["lost"] == 1


def test_a_lost_connection_lasts_the_simulated_seconds_it_was_given():
    microscope = instant(Faults(lost_s=10.0))
    microscope.faults.next("lost")
    with pytest.raises(ConnectionError):
        goto(microscope, 2, 2)
    for _ in range(5):
        assert kind_of(microscope) == "lost"
    microscope.clock.sleep(9.0)
    assert kind_of(microscope) == "lost"
    microscope.clock.sleep(1.0)
    assert kind_of(microscope) is None


def test_planned_pixels_and_no_others():
    microscope = instant(Faults.at({(2, 3): "nan", (4, 5): ["flat", None, "raises"]}))
    goto(microscope, 2, 3)
    assert [kind_of(microscope) for _ in range(3)] == ["nan"] * 3
    goto(microscope, 4, 5)
    assert [kind_of(microscope) for _ in range(4)] == ["flat", None, "raises", None]
    goto(microscope, 3, 2)
    assert kind_of(microscope) is None
    assert sum(microscope.faults.happened.values()) == 5


def test_next_comes_before_the_plan_in_its_own_order():
    microscope = instant(Faults.at({(0, 0): "nan"}))
    microscope.faults.next("stuck")
    microscope.faults.next("flat", times=2)
    assert [kind_of(microscope) for _ in range(3)] == ["flat", "flat", "nan"]
    assert microscope.faults.happened["stuck"] == 0  # it waits for a move


def happenings(pixels, **options):
    microscope = instant(Faults(**options))
    seen = {}
    for pixel in pixels:
        goto(microscope, *pixel)
        seen.setdefault(pixel, []).append(kind_of(microscope))
    return seen, microscope.faults


PIXELS = [(r, c) for r in range(9) for c in range(12)] * 2


def test_draws_depend_on_the_pixel_and_its_count_not_on_the_order():
    rates = {"nan": 0.2, "raises": 0.2, "flat": 0.1}
    one, faults = happenings(PIXELS, **rates)
    two, _ = happenings(PIXELS[::-1], **rates)
    assert one == two
    other, _ = happenings(PIXELS, seed=1, **rates)
    assert other != one
    # A kind more leaves the others where they were, or comes in their place.
    more, _ = happenings(PIXELS, saturated=0.3, **rates)
    assert all(
        new in (old, "saturated")
        for pixel in one
        for old, new in zip(one[pixel], more[pixel], strict=True)
    )
    seen = Counter(kind for kinds in one.values() for kind in kinds)
    assert seen["nan"] == faults.happened["nan"] and seen["raises"] == faults.happened["raises"]
    assert any(first != second for first, second in one.values())


def test_the_rates_are_those_asked_for():
    _, faults = happenings(PIXELS * 3, nan=0.25)
    assert faults.happened["nan"] / (3 * len(PIXELS)) == pytest.approx(0.25, abs=0.06)
    _, faults = happenings(PIXELS, flat=1.0)
    assert faults.happened["flat"] == len(PIXELS)
    _, faults = happenings(PIXELS)
    assert not any(faults.happened.values())


def test_stuck_moves_are_drawn_for_each_axis_alone():
    def ends(order):
        microscope = instant(Faults(stuck=0.4, seed=2))
        for step in range(12):
            for axis in order:
                microscope.move(axis, (FILM.x if axis == "x" else FILM.y)[1 + step % 7])
        return microscope.position("x"), microscope.position("y"), microscope.faults.happened

    assert ends("xy") == ends("yx")
    assert ends("xy")[2]["stuck"] > 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Faults(nan=1.5), "probability of nan is 1.5"),
        (lambda: Faults(stuck=-0.1), "probability of stuck"),
        (lambda: Faults(flat=math.nan), "probability of flat"),
        (lambda: Faults(lost="often"), "probability of lost is 'often'"),
        (lambda: Faults(seed=-1), "seed is -1"),
        (lambda: Faults(lost_calls=0), "lost_calls is 0"),
        (lambda: Faults(lost_s=math.inf), "lost_s is inf"),
        (lambda: Faults(lost_s="a while"), "lost_s is 'a while'"),
        (lambda: Faults().next("fire"), "no fault 'fire'; expected one of raises"),
        (lambda: Faults().next("nan", times=0), "times is 0"),
        (lambda: Faults.at({(1, 2): "stuck"}), r"'stuck' is planned at pixel \(row 1, col 2\)"),
        (lambda: Faults.at({(1, 2): ["nan", "fire"]}), "'fire' is planned"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(InputError, match=said):
        make()
