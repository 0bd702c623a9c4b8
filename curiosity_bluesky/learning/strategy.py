"""Strategies by name and parameters, JSON both ways."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import registry
from curiosity_bluesky.learning.patches import Patches, Rim
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.survey import Survey
from curiosity_bluesky.utils.validation import LARGEST
from curiosity_bluesky.utils.wording import did_you_mean

if TYPE_CHECKING:
    from curiosity_bluesky.learning.prior_run import PriorRun

_Kind = TypeVar("_Kind", bound="Strategy")


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Rules of seeding, learning, choosing and stopping; its fields are the parameters.

    A strategy of your own is a frozen dataclass that inherits from this one, sets `name`
    and builds a learner; in a notebook `register` makes it known, in a package an entry point
    of the group ``curiosity_bluesky.strategies``::

        @register
        @dataclass(frozen=True, kw_only=True)
        class Mine(Strategy):
            name: ClassVar[str] = "mine"
            patch_size: int = 5

            def build(self, patches, budget, seed, on_epoch): ...

    Parameters
    ----------
    patch_size
        Side of a patch, in pixels.
    rim
        Near the border a patch reaches beyond the image. ``reflect``: it is completed by the
        reflected image, and every pixel can be measured and is predicted. ``omit``: these
        pixels are left out, as the published algorithm does.
    n_seeds
        Spectra measured before anything is learned.
    budget
        Spectra in the whole run; None for as many as there are pixels.
    batch
        Pixels that are decided on together, before the first of them is measured.
    min_quality
        Spectra of a lower quality, 0 to 1, are kept in the record and not learned from.
    max_per_area
        Safety: most spectra, useless ones too, within a distance in um of each other. None: no
        limit.
    per_second
        Choose by the acquisition per second instead of the acquisition: seconds that a
        spectrum takes, settling included, and the speed of the tip in um/s. None: time does
        not matter.
    dwell
        How long each spectrum is measured: ``full``; ``auto``, as it teaches most per second; or
        one of the settings in `dwell_seconds`, such as 1 for one cycle of a loop.
    dwell_seconds
        Dwell settings of the detector, ascending, the last one that of a full spectrum, with the
        seconds that a spectrum takes with each. None: the detector has none.
    visit_cost
        What a visit costs beside the spectrum, where `dwell` is ``auto``: seconds, settling and
        lifting included, and the speed of the tip in um/s.
    """

    name: ClassVar[str]
    needs_truth: ClassVar[bool] = False
    """Whether the choice goes by the true spectra, which only a benchmark knows."""

    patch_size: int = 9
    rim: Rim = "reflect"
    n_seeds: int = 30
    budget: int | None = None
    batch: int = 1
    min_quality: float = 0.5
    max_per_area: tuple[int, float] | None = None
    per_second: tuple[float, float] | None = None
    dwell: Literal["full", "auto"] | float = "full"
    dwell_seconds: tuple[tuple[float, float], ...] | None = None
    visit_cost: tuple[float, float] = (0.0, 1e12)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(self.name, field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        self._expect("1 or more", "patch_size", "n_seeds", "batch", within=lambda value: value >= 1)
        self._expect("0 to 1", "min_quality", within=lambda value: 0 <= value <= 1)
        if self.budget is not None and self.budget < 1:
            raise InputError(f"the number of points is {self.budget}; expected 1 or more")
        self._expect(
            "1 or more spectra and 0 um or more", "max_per_area",
            within=lambda v: v is None or (v[0] >= 1 and 0 <= v[1] < math.inf),
        )  # fmt: skip
        self._expect(
            "0 s or more and a speed above 0 um/s", "per_second",
            within=lambda v: v is None or (0 <= v[0] < math.inf and v[1] > 0),
        )  # fmt: skip
        self._expect(
            "0 s or more and a speed above 0 um/s", "visit_cost",
            within=lambda v: 0 <= v[0] < math.inf and v[1] > 0,
        )  # fmt: skip
        self._check_dwell()

    def _check_dwell(self) -> None:
        if self.dwell_seconds is None:
            if self.dwell != "full":
                raise InputError(
                    f"dwell is {self.dwell!r}, but the detector has no dwell setting; leave it out"
                )
            return
        values, seconds = np.array(self.dwell_seconds, float).reshape(-1, 2).T
        rising = len(values) and values[0] > 0 and (np.diff(values) > 0).all()
        if not (rising and np.isfinite(values).all() and (seconds >= 0).all()):
            raise InputError(
                f"dwell_seconds is {self.dwell_seconds}; expected pairs of a setting above 0 and "
                "the seconds of a spectrum with it, in the order of the settings"
            )
        if not (isinstance(self.dwell, str) or self.dwell in values):
            there = ", ".join(f"{value:g}" for value in values)
            raise InputError(f"dwell is {self.dwell:g}; expected one of {there}, 'full' or 'auto'")
        if self.dwell == "auto" and not self.dwell_aware:
            raise InputError(
                f"{self.name} does not choose how long to measure; leave dwell out, give a "
                "setting, or take the strategy 'curious'"
            )
        if self.dwell == "auto" and self.per_second is not None:
            raise InputError("dwell='auto' weighs time already; leave per_second out")

    @property
    def full_dwell(self) -> float | None:
        """Dwell setting of a full spectrum, None where the detector has none."""
        return None if self.dwell_seconds is None else self.dwell_seconds[-1][0]

    def _expect(self, wanted: str, *names: str, within: Callable[[Any], bool]) -> None:
        for name in names:
            if not within(value := getattr(self, name)):
                raise InputError(f"{self.name}: {name} is {value}; expected {wanted}")

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, JSON-ready."""
        return dataclasses.asdict(self)

    @property
    def limits(self) -> dict[str, Any]:
        """Parameters that say what may be measured, and how much of it, by any strategy.

        Those of all strategies but `per_second` and `dwell`, which not every one can choose by.
        """
        names = [field.name for field in dataclasses.fields(Strategy)]
        chosen_by = ("per_second", "dwell")
        return {name: getattr(self, name) for name in names if name not in chosen_by}

    def replace(self, **parameters: Any) -> Self:
        """Return the same strategy with some parameters changed."""
        _known(type(self), parameters)
        return dataclasses.replace(self, **parameters)

    def to_json(self) -> str:
        """Return name and parameters as JSON."""
        return json.dumps({"name": self.name, "parameters": self.parameters})

    @staticmethod
    def from_json(text: str) -> Strategy:
        """Return the strategy that `to_json` wrote."""
        saved = json.loads(text)
        return Strategy.recorded(saved["name"], **saved["parameters"])

    @staticmethod
    def named(name: str, /, **parameters: Any) -> Strategy:
        """Return a strategy by its name, with some parameters changed.

        Raises
        ------
        InputError
            If there is no such strategy or parameter; the message lists those there are.
            If an installed package brings it and cannot be imported.
        """
        cls = registry.find(name) if isinstance(name, str) else None
        if cls is None:
            there = registry.names()
            hint = did_you_mean(name, there)
            raise InputError(f"no strategy named {name!r}; there are {', '.join(there)}.{hint}")
        _known(cls, parameters)
        return cls(**parameters)

    @staticmethod
    def recorded(name: str, /, **parameters: Any) -> Strategy:
        """Return a strategy by the name and the parameters that are on record.

        As `named`, but a record without `rim` is of a time when all strategies left it out.
        """
        return Strategy.named(name, **{"rim": "omit", **parameters})

    @staticmethod
    def names() -> list[str]:
        """Names of all strategies, sorted."""
        return registry.names()

    @property
    def supports_warm_start(self) -> bool:
        """Whether its predictor can start from an earlier run."""
        return False

    @property
    def cost_aware(self) -> bool:
        """Whether it can choose by the acquisition per second, see `per_second`."""
        return True

    @property
    def dwell_aware(self) -> bool:
        """Whether it can choose how long to measure: `dwell` may be ``auto``."""
        return False

    def validate(self, survey: Survey) -> None:
        """Make sure, in no time, that a survey can be explored with these parameters.

        A strategy of your own adds its checks, and calls ``super().validate(survey)``. Nothing is
        built or trained.

        Parameters
        ----------
        survey
            The overview image, with what is masked.

        Raises
        ------
        InputError
            If a patch is larger than the image, if the mask leaves no pixel, if there are fewer
            pixels than the budget, if the strategy cannot choose by time, or if it needs the
            true spectra.
        """
        self.points(self.patches(survey))
        if self.needs_truth:
            raise InputError(
                f"the strategy {self.name!r} goes by the true spectra, which are not known during "
                "a measurement; use it in `curiosity benchmark`"
            )

    def patches(
        self, survey: Survey, truth: NDArray | None = None, earlier: PriorRun | None = None
    ) -> Patches:
        """Return the candidates on a survey, see `Patches`."""
        return Patches(survey, self.patch_size, self.rim, truth, earlier)

    def points(self, patches: Patches) -> int:
        """Return the number of spectra in the whole run: the budget, or all pixels.

        Raises
        ------
        InputError
            As `validate`, but for the true spectra.
        """
        candidates = int(patches.allowed.sum())
        if not candidates:
            raise InputError("the mask leaves no pixel to measure; unmask some")
        budget = candidates if self.budget is None else self.budget
        if budget > candidates:
            rows, cols = patches.survey.shape
            left_out = "the masked ones"
            if self.rim == "omit":
                left_out = f"the rim where no patch of {self.patch_size} fits and less {left_out}"
            raise InputError(
                f"{budget} points are asked for, but only {candidates} pixels can be measured "
                f"({rows} x {cols} less {left_out}); ask for at most {candidates}"
            )
        if self.per_second is not None and not self.cost_aware:
            raise InputError(
                f"per_second is given, but {self.name} does not choose by an acquisition that "
                "could be divided by the time; leave it out, or take the strategy 'curious'"
            )
        return budget

    def random_baseline(self) -> Strategy | None:
        """Return random pixels with the same predictor, which the choice has to beat.

        None where there is no such strategy.
        """
        return None

    def as_kind(self, kind: type[_Kind], **parameters: Any) -> _Kind:
        """Return a strategy of another kind with this one's parameters, as far as it has them."""
        names = [field.name for field in dataclasses.fields(kind)]
        shared = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return kind(**{**shared, **parameters})

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey.

        Parameters
        ----------
        patches
            The candidates.
        budget
            Spectra in the whole run.
        seed
            Seed of all random choices.
        on_epoch
            To be called after every epoch of a training.
        """
        raise TypeError(f"{type(self).__name__} has no build method; see Strategy")


def _known(cls: type[Strategy], parameters: Mapping[str, Any]) -> None:
    names = [field.name for field in dataclasses.fields(cls)]
    for name in parameters:
        if name not in names:
            raise InputError(
                f"{cls.name} has no parameter {name!r}; it has {', '.join(sorted(names))}."
                f"{did_you_mean(name, names)}"
            )


def _checked(strategy: str, name: str, value: Any, kind: Any) -> Any:
    """Return the value as its declared type, so that JSON and Python give the same."""
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    options = typing.get_args(kind) if union else (kind,)
    for option in options:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return _as(option, value)
    wanted = " or ".join(_in_words(option) for option in options)
    raise InputError(f"{strategy}: {name} is {value!r}; expected {wanted}")


def _as(kind: Any, value: Any) -> Any:
    """Return `value` as `kind` where that loses nothing, else raise ValueError."""
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError
        return value
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            return tuple(_as(kinds[0], v) for v in value)
        return tuple(_as(k, v) for k, v in zip(kinds, value, strict=True))
    if kind is types.NoneType:
        if value is not None:
            raise ValueError
        return None
    if isinstance(value, bool) != (kind is bool) or kind(value) != value:
        raise ValueError
    if kind is int and abs(value) > LARGEST:  # no reader of JSON gives it back
        raise ValueError
    return kind(value)


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        return "pairs of numbers" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers"
    names = {types.NoneType: "nothing", int: "a whole number", float: "a number"}
    names[bool] = "true or false"
    return names.get(kind, str(kind))
