"""Scatter plot of images, drawn by WebGL."""

from __future__ import annotations

from typing import Any

import bokeh.models
import numpy as np
from bokeh.plotting import figure
from bokeh.transform import transform
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.views.explore.columns import Colours
from curiosity_bluesky.views.explore.html import tooltip
from curiosity_bluesky.views.explore.state import Rows, SharedState

# Type checkers take properties of Bokeh's models for what they are made of.
bk: Any = bokeh.models

_HOVER = ("sample", "channel", "time", "exit_status", "symmetry")
_FEW = 50_000
_GREY, _INK, _ACCENT = "#d9dde2", "#1f2933", "#d1332e"
_DATE = """
const at = new Date(value * 1000), two = (n) => String(n).padStart(2, "0")
return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
       `${two(at.getHours())}:${two(at.getMinutes())}`
"""


class Map:
    """Bokeh figure of the images that pass the filters, the others, and marks.

    Only what the page needs of an image is sent: two coordinates, a number for its colour, and
    one for each line of what is shown on hover; words are sent once each.

    Parameters
    ----------
    room
        The images.
    address
        Where thumbnails are.
    action
        Hears which image was clicked at.
    """

    def __init__(self, room: SharedState, address: str, action: Any) -> None:
        self._room = room
        self.rows: Rows = np.zeros(0, int)
        self.front, self.back = bk.ColumnDataSource(name="front"), bk.ColumnDataSource(name="back")
        self.marks, self.spot = bk.ColumnDataSource(name="marks"), bk.ColumnDataSource(name="spot")
        self._columns = self._hovered()
        names = list(self._columns)
        blank = {name: np.zeros(0) for name in ("x", "y", "colour", "row", *names)}
        self.front.data = blank
        self.back.data = {"x": np.zeros(0), "y": np.zeros(0)}
        self._mapper = bk.LinearColorMapper(palette=["#4e79a7"], low=-0.5, high=0.5)
        self._mapper.nan_color = "#c4c7cb"
        plot: Any = figure(
            # Where no graphics card helps, its emulation is slower than the canvas: a lasso of
            # 10,000 among 25,000 images took 3 s, and takes 1 s (benchmarks/explore.py). While
            # one pans or zooms the canvas draws a part of the points.
            output_backend="webgl" if len(room.collection) > _FEW else "canvas",
            x_range=bk.Range1d(-1, 1),
            y_range=bk.Range1d(-1, 1),
            toolbar_location="right",
            tools="",
            min_border=0,
            name="map",
        )
        plot.axis.visible = False
        plot.grid.visible = False
        plot.outline_line_color = "#e1e5ea"
        self.figure = plot
        self._background = plot.scatter("x", "y", source=self.back, size=5, color=_GREY, alpha=0.6)
        self._points = plot.scatter(
            "x",
            "y",
            source=self.front,
            size=7,
            color=transform("colour", self._mapper),
            alpha=0.8,
            line_color=None,
            selection_alpha=0.95,
            nonselection_alpha=0.12,
            nonselection_line_color=None,
            # No glyph of its own for hovering: with one, each move of the mouse redraws all.
        )
        self.marks.data = {name: np.zeros(0) for name in ("x", "y", "x0", "y0")}
        self.spot.data = {"x": [], "y": [], "marker": []}
        plot.segment("x0", "y0", "x", "y", source=self.marks, color=_INK, alpha=0.25)
        plot.scatter(
            "x", "y", source=self.marks, size=13, fill_color=None, line_color=_INK, line_width=1.5
        )
        plot.scatter(
            "x", "y", source=self.spot, size=17, marker="marker", fill_color=_ACCENT,
            line_color="white", line_width=1.5,
        )  # fmt: skip
        self._tools(address, names, action)

    def _tools(self, address: str, names: list[str], action: Any) -> None:
        plot, points = self.figure, self._points
        lasso, wheel = bk.LassoSelectTool(continuous=False), bk.WheelZoomTool()
        click = bk.CustomJS(
            args={"front": self.front, "action": action},
            code="""
            const found = front.inspected.indices
            if (found.length > 0) {
              action.value = `click:${front.data.row[found[0]]}#${++window.said}`
            }
            """,
        )
        for tool in (lasso, box := bk.BoxSelectTool(continuous=False)):
            tool.renderers = [points]
        # By inspecting, a click shows neighbours and leaves what the lasso selected.
        tap = bk.TapTool(renderers=[points], behavior="inspect", callback=click)
        hover = bk.HoverTool(
            renderers=[points],
            tooltips=tooltip(address, names),
            formatters={f"@{{{name}}}": form for name, (_, form) in self._columns.items()},
            attachment="horizontal",
            limit=1,
        )
        plot.add_tools(lasso, box, bk.PanTool(), wheel, bk.ResetTool(), tap, hover)
        plot.toolbar.active_drag = lasso
        plot.toolbar.active_scroll = wheel
        plot.toolbar.logo = None

    def _hovered(self) -> dict[str, tuple[NDArray, Any]]:
        table = self._room.table
        found = {}
        for name in _HOVER:
            if name not in table.names:
                continue
            column = table[name]
            if column.kind == "words":
                form = bk.CustomJSHover(args={"words": column.words}, code="return words[value]")
                found[name] = column.codes.astype(np.min_scalar_type(len(column.words))), form
            elif column.kind == "date":
                found[name] = column.numbers, bk.CustomJSHover(code=_DATE)
            else:
                form = bk.CustomJSHover(
                    code=f"return {name!r} + ' ' + Number(value.toPrecision(4))"
                )
                found[name] = column.numbers, form
        return found

    def frame(self, points: NDArray[np.float32]) -> None:
        """Set the ranges of the map to all of its points, with a margin."""
        if not len(points):
            return
        for axis, ends in enumerate((self.figure.x_range, self.figure.y_range)):
            low, high = float(points[:, axis].min()), float(points[:, axis].max())
            margin = 0.05 * (high - low) or 1.0
            low, high = low - margin, high + margin
            ends.update(start=low, end=high, reset_start=low, reset_end=high)

    def draw(
        self,
        rows: Rows,
        points: NDArray[np.float32],
        passing: NDArray[np.bool_],
        colours: Colours,
        *,
        hide: bool,
        selected: Rows,
    ) -> None:
        """Draw images at their positions.

        Parameters
        ----------
        rows, points
            Which, and where, (n,) and (n, 2).
        passing
            Which of them pass the filters, (n,); the others are grey.
        colours
            Of the whole collection.
        hide
            Whether the others are not even grey.
        selected
            Rows that are selected.
        """
        self.rows = rows[passing]
        shown = points[passing]
        data = {"x": shown[:, 0], "y": shown[:, 1], "row": self.rows.astype(np.int32)}
        data["colour"] = colours.values[self.rows]
        for name, (values, _) in self._columns.items():
            data[name] = values[self.rows]
        self._mapper.update(palette=list(colours.palette), low=colours.low, high=colours.high)
        # Indices of a selection mean other points in new data: they go first.
        self.front.selected.indices = []
        self.front.data = data
        rest = points[~passing] if not hide else points[:0]
        self.back.data = {"x": rest[:, 0], "y": rest[:, 1]}
        size = float(np.clip(300 / np.sqrt(max(len(rows), 1)), 4, 11))
        for glyph in (self._points.glyph, self._points.selection_glyph):
            glyph.size = size
        self._points.nonselection_glyph.size = size
        self._background.glyph.size = max(size - 1, 3)
        self.select(selected)

    def select(self, rows: Rows) -> None:
        """Show which images are selected."""
        self.front.selected.indices = np.flatnonzero(np.isin(self.rows, rows)).tolist()

    def mark(self, focus: ArrayLike | None, near: NDArray, uploaded: bool) -> None:
        """Mark a point and its neighbours.

        Parameters
        ----------
        focus
            Where it lies, (2,); None if it is not on this map.
        near
            Where its neighbours lie, (n, 2).
        uploaded
            Whether it is an image from elsewhere.
        """
        at = np.asarray(near if focus is None else np.broadcast_to(focus, np.shape(near)))
        near = np.asarray(near)
        self.marks.data = {"x": near[:, 0], "y": near[:, 1], "x0": at[:, 0], "y0": at[:, 1]}
        one = [] if focus is None else [np.asarray(focus).tolist()]
        self.spot.data = {
            "x": [p[0] for p in one],
            "y": [p[1] for p in one],
            "marker": ["star" if uploaded else "circle" for _ in one],
        }
