"""BEPyAE's panel without BEPyAE: the controls that `AEBE` of aecroscopy reads and writes.

It behaves as BEPyAE's does, as far as AEcroscopy's code and its authors' guide tell, in front of a
simulated microscope. `sim_devices.aecroscopy` puts it where COM would be.
"""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_devices.microscope import SimMicroscope

RATE_HZ = 4e6
"""Sampling rate of the DAQ card."""
RANGE_V = 10.0
"""Range of its output; the panel takes no larger bias than that times the amplifier's gain."""

# Each control with the numbers that it shows at first, those of the authors' guide.
_PANEL: dict[str, tuple[Any, ...]] = {
    "offline_development_control_cluster": (False, False, False, False),
    "initialize_AR18_control_cluster": (False,),
    "set_setpoint_control_cluster": (1.0, False),
    "move_tip_control_cluster": (0.0, 0.0, 0.5, False),
    "IO_indicator_cluster": (
        *("0 Cypher AR18", "6124", RATE_HZ, RANGE_V, RANGE_V, "AC and DC on AO0", 1.0),
        *("none", "none", "none", "external"),
    ),
    "BE_pulse_control_cluster": (335e3, 1e5, 1.0, 1.0, 4, 4e-3, 1, 3352.3, 0.1216e-3, False),
    "BE_pulse_parm_indicator_cluster": (),
    "Initialize_BE_line_scan_control_cluster": (0.0, 32, False),
    "BE_line_scan_control_cluster": (-0.5, 0.0, 0.5, 0.0, False),
    "BE_line_scan_indicator_cluster": ((), (), (), (), (), (), ()),
    "Initialize_BEPS_VS_control_cluster": (
        *(8.0, 0.0, 0.0, 32, 3, 0, 0, 0, 1e-3, 0.0, 0.0, 0.0, 1, 0, 8.0, 8.0, 7.0, -7.0),
        *(False, False, False),
    ),
    "BEPS_VS_indicator_cluster": ((), (), (), (), (), (), (), (), (), ()),
}


class ComError(Exception):
    """What pywin32 raises as ``com_error``."""


class SimBEPyAE:
    """BEPyAE's panel, and the Igor of a Cypher, in front of a simulated microscope.

    The response at each step is that of an oscillator to the sample's first spectral channel,
    with the phase that cables add, and noise. Its resonance rises by 2 % from left to right. With
    the bias on an electrostatic part proportional to the bias comes on top. The loop is the
    sample's, stretched to the waveform; a waveform beyond the range of the card is cut off.

    Parameters
    ----------
    microscope
        What moves and measures; its clock is that of the instrument too.
    noise
        Standard deviation of real and imaginary part, relative to the peak of a typical
        response.
    seed
        Seed of the noise.
    amplifier
        Gain of the amplifier behind the card.
    tells_waveform
        Whether the panel shows the DC waveform once it is created, or only with a loop.

    Attributes
    ----------
    controls : dict
        What the panel shows.
    stuck : set of str
        Controls whose buttons never come out again.
    quality_factor, resonance_hz, phase, electrostatic : float
        Of the oscillator in the middle of the scan; electrostatic in the response's units a volt.
    """

    quality_factor = 80.0
    resonance_hz = 335e3
    phase = 0.6
    electrostatic = 0.5

    def __init__(
        self,
        microscope: SimMicroscope,
        *,
        noise: float = 0.01,
        seed: int = 0,
        amplifier: float = 1.0,
        tells_waveform: bool = True,
    ) -> None:
        self.microscope = microscope
        card = _PANEL["IO_indicator_cluster"]
        self.controls = {**_PANEL, "IO_indicator_cluster": (*card[:6], amplifier, *card[7:])}
        self._reach = RANGE_V * amplifier
        self.stuck: set[str] = set()
        self._tells_waveform = tells_waveform
        self._noise = noise
        self._rng = np.random.default_rng(seed)
        self._channel, cube = next(iter(microscope.sample.spectra.items()))
        self._typical = float(np.sqrt(np.nanmean(cube.astype(float) ** 2)))
        self._on_card = ""
        self._lock = threading.Lock()
        self._actions = {
            ("initialize_AR18_control_cluster", 0): lambda: None,
            ("set_setpoint_control_cluster", 1): lambda: None,
            ("move_tip_control_cluster", 3): self._move,
            ("BE_pulse_control_cluster", 9): self._create_pulse,
            ("Initialize_BE_line_scan_control_cluster", 2): lambda: self._upload("line"),
            ("BE_line_scan_control_cluster", 4): self._line,
            ("Initialize_BEPS_VS_control_cluster", 18): self._create_waveform,
            ("Initialize_BEPS_VS_control_cluster", 19): lambda: self._upload("BEPS"),
            ("Initialize_BEPS_VS_control_cluster", 20): self._loop,
        }

    # --- the panel ---------------------------------------------------------------------

    def get(self, name: str) -> Any:
        """Return what a control shows."""
        with self._lock:
            return self.controls[name]

    def set(self, name: str, value: tuple[Any, ...]) -> None:
        """Set a control; what its buttons start goes on by itself and takes them out again."""
        for part in value:
            if not isinstance(part, (bool, int, float, str)):
                raise TypeError(
                    f"Objects of type '{type(part).__name__}' can not be converted to a COM VARIANT"
                )
        if name == "Initialize_BEPS_VS_control_cluster":
            value = (*(max(-self._reach, min(self._reach, v)) for v in value[:3]), *value[3:])
        with self._lock:
            if len(value) != len(self.controls[name]):
                raise ComError(f"{name}: wrong number of elements")
            self.controls[name] = value
        for index, part in enumerate(value):
            if part is True and (name, index) in self._actions and name not in self.stuck:
                thread = threading.Thread(target=self._act, args=(name, index), daemon=True)
                thread.start()
                # A call over COM takes its time; what is quick is done by its end.
                thread.join(0.02)

    def _act(self, name: str, index: int) -> None:
        # An action that fails shows a message on the panel and takes its button out.
        with contextlib.suppress(Exception):
            self._actions[name, index]()
        with self._lock:
            value = list(self.controls[name])
            value[index] = False
            self.controls[name] = tuple(value)

    def _show(self, name: str, *parts: Any) -> None:
        with self._lock:
            self.controls[name] = parts

    # --- what the buttons do -------------------------------------------------------------

    def _um(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.microscope.sample.extent_um
        return (x + 1) / 2 * width, (y + 1) / 2 * height

    def _move(self) -> None:
        x, y, *_ = self.get("move_tip_control_cluster")
        x_um, y_um = self._um(x, y)
        self.microscope.move("x", x_um)
        self.microscope.move("y", y_um)

    def _upload(self, what: str) -> None:
        self.microscope.clock.sleep(0.2)
        self._on_card = what

    def _create_pulse(self) -> None:
        center, width, _, _, repeats, duration, *_ = self.get("BE_pulse_control_cluster")
        samples = 2 ** round(math.log2(RATE_HZ * duration / repeats))
        spectrum = np.fft.rfftfreq(samples, 1 / RATE_HZ)
        bins = np.flatnonzero(np.abs(spectrum - center) <= width / 2)
        shown = _tuples(bins), 0.0, 0.0, _tuples(spectrum)
        self._show("BE_pulse_parm_indicator_cluster", 0.0, 0.0, 0.0, *shown)

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Bins inside the band, (frequencies,), Hz."""
        shown = self.get("BE_pulse_parm_indicator_cluster")
        return np.asarray(shown[6])[np.asarray(shown[3])]

    def _spectra(self, response: NDArray, column: NDArray | float) -> NDArray[np.complex128]:
        """Return the oscillator's answer (n, frequencies) to a signed response (n,)."""
        f = self.frequencies
        f0 = self.resonance(column)[..., None] * np.ones((len(response), 1))
        shape = f0**2 / (f**2 - 1j * f * f0 / self.quality_factor - f0**2)
        noise = self._rng.standard_normal((2, *shape.shape))
        scale = self._noise * self._typical * self.quality_factor
        return response[:, None] * np.exp(1j * self.phase) * shape + scale * (
            noise[0] + 1j * noise[1]
        )

    def resonance(self, column: NDArray | float) -> NDArray[np.float64]:
        """Return the resonance frequency (Hz) at a column of the sample, counted from 0."""
        last = max(self.microscope.sample.shape[1] - 1, 1)
        return self.resonance_hz * (1 + 0.02 * (np.asarray(column, float) / last - 0.5))

    def _line(self) -> None:
        x0, y0, x1, y1, _ = self.get("BE_line_scan_control_cluster")
        number = int(self.get("Initialize_BE_line_scan_control_cluster")[1])
        sample = self.microscope.sample
        places = [
            sample.pixel(*self._um(x, y))
            for x, y in zip(np.linspace(x0, x1, number), np.linspace(y0, y1, number), strict=True)
        ]
        rows, columns = np.array(places).T
        self.microscope.clock.sleep(number * self.get("BE_pulse_control_cluster")[5])
        images = [image[rows, columns].astype(float) for image in sample.images.values()]
        spectra = self._spectra(images[0], columns)
        fits = np.column_stack(
            (
                images[0] + self._noise * self._typical * self._rng.standard_normal(number),
                self.resonance(columns),
                np.full(number, self.quality_factor),
                np.full(number, self.phase),
                np.ones(number),
            )
        )
        channels = [
            _tuples((images[k] if k < len(images) else np.zeros(number))[:, None]) for k in range(3)
        ]
        parts = _tuples(np.stack((spectra.real, spectra.imag), axis=-1))
        self._show("BE_line_scan_indicator_cluster", (), parts, (), _tuples(fits), *channels)
        x_um, y_um = self._um(x1, y1)
        self.microscope.move("x", x_um)
        self.microscope.move("y", y_um)

    def _waveform(self) -> NDArray[np.float64]:
        """Return the bias of each step with the field on, (steps_per_cycle * cycles,), V."""
        amplitude, offset, _, number, cycles, *_ = self.get("Initialize_BEPS_VS_control_cluster")
        axis = self.microscope.sample.axis.astype(float)
        return offset + amplitude * _laid_out(axis / np.abs(axis).max(), number, cycles)

    def _create_waveform(self) -> None:
        if self._tells_waveform:
            shown = self.get("BEPS_VS_indicator_cluster")
            self._show("BEPS_VS_indicator_cluster", _tuples(self._waveform()), *shown[1:])

    def _loop(self) -> None:
        panel = self.get("Initialize_BEPS_VS_control_cluster")
        number, cycles, both = panel[3], panel[4], panel[7] == 0
        bias = self._waveform()
        pulse_s = self.get("BE_pulse_control_cluster")[5]
        self.microscope.clock.sleep(bias.size * (1 + both) * (pulse_s + panel[8] + panel[9]))
        x, y = self.microscope.position("x"), self.microscope.position("y")
        loop = self.microscope.acquire()[self._channel].astype(float)
        off = _laid_out(loop, number, cycles)
        on = off + self.electrostatic * bias
        response = np.column_stack((on, off)).reshape(-1) if both else on
        if self._on_card != "BEPS":
            response = np.zeros_like(response)  # another waveform went out than the one shown
        spectra = self._spectra(response, self.microscope.sample.pixel(x, y)[1])
        parts = _tuples(np.stack((spectra.real, spectra.imag), axis=-1))
        flat = _tuples(np.zeros(response.size))
        fits = (_tuples(np.abs(response)), flat, flat, flat)
        self._show("BEPS_VS_indicator_cluster", _tuples(bias), parts, *fits, flat, flat, flat, flat)


def _laid_out(own: NDArray, number: int, cycles: int) -> NDArray[np.float64]:
    """Lay a sample's waveform or loop out over (number * cycles,) steps."""
    if own.size == number * cycles:
        return own  # recorded with these cycles
    phase = np.arange(own.size) / own.size
    return np.tile(np.interp(np.arange(number) / number, phase, own, period=1.0), cycles)


def _tuples(values: NDArray) -> tuple[Any, ...]:
    """Return an array as COM does: tuples of tuples of plain numbers."""
    return tuple(_tuples(v) if v.ndim else v.item() for v in values)
