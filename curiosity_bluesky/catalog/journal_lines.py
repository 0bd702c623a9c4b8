"""Lines of a journal: encoding of a document, and decoding."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curiosity_bluesky.documents import Document

logger = logging.getLogger(__name__)

UNREAD = ""
"""Name of a line that is no document; the dict in its place says ``why``."""

_COMPLEX = "__complex__"
"""Marks, in a line, the real and the imaginary parts of a number or an array."""


Line = tuple[int, str, dict[str, Any]]
"""A document behind the position in its journal, bytes, that follows it."""


def encode_line(name: str, doc: Mapping[str, Any], odd: Callable[[Any], None]) -> bytes:
    """Return a document of any content as a line; numpy's arrays become lists.

    Parameters
    ----------
    name, doc
        The document.
    odd
        Called with each value that JSON has nothing for; its text is kept.
    """

    def held(value: Any) -> Any:
        """Return something that JSON can hold for something that it cannot."""
        if hasattr(value, "__array__"):
            value = np.asarray(value)
            if value.dtype.kind == "c":
                parts = [part.astype(float).tolist() for part in (value.real, value.imag)]
                return {_COMPLEX: parts, "dtype": value.dtype.str}
            if value.dtype.kind == "f" and value.ndim == 0:  # a long double is its own item
                return float(value)
            if value.dtype.kind in "biufUSO" or value.ndim:
                return value.tolist()
        elif isinstance(value, complex):
            return {_COMPLEX: [value.real, value.imag]}
        odd(value)
        return str(value)

    entry = {"name": name, "doc": doc}
    try:
        text = json.dumps(entry, default=held)
    except (TypeError, ValueError, RecursionError):  # odd keys, or something within itself
        text = json.dumps(_plain(entry), default=held)
    return text.encode() + b"\n"


def lines(path: Path, position: int = 0) -> Iterator[Line]:
    """Yield the lines of a journal from a position on, each with that after it.

    What is no document has the name `UNREAD`. A last line without its end, which a killed
    process left unfinished, is passed over.
    """
    with open(path, "rb") as file:
        file.seek(position)
        for line in file:
            if line.endswith(b"\n"):
                position += len(line)
                yield position, *_parsed(line)


def decode_lines(data: bytes, position: int) -> Iterator[Line]:
    """Yield the lines in a part of a journal that begins at a position; the last one is whole."""
    for line in data.split(b"\n")[:-1]:
        position += len(line) + 1
        yield position, *_parsed(line)


def documents(path: Path, position: int = 0) -> Iterator[Document]:
    """Yield the documents of a journal, one at a time; what is none is passed over, and said.

    Parameters
    ----------
    path
        The journal.
    position
        Where to begin, bytes.
    """
    for _, name, doc in lines(path, position):
        if name == UNREAD:
            logger.warning("the journal %s holds a line that is no document: %s", path, doc["why"])
        else:
            yield name, doc


def first_document(path: Path) -> dict[str, Any] | None:
    """Return the start document of a journal, None if it is gone or begins otherwise."""
    with contextlib.suppress(OSError):
        for _, name, doc in lines(path):
            if name != UNREAD:
                return doc if name == "start" and not describe_defect(name, doc) else None
    return None


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        # Few lines have any, and to look into each dictionary takes time.
        hook = _restored if _COMPLEX.encode() in line else None
        entry = json.loads(line, object_hook=hook)
    except Exception as error:  # damaged bytes have the parser, or numpy, raise what they like
        return UNREAD, {"why": f"it cannot be parsed ({type(error).__name__})"}
    if not isinstance(entry, dict) or not isinstance(entry.get("doc"), dict):
        return UNREAD, {"why": "it holds no document"}
    name = entry.get("name")
    if not (isinstance(name, str) and name):
        return UNREAD, {"why": "the document in it has no name"}
    return name, entry["doc"]


def _restored(found: dict[str, Any]) -> Any:
    if _COMPLEX not in found:
        return found
    real, imag = found[_COMPLEX]
    if "dtype" not in found:
        return complex(real, imag)
    value = np.empty(np.shape(real), found["dtype"])
    value.real, value.imag = real, imag
    return value


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a copy whose keys are text and which is not endless."""
    if depth > 50:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    # What a clock may show: datetime knows no year after 9999, and no NaN.
    return _is_number(value) and -6e10 < value < 2.5e11


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_whole(value.get(end)) for end in ("start", "stop"))


def _are_data_keys(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(described, dict)
        and _is_text(described.get("dtype"))
        and isinstance(described.get("shape"), list | tuple | None)
        for described in value.values()
    )


def _is_status(value: Any) -> bool:
    return value in ("success", "abort", "fail")


def _are_counts(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_whole, value.values())))


_NEEDED: dict[str, dict[str, Callable[[Any], bool]]] = {
    "start": {"uid": _is_text, "time": _is_time},
    "descriptor": {"uid": _is_text, "name": _is_text, "data_keys": _are_data_keys},
    "event": {"descriptor": _is_text, "seq_num": _is_whole, "time": _is_time, "data": _is_dict},
    "event_page": {"descriptor": _is_text, "seq_num": _are_numbers},
    "stop": {"uid": _is_text, "run_start": _is_text},
    "resource": {"uid": _is_text},
    "datum": {"datum_id": _is_text, "resource": _is_text},
    "datum_page": {"datum_id": _is_list, "resource": _is_text},
    "stream_resource": {"uid": _is_text, "data_key": _is_text},
    "stream_datum": {"descriptor": _is_text, "stream_resource": _is_text, "seq_nums": _is_range},
}
"""What a document must have for it to be counted."""

_NEEDED_MORE: dict[str, dict[str, Callable[[Any], bool]]] = {
    "descriptor": {"run_start": _is_text, "time": _is_time},
    "event": {"uid": _is_text, "timestamps": _is_dict},
    "event_page": {"data": _is_dict, "timestamps": _is_dict, "time": _is_list, "uid": _is_list},
    "stop": {"time": _is_time, "exit_status": _is_status, "num_events": _are_counts},
    "datum": {"datum_kwargs": _is_dict},
    "datum_page": {"datum_kwargs": _is_dict},
    "stream_datum": {"uid": _is_text, "indices": _is_range},
}
"""What it must have besides, or Tiled's writer gives up the run."""


def describe_defect(name: str, doc: Mapping[str, Any], *, storable: bool = False) -> str:
    """Return in words what a document lacks to be one, "" if nothing.

    Parameters
    ----------
    name, doc
        The document.
    storable
        Whether it has to have what Tiled's writer asks for, too. (That one validates against
        event-model's schema, which takes milliseconds an event.)
    """
    if name not in _NEEDED:
        return "the document in it is of no kind that there is"
    needed = _NEEDED[name] | (_NEEDED_MORE.get(name, {}) if storable else {})
    for key, fits in needed.items():
        if not fits(doc.get(key)):
            return f"its {name} document has no {key} that is one"
    return ""


def last_events(lines: Iterable[Line]) -> dict[str, int]:
    """Return the highest ``seq_num`` of each descriptor; a pause may have repeated some."""
    last: dict[str, int] = {}
    for _, name, doc in lines:
        if name == "event" and not describe_defect(name, doc):
            last[doc["descriptor"]] = max(doc["seq_num"], last.get(doc["descriptor"], 0))
    return last
