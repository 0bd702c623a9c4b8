"""Devices in plain Python, of any names, that read whatever a test wants."""

from __future__ import annotations

from typing import Any

import numpy as np
from bluesky import RunEngine
from ophyd.status import Status
from support import grouped

from curiosity_bluesky import curiosity_plan

SIDE = 12
AXIS = np.linspace(0.0, 1.0, SIDE)
IMAGE = np.sin(7 * AXIS)[None, :] + np.cos(5 * AXIS)[:, None]
POINTS = 20


def done() -> Status:
    status = Status()
    status.set_finished()
    return status


def described(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {
            "source": "test",
            "dtype": "array" if np.ndim(value) else "number",
            "shape": list(np.shape(value)),
        }
        for key, value in values.items()
    }


class Plain:
    """What reads `values`."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.measured = 0
        self.configured: dict[str, Any] = {}

    @property
    def values(self) -> dict[str, Any]:
        raise NotImplementedError

    def trigger(self) -> Status:
        self.measured += 1
        return done()

    def read(self) -> dict[str, Any]:
        return {k: {"value": v, "timestamp": 1.0} for k, v in self.values.items()}

    def describe(self) -> dict[str, Any]:
        return described(self.values)

    def read_configuration(self) -> dict[str, Any]:
        return {k: {"value": v, "timestamp": 1.0} for k, v in self.configured.items()}

    def describe_configuration(self) -> dict[str, Any]:
        return described(self.configured)


class Motor(Plain):
    """A motor without `trigger`; `as_read` makes its read-back of its position."""

    trigger = None  # pyright: ignore

    def __init__(self, name: str, as_read: Any = lambda at: at) -> None:
        super().__init__(name)
        self.at, self.as_read, self.moved = 0.0, as_read, 0

    @property
    def hints(self) -> dict[str, Any]:
        return {"fields": [self.name]}

    @property
    def values(self) -> dict[str, Any]:
        return {self.name: self.as_read(self.at)}

    def set(self, value: float) -> Status:
        self.at = float(value)
        self.moved += 1
        return done()

    def stop(self, *, success: bool = False) -> None:
        pass


class Camera(Plain):
    """An imager."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.configured = {f"{name}_x": AXIS, f"{name}_y": AXIS}

    @property
    def values(self) -> dict[str, Any]:
        return {f"{self.name}_height": IMAGE}


class Detector(Plain):
    """A detector: what `make` makes of the spectrum under the tip, by data key.

    `make` is called with the spectrum and how often it was measured, 0 before the first time.
    """

    def __init__(self, name: str, x: Motor, y: Motor, make: Any = None) -> None:
        super().__init__(name)
        self.motors = x, y
        self.make = make or (lambda spectrum, n: {name: spectrum})

    @property
    def values(self) -> dict[str, Any]:
        x, y = (motor.at for motor in self.motors)
        height = np.interp(x, AXIS, np.sin(7 * AXIS)) + np.interp(y, AXIS, np.cos(5 * AXIS))
        spectrum = np.tanh(np.linspace(-2, 2, POINTS) - height / 2) * (height + 3)
        return self.make(spectrum, self.measured)


class Bench:
    """An instrument of plain devices, and the documents of what is run on it."""

    def __init__(
        self,
        make: Any = None,
        names: tuple[str, str, str, str] = ("mx", "my", "camera", "det"),
        **motors: Any,
    ) -> None:
        self.x, self.y = Motor(names[0], **motors), Motor(names[1], **motors)
        self.camera = Camera(names[2])
        self.detector = Detector(names[3], self.x, self.y, make)
        self.detectors: list[Any] = [self.detector]
        self.documents: list[tuple[str, Any]] = []
        self.RE = RunEngine({})

    def plan(self, num_points: int | None = 6, **given: Any) -> Any:
        given.setdefault("parameters", {"n_seeds": 4, "patch_size": 5})
        given = {"strategy": "random", "retries": 0, "retry_wait": 0.0, "max_failures": 99, **given}
        devices = self.detectors, self.x, self.y, self.camera
        return curiosity_plan(*devices, **grouped(num_points=num_points, **given))

    def run(self, num_points: int | None = 6, **given: Any) -> Any:
        return self.RE(self.plan(num_points, **given), lambda *doc: self.documents.append(doc))

    @property
    def stop(self) -> Any:
        """The stop document of the only run."""
        [stop] = [doc for name, doc in self.documents if name == "stop"]
        return stop

    def is_untouched(self) -> bool:
        """Whether nothing moved, measured or was recorded."""
        moved = self.x.moved + self.y.moved + self.camera.measured + self.detector.measured
        return not moved and not self.documents and self.RE.state == "idle"
