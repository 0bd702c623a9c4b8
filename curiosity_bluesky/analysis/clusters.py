"""Clusters of behaviour: pixels whose spectra are predicted alike, in latent and in real space."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.analysis.prediction import channels_in, dataset_of, rebuild
from curiosity_bluesky.analysis.reading import Document, whole_run
from curiosity_bluesky.documents import DEVIATION, PredictionReader
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Prediction, PriorRun

MOST_CLUSTERS = 6
"""Largest number of clusters that is tried where none is given."""
COMPONENTS = 3
"""Principal components of the predictions, where the model has no latent space."""
NEIGHBOURS = 10
"""The distance to the tenth neighbour in the latent space says how dense it is at a pixel."""
_SCORED = 2000
"""Pixels that a silhouette is computed of, which takes n^2."""


def cluster(run: Any, n_clusters: int | None = None, *, seed: int = 0) -> xr.Dataset:
    """Cluster the pixels of a survey by what the model of a run expects there.

    k-means in the latent space of the model, as in Fig. 3 of Vatsavai et al., Digital Discovery
    (2025), doi:10.1039/d5dd00119f. What the run recorded of its predictions is read; where it did
    not, the model is rebuilt from what was measured, with the same result.

    Parameters
    ----------
    run
        A run from a catalogue, read together with those that it went on with.
    n_clusters
        Number of clusters; default: from 2 to 6, that with the largest mean silhouette
        (Rousseeuw 1987).
    seed
        Seed of the k-means.

    Returns
    -------
    xarray.Dataset
        ``cluster`` (y, x)
            Number of the cluster, the largest first, -1 where no claim is made.
        ``latent`` (y, x, component)
            The latent space of a network, or else the first principal components of the
            predicted spectra, each channel in units of its standard deviation; NaN where no
            claim is made.
        ``plane`` (y, x, direction)
            Its first two principal components, to draw it.
        ``measured``, ``seed`` (y, x)
            Whether a spectrum was taken there; whether it was one of the seeds.
        ``density`` (y, x)
            Share of the pixels that lie where the latent space is sparser, by the distance to the
            tenth neighbour: 0 at the sparsest pixel, 1 at the densest.
        ``<channel>`` and ``<channel>_deviation`` (number, <axis>)
            Mean predicted spectrum of each cluster and its standard deviation over the pixels.
        ``share``, ``n_measured``, ``n_seeds`` (number)
            Share of the pixels, number of spectra taken, and of seeds among them.

        ``attrs`` has ``latent_space`` in words; ``silhouette``, the mean of the clusters;
        ``density``, the mean at the spectra that were no seeds; and the ``parameters`` of the
        strategy as JSON. Spread as the pixels are, they have a density of 0.5; but training moves
        what a network was trained on apart, so compare with a run of random pixels.

    Raises
    ------
    InputError
        As `predict`; if the predictions are too much alike for so many clusters.
    """
    documents, earlier = whole_run(run)
    return cluster_documents(documents, n_clusters, seed=seed, earlier=earlier)


def cluster_documents(
    documents: Iterable[Document],
    n_clusters: int | None = None,
    *,
    seed: int = 0,
    earlier: PriorRun | None = None,
) -> xr.Dataset:
    """Cluster the pixels of a survey; see `cluster`.

    Parameters
    ----------
    documents, earlier
        As for `predict_from_documents`.
    n_clusters, seed
        As for `cluster`.
    """
    if n_clusters is not None and n_clusters < 2:
        raise InputError(f"{n_clusters} clusters are asked for; expected 2 or more")
    reader = PredictionReader()
    explorer, listener = rebuild(reader.heard(documents), earlier)
    assert listener.descriptor is not None
    recorded = reader.prediction(explorer.survey, listener.descriptor)
    prediction = _prediction(explorer, recorded)
    predicted = dataset_of(explorer, listener, prediction)
    channels = channels_in(predicted)
    known = ~predicted["no_claim"].values
    if prediction.latent is not None:
        space, words = prediction.latent[known], f"latent space of {explorer.strategy.name}"
    else:
        spectra = [predicted[key].values[known] for key in channels]
        space, share = _principal(_in_one(spectra), COMPONENTS)
        words = f"principal components of the predictions ({share:.0%} of their variance)"
    labels, silhouette = _clustered(space, n_clusters, seed)

    where = np.full(known.shape, -1)
    where[known] = labels
    latent = np.full((*known.shape, space.shape[1]), np.nan)
    latent[known] = space
    plane = np.full((*known.shape, 2), np.nan)
    plane[known] = _principal(space, 2)[0]
    density = np.full(known.shape, np.nan)
    density[known] = _density(space)
    measured = predicted["distance"].values == 0
    seed_pixels = [each.pixel for each in explorer.decisions if each.reason == "seed"]
    seeds = np.zeros(known.shape, bool)
    seeds[tuple(np.array(seed_pixels, int).reshape(-1, 2).T)] = True
    seeds &= measured
    chosen = density[measured & ~seeds & known]
    n = int(labels.max()) + 1
    variables: dict[str, Any] = {
        "cluster": (("y", "x"), where),
        "latent": (("y", "x", "component"), latent),
        "plane": (("y", "x", "direction"), plane),
        "density": (("y", "x"), density),
        "measured": (("y", "x"), measured),
        "seed": (("y", "x"), seeds),
        "share": ("number", [float((labels == k).mean()) for k in range(n)]),
        "n_measured": ("number", [int((measured & (where == k)).sum()) for k in range(n)]),
        "n_seeds": ("number", [int((seeds & (where == k)).sum()) for k in range(n)]),
    }
    for key in channels:
        of = [predicted[key].values[where == k] for k in range(n)]
        dims, attrs = ("number", predicted[key].dims[2]), predicted[key].attrs
        variables[key] = (dims, np.array([np.nanmean(each, axis=0) for each in of]), attrs)
        spread = np.array([np.nanstd(each, axis=0) for each in of])
        variables[f"{key}{DEVIATION}"] = (dims, spread, attrs)
    attrs = predicted.attrs | {"latent_space": words, "silhouette": silhouette}
    attrs |= {"density": float(chosen.mean()) if len(chosen) else float("nan")}
    attrs |= {"parameters": json.dumps(explorer.strategy.parameters)}
    return xr.Dataset(variables, predicted.coords, attrs)


def _prediction(explorer: Explorer, recorded: Prediction | None) -> Prediction:
    """Return what the run recorded, or else what its model gives, as a run would record it."""
    # Older runs lack the latent space of their networks. Whoever records a deviation is a
    # Gaussian process, which has none.
    if recorded is not None and (recorded.latent is not None or recorded.deviation is not None):
        return recorded
    found = explorer.predict()
    latent = None if found.latent is None else _as_recorded(found.latent)
    return dataclasses.replace(found, spectra=_as_recorded(found.spectra), latent=latent)


def _as_recorded(values: NDArray) -> NDArray:
    """Return values with the precision that a run records."""
    return values.astype("<f4").astype(float)


def _density(space: NDArray) -> NDArray:
    """Return the share of the points where the space is sparser than at each, ``(points,)``."""
    from scipy.spatial import KDTree
    from scipy.stats import rankdata

    n = len(space)
    far = KDTree(space).query(space, min(NEIGHBOURS + 1, n))[0][:, -1]  # the first is itself
    return (rankdata(-far) - 1) / max(n - 1, 1)


def _in_one(channels: list[NDArray]) -> NDArray:
    """Return the spectra of all channels in one array, each in units of its deviation."""
    finite = [each[:, np.isfinite(each).all(axis=0)] for each in channels]
    return np.hstack([each / (each.std() or 1.0) for each in finite])


def _principal(points: NDArray, n: int) -> tuple[NDArray, float]:
    """Return `n` principal components, 0 beyond those that there are, and their share."""
    from sklearn.decomposition import PCA

    model = PCA(min(n, *points.shape), random_state=0)
    with np.errstate(invalid="ignore"):  # points that are all the same have no variance
        found, share = model.fit_transform(points), model.explained_variance_ratio_.sum()
    missing = np.zeros((len(points), n - found.shape[1]))
    return np.hstack([found, missing]), float(share)


def _sample(labels: NDArray, seed: int) -> NDArray[np.intp]:
    """Return points to score, at random; of a cluster of few points two at least, if it has any."""
    order = np.random.default_rng(seed).permutation(len(labels))
    first = [np.flatnonzero(labels[order] == k)[:2] for k in np.unique(labels)]
    rest = np.setdiff1d(np.arange(len(labels)), np.concatenate(first))
    return order[np.concatenate([*first, rest])[:_SCORED]]


def _clustered(space: NDArray, n_clusters: int | None, seed: int) -> tuple[NDArray, float]:
    """Return the cluster of each point, the largest first, and the mean silhouette."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    most = len(np.unique(space, axis=0)) - 1
    if most < (n_clusters or 2):
        raise InputError(
            f"{n_clusters or 2} clusters are asked for, but the predictions at the "
            f"{len(space)} pixels are too much alike; measure more spectra, or ask for fewer"
        )
    tried = []
    for k in [n_clusters] if n_clusters else range(2, min(MOST_CLUSTERS, most) + 1):
        model = KMeans(k, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
        labels = model.fit_predict(space)
        some = _sample(labels, seed)
        tried.append((float(silhouette_score(space[some], labels[some])), labels))
    silhouette, labels = max(tried, key=lambda each: each[0])
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels], silhouette
