"""Filters of images: conditions on metadata and derived properties."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.queries import Comparison, Eq

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.index.collection import Collection

_CONDITION = re.compile(r"^\s*([^\s<>=!]+)\s*(>=|<=|=)\s*(.*?)\s*$", re.DOTALL)
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, ">=": operator.ge, "<=": operator.le
}  # fmt: skip
_NAMES = {">=": "ge", "<=": "le"}


@dataclass(frozen=True)
class Condition:
    """Condition on one column of an image.

    Parameters
    ----------
    key
        What: a key of the start document, of the stop document as ``stop.KEY``,
        ``channel``, ``exit_status``, or a derived label or property.
    sign
        ``=``, ``>=`` or ``<=``.
    value
        With what it is compared.
    """

    key: str
    sign: str
    value: Any

    def __post_init__(self) -> None:
        if self.sign != "=" and not _is_number(self.value):
            raise InputError(
                f"the condition {self.key}{self.sign}{self.value} compares with {self.value!r}; "
                f"expected a number, such as {self.key}{self.sign}1"
            )

    def holds(self, value: Any) -> bool:
        """Whether it holds of a value; of None it does not."""
        if value is None or (self.sign != "=" and not _is_number(value)):
            return False
        return bool(_COMPARED[self.sign](value, self.value))


def conditions(where: Mapping[str, Any] | Sequence[str]) -> list[Condition]:
    """Return the parsed conditions.

    Parameters
    ----------
    where
        ``["sample=PTO", "num_points>=50", "since=2026-11-01"]``, values as in JSON and else
        strings; or ``{"sample": "PTO", "num_points >=": 50}``.

    Raises
    ------
    InputError
        If one is none.
    """
    if isinstance(where, Mapping):
        pairs = [
            (re.match(r"^(.*?)\s*(>=|<=|=)?$", key.strip()), value) for key, value in where.items()
        ]
        parts = [(m.group(1), m.group(2) or "=", value) for m, value in pairs if m]
    else:
        parts = [(*_split(said), None) for said in where]
        parts = [(key, sign, _value(text)) for key, sign, text, _ in parts]
    return [
        Condition("time", ">=", _moment(value)) if (key, sign) == ("since", "=")
        else Condition(key, sign, value)
        for key, sign, value in parts
    ]  # fmt: skip


def _split(said: str) -> tuple[str, str, str]:
    match = _CONDITION.match(said)
    if match is None or not match.group(3):
        raise InputError(
            f"the condition {said!r} cannot be used; expected KEY=VALUE, KEY>=NUMBER, KEY<=NUMBER "
            "or since=TIME, such as sample=PTO"
        )
    return match.group(1), match.group(2), match.group(3)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _moment(value: Any) -> float:
    try:
        return datetime.fromisoformat(str(value)).astimezone().timestamp()
    except ValueError:
        raise InputError(
            f"since is {value!r}; expected a time such as 2026-11-21 or '2026-11-21 14:30'"
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def select_rows(
    catalog: Catalog, collection: Collection, where: Mapping[str, Any] | Sequence[str]
) -> NDArray[np.int64]:
    """Return the rows of a collection of which all conditions hold.

    What was derived, the channel and how a run ended are known here. All other keys are
    metadata: Tiled is asked which runs have them so, nested ones too (``scan.size=5``).

    Parameters
    ----------
    catalog, collection
        Where, and which images.
    where
        See `conditions`.

    Raises
    ------
    InputError
        If a condition cannot be used.
    """
    here = {"channel", "uid", "exit_status"}
    for entry in collection.entries:
        here |= entry.labels.keys() | entry.properties.keys()
    rows = np.arange(len(collection))
    asked = conditions(where)
    derived = [one for one in asked if one.key in here]
    about_runs = [one for one in asked if one.key not in here]
    for one in derived:
        values = collection.column(one.key) if len(collection) else []
        rows = rows[[one.holds(values[row]) for row in rows]]
    if about_runs and len(rows):
        found = None
        for one in about_runs:
            query = _query(one)
            found = catalog.search(query) if found is None else found.search(query)
        uids = set(found or ())
        rows = rows[[collection.entries[row].uid in uids for row in rows]]
    return rows


def _query(one: Condition) -> Any:
    key = one.key if one.key.startswith(("start.", "stop.")) else f"start.{one.key}"
    return Eq(key, one.value) if one.sign == "=" else Comparison(_NAMES[one.sign], key, one.value)
