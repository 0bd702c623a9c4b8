"""A simulated scanning probe microscope: a stage, an imager and a spectrometer in one."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import Sample
from sim_devices.clock import Clock
from sim_devices.drift import Drift, UnderTip, drifting_image, pixel_under
from sim_devices.faults import Faults, spoil

Axis = Literal["x", "y"]


class Aborted(RuntimeError):
    """A scan or spectrum was ended early; nothing was measured."""


@dataclass
class _Move:
    """A move under way, in simulated seconds and um."""

    start: float
    target: float
    began: float
    stopped: threading.Event = field(default_factory=threading.Event)


class SimMicroscope:
    """Measures a sample as a microscope would: in time, one thing after the other.

    Implements the three drivers of ``curiosity_bluesky.devices.driver_protocols``. All methods may
    be called from any thread; those that take time block. The tip starts at pixel (0, 0).

    Parameters
    ----------
    sample
        What is measured.
    clock
        Default: real time.
    speed_um_per_s
        Speed of each axis, um/s.
    settle_s
        Wait after each move, s.
    line_s
        Time for one line of an image, s.
    spectrum_s
        Time for one spectrum, s.
    lift_s
        Time to lift the tip, and again to lower it, s.
    noise
        Standard deviation of added Gaussian noise, relative to that of each channel over
        the whole sample. 0 returns the sample number for number.
    seed
        Seed of the noise. The noise of a measurement depends on the seed, the pixel and
        how often it was measured, not on the order of the pixels.
    faults
        What goes wrong. Default: nothing.
    drift_um_per_min
        Velocity (x, y) with which the sample drifts, um/min. What lies under the tip at stage
        position s is the sample at s - drift(t); beyond its border it goes on mirrored.
        Images are drawn line by line, spectra are those of the place that is under the tip at
        half their time.

    Attributes
    ----------
    faults : Faults
        What goes wrong; may be replaced at any time.
    n_scans, n_spectra : int
        Completed scans and spectra.
    lifted : bool
        Whether the tip is off the sample; at first it is not.
    dragged_um : float
        How far the tip was moved over the sample without being lifted.
    under_tip : list of UnderTip
        Where each scan and spectrum that was begun really was, for tests and benchmarks.

    Raises
    ------
    InputError
        If a speed, time, noise or seed cannot be used.
    """

    def __init__(
        self,
        sample: Sample,
        clock: Clock | None = None,
        *,
        speed_um_per_s: float = 5.0,
        settle_s: float = 0.02,
        line_s: float = 0.1,
        spectrum_s: float = 0.5,
        lift_s: float = 0.05,
        noise: float = 0.0,
        seed: int = 0,
        faults: Faults | None = None,
        drift_um_per_min: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        numbers = {"settle_s": settle_s, "line_s": line_s, "spectrum_s": spectrum_s}
        numbers["lift_s"] = lift_s
        for name, value in {**numbers, "noise": noise}.items():
            if not math.isfinite(value) or value < 0:
                raise InputError(
                    f"{name} is {value!r}; expected a finite number >= 0: 0 switches it off."
                )
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"seed is {seed!r}; expected a whole number >= 0: for example seed=0.")
        if math.isnan(speed_um_per_s) or speed_um_per_s <= 0:
            raise InputError(
                f"speed_um_per_s is {speed_um_per_s!r}; expected a positive speed in um/s: "
                "5 is usual, inf moves at once."
            )
        self.clock = Clock() if clock is None else clock
        self.faults = Faults() if faults is None else faults
        self.n_scans = 0
        self.n_spectra = 0
        self.lifted = False
        self.dragged_um = 0.0
        self.under_tip: list[UnderTip] = []
        self._drift = Drift(drift_um_per_min)
        self._speed = float(speed_um_per_s)
        self._settle_s = float(settle_s)
        self._line_s = float(line_s)
        self._spectrum_s = float(spectrum_s)
        self._lift_s = float(lift_s)
        self._noise = float(noise)
        self._seed = int(seed)
        self._lock = threading.RLock()
        self._moves: dict[str, _Move] = {}
        self._measuring: tuple[str, threading.Event] | None = None
        self.load(sample)

    # --- sample ----------------------------------------------------------------------

    def load(self, sample: Sample) -> None:
        """Put another sample under the tip, which then is at its pixel (0, 0); drift begins again.

        Raises
        ------
        RuntimeError
            If the tip moves or measures.
        """
        with self._lock:
            if self._moves or self._measuring is not None:
                raise RuntimeError("cannot change the sample under a tip that moves or measures.")
            self.sample = sample
            self._drift.began = None
            self._position = {"x": float(sample.x[0]), "y": float(sample.y[0])}
            self._repeats = {}
            self._cycles = sample.cycles
            self._dwell = float(self._cycles)
            self._spread = {name: _spread(cube) for name, cube in sample.spectra.items()}

    # --- stage -----------------------------------------------------------------------

    def limits(self, axis: Axis) -> tuple[float, float]:
        """Lowest and highest position of an axis (um): those of the scanned area."""
        centres = self._centres(axis)
        return float(centres[0]), float(centres[-1])

    def position(self, axis: Axis) -> float:
        """Where the axis is now (um), also in the middle of a move."""
        self._centres(axis)
        with self._lock:
            move = self._moves.get(axis)
            return self._position[axis] if move is None else self._underway(move)

    def move(self, axis: Axis, position: float) -> None:
        """Move one axis to `position` (um); return once settled there, or once stopped.

        Raises
        ------
        InputError
            If the position is outside the limits.
        RuntimeError
            If the axis is moving already, or the tip is measuring.
        ConnectionError
            If `faults` say so; nothing has moved.
        """
        low, high = self.limits(axis)
        # Positions that were computed may miss the border by a rounding error.
        if not low - 1e-9 <= position <= high + 1e-9:
            raise InputError(
                f"{axis} = {position:g} um is outside the scanned area; expected {low:g} to "
                f"{high:g} um: choose a position inside."
            )
        with self._lock:
            if self._measuring is not None:
                raise RuntimeError(
                    f"cannot move {axis} during a {self._measuring[0]}: wait for it or abort it."
                )
            if axis in self._moves:
                raise RuntimeError(f"{axis} is moving already: wait for it or stop it.")
            now = self.clock.now()
            self.faults.check_connection(now)
            move = _Move(self._position[axis], float(position), now)
            if move.start == move.target:
                return
            share = self.faults.of_move(axis, now)
            if share < 1:
                move.target = move.start + share * (move.target - move.start)
            self._moves[axis] = move
        travel = abs(move.target - move.start) / self._speed
        try:
            arrived = self.clock.sleep(travel + self._settle_s, move.stopped)
        except BaseException:
            self.stop(axis)
            raise
        if arrived:
            # A sleep may end a rounding error early: the end of a move is its target.
            self._end(axis, move, move.target)

    def move_seconds(self, axis: Axis, distance_um: float) -> float:
        """How long a move over a distance (um) takes: s on the wall, settling included."""
        self._centres(axis)
        if distance_um == 0:
            return 0.0
        return (abs(distance_um) / self._speed + self._settle_s) / self.clock.speed

    def stop(self, axis: Axis) -> None:
        """End a move where the axis is; without a move, nothing happens."""
        self._centres(axis)
        with self._lock:
            move = self._moves.get(axis)
            if move is not None:
                self._end(axis, move, self._underway(move))

    # --- lift --------------------------------------------------------------------------

    @property
    def lift_seconds(self) -> float:
        """How long lifting and lowering the tip take together, s on the wall."""
        return 2 * self._lift_s / self.clock.speed

    def lift(self) -> None:
        """Take the tip off the sample, in lift_s; it cannot image or measure there."""
        self._put(lifted=True)

    def lower(self) -> None:
        """Bring the tip back to the sample, in lift_s."""
        self._put(lifted=False)

    def _put(self, lifted: bool) -> None:
        with self._lock:
            if self._measuring is not None:
                raise RuntimeError(f"cannot lift the tip during a {self._measuring[0]}: abort it.")
            if self.lifted is lifted:
                return
        self.clock.sleep(self._lift_s)
        self.lifted = lifted

    def _end(self, axis: Axis, move: _Move, position: float) -> None:
        with self._lock:
            # Stopped before, the axis may be in its next move already.
            if self._moves.get(axis) is move:
                self.dragged_um += 0.0 if self.lifted else abs(position - move.start)
                self._position[axis] = position
                del self._moves[axis]
                move.stopped.set()

    def _centres(self, axis: str) -> NDArray:
        if axis not in ("x", "y"):
            raise InputError(f"axis is {axis!r}; expected 'x' or 'y': choose one of them.")
        return self.sample.x if axis == "x" else self.sample.y

    def _underway(self, move: _Move) -> float:
        way = move.target - move.start
        travel = abs(way) / self._speed
        elapsed = self.clock.now() - move.began
        return move.target if elapsed >= travel else move.start + way * elapsed / travel

    # --- imager ----------------------------------------------------------------------

    @property
    def image_channels(self) -> Mapping[str, str]:
        """Channel name to units."""
        return dict(self.sample.image_units)

    @property
    def image_dtypes(self) -> Mapping[str, np.dtype]:
        """Channel name to dtype, that of the sample."""
        return {name: image.dtype for name, image in self.sample.images.items()}

    @property
    def image_axes(self) -> tuple[NDArray, NDArray]:
        """Pixel centres x (columns,) and y (rows,) of the image, um."""
        return self.sample.x, self.sample.y

    @property
    def scan_seconds(self) -> float:
        """How long one image takes, s on the wall: 0 on a virtual clock."""
        return self.sample.shape[0] * self._line_s / self.clock.speed

    def scan(self) -> Mapping[str, NDArray]:
        """Take one image in rows * line_s; the tip is where it was before, afterwards.

        Returns
        -------
        dict
            Channel name to (rows, cols).

        Raises
        ------
        Aborted
            If `abort` was called.
        RuntimeError
            If the tip moves or measures.
        ConnectionError
            If `faults` say so.
        """
        aborted, began = self._begin("scan"), self.clock.now()
        if self._drift.began is None:
            self._drift.began = began
        seconds = self.sample.shape[0] * self._line_s
        self._note("scan", began + seconds / 2)
        self._spend("scan", aborted, seconds)
        with self._lock:
            number = self.n_scans
            self.n_scans += 1
        return {
            name: self._noisy(self._drawn(image, began), float(np.std(image)), (0, number, channel))
            for channel, (name, image) in enumerate(self.sample.images.items())
        }

    def _drawn(self, image: NDArray, began: float) -> NDArray:
        if not self._drift:
            return image
        axes = self.sample.x, self.sample.y
        return drifting_image(image, *axes, self._drift, began, self._line_s)

    # --- spectrometer ----------------------------------------------------------------

    @property
    def spectrum_channels(self) -> Mapping[str, str]:
        """Channel name to units."""
        return dict(self.sample.spectrum_units)

    @property
    def spectrum_dtypes(self) -> Mapping[str, np.dtype]:
        """Channel name to dtype, that of the sample."""
        return {name: cube.dtype for name, cube in self.sample.spectra.items()}

    @property
    def spectrum_axis(self) -> tuple[str, str, NDArray]:
        """Name, units and values (points,)."""
        return self.sample.axis_name, self.sample.axis_units, self.sample.axis

    @property
    def spectrum_settings(self) -> Mapping[str, float | str]:
        """What the spectra are taken with."""
        return {
            "spectrum_s": self._spectrum_s,
            "settle_s": self._settle_s,
            "noise": self._noise,
            "noise_seed": self._seed,
            "sample": self.sample.name,
            "sample_source": self.sample.source,
        }

    @property
    def spectrum_setting_units(self) -> Mapping[str, str]:
        """Setting to units."""
        return {"spectrum_s": "s", "settle_s": "s"}

    @property
    def spectrum_seconds(self) -> float:
        """How long a full spectrum takes, s on the wall: 0 on a virtual clock."""
        return self._spectrum_s / self.clock.speed

    @property
    def dwell_unit(self) -> str:
        """What the dwell setting counts: cycles of the loop."""
        return "cycles"

    @property
    def dwell_values(self) -> Sequence[float]:
        """Cycles that may be asked for, up to those of the sample's spectra."""
        return [float(cycles) for cycles in range(1, self._cycles + 1)]

    def dwell_seconds(self, value: float) -> float:
        """How long a spectrum of so many cycles takes, s on the wall."""
        return self.spectrum_seconds * value / self._cycles

    @property
    def dwell(self) -> float:
        """Cycles of the next spectrum; at first, all of them."""
        return self._dwell

    @dwell.setter
    def dwell(self, value: float) -> None:
        if value not in self.dwell_values:
            raise InputError(
                f"{value:g} cycles are asked for; expected a whole number from 1 to {self._cycles}"
            )
        self._dwell = float(value)

    def acquire(self) -> Mapping[str, NDArray]:
        """Take one spectrum at the pixel nearest to the tip.

        It takes the share of spectrum_s that its cycles are of all.

        Returns
        -------
        dict
            Channel name to (points,), with the dtype of the sample; NaN in the cycles that were
            not asked for.

        Raises
        ------
        InputError
            If the pixel is masked.
        Aborted
            If `abort` was called.
        RuntimeError
            If the tip moves or measures, or if `faults` say so.
        ConnectionError
            If `faults` say so.
        """
        with self._lock:
            aborted = self._begin("spectrum")
            try:
                row, col = self._measurable_pixel()
                fault = self.faults.of_measurement((row, col), self.clock.now())
            except BaseException:
                self._measuring = None
                raise
        if fault == "timeout":
            # In real time on any clock: what never comes back is not waited for in simulated time.
            aborted.wait()
        dwell = self._dwell
        self._spend("spectrum", aborted, self._spectrum_s * dwell / self._cycles)
        if fault == "raises":
            raise RuntimeError("lock-in: reference unlocked, no data (error 0x2F); retry.")
        with self._lock:
            repeat = self._repeats.get((row, col), 0)
            self._repeats[row, col] = repeat + 1
            self.n_spectra += 1
        measured = {}
        for channel, (name, cube) in enumerate(self.sample.spectra.items()):
            key = (1, row, col, repeat, channel)
            values = spoil(fault, self._noisy(cube[row, col], self._spread[name], key))
            values[round(len(values) * dwell / self._cycles) :] = np.nan
            measured[name] = values
        return measured

    def abort(self) -> None:
        """End a scan or spectrum early; without one, nothing happens."""
        with self._lock:
            if self._measuring is not None:
                self._measuring[1].set()
                self._measuring = None

    def _begin(self, what: str) -> threading.Event:
        """Claim the tip for a measurement; the event that comes back ends it."""
        with self._lock:
            if self._moves:
                raise RuntimeError(
                    f"cannot take a {what} while the tip moves along "
                    f"{' and '.join(sorted(self._moves))}: wait for the move or stop it."
                )
            if self._measuring is not None:
                raise RuntimeError(
                    f"cannot take a {what} during a {self._measuring[0]}: wait for it or abort it."
                )
            self.faults.check_connection(self.clock.now())
            if self.lifted:
                raise RuntimeError(f"cannot take a {what} with the tip lifted: lower it.")
            aborted = threading.Event()
            self._measuring = (what, aborted)
            return aborted

    def _measurable_pixel(self) -> tuple[int, int]:
        """Find the (row, col) under the tip; refuse a masked one."""
        true = self._note(
            "spectrum", self.clock.now() + self._spectrum_s / 2 * self._dwell / self._cycles
        )
        if self._drift:
            row = pixel_under(true.y - true.drift_y, self.sample.y)
            col = pixel_under(true.x - true.drift_x, self.sample.x)
        else:
            row, col = self.sample.pixel(true.x, true.y)
        if self.sample.mask[row, col]:
            raise InputError(
                f"pixel (row {row}, col {col}) is masked; expected one where a spectrum may "
                "be taken: choose a pixel that is not in the sample's mask."
            )
        return row, col

    def _note(self, what: str, seconds: float) -> UnderTip:
        """Note where the tip is at the middle of a scan or spectrum."""
        x, y = self._position["x"], self._position["y"]
        true = UnderTip(what, seconds, x, y, *self._drift.at(seconds))
        self.under_tip.append(true)
        return true

    def _spend(self, what: str, aborted: threading.Event, seconds: float) -> None:
        """Let the time of a measurement pass and give the tip back."""
        try:
            self.clock.sleep(seconds, aborted)
        finally:
            with self._lock:
                # After an abort the tip may belong to the next measurement already.
                if self._measuring is not None and self._measuring[1] is aborted:
                    self._measuring = None
        if aborted.is_set():
            raise Aborted(f"the {what} was aborted before it was complete; nothing was measured.")

    def _noisy(self, values: NDArray, spread: float, key: tuple[int, ...]) -> NDArray:
        """Copy `values`, with noise that depends on the seed and the key only."""
        if self._noise == 0:
            return values.copy()
        rng = np.random.default_rng((self._seed, *key))
        noise = self._noise * spread * rng.standard_normal(values.shape)
        return (values + noise).astype(values.dtype)


def _spread(cube: NDArray) -> float:
    """Return the standard deviation of all numbers in a cube."""
    infinite = np.isinf(cube)
    return float(np.nanstd(np.where(infinite, np.nan, cube) if infinite.any() else cube))
