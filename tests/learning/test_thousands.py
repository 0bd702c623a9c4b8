"""After thousands of spectra: the Gaussian process, by matrices that grow in place."""

import numpy as np
import pytest
from support import slowly

from curiosity_bluesky.learning import Explorer, Observation, Patches, Strategy, Survey
from curiosity_bluesky.learning.gp import kernel as gp
from curiosity_bluesky.learning.gp.calibration import (
    ErrorInflation,
    NeighbourErrors,
    nearest_neighbours,
)
from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, principal_components
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.gp.variance_reduction import GrowingMatrix, VarianceReduction
from sim_devices import SyntheticSample

KERNEL = Kernel((0.3, -0.7, -1.0, 0.2, -1.5, -0.2, 0.2, 0.4, -1.0))
SIDE = 20
CANDIDATES = 16 * 16
MEASURED = np.arange(0, CANDIDATES, 3)
MODULES = ("predictor", "calibration", "kernel")


@pytest.fixture(scope="module")
def inputs():
    film = SyntheticSample((SIDE, SIDE), points=16)
    return KernelInputs(Patches(Survey(film.images, film.x, film.y), 5, "omit"))


@pytest.fixture
def outputs():
    return np.random.default_rng(1).normal(size=(CANDIDATES, 3))


@pytest.fixture
def both(inputs):
    """The same observations, all at once, and some of them one after the other."""
    doubt, more = np.linspace(1, 3, len(MEASURED)), np.arange(1, CANDIDATES, 3)
    grown = GPPosterior.after(KERNEL, inputs, MEASURED, doubt)
    for index in more:  # more than there was memory for
        grown = grown.condition_on(index)
    indices, noise_scale = np.r_[MEASURED, more], np.r_[doubt, np.ones(len(more))]
    return GPPosterior.after(KERNEL, inputs, indices, noise_scale), grown


def test_it_knows_the_same_grown_and_at_once(both, outputs):
    whole, grown = both
    y = outputs[whole.indices]
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.precision, whole.precision, atol=1e-9)
    np.testing.assert_allclose(grown.variance, whole.variance, atol=1e-9)
    everyone = np.arange(CANDIDATES)
    np.testing.assert_allclose(grown.mean(y, everyone), whole.mean(y, everyone), atol=1e-8)
    np.testing.assert_allclose(grown.leave_one_out(y), whole.leave_one_out(y), atol=1e-8)


@pytest.mark.parametrize("rows", [7, 128])
def test_its_precision_is_an_inverse(inputs, monkeypatch, rows):
    monkeypatch.setattr("curiosity_bluesky.learning.gp.posterior.ROWS", rows)
    noise_scale = np.linspace(1, 3, len(MEASURED))
    prior = KERNEL.covariance(inputs, MEASURED, MEASURED)
    posterior = GPPosterior.after(KERNEL, inputs, MEASURED, noise_scale)
    covariance = prior + np.diag(KERNEL.noise * noise_scale)
    np.testing.assert_allclose(posterior.precision @ covariance, np.eye(len(MEASURED)), atol=1e-9)
    np.testing.assert_array_equal(posterior.precision, posterior.precision.T)
    some = np.arange(0, len(MEASURED), 3)
    np.testing.assert_allclose(posterior.observed_covariance(some), prior[np.ix_(some, some)])


def test_a_covariance_does_not_depend_on_what_is_computed_at_once(inputs, monkeypatch):
    whole = KERNEL.covariance(inputs, MEASURED, np.arange(CANDIDATES))
    for cached in (100, CANDIDATES, 1000):
        monkeypatch.setattr(gp, "CACHED", cached)
        parts = KERNEL.covariance(inputs, MEASURED, np.arange(CANDIDATES))
        np.testing.assert_array_equal(parts, whole)


def test_the_evidence_of_many_is_that_of_few(inputs, outputs, monkeypatch):
    """Half of the covariance is computed for many: the same value and slope come out."""
    y, free = outputs[MEASURED], np.ones(len(KERNEL.logs), bool)
    found, of = [], []
    for large in (len(MEASURED) + 1, len(MEASURED)):
        monkeypatch.setattr(gp, "LARGE", large)
        evidence = gp._Evidence(inputs, MEASURED, y, np.full(3, 1 / 3), lambda *_: None)
        found.append(evidence(np.array(KERNEL.logs), free))
        of.append(evidence._position.numel())
    n = len(MEASURED)
    assert of == [n * n, n * (n + 1) // 2]
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-12)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-8)


def test_the_noise_of_a_spoilt_spectrum_goes_on_from_where_it_was(inputs, outputs):
    y = 0.3 * outputs[MEASURED]
    y[7] += 30  # spoilt
    at_once = GPPosterior.after(KERNEL, inputs, MEASURED).with_robust_noise(y, steps=5)
    stepwise = GPPosterior.after(KERNEL, inputs, MEASURED)
    for _ in range(5):
        stepwise = stepwise.with_robust_noise(y, steps=1)
    np.testing.assert_allclose(stepwise.noise, at_once.noise, rtol=1e-7)
    assert np.argmax(at_once.noise) == 7


def test_the_variance_falls_alike_grown_and_fantasized(both, outputs):
    whole, grown = both
    pool, references = np.arange(0, CANDIDATES, 2), np.arange(5, CANDIDATES, 20)
    weights = np.linspace(1, 2, len(references))
    reduction = VarianceReduction(grown, pool, references)

    def compared(one, two):
        np.testing.assert_allclose(two.variance, one.variance, atol=1e-9)
        np.testing.assert_allclose(two.reference_variance, one.reference_variance, atol=1e-9)
        np.testing.assert_allclose(two.total(weights), one.total(weights), atol=1e-9)

    compared(VarianceReduction(whole, pool, references), reduction)
    before = reduction.total(weights)
    # 5 is not in the pool, as a pixel that a scientist asked for.
    fantasy = reduction.fantasize(2).fantasize(5).fantasize(8)
    np.testing.assert_array_equal(reduction.total(weights), before)
    for index in (2, 5, 8):
        whole, grown = whole.condition_on(index), grown.condition_on(index)
        reduction.grow(grown)
    fresh = VarianceReduction(whole, pool, references)
    compared(fresh, fantasy)
    compared(fresh, reduction)
    errors = np.linspace(-1, 1, len(grown.indices))
    for a, b in zip(
        reduction.weighted_correlations(errors), fresh.weighted_correlations(errors), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_errors_out_of_sample_are_the_same(both, outputs):
    exact, grown = both
    y = outputs[exact.indices]
    one, two = (NeighbourErrors.of(posterior, y, 3.0) for posterior in both)
    np.testing.assert_allclose(two.without, one.without, rtol=1e-6)
    np.testing.assert_allclose(two.variance_without, one.variance_without, rtol=1e-6)
    a, b = (
        ErrorInflation.of(posterior, known.with_)
        for posterior, known in ((exact, one), (grown, two))
    )
    np.testing.assert_allclose(b.weights, a.weights, atol=1e-7)
    assert b.mean == pytest.approx(a.mean, abs=1e-7) and b.share == pytest.approx(a.share)


def test_the_nearest_of_thousands_are_the_nearest(monkeypatch):
    position = np.random.default_rng(0).random((300, 2))
    position[200:203] = position[100]  # one place, several times
    few = nearest_neighbours(position, 6)
    monkeypatch.setattr("curiosity_bluesky.learning.gp.calibration.LARGE", 100)
    many = nearest_neighbours(position, 6)
    np.testing.assert_array_equal(many[:, 0], np.arange(300))
    apart = np.linalg.norm(position[:, None] - position, axis=2)
    for one, two in zip(few, many, strict=True):
        assert len(set(two)) == 7
        np.testing.assert_allclose(
            np.sort(apart[two[0], two]), np.sort(apart[one[0], one]), atol=1e-12
        )


def test_principal_components_of_thousands_are_the_same(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(200, 12)) * np.geomspace(3, 0.1, 12)
    for components in (4, 30):
        scores, axes = principal_components(rows, components)
        monkeypatch.setattr(gp, "LARGE", 50)
        many_scores, many_axes = principal_components(rows, components)
        monkeypatch.undo()
        np.testing.assert_allclose(many_scores, scores, atol=1e-9)
        np.testing.assert_allclose(many_axes, axes, atol=1e-9)


def test_rows_grow_by_many_at_once():
    rows = GrowingMatrix(3)
    for n in (1, 5, 2, 70):
        rows.append(np.full((n, 3), n))
    np.testing.assert_array_equal(rows.rows[:, 0], np.repeat([1, 5, 2, 70], [1, 5, 2, 70]))


# ---- the explorer, with what is large made small


@pytest.fixture
def soon(monkeypatch):
    """Have 24 spectra count as many."""
    for module in MODULES:
        monkeypatch.setattr(f"curiosity_bluesky.learning.gp.{module}.LARGE", 24)


@pytest.fixture(scope="module")
def film():
    film = SyntheticSample((SIDE, SIDE), points=16, seed=2)
    return Survey(film.images, film.x, film.y), film.target()


def driven(film, n, name="curious", batch=1, **parameters):
    survey, truth = film
    given = {"patch_size": 5, "n_seeds": 8, "refit_every": 5, "budget": n + 8, **parameters}
    explorer = Explorer(survey, Strategy.named(name, **given), 0)
    while explorer.n_observed < n:
        for proposal in explorer.propose(batch):
            measured(explorer, proposal, truth)
    return explorer


def measured(explorer, proposal, truth):
    number = proposal.decision_id
    explorer.observe(Observation(proposal.pixel, truth[proposal.pixel], decision_id=number))


def replayed(film, explorer):
    again = Explorer(explorer.survey, explorer.strategy, explorer.seed)
    for decision in explorer.decisions:
        again.record(decision)
    for observation in explorer.observations[::-1]:
        again.observe(observation)
    return again


@pytest.mark.quick("curious-25", "lcmd-33")
@pytest.mark.parametrize(
    ("name", "n"),
    [
        *(("curious", n) for n in (24, 25, 33)),
        *((name, 33) for name in ("variance", "lcmd", "grid")),
        pytest.param("curious", 47, marks=pytest.mark.slow),
        *(
            pytest.param(name, n, marks=pytest.mark.slow)
            for name in ("variance", "lcmd", "grid")
            for n in (24, 25, 47)
        ),
    ],
)
def test_a_replay_of_many_leaps_and_comes_to_the_same_bit_for_bit(soon, film, n, name, exactly):
    explorer = driven(film, n, name)
    again = replayed(film, explorer)
    assert exactly(*explorer.propose()) == exactly(*again.propose())
    for key, values in explorer.maps().items():
        np.testing.assert_array_equal(values, again.maps()[key])
    np.testing.assert_array_equal(explorer.predict().spectra, again.predict().spectra)
    assert explorer.flags() == again.flags()


def test_a_replay_learns_only_where_it_has_to(soon, film):
    explorer = driven(film, 47)
    explorer.propose()
    live = explorer.take_trainings()
    again = replayed(film, explorer)
    again.propose()
    trainings = again.take_trainings()
    assert len(live) == 47 - 8 + 1 and len(trainings) < 15
    searched = [t.n_observed for t in live if t.epochs]
    assert (
        [t.n_observed for t in trainings if t.epochs]
        == searched
        == [8, 13, 18, 23, 25, 30, 35, 40, 45]
    )
    assert trainings[-1].model_version == live[-1].model_version


def test_a_batch_of_many_is_chosen_as_one_of_few_is(film, monkeypatch):
    few = driven(film, 40, batch=4)
    for module in MODULES:
        monkeypatch.setattr(f"curiosity_bluesky.learning.gp.{module}.LARGE", 39)
    many = replayed(film, few)
    chosen = [p.pixel for p in many.propose(4)]
    assert len(set(chosen)) == 4


@pytest.mark.parametrize("points", [60, *slowly(120)])
def test_what_is_predicted_from_many_is_as_good(film, monkeypatch, points):
    """Hyper-parameters by a part of the spectra cost little on what was never measured."""
    survey, truth = film
    patches = Patches(survey, 5, "omit")
    rng = np.random.default_rng(3)
    order = rng.permutation(len(patches))
    errors = []
    for large in (1000, points // 2):
        for module in MODULES:
            monkeypatch.setattr(f"curiosity_bluesky.learning.gp.{module}.LARGE", large)
        explorer = Explorer(survey, Strategy.named("curious", patch_size=5, n_seeds=20), 0)
        for index in order[:points]:
            pixel = patches.pixel(index)
            explorer.observe(Observation(pixel, truth[pixel]))
        spectra = patches.flatten(explorer.predict().spectra)[order[points:]]
        errors.append(np.mean((spectra - patches.flatten(truth)[order[points:]]) ** 2))
    assert errors[1] < 1.1 * errors[0]
