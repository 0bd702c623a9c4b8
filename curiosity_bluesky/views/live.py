"""The live view: the picture of a run, redrawn while documents come in."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curiosity_bluesky import documents
from curiosity_bluesky.utils.display import WHOLE
from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views.colours import TROUBLE
from curiosity_bluesky.views.expected import Property
from curiosity_bluesky.views.mouse import MouseSteering, SteeringTarget
from curiosity_bluesky.views.run_figure import RunPicture

logger = logging.getLogger(__name__)

SIZE = (13.5, 8.6)
"""Size of the figure, inches."""
SHARE = 10
"""Predicting for the figure takes one part of the learning thread's time in so many."""
_TOOLKITS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


class LiveView:
    """Document callback that draws a run while it goes on.

    With a Qt backend of matplotlib a window opens and follows the run. Otherwise the
    picture is written to a PNG file, at most every `interval` seconds. Either way the last
    picture of each run is written, from its last documents. It is drawn in a thread of its own,
    so that the RunEngine never waits for a drawing, and no error in it disturbs the run.

    Parameters
    ----------
    folder
        Where the pictures go, ``<first 8 characters of the uid>.png``; made if need be.
    interval
        Least time between two drawings, s.
    window
        Whether to open a window; default: where the matplotlib backend is a Qt one.
    status
        Asked at each drawing what is amiss, such as ``writer.status``; it is the red line at
        the bottom, none for "". The picture is redrawn when it changes, too.
    steering
        What takes the acts of the mouse in the window (see `MouseSteering`), such as
        ``curiosity_bluesky.steer``; without it, the window only shows.
    measure
        A property of the spectra for the main panel; default: their first principal component.
    explain
        ``explain(uid, number)`` returns why a decision of a run was made; a click on a measured
        point in the window prints it.
    lineage
        ``lineage(uid)`` returns the documents of a run after those of the runs that it went on
        with, such as ``catalog.lineage``, so that all of a run that is resumed is drawn.

    Attributes
    ----------
    picture : RunPicture
        What is drawn.
    path : Path or None
        The file of the present run.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        interval: float = 2.0,
        window: bool | None = None,
        status: Callable[[], str] | None = None,
        steering: SteeringTarget | None = None,
        measure: Property | None = None,
        explain: Callable[[str, int], object] | None = None,
        lineage: Callable[[str], Iterable[Iterable[tuple[str, Mapping[str, Any]]]]] | None = None,
    ) -> None:
        self.picture = RunPicture(measure=measure)
        self.path: Path | None = None
        self._folder = Path(folder)
        self._interval = interval
        self._status = status or (lambda: "")
        self._shown = ""  # of the status, in the last file
        self._shown_in_window = "", ""  # and of the mouse
        self._news = threading.Event()
        self._news_for_window = threading.Event()
        self._over = threading.Event()
        self._ended: deque[tuple[Path, RunPicture]] = deque()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._finished = False
        self._steering = steering
        self._explain = explain
        self._lineage = lineage
        self._hand: MouseSteering | None = None
        self._window = _is_qt(matplotlib.get_backend()) if window is None else window
        self._figure: Figure | None = None
        self._thread: threading.Thread | None = None
        self._trouble: dict[str, set[str]] = {}  # what could not be done, and why
        self._looked = (0, 0.0)  # spectra known at the last prediction, and when the next may be

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document; what goes wrong is a warning."""
        try:
            self._take(name, doc)
        except Exception as error:
            self._warn("take a document", error)

    def _take(self, name: str, doc: Mapping[str, Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw_on, name="live-view", daemon=True)
            self._thread.start()
            atexit.register(self.finish)
        if name == "start":
            self.path = self._folder / f"{doc['uid'][:8]}.png"
            self._looked = 0, 0.0
        before = self._before(doc) if name == "start" else []
        with self._lock:
            for earlier in before:
                self.picture(*earlier)
            self.picture(name, doc)
            if name == "stop" and self.path is not None:
                # Kept as it is now: the next run may begin before this one is drawn.
                self._ended.append((self.path, self.picture.copy()))
        self._tell()
        if name == "stop":
            self._over.set()

    def _before(self, start: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the documents of the runs that a run goes on with, unless they are drawn."""
        resumed = start.get(documents.RESUMES)
        if self._lineage is None or resumed in (None, self.picture.start.get("uid")):
            return []
        try:
            return list(chain.from_iterable(self._lineage(resumed)))
        except Exception as error:  # it is drawn alone
            self._warn("draw what the run goes on with", error)
            return []

    def _tell(self) -> None:
        self._news.set()
        self._news_for_window.set()

    def _warn(self, what: str, error: Exception) -> None:
        known = self._trouble.setdefault(what, set())
        if str(error) not in known:  # a disk stays full for a while
            logger.warning("the live view could not %s: %s", what, error)
        known.add(str(error))

    def watch(self, explorer: Any) -> None:
        """Take what an explorer expects, for the main panel.

        A watcher of a `CuriosityAgent`, called in the thread that learns: ``steer.watchers`` holds
        those of the plan's own agent. It predicts only what is worth its time: after a decision
        that a model made, and for a tenth of the time at most until the last spectrum. At the end
        of a run the documents say what is expected.
        """
        try:
            n, decisions = explorer.n_observed, explorer.decisions
            known, earliest = self._looked
            modelled = bool(decisions) and decisions[-1].model_version > 0
            begun = time.perf_counter()
            due = begun >= earliest or n >= explorer.budget
            if not modelled or n == known or not due:
                return
            expected = explorer.predict()
            with self._lock:
                self.picture.expect(expected.spectra, expected.deviation, n)
            now = time.perf_counter()
            self._looked = n, now + (SHARE - 1) * (now - begun)
            self._tell()
        except Exception as error:
            self._warn("predict", error)

    @property
    def where(self) -> str:
        """Say where the figure is drawn, with which backend of matplotlib, and why."""
        backend = matplotlib.get_backend()
        if self._figure is not None:
            return f"a window (matplotlib's backend is {backend}), and PNG files at the end of runs"
        files = f"PNG files, redrawn while a run goes on (matplotlib's backend is {backend})"
        return f"{files}; no window: {_no_window(backend)}"

    def open(self) -> None:
        """Open the window; to be called once, from the thread that has the GUI."""
        if not self._window:
            return
        import matplotlib.pyplot as plt

        self._figure = plt.figure("curiosity", figsize=SIZE, layout="constrained")
        if self._steering is not None:
            self._hand = MouseSteering(
                self._figure.canvas,
                self.picture,
                self._steering,
                None if self._explain is None else self._why,
            )
        # The GUI's own timer draws, in the GUI's thread; documents come from another one.
        self._timer = self._figure.canvas.new_timer(interval=int(1000 * self._interval))
        self._timer.add_callback(self._redraw_window)
        self._timer.start()
        plt.show(block=False)

    def _why(self, number: int) -> object:
        assert self._explain is not None
        return self._explain(self.picture.start["uid"], number)

    def _redraw_window(self) -> None:
        try:
            words = self._status(), "" if self._hand is None else self._hand.said
            changed = words != self._shown_in_window
            if self._figure is not None and (self._news_for_window.is_set() or changed):
                self._news_for_window.clear()
                self._draw(self._figure, self._copy())
                self._shown_in_window = words
                self._figure.canvas.draw_idle()
        except Exception as error:  # one that leaves a timer of Qt ends the process
            self._warn("be drawn", error)

    def _draw(self, figure: Figure, picture: RunPicture) -> str:
        """Draw a picture, and what is amiss, which is returned."""
        picture.draw(figure)
        said = self._status()
        if said:
            words = "\n".join(text(line, WHOLE) for line in said.splitlines())
            figure.supxlabel(words, color=TROUBLE, fontsize=10)
        elif figure is self._figure and self._hand is not None:
            # In the window, so that what a click did is seen where it was made.
            figure.supxlabel(text(self._hand.said, WHOLE), fontsize=8)
        return said

    def _draw_on(self) -> None:
        while True:
            news = self._news.wait(self._interval)
            try:
                # Without news it is drawn again only if what is amiss has changed.
                if not news and self._status() == self._shown:
                    continue
                with self._writing:
                    if self._finished:
                        return
                    self._save_pending()
                self._trouble.pop("be drawn", None)
            except Exception as error:  # a picture less is no reason to disturb the run
                self._warn("be drawn", error)
            # The last picture of a run comes at once: the process may end soon.
            self._over.wait(self._interval)
            self._over.clear()

    def _save_pending(self) -> None:
        """Write the last pictures of the runs that have ended, and that of the present one."""
        self._news.clear()
        last = None
        while self._ended:
            path, last = self._ended.popleft()
            self._write(path, last)
            logger.info("picture of the run: %s", path)
        # A run under way is drawn in the window, where there is one.
        if (self._figure is None) if not self.picture.ended else (last is None):
            self.save()

    def finish(self) -> None:
        """Draw the pending changes before the process ends."""
        # A picture less is no reason to end with an error; a thread that is drawing when the
        # interpreter goes would abort the process.
        with contextlib.suppress(Exception), self._writing:
            self._finished = True
            if self._news.is_set():
                self._save_pending()

    def _copy(self) -> RunPicture:
        # Drawn from a copy, so that the next document does not wait for the drawing.
        with self._lock:
            return self.picture.copy()

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the present picture and return its path.

        Parameters
        ----------
        path
            Default: the file of the present run.

        Raises
        ------
        RuntimeError
            If there was no run yet and no path is given.
        """
        target = Path(path) if path is not None else self.path
        if target is None:
            raise RuntimeError("there was no run yet; give a path")
        return self._write(target, self._copy())

    def _write(self, target: Path, picture: RunPicture) -> Path:
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        self._shown = self._draw(figure, picture)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: a viewer of the file always sees a whole picture.
        unfinished = target.with_name(f".{target.stem}-{threading.get_ident()}.png")
        figure.savefig(unfinished, dpi=110)
        unfinished.replace(target)
        return target


def _is_qt(backend: str) -> bool:
    return "qt" in backend.lower()


def _no_window(backend: str) -> str:
    """Say why there is no window."""
    if _is_qt(backend):
        return "it was not opened"
    if "MPLBACKEND" in os.environ:
        return f"the environment says MPLBACKEND={os.environ['MPLBACKEND']}"
    if not any(find_spec(toolkit) for toolkit in _TOOLKITS):
        return "no Qt is installed; pip install curiosity-bluesky[live]"
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not shown:
        return "there is no display"
    return "another backend was chosen; `%matplotlib qt` before this profile, or MPLBACKEND=qtagg"
