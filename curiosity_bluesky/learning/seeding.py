"""Seeding: pixels that are measured before anything is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, principal_components
from curiosity_bluesky.learning.protocols import Features


class RandomSeeding:
    """Distinct random pixels (what the published notebooks do)."""

    def choose(self, allowed: NDArray[np.bool_], n: int, rng: Generator) -> NDArray[np.intp]:
        """Return `n` distinct allowed candidates in random order."""
        return rng.permutation(np.flatnonzero(allowed))[:n]


@dataclass(frozen=True)
class KMeansSeeding:
    """The pixel nearest to each centroid of k-means in a feature space.

    "One choice is to utilize k-means clustering in the latent space, with k equal to the
    number initialization points. This was followed by choosing the points closest to each
    respective cluster centroid" (Vatsavai et al. 2025, second workflow).

    Parameters
    ----------
    features
        The space, in the paper the autoencoder's.
    """

    features: Features

    def choose(self, allowed: NDArray[np.bool_], n: int, rng: Generator) -> NDArray[np.intp]:
        """Return `n` distinct allowed candidates, far apart ones first."""
        candidates = np.flatnonzero(allowed)
        if n >= len(candidates):
            return rng.permutation(candidates)
        return candidates[representatives(self.features.values()[candidates], n, rng)]


@dataclass(frozen=True, eq=False)
class RepresentativeSeeding:
    """Pixels that stand for all structures and for all of the area.

    Those nearest to the centroids of k-means in the space of patch and position together,
    each with the same share of the variance.

    Parameters
    ----------
    inputs
        What the Gaussian process knows of every candidate.
    pool
        Candidates to choose from.
    components
        Principal components of the patches at most.
    """

    inputs: KernelInputs
    pool: NDArray[np.intp]
    components: int = 12

    def choose(self, allowed: NDArray[np.bool_], n: int, rng: Generator) -> NDArray[np.intp]:
        """Return `n` distinct allowed candidates, in random order."""
        pool = self.pool[allowed[self.pool]]
        if n >= len(pool):
            rest = np.setdiff1d(np.flatnonzero(allowed), pool)
            return np.concatenate([rng.permutation(pool), rng.permutation(rest)])[:n]
        patches = Kernel.start(self.inputs.channels).features(self.inputs, pool)
        scores, _ = principal_components(patches - patches.mean(axis=0), self.components)
        places = self.inputs.position[pool]
        places = places - places.mean(axis=0)
        parts = [part / max(np.sqrt((part**2).sum(axis=1).mean()), 1e-12)
                 for part in (scores, places)]  # fmt: skip
        return pool[representatives(np.hstack(parts), n, rng)]


def representatives(points: NDArray, n: int, rng: Generator) -> NDArray[np.intp]:
    """Return `n` distinct points, nearest to the centroids of k-means, ``(n,)``.

    Parameters
    ----------
    points
        ``(points, dimensions)``, more than `n`.
    n
        How many.
    rng
        Draws where k-means starts, and the order.
    """
    from scipy.spatial import KDTree
    from sklearn.cluster import KMeans  # strategies are listed without it

    # Fewer different points than centroids (a constant image): k-means cannot have k.
    k = min(n, len(np.unique(points, axis=0)))
    start = int(rng.integers(2**31))
    means = KMeans(k, n_init=1, random_state=start)  # pyright: ignore[reportArgumentType]
    centres = means.fit(points).cluster_centers_
    chosen: list[int] = []
    # Two centroids can share their nearest point; the second takes the next nearest.
    tree = KDTree(points)
    for centre in centres[rng.permutation(k)]:
        _, nearest = tree.query(centre, k=min(len(points), n + 1))
        chosen.append(next(int(i) for i in np.atleast_1d(nearest) if int(i) not in chosen))
    rest = rng.permutation(np.setdiff1d(np.arange(len(points)), chosen))
    return np.array([*chosen, *rest[: n - k]], dtype=np.intp)
