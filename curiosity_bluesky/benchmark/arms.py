"""The arms of a benchmark: strategies with their parameters, and what each has to beat."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, seeds_within
from curiosity_bluesky.utils.wording import did_you_mean

PUBLISHED = (
    "vatsavai2025-latent",
    "vatsavai2025-mcd",
    "vatsavai2025-spec2im",
    "vatsavai2025-ensemble",
)
BASELINES = (
    "random",
    "grid",
    "sobol",
    "farthest[space=position]",
    "farthest[space=patch]",
    "lcmd",
    "variance",
    "dkl",
)
GROUPS = {
    "published": PUBLISHED,
    "baselines": BASELINES,
    "oracles": ("oracle", "oracle[smoothing=0]"),
}


@dataclass(frozen=True)
class Arm:
    """A strategy under a name of its own.

    Parameters
    ----------
    label
        Strategy and the parameters that differ from its defaults.
    strategy
        The strategy.
    twin
        Label of the arm with the same predictor and random pixels; None if there is none.
    """

    label: str
    strategy: Strategy
    twin: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is a baseline."""
        return self.label.split("[")[0] in {name.split("[")[0] for name in BASELINES}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``name[parameter=value,...]``; values are JSON, or else words.

    Raises
    ------
    InputError
        If it does not have this form.
    """
    match = re.fullmatch(r"\s*([^\[\]\s]+)\s*(?:\[(.*)\])?\s*", text)
    if match is None:
        raise InputError(f"{text!r} cannot be read; expected NAME or NAME[PARAMETER=VALUE,...]")
    return match[1], settings(split(match[2] or ""))


def settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` texts."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{text!r} is not NAME=VALUE, such as patch_size=5")
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value.strip()
    return found


def split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def arms_from(
    texts: Sequence[str | Strategy],
    *,
    points: int,
    n_seeds: int | None = None,
    patch_size: int | None = 9,
    common: Mapping[str, Any] | None = None,
) -> list[Arm]:
    """Make the arms of a benchmark, and add the random baseline of each.

    Parameters
    ----------
    texts
        Strategies, as themselves or as ``NAME[PARAMETER=VALUE,...]``; ``published``,
        ``baselines`` and ``oracles`` stand for several.
    points, n_seeds
        Spectra in a run, and how many of them are seeds.
    patch_size
        For all arms, so that they see the same; None leaves each its own.
    common
        Parameters for all strategies that have them; `rim` is ``omit`` unless they say otherwise.

    Raises
    ------
    InputError
        If there is no such strategy or parameter.
    """
    seeds = seeds_within(points) if n_seeds is None else n_seeds
    # The published strategies leave out the rim; no other is to have pixels that they have not.
    shared: dict[str, Any] = {"budget": points, "n_seeds": seeds, "rim": "omit", **(common or {})}
    if patch_size is not None:
        shared.setdefault("patch_size", patch_size)
    ready: list[Strategy] = []
    for text in texts:
        if isinstance(text, Strategy):
            ready.append(_with(text, shared))
            continue
        for member in GROUPS.get(text.strip(), (text,)):
            name, own = parse(member)
            # What is said of one strategy is more than what is said of all.
            ready.append(_with(Strategy.named(name, **own), {**shared, **own}))
    known = sorted({f.name for s in ready for f in fields(s)})
    unused = sorted(set(common or {}) - set(known))
    if unused:
        raise InputError(
            f"no strategy has a parameter {', '.join(unused)}; they have {', '.join(known)}."
            f"{did_you_mean(unused[0], known)}"
        )
    # A twin gets what all get, but for what it is: the predictor of its strategy.
    rest = {name: value for name, value in shared.items() if name != "predictor"}
    own_twins = [strategy.random_baseline() for strategy in ready]
    twins = [twin and _with(twin, _not_of(strategy, rest)) for strategy, twin in
             zip(ready, own_twins, strict=True)]  # fmt: skip
    everyone = ready + [twin for twin in twins if twin is not None]
    # What all have in common tells none from another.
    hidden = {
        name
        for name, value in shared.items()
        if all(getattr(s, name, value) == _with(s, {name: value}).parameters.get(name, value)
               for s in everyone)
    }  # fmt: skip
    arms: dict[str, Arm] = {}
    for strategy, twin in [*zip(ready, twins, strict=True), *((t, t) for t in twins if t)]:
        label = _label(strategy, hidden)
        other = None if twin is None else _label(twin, hidden)
        known = arms.setdefault(label, Arm(label, strategy, other))
        if known.strategy != strategy:
            raise InputError(
                f"two strategies would both be called {label!r}; give what is common to all "
                "by --set, and what is not in brackets"
            )
    return list(arms.values())


def _not_of(strategy: Strategy, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that the strategy does not have, so that its baseline cannot take them over."""
    names = {field.name for field in fields(strategy)}
    return {name: value for name, value in parameters.items() if name not in names}


def _with(strategy: Strategy, parameters: Mapping[str, Any]) -> Strategy:
    names = {field.name for field in fields(strategy)}
    return strategy.replace(**{k: v for k, v in parameters.items() if k in names})


def _label(strategy: Strategy, hidden: Iterable[str]) -> str:
    plain = type(strategy)()
    differing = {
        name: value
        for name, value in strategy.parameters.items()
        if value != getattr(plain, name) and name not in hidden
    }
    if not differing:
        return strategy.name
    inside = ",".join(f"{name}={_word(value)}" for name, value in differing.items())
    return f"{strategy.name}[{inside}]"


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
