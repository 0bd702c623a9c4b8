"""What a demo measures, and how: checked before anything is made ready.

Devices, RunEngine and plan are imported when it is: a bad argument is refused at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curiosity_bluesky.catalog import check_place
from curiosity_bluesky.demo.survey_of_sample import SPEED, survey_of
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, limit_seeds
from curiosity_bluesky.plans.options import DriftCorrection, PlanParameters, RunOptions
from curiosity_bluesky.utils.validation import LONGEST, number
from curiosity_bluesky.utils.wording import did_you_mean
from curiosity_bluesky.views.report import DEMO, check_picture
from sim_devices import Faults, Sample, open_sample
from sim_devices.drift import askew
from sim_devices.faults import KINDS

if TYPE_CHECKING:
    from curiosity_bluesky.demo.instrument import Instrument
    from curiosity_bluesky.plans.resume import InterruptedRun

DEVICES = ("simulated", "epics")
"""What a demo can measure with."""

PLOT = "plot"
"""Key beside the setting in the start document: whether the run was drawn."""

ENDLESS = "inf"
"""The speed of a clock that never waits, in the start document."""

_ENDLESS = (ENDLESS, math.inf, 1.7976e308, None)
"""It, and what the stores made of the infinity that earlier versions wrote."""


@dataclass(frozen=True, kw_only=True)
class DemoSample:
    """What lies under the simulated microscope; in the start document, for `resume_demo`.

    Parameters
    ----------
    sample, image_slice, spectra_slice
        See `sim_devices.open_sample`.
    speed
        Simulated seconds per second.
    faults
        Probability of each kind of fault, see `sim_devices.Faults`.
    drift
        How fast the sample drifts, nm per simulated minute, 37 degrees off the x axis.
    devices
        ``simulated``, in this process, or ``epics``: over Channel Access, see
        `served_instrument`.
    """

    sample: str
    image_slice: int | str | None = None
    spectra_slice: str | None = None
    speed: float = SPEED
    faults: Mapping[str, Any] = field(default_factory=dict)
    drift: float = 0.0
    devices: str = "simulated"

    def __post_init__(self) -> None:
        for name in ("sample", "image_slice", "spectra_slice"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name == "sample" or value is not None):
                if name == "image_slice" and type(value) is int:
                    continue
                raise InputError(f"{name} is {value!r}; expected a text")
        if self.devices not in DEVICES:
            raise InputError(f"there are no devices {self.devices!r}; expected {DEVICES}")
        if not isinstance(self.faults, Mapping):
            raise InputError(f"faults are {self.faults!r}; expected kinds and their shares")
        for name in self.faults:
            if name not in KINDS:
                near = did_you_mean(name, KINDS)
                raise InputError(f"there is no fault {name!r}; there are {', '.join(KINDS)}.{near}")
        if self.speed != math.inf:  # which is a clock that never waits
            number("speed", self.speed, open_low=True)
        number("drift", self.drift, -LONGEST, what="nm/min")

    @staticmethod
    def of(past: InterruptedRun) -> DemoSample:
        """Return the setting of a run that `run_demo` made.

        Raises
        ------
        InputError
            If the demo did not make it, or this version does not know all of its setting.
        """
        known = past.start.get(DEMO)
        if not isinstance(known, Mapping):
            raise InputError(
                f"run {past.uid} was not made by `curiosity demo`; resume it where its devices "
                f"are: RE(curiosity_plan(detectors, x, y, imager, resume={past.uid[:8]!r}))"
            )
        known = {name: value for name, value in known.items() if name != PLOT}
        names = [each.name for each in fields(DemoSample)]
        unknown = sorted(set(known) - set(names))
        if unknown or "sample" not in known:
            raise InputError(
                f"run {past.uid} was made with the setting {', '.join(map(str, known)) or 'none'}; "
                f"this version knows {', '.join(names)}: resume it with the version "
                f"({past.start.get('curiosity_version', 'not known')}) that made it"
            )
        endless = known.get("speed", SPEED) in _ENDLESS
        return DemoSample(**{**known, **({"speed": math.inf} if endless else {})})

    def as_metadata(self) -> dict[str, Any]:
        """Return it for the start document: JSON knows no infinity."""
        return {**asdict(self), **({"speed": ENDLESS} if self.speed == math.inf else {})}

    @cached_property
    def opened(self) -> Sample:
        """The sample, opened once."""
        return open_sample(self.sample, image=self.image_slice, spectra=self.spectra_slice)

    def _faults(self, seed: int) -> Faults | None:
        return Faults(**self.faults, seed=seed) if self.faults else None

    def check(self, seed: int) -> None:
        """Raise InputError if there is no such sample, or a fault or the drift cannot be."""
        _ = self.opened, self._faults(seed), askew(self.drift)

    @contextmanager
    def instrument(self, seed: int) -> Iterator[Instrument]:
        """Put the sample under the microscope, for as long as the context lasts."""
        from curiosity_bluesky.demo.instrument import served_instrument, simulated_instrument

        sample, faults = self.opened, self._faults(seed)
        if self.devices == "simulated":
            yield simulated_instrument(
                sample, speed=self.speed, faults=faults, drift_um_per_min=askew(self.drift)
            )
            return
        with served_instrument(sample, *self._options(seed)) as instrument:
            yield instrument

    def _options(self, seed: int) -> list[str]:
        """Return it as options of ``curiosity ioc``."""
        given = {
            "--sample": self.sample,
            "--image-slice": self.image_slice,
            "--spectra-slice": self.spectra_slice,
            "--speed": self.speed,
            "--seed": seed if self.faults else None,
            "--drift": self.drift or None,
        }
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        return options + [f"--fault={kind}={share}" for kind, share in self.faults.items()]


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How a demo measures; the fields are options of the command.

    A run and a dry run are both checked by `check`, so that they refuse the same.
    """

    strategy: str = "curious"
    points: int | None = None
    seed: int = 0
    withhold: float = 0.0
    lookahead: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    resurvey_every: int = 0
    time_budget: float | None = None
    catalog: str | None = None
    picture: Path | None = None
    warm_start: str | None = None
    warm_gate: float | None = None
    dwell: str | float | None = None

    def check(self, setting: DemoSample) -> Strategy:
        """Refuse what can be refused before an instrument is there; return the strategy.

        Raises
        ------
        InputError
            If something cannot be used.
        """
        PlanParameters(seed=self.seed)
        if self.picture is not None:
            check_picture(self.picture)
        check_place(self.catalog)
        self._run()
        setting.check(self.seed)
        # Last: what a strategy learns by takes longest to import.
        chosen = Strategy.named(self.strategy, **{"budget": self.points, **self.parameters})
        chosen = limit_seeds(chosen, self.parameters)
        chosen.validate(survey_of(setting.opened, self.withhold))
        if self.warm_start is not None:
            from curiosity_bluesky.plans.warm_start import WarmStart

            WarmStart(self.warm_start, self.catalog, self.warm_gate).check(chosen)
        return chosen

    @contextmanager
    def ready(self, setting: DemoSample) -> Iterator[tuple[Instrument, DemoRun]]:
        """Put the sample under the microscope; `check` comes before it."""
        with setting.instrument(self.seed) as instrument:
            yield instrument, self._run(instrument)

    def _run(self, instrument: Instrument | None = None) -> DemoRun:
        options = demo_options(
            instrument,
            withhold=self.withhold,
            lookahead=self.lookahead,
            parameters=dict(self.parameters),
            warm_start=self.warm_start,
            warm_gate=None if self.warm_start is None else self.warm_gate,
            catalog=self.catalog,
            dwell=self.dwell,
        )
        drift = DriftCorrection(resurvey_every=self.resurvey_every)
        if self.time_budget is not None:
            number("time_budget", self.time_budget, open_low=True, what="seconds")
        return DemoRun(options, drift, self.time_budget)


@dataclass(frozen=True)
class DemoRun:
    """Arguments of the plan that are the same for a run and for a dry run.

    Parameters
    ----------
    options, drift, time_budget
        As for `curiosity_plan`.
    """

    options: RunOptions
    drift: DriftCorrection
    time_budget: float | None = None

    @property
    def resurvey(self) -> tuple[int, float]:
        """Points and minutes between two surveys, 0: never."""
        return self.drift.resurvey_every, self.drift.resurvey_minutes


def demo_options(instrument: Instrument | None, **given: Any) -> RunOptions:
    """Return options with which nothing is waited for longer than a simulation may take."""
    # A simulated fault is over at once, and so is a spectrum that is not late.
    timeout = 10 + 10 * (0 if instrument is None else instrument.spectrometer.seconds or 0)
    return RunOptions(retry_wait=0.1, timeout=timeout, attended=False, **given)
