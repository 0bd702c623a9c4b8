"""Figure of clusters of behaviour: in latent space, in real space, and their mean spectra."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from curiosity_bluesky.documents import DEVIATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
"""Colours of the clusters, which colour-blind readers tell apart (Okabe and Ito 2008)."""
_CHOSEN = {"s": 22, "facecolors": "#d00000", "edgecolors": "white", "linewidths": 0.8}
_SEEDS = {"s": 14, "facecolors": "none", "edgecolors": "black", "linewidths": 0.8}


def draw_clusters(runs: Sequence[xr.Dataset]) -> Figure:
    """Draw the clusters of one or several runs, a row each, as Fig. 3 of the paper has them.

    From left to right: the latent space with the pixels that were measured, seeds apart; its
    clusters; the clusters in real space; their mean predicted spectra, with the standard deviation
    over the pixels as a band. Where runs have as many clusters, of spectra on one axis, those that
    are most alike have one colour, and the spectra one scale.

    Parameters
    ----------
    runs
        What `cluster` returned of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.8 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), 4, squeeze=False)
    for row, clusters, title in zip(axes, runs, _titles(runs), strict=True):
        _draw(row, clusters, title, _colours(clusters, runs[0]))
    if all(_alike(each, runs[0]) for each in runs):
        limits = np.array([ax.get_ylim() for ax in axes[:, 3]])
        for ax in axes[:, 3]:
            ax.set_ylim(limits.min(), limits.max())
    return figure


def _titles(runs: Sequence[xr.Dataset]) -> list[str]:
    """Return the strategy of each run; if all have the same, the parameters that differ."""
    names = [each.attrs["predicted_by"] for each in runs]
    second = [each.attrs.get("sample", "") for each in runs]
    parameters = [json.loads(each.attrs["parameters"]) for each in runs]
    different = [name for name in parameters[0] if len({str(p.get(name)) for p in parameters}) > 1]
    if different and len(set(names)) == 1:
        said = [", ".join(f"{name} = {p.get(name)}" for name in different) for p in parameters]
        second = [textwrap.shorten(words, 50, placeholder=" ...") for words in said]
    return [f"{name}\n{words}".rstrip() for name, words in zip(names, second, strict=True)]


def _spectra_key(clusters: xr.Dataset) -> str:
    """Return the data key of the first channel."""
    pairs = ((str(key), clusters[key].dims) for key in clusters)
    return next(key for key, dims in pairs if len(dims) == 2 and dims[0] == "number")


def _alike(clusters: xr.Dataset, first: xr.Dataset) -> bool:
    """Return whether there are as many clusters, of spectra of one channel on one axis."""
    key = _spectra_key(first)
    return (
        key == _spectra_key(clusters)
        and clusters[key].shape == first[key].shape
        and clusters[key].attrs == first[key].attrs
        and np.array_equal(clusters[clusters[key].dims[1]], first[first[key].dims[1]])
    )


def _colours(clusters: xr.Dataset, first: xr.Dataset) -> list[str]:
    """Return the colour of each cluster: that of the first run with the most similar spectrum."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    numbers = np.arange(clusters.sizes["number"])
    if _alike(clusters, first):
        key = _spectra_key(first)
        own, others = (np.nan_to_num(each[key].values) for each in (clusters, first))
        numbers = linear_sum_assignment(cdist(own, others))[1]
    return [COLOURS[k % len(COLOURS)] for k in numbers]


def _draw(axes: Any, clusters: xr.Dataset, title: str, colours: list[str]) -> None:
    where = clusters["cluster"].values
    known = where >= 0
    measured = clusters["measured"].values & known
    seeds = clusters["seed"].values & known
    plane = clusters["plane"].values
    network = clusters.attrs["latent_space"].startswith("latent")
    kind = "latent component" if network else "principal component"

    axes[0].set_title(title, fontsize=10)
    axes[0].scatter(*plane[known].T, s=8, color="0.75", linewidths=0, rasterized=True)
    for those, style, word in ((seeds, _SEEDS, "seeds"), (measured & ~seeds, _CHOSEN, "chosen")):
        if those.any():
            axes[0].scatter(*plane[those].T, **style, label=f"{int(those.sum())} {word}")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=8)
    own = np.array(colours)[where[known]]
    axes[1].scatter(*plane[known].T, s=8, c=own, linewidths=0, rasterized=True)
    density = clusters.attrs["density"]
    dense = f", density at chosen {density:.2f}" if np.isfinite(density) else ""
    axes[1].set_title(f"silhouette {clusters.attrs['silhouette']:.2f}{dense}", fontsize=10)
    for ax in axes[:2]:
        ax.set_xlabel(f"{kind} 1")
        ax.set_ylabel(f"{kind} 2")

    _draw_map(axes[2], clusters, measured, seeds, colours)
    _draw_spectra(axes[3], clusters, colours)


def _draw_map(
    ax: Any, clusters: xr.Dataset, measured: np.ndarray, seeds: np.ndarray, colours: list[str]
) -> None:
    from matplotlib.colors import ListedColormap

    where = np.ma.masked_less(clusters["cluster"].values, 0)
    n = clusters.sizes["number"]
    x, y = clusters["x"].values, clusters["y"].values
    ax.set_facecolor("0.9")
    own = ListedColormap(colours)
    ax.pcolormesh(x, y, where, cmap=own, vmin=-0.5, vmax=n - 0.5, rasterized=True)
    for those, style in ((seeds, _SEEDS), (measured & ~seeds, _CHOSEN)):
        rows, cols = np.nonzero(those)
        ax.scatter(x[cols], y[rows], **style)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set_xlabel("x (um)")
    ax.set_ylabel("y (um)")


def _draw_spectra(ax: Any, clusters: xr.Dataset, colours: list[str]) -> None:
    key = _spectra_key(clusters)
    mean, deviation = clusters[key], clusters[f"{key}{DEVIATION}"]
    axis = str(mean.dims[1])
    along = clusters[axis]
    for k, colour in enumerate(colours):
        share, taken = float(clusters["share"][k]), int(clusters["n_measured"][k])
        said = f"{share:.0%}, {taken} measured"
        ax.plot(along, mean[k], color=colour, lw=1.2, label=said)
        band = (mean[k] - deviation[k]).values, (mean[k] + deviation[k]).values
        if np.all(np.diff(along) > 0):  # a loop goes back and forth: bands would overlap
            ax.fill_between(along, *band, color=colour, alpha=0.2, lw=0)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(fontsize=7, ncols=3, columnspacing=1.0, handlelength=1.2, **place)
    for name, label in ((axis, ax.set_xlabel), (key, ax.set_ylabel)):
        units = clusters[name].attrs.get("units")
        label(f"{name} ({units})" if units else str(name))
