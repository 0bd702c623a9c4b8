"""The generator: what it calls a group has that group exactly, and no higher one nearly."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic.pattern import (
    FALSE,
    Pattern,
    Shape,
    pseudosymmetry,
)
from synthetic.wallpaper import (
    Degradation,
    random_image,
    random_pattern,
    random_shape,
    random_texture,
)

from curiosity_bluesky.similarity.symmetry.groups import (
    GROUPS,
    LATTICES,
    ORDERS,
    operations,
)
from curiosity_bluesky.similarity.symmetry.lattice import OPERATIONS, reduction, strains

SIGN = Shape(12.0, 0.3)


@pytest.mark.parametrize("group", GROUPS)
def test_every_operation_of_the_group_leaves_the_pattern_as_it_is(group):
    rng = np.random.default_rng(5)
    pattern = random_pattern(group, rng)
    assert len(operations(group)) == ORDERS[group]
    points = rng.uniform(-200, 200, (2, 60))
    fractions = np.linalg.solve(pattern.cell, points)
    values = pattern.at(*points)
    assert values.std() > 0.3
    for rotation, shift in operations(group):
        moved = pattern.cell @ (np.array(rotation) @ fractions + np.array(shift)[:, None])
        np.testing.assert_allclose(pattern.at(*moved), values, atol=1e-12)
        # In the plane it is a movement: lengths stay as they are.
        turn = pattern.cell @ np.array(rotation) @ np.linalg.inv(pattern.cell)
        np.testing.assert_allclose(turn.T @ turn, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_closed_and_no_operation_is_there_twice(group):
    own = {(r, tuple(np.round(t, 9) % 1)) for r, t in operations(group)}
    assert len(own) == ORDERS[group]
    for r, t in operations(group):
        for s, u in operations(group):
            shift = np.round(np.array(r) @ u + t, 9) % 1
            product = tuple(map(tuple, (np.array(r) @ s).tolist()))
            assert (product, tuple(shift)) in own


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_drawn_is_the_pattern_at_these_pixels(group):
    pattern = random_pattern(group, np.random.default_rng(1), 32)
    rows, cols = np.mgrid[:32, :32].astype(float)
    x = cols + 3.5 + 0.03 * rows
    np.testing.assert_allclose(pattern.drawn(32, (3.5, 0.0), 0.03), pattern.at(x, rows), atol=1e-10)


@pytest.mark.parametrize("group", GROUPS)
def test_an_operation_that_its_group_lacks_correlates_by_less_than_the_limit(group):
    """Looked at in the plane, by other means than the generator does: points, not waves."""
    rng = np.random.default_rng(8)
    pattern = random_pattern(group, rng, shape=SIGN)
    centred = LATTICES[group] == "centred"
    basis = np.array([[0.5, 0.5], [-0.5, 0.5]]) if centred else np.eye(2)
    basis = basis @ reduction(pattern.cell @ basis)
    cell = pattern.cell @ basis
    n = 24
    u = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij")) / n
    here = SIGN(pattern.at(*np.einsum("ij,jkl->ikl", cell, u)))
    own = [np.linalg.inv(basis) @ np.array(r) @ basis for r, _ in operations(group)]
    for r in [np.eye(2), *OPERATIONS[strains(cell) < 1e-6]]:
        turned = SIGN(pattern.at(*np.einsum("ij,jkl->ikl", cell @ r, u)))
        spectrum = np.fft.fft2(here).conj() * np.fft.fft2(turned)
        correlation = np.real(np.fft.ifft2(spectrum)) / n**2
        if any(np.allclose(r, mine) for mine in own):
            # One of the group's: as good as exact somewhere; nowhere else is there another peak.
            row, col = np.unravel_index(np.argmax(correlation), correlation.shape)
            assert correlation[row, col] > 0.97
            correlation = np.roll(correlation, (-row, -col), (0, 1))
            thirds = correlation[:: n // 3, :: n // 3].ravel()[1:]
            assert max(*thirds, *correlation[:: n // 2, :: n // 2].ravel()[1:]) < FALSE + 0.05
        else:
            assert correlation.max() < FALSE + 0.02


def test_a_motif_that_has_more_than_its_group_is_noticed():
    pattern = random_pattern("pmm", np.random.default_rng(0))
    assert pseudosymmetry(pattern) < FALSE
    for lower in ("p2", "pm"):
        assert pseudosymmetry(replace(pattern, group=lower)) == pytest.approx(1)


def test_a_smaller_cell_is_noticed_too():
    pattern = random_pattern("p4", np.random.default_rng(0))
    even = np.where((pattern.waves.sum(1) % 2) == 0, pattern.amplitudes, 0)
    assert pseudosymmetry(replace(pattern, amplitudes=even)) == pytest.approx(1)


def test_stripes_are_no_wallpaper():
    waves = np.array([(1, 0), (-1, 0), (2, 0), (-2, 0)])
    stripes = Pattern("p1", 30 * np.array([[1, 0.3], [0, 1.2]]), waves, np.array([1, 1, 1j, -1j]))
    assert pseudosymmetry(stripes) == pytest.approx(1)


def test_what_the_non_linearity_hides_counts_as_gone():
    """Some motifs are of a higher group only after the threshold: those are not drawn for it."""
    deceived = 0
    for seed in range(40):
        plain = random_pattern("p3", np.random.default_rng(seed))
        assert pseudosymmetry(plain) < FALSE
        deceived += pseudosymmetry(plain, SIGN) >= FALSE
        if deceived == 1:
            drawn = random_pattern("p3", np.random.default_rng(seed), shape=SIGN)
            assert pseudosymmetry(drawn, SIGN) < FALSE
    assert deceived


@pytest.mark.parametrize("group", [*GROUPS, None])
def test_the_same_seed_gives_the_same_image_and_another_one_another(group):
    spoiling = Degradation(noise=0.3, shear=0.03, lines=0.2)
    one, two, other = (
        random_image(group, np.random.default_rng(seed), 48, spoiling) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other)
    assert one.shape == (48, 48)
    assert np.isfinite(one).all()


def test_noise_and_lines_are_as_strong_as_asked_for():
    rng = np.random.default_rng(0)
    clean = random_image("p4m", np.random.default_rng(3), 128, Degradation(0.0))
    assert clean.std() == pytest.approx(1)
    spoilt = random_image("p4m", np.random.default_rng(3), 128, Degradation(0.5, 0.0, 0.2))
    added = spoilt - clean
    assert added.mean(1).std() == pytest.approx(0.2, rel=0.2)
    assert (added - added.mean(1, keepdims=True)).std() == pytest.approx(0.5, rel=0.02)
    assert random_texture(rng, 64, grain=8.0).std() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(6))
def test_shapes_are_pointwise_and_normalised(seed):
    values = np.random.default_rng(seed).normal(size=500)
    shaped = random_shape(np.random.default_rng(seed))(values)
    assert shaped.mean() == pytest.approx(0, abs=1e-9)
    assert shaped.std() == pytest.approx(1)
    steps = np.diff(shaped[np.argsort(values)])
    assert (steps >= -1e-12).all() or (steps <= 1e-12).all()
