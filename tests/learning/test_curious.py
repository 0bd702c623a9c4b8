"""The default strategy: what each of its parts promises, and the whole of it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from support import slowly

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Patches, Strategy, Survey
from curiosity_bluesky.learning.gp.calibration import ErrorInflation, NeighbourErrors
from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.gp.variance_reduction import VarianceReduction
from sim_devices import SyntheticSample, list_samples, open_sample

KERNEL = Kernel((0.0, -0.5, -1.0, 0.0, -2.5, 0.2, 0.3, 0.0, -1.0))


def smooth_image(side, seed, width=2.0):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), width)
    return image / image.std()


@pytest.fixture(scope="module")
def inputs():
    return KernelInputs(
        Patches(Survey({"a": smooth_image(22, 0)}), 5, "omit")
    )  # 18 x 18 candidates


@pytest.fixture
def posterior(inputs):
    return after_some(inputs)


def after_some(inputs):
    return GPPosterior.after(KERNEL, inputs, np.arange(0, 324, 17))


def drawn(inputs, seed, columns=6):
    """Outputs that are what the kernel says they are."""
    everyone = np.arange(len(inputs))
    covariance = KERNEL.covariance(inputs, everyone, everyone) + 1e-9 * np.eye(len(inputs))
    rng = np.random.default_rng(seed)
    signal = np.linalg.cholesky(covariance) @ rng.normal(size=(len(inputs), columns))
    return signal + np.sqrt(KERNEL.noise) * rng.normal(size=signal.shape)


# ---- reduction of the variance


def test_the_total_is_what_the_variance_really_falls_by(inputs, posterior):
    pool, references = np.arange(324), np.arange(5, 324, 40)
    weights = np.linspace(1, 3, len(references))
    reduction = VarianceReduction(posterior, pool, references)
    np.testing.assert_allclose(reduction.variance, posterior.variance, atol=1e-9)
    total = reduction.total(weights)
    for candidate in (0, 100, 17, 323):  # 17 is measured already
        after = after_some(inputs).condition_on(candidate).variance[references]
        fall = posterior.variance[references] - after
        assert total[candidate] == pytest.approx(weights @ fall, abs=1e-9)


def test_growing_is_starting_over_and_fantasies_change_nothing(posterior):
    pool, references = np.arange(0, 324, 2), np.arange(5, 324, 40)
    weights = np.ones(len(references))
    grown = VarianceReduction(posterior, pool, references)
    before = grown.total(weights)
    fantasy = grown.fantasize(50).fantasize(51)
    np.testing.assert_array_equal(grown.total(weights), before)
    for index in (50, 51):
        posterior = posterior.condition_on(index)
        grown.grow(posterior)
    fresh = VarianceReduction(posterior, pool, references)
    for other in (grown, fantasy):
        np.testing.assert_allclose(other.total(weights), fresh.total(weights), atol=1e-9)
        np.testing.assert_allclose(other.variance, fresh.variance, atol=1e-9)
        np.testing.assert_allclose(other.reference_variance, fresh.reference_variance, atol=1e-9)
    errors = np.linspace(-1, 1, len(posterior.indices))
    for one, two in zip(
        grown.weighted_correlations(errors), fresh.weighted_correlations(errors), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-12)


def test_it_grows_beyond_the_memory_that_it_began_with(posterior):
    reduction = VarianceReduction(posterior, np.arange(324), np.arange(8))
    for index in range(70):
        posterior = posterior.condition_on(3 * index + 1)
        reduction.grow(posterior)
    np.testing.assert_allclose(reduction.variance, posterior.variance, atol=1e-8)


# ---- errors out of sample


def test_errors_of_noise_have_no_structure_and_larger_errors_of_a_region_are_found(inputs):
    measured = np.arange(0, 324, 2)
    posterior = GPPosterior.after(KERNEL, inputs, measured)
    everywhere = np.arange(324)
    own = KERNEL.variance(inputs, measured)
    correlation = KERNEL.covariance(inputs, measured, everywhere) / np.sqrt(own)[:, None]
    correlation /= np.sqrt(KERNEL.variance(inputs, everywhere))
    expected = posterior.leave_one_out_variance
    chance = np.random.default_rng(1).chisquare(3, len(measured)) / 3
    right = inputs.position[:, 0] > 0.5
    plain = ErrorInflation.of(posterior, 7 * expected * chance)
    uneven = ErrorInflation.of(posterior, expected * chance * np.where(right[measured], 20, 1))
    assert plain.share < 0.25 < uneven.share
    # On average both are right.
    for excess, size in ((plain, 7), (uneven, 10.5)):
        assert excess.factor(excess.weights @ correlation[:, ::2]).mean() == pytest.approx(
            size, rel=0.35
        )
    found = uneven.factor(uneven.weights @ correlation)
    assert found[right].mean() > 4 * found[~right].mean()
    assert np.ptp(np.log(plain.factor(plain.weights @ correlation))) < 1


def test_neighbours_help_where_there_is_something_to_learn_and_not_in_noise(inputs):
    rng = np.random.default_rng(5)
    measured = rng.permutation(324)[:150]
    noisy = (np.abs(inputs.position - 0.5) < 0.25).all(axis=1)
    for seed in range(3):
        outputs = drawn(inputs, seed)
        spoilt = np.where(noisy[:, None], rng.normal(size=outputs.shape) * 2, outputs)
        posterior = GPPosterior.after(KERNEL, inputs, measured)
        good = NeighbourErrors.of(posterior, outputs[measured], outputs.shape[1])
        assert 0.8 < np.median(good.learnable(inputs.position)) < 1.2
        bad = NeighbourErrors.of(posterior, spoilt[measured], outputs.shape[1])
        middle = (np.abs(inputs.position - 0.5) < 0.12).all(axis=1)
        outside = (np.abs(inputs.position - 0.5) > 0.4).any(axis=1)
        assert np.median(bad.learnable(inputs.position[middle])) < 0.3
        assert np.median(bad.learnable(inputs.position[outside])) > 0.6


# ---- the strategy


def explored(sample_or_arrays, seed=0, **parameters):
    """A run of ``curious`` to its end."""
    images, spectra, axis = sample_or_arrays
    strategy = Strategy.named(parameters.pop("name", "curious"), **parameters)
    explorer = Explorer(Survey(images), strategy, seed)
    while not explorer.should_stop()[0]:
        for proposal in explorer.propose(strategy.batch):
            pixel, number = proposal.pixel, proposal.decision_id
            explorer.observe(Observation(pixel, spectra[pixel], decision_id=number, axis=axis))
    return explorer


def arrays(sample):
    images = {name: np.asarray(image) for name, image in sample.images.items()}
    return images, sample.target(), sample.axis


@pytest.fixture(scope="module")
def film():
    return arrays(SyntheticSample((40, 40), points=32))


def with_noise(film, seed, amplitude, side=12):
    """The film with a square where every loop is noise of the film's own size, and more."""
    images, spectra, axis = film
    rng = np.random.default_rng(seed)
    row, col = rng.integers(5, 40 - side - 5, 2)
    square = np.zeros(spectra.shape[:2], bool)
    square[row : row + side, col : col + side] = True
    spectra = spectra.copy()
    spread = (spectra - spectra.mean(axis=(0, 1))).std()
    noise = amplitude * spread * rng.standard_normal((square.sum(), spectra.shape[2]))
    spectra[square] = spectra.mean(axis=(0, 1)) + noise
    return (images, spectra, axis), square


@pytest.mark.slow
def test_a_patch_of_noise_is_no_trap(film):
    shares, trapped = [], []
    for seed in range(3):
        noisy, square = with_noise(film, seed, amplitude=2.0)
        for weights, into in (("learnable", shares), ("error", trapped)):
            explorer = explored(noisy, seed, budget=90, n_seeds=20, weights=weights)
            pixels = np.array([o.pixel for o in explorer.observations])
            area = explorer.patches.flatten(square).mean()
            into.append(square[tuple(pixels.T)].mean() / area)
    assert np.mean(shares) < 1.5
    assert np.mean(trapped) > 1.2 * np.mean(shares)  # the plateau detector is what does it


def test_curious_learns_faster_than_random_pixels(film):
    spectra, errors = film[1], {}
    for name in ("curious", "random"):
        for seed in range(2):
            explorer = explored(film, seed, name=name, budget=80, patch_size=9)
            error = np.mean((explorer.predict().spectra - spectra) ** 2)
            errors.setdefault(name, []).append(error)
    assert np.mean(errors["curious"]) < 0.9 * np.mean(errors["random"])


def test_points_of_a_batch_do_not_tell_the_same(film):
    explorer = explored(film, budget=40, n_seeds=40)
    acquisition = explorer.maps()["acquisition"]
    best = np.argsort(-np.nan_to_num(acquisition).ravel())[:6]
    greedy = np.stack(np.unravel_index(best, acquisition.shape), axis=1)

    def crowding(pixels):
        apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
        return apart[np.triu_indices(len(pixels), 1)].min()

    more = Explorer(explorer.survey, explorer.strategy.replace(budget=60))
    for observation in explorer.observations:
        more.observe(observation)
    for decision in explorer.decisions:
        more.record(decision)
    together = np.array([proposal.pixel for proposal in more.propose(6)])
    assert crowding(together) > 3 > crowding(greedy)
    one_by_one = Explorer(explorer.survey, more.strategy)
    for observation in explorer.observations:
        one_by_one.observe(observation)
    for decision in explorer.decisions:
        one_by_one.record(decision)
    pixels = [one_by_one.propose()[0].pixel for _ in range(6)]  # none of them measured yet
    assert [tuple(p) for p in together] == pixels


def test_scores_are_in_the_units_of_the_spectra(film):
    images, spectra, axis = film
    micro = explored((images, spectra * 1e-6, axis), budget=35)
    explorer = explored(film, budget=35)
    assert [o.pixel for o in micro.observations] == [o.pixel for o in explorer.observations]
    plain, small = explorer.maps(), micro.maps()
    for name, power in (("error", 12), ("uncertainty", 6), ("acquisition", 12)):
        np.testing.assert_allclose(small[name] * 10.0**power, plain[name], rtol=0.01)
    inside = np.isfinite(plain["error"])
    truth = np.mean((explorer.predict().spectra - spectra)[inside] ** 2)
    assert 0.3 < plain["error"][inside].mean() / truth < 2


def test_a_large_survey_is_explored_through_a_pool(film):
    explorer = explored(film, budget=70, n_seeds=20, pool=60, patch_size=9)
    pixels = [o.pixel for o in explorer.observations]
    assert len(set(pixels)) == 70
    reasons = [d.reason for d in explorer.decisions]
    assert reasons.count("seed") == 20 and reasons.count("curious") == 40
    assert reasons[60:] == ["random"] * 10  # the pool is used up
    known = np.isfinite(explorer.maps()["error"])
    assert known.sum() == 60 and all(known[pixel] for pixel in pixels[:60])


# ---- when it is enough


@pytest.mark.quick("target_error-*")
@pytest.mark.parametrize(("limit", "word"), [("target_error", "target"), ("least_gain", "gain")])
def test_it_stops_when_it_is_enough_and_says_why(film, limit, word):
    value = {"target_error": 0.35, "least_gain": 0.01}[limit]
    explorer = explored(film, budget=200, n_seeds=20, **{limit: value})
    done, why = explorer.should_stop()
    assert done and why.startswith(word) and 20 <= explorer.n_observed < 200
    stricter = explored(film, budget=200, n_seeds=20, **{limit: value * 0.8})
    assert stricter.n_observed > explorer.n_observed
    assert explored(film, budget=25, n_seeds=20).should_stop()[1].startswith("budget")


@pytest.mark.parametrize("parameters", [{"target_error": 0}, {"least_gain": -1}, {"pool": 0}])
def test_limits_that_make_no_sense_are_refused(parameters):
    with pytest.raises(InputError, match=rf"curious: {next(iter(parameters))} is .*; expected"):
        Strategy.named("curious", **parameters)


# ---- regions that structure does not explain


@pytest.mark.slow
def test_a_region_of_other_spectra_is_flagged_and_nothing_else(film):
    images, spectra, axis = film
    odd = spectra.copy()
    rows, cols = np.mgrid[:40, :40]
    disc = (rows - 14) ** 2 + (cols - 26) ** 2 < 5**2
    odd[disc] = -4 * odd[disc]  # the image shows nothing of it
    for seed in range(2):
        explorer = explored((images, odd, axis), seed, budget=90)
        flag = explorer.flags()[0]
        assert abs(flag.x - 26) < 4 and abs(flag.y - 14) < 4 and 2 < flag.radius < 12
        assert flag.n_observed >= 3 and flag.excess > 6 and "look closer" in flag.remark
        assert "neighbours agree" in flag.remark and flag.learnable > 0.5
    plain = explored(film, budget=90).flags()
    assert len(plain) <= 1 and sum(flag.n_observed for flag in plain) < 6


def test_one_spoilt_spectrum_is_not_a_region(film):
    images, spectra, _axis = film
    explorer = explored(film, budget=50)
    spoilt = spectra.copy()
    spoilt[explorer.observations[40].pixel] += 300
    again = Explorer(Survey(images), explorer.strategy)
    for o in explorer.observations:
        again.observe(Observation(o.pixel, spoilt[o.pixel], decision_id=o.decision_id))
    assert again.flags() == explorer.flags()


@pytest.mark.skipif(
    not any(info.name == "artificial_defect_cAFM" for info in list_samples()),
    reason="the recordings are in the package mexpsimu, which is not installed",
)
@pytest.mark.parametrize("seed", [0, *slowly(1, 2)])
def test_the_planted_defect_is_found_and_flagged(seed):
    sample = arrays(open_sample("artificial_defect_cAFM"))
    # What stands out in the spectra, by a plain threshold.
    away = np.linalg.norm(sample[1] - np.median(sample[1], axis=(0, 1)), axis=2)
    planted = away > 20 * np.median(away)
    where = np.argwhere(planted).mean(axis=0)
    explorer = explored(sample, seed, budget=100)
    flag = explorer.flags()[0]
    assert np.hypot(flag.y - where[0], flag.x - where[1]) < flag.radius
    assert sum(bool(planted[o.pixel]) for o in explorer.observations) > 10


def test_a_barred_pixel_is_not_taken_for_a_measured_one(film):
    explorer = explored(film, budget=31, n_seeds=30)
    more = Explorer(explorer.survey, explorer.strategy.replace(budget=60))
    for observation in explorer.observations[:30]:
        more.observe(observation)
    for decision in explorer.decisions[:30]:
        more.record(decision)
    [proposal] = more.propose()
    more.fail(proposal, "no contact", bar=True)
    acquisition = more.maps()["acquisition"]
    for pixel in [proposal.pixel, *(o.pixel for o in more.observations)]:
        acquisition[pixel] = -1
    best = np.unravel_index(np.nanargmax(acquisition), acquisition.shape)
    # Nothing was learned at the barred pixel: what is best after it is still the best.
    assert more.propose()[0].pixel == best


def test_a_gap_in_every_spectrum_does_not_hide_that_it_is_enough(film):
    images, spectra, axis = film
    holed = spectra.copy()
    holed[:, :, 7] = np.nan
    limits = {"budget": 100, "n_seeds": 20, "target_error": 0.5}
    counts = [explored((images, s, axis), **limits).n_observed for s in (spectra, holed)]
    assert counts[0] < 100 and abs(counts[0] - counts[1]) < 10


def test_the_expected_error_holds_what_the_outputs_leave_out(film):
    images, spectra, axis = film
    rng = np.random.default_rng(0)
    noisy = spectra + spectra.std() * rng.normal(size=spectra.shape)  # in every component
    explorer = explored((images, noisy, axis), budget=60)
    inside = np.isfinite(explorer.maps()["error"])
    truth = np.mean((explorer.predict().spectra - noisy)[inside] ** 2)
    assert 0.6 < explorer.maps()["error"][inside].mean() / truth < 1.6


def test_a_search_for_hyper_parameters_can_be_broken_off(film):
    def stop(model, epoch, epochs):
        assert model == "Gaussian process" and 1 <= epoch <= epochs
        if epoch == 3:
            raise RuntimeError("nobody waits any more")

    explorer = explored(film, budget=31, n_seeds=30)
    broken = Explorer(explorer.survey, explorer.strategy, on_epoch=stop)
    for observation in explorer.observations[:30]:
        broken.observe(observation)
    with pytest.raises(RuntimeError, match="nobody waits"):
        broken.maps()
