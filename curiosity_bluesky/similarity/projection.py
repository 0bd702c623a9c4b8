"""Projection of vectors to a map on which neighbours lie together."""

from __future__ import annotations

import hashlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError

METHODS: dict[str, dict[str, Any]] = {
    "pca": {},
    "pacmap": {"n_neighbors": 10, "MN_ratio": 0.5, "FP_ratio": 2.0, "apply_pca": True},
}
"""Ways to project, each with its parameters."""

FEWEST = 30
"""Images that PaCMAP needs: it compares each with 5 near and 20 far ones, besides 10 neighbours."""


def check_method(method: str) -> None:
    """Refuse a method that cannot be used here.

    Parameters
    ----------
    method
        One of `METHODS`.

    Raises
    ------
    InputError
        If it is none, or if its package is missing.
    """
    if method not in METHODS:
        raise InputError(f"there is no projection {method!r}; there are {', '.join(METHODS)}")
    if method == "pacmap" and importlib.util.find_spec("pacmap") is None:
        raise InputError('PaCMAP is not installed: pip install "curiosity-bluesky[explore]"')


def project(vectors: ArrayLike, method: str = "pca", seed: int = 0) -> NDArray[np.float32]:
    """Return a map of vectors, (n, 2), the same each time.

    Parameters
    ----------
    vectors
        (n, size), finite.
    method
        ``pca``: the two directions along which they differ most; always there.
        ``pacmap``: Wang, Huang, Rudin and Shaposhnik, J. Mach. Learn. Res. 22 (2021) 201, from
        its PCA, for at least `FEWEST`.
    seed
        Of PaCMAP's choices; PCA has none.

    Raises
    ------
    InputError
        If the method cannot be used, the vectors are none, or too few.
    """
    check_method(method)
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise InputError(
            f"the vectors have the shape {array.shape}; expected (images, size), all finite"
        )
    if method == "pca":
        return _pca(array)
    if len(array) < FEWEST:
        raise InputError(f"PaCMAP needs at least {FEWEST} images, not {len(array)}; take PCA")
    if not np.ptp(array, axis=0).any():  # PaCMAP would divide by their extent
        return np.zeros((len(array), 2), np.float32)
    return _pacmap(array, seed)


def _pca(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = vectors - vectors.mean(0)
    n, size = centred.shape
    # Of the two Gram matrices the smaller one: at most a few hundred rows either way.
    if size <= n:
        _, axes = np.linalg.eigh((centred.T @ centred).astype(float))
        points = centred @ axes[:, ::-1][:, :2].astype(np.float32)
    else:
        values, axes = np.linalg.eigh((centred @ centred.T).astype(float))
        points = axes[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    # An axis has no sign of its own: the point that is farthest along it lies on the right.
    far = points[np.abs(points).argmax(0), [0, 1]]
    return np.asarray(points * np.where(far < 0, -1, 1), np.float32)


def _pacmap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    import pacmap  # seconds: numba

    model = pacmap.PaCMAP(n_components=2, random_state=seed, **METHODS["pacmap"])
    return np.asarray(model.fit_transform(vectors, init="pca"), np.float32)


def place_on_map(
    vector: ArrayLike, vectors: ArrayLike, points: ArrayLike, k: int = 8
) -> NDArray[np.float32]:
    """Return the position on a map of a vector that was not projected with the others, (2,).

    The mean of its `k` nearest there, weighted by 1 / distance: at once, on any map, and among
    what it resembles; but never outside of them, however unlike everything it is, so say the
    distance too.

    Parameters
    ----------
    vector
        (size,).
    vectors
        Those on the map, (n, size).
    points
        Where they are, (n, 2).
    k
        How many.
    """
    known = np.asarray(vectors, np.float32)
    distances = np.linalg.norm(known - np.asarray(vector, np.float32), axis=1)
    nearest = np.argsort(distances, kind="stable")[:k]
    # An image that is on the map already lies where it is: nothing else weighs against it.
    floor = 1e-6 * max(float(distances[nearest].max()), 1e-12)
    weights = 1 / np.maximum(distances[nearest], floor)
    return np.asarray(weights @ np.asarray(points)[nearest] / weights.sum(), np.float32)


def key_of(vectors: NDArray[np.float32], method: str, seed: int) -> str:
    """Return the cache key of a map: equal for equal vectors, method, parameters and seed.

    Parameters
    ----------
    vectors, method, seed
        As for `project`.
    """
    said = f"1 {method} {sorted(METHODS[method].items())} {vectors.shape}"
    said += f" {seed}" if method != "pca" else ""
    digest = hashlib.blake2b(np.ascontiguousarray(vectors).data, digest_size=16)
    digest.update(said.encode())
    return digest.hexdigest()
