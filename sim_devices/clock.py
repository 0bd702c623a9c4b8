"""Time in the simulation: real, accelerated or virtual."""

from __future__ import annotations

import math
import threading
import time

from curiosity_bluesky.errors import InputError


class Clock:
    """A clock that runs `speed` times faster than the one on the wall.

    Parameters
    ----------
    speed
        Simulated seconds per real second. ``math.inf`` makes a virtual clock: nothing
        waits, `sleep` moves the time on at once. (There, sleeps of several threads follow
        one another instead of overlapping, so that their sum does not depend on chance.)

    Raises
    ------
    InputError
        If `speed` is not a positive number.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not isinstance(speed, (int, float)) or math.isnan(speed) or speed <= 0:
            raise InputError(
                f"clock speed is {speed!r}; expected a positive number of simulated seconds per "
                "second: give 1 for real time, inf for no waiting."
            )
        self._speed = float(speed)
        self._lock = threading.Lock()
        self._virtual = 0.0
        self._start = time.monotonic()

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._speed

    def now(self) -> float:
        """Return the simulated seconds since the clock was made."""
        if math.isinf(self._speed):
            with self._lock:
                return self._virtual
        return (time.monotonic() - self._start) * self._speed

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Wait for simulated seconds, or until `stop` is set.

        Parameters
        ----------
        seconds
            Simulated seconds, >= 0.
        stop
            Ends the wait early when set; from another thread, as a rule.

        Returns
        -------
        bool
            True if the whole time has passed, False if stopped early.

        Raises
        ------
        InputError
            If `seconds` is negative or not finite.
        """
        if not math.isfinite(seconds) or seconds < 0:
            raise InputError(
                f"sleep of {seconds!r} s; expected a finite time >= 0: check the speeds and "
                "durations of the microscope."
            )
        if stop is not None and stop.is_set():
            return False
        if math.isinf(self._speed):
            with self._lock:
                self._virtual += seconds
            return True
        if stop is not None:
            return not stop.wait(seconds / self._speed)
        time.sleep(seconds / self._speed)
        return True
