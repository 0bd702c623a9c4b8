"""Figure of property maps: predicted, measured, and the deviation of what is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views.extent import extent_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEVIATION, MEASURED = "_deviation", "_measured"
ENDS = ("", MEASURED, DEVIATION)
"""What ends the names of the three maps of a property, from left to right."""
SIZE = (12.0, 3.6)
"""Of the row of one property, inches."""


def draw_property_maps(maps: xr.Dataset, figure: Figure) -> None:
    """Draw each property of `curiosity_bluesky.analysis.property_map` as a row of three maps.

    Colours are those of viridis and cividis, which are told apart with any kind of colour vision;
    predicted and measured have the same scale. Grey is where there is nothing.

    Parameters
    ----------
    maps
        The property maps.
    figure
        It is made as large as it has to be.
    """
    names = [str(name) for name in maps if all(f"{name}{end}" in maps for end in ENDS)]
    figure.set_size_inches(SIZE[0], SIZE[1] * len(names) + 0.3)
    panels = figure.subplots(len(names), 3, squeeze=False)
    start = maps.attrs
    figure.suptitle(
        f"{text(start.get('sample', 'sample not named'), 60)} · "
        f"{text(start.get('predicted_by'), 40)} · {text(start.get('channel'), 60)} · "
        f"{text(start.get('uid'))[:8]}",
        fontsize=11,
    )
    for name, row in zip(names, panels, strict=True):
        _draw_property(maps, name, row)


def _draw_property(maps: xr.Dataset, name: str, row: np.ndarray) -> None:
    predicted, measured, deviation = (maps[name + end] for end in ENDS)
    units = predicted.attrs.get("units", "")
    label = text(name.replace("_", " ")) + (f" ({text(units)})" if units else "")
    both = np.concatenate([predicted.values.ravel(), measured.values.ravel()])
    scale = scale_of(both)
    draw_map(row[0], maps, predicted.values, "viridis", scale, label)
    row[0].set_title(f"{text(name)}: predicted", fontsize=10)
    draw_map(row[1], maps, np.full(measured.shape, np.nan), "viridis", scale, label)
    rows, cols = np.nonzero(np.isfinite(measured.values))
    row[1].scatter(
        maps["x"].values[cols], maps["y"].values[rows], c=measured.values[rows, cols],
        cmap="viridis", vmin=scale[0], vmax=scale[1], s=14, edgecolors="black", linewidths=0.3,
    )  # fmt: skip
    row[1].set_title(f"measured, {len(rows)} spectra", fontsize=10)
    draw_map(row[2], maps, deviation.values, "cividis", scale_of(deviation.values), label)
    source = {"none": "not known", "residuals": "from residuals"}
    row[2].set_title(
        f"deviation, {source.get(maps.attrs.get('deviation', ''), 'from the model')}", fontsize=10
    )


def scale_of(values: np.ndarray) -> tuple[float, float]:
    """Return the 1st and the 99th percentile: a single pixel must not hide the rest."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def draw_map(
    axes: Axes,
    maps: xr.Dataset,
    values: np.ndarray,
    colours: str,
    scale: tuple[float, float],
    label: str,
) -> None:
    """Draw one map, ``(rows, cols)``, with its colour bar."""
    x, y = maps["x"].values, maps["y"].values
    axes.set_facecolor("0.8")
    shown = axes.imshow(values, cmap=colours, extent=extent_of(x, y), vmin=scale[0], vmax=scale[1])
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("x (µm)", fontsize=9)
    axes.set_ylabel("y (µm)", fontsize=9)
