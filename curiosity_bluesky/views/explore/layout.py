"""Layout of the page."""

from __future__ import annotations

from typing import Any

import bokeh.models
from bokeh.document import Document
from bokeh.layouts import column, row

from curiosity_bluesky.similarity.projection import METHODS
from curiosity_bluesky.views.explore import html
from curiosity_bluesky.views.explore.state import SharedState
from curiosity_bluesky.views.explore.upload import SUFFIXES

# Type checkers take properties of Bokeh's models for what they are made of.
bk: Any = bokeh.models

_METHODS = {"pca": "PCA", "pacmap": "PaCMAP"}
_SIDE, _RIGHT = 264, 412
NOTHING = "—"
"""Placeholder of no column in a menu."""


# The page's own HTML says what is meant in data-action: one listener for all of it, since each
# piece has a shadow root of its own. The number lets the same be said twice.
_LISTEN = """
const say = (what) => { action.value = what + "#" + (++window.said) }
window.said = 0
document.addEventListener("click", (event) => {
  for (const node of event.composedPath()) {
    if (!(node instanceof HTMLElement)) continue
    if (node.dataset.action != null) { say(node.dataset.action); return }
    if (node.dataset.copy != null) {
      const label = node.textContent
      navigator.clipboard.writeText(node.dataset.copy).then(() => {
        node.textContent = "copied"
        setTimeout(() => { node.textContent = label }, 1200)
      })
      return
    }
  }
})
// Before the page reads a file: one that is too large would cost it its connection.
document.addEventListener("input", (event) => {
  const input = event.composedPath()[0]
  const file = input.files == null ? null : input.files[0]
  if (file != null && file.size > largest) {
    input.value = ""
    say("large:" + file.name + "|" + file.size)
  }
}, true)
window.explorer = true
"""

_WIDGETS = """
:host { font: 13px/1.4 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.bk-input-group > label { font-size: 12px; color: #66727f; }
.bk-input, .choices__inner { font-size: 13px; }
.bk-btn { font-size: 13px; }
"""


class PageWidgets:
    """The widgets of the page.

    Parameters
    ----------
    room
        What there is to choose from.
    plot
        The map.
    action
        Hears what is pressed in the page's own HTML.
    largest
        Bytes of a file that may be searched by.
    """

    def __init__(self, room: SharedState, plot: Any, action: Any, largest: int) -> None:
        self._room, self._plot, self._largest = room, plot, largest
        self.methods = list(METHODS)
        names = [NOTHING, *room.table.names]
        self.descriptor = bk.Select(title="Compare by", options=list(room.collection.vectors))
        self.method = bk.RadioButtonGroup(
            labels=[_METHODS[name] for name in self.methods], active=0
        )
        self.colour = bk.Select(options=names, value=NOTHING)
        self.filter = bk.Select(options=names, value=NOTHING)
        self.words = bk.MultiChoice(placeholder="choose", visible=False)
        self.part = bk.TextInput(placeholder="contains …", visible=False)
        self.range = bk.RangeSlider(start=0, end=1, value=(0, 1), visible=False)
        self.dates = bk.DatetimeRangeSlider(start=0, end=1, value=(0, 1), visible=False)
        self.dates.format = "%Y-%m-%d"
        self.removed = bk.CheckboxGroup(labels=["hide what does not pass"], active=[])
        self.file = bk.FileInput(accept=",".join(SUFFIXES))
        self.name = bk.TextInput(placeholder="name")
        self.note = bk.TextAreaInput(placeholder="note", rows=2, height=56)
        self.save = bk.Button(label="Save selection")
        self.enter = bk.Button(
            label="Project these", button_type="primary", disabled=True, width=150
        )
        self.clear = bk.Button(label="Clear", disabled=True, width=64)
        self.action = action
        self.crumbs, self.notice, self.legend, self.chips = (_div() for _ in range(4))
        self.link, self.detail, self.gallery = (_div() for _ in range(3))

    @staticmethod
    def put(div: Any, text: str) -> None:
        """Set the text of a part of the page; an empty one takes no space."""
        div.text, div.visible = text, bool(text)

    def into(self, document: Document) -> None:
        """Add the widgets to the page."""
        sheet = bk.InlineStyleSheet(css=_WIDGETS)
        title = _div(html.header(self._room))
        title.sizing_mode, title.width_policy = "inherit", "min"
        # What is said stands in the line at the top, so that the map keeps its place.
        title.styles, self.notice.styles = {"padding": "10px 16px"}, {"padding": "7px 16px 0 0"}
        title.styles = {**title.styles, "white-space": "nowrap"}
        top = row(title, self.notice, sizing_mode="stretch_width", height=44)
        top.styles = {"border-bottom": "1px solid #e1e5ea"}
        left: list[Any] = [
            _head("Map"), self.descriptor, self.method,
            _head("Colour by"), self.colour, self.legend,
            _head("Filter by"), self.filter, self.words, self.part, self.range, self.dates,
            self.chips, self.removed,
            _head("Search by an image"), self.file,
            _head("Keep"), self.name, self.note, self.save, self.link, self.action,
        ]  # fmt: skip
        for widget in left:
            widget.sizing_mode = "stretch_width"
            widget.margin = (0, 0, 6, 0)
            widget.stylesheets = [*widget.stylesheets, sheet]
        for widget in (self.enter, self.clear):
            widget.margin = (0, 0, 0, 8)
            widget.stylesheets = [sheet]
        self.crumbs.margin = (5, 0, 0, 0)
        self.detail.margin = (0, 0, 18, 0)
        self._plot.sizing_mode = "stretch_both"
        bar = row(self.crumbs, self.enter, self.clear, sizing_mode="stretch_width")
        bar.margin = (0, 0, 8, 0)
        side = {"padding": "14px 16px", "overflow-y": "auto", "background": "#f8f9fb"}
        body = row(
            column(*left, width=_SIDE, sizing_mode="stretch_height", styles=side),
            column(
                bar, self._plot,
                sizing_mode="stretch_both", styles={"padding": "12px 16px", "min-width": "0"},
            ),
            column(
                self.detail, self.gallery, width=_RIGHT, sizing_mode="stretch_height",
                styles={"padding": "14px 16px", "overflow-y": "auto"},
            ),
            sizing_mode="stretch_both",
            styles={"min-height": "0"},
        )  # fmt: skip
        document.title = "Explorer"
        document.add_root(column(top, body, sizing_mode="stretch_both"))
        listen = bk.CustomJS(args={"action": self.action, "largest": self._largest}, code=_LISTEN)
        document.js_on_event("document_ready", listen)


def _div(text: str = "") -> Any:
    return bk.Div(
        text=text,
        sizing_mode="stretch_width",
        margin=0,
        stylesheets=[bk.InlineStyleSheet(css=html.SHEET)],
    )


def _head(text: str) -> Any:
    head = _div(f"<h2>{text}</h2>")
    head.styles = {"padding-top": "10px"}
    return head
