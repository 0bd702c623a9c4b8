"""Figure of clusters of behaviour: in latent space, in real space, and their mean spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from curiosity_bluesky.documents import DEVIATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
"""Colours of the clusters, which colour-blind readers tell apart (Okabe and Ito 2008)."""
_SAMPLED = {"s": 22, "facecolors": "#d00000", "edgecolors": "white", "linewidths": 0.8}


def draw_clusters(runs: Sequence[xr.Dataset]) -> Figure:
    """Draw the clusters of one or several runs, a row each, as Fig. 3 of the paper has them.

    From left to right: the latent space with the pixels that were measured; its clusters; the
    clusters in real space; their mean predicted spectra, with the standard deviation over the
    pixels as a band.

    Parameters
    ----------
    runs
        What `cluster` returned of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.6 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), 4, squeeze=False)
    for row, clusters in zip(axes, runs, strict=True):
        _draw(row, clusters)
    return figure


def _draw(axes: Any, clusters: xr.Dataset) -> None:
    where = clusters["cluster"].values
    known = where >= 0
    measured = clusters["measured"].values & known
    plane = clusters["plane"].values
    network = clusters.attrs["latent_space"].startswith("latent")
    kind = "latent" if network else "principal component"

    title = clusters.attrs["predicted_by"]
    sample = clusters.attrs.get("sample")
    axes[0].set_title(f"{title}\n{sample}" if sample else title, fontsize=10)
    axes[0].scatter(*plane[known].T, s=4, color="0.6", rasterized=True)
    axes[0].scatter(*plane[measured].T, **_SAMPLED, label=f"{int(measured.sum())} measured")
    axes[0].legend(loc="best", fontsize=8)
    colours = np.array([COLOURS[k % len(COLOURS)] for k in where[known]])
    axes[1].scatter(*plane[known].T, s=4, c=colours, rasterized=True)
    axes[1].set_title(f"silhouette {clusters.attrs['silhouette']:.2f}", fontsize=10)
    for ax in axes[:2]:
        ax.set_xlabel(f"{kind} 1")
        ax.set_ylabel(f"{kind} 2")

    _draw_map(axes[2], clusters, measured)
    _draw_spectra(axes[3], clusters)


def _draw_map(ax: Any, clusters: xr.Dataset, measured: np.ndarray) -> None:
    from matplotlib.colors import ListedColormap

    where = np.ma.masked_less(clusters["cluster"].values, 0)
    n = clusters.sizes["number"]
    x, y = clusters["x"].values, clusters["y"].values
    colours = ListedColormap([COLOURS[k % len(COLOURS)] for k in range(n)])
    ax.set_facecolor("0.9")
    ax.pcolormesh(x, y, where, cmap=colours, vmin=-0.5, vmax=n - 0.5, rasterized=True)
    rows, cols = np.nonzero(measured)
    ax.scatter(x[cols], y[rows], **_SAMPLED)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set_xlabel("x (um)")
    ax.set_ylabel("y (um)")


def _draw_spectra(ax: Any, clusters: xr.Dataset) -> None:
    key = next(
        str(key)
        for key in clusters
        if clusters[key].dims[0] == "number" and clusters[key].ndim == 2
    )
    mean, deviation = clusters[key], clusters[f"{key}{DEVIATION}"]
    [axis] = set(mean.dims) - {"number"}
    along = clusters[axis]
    for k in range(clusters.sizes["number"]):
        colour = COLOURS[k % len(COLOURS)]
        share, taken = float(clusters["share"][k]), int(clusters["n_measured"][k])
        said = f"{share:.0%} of the pixels, {taken} measured"
        ax.plot(along, mean[k], color=colour, lw=1.2, label=said)
        band = (mean[k] - deviation[k]).values, (mean[k] + deviation[k]).values
        if np.all(np.diff(along) > 0):  # a loop goes back and forth: bands would overlap
            ax.fill_between(along, *band, color=colour, alpha=0.2, lw=0)
    ax.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for name, label in ((axis, ax.set_xlabel), (key, ax.set_ylabel)):
        units = clusters[name].attrs.get("units")
        label(f"{name} ({units})" if units else str(name))
