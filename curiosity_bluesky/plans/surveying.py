"""The survey: taking it, and asking whether its pixels are within reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Checkable, Movable, Readable, Triggerable, WritesStreamAssets
from bluesky.utils import MsgGenerator, maybe_await, short_uid
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.documents.spectra import as_array
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Survey
from curiosity_bluesky.plans import device_faults
from curiosity_bluesky.plans.readings import call_device, configuration, read
from curiosity_bluesky.plans.stream_assets import StreamAssetProxy, with_stream_assets
from curiosity_bluesky.plans.time_budget import stated_seconds


def take_survey(
    imager: Readable, mask: NDArray | None = None, timeout: float | None = None
) -> MsgGenerator[Survey]:
    """Take the overview image; it is written nowhere yet.

    Parameters
    ----------
    imager
        What takes the image; each 2-D array that it reads, or writes to an HDF5 file and says so
        in ``stream_resource`` documents, is a channel.
    mask
        ``(rows, cols)``, True where nothing may be measured.
    timeout
        Seconds that it may take, or three times as long as the imager says that it takes, if
        that is more; None for any time.

    Returns
    -------
    Survey

    Raises
    ------
    InputError
        If there is no image in that time.
    """
    if isinstance(imager, Triggerable):
        yield from _triggered(device_faults.GuardedTrigger(imager), survey_timeout(imager, timeout))
    reading = yield from _seen(imager)
    return documents.survey_from(reading, (yield from configuration(imager)), mask)


def survey_timeout(imager: Readable, timeout: float | None) -> float | None:
    """Return how long to wait for an image (s): as long as anybody says that it may take."""
    return None if timeout is None else max(timeout, 3 * (stated_seconds(imager) or 0.0))


def _triggered(job: device_faults.GuardedTrigger, timeout: float | None) -> MsgGenerator[None]:
    """Measure, and raise what the device raises, or that it is late."""
    group = short_uid("look")
    yield from job.start(group)
    try:
        yield from bps.wait(group, timeout=timeout)
    except TimeoutError:
        yield from device_faults.give_up([job])
        raise InputError(
            f"{job.name} took no survey within {timeout:g} s; look at the instrument, or give a "
            "longer timeout"
        ) from None
    if job.outcome is not None:
        job.outcome.check(f"the survey of {job.name}")


def last_survey(imager: Readable, mask: NDArray | None = None) -> MsgGenerator[Survey | None]:
    """Return the survey that the imager holds from the last time, None if it holds none.

    Nothing moves. The parameters are those of `take_survey`.
    """
    if isinstance(imager, WritesStreamAssets):  # what it wrote the last time is in its files
        return None
    reading = yield from read(imager)
    if not documents.holds_image(reading, mask):
        return None
    return documents.survey_from(reading, (yield from configuration(imager)), mask)


def image_of(imager: Readable) -> MsgGenerator[tuple[dict[str, NDArray], dict[str, NDArray]]]:
    """Return the image that an imager holds, channel to ``(rows, cols)``, and its axes (um)."""
    reading = yield from _seen(imager)
    known = yield from configuration(imager)
    image = _images(reading)
    axes = {k[-1]: np.asarray(v) for k, v in known.items() if k.endswith(("_x", "_y"))}
    return image, {axis: values for axis, values in axes.items() if values.ndim == 1}


def _images(reading: Mapping[str, Any]) -> dict[str, NDArray]:
    arrays = {key: as_array(key, value) for key, value in reading.items()}
    return {key: array for key, array in arrays.items() if array.ndim == 2}


def _seen(imager: Readable) -> MsgGenerator[dict[str, Any]]:
    """Return what an imager reads, what it has written to files included."""
    taken = with_stream_assets(imager)
    reading = yield from read(taken)
    if isinstance(taken, StreamAssetProxy):
        reading |= yield from call_device(taken.arrays)
    return reading


def check_reach(survey: Survey, x: Movable, y: Movable) -> MsgGenerator[None]:
    """Make sure that the motors may go to every pixel that may be measured.

    Raises
    ------
    InputError
        If a motor refuses the outermost of these positions, or cannot be asked.
    """
    allowed = ~survey.mask
    for motor, axis, positions in (
        (x, "x", survey.x[allowed.any(axis=0)]),
        (y, "y", survey.y[allowed.any(axis=1)]),
    ):
        if not isinstance(motor, Checkable) or not len(positions):
            continue
        ends = [float(positions.min()), float(positions.max())]
        name = getattr(motor, "name", axis)
        try:
            answers = yield from refusals(motor, ends)
        except OSError as error:
            raise InputError(
                f"{name} cannot be asked whether it may go where the survey is "
                f"({device_faults.in_words(error)}); see to the instrument and begin again"
            ) from error
        for position, error in zip(ends, answers, strict=True):
            if error is not None:
                raise InputError(
                    f"the survey reaches {axis} = {position:g} um, where {name} may not go "
                    f"({error}); mask what is out of reach, or take the survey elsewhere"
                )


def refusals(motor: Movable, positions: Sequence[float]) -> MsgGenerator[list[Exception | None]]:
    """Ask a motor whether it may go to each position: why not, None where it may.

    Raises
    ------
    OSError
        If it cannot be asked, which is no refusal: the connection is lost (`ConnectionError`), or
        it does not answer (`TimeoutError`).
    """
    if not isinstance(motor, Checkable):
        return [None] * len(positions)
    answers: list[Exception | None] = []
    silent: list[OSError] = []

    async def ask() -> None:
        answers.clear()
        silent.clear()
        for position in positions:
            try:
                await maybe_await(motor.check_value(position))
            except OSError as error:
                silent.append(error)
                return
            except Exception as error:  # each kind of motor has its own
                answers.append(error)
            else:
                answers.append(None)

    yield from bps.wait_for([ask])
    if silent:
        raise silent[0]
    return answers
