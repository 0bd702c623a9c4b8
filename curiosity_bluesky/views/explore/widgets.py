"""Widgets of the filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import DatetimeRangeSlider

from curiosity_bluesky.utils.display import html as escape
from curiosity_bluesky.views.explore.columns import MANY, Column, Filter, RunTable
from curiosity_bluesky.views.explore.layout import NOTHING, PageWidgets

_STEPS = 200
"""Of a slider."""


class Editor:
    """Editor of the filter of one column at a time.

    Parameters
    ----------
    parts
        The widgets of the page.
    table
        The columns.
    """

    def __init__(self, parts: PageWidgets, table: RunTable) -> None:
        self._parts, self._table = parts, table

    @property
    def name(self) -> str:
        """The column that is filtered by."""
        return self._parts.filter.value

    @property
    def _column(self) -> Column:
        return self._table[self.name]

    def show(self, filters: Mapping[str, Filter]) -> None:
        """Show the widget for the column, with the filter that it has.

        Parameters
        ----------
        filters
            Those that are set, by column.
        """
        parts, kind = self._parts, None
        if self.name != NOTHING:
            kind = self._column.kind
            if kind == "words" and len(self._column.words) > MANY:
                kind = "part"
        shown = {"words": parts.words, "part": parts.part}
        shown |= {"number": parts.range, "date": parts.dates}
        for each, widget in shown.items():
            widget.visible = each == kind
        if kind is None:
            return
        has = filters.get(self.name)
        if kind == "words":
            # The widget takes labels for HTML.
            parts.words.options = [(word, escape(word)) for word in self._column.words]
            parts.words.value = list(has.words or ()) if has else []
        elif kind == "part":
            parts.part.value = (has.part or "") if has else ""
        else:
            _set_range(shown[kind], self._column.range, has.between if has else None)

    def of_words(self, words: list[str]) -> Filter | None:
        """Return the filter that lets some words pass; None for none of them: all pass."""
        return Filter(self.name, words=tuple(words)) if words else None

    def of_part(self, part: str) -> Filter | None:
        """Return the filter for a part of a word; None if nothing is typed."""
        return Filter(self.name, part=part.strip()) if part.strip() else None

    def of_range(self, between: tuple[float, float]) -> Filter | None:
        """Return the filter for what a slider holds; None if that is everything."""
        column = self._column
        scale = 1000.0 if column.kind == "date" else 1.0  # Bokeh's dates are in ms
        low, high = between[0] / scale, between[1] / scale
        # A slider has steps: at its ends it means all that is beyond the last one too.
        step = (column.range[1] - column.range[0]) / _STEPS
        low = column.range[0] if low <= column.range[0] + step / 2 else low
        high = column.range[1] if high >= column.range[1] - step / 2 else high
        return None if (low, high) == column.range else Filter(column.name, between=(low, high))


def _set_range(widget: Any, ends: tuple[float, float], between: tuple[float, float] | None) -> None:
    dates = isinstance(widget, DatetimeRangeSlider)
    scale = 1000.0 if dates else 1.0
    low, high = (end * scale for end in ends)
    high = high if high > low else low + scale  # a slider must have a length
    value = (low, high) if between is None else tuple(each * scale for each in between)
    step = (high - low) / _STEPS
    widget.update(start=low, end=high, step=max(int(step), 1) if dates else step, value=value)
