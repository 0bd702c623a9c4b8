"""Columns for the colours and filters of images: words, numbers and dates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.index.collection import Collection
from curiosity_bluesky.utils.display import moment, plain

Kind = Literal["words", "number", "date"]
NONE = "(none)"
"""Placeholder of a missing value among words."""

OTHER = "(other)"
MANY = 200
"""Maximum distinct words for a menu; above, a part of a word is typed."""

# Tableau's ten, then ten more.
_DISTINCT: tuple[str, ...] = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948",
    "#9c755f", "#ff9da7", "#3b6e3b", "#a0cbe8", "#ffbe7d", "#8cd17d", "#d37295",
    "#d4a6c8", "#499894", "#b6992d", "#d7b5a6", "#86bcb6", "#5a5a8f",
)  # fmt: skip
_GREY = "#c4c7cb"
_PLAIN = "#4e79a7"


class Column:
    """One property of each image.

    Parameters
    ----------
    name
        As in `Collection.columns`.
    values
        One an image, None where it is not known.

    Attributes
    ----------
    kind : str
        ``words``, ``number`` or ``date`` (s since 1970).
    codes : numpy.ndarray
        For words: the place of each in `words`.
    words : list of str
        The different ones: the most frequent first, those that are missing last.
    numbers : numpy.ndarray
        For numbers and dates: the values, NaN where there is none.
    """

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        present = [value for value in values if value is not None]
        numeric = bool(present) and all(
            isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in present
        )
        self.words: list[str] = []
        self.codes = np.zeros(0, np.int32)
        self.numbers = np.zeros(0)
        if numeric:
            self.numbers = np.array([_float(value) for value in values])
            self.numbers[~np.isfinite(self.numbers)] = np.nan
            is_date = name == "time" or name.endswith("_time")
            self.kind: Kind = "date" if is_date and np.nanmin(self.numbers) > 1e8 else "number"
            return
        self.kind = "words"
        said = [NONE if value is None else plain(value) for value in values]
        counts = Counter(said)
        self.words = sorted(counts, key=lambda word: (word == NONE, -counts[word], word))
        place = {word: k for k, word in enumerate(self.words)}
        self.codes = np.array([place[word] for word in said], np.int32)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest number; (0, 0) if there is none."""
        finite = self.numbers[np.isfinite(self.numbers)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

    def said(self, row: int) -> str:
        """Return the value of an image as text."""
        if self.kind == "words":
            return self.words[self.codes[row]]
        return format_value(self.kind, float(self.numbers[row]))


def _float(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.nan


def format_value(kind: Kind, value: float) -> str:
    """Return a number, or a date in local time, as text."""
    if not np.isfinite(value):
        return NONE
    if kind == "date":
        return moment(value, "%Y-%m-%d %H:%M")
    return f"{value:.4g}" if abs(value) < 1e5 or value % 1 else f"{value:.0f}"


class RunTable:
    """The columns of a collection, each made when it is first asked for.

    Parameters
    ----------
    collection
        The images.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        raw = [name for name in collection.columns if name != "uid"] + ["uid"]
        self._raw = {plain(name): name for name in raw}
        self.names = list(self._raw)
        self._made: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._made:
            values = self._collection.column(self._raw.get(name, name))
            self._made[name] = Column(name, values)
        return self._made[name]


@dataclass(frozen=True)
class Filter:
    """Filter of a column: some words, a part of a word, or a range.

    Parameters
    ----------
    column
        Its name.
    words
        Those that pass, or None.
    part
        What words must contain, in any case, or None.
    between
        From and to, both included, or None; what has no number does not pass.
    """

    column: str
    words: tuple[str, ...] | None = None
    part: str | None = None
    between: tuple[float, float] | None = None

    def passes(self, column: Column) -> NDArray[np.bool_]:
        """Return whether each image passes, (n,).

        Parameters
        ----------
        column
            The one that it is for.

        Raises
        ------
        InputError
            If it asks for words of numbers, or numbers of words.
        """
        if (column.kind == "words") == (self.between is not None):
            raise InputError(f"{self.column!r} holds {column.kind}; this filter is for others")
        if self.between is not None:
            low, high = self.between
            return (column.numbers >= low) & (column.numbers <= high)
        if self.part is not None:
            part = self.part.casefold()
            wanted = [part in word.casefold() for word in column.words]
        else:
            wanted = [word in (self.words or ()) for word in column.words]
        return np.array(wanted, bool)[column.codes]

    def said(self, kind: Kind) -> str:
        """Return the filter as text."""
        if self.between is not None:
            return (
                f"{self.column}: {' to '.join(format_value(kind, value) for value in self.between)}"
            )
        if self.part is not None:
            return f"{self.column} contains {self.part}"
        return f"{self.column}: {', '.join(self.words or ())}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        found = {"column": self.column, "words": self.words, "part": self.part}
        found["between"] = self.between
        return {
            k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v is not None
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Filter:
        """Return what `to_dict` returned."""
        words, between = given.get("words"), given.get("between")
        return cls(
            str(given["column"]),
            None if words is None else tuple(str(word) for word in words),
            None if given.get("part") is None else str(given["part"]),
            None if between is None else (float(between[0]), float(between[1])),
        )


@dataclass(frozen=True)
class Colours:
    """Colours of a column: a number per image, and the palette.

    Parameters
    ----------
    values
        (n,), NaN for what has none.
    palette
        Colours from `low` to `high`.
    low, high
        Numbers of the first and of the last colour.
    legend
        (word, colour, how many) each, for words; empty for others.
    """

    values: NDArray[np.float32]
    palette: tuple[str, ...]
    low: float
    high: float
    legend: tuple[tuple[str, str, int], ...] = ()


def colours_of(column: Column | None, n: int, continuous: Sequence[str]) -> Colours:
    """Return how images are coloured by a column.

    Parameters
    ----------
    column
        The column; None: all alike.
    n
        How many images there are.
    continuous
        The palette for numbers and dates.
    """
    if column is None:
        return Colours(np.zeros(n, np.float32), (_PLAIN,), -0.5, 0.5)
    if column.kind != "words":
        low, high = column.range
        # Dates in single precision would be minutes off; from the first one on, they are not.
        values = (column.numbers - low).astype(np.float32)
        return Colours(values, tuple(continuous), 0.0, max(high - low, 1e-30))
    words = [word for word in column.words if word != NONE]
    shown = words if len(words) <= len(_DISTINCT) else words[: len(_DISTINCT) - 1]
    names = [*shown, *([OTHER] if len(shown) < len(words) else [])]
    place = {word: float(k) for k, word in enumerate(names)}
    missing = float("nan")
    code = [missing if w == NONE else place.get(w, len(shown)) for w in column.words]
    values = np.array(code, np.float32)[column.codes]
    counts = [int((values == k).sum()) for k in range(len(names))]
    legend = list(zip(names, _DISTINCT, counts, strict=False))
    if NONE in column.words:
        legend.append((NONE, _GREY, int(np.isnan(values).sum())))
    palette = tuple(_DISTINCT[: max(len(names), 1)])
    return Colours(values, palette, -0.5, len(palette) - 0.5, tuple(legend))
