"""Figure of two runs: a property on the same axes, their difference, and their error curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views.property_figure import draw_map, scale_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MEAN_OF = 10
"""Spectra that the error curve is a moving mean of."""


def draw_comparison(compared: xr.Dataset, figure: Figure) -> None:
    """Draw what `curiosity_bluesky.analysis.compare` returned.

    Both runs have the same axes and colours. Red and blue are not told apart by everyone: the
    difference goes from purple over white to orange.

    Parameters
    ----------
    compared
        The comparison.
    figure
        It is made as large as it has to be.
    """
    name = compared.attrs["name"]
    units = compared[name].attrs.get("units", "")
    label = text(name.replace("_", " ")) + (f" ({text(units)})" if units else "")
    figure.set_size_inches(16.0, 3.9)
    panels = figure.subplots(1, 4)
    scale = scale_of(compared[name].values)
    titles = [
        f"{text(uid)[:8]} · {text(strategy, 40)}"
        for uid, strategy in zip(compared.attrs["runs"], compared.attrs["strategies"], strict=True)
    ]
    for k, title in enumerate(titles):
        draw_map(panels[k], compared, compared[name].values[k], "viridis", scale, label)
        panels[k].set_title(title, fontsize=10)
    difference = compared["difference"].values
    finite = np.abs(difference[np.isfinite(difference)])
    most = float(np.percentile(finite, 99)) if finite.size else 1.0
    draw_map(panels[2], compared, difference, "PuOr_r", (-(most or 1.0), most or 1.0), label)
    panels[2].set_title("second less first", fontsize=10)
    for title, curve, style in zip(titles, compared["error"].values, ("-", "--"), strict=True):
        known = np.flatnonzero(np.isfinite(curve))
        width = min(MEAN_OF, len(known))
        if not width:
            continue
        mean = np.convolve(curve[known], np.ones(width) / width, "valid")
        n = known[width - 1 :] + 1
        panels[3].plot(n, mean, style, label=title)
    panels[3].set_xlabel("spectra")
    panels[3].set_ylabel(f"error before measuring (mean of {MEAN_OF})", fontsize=9)
    panels[3].axhline(1.0, color="0.6", lw=0.8, ls=":")
    panels[3].set_title("1: no better than the mean spectrum", fontsize=10)
    panels[3].set_ylim(bottom=0)
    panels[3].legend(fontsize=8)
