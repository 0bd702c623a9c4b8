"""What devices say: their readings, descriptions and configuration, and the spectra in them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Configurable, Readable
from bluesky.utils import Msg, MsgGenerator, maybe_await
from numpy.typing import NDArray

from curiosity_bluesky.documents import Spectrum, spectrum_of
from curiosity_bluesky.documents.spectra import (
    LEAST,
    as_array,
    as_dtype,
    complex_in_words,
    kind_of,
    may_be_image,
    real,
    why_no_spectrum,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans._bluesky_compat import metadata_per_call
from curiosity_bluesky.utils.masked import has_masked


def call_device(question: Callable[[], Any]) -> MsgGenerator[Mapping[str, Any]]:
    """Ask a device something; it may answer at once (ophyd) or be awaited (ophyd-async)."""
    [found] = yield from ask_devices([question])
    if isinstance(found, Exception):
        raise found
    return found


def ask_devices(
    questions: Sequence[Callable[[], Any]],
) -> MsgGenerator[list[Mapping[str, Any] | Exception]]:
    """Ask devices several things by one message, each of them once.

    The answer is the exception where a question failed.
    """
    found: list[Mapping[str, Any] | Exception] = []

    async def ask() -> None:
        found.clear()  # a pause has it asked again
        for question in questions:
            try:
                found.append(dict(await maybe_await(question())))
            except Exception as error:  # wait_for itself raises nothing
                found.append(error)

    yield from bps.wait_for([ask])
    return found


def configuration(device: Any) -> MsgGenerator[dict[str, Any]]:
    """Return the values of a device's configuration by data key; no message "read" is sent."""
    return values((yield from call_device(device.read_configuration)))


def values(reading: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values of what a device answered, by data key."""
    return {key: signal["value"] for key, signal in (reading or {}).items()}


def position_problem(position: Any, target: float, tolerance: float) -> str | None:
    """Say what is wrong with where a motor is, None if nothing is, or it gives no one number.

    Parameters
    ----------
    position
        What the motor reads.
    target
        Where it was sent (um).
    tolerance
        How far from there it may be (um).
    """
    if np.size(position) != 1:
        return None
    where = float(np.ma.filled(np.ma.asarray(position, float), np.nan).item())
    if not np.isfinite(where):
        return f"where the stage is cannot be told: it reads {where:g}"
    away = abs(where - target)
    if away > tolerance:
        return f"ended {away:.3g} um from its target {target:.4g} um"
    return None


def is_executed() -> MsgGenerator[bool]:
    """Say whether a RunEngine answers the messages, or a simulator only looks at them.

    A RunEngine answers this one always, also where a pause falls just then: it takes no time,
    so it cannot be interrupted.
    """
    return (yield Msg("RE_class")) is not None


class _Onlooker:
    """Takes the place of a suspender: to nothing else in a message does bluesky give the RunEngine.

    It never suspends anything.
    """

    def __init__(self) -> None:
        self.always: dict[str, Any] = {}
        self.this_time: dict[str, Any] = {}

    def install(self, RE: Any, event_type: Any = None) -> None:
        """Note the metadata that the RunEngine adds."""
        self.always = dict(RE.md)
        self.this_time = metadata_per_call(RE)

    def remove(self) -> None:
        """Do nothing: nothing is held."""

    def get_futures(self) -> tuple[list[Any], str]:
        """Return nothing to wait for."""
        return [], ""


def metadata_of_engine() -> MsgGenerator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what the RunEngine adds to each start document, and to those of this call alone.

    Both are empty where no RunEngine answers. What a preprocessor adds to the message
    ``open_run`` is not known before the run opens.
    """
    onlooker = _Onlooker()
    yield Msg("install_suspender", None, onlooker)
    yield Msg("remove_suspender", None, onlooker)
    return onlooker.always, onlooker.this_time


def read(device: Readable) -> MsgGenerator[dict[str, Any]]:
    """Read a device by a message and return the values by data key.

    Raises
    ------
    InputError
        If no RunEngine answers.
    """
    # A message that a pause interrupts is repeated, but its answer never reaches the plan.
    reading = yield from bps.read(device)
    while reading is None:
        if not (yield from is_executed()):
            raise InputError(
                f"no RunEngine reads {device.name}: the plan depends on its readings, so it cannot "
                "be simulated without a RunEngine; curiosity_plan(..., dry_run=True) shows what "
                "would be done, and bluesky.simulators.RunEngineSimulator takes answers to `read`"
            )
        reading = yield from bps.read(device)
    return values(reading)


class SpectrumReader:
    """Knows which data keys of the detectors are the spectrum, and whether a reading fits them.

    Channels are the 1-D arrays of numbers with two points or more that a detector reads, or those
    that its ``learned`` names. The first reading settles them: one that is not as its detector
    describes it would be recorded otherwise than it is learned, and ends the run. A later
    one that differs from the first is a measurement that failed.

    Parameters
    ----------
    detectors
        Only they have spectra; a motor's reading is none.
    """

    def __init__(self, detectors: Sequence[Readable]) -> None:
        self._detectors = detectors
        self._channels: dict[str, int] = {}
        self._described: dict[str, Mapping[str, Any]] = {}
        self._detector_of: dict[str, str] = {}

    def of(
        self, readings: Sequence[Mapping[str, Any]], everything: Mapping[str, Any]
    ) -> MsgGenerator[Spectrum]:
        """Return the spectrum in a reading, judged as the agent will judge it.

        Parameters
        ----------
        readings
            What each detector read, data key to value.
        everything
            What goes into the event.

        Raises
        ------
        InputError
            If there is no spectrum, it is not made of real numbers, or the first one is not as
            its detector describes it.
        ValueError
            If values are masked, or a later one differs from the first.
        """
        if masked := [key for key, value in everything.items() if has_masked(value)]:
            raise ValueError(
                f"{', '.join(masked)} has masked values, behind which there are numbers that would "
                "be recorded as measured; let the device give NaN in their place"
            )
        if not self._channels:
            yield from self._settle(readings)
        for key, points in self._channels.items():
            if key not in everything:
                raise ValueError(f"{key} was not read")
            with _of(self._detector_of[key]):
                array = as_array(key, everything[key])
                misfit = _misfit(key, array, self._described[key], points)
            if misfit:
                raise ValueError(f"{key} {misfit}")
        return spectrum_of(everything, self._channels)

    def descriptor(self) -> MsgGenerator[dict[str, Any]]:
        """Return what a descriptor says of the channels: data keys and configuration.

        Without data keys where no spectrum was read.
        """
        configured = {}
        detectors: list[Any] = [d for d in self._detectors if isinstance(d, Configurable)]
        for detector in detectors if self._channels else []:
            described = yield from call_device(detector.describe_configuration)
            held = yield from configuration(detector)
            configured[detector.name] = {"data": held, "data_keys": described}
        data_keys = {
            key: {**self._described[key], "shape": [points]}
            for key, points in self._channels.items()
        }
        return {"data_keys": data_keys, "configuration": configured}

    def _settle(self, readings: Sequence[Mapping[str, Any]]) -> MsgGenerator[None]:
        channels: dict[str, int] = {}
        for detector, read in zip(self._detectors, readings, strict=True):
            described = yield from call_device(detector.describe)
            expected = {k for k, about in described.items() if about.get("external") != "STREAM:"}
            if odd := sorted(expected ^ set(read)):
                raise InputError(
                    f"{detector.name} reads {', '.join(read) or 'nothing'} and describes "
                    f"{', '.join(described) or 'nothing'}; correct its read() or describe(): "
                    f"{', '.join(odd)} must be in both or in neither"
                )
            with _of(detector.name):
                arrays = {key: as_array(key, value) for key, value in read.items()}
            if empty := [key for key, array in arrays.items() if not array.size]:
                raise InputError(
                    f"{', '.join(empty)} of {detector.name} is an array of no value, which the "
                    "store cannot hold; let the detector read something, or leave it out"
                )
            for key, array in _channels(detector, arrays).items():
                self._detector_of[key] = detector.name
                if misfit := _misfit(key, array, described[key], array.size):
                    raise InputError(
                        f"{key} {misfit}, so it would not be recorded as it was measured; correct "
                        f"describe() of {detector.name}"
                    )
                channels[key] = array.size
                self._described[key] = described[key]
        if not channels:
            names = ", ".join(detector.name for detector in self._detectors) or "nothing"
            found = [_in_words(key, value) for read in readings for key, value in read.items()]
            raise InputError(
                f"{names} reads no spectrum ({', '.join(found) or 'it reads nothing'}); give a "
                f"detector that reads a 1-D array of {LEAST} or more real numbers, or there is "
                "nothing to learn"
            )
        self._channels = channels


def check_real(detector: Any, described: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Refuse, before anything moves, a spectrum that is known already to be complex.

    Parameters
    ----------
    detector
        What reads it.
    described
        What it describes, {} if it does not yet.
    held
        What it holds from the last time, data key to value; {} if that is not known.

    Raises
    ------
    InputError
        If it is.
    """
    wanted = getattr(detector, "learned", None)
    for key in wanted if wanted is not None else [*described, *held]:
        about = described.get(key, {})
        said = about.get("dtype_numpy")
        if isinstance(said, str) and said.lstrip("<>|=")[:1] == "c":
            found = len(about.get("shape", ())) == 1
        else:
            found = np.iscomplexobj(held.get(key, 0.0)) and np.ndim(held[key]) == 1
        if found:
            raise InputError(f"{detector.name}: {complex_in_words(key)}")


@contextlib.contextmanager
def _of(detector: str) -> Iterator[None]:
    """Say of which detector it is what cannot be used."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{detector}: {error}") from None


def _channels(detector: Any, arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return what is to be learned of a reading, each with all its numbers."""
    one = {key: array for key, array in arrays.items() if array.ndim == 1 and array.size >= LEAST}
    wanted = getattr(detector, "learned", None)
    if wanted is None:
        wanted = [key for key, array in one.items() if array.dtype.kind in "iufc"]
    unknown = [key for key in wanted if key not in one]
    if unknown:
        raise InputError(
            f"{detector.name} says that {', '.join(unknown)} is to be learned, but reads only "
            f"{', '.join(one) or 'no 1-D array'}; correct its `learned`"
        )
    with _of(detector.name):
        for key in wanted:
            real(key, one[key])
    return {key: one[key] for key in wanted}


def _misfit(key: str, array: NDArray, described: Mapping[str, Any], points: int) -> str:
    """Say how an array differs from what its channel is described as; "" if it does not."""
    shape, dtype = described["shape"], described["dtype"]
    if array.ndim != 1 or array.size != points or list(shape) not in ([points], [None]):
        return f"has shape {list(array.shape)} where {list(shape)} is described"
    if dtype != "array" or described.get("external"):
        return f"is an array where {described.get('external') or dtype!r} is described"
    declared = described.get("dtype_numpy") or "<f8"
    kept = as_dtype(declared) if isinstance(declared, str) else None
    if kept is None or kept.kind not in "iuf" or not _lossless(key, array, kept):
        return f"holds {array.dtype} where {declared} is described"
    return ""


def check_described(
    detectors: Sequence[Any],
    described: Sequence[Mapping[str, Any]],
    imager: Any,
    described_image: Mapping[str, Any],
) -> None:
    """Refuse detectors whose descriptions alone show that none reads a spectrum.

    Parameters
    ----------
    detectors, described
        The detectors, and what each describes. One that describes nothing is believed.
    imager, described_image
        The imager, and what it describes: it is believed, too, where that is nothing.

    Raises
    ------
    InputError
        If no detector reads a spectrum, or one lacks what its ``learned`` names, or the imager
        reads no image.
    """
    found: list[str] = []
    spectra = False  # whether there may be one: described, or not described yet
    for detector, keys in zip(detectors, described, strict=True):
        why = {key: why_no_spectrum(about) for key, about in keys.items()}
        wanted = getattr(detector, "learned", None)
        for key in (wanted or ()) if keys else ():
            if problem := why.get(key, "which it does not describe"):
                raise InputError(
                    f"{detector.name} says that {key} is to be learned ({problem}); expected a 1-D "
                    "array of real numbers: correct its `learned`, or its describe()"
                )
        found += [f"{key}: {problem}" for key, problem in why.items() if problem]
        spectra |= not why or not all(why.values())
    if found and not spectra:
        names = ", ".join(detector.name for detector in detectors)
        then = (
            f"give a detector that reads a 1-D array of {LEAST} or more real numbers, or there is "
            "nothing to learn"
        )
        images = any(may_be_image(about) for keys in described for about in keys.values())
        if images and not all(map(why_no_spectrum, described_image.values())):
            then = (
                f"are detectors and imager swapped? {imager.name} describes a spectrum: give it as "
                "a detector"
            )
        raise InputError(f"{names} reads no spectrum ({', '.join(found)}); {then}")
    if described_image and not any(may_be_image(about) for about in described_image.values()):
        shapes = ", ".join(
            f"{key}: shape {list(about['shape'])}" for key, about in described_image.items()
        )
        raise InputError(
            f"the imager {imager.name} describes no image ({shapes}); give an imager whose data "
            "keys hold (rows, cols) arrays"
        )


def _lossless(key: str, array: NDArray, dtype: np.dtype) -> bool:
    """Say whether an array keeps its values as another dtype."""
    if np.can_cast(array.dtype, dtype):
        return True
    numbers = real(key, array)
    if dtype.kind != "f" and not np.isfinite(numbers).all():
        return False
    with np.errstate(all="ignore"):
        return np.array_equal(numbers, array.astype(dtype).astype(float), equal_nan=True)


def _in_words(key: str, value: Any) -> str:
    array = as_array(key, value)
    if not array.ndim:
        return f"{key}: one value"
    return f"{key}: {kind_of(array)}, shape {list(array.shape)}"
