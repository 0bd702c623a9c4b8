"""SimMicroscope in time: moves, stops and aborts, from several threads."""

import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_devices import Aborted, Clock, SimMicroscope, SyntheticSample

WAIT = 20.0
FILM = SyntheticSample((9, 12), points=16)


class HandClock(Clock):
    """Time stands still until the test moves it; sleepers wake when stopped or released."""

    def __init__(self):
        super().__init__(math.inf)
        self.asleep, self.released = threading.Event(), threading.Event()

    def sleep(self, seconds, stop=None):
        self.asleep.set()
        while not self.released.is_set():
            if stop is not None and stop.wait(0.001):
                return False
        return True

    def advance(self, seconds):
        Clock.sleep(self, seconds)


def in_background(call, *args):
    """Run a call in a thread; returns the thread and the list that gets its exception."""
    raised = []

    def run():
        try:
            call(*args)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def test_position_in_the_middle_of_a_move_and_stop():
    clock = HandClock()
    microscope = SimMicroscope(FILM, clock, speed_um_per_s=0.1)
    thread, _ = in_background(microscope.move, "x", 0.2)
    assert clock.asleep.wait(WAIT)
    clock.advance(0.5)
    assert microscope.position("x") == pytest.approx(0.05)
    assert microscope.position("y") == 0.0
    with pytest.raises(RuntimeError, match="while the tip moves along x"):
        microscope.acquire()
    with pytest.raises(RuntimeError, match="while the tip moves along x"):
        microscope.scan()
    with pytest.raises(RuntimeError, match="moving already"):
        microscope.move("x", 0.1)
    microscope.stop("x")
    thread.join(WAIT)
    assert not thread.is_alive()
    clock.advance(10.0)
    assert microscope.position("x") == pytest.approx(0.05)


def test_axes_move_independently():
    clock = HandClock()
    microscope = SimMicroscope(FILM, clock, speed_um_per_s=0.1)
    threads = [in_background(microscope.move, axis, to)[0] for axis, to in (("x", 0.2), ("y", 0.1))]
    while len(microscope._moves) < 2:
        assert clock.asleep.wait(WAIT)
    clock.advance(1.0)
    assert microscope.position("x") == pytest.approx(0.1)
    assert microscope.position("y") == pytest.approx(0.1)
    clock.released.set()
    for thread in threads:
        thread.join(WAIT)
    assert (microscope.position("x"), microscope.position("y")) == (0.2, 0.1)


@given(st.lists(st.tuples(st.sampled_from("xy"), st.floats(0, 0.16)), max_size=8))
@settings(max_examples=30, deadline=None)
def test_moves_end_where_they_should_and_take_their_time(moves):
    microscope = SimMicroscope(FILM, Clock(math.inf), speed_um_per_s=0.3, settle_s=0.0)
    way = 0.0
    for axis, to in moves:
        way += abs(to - microscope.position(axis))
        microscope.move(axis, to)
        assert microscope.position(axis) == to
    assert microscope.clock.now() == pytest.approx(way / 0.3)


@pytest.mark.parametrize("method", ["scan", "acquire"])
def test_abort(method):
    microscope = SimMicroscope(FILM, line_s=1000.0, spectrum_s=1000.0)
    microscope.abort()
    thread, raised = in_background(getattr(microscope, method))
    while microscope._measuring is None:
        assert thread.is_alive()
    with pytest.raises(RuntimeError, match="during a"):
        microscope.move("x", 0.1)
    with pytest.raises(RuntimeError, match="during a"):
        microscope.acquire()
    microscope.abort()
    thread.join(WAIT)
    assert isinstance(raised[0], Aborted) and isinstance(raised[0], RuntimeError)
    assert (microscope.n_scans, microscope.n_spectra) == (0, 0)
    microscope.stop("x")
