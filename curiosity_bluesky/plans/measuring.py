"""One attempt at a point: move, measure, judge and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Movable, Readable, Triggerable
from bluesky.utils import MsgGenerator, short_uid

from curiosity_bluesky import documents
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.learning import Proposal
from curiosity_bluesky.learning.survey import LARGEST_VALUE
from curiosity_bluesky.plans import device_faults
from curiosity_bluesky.plans.readings import (
    SpectrumReader,
    call_device,
    position_problem,
    read,
    values,
)
from curiosity_bluesky.plans.run_wrapper import read_into_event
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure


def measure(devices: Sequence[Readable]) -> MsgGenerator[None]:
    """Trigger devices together and wait until all are done."""
    group = short_uid("measure")
    for device in devices:
        if isinstance(device, Triggerable):
            yield from bps.trigger(device, group=group)
    yield from bps.wait(group)


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
    refusal: Callable[[], PointFailure | None] = lambda: None,
    dose: Callable[[], PointFailure | None] = lambda: None,
    tip: Movable | None = None,
    dwell: Movable | None = None,
    remaining: float = np.nan,
    target: tuple[float, float] | None = None,
    spectra: SpectrumReader | None = None,
    doses: int = 0,
) -> MsgGenerator[PointFailure | None]:
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
        it is vetoed: why, or None.
    dose
        Asked in the same way before each measurement: each may change the sample.
    tip
        Lifted before the move and lowered after it: it is set to ``up`` and ``down``.
    dwell
        The detector's dwell setting: it is set to that of the proposal before the spectrum.
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
    PointFailure or None
        What failed: a device that raised or did not answer in time, a target that was not
        reached, a spectrum unlike those before (`FailureKind.INSTRUMENT`), or one of low quality
        (`FailureKind.QUALITY`). None if all is well.

    Raises
    ------
    InputError
        If the detectors read no spectrum, or one that cannot be learned or recorded.
    """
    to_x, to_y = (proposal.x, proposal.y) if target is None else target

    def dosed() -> str | None:
        nonlocal doses
        why = ready() or _text(dose())
        doses += why is None
        return why

    def ready() -> str | None:
        return before(lift, moves, settings, lower)

    def before(*steps: Sequence[device_faults.GuardedSet]) -> str | None:
        jobs = [job for step in steps for job in step]
        return _text(refusal()) or device_faults.unfinished(jobs)

    lift = [] if tip is None else [device_faults.GuardedSet(tip, "up", before)]
    moves = [
        device_faults.GuardedSet(motor, to, lambda: before(lift))
        for motor, to in ((x, to_x), (y, to_y))
    ]
    settings = (
        []
        if dwell is None or proposal.dwell is None
        else [device_faults.GuardedSet(dwell, proposal.dwell, before)]
    )
    lower = (
        [] if tip is None else [device_faults.GuardedSet(tip, "down", lambda: before(lift, moves))]
    )
    triggers = [
        # They measure together: one dose.
        device_faults.GuardedTrigger(d, ready if k else dosed)
        for k, d in enumerate(d for d in detectors if isinstance(d, Triggerable))
    ]
    jobs = [*lift, *moves, *settings, *lower, *triggers]
    for step in (lift, moves, settings, lower):
        if step and (failed := (yield from device_faults.wait_for_all(step, timeout))):
            return PointFailure(FailureKind.INSTRUMENT, failed)
    seen = [job.outcome for job in (*lift, *moves, *settings, *lower)]
    try:
        failed = (yield from _astray(moves, tolerance)) or (yield from _not_set(settings))
        if failed:
            return PointFailure(FailureKind.INSTRUMENT, failed)
        # What is only read is measured by reading it.
        failed = (yield from device_faults.wait_for_all(triggers, timeout)) if triggers else dosed()
        if failed:
            return PointFailure(FailureKind.INSTRUMENT, failed)
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
        return PointFailure(FailureKind.INSTRUMENT, device_faults.in_words(error))
    if failed:
        yield from bps.drop()
        yield from device_faults.give_up(jobs)
        return PointFailure(FailureKind.INSTRUMENT, failed)
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
) -> MsgGenerator[PointFailure | None]:
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


def quality_problem(quality: float, min_quality: float) -> PointFailure | None:
    """Say what is wrong with a spectrum of some quality; None if it is good enough."""
    if quality < 0:
        text = (
            "quality 0 of the spectrum: it holds no number, or one beyond "
            f"{LARGEST_VALUE:g}, such as an overload"
        )
    elif quality < min_quality:
        text = f"quality {quality:.2g} of the spectrum, less than {min_quality:.2g}"
    else:
        return None
    return PointFailure(FailureKind.QUALITY, text)


def _text(why: PointFailure | None) -> str | None:
    return None if why is None else str(why)


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


def _not_set(settings: Sequence[device_faults.GuardedSet]) -> MsgGenerator[str | None]:
    """Say which setting is not what it was set to; None if all are, or do not tell."""
    for setting in settings:
        if isinstance(setting.device, Readable):
            found = values((yield from call_device(setting.device.read)))
            if (value := found.get(setting.name, setting.target)) != setting.target:
                return f"{setting.name} was set to {setting.target:g} and reads {value:g}"
    return None


def position_keys(motor: Any) -> list[str]:
    """Return the data keys that say where a motor is, the most telling one first."""
    return list(getattr(motor, "hints", {}).get("fields") or [motor.name])
