"""What goes wrong at a microscope, on demand: for rehearsals and for tests."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError

MEASUREMENT_FAULTS: tuple[str, ...] = ("raises", "timeout", "nan", "saturated", "flat", "lost")
"""What may happen to a spectrum; of two that are drawn at once the first counts."""

MOVE_FAULTS: tuple[str, ...] = ("stuck", "lost")
"""What may happen to a move; of two that are drawn at once the first counts."""

KINDS: tuple[str, ...] = (*MEASUREMENT_FAULTS, "stuck")


class Faults:
    """Which measurements and moves of a `SimMicroscope` go wrong, and how.

    =============  ==================================================================
    ``raises``     the measurement fails with a RuntimeError, as drivers do
    ``timeout``    the measurement does not come back until it is aborted
    ``nan``        all points are NaN
    ``saturated``  the spectrum is clipped to a narrow band: most points sit exactly at
                   one of its two rails
    ``flat``       all points have one value
    ``lost``       the connection breaks: the measurement or move fails with a
                   ConnectionError, and so does each that follows, surveys too, until
                   the connection is back. `abort`, `stop` and `position` go on working
    ``stuck``      the move ends short of its target, without an error: only
                   `position` tells
    =============  ==================================================================

    Whether a fault is drawn depends on the seed, the kind, and how many measurements were
    begun at that pixel (moves: along that axis) before; not on other pixels, on other
    kinds or on time. So the same run has the same faults.

    Parameters
    ----------
    raises, timeout, nan, saturated, flat
        Probability of each for a measurement, 0 to 1.
    lost
        Probability for a measurement and for a move, 0 to 1.
    stuck
        Probability for a move, 0 to 1.
    seed
        Seed of the draws.
    lost_calls
        Measurements and moves that a lost connection costs, the first one included.
    lost_s
        How long a lost connection stays so, in simulated seconds, instead of
        `lost_calls`. (Failing takes no time: on a virtual clock, something else has to.)

    Attributes
    ----------
    happened : dict of str to int
        How often each kind has happened. A lost connection counts once, however many
        calls it costs.

    Raises
    ------
    InputError
        If a probability, the seed or a duration cannot be used.

    Examples
    --------
    >>> from sim_devices import Clock, Faults, SimMicroscope, SyntheticSample
    >>> microscope = SimMicroscope(SyntheticSample(), Clock(float("inf")))
    >>> microscope.faults = Faults(nan=0.1, stuck=0.02, seed=3)
    >>> microscope.faults.next("flat")
    >>> response = microscope.acquire()["response"]
    >>> bool((response == response[0]).all()), microscope.faults.happened["flat"]
    (True, 1)
    """

    def __init__(
        self,
        *,
        raises: float = 0.0,
        timeout: float = 0.0,
        nan: float = 0.0,
        saturated: float = 0.0,
        flat: float = 0.0,
        lost: float = 0.0,
        stuck: float = 0.0,
        seed: int = 0,
        lost_calls: int = 3,
        lost_s: float | None = None,
    ) -> None:
        given = (raises, timeout, nan, saturated, flat, lost, stuck)
        self._probabilities: dict[str, float] = {}
        for kind, probability in zip(KINDS, given, strict=True):
            self.set(kind, probability)
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"seed is {seed!r}; expected a whole number >= 0: for example seed=0.")
        if lost_s is not None and not (isinstance(lost_s, Real) and 0 <= lost_s < math.inf):
            raise InputError(
                f"lost_s is {lost_s!r}; expected finite simulated seconds >= 0: leave it out to "
                "count calls."
            )
        _check_count("lost_calls", lost_calls)
        self.happened: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._seed = int(seed)
        self._lost_calls, self._lost_s = int(lost_calls), lost_s
        self._calls_left, self._lost_until = 0, -math.inf
        self._next: list[str] = []
        self._planned: dict[tuple[int, int], str | list[str | None]] = {}
        self._begun: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    @classmethod
    def at(
        cls,
        plan: Mapping[tuple[int, int], str | Sequence[str | None]],
        *,
        lost_calls: int = 3,
        lost_s: float | None = None,
    ) -> Faults:
        """Plan the faults of some pixels; all other measurements are good.

        Parameters
        ----------
        plan
            Pixel (row, col) to the kind of all its measurements, or to a list: what
            happens to the first, the second, ... (None: nothing); those after it are good.
        lost_calls, lost_s
            As in `Faults`.

        Raises
        ------
        InputError
            If a kind cannot happen to a measurement.
        """
        faults = cls(lost_calls=lost_calls, lost_s=lost_s)
        for (row, col), kinds in plan.items():
            for kind in [kinds] if isinstance(kinds, str) else kinds:
                if kind is not None and kind not in MEASUREMENT_FAULTS:
                    raise InputError(
                        f"{kind!r} is planned at pixel (row {row}, col {col}); expected one of "
                        f"{', '.join(MEASUREMENT_FAULTS)}: faults of moves go by next()."
                    )
            faults._planned[row, col] = kinds if isinstance(kinds, str) else list(kinds)
        return faults

    def probability(self, kind: str) -> float:
        """Return how probable a kind is, 0 to 1."""
        return self._probabilities[kind]

    def set(self, kind: str, probability: float) -> None:
        """Let a kind be as probable from now on.

        Parameters
        ----------
        kind
            What.
        probability
            0 (never) to 1 (always).

        Raises
        ------
        InputError
            If there is no such kind, or it is no probability.
        """
        _check_kind(kind)
        if not isinstance(probability, Real) or not 0 <= probability <= 1:
            raise InputError(
                f"the probability of {kind} is {probability!r}; expected a number from 0 "
                "(never) to 1 (always): for example 0.1."
            )
        self._probabilities[kind] = probability

    def next(self, kind: str, times: int = 1) -> None:
        """Let something happen to the next measurements or moves, before all else.

        Parameters
        ----------
        kind
            What; "lost" takes the next measurement or move, whichever comes first.
        times
            To how many of them.

        Raises
        ------
        InputError
            If there is no such kind, or `times` is no whole number of at least 1.
        """
        _check_kind(kind)
        _check_count("times", times)
        with self._lock:
            self._next += [kind] * times

    # --- what the microscope asks ------------------------------------------------------

    def check_connection(self, now: float) -> None:
        """Raise ConnectionError if the connection is lost at the simulated time `now` (s)."""
        with self._lock:
            if self._calls_left > 0:
                self._calls_left -= 1
            elif now >= self._lost_until:
                return
        raise ConnectionError("the connection to the microscope is lost; it may come back.")

    def of_measurement(self, pixel: tuple[int, int], now: float) -> str | None:
        """Say what happens to the measurement that begins at a pixel (row, col).

        Raises
        ------
        ConnectionError
            If the connection is lost now.
        """
        with self._lock:
            before = self._begun.get(pixel, 0)
            self._begun[pixel] = before + 1
            planned = self._planned.get(pixel)
            if isinstance(planned, list):
                planned = planned[before] if before < len(planned) else None
            kind = self._choose(MEASUREMENT_FAULTS, planned, (0, *pixel, before), now)
        if kind == "lost":
            raise ConnectionError("the connection to the microscope broke in a measurement.")
        return kind

    def of_move(self, axis: str, now: float) -> float:
        """Say which share of its way the move of an axis that begins gets: 1 if all is well.

        Raises
        ------
        ConnectionError
            If the connection is lost now.
        """
        # A pixel of its own for each axis, so that x and y do not depend on their order.
        where = (-1, "xy".index(axis))
        with self._lock:
            before = self._begun.get(where, 0)
            self._begun[where] = before + 1
            kind = self._choose(MOVE_FAULTS, None, (1, 0, where[1], before), now)
        if kind == "lost":
            raise ConnectionError(f"the connection to the microscope broke in a move of {axis}.")
        # Not nearly there, so that the read-back tells, whatever the pixel size.
        return 0.5 * self._draw("stuck", (2, 0, where[1], before)) if kind == "stuck" else 1.0

    def _choose(
        self, kinds: Sequence[str], planned: str | None, key: tuple[int, ...], now: float
    ) -> str | None:
        """Find the fault, by order, by plan or by chance, and count it."""
        queued = next((i for i, kind in enumerate(self._next) if kind in kinds), None)
        if queued is not None:
            chosen = self._next.pop(queued)
        elif planned is not None:
            chosen = planned
        else:
            chosen = next((k for k in kinds if self._draw(k, key) < self._probabilities[k]), None)
        if chosen is not None:
            self.happened[chosen] += 1
        if chosen == "lost":
            if self._lost_s is None:
                self._calls_left = self._lost_calls - 1
            else:
                self._lost_until = now + self._lost_s
        return chosen

    def _draw(self, kind: str, key: tuple[int, ...]) -> float:
        """Draw from 0 to 1, the same for the same seed, kind and key."""
        # The 7 keeps the draws apart from the microscope's noise, whose keys begin otherwise.
        return float(np.random.default_rng((self._seed, 7, KINDS.index(kind), *key)).random())


def spoil(kind: str | None, values: NDArray) -> NDArray:
    """Return a spectrum as the fault leaves it.

    Parameters
    ----------
    kind
        "nan", "saturated" or "flat"; anything else changes nothing.
    values
        (points,), floating.

    Returns
    -------
    spoiled
        (points,), of the same dtype.
    """
    if kind == "nan":
        return np.full_like(values, np.nan)
    if kind == "flat":
        return np.full_like(values, np.nanmedian(values))
    if kind == "saturated":
        # The middle tenth of the values is left: nine in ten sit at a rail.
        rails = np.nanquantile(values, [0.45, 0.55], method="nearest")
        return np.clip(values, *rails)
    return values


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InputError(
            f"there is no fault {kind!r}; expected one of {', '.join(KINDS)}: choose one."
        )


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least 1.")
