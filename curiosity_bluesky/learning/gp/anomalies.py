"""Anomalies: regions whose spectra structure does not explain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.calibration import NeighbourErrors, nearest_neighbours
from curiosity_bluesky.learning.gp.kernel import evenly_spread
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.records import Anomaly

FACTOR = 6.0
"""Least ratio of a striking error to a typical one."""
TOGETHER = 3
"""Fewest such spectra near each other that make a region."""
LEFT_OUT = 0.25
"""Share of the observations, the nearest ones, without which each is predicted."""


def find_anomalies(
    posterior: GPPosterior, outputs: NDArray, neighbours: NeighbourErrors, patches: Patches
) -> list[Anomaly]:
    """Find the regions where spectra are not what the same structure gives elsewhere.

    Each spectrum is predicted without a quarter of all others, the nearest: by its structure,
    hardly by its place. Of thousands, evenly spread ones stand for all. Those whose squared
    error, relative to its expected variance, is many times the median of all are clustered by
    position (DBSCAN, Ester et al. 1996). They have to be so with the most striking one of all
    left out for good, too: a single spoilt
    spectrum is no region, nor is what it spoils around it.

    Parameters
    ----------
    posterior
        What is known.
    outputs
        ``(n, outputs)`` that were observed.
    neighbours
        Errors with and without the observations nearby.
    patches
        The candidates.

    Returns
    -------
    list of Anomaly
        The most striking first.
    """
    known = evenly_spread(len(posterior.indices))
    n, observed = len(known), posterior.indices[known]
    places = np.array([patches.survey.position(patches.pixel(k)) for k in observed])
    across = np.ptp(places, axis=0)
    spacing = float(np.sqrt(across.prod() / n) if across.all() else across.max() / n)
    if n <= 2 * TOGETHER or not spacing > 0:
        return []
    excess = _by_structure(posterior, outputs, known)
    most = int(np.argmax(excess))
    others = np.delete(np.arange(n), most)
    without_it = np.full(n, np.inf)
    without_it[others] = _by_structure(posterior, outputs, known[others])
    striking = np.flatnonzero(np.minimum(excess, without_it) > FACTOR)
    if len(striking) < TOGETHER:
        return []
    from sklearn.cluster import DBSCAN  # strategies are listed without it

    label = DBSCAN(eps=2 * spacing, min_samples=TOGETHER).fit_predict(places[striking])
    found = []
    for k in range(label.max() + 1):
        members = striking[label == k]
        x, y = places[members].mean(axis=0)
        # Of a disc that is evenly filled the radius is the root mean square times root 2.
        reach = math.sqrt(2 * ((places[members] - (x, y)) ** 2).sum(axis=1).mean())
        learnable = float(neighbours.learnable(neighbours.position[known[members]]).mean())
        found.append(
            Anomaly(
                x=float(x),
                y=float(y),
                radius=reach + spacing / 2,
                n_observed=len(members),
                excess=float(np.exp(np.log(excess[members]).mean())),
                learnable=learnable,
                remark=_remark(learnable),
            )
        )
    return sorted(found, key=lambda flag: -flag.excess * flag.n_observed)


def _by_structure(posterior: GPPosterior, outputs: NDArray, kept: NDArray[np.intp]) -> NDArray:
    """Squared errors without the nearest others, relative to what is typical, ``(kept,)``."""
    noise_scale = posterior.noise[kept] / posterior.kernel.noise
    indices, outputs = posterior.indices[kept], outputs[kept] - outputs[kept].mean(axis=0)
    kernel = posterior.kernel
    if len(kept) < len(posterior.indices):  # the old one was fitted to what is left out, too
        kernel = kernel.fitted(posterior.inputs, indices, outputs)
    rest = GPPosterior.after(kernel, posterior.inputs, indices, noise_scale)
    groups = nearest_neighbours(posterior.inputs.position[indices], math.ceil(LEFT_OUT * len(kept)))
    error, variance = rest.leave_groups_out(outputs, groups)
    relative = (error**2).sum(axis=1) / variance
    return relative / max(float(np.median(relative)), 1e-300)


def _remark(learnable: float) -> str:
    if learnable >= 0.5:
        return "structure does not explain the spectra here, neighbours agree: look closer"
    return "structure does not explain the spectra here, nor do neighbours: noise, or look closer"
