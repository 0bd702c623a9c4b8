"""Page of one user and its event handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from functools import partial
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import TextInput
from bokeh.palettes import Viridis256

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.projection import place_on_map
from curiosity_bluesky.views.explore import html, saved_selections
from curiosity_bluesky.views.explore.columns import Filter, colours_of
from curiosity_bluesky.views.explore.layout import NOTHING, PageWidgets
from curiosity_bluesky.views.explore.map import Map
from curiosity_bluesky.views.explore.projections import Points, Projections
from curiosity_bluesky.views.explore.search import search
from curiosity_bluesky.views.explore.state import Rows, SharedState, ViewState
from curiosity_bluesky.views.explore.upload import LARGEST, too_large
from curiosity_bluesky.views.explore.widgets import Editor

_PER_PAGE = 30
_SHORT = 0.15
"""Seconds until the page shows that a map is being made."""

_log = logging.getLogger(__name__)


class Page:
    """Page of one user.

    Parameters
    ----------
    document
        Bokeh's.
    room, projections
        What all visitors share.
    pool
        Where images that are searched by are described.
    address
        Where thumbnails are, without the ``/ROW.png``.
    here
        What the page's own address begins with, for links.
    descriptor, method
        By which images are compared, and how they are projected, first.
    """

    def __init__(
        self,
        document: Document,
        room: SharedState,
        projections: Projections,
        pool: ThreadPoolExecutor,
        address: str,
        here: str,
        descriptor: str | None = None,
        method: str = "pca",
    ) -> None:
        self.document, self.room, self.projections, self.pool = document, room, projections, pool
        self.address, self.here = address, here
        self.visit = ViewState(room, descriptor, method)
        action: Any = TextInput(visible=False, name="action")
        self.map = Map(room, address, action)
        self.parts = PageWidgets(room, self.map.figure, action, LARGEST)
        self.editor = Editor(self.parts, room.table)
        self._points: Points = np.zeros((0, 2), np.float32)
        self._page = 0
        self._asked = 0
        self._waiting: Future[Points] | None = None
        self._quiet = False
        self._connect()
        self.parts.into(document)

    def _connect(self) -> None:
        parts = self.parts
        wired: list[tuple[Any, str, Callable[[Any], None]]] = [
            (parts.descriptor, "value", self._describe_by),
            (parts.method, "active", self._project_by),
            (parts.colour, "value", self._colour_by),
            (parts.filter, "value", lambda _: self._show_editor()),
            (parts.words, "value", lambda words: self._filter(self.editor.of_words(words))),
            (parts.part, "value", lambda part: self._filter(self.editor.of_part(part))),
            (parts.range, "value_throttled", lambda ends: self._filter(self.editor.of_range(ends))),
            (parts.dates, "value_throttled", lambda ends: self._filter(self.editor.of_range(ends))),
            (parts.removed, "active", lambda _: self._show_points()),
            (parts.action, "value", self._act),
            (self.map.front.selected, "indices", self._select),
        ]
        for model, name, react in wired:
            model.on_change(name, partial(self._react, react))
        parts.file.on_change("value", self._file_changed)
        parts.enter.on_click(lambda: self._do(self._enter))
        parts.clear.on_click(lambda: self._do(lambda: self._select([])))
        parts.save.on_click(lambda: self._do(self._save))

    def _file_changed(self, attr: str, old: Any, new: Any) -> None:
        # It is emptied after each use, which is no action of the user and leaves the notice alone.
        if new:
            self._react(self._upload, attr, old, new)

    def _react(self, react: Callable[[Any], None], _attr: str, _old: Any, new: Any) -> None:
        if not self._quiet:
            self._do(lambda: react(new))

    def _do(self, act: Callable[[], None]) -> None:
        """Run an action; on an InputError show it, and leave the page as it was."""
        self.say("")
        before = self.visit.copy()
        try:
            act()
        except InputError as error:
            self._undo(before)
            self.say(str(error), bad=True)
        except Exception as error:
            _log.exception("the explorer page failed")
            self._undo(before)
            self.say(f"that failed: {type(error).__name__}: {error}", bad=True)

    def _undo(self, before: ViewState) -> None:
        self.visit = before
        try:
            # A failure comes before the map is drawn; the widgets have changed already.
            self._show_rest()
        except Exception:
            _log.exception("the explorer page cannot go back")

    def say(self, text: str, bad: bool = False) -> None:
        """Show a message, or none."""
        self.parts.notice.text = html.notice(text, bad)

    def open(self, selection: str | None = None) -> None:
        """Show the first map, or the one of a saved selection.

        Parameters
        ----------
        selection
            Its key.
        """
        remarks: list[str] = []

        def restore() -> None:
            saved = self.room.selections.selection(selection or "")
            remarks.extend(saved_selections.restore(self.visit, saved))
            self.parts.name.value, self.parts.note.value = saved["name"], saved["note"]
            if saved["name"]:
                remarks.insert(0, f"{saved['name']}, saved {saved['time'][:16].replace('T', ' ')}")

        if selection is not None:
            self._do(restore)
        self._show_map()
        if remarks:
            self.say("; ".join(remarks))

    # Maps ---------------------------------------------------------------------------------

    def _enter(self) -> None:
        self.visit.enter()
        self._show_map()

    def _describe_by(self, name: str) -> None:
        self.visit.describe_by(name)
        self._show_map()

    def _project_by(self, active: int) -> None:
        self.visit.project_by(self.parts.methods[active])
        self._show_map()

    def _show_map(self) -> None:
        """Show the map of the visit's level, at once if it is cached, else when it is ready."""
        level, vectors = self.visit.level, self.visit.vectors()
        # Its error comes first: it must not cost the map that is shown, or on its way.
        future = self.projections.ask(vectors, level.effective, level.seed)
        self._page = 0
        self._asked += 1
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = future
        try:
            self._show_points(future.result(_SHORT))
            if level.effective != level.method:
                self.say(f"PCA: {len(level.rows)} images are too few for PaCMAP")
            return
        except TimeoutError:
            pass
        many = f"{len(level.rows):,} images"
        if level.effective == "pacmap":
            meanwhile = self.projections.ask(vectors, "pca")
            self._when(meanwhile, self._asked)
            self.say(f"PaCMAP of {many} is being made; their PCA meanwhile")
        else:
            self.say(f"a map of {many} is being made …")
        self._show_rest()
        self._when(future, self._asked, last=True)

    def _when(self, future: Future[Points], asked: int, last: bool = False) -> None:
        def show() -> None:
            # A user who has gone elsewhere meanwhile does not want this map.
            superseded = asked != self._asked or (self._waiting is None and not last)
            if superseded or future.cancelled():
                return
            if last:
                self._waiting = None
                if future.exception() and self.visit.level.effective == "pacmap":
                    # Their PCA stays, and PaCMAP can be chosen again.
                    self.visit.project_by("pca")
                    self._do(self._show_map)
                self._do(lambda: self._show_points(future.result()))
            elif not future.exception():
                self._show_points(future.result())

        future.add_done_callback(lambda _: self._later(show))

    def _show_points(self, points: Points | None = None) -> None:
        """Draw the map: all that depends on filters, colours, selection and neighbours too."""
        visit = self.visit
        if points is not None:
            self._points = points
            self.map.frame(points)
        if len(self._points) != len(visit.level.rows):
            return  # the map is still on its way
        column = None if visit.colour is None else self.room.table[visit.colour]
        colours = colours_of(column, len(self.room.collection), Viridis256)
        self._quietly(
            lambda: self.map.draw(
                visit.level.rows,
                self._points,
                visit.passing(),
                colours,
                hide=bool(self.parts.removed.active),
                selected=visit.selected,
            )
        )
        self.parts.put(self.parts.legend, html.legend(column, colours))
        self._show_rest()

    def _show_rest(self) -> None:
        """Update everything except the map."""
        visit, parts = self.visit, self.parts
        parts.crumbs.text = html.breadcrumbs(visit)
        parts.put(parts.chips, html.filter_chips(visit))
        count = len(visit.to_project())
        parts.enter.label = f"Project these {count:,}" if count else "Project these"
        parts.enter.disabled = not 3 <= count < len(visit.level.rows)
        parts.clear.disabled = not len(visit.selected)
        self._quietly(self._show_controls)
        self._show_found()
        self._show_gallery()

    def _show_controls(self) -> None:
        visit, parts = self.visit, self.parts
        parts.descriptor.value = visit.level.descriptor
        parts.method.active = parts.methods.index(visit.level.method)
        parts.colour.value = visit.colour or NOTHING
        self._show_editor()

    def _show_found(self) -> None:
        self.parts.put(self.parts.detail, html.neighbours(self.visit, self.address))
        found, rows = self.visit.found, self.visit.level.rows
        if found is None or len(self._points) != len(rows):
            self.map.mark(None, np.zeros((0, 2)), False)
            return
        near = self._points[np.searchsorted(rows, [hit.row for hit in found.hits])]
        if found.vector is not None:
            where = place_on_map(found.vector, self.visit.vectors(), self._points)
            self.map.mark(where, near, True)
        else:
            on_map = rows[rows == found.row]
            where = self._points[np.searchsorted(rows, on_map[0])] if len(on_map) else None
            self.map.mark(where, near, False)

    def _show_gallery(self) -> None:
        visit = self.visit
        rows = visit.selected if len(visit.selected) else visit.level.rows[visit.passing()]
        what = "Selected" if len(visit.selected) else "On this map"
        last = max(-(-len(rows) // _PER_PAGE) - 1, 0)
        self._page = min(max(self._page, 0), last)
        self.parts.gallery.text = html.gallery(
            visit, self.address, rows.tolist(), self._page, _PER_PAGE, what
        )

    def _quietly(self, change: Callable[[], Any]) -> None:
        """Change widgets without triggering the visitor's callbacks."""
        before, self._quiet = self._quiet, True
        try:
            change()
        finally:
            self._quiet = before

    # Selection, colours, filters ----------------------------------------------------------

    def _select(self, indices: list[int]) -> None:
        rows: Rows = self.map.rows
        self.visit.select(rows[[i for i in indices if 0 <= i < len(rows)]])
        self._page = 0
        if not indices:
            self._quietly(lambda: self.map.select(self.visit.selected))
        self._show_rest()

    def _colour_by(self, name: str) -> None:
        self.visit.colour = None if name == NOTHING else name
        self._show_points()

    def _show_editor(self) -> None:
        self._quietly(lambda: self.editor.show(self.visit.filters))

    def _filter(self, wanted: Filter | None) -> None:
        if wanted is None:
            self.visit.unfilter(self.editor.name)
        else:
            self.visit.filter(wanted)
        self._filtered()

    def _filtered(self) -> None:
        self._page = 0
        self._show_points()

    # What is pressed in the page's own HTML -----------------------------------------------

    def _act(self, said: str) -> None:
        verb, _, argument = said.rpartition("#")[0].partition(":")
        visit = self.visit
        if verb == "click":
            visit.click(_number(argument))
            self._show_found()
            self._show_gallery()
        elif verb == "back":
            visit.back(_number(argument))
            self._show_map()
        elif verb == "page":
            self._page = _number(argument)
            self._show_gallery()
        elif verb == "forget":
            visit.forget()
            self._show_found()
            self._show_gallery()
        elif verb == "unfilter":
            visit.unfilter(argument or None)
            self._filtered()
        elif verb == "only" and visit.colour is not None:
            self._quietly(lambda: setattr(self.parts.filter, "value", visit.colour))
            visit.filter(Filter(visit.colour, words=(argument,)))
            self._filtered()
        elif verb == "large":
            name, _, size = argument.rpartition("|")
            raise InputError(too_large(name, _number(size)))

    def _upload(self, content: Any) -> None:
        def read() -> None:  # when the name has come too
            file = self.parts.file
            name = str(file.filename)
            file.clear()  # the same file may be searched by again
            self._do(lambda: self._search(name, str(content)))

        self.document.add_next_tick_callback(read)

    def _search(self, name: str, content: str) -> None:
        def found(show: Callable[[ViewState], None]) -> None:
            self._later(lambda: self._do(lambda: self._found(show)))

        search(self.visit, name, content, self.pool, found)
        self.say(f"{name} is being described …")

    def _found(self, show: Callable[[ViewState], None]) -> None:
        show(self.visit)
        self._show_found()
        self._show_gallery()

    def _later(self, act: Callable[[], None]) -> None:
        """Run an action in the event loop of the visitor's session; from any thread."""
        try:
            self.document.add_next_tick_callback(act)
        except Exception:  # the visitor has left
            _log.debug("what was made came too late", exc_info=True)

    def _save(self) -> None:
        saved = saved_selections.saved(self.visit, self.parts.name.value, self.parts.note.value)
        key = self.room.selections.save_selection(saved)
        link = f"{self.here}/explore?selection={key}"
        self.parts.put(self.parts.link, html.saved(link, saved["name"]))


def _number(said: str) -> int:
    if not said.isascii() or not said.isdigit():
        raise InputError(f"{said!r} is no number")
    return int(said)
