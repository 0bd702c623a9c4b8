"""A collection: the nearest are found exactly, and columns say what entries have."""

from __future__ import annotations

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import Collection, Entry


def collection(n: int = 50) -> Collection:
    rng = np.random.default_rng(0)
    entries = [
        Entry(
            uid=f"run-{k:05d}",
            stream="survey",
            key="imager_a",
            channel="a" if k % 2 else "b",
            metadata={"sample": f"s{k % 3}"} if k else {},
            properties={"coercive_bias": float(k)} if k > 40 else {},
            labels={"symmetry": "p4m"} if k == 7 else {},
        )
        for k in range(n)
    ]
    vectors = {"crude": 1e3 + rng.normal(size=(n, 6)).astype(np.float32)}
    return Collection(entries, vectors, np.zeros((n, 48, 48), np.uint8))


def test_the_nearest_are_those_that_comparing_with_all_finds():
    found = collection()
    wanted = found.vectors["crude"][11] + np.float32(0.1)
    distances = np.linalg.norm(found.vectors["crude"] - wanted, axis=1)
    hits = found.nearest(wanted, "crude", top=5)
    # Far from the origin, where the product alone would lose them to rounding.
    assert [hit.row for hit in hits] == list(np.argsort(distances)[:5])
    np.testing.assert_allclose([hit.distance for hit in hits], np.sort(distances)[:5], rtol=1e-4)
    among = np.array([3, 30, 17])
    hits = found.nearest(wanted, "crude", top=5, among=among)
    assert [hit.row for hit in hits] == list(among[np.argsort(distances[among])])
    assert [hit.entry for hit in hits] == [found.entries[hit.row] for hit in hits]


def test_neighbours_that_rounding_would_confuse_are_told_apart():
    rng = np.random.default_rng(1)
    n, size = 3000, 34
    middle = rng.normal(size=size)
    middle *= 45 / np.linalg.norm(middle)
    away = rng.normal(size=(n, size))
    away *= np.linspace(0, 0.05, n)[:, None] / np.linalg.norm(away, axis=1)[:, None]
    vectors = np.repeat((middle + away).astype(np.float32)[rng.permutation(n)], 2, axis=0)
    entries = [Entry(f"run-{k}", "survey", "imager_a", "a") for k in range(2 * n)]
    found = Collection(entries, {"crude": vectors})
    wanted = middle.astype(np.float32)
    exact = np.linalg.norm(vectors.astype(float) - wanted, axis=1)
    # Each vector is there twice: of equals the first row comes first.
    expected = np.lexsort((np.arange(2 * n), exact))
    hits = found.nearest(wanted, "crude", top=12)
    assert [hit.row for hit in hits] == list(expected[:12])
    among = rng.permutation(2 * n)[: n // 2]
    hits = found.nearest(wanted, "crude", top=12, among=among)
    assert [hit.row for hit in hits] == [row for row in expected if row in set(among)][:12]
    assert found.nearest(wanted, "crude", top=0) == []
    assert found.nearest(wanted, "crude", among=[]) == []


def test_columns_are_what_entries_have_and_none_where_they_have_not():
    found = collection()
    assert found.columns == ["channel", "uid", "symmetry", "coercive_bias", "sample"]
    assert found.column("sample")[:3] == [None, "s1", "s2"]
    assert found.column("coercive_bias")[40:42] == [None, 41.0]
    assert found.column("symmetry")[7] == "p4m" and found.column("channel")[1] == "a"
    with pytest.raises(InputError, match="nothing indexed has 'operator'; there are channel, uid"):
        found.column("operator")


def test_a_part_has_the_same_images_in_the_order_that_is_wanted():
    found = collection()
    part = found.part([9, 2])
    assert part.entries == (found.entries[9], found.entries[2])
    np.testing.assert_array_equal(part.vectors["crude"], found.vectors["crude"][[9, 2]])
    assert part.thumbnails is not None and part.thumbnails.shape == (2, 48, 48)
    assert len(found.part([])) == 0


def test_a_vector_that_is_none_of_a_descriptor_is_said():
    found = collection()
    with pytest.raises(InputError, match="no descriptor 'other' in the index; it has crude"):
        found.nearest(np.zeros(6), "other")
    for wrong in (np.zeros(5), np.full(6, np.nan)):
        with pytest.raises(InputError, match="'crude' has 6 finite numbers"):
            found.nearest(wrong, "crude")
