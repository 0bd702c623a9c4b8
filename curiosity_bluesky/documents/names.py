"""Names and metadata that can be recorded, checked before a run opens.

A data key becomes a column of an SQL table, a node in a URL, a directory, a variable of xarray,
and a key in documents that event-model validates. Each has rules; this is all of them together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import event_model
import numpy as np
from event_model import DocumentNames, schema_validators
from jsonschema.exceptions import ValidationError

from curiosity_bluesky.documents.schema import DECISIONS, PREDICTED, PRIMARY, STREAMS
from curiosity_bluesky.documents.spectra import as_dtype, is_spectrum
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import LARGEST

LONGEST = 60
"""Bytes of a data key: a column has 63, and the one of its timestamps begins with ``ts_``."""

RESERVED = ("time", "seq_num", "event", "point", "internal")
"""Data keys that mean something else in the store, or in a run that is read as xarray."""

_FORBIDDEN = re.compile(r"""--|['"`;\\%()=+./#?]""")
_ADVICE = "give the device or its signal another name"

_OURS = "curiosity_"
"""Beginning of the keys of a start document that the plan writes."""


@dataclass(frozen=True)
class DeviceDescription:
    """A device as the documents of a run will describe it.

    Parameters
    ----------
    name
        Its name.
    data_keys
        What ``describe()`` returned.
    configured
        The values of its configuration, by key.
    configuration
        What ``describe_configuration()`` returned.
    hints
        Its hints.
    """

    name: str
    data_keys: Mapping[str, Mapping[str, Any]]
    configured: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)


def check_stream(
    stream: str, devices: Sequence[DeviceDescription], ours: Sequence[DeviceDescription]
) -> None:
    """Make sure that a stream of these devices can be recorded, and read.

    Parameters
    ----------
    stream
        Its name.
    devices
        Those of the user.
    ours
        What the plan itself records beside them.

    Raises
    ------
    InputError
        That names the key, the device and the rule, and says what to do.
    """
    names: set[str] = set()
    everything = [*((d, True) for d in ours), *((d, False) for d in devices)]
    for device, _ in everything:
        _check_name(f"the name of a device, {device.name!r},", device.name)
        if device.name in names:
            raise InputError(
                f"two devices are called {device.name!r}"
                f"{', one of them what the plan itself records' if len(names) == len(ours) else ''}"
                "; give one of them another name"
            )
        names.add(device.name)
        for key in device.data_keys:
            _check_name(f"the data key {key!r} of {device.name}", key)
        for key in device.configuration:
            _check_name(f"the configuration key {key!r} of {device.name}", key)
        if odd := sorted(set(device.configured) - set(device.configuration)):
            raise InputError(
                f"{device.name} has {', '.join(odd)} in its configuration and does not describe "
                "it; correct its describe_configuration()"
            )
        _check_schema(stream, device)
    owners: dict[str, str] = {}
    columns: dict[str, str] = {}
    for device, mine in everything:
        for key, about in device.data_keys.items():
            if not mine:
                _check_key(device.name, key, about)
            if key in owners:
                raise InputError(
                    f"{owners[key]} and {device.name} both have the data key {key!r}; {_ADVICE}"
                )
            owners[key] = device.name
            for column in _columns(stream, key, about, mine):
                other = columns.setdefault(column.lower(), key)
                if other != key:
                    raise InputError(
                        f"the data keys {other!r} of {owners[other]} and {key!r} of {device.name} "
                        f"would share the column {column!r} in the store, where capital and small "
                        f"letters are the same; {_ADVICE}"
                    )
    _check_readable(stream, [*ours, *devices])


def check_metadata(md: Any) -> None:
    """Make sure that what a user gave as metadata can be recorded as it is.

    Parameters
    ----------
    md
        Keys and values for the start document.

    Raises
    ------
    InputError
        If a key or a value is nothing that documents or JSON can hold.
    """
    if not isinstance(md, Mapping):
        raise InputError(f"md is {md!r:.60}; expected a dictionary")
    _check_value("md", md)
    if given := [key for key in ("uid", "time") if key in md]:
        raise InputError(
            f"md has {', '.join(map(repr, given))}, which the RunEngine sets itself; leave it out"
        )
    check_reserved(md)
    for key in ("tiled_specs", "tiled_access_tags"):
        texts = md.get(key) or []
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise InputError(f"md[{key!r}] is {texts!r:.60}; expected a list of text")
    check_start(md)


def check_reserved(md: Mapping[str, Any], name: str = "md") -> None:
    """Make sure that metadata has no key of the plan's own: an agent learns by these.

    Parameters
    ----------
    md
        Keys and values for the start document.
    name
        What the user calls them, for the error.

    Raises
    ------
    InputError
        If a key begins with ``curiosity_``.
    """
    if ours := sorted(key for key in md if key.startswith(_OURS)):
        raise InputError(
            f"{name} has {', '.join(map(repr, ours))}; keys that begin with {_OURS!r} are "
            "written by the plan, and the agent follows them: choose another name"
        )


def check_start(document: Mapping[str, Any], name: str = "md") -> None:
    """Make sure that event-model takes what a start document is to hold.

    Parameters
    ----------
    document
        Keys and values for it, those that the RunEngine sets left out.
    name
        What the user calls them, for the error.

    Raises
    ------
    InputError
        If it does not.
    """
    try:
        schema_validators[DocumentNames.start].validate({"uid": "", "time": 0.0, **document})
    except ValidationError as error:
        where = "".join(f"[{part!r}]" for part in error.absolute_path)
        raise InputError(
            f"{name}{where} cannot be in a start document ({_first_line(error)}); a key has no '.' "
            "and no '/', and the keys that event-model knows have the types that it says: change "
            "it, or give it another key"
        ) from None


def _check_key(device: str, key: str, about: Mapping[str, Any]) -> None:
    what = f"the data key {key!r} of {device}"
    if not key.isprintable() or key != key.strip():
        raise InputError(
            f"{what} has a space at an end, or a character that cannot be printed; {_ADVICE}"
        )
    if found := _FORBIDDEN.search(key):
        raise InputError(
            f"{what} has a {found[0]!r}, which the store cannot have in a name; {_ADVICE}, such as "
            f"{_FORBIDDEN.sub('_', key)!r}"
        )
    if about.get("dtype") != "array" and not re.match("[A-Za-z]", key):
        raise InputError(
            f"{what} begins with {key[0]!r}, and the name of a number has to begin with a letter "
            f"from A to Z to be stored; {_ADVICE}"
        )
    if key.lower() in RESERVED or re.fullmatch(r"internal_\d+", key.lower()):
        raise InputError(f"{what} is a name that the store keeps for itself; {_ADVICE}")
    if key.endswith(PREDICTED):
        raise InputError(f"{what} ends in {PREDICTED!r}, as what the plan predicts does; {_ADVICE}")
    _check_dtype(device, key, about)
    spectrum = is_spectrum(about)
    longest = LONGEST - len(PREDICTED) * spectrum
    if about.get("external") != "STREAM:" and len(key.encode()) > longest:
        why = (
            f", for {PREDICTED!r} is added to the key of what is predicted of it"
            if spectrum
            else ""
        )
        raise InputError(
            f"{what} has {len(key.encode())} bytes, and the store takes {longest} of "
            f"{'a spectrum' if spectrum else 'it'}{why}; {_ADVICE}"
        )


def _check_dtype(device: str, key: str, about: Mapping[str, Any]) -> None:
    """Refuse a type of numbers that event-model takes and numpy does not know."""
    declared = about.get("dtype_numpy")
    if isinstance(declared, str) and declared:
        try:
            as_dtype(declared)
        except InputError as error:
            raise InputError(f"the data key {key!r} of {device}: {error}") from None


def _check_name(what: str, name: Any) -> None:
    """Refuse what no document can have as a key."""
    if not isinstance(name, str):
        raise InputError(f"{what} is no text; {_ADVICE}")
    if not name or re.search(r"[./]", name):
        raise InputError(
            f"{what} {'is empty' if not name else 'has a . or a /'}, which documents cannot have "
            f"as a key; {_ADVICE}"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} has half a character, which is no text; {_ADVICE}") from None


def _columns(stream: str, key: str, about: Mapping[str, Any], ours: bool) -> list[str]:
    """Return the columns that a data key has in the store, or may have."""
    if about.get("external") == "STREAM:":
        return [key]
    columns = [key, f"ts_{key}"]
    if stream == PRIMARY and not ours and is_spectrum(about):
        columns += [f"{key}{PREDICTED}", f"ts_{key}{PREDICTED}"]
    return columns


def _check_schema(stream: str, device: DeviceDescription) -> None:
    """Refuse what event-model refuses: the descriptor is made as the RunEngine makes it."""
    for key, value in device.configured.items():
        _check_value(f"the configuration {key!r} of {device.name}", value, arrays=True)
    for described in (device.data_keys, device.configuration):
        for key, about in described.items():
            _check_value(f"the description of {key!r} of {device.name}", about, arrays=True)
    configuration = {
        "data": dict(device.configured),
        "timestamps": dict.fromkeys(device.configured, 0.0),
        "data_keys": dict(device.configuration),
    }
    document = {
        "uid": "00000000",
        "run_start": "00000000",
        "time": 0.0,
        "name": stream,
        "data_keys": dict(device.data_keys),
        "object_keys": {device.name: list(device.data_keys)},
        "hints": {device.name: dict(device.hints)},
        "configuration": {device.name: configuration},
    }
    try:
        schema_validators[DocumentNames.descriptor].validate(event_model.sanitize_doc(document))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        raise InputError(
            f"what {device.name} describes cannot be in a descriptor document: {where} "
            f"({_first_line(error)}); correct its describe() or describe_configuration()"
        ) from None


def _check_readable(stream: str, devices: Sequence[DeviceDescription]) -> None:
    """Refuse names that cannot stand beside each other in one dataset: an event is read."""
    data_keys = {key: about for device in devices for key, about in device.data_keys.items()}
    for device in devices:
        for key, about in device.data_keys.items():
            for dim in about.get("dims") or ():
                if dim in data_keys:
                    raise InputError(
                        f"{dim!r} is both the axis of {key!r} of {device.name} and a data key; "
                        f"{_ADVICE}, or the axis"
                    )
    columns = {key: _blank(about) for key, about in data_keys.items()}
    configuration = {
        device.name: {"data": device.configured, "data_keys": device.configuration}
        for device in devices
    }
    try:
        import xarray as xr

        from curiosity_bluesky.documents.reading import dataset_of, with_decisions

        dataset = dataset_of(data_keys, configuration, columns, np.zeros(1))
        if stream == PRIMARY:
            decided = [key for key in STREAMS[DECISIONS].scalars if key != "decision_id"]
            scores = xr.Dataset({key: ("point", np.zeros(1)) for key in decided})
            with_decisions(dataset.rename({"event": "point"}), scores)
    except ValueError as error:
        names = ", ".join(device.name for device in devices)
        raise InputError(
            f"what {names} read cannot stand in one dataset, so the run could not be read "
            f"({' '.join(str(error).split())}); rename an axis or a signal, so that each name "
            "means one thing and each axis has one length"
        ) from None


def _blank(about: Mapping[str, Any]) -> np.ndarray:
    shape = [2 if n is None else n for n in about["shape"]]
    if about.get("external") == "STREAM:" and shape[:1] == [1]:
        shape = shape[1:]
    return np.broadcast_to(np.zeros(()), (1, *shape))


def _check_value(what: str, value: Any, arrays: bool = False) -> None:
    """Refuse what JSON or the store has nothing for, wherever it is inside a value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"{what} has the key {key!r}; expected text as a key")
            _check_value(f"a key of {what}", key)
            _check_value(f"{what}[{key!r}]", inner, arrays)
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            _check_value(f"{what}[{k}]", inner, arrays)
    elif arrays and isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufUS":
            raise InputError(
                f"{what} holds {value.dtype}, for which JSON has nothing; let the device give "
                "numbers or text"
            )
    else:
        plain = value.item() if isinstance(value, np.generic) else value
        shown = f"{value!r:.60}".replace("\n", " ")
        try:
            json.dumps(plain, allow_nan=arrays)
            if isinstance(value, str):
                value.encode()
        except (TypeError, ValueError):
            raise InputError(
                f"{what} is {shown} ({type(value).__name__}), which documents cannot hold; "
                "expected text, a finite number, true, false, None, or lists and dictionaries of "
                "these: for an array give .tolist()"
            ) from None
        if isinstance(plain, str) and "\0" in plain:
            raise InputError(
                f"{what} is {shown}, with a character of value 0, which PostgreSQL cannot hold; "
                "leave that character out"
            )
        if not arrays and _is_cut(plain):
            raise InputError(
                f"{what} is {shown}, and the store cuts whole numbers down to {LARGEST}; give it "
                "as text"
            )


def _is_cut(value: Any) -> bool:
    """Say whether bluesky-tiled-plugins stores another number in place of a number."""
    return isinstance(value, int | float) and abs(value) > LARGEST and value % 1 == 0


def _first_line(error: ValidationError) -> str:
    return " ".join(error.message.split())[:200]
