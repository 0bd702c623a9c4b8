"""The live view: the picture of a run, redrawn while documents come in."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curiosity_bluesky.utils.display import WHOLE
from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views.mouse import MouseSteering, SteeringTarget
from curiosity_bluesky.views.run_figure import RunPicture

logger = logging.getLogger(__name__)

SIZE = (10.5, 8.6)
"""Size of the figure, inches."""


class LiveView:
    """Document callback that draws a run while it goes on.

    With a Qt backend of matplotlib a window opens and follows the run. Otherwise the
    picture is written to a PNG file, at most every `interval` seconds, from a thread of its
    own, so that the RunEngine never waits for a drawing.

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
    ) -> None:
        self.picture = RunPicture()
        self.path: Path | None = None
        self._folder = Path(folder)
        self._interval = interval
        self._status = status or (lambda: "")
        self._said = ""  # of the status, in the last drawing
        self._news = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._steering = steering
        self._hand: MouseSteering | None = None
        self._window = _qt_backend() if window is None else window
        self._figure: Figure | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        with self._lock:
            self.picture(name, doc)
        if name == "start":
            self.path = self._folder / f"{doc['uid'][:8]}.png"
        if self._figure is None and self._thread is None:
            self._thread = threading.Thread(target=self._draw_on, name="live-view", daemon=True)
            self._thread.start()
            atexit.register(self.finish)
        self._news.set()
        if name == "stop":
            self._over.set()

    def open(self) -> None:
        """Open the window; to be called once, from the thread that has the GUI."""
        if not self._window:
            return
        import matplotlib.pyplot as plt

        self._figure = plt.figure("curiosity", figsize=SIZE, layout="constrained")
        if self._steering is not None:
            self._hand = MouseSteering(self._figure.canvas, self.picture, self._steering)
        # The GUI's own timer draws, in the GUI's thread; documents come from another one.
        self._timer = self._figure.canvas.new_timer(interval=int(1000 * self._interval))
        self._timer.add_callback(self._redraw_window)
        self._timer.start()
        plt.show(block=False)

    def _redraw_window(self) -> None:
        if self._figure is not None and (self._news.is_set() or self._status() != self._said):
            self._news.clear()
            self._draw(self._figure)
            self._figure.canvas.draw_idle()

    def _draw(self, figure: Figure) -> None:
        self._copy().draw(figure)
        self._said = self._status()
        if self._said:
            words = "\n".join(text(line, WHOLE) for line in self._said.splitlines())
            figure.supxlabel(words, color="red", fontsize=10)
        elif figure is self._figure and self._hand is not None:
            # In the window, so that what a click did is seen where it was made.
            figure.supxlabel(text(self._hand.said, WHOLE), fontsize=8)

    def _draw_on(self) -> None:
        trouble = ""
        while True:
            # Without news it is drawn again only if what is amiss has changed.
            if not self._news.wait(self._interval) and self._status() == self._said:
                continue
            self._news.clear()
            ended = self.picture.ended
            try:
                path = self.save()
                if ended:
                    logger.info("picture of the run: %s", path)
                trouble = ""
            except Exception as error:  # a picture less is no reason to disturb the run
                if str(error) != trouble:  # a disk stays full for a while
                    logger.warning("the live view could not be drawn: %s", error)
                trouble = str(error)
            # The last picture of a run comes at once: the process may end soon.
            self._over.wait(self._interval)
            self._over.clear()

    def finish(self) -> None:
        """Draw the pending changes before the process ends."""
        if self._news.is_set() and self.path is not None:
            self._news.clear()
            with contextlib.suppress(Exception):  # a picture less is no reason to end with an error
                self.save()

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
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        self._draw(figure)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: a viewer of the file always sees a whole picture.
        unfinished = target.with_name(f".{target.stem}-{threading.get_ident()}.png")
        figure.savefig(unfinished, dpi=110)
        unfinished.replace(target)
        return target


def _qt_backend() -> bool:
    return "qt" in matplotlib.get_backend().lower()
