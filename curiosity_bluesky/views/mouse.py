"""Steering by mouse clicks on the live figure."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase, MouseButton, MouseEvent
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.views.panels import SURVEY_AXES
from curiosity_bluesky.views.run_figure import RunPicture

logger = logging.getLogger(__name__)

STILL = 4
"""Maximum screen pixels between press and release of a click."""

NEAR = 8
"""Maximum screen pixels between a click and the measured point that it is on."""

HELP = "click: add a point · shift and drag: do not go there · right click: veto what is proposed"
HELP_WHY = " · click on a measured point: why it was chosen"


class SteeringTarget(Protocol):
    """Protocol of `curiosity_bluesky.plans.steering.Steering`, as far as the figure uses it."""

    def add(self, *, x: float, y: float) -> None:
        """Measure at a position, um."""
        ...

    def mask(self, where: ArrayLike) -> None:
        """Forbid these pixels, ``(rows, cols)``."""
        ...

    def veto(self) -> None:
        """Veto the present proposals."""
        ...


class MouseSteering:
    """Mouse handler that turns events in the survey into steering requests.

    A click adds the pixel there, dragging with shift held masks what is inside the line, a
    click with the right button vetoes what is proposed. Where decisions can be explained, a click
    on a measured point prints why it was chosen, and adds none.

    Parameters
    ----------
    canvas
        Of the live figure.
    picture
        What is drawn on it.
    steering
        Takes the acts.
    explain
        Returns why a decision was made, by its number; called in a thread, since it may take a
        while.

    Attributes
    ----------
    said : str
        What was done last, or why it could not be done.
    """

    def __init__(
        self,
        canvas: FigureCanvasBase,
        picture: RunPicture,
        steering: SteeringTarget,
        explain: Callable[[int], object] | None = None,
    ) -> None:
        self.said = HELP if explain is None else HELP + HELP_WHY
        self._explain = explain
        self._thinking = threading.Lock()
        self._canvas: Any = canvas
        self._pressed_at: tuple[float, float] | None = None
        self._picture = picture
        self._steering: Any = steering
        self._line: list[tuple[float, float]] = []
        canvas.mpl_connect("button_press_event", self._pressed)  # pyright: ignore[reportArgumentType]
        canvas.mpl_connect("motion_notify_event", self._moved)  # pyright: ignore[reportArgumentType]
        canvas.mpl_connect("button_release_event", self._released)  # pyright: ignore[reportArgumentType]

    def _pressed(self, event: MouseEvent) -> None:
        where = self._place(event)
        if where is None:
            return
        if event.button == MouseButton.RIGHT:
            self._do("vetoed what was proposed", self._steering.veto)
        elif event.button == MouseButton.LEFT and event.key == "shift":
            self._line = [where]
        elif event.button == MouseButton.LEFT and not event.dblclick:
            self._pressed_at = event.x, event.y

    def _moved(self, event: MouseEvent) -> None:
        where = self._place(event)
        if self._line and where is not None:
            self._line.append(where)

    def _released(self, event: MouseEvent) -> None:
        line, self._line = self._line, []
        pressed, self._pressed_at = self._pressed_at, None
        if not line:
            where = self._place(event)
            near = pressed is not None and math.dist(pressed, (event.x, event.y)) < STILL
            if where is None or not near:
                return
            if self._explain is not None and (number := self._point_at(event)) is not None:
                threading.Thread(target=self._tell, args=(number,), daemon=True).start()
            else:
                x, y = where
                self._do(f"added x = {x:.3g}, y = {y:.3g} um", self._steering.add, x=x, y=y)
            return
        mask = self._inside(line)
        if mask.any():
            self._do(f"masked {np.count_nonzero(mask)} pixels", self._steering.mask, mask)

    def _place(self, event: MouseEvent) -> tuple[float, float] | None:
        """Return the position of the mouse in the survey (um), None outside."""
        axes = event.inaxes
        if not isinstance(axes, Axes) or axes.get_label() != SURVEY_AXES:
            return None
        if self._picture.survey is None or event.xdata is None or event.ydata is None:
            return None
        if self._canvas.widgetlock.locked():  # the toolbar zooms or pans
            return None
        return float(event.xdata), float(event.ydata)

    def _point_at(self, event: MouseEvent) -> int | None:
        """Return the number of the measured point that was clicked on, None of none."""
        assert event.inaxes is not None
        picture = self._picture
        numbers = [number for number in picture.good if number in picture.decisions]
        if not numbers:
            return None
        places = [(picture.decisions[n].x, picture.decisions[n].y) for n in numbers]
        away = np.hypot(*(event.inaxes.transData.transform(places) - (event.x, event.y)).T)
        return numbers[int(away.argmin())] if away.min() <= NEAR else None

    def _tell(self, number: int) -> None:
        """Print why a decision was made."""
        assert self._explain is not None
        with self._thinking:  # one after the other
            self.said = f"decision {number}: it is worked out why it was made"
            try:
                print(f"\n{self._explain(number)}\n")
                self.said = f"decision {number}: why it was made is in the terminal"
            except Exception as error:  # nothing that is asked for here is worth a traceback
                self.said = f"decision {number} cannot be explained: {error}"
                logger.warning("%s", self.said)

    def _inside(self, line: list[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return the pixels inside a line, ``(rows, cols)``."""
        survey = self._picture.survey
        assert survey is not None
        if len(line) < 3:
            return np.zeros(survey.shape, bool)
        x, y = np.meshgrid(survey.x, survey.y)
        return Path(line).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)

    def _do(self, done: str, act: Any, *args: Any, **kwargs: Any) -> None:
        if self._picture.ended:
            self.said = "the run is over"
        else:
            try:
                act(*args, **kwargs)
                self.said = done
            except InputError as error:
                self.said = str(error)
                logger.warning("%s", error)
