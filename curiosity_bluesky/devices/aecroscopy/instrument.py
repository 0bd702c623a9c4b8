"""Stage, imager and spectrometer on one AEBE."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curiosity_bluesky.devices.aecroscopy.com_thread import AEThread
from curiosity_bluesky.devices.aecroscopy.imager import AEImager
from curiosity_bluesky.devices.aecroscopy.settings import BEPSWaveform, BEPulse, finite
from curiosity_bluesky.devices.aecroscopy.spectrogram import AESpectrogram
from curiosity_bluesky.devices.aecroscopy.stage import AELiftingStage, AEStage, ScanFrame
from curiosity_bluesky.devices.band_excitation import BandExcitation
from curiosity_bluesky.devices.imager import Imager
from curiosity_bluesky.devices.spectrometer import Spectrometer
from curiosity_bluesky.devices.stage import AFMStage
from curiosity_bluesky.errors import InputError


@dataclass
class AEcroscopyInstrument:
    """Ophyd devices on one AEBE; a context manager that releases BEPyAE at the end.

    Parameters
    ----------
    owner
        The thread that has the AEBE, for calls of your own.
    stage, imager, spectrometer
        What the plan takes.
    """

    owner: AEThread
    stage: AFMStage
    imager: Imager
    spectrometer: Spectrometer

    def close(self) -> None:
        """Let go of BEPyAE, which goes on running; the tip stays where it is."""
        self.owner.close()

    def __enter__(self) -> AEcroscopyInstrument:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def aecroscopy_instrument(
    connect: Callable[[], Any],
    *,
    scan_size_um: float | tuple[float, float],
    pixels: int,
    pulse: BEPulse,
    waveform: BEPSWaveform,
    max_bias: float,
    tip_voltage: float = 0.0,
    transit_s: float = 0.2,
    setpoints_v: tuple[float, float] | None = None,
    channels: Sequence[str] = (),
    phase_offset: float | None = None,
    skip_cycles: int = 0,
    folder: str | Path = ".",
    check_scan_size: bool = True,
    timeout_s: float = 120.0,
) -> AEcroscopyInstrument:
    """Start BEPyAE through AEcroscopy and put ophyd devices on it.

    Neither moves the tip nor applies a bias.

    Parameters
    ----------
    connect
        Makes the AEBE and gets it ready, as in ``docs/aecroscopy.md``. It is called in the
        thread that will own it: a COM object does not leave the thread that made it.
    scan_size_um
        Width and height of the scan, um, or one number for both. Checked against the
        microscope's own where AEBE can ask it.
    pixels
        Lines and columns of the survey.
    pulse, waveform
        Excitation, and DC bias of the loops.
    max_bias
        What the DC bias must never exceed, during loops and scans, V.
    tip_voltage
        DC bias during the survey, V.
    transit_s
        Time for a move of the tip, s.
    setpoints_v
        In contact and lifted, V: the stage then has a `tip` for the plan (`AELiftingStage`).
        None: it has not.
    channels
        Names of the DAQ card's channels 1 to 3 to be recorded with the survey.
    phase_offset, skip_cycles
        How loops are reduced: `curiosity_bluesky.devices.BandExcitation`. Without a
        `phase_offset` the sign of a loop that does not switch is a coin toss: have
        ``spectrometer.driver.calibrate(max_bias=...)`` find it before a run, at a place that does.
    folder
        Where AEBE writes its .hf5 files; an existing folder.
    check_scan_size
        Whether to refuse a `scan_size_um` that is not the microscope's own.
    timeout_s
        How long BEPyAE may take to start, s.

    Raises
    ------
    InputError
        If a parameter cannot be used or does not agree with what the instrument says.
    TimeoutError
        If BEPyAE does not start.
    """
    frame, where = ScanFrame(scan_size_um), Path(folder)
    if not where.is_dir():
        raise InputError(f"folder is {str(folder)!r}; expected an existing folder: make it first.")
    finite("max_bias", max_bias, 0.0, 1e3, "V")
    if not abs(tip_voltage) <= max_bias:
        raise InputError(
            f"tip_voltage is {tip_voltage!r} V; expected at most max_bias = {max_bias!r} V of "
            "either sign: lower it."
        )
    owner = AEThread(connect, timeout_s=timeout_s)
    try:
        if check_scan_size:
            _check_scan_size(frame, owner.call(_scan_size_um, timeout_s=30.0))
        if setpoints_v is None:
            stage = AEStage(owner, frame, transit_s=transit_s)
        else:
            try:
                contact_v, lifted_v = setpoints_v
            except (TypeError, ValueError):
                raise InputError(
                    f"setpoints_v is {setpoints_v!r}; expected two, in contact and lifted, V: "
                    "for example (1.0, -5.0)."
                ) from None
            stage = AELiftingStage(
                owner, frame, contact_v=contact_v, lifted_v=lifted_v, transit_s=transit_s
            )
        imager = AEImager(
            owner,
            frame,
            stage,
            pixels=pixels,
            pulse_s=pulse.duration_s,
            tip_voltage=tip_voltage,
            channels=channels,
            folder=where,
        )
        spectrogram = AESpectrogram(owner, pulse, waveform, max_bias=max_bias, folder=where)
        return AEcroscopyInstrument(
            owner,
            AFMStage(stage, name="stage"),
            Imager(imager, name="imager"),
            Spectrometer(
                BandExcitation(spectrogram, phase_offset=phase_offset, skip_cycles=skip_cycles),
                name="spectrometer",
            ),
        )
    except BaseException:
        owner.close()
        raise


def _scan_size_um(aebe: Any) -> tuple[float, float] | None:
    """Ask Igor for width and height (um), as `AECypher.Go_There` reckons; None if it cannot."""
    cypher = getattr(aebe, "ae_cypher", None)
    if cypher is None:
        return None
    variables: Mapping[str, float] = {}
    with contextlib.suppress(Exception):  # com_error, or a version without these variables
        variables = cypher.Get_MasterVariables()
    try:
        size = variables["ScanSize"] * 1e6
        sizes = float(size / variables["FastRatio"]), float(size / variables["SlowRatio"])
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return sizes if all(math.isfinite(s) and s > 0 for s in sizes) else None


def _check_scan_size(frame: ScanFrame, size: tuple[float, float] | None) -> None:
    given = frame.size["x"], frame.size["y"]
    if size is not None and not all(
        abs(a / b - 1) < 0.01 for a, b in zip(given, size, strict=True)
    ):
        raise InputError(
            f"scan_size_um is {given[0]:g} x {given[1]:g}, but the microscope's scan is "
            f"{size[0]:g} x {size[1]:g} um; expected the same: give that, or set the microscope "
            "(check_scan_size=False if you know better)."
        )
