"""Overview images from `AEBE.raster_scan`: its quick-fit channels, and those of the DAQ card."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from curiosity_bluesky.devices.aecroscopy.com_thread import AEThread, CallAborted
from curiosity_bluesky.devices.aecroscopy.settings import finite, whole
from curiosity_bluesky.devices.aecroscopy.stage import AEStage, ScanFrame
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

QUICK_FIT = {"amplitude": "", "frequency": "Hz", "quality_factor": "", "phase": "rad"}
"""BEPyAE's quick fit of an oscillator at each pixel, in its order."""

_LINE_SECONDS = 0.5 + 0.3
"""Seconds of the move to the start of a line, which AEBE fixes at 0.5 s, and its polls."""
_START_SECONDS = 8.0
"""Two uploads with 2 s between, the way to the first line, the file."""


class AEImager:
    """`ImagerDriver` for overview images through AEBE.

    The first row of an image is the lowest line of the scan (y = -1, 0 um), the first
    column its left edge. A pixel where the quick fit found no number has that of the nearest
    one. `AEBE` writes each scan with its spectra, as measured, to an .hf5 file.

    Parameters
    ----------
    owner
        The thread with the AEBE.
    frame
        Where the scan lies.
    stage
        Is told where a scan leaves the tip.
    pixels
        Lines of a scan, and pixels of a line: AEBE's raster scans are square.
    pulse_s
        Duration of the band excitation pulse, one a pixel, s.
    tip_voltage
        DC bias during the scan, V.
    channels
        Names for the DAQ card's channels 1, 2 and 3, as many as are to be recorded.
    folder
        Where the .hf5 files go.

    Raises
    ------
    InputError
        If a parameter cannot be used.
    """

    def __init__(
        self,
        owner: AEThread,
        frame: ScanFrame,
        stage: AEStage,
        *,
        pixels: int,
        pulse_s: float,
        tip_voltage: float = 0.0,
        channels: Sequence[str] = (),
        folder: Path = Path(),
    ) -> None:
        self._owner, self._frame, self._stage = owner, frame, stage
        self._pixels = whole("pixels", pixels, 2, 4096)
        self._pulse_s = pulse_s
        self._tip_voltage = finite("tip_voltage", tip_voltage, -1e3, 1e3, "V")
        names = [*QUICK_FIT, *channels]
        if len(channels) > 3 or len(set(names)) < len(names):
            raise InputError(
                f"channels is {list(channels)!r}; expected at most three names, none of them "
                f"twice or one of {', '.join(QUICK_FIT)}: the DAQ card has three more channels."
            )
        self._channels = {**QUICK_FIT, **dict.fromkeys(channels, "")}
        self._folder = folder
        self._took: float | None = None

    @property
    def image_channels(self) -> Mapping[str, str]:
        """Channel name to units; "" where BEPyAE gives arbitrary ones."""
        return dict(self._channels)

    @property
    def image_axes(self) -> tuple[NDArray, NDArray]:
        """Columns (pixels,) and rows (pixels,), um, both from 0."""
        return self._frame.centres(self._pixels)

    @property
    def image_settings(self) -> Mapping[str, float]:
        """DC bias during the scan, V, and duration of a pulse, s."""
        return {"tip_voltage": self._tip_voltage, "be_duration_s": float(self._pulse_s)}

    @property
    def image_setting_units(self) -> Mapping[str, str]:
        """Setting to units."""
        return {"tip_voltage": "V", "be_duration_s": "s"}

    @property
    def scan_seconds(self) -> float:
        """How long a scan took the last time; before the first, what is to be expected, s."""
        line = _LINE_SECONDS + self._pixels * self._pulse_s
        return self._took or _START_SECONDS + self._pixels * line

    def scan(self) -> Mapping[str, NDArray]:
        """Take one image; the tip ends at the end of the last line.

        Returns
        -------
        dict
            Channel name to (pixels, pixels), float64.

        Raises
        ------
        CallAborted
            If `abort` was called.
        RuntimeError
            If BEPyAE returned no complete image.
        """
        began = time.monotonic()
        timeout_s = 3 * self.scan_seconds + 60.0
        images = self._owner.call(self._take, kind="measurement", timeout_s=timeout_s)
        self._took = time.monotonic() - began
        return images

    def abort(self) -> None:
        """Give up a scan after the line under way; from another thread."""
        self._owner.abort("measurement")

    def _take(self, aebe: Any) -> dict[str, NDArray]:
        gate, n = self._owner.gate, self._pixels
        # raster_scan misspells the voltage's name on its way to the panel, so it would take
        # what the panel has: that is put there first.
        gate.setcontrolvalue(
            "Initialize_BE_line_scan_control_cluster", (self._tip_voltage, n, False)
        )
        self._owner.uploaded = "line"
        self._stage.placed(self._frame.size["x"], self._frame.size["y"])
        gate.lines = []
        try:
            aebe.raster_scan(
                file_name=str(self._folder / "BEPFM"),
                raster_parms_dict={
                    "tip_voltage": self._tip_voltage,
                    "scan_pixel": n,
                    "scan_x_start": -1.0,
                    "scan_y_start": -1.0,
                    "scan_x_stop": 1.0,
                    "scan_y_stop": 1.0,
                },
                feedbackon=False,
                progress_on=False,
                ploton=False,
            )
        except (CallAborted, TimeoutError):
            raise
        except Exception as error:
            if len(gate.lines) != n + 1:
                raise
            # The image is complete; only AEBE's own data set or file could not be made.
            logger.warning("the scan is complete, but AEBE could not write its file: %s", error)
        # The first is from before: do_line_scan reads its result after the upload as well.
        return self._images(gate.lines[1:])

    def _images(self, lines: Sequence[Any]) -> dict[str, NDArray]:
        n = self._pixels
        try:
            fits = np.array([line[3] for line in lines], float)[..., : len(QUICK_FIT)]
            stack = [fits[..., index] for index in range(len(QUICK_FIT))]
            for index in range(len(self._channels) - len(QUICK_FIT)):
                # Each line of these is (pixels,) or (pixels, 1).
                stack.append(np.array([line[4 + index] for line in lines], float).reshape(n, -1))
            shapes = {image.shape for image in stack}
        except (ValueError, IndexError, TypeError) as error:
            raise RuntimeError(
                f"BEPyAE's lines do not make an image ({error}): take one scan by hand."
            ) from error
        if shapes != {(n, n)}:
            raise RuntimeError(
                f"BEPyAE returned images of {sorted(shapes)}; expected {(n, n)} (lines, pixels): "
                "take one scan by hand and see what the panel shows, above all which channels "
                "are set."
            )
        return {
            name: _filled(name, image) for name, image in zip(self._channels, stack, strict=True)
        }


def _filled(name: str, image: NDArray) -> NDArray:
    """Give pixels without a number that of the nearest one: an explorer needs whole images."""
    bad = ~np.isfinite(image)
    if bad.all():
        raise RuntimeError(
            f"BEPyAE's {name} has no number at any pixel: take one scan by hand, is the resonance "
            "inside the band?"
        )
    if bad.any():
        logger.warning("%s has no number at %d pixels: filled from the nearest", name, bad.sum())
        nearest = distance_transform_edt(bad, return_distances=False, return_indices=True)
        rows, columns = np.asarray(nearest)
        image = image[rows, columns]
    return image
