"""Options of a run: three models, each field with its unit, its range and a line of help."""

# No `from __future__ import annotations`: pydantic and the Queue Server read these as they are.

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import FEW, LARGEST, LONGEST, PROCESSES, shown
from curiosity_bluesky.utils.wording import did_you_mean

__all__ = [
    "DriftCorrection",
    "PlanParameters",
    "RunOptions",
    "SafetyLimits",
    "expected_of",
    "fields",
    "groups",
    "plan_schema",
]


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def _integer(value: Any) -> Any:
    """Return 3.0 as 3: JSON does not tell them apart."""
    value = _plain(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pair(value: Any) -> Any:
    """Return a list as a tuple: JSON knows no tuples."""
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2:
        return value
    return _integer(value[0]), _plain(value[1])


def _by_name(value: Any) -> Any:
    return {} if value is None else dict(value) if isinstance(value, Mapping) else value


def _rows(value: Any) -> Any:
    """Return a mask, such as an array, as rows of True and False."""
    if value is None:
        return None
    try:
        found = np.asarray(value)
    except ValueError:  # rows of different lengths
        return value
    if found.ndim != 2 or found.dtype.kind not in "biuf":
        return str(value)  # which is refused
    return found.astype(bool).tolist()


_Number = Annotated[float, BeforeValidator(_plain)]
_Integer = Annotated[int, BeforeValidator(_integer)]
_Positive = Annotated[float, Field(ge=0, le=LONGEST), BeforeValidator(_plain)]
_Count = Annotated[int, Field(ge=1, le=FEW), BeforeValidator(_integer)]
_Seed = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(_integer)]
_Seconds = Annotated[float, Field(gt=0, le=LONGEST), BeforeValidator(_plain)]
_Truth = Annotated[bool, BeforeValidator(_plain)]
_Dwell = Annotated[
    Literal["auto", "full"] | Annotated[float, Field(gt=0, le=LONGEST)] | None,
    BeforeValidator(_plain),
]
_Path = Annotated[str, BeforeValidator(lambda v: os.fspath(v) if isinstance(v, os.PathLike) else v)]
_ByName = Annotated[dict[str, Any], BeforeValidator(_by_name)]
_Mask = Annotated[list[list[bool]] | None, BeforeValidator(_rows)]
_PerArea = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0)]] | None, BeforeValidator(_pair)
]


def _option(default: Any, help_line: str, unit: str = "", expected: str = "", **bounds: Any) -> Any:
    """Return a field.

    Parameters
    ----------
    default
        Its default, JSON-ready.
    help_line
        What it is, one sentence.
    unit
        Of its number, as it is said in an error; "" for a number of things.
    expected
        What is expected, for an error about what is no number.
    **bounds
        ``ge``, ``gt``, ``le`` and ``lt``.
    """
    extra = {"unit": unit, "expected": expected}
    found: dict[str, Any] = {key: text for key, text in extra.items() if text}
    more: Any = {"default_factory": dict} if default == {} else {"default": default}
    return Field(description=help_line, json_schema_extra=found, **more, **bounds)


class _Options(BaseModel):
    """Base of the three models: frozen, no unknown fields, one `InputError` for all mistakes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=False
    )

    group: ClassVar[str]
    """Name of the plan's parameter that takes it."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError(_in_words(type(self), error, given)) from None

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return the model that a user gave, be it as a dict.

        Raises
        ------
        InputError
            If it is neither, if there is no such field, or if a value is of another kind or out
            of its range.
        """
        if isinstance(given, cls):
            return given
        if given is None:
            return cls()
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise InputError(
                f"{cls.group} is {shown(given)}; expected {cls.__name__}, or a dict of its fields: "
                f"{', '.join(fields(cls))}"
            )
        return cls(**given)

    def changed(self) -> set[str]:
        """Return the names of the fields that were given, and not with their defaults."""
        model = type(self).model_fields
        return {
            name
            for name in self.model_fields_set
            if not np.array_equal(
                getattr(self, name), model[name].get_default(call_default_factory=True)
            )
        }

    def replace(self, **given: Any) -> Self:
        """Return the same options with some of them changed."""
        known = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**known | given)


class RunOptions(_Options):
    """How a run learns and decides, and what it does where something fails."""

    group: ClassVar[str] = "options"

    parameters: _ByName = _option(
        {}, "Parameters of the strategy that differ from its defaults.",
        expected="values by name, as a dict",
    )  # fmt: skip
    mask: _Mask = _option(
        None, "Pixels that are not measured: (rows, cols), true where nothing may be measured.",
        expected="(rows, cols), true where nothing may be measured",
    )  # fmt: skip
    withhold: _Number = _option(
        0.0, "Share of the pixels that are never measured, to test what was learned.",
        "a share", ge=0, lt=1,
    )  # fmt: skip
    maps_every: _Integer = _option(
        10, "Decisions between two events of the maps; 0: the maps are written at the end only.",
        ge=0, le=FEW,
    )  # fmt: skip
    record_predictions: _Truth = _option(
        True, "Whether the predicted spectra of every pixel are written at the end."
    )
    lookahead: _Integer = _option(
        0, "Points that a decision is made ahead of, without knowing their spectra.", ge=0, le=FEW
    )
    retries: _Integer = _option(
        1, "Attempts at a point after the first one has failed.", ge=0, le=FEW
    )
    retry_wait: _Number = _option(1.0, "Seconds between two attempts.", "seconds", ge=0, le=LONGEST)
    timeout: _Number = _option(
        600.0, "Maximum seconds of a move, and of a measurement.", "seconds", ge=1e-3, le=LONGEST
    )
    max_failures: _Integer = _option(
        3, "Points given up in a row after which the plan pauses.", ge=1, le=FEW
    )
    attended: _Truth = _option(
        True, "Whether trouble pauses the plan, for someone at the prompt; else it ends the run."
    )
    per_second: _Truth = _option(
        False, "Choose what teaches most per second instead of per spectrum; see docs/devices.md."
    )
    dwell: _Dwell = _option(
        None, "How long each spectrum is measured, where the detector has a dwell setting: 'auto', "
        "as it teaches most per second; 'full'; or a setting, such as 1 for one cycle of a loop. "
        "null: 'auto' where the strategy can choose, else 'full'.",
        expected="'auto', 'full' or a setting of the detector",
    )  # fmt: skip
    warm_start: str | None = _option(
        None, "Earlier run that the run starts from: its uid, or 'similar'; see docs/warm-start.md."
    )
    warm_gate: _Positive | None = _option(
        None, "Largest distance of a run that 'similar' takes.", "a distance"
    )
    catalog: _Path | None = _option(
        None, "Catalogue with the run to resume and with earlier runs; null: the default one.",
        expected="a directory or a URI",
    )  # fmt: skip
    agent_lost: str | None = _option(
        None, "While the agent elsewhere is away: 'pause', or the strategy that decides instead."
    )
    agent_patience: _Number = _option(
        15.0, "Seconds without a word from the agent elsewhere until it is away.",
        "seconds", gt=0, le=LONGEST,
    )  # fmt: skip
    steering: SkipJsonSchema[Any] = Field(
        default=None,
        exclude=True,
        description="Requests of the scientist; null: `curiosity_bluesky.steer`. Python only.",
    )

    @property
    def masked(self) -> NDArray[np.bool_] | None:
        """`mask` as an array, ``(rows, cols)``."""
        return None if self.mask is None else np.asarray(self.mask, bool)


class SafetyLimits(_Options):
    """What tip and sample must not be put through."""

    group: ClassVar[str] = "safety"

    max_bias: _Positive | None = _option(
        None, "Largest voltage of a detector; null: any. Checked before anything moves.", "volts"
    )
    max_per_area: _PerArea = _option(
        None, "At most n spectra within a radius of each other: [n, um].",
        expected="[n, radius]: 1 or more spectra, 0 um or more",
    )  # fmt: skip


class DriftCorrection(_Options):
    """When the survey is taken again to correct drift; see docs/drift.md."""

    group: ClassVar[str] = "drift"

    resurvey_every: _Integer = _option(
        0, "Points between two surveys, the first ones sooner; 0: never.", ge=0, le=FEW
    )
    resurvey_minutes: _Number = _option(
        0.0, "Minutes between two surveys, the first ones sooner; 0: never.",
        "minutes", ge=0, le=LONGEST,
    )  # fmt: skip


class PlanParameters(_Options):
    """Parameters of `curiosity_plan` that are neither devices nor metadata."""

    group: ClassVar[str] = "parameters"

    num_points: _Count | None = _option(
        None, "Spectra to measure, the seeds included; null: 100, or as time allows."
    )
    strategy: str | None = _option(None, "Name of the strategy; null: 'curious'.")
    seed: _Seed | None = _option(None, "Seed of every random choice; null: 0.")
    time_budget: _Seconds | None = _option(
        None, "Seconds that the run may take, survey included; null: any time.", "seconds"
    )
    resume: str | None = _option(None, "uid of the interrupted run to go on with; null: a new run.")
    agent: str | None = _option(None, "Address of a `curiosity agent`; null: this process decides.")
    dry_run: _Truth = _option(False, "Show what would be measured; nothing moves.")
    options: RunOptions | None = _option(None, RunOptions.__doc__ or "")
    safety: SafetyLimits | None = _option(None, SafetyLimits.__doc__ or "")
    drift: DriftCorrection | None = _option(None, DriftCorrection.__doc__ or "")


def plan_schema(strategies: list[str]) -> dict[str, Any]:
    """Return the JSON schema of the parameters of `curiosity_plan`; devices and md are not in it.

    Parameters
    ----------
    strategies
        Names that there are.
    """
    schema = PlanParameters.model_json_schema()
    schema["title"] = "curiosity_plan"
    names = {"enum": strategies, "type": "string"}
    schema["properties"]["strategy"]["anyOf"][0] = names
    return schema


def fields(model: type[_Options]) -> dict[str, FieldInfo]:
    """Return the fields of a model that are JSON, by name."""
    return {name: f for name, f in model.model_fields.items() if not f.exclude}


def groups() -> tuple[type[_Options], ...]:
    """Return the three models."""
    return RunOptions, SafetyLimits, DriftCorrection


def _in_words(model: type[_Options], error: ValidationError, given: Mapping[str, Any]) -> str:
    """Return on one line what was given, what was expected and what to do."""
    seen: dict[str, str] = {}
    for each in error.errors(include_url=False, include_context=False):
        name = str(each["loc"][0])
        if each["type"] == "extra_forbidden":
            seen[name] = _unknown(model, name)
        else:  # the whole value, where only a part of it is wrong
            value = given[name]
            endless = isinstance(value, float) and math.isinf(value)
            seen[name] = f"{name} is {shown(value)}; expected {expected_of(model, name, endless)}"
    return "; ".join(seen.values())


def _unknown(model: type[_Options], name: str) -> str:
    for other in groups():
        if name in other.model_fields:
            return f"{model.group} has no field {name!r}; give {other.group}={{{name!r}: ...}}"
    if name in PlanParameters.model_fields:
        return f"{model.group} has no field {name!r}; it is one of the plan: give {name}=..."
    parameters = _strategy_parameters()
    near = "" if name in parameters else did_you_mean(name, fields(model))
    if not near and (name in parameters or (near := did_you_mean(name, parameters))):
        near = (
            " The parameters of a strategy are given by their names in "
            f"{RunOptions.group}={{'parameters': {{{name!r}: ...}}}}.{near}"
        )
    return f"{model.group} has no field {name!r}; it has {', '.join(fields(model))}.{near}"


def _strategy_parameters() -> set[str]:
    """Return the names of the parameters of all strategies."""
    from curiosity_bluesky.learning import Strategy  # slow to import, and only needed here

    return {name for each in Strategy.names() for name in Strategy.named(each).parameters}


def expected_of(model: type[_Options], name: str, bounded: bool = False) -> str:
    """Return what a field takes, from its own schema.

    Parameters
    ----------
    model, name
        The field.
    bounded
        Whether to say an upper bound that only a mistake goes beyond.
    """
    about = model.model_json_schema()["properties"][name]
    if "expected" in about:
        return about["expected"]
    kind = about["anyOf"][0] if "anyOf" in about else about
    if "$ref" in kind:
        return "a dict of its fields"
    names = {"boolean": "True or False", "string": "a text"}
    if kind["type"] in names:
        return names[kind["type"]]
    what = about.get("unit") or {"integer": "a whole number"}.get(kind["type"], "a number")
    low = f"{kind.get('minimum', 0):g} or more"
    if "exclusiveMinimum" in kind:
        low = f"more than {kind['exclusiveMinimum']:g}"
    if "exclusiveMaximum" in kind:
        return f"{what}, {low} and less than {kind['exclusiveMaximum']:g}"
    high = kind.get("maximum", LONGEST)
    if high >= PROCESSES and not bounded:
        return f"{what}, {low}"
    return f"{what}, {low} and at most {high:g}"
