"""Picture of one decision: the maps that it went by, what was chosen, and what nearly was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views.extent import extent_of

if TYPE_CHECKING:  # only shown here: who explains it hands it over
    import xarray as xr
    from matplotlib.axes import Axes

    from curiosity_bluesky.analysis import Explanation

TITLES = {
    "error": "Expected error",
    "novelty": "Novelty",
    "uncertainty": "Uncertainty (standard deviation)",
    "acquisition": "What was maximised",
}
"""Titles of the maps, in the order in which they are drawn."""
PANEL = 4.2
"""Width and height of a panel, inches."""


def draw_decision(explanation: Explanation, figure: Figure | None = None) -> Figure:
    """Draw why a decision was made.

    Parameters
    ----------
    explanation
        See `curiosity_bluesky.analysis.explain`.
    figure
        Where to draw; what was on it is removed. Default: a figure of its own, without a window.
    """
    maps = explanation.maps
    surveys = [str(name) for name in maps if str(name).startswith("survey_")]
    names = surveys + [name for name in TITLES if name in maps]
    cols = 2 if len(names) == 4 else min(3, len(names))
    rows = -(-len(names) // cols)
    if figure is None:
        figure = Figure(figsize=(PANEL * cols, PANEL * rows + 1.2), layout="constrained")
        FigureCanvasAgg(figure)
    figure.clear()
    panels = figure.subplots(rows, cols, squeeze=False).ravel()
    decision = explanation.decision
    figure.suptitle(
        f"Decision {decision.decision_id} of run {text(explanation.uid)[:8]}: "
        f"{text(decision.reason, 20)}, ({decision.x:.3g} µm, {decision.y:.3g} µm), "
        f"by {text(decision.decided_by, 60) or 'a strategy that is not recorded'}",
        fontsize=11,
    )
    for axes, name in zip(panels, names, strict=False):
        _draw_map(axes, maps[name], text(name.removeprefix("survey_"), 60), name in surveys)
        _draw_places(axes, explanation)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncol=4,
                  fontsize=9)  # fmt: skip
    return figure


def save_decision_picture(explanation: Explanation, file: Path) -> None:
    """Draw why a decision was made to a PNG file."""
    draw_decision(explanation).savefig(file, dpi=120)


def _draw_map(axes: Axes, values: xr.DataArray, name: str, survey: bool) -> None:
    x, y = values["x"].values, values["y"].values
    finite = values.values[np.isfinite(values.values)]
    # A single hot pixel must not hide the rest.
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0, 1)
    shown = axes.imshow(
        values.values,
        cmap="gray" if survey else "cividis",
        extent=extent_of(x, y),
        vmin=low,
        vmax=high,
    )
    units = values.attrs.get("units", "")
    named = "dimensionless" if units == "1" else text(units, 20).replace("^2", "²")
    units = f" ({named})" if named else ""
    axes.set_title(f"Survey: {name}{units}" if survey else f"{TITLES[name]}{units}", fontsize=10)
    axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    axes.set_xlabel("x (µm)", fontsize=9)
    axes.set_ylabel("y (µm)", fontsize=9)


def _draw_places(axes: Axes, explanation: Explanation) -> None:
    """Draw the places so that colour is not needed, on a bright and on a dark ground."""
    outlined: dict[str, Any] = {"ls": "none", "mfc": "white", "mec": "black"}
    known, chosen = explanation.known, explanation.decision
    seeds = [p for p in known if p.reason == "seed"]
    others = [p for p in known if p.reason != "seed"]
    for places, marker, label in ((seeds, "s", "seeds"), (others, "o", "other spectra so far")):
        if places:
            axes.plot([p.x for p in places], [p.y for p in places], marker, ms=4, mew=0.8,
                      label=label, **outlined)  # fmt: skip
    if explanation.under_way:
        axes.plot([p.x for p in explanation.under_way], [p.y for p in explanation.under_way], "^",
                  ms=7, mew=1.0, label="under way, or of the same batch", **outlined)  # fmt: skip
    # Larger than a runner-up, which may be the same pixel.
    elsewhere = [other for other in explanation.counterfactuals if other.away]
    if elsewhere:
        axes.plot([p.x for p in elsewhere], [p.y for p in elsewhere], "D", ms=14, mew=1.2,
                  label="would have been chosen", **outlined)  # fmt: skip
    for number, place in enumerate(explanation.runners_up, start=1):
        axes.plot(place.x, place.y, "o", ms=11, mew=1.0, alpha=0.9,
                  label=None if number > 1 else "runners-up, in order", **outlined)  # fmt: skip
        axes.annotate(str(number), (place.x, place.y), ha="center", va="center", fontsize=7)
    axes.plot(chosen.x, chosen.y, "*", ms=17, mew=1.2, label="chosen", ls="none",
              mfc="#E69F00", mec="black")  # fmt: skip
