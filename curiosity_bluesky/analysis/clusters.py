"""Clusters of behaviour: pixels whose spectra are predicted alike, in latent and in real space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.analysis.prediction import channels_in, dataset_of, rebuild
from curiosity_bluesky.analysis.reading import Document, whole_run
from curiosity_bluesky.documents import DEVIATION
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun

MOST_CLUSTERS = 6
"""Largest number of clusters that is tried where none is given."""
COMPONENTS = 3
"""Principal components of the predictions, where the model has no latent space."""
_SCORED = 2000
"""Pixels that a silhouette is computed of, which takes n^2."""


def cluster(run: Any, n_clusters: int | None = None, *, seed: int = 0) -> xr.Dataset:
    """Cluster the pixels of a survey by what the model of a run expects there.

    k-means in the latent space of the model, as in Fig. 3 of Vatsavai et al., Digital Discovery
    (2025), doi:10.1039/d5dd00119f.

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
        ``measured`` (y, x)
            Whether a spectrum was taken there.
        ``<channel>`` and ``<channel>_deviation`` (cluster, <axis>)
            Mean predicted spectrum of each cluster and its standard deviation over the pixels.
        ``share``, ``n_measured`` (cluster)
            Share of the pixels, and number of spectra taken.

        ``attrs`` has ``latent_space`` in words and ``silhouette``, the mean of the clusters.

    Raises
    ------
    InputError
        As `predict`; if there are fewer pixels than clusters.
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
    explorer, listener = rebuild(documents, earlier)
    prediction = explorer.predict()
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
    measured = predicted["distance"].values == 0
    n = int(labels.max()) + 1
    variables: dict[str, Any] = {
        "cluster": (("y", "x"), where),
        "latent": (("y", "x", "component"), latent),
        "plane": (("y", "x", "direction"), plane),
        "measured": (("y", "x"), measured),
        "share": ("number", [float((labels == k).mean()) for k in range(n)]),
        "n_measured": ("number", [int((measured & (where == k)).sum()) for k in range(n)]),
    }
    for key in channels:
        of = [predicted[key].values[where == k] for k in range(n)]
        dims, attrs = ("number", predicted[key].dims[2]), predicted[key].attrs
        variables[key] = (dims, np.array([np.nanmean(each, axis=0) for each in of]), attrs)
        spread = np.array([np.nanstd(each, axis=0) for each in of])
        variables[f"{key}{DEVIATION}"] = (dims, spread, attrs)
    attrs = predicted.attrs | {"latent_space": words, "silhouette": silhouette}
    return xr.Dataset(variables, predicted.coords, attrs)


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
        sample = min(_SCORED, len(space))
        score = silhouette_score(space, labels, sample_size=sample, random_state=seed)
        tried.append((float(score), labels))
    silhouette, labels = max(tried, key=lambda each: each[0])
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels], silhouette
