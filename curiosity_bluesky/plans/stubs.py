"""Parts of `curiosity_plan` that other plans may use as well."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Checkable, Movable, Readable, Triggerable, WritesStreamAssets
from bluesky.utils import (
    IllegalMessageSequence,
    MsgGenerator,
    RequestAbort,
    RequestStop,
    maybe_await,
    short_uid,
)
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.documents.spectra import as_array
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Proposal, Survey
from curiosity_bluesky.learning.survey import LARGEST_VALUE
from curiosity_bluesky.plans import device_faults
from curiosity_bluesky.plans.readings import (
    SpectrumReader,
    call_device,
    configuration,
    position_problem,
    read,
    values,
)
from curiosity_bluesky.plans.stream_assets import StreamAssetProxy, with_stream_assets
from curiosity_bluesky.plans.time_budget import stated_seconds
from curiosity_bluesky.utils.run_end import EndKind, RunEnd

__all__ = [
    "BackgroundCall",
    "call_device",
    "call_in_thread",
    "check_reach",
    "configuration",
    "image_of",
    "in_a_run",
    "last_survey",
    "measure",
    "measure_point",
    "read_into_event",
    "refusals",
    "save",
    "take_survey",
]

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """Blocking work in a thread of its own, begun at once, while the RunEngine stays free.

    Parameters
    ----------
    func
        What to call.
    *args
        Its arguments.
    """

    def __init__(self, func: Callable[..., T], *args: Any) -> None:
        self._func, self._args = func, args
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._future.set_result(func(*args))
            except BaseException as error:  # handed to whoever waits for the future
                self._future.set_exception(error)

        # A daemon: an interpreter that exits does not wait for a training.
        threading.Thread(target=run, name=f"call {func!r}", daemon=True).start()

    def again(self) -> BackgroundCall[T]:
        """Begin the same work once more."""
        return BackgroundCall(self._func, *self._args)

    def result(self) -> MsgGenerator[T]:
        """Wait for the work and return what came of it, or raise what it raised.

        Pause, stop and Ctrl-C work meanwhile. When the RunEngine goes back to a checkpoint
        and repeats its messages, it waits for the same work again.
        """

        async def wait() -> None:
            # Shielded, since a pause cancels the wait and must not cancel the work.
            waiting = asyncio.shield(asyncio.wrap_future(self._future))
            await asyncio.wait([waiting])
            waiting.exception()  # asked for, so that asyncio does not complain; raised below

        yield from bps.wait_for([wait])
        return self._future.result()


def call_in_thread(func: Callable[..., T], *args: Any) -> MsgGenerator[T]:
    """Run blocking work in a thread and wait for it, see `BackgroundCall`."""
    return (yield from BackgroundCall(func, *args).result())


def measure(devices: Sequence[Readable]) -> MsgGenerator[None]:
    """Trigger devices together and wait until all are done."""
    group = short_uid("measure")
    for device in devices:
        if isinstance(device, Triggerable):
            yield from bps.trigger(device, group=group)
    yield from bps.wait(group)


def save(stream: str, devices: Sequence[Readable]) -> MsgGenerator[None]:
    """Write one event of a stream from what devices or records read now.

    A checkpoint follows, so that a pause repeats at most this one event: if the pause falls
    between the event and the checkpoint, the event comes a second time with the same
    ``seq_num``. It counts once, the first time: so the explorer, `JournaledWriter` and
    `documents.read` have it.
    """
    yield from read_into_event(stream, [with_stream_assets(device) for device in devices])
    yield from bps.save()
    yield from bps.checkpoint()


def in_a_run(
    plan: MsgGenerator[str],
    md: Mapping[str, Any],
    trouble: Callable[[], RunEnd | None] = lambda: None,
    opened: Callable[[str | None], None] = lambda uid: None,
) -> MsgGenerator[str]:
    """Enclose a plan in a run, like `bluesky.preprocessors.run_wrapper`.

    What the plan returns becomes the ``reason`` in the stop document. After ``RE.abort(reason)``
    the RunEngine itself closes the run, with that reason, when the plan has cleaned up.

    Parameters
    ----------
    plan
        What is done in the run.
    md
        For the start document.
    trouble
        Asked on ``RE.stop()`` what the plan had paused for, None if it had not.
    opened
        Called with the uid of the run, before anything is done in it.

    Returns
    -------
    str
        uid of the run.
    """
    uid = yield from bps.open_run(dict(md))
    opened(uid)
    reasons: list[str] = []

    def noted() -> MsgGenerator[None]:
        reasons.append((yield from plan))

    def failed(error: Exception) -> MsgGenerator[None]:
        if isinstance(error, RequestAbort):
            # Only the RunEngine knows the reason that it was given. What an event had begun with
            # would forbid what comes before it closes the run, such as lifting the tip.
            with contextlib.suppress(IllegalMessageSequence):
                yield from bps.drop()
        elif isinstance(error, RequestStop):
            end = trouble() or RunEnd(EndKind.STOPPED, "RE.stop()")
            yield from bps.close_run(exit_status=error.exit_status, reason=str(end))
        else:
            yield from bps.close_run(exit_status="fail", reason=str(error))

    def done() -> MsgGenerator[None]:
        yield from bps.close_run(reason=reasons[0])

    yield from bpp.contingency_wrapper(noted(), except_plan=failed, else_plan=done)
    return uid


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


def measure_point(
    proposal: Proposal,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    *,
    attempt: int = 0,
    min_quality: float = 0.0,
    timeout: float | None = None,
    tolerance: tuple[float, float] | None = None,
    refusal: Callable[[], str | None] = lambda: None,
    dose: Callable[[], str | None] = lambda: None,
    tip: Movable | None = None,
    remaining: float = np.nan,
    target: tuple[float, float] | None = None,
    spectra: SpectrumReader | None = None,
    doses: int = 0,
) -> MsgGenerator[str | None]:
    """Go to a proposed pixel, measure there and write one event of the primary stream.

    Parameters
    ----------
    proposal
        Where.
    detectors, x, y
        What measures, and what moves (um).
    attempt
        Which attempt this is, for the record.
    min_quality
        A spectrum of a lower quality counts as failed; it is written all the same.
    timeout
        Seconds that the move and the measurement may take, each; None for any time.
    tolerance
        How far from its target (um) each motor may end; None for any distance.
    refusal
        Asked before each move and measurement, also those that a pause repeats, whether
        somebody said not to: why, or None.
    dose
        Asked in the same way before each measurement: each may change the sample.
    tip
        Lifted before the move and lowered after it: it is set to ``up`` and ``down``.
    remaining
        Seconds that the run is expected to go on after this point, for the record.
    target
        Where the pixel is by now, x and y in um; default: where it was in the survey.
    spectra
        Knows what the spectra before were like; default: there were none.

    doses
        How often the sample was measured in this attempt already, for the record: in a run that
        was broken off.

    Returns
    -------
    str or None
        What failed: a device that raised or did not answer in time, a target that was not
        reached, a spectrum of low quality (a `PoorSpectrum`) or unlike those before. None if all is
        well.

    Raises
    ------
    InputError
        If the detectors read no spectrum, or one that cannot be learned or recorded.
    """
    to_x, to_y = (proposal.x, proposal.y) if target is None else target

    def dosed() -> str | None:
        nonlocal doses
        why = before(lift, moves, lower) or dose()
        doses += why is None
        return why

    def before(*steps: Sequence[device_faults.GuardedSet]) -> str | None:
        return refusal() or device_faults.unfinished([job for step in steps for job in step])

    lift = [] if tip is None else [device_faults.GuardedSet(tip, "up", refusal)]
    moves = [
        device_faults.GuardedSet(motor, to, lambda: before(lift))
        for motor, to in ((x, to_x), (y, to_y))
    ]
    lower = (
        [] if tip is None else [device_faults.GuardedSet(tip, "down", lambda: before(lift, moves))]
    )
    triggers = [
        # They measure together: one dose.
        device_faults.GuardedTrigger(d, (lambda: before(lift, moves, lower)) if k else dosed)
        for k, d in enumerate(d for d in detectors if isinstance(d, Triggerable))
    ]
    jobs = [*lift, *moves, *lower, *triggers]
    for step in (lift, moves, lower):
        if step and (failed := (yield from device_faults.wait_for_all(step, timeout))):
            return failed
    seen = [job.outcome for job in (*lift, *moves, *lower)]
    try:
        failed = yield from _astray(moves, tolerance)
        if failed:
            return failed
        # What is only read is measured by reading it.
        failed = (yield from device_faults.wait_for_all(triggers, timeout)) if triggers else dosed()
        if failed:
            return failed
        seen += [job.outcome for job in triggers]
        about = {
            "decision_id": proposal.decision_id,
            "attempt": attempt,
            "doses": doses,
            "remaining": remaining,
        }
        spectra = SpectrumReader(detectors) if spectra is None else spectra
        poor = yield from _bundled(proposal, detectors, [x, y], spectra, about, min_quality)
        # After a pause the RunEngine moved and measured again, behind the plan's back.
        if seen != [job.outcome for job in jobs]:
            failed = "; ".join(device_faults.failures(jobs)) or (
                yield from _astray(moves, tolerance)
            )
    except device_faults.NOT_OURS:
        raise
    except Exception as error:  # whatever an instrument raises when it is read
        yield from device_faults.give_up(
            [job for job in jobs if job.outcome and not job.outcome.done]
        )
        return device_faults.in_words(error)
    if failed:
        yield from bps.drop()
        yield from device_faults.give_up(jobs)
        return failed
    # Not among what an instrument may raise: who listens to the documents may raise as well.
    yield from bps.save()
    yield from bps.checkpoint()
    return poor


def _bundled(
    proposal: Proposal,
    detectors: Sequence[Any],
    motors: Sequence[Any],
    spectra: SpectrumReader,
    about: Mapping[str, Any],
    min_quality: float,
) -> MsgGenerator[str | None]:
    """Put one event of the primary stream together; say what is wrong with its spectrum."""
    devices = [*detectors, *motors]
    readings = []
    for device in devices:
        readings.append((yield from read(device)))
    everything = {key: value for reading in readings for key, value in reading.items()}
    # Judged before the event is begun: what is refused leaves nothing behind.
    spectrum = yield from spectra.of(readings[: len(detectors)], everything)
    expected = {**about, **documents.prediction_values(proposal, spectrum.channels)}
    expectation = PlanReadable("expectation", expected, channels=spectrum.channels)
    yield from read_into_event(documents.PRIMARY, [*devices, expectation])
    return quality_problem(spectrum.quality, min_quality)


def read_into_event(stream: str, devices: Sequence[Any]) -> MsgGenerator[None]:
    """Begin an event and read devices into it; where one fails, drop it and say what failed."""
    yield from bps.create(name=stream)
    try:
        for device in devices:
            yield from bps.read(device)
    except Exception:
        # Where a pause had it repeated, it may have failed before there was anything to drop.
        with contextlib.suppress(IllegalMessageSequence):
            yield from bps.drop()
        raise


class PoorSpectrum(str):
    """What is wrong with a spectrum that an instrument took without a fault."""


def quality_problem(quality: float, min_quality: float) -> PoorSpectrum | None:
    """Say what is wrong with a spectrum of some quality; None if it is good enough."""
    if quality < 0:
        return PoorSpectrum(
            "quality 0 of the spectrum: it holds no number, or one beyond "
            f"{LARGEST_VALUE:g}, such as an overload"
        )
    if quality < min_quality:
        return PoorSpectrum(f"quality {quality:.2g} of the spectrum, less than {min_quality:.2g}")
    return None


def _astray(
    moves: Sequence[device_faults.GuardedSet], tolerance: tuple[float, float] | None
) -> MsgGenerator[str | None]:
    """Say which motor is not where it was sent; None if all are, or do not tell."""
    for move, allowed in zip(moves, tolerance or (np.inf, np.inf), strict=True):
        motor = move.device
        if not isinstance(motor, Readable):
            continue
        # Not by a message "read", which would be part of the event that is put together.
        found = values((yield from call_device(motor.read)))
        position = found.get(position_keys(motor)[0], move.target)
        if (problem := position_problem(position, move.target, allowed)) is not None:
            return f"{move.name}: {problem}"
    return None


def position_keys(motor: Any) -> list[str]:
    """Return the data keys that say where a motor is, the most telling one first."""
    return list(getattr(motor, "hints", {}).get("fields") or [motor.name])
