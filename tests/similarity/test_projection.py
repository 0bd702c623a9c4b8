"""Maps: the same each time, with neighbours together, and new points among what they resemble."""

from __future__ import annotations

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.projection import FEWEST, key_of, place_on_map, project


def clusters(n: int, size: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors in three heaps, and which heap each is in."""
    rng = np.random.default_rng(seed)
    heap = np.arange(n) % 3
    return (rng.normal(size=(3, size))[heap] * 4 + rng.normal(size=(n, size))), heap


@pytest.mark.parametrize(("n", "size"), [(60, 5), (10, 40)])
def test_pca_keeps_distances_as_well_as_a_plane_can(n: int, size: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(n, size))
    points = project(vectors)
    # What the plane holds of the variance is what the two largest singular values say.
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    assert np.sum(points**2) == pytest.approx(np.sum(singular[:2] ** 2), rel=1e-5)
    assert points[:, 0].var() >= points[:, 1].var()


def test_pca_is_the_same_whatever_the_order() -> None:
    vectors, _ = clusters(50)
    order = np.random.default_rng(2).permutation(50)
    assert np.allclose(project(vectors)[order], project(vectors[order]), atol=1e-3)


@pytest.mark.parametrize("n", [1, 2])
def test_a_map_of_one_or_two(n: int) -> None:
    points = project(np.eye(n, 6))
    assert points.shape == (n, 2) and np.isfinite(points).all()


def test_a_map_of_equal_images_is_a_point() -> None:
    assert np.array_equal(project(np.ones((40, 3))), np.zeros((40, 2)))
    pytest.importorskip("pacmap")
    assert np.array_equal(project(np.ones((40, 3)), "pacmap"), np.zeros((40, 2)))


@pytest.mark.slow  # numba compiles for half a minute
def test_pacmap_keeps_heaps_apart_and_is_the_same_for_a_seed() -> None:
    pytest.importorskip("pacmap")
    vectors, heap = clusters(150)
    points = project(vectors, "pacmap", seed=3)
    assert np.array_equal(points, project(vectors, "pacmap", seed=3))
    assert not np.array_equal(points, project(vectors, "pacmap", seed=4))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (heap[apart.argmin(1)] == heap).mean() > 0.98
    assert project(vectors[:FEWEST], "pacmap").shape == (FEWEST, 2)


def test_a_new_point_lies_among_what_it_resembles() -> None:
    vectors, heap = clusters(90)
    points = project(vectors)
    new, heap_of_new = clusters(12, seed=0)
    for vector, which in zip(new, heap_of_new, strict=True):
        at = place_on_map(vector, vectors, points)
        middles = [points[heap == k].mean(0) for k in range(3)]
        assert np.argmin([np.linalg.norm(at - middle) for middle in middles]) == which


def test_what_is_on_the_map_already_lies_where_it_is() -> None:
    vectors, _ = clusters(30)
    points = project(vectors)
    assert np.allclose(place_on_map(vectors[7], vectors, points), points[7], atol=1e-3)
    assert np.isfinite(place_on_map(np.ones(3), np.ones((5, 3)), np.ones((5, 2)))).all()


def test_what_cannot_be_projected_is_said() -> None:
    with pytest.raises(InputError, match="no projection 'umap'"):
        project(np.ones((3, 3)), "umap")
    with pytest.raises(InputError, match="all finite"):
        project([[1.0, np.nan]])
    with pytest.raises(InputError, match="expected"):
        project(np.ones((0, 3)))
    pytest.importorskip("pacmap")
    with pytest.raises(InputError, match=f"at least {FEWEST}"):
        project(np.random.default_rng(0).normal(size=(5, 3)), "pacmap")


def test_a_map_is_kept_under_what_made_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    key = key_of(vectors, "pacmap", 0)
    assert key == key_of(vectors.copy(), "pacmap", 0)
    changed = vectors.copy()
    changed[3, 1] += 1e-6
    others = {key_of(changed, "pacmap", 0), key_of(vectors, "pacmap", 1), key_of(vectors, "pca", 0)}
    assert len({key, *others, key_of(vectors.reshape(4, 8), "pacmap", 0)}) == 5
    assert key_of(vectors, "pca", 0) == key_of(vectors, "pca", 1)  # it has no seed
