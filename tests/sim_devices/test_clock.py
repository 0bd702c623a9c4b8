"""Clock: real, accelerated and virtual time."""

import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curiosity_bluesky.errors import InputError
from sim_devices import Clock


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_virtual_time_adds_up(naps):
    clock = Clock(math.inf)
    assert all(clock.sleep(nap) for nap in naps)
    assert clock.now() == pytest.approx(sum(naps))


def test_virtual_time_from_several_threads():
    clock = Clock(math.inf)
    threads = [
        threading.Thread(target=lambda: [clock.sleep(1.0) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 2000.0


def test_accelerated_time():
    clock = Clock(1000.0)
    began, real = clock.now(), time.monotonic()
    assert clock.sleep(20.0)
    assert clock.now() - began >= 19.9
    assert time.monotonic() - real < 10.0


@pytest.mark.parametrize("speed", [1.0, math.inf])
def test_a_stopped_sleep_takes_no_time(speed):
    clock, stop = Clock(speed), threading.Event()
    stop.set()
    assert clock.sleep(1000.0, stop) is False
    assert clock.now() < 100.0


def test_stop_from_another_thread():
    clock, stop = Clock(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert clock.sleep(1000.0, stop) is False


@pytest.mark.parametrize("speed", [0, -1, math.nan, "fast", None])
def test_bad_speed(speed):
    with pytest.raises(InputError, match="clock speed"):
        Clock(speed)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_bad_sleep(seconds):
    with pytest.raises(InputError, match="sleep"):
        Clock(math.inf).sleep(seconds)
