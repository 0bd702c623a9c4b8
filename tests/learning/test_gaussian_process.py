"""The Gaussian process, each promise against a computation of its own."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from curiosity_bluesky.learning import Patches, Survey
from curiosity_bluesky.learning.gp.kernel import (
    NAMES,
    PRIOR,
    RELEVANCE,
    Kernel,
    KernelInputs,
    principal_components,
)
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.records import TrainingData

# b, c, d, e, noise, window, patch length, alpha, position length, and two relevances
LOGS = (0.3, -0.7, -1.0, 0.2, -1.5, -0.2, 0.2, 0.4, -1.0, 0.5, -0.3)
KERNEL = Kernel(LOGS)
MEASURED = np.arange(0, 60, 4)
SIZE, GRID = 3, (10, 6)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def survey(rng):
    """Two channels of different size, 10 x 6 candidates."""
    channels = {"a": rng.normal(3, 1, (12, 8)), "b": 1e-9 * rng.normal(size=(12, 8))}
    return Survey(channels, np.arange(8) * 0.5, np.arange(12) * 0.5)


@pytest.fixture
def inputs(survey):
    return KernelInputs(Patches(survey, SIZE, "omit"))


def plain_covariance(logs, survey, rows, columns):
    """The formula of the module's documentation, one pair of candidates at a time."""
    b, c, d, e, _, width, length, alpha, reach = np.exp(logs[:9])
    relevance = np.exp(logs[9:]) / np.exp(logs[9:]).sum()
    middles = [image[1:-1, 1:-1] for image in survey.channels.values()]
    offsets = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    window = {o: np.exp(-(o[0] ** 2 + o[1] ** 2) / (2 * width**2)) for o in offsets}
    total = sum(window.values())

    def covariance(one, other):
        (r, s), (t, u) = divmod(one, GRID[1]), divmod(other, GRID[1])
        patch = level = 0.0
        for q, image, middle in zip(relevance, survey.channels.values(), middles, strict=True):
            for i, j in offsets:
                difference = image[r + 1 + i, s + 1 + j] - image[t + 1 + i, u + 1 + j]
                patch += q * window[i, j] / total * (difference / middle.std()) ** 2
            level += q * image[r + 1, s + 1] * image[t + 1, u + 1] / (middle**2).mean()
        apart = np.hypot(r - t, s - u) / 9  # the longer side has 10 candidates
        k_patch = (1 + patch / (2 * alpha * length**2)) ** -alpha
        k_position = np.exp(-apart / reach)
        k = k_patch + b * k_position + c * k_patch * k_position
        return k + (d + e * k_position) * level

    return np.array([[covariance(i, j) for j in columns] for i in rows])


def plain_objective(logs, survey, indices, outputs):
    """Negative log of marginal likelihood times prior, outputs weighed by their variance."""
    n = len(indices)
    noisy = plain_covariance(logs, survey, indices, indices)
    noisy += (np.exp(logs[4]) + 1e-6) * np.eye(n)
    scale = np.einsum("ik,ij,jk->k", outputs, np.linalg.inv(noisy), outputs) / n
    weight = (outputs**2).sum(axis=0) / (outputs**2).sum()
    mean, width = np.array([*PRIOR.values(), RELEVANCE, RELEVANCE]).T
    prior = (np.array(logs) - mean) / width
    fit = 0.5 * n * (weight * np.log(scale)).sum()
    return fit + 0.5 * np.linalg.slogdet(noisy)[1] + 0.5 * (prior**2).sum()


def test_mean_and_variance_are_those_of_a_plain_dense_computation(inputs, survey, rng):
    outputs = rng.normal(size=(len(MEASURED), 2))
    posterior = GPPosterior.after(KERNEL, inputs, MEASURED)
    everyone = np.arange(60)
    noise = (np.exp(LOGS[4]) + 1e-6) * np.eye(len(MEASURED))
    inverse = np.linalg.inv(plain_covariance(LOGS, survey, MEASURED, MEASURED) + noise)
    across = plain_covariance(LOGS, survey, everyone, MEASURED)
    np.testing.assert_allclose(posterior.mean(outputs, everyone), across @ inverse @ outputs)
    prior = np.diag(plain_covariance(LOGS, survey, everyone, everyone))
    expected = prior - np.diag(across @ inverse @ across.T)
    np.testing.assert_allclose(posterior.variance, expected)
    np.testing.assert_allclose(KERNEL.variance(inputs, everyone), prior)
    assert np.all(posterior.variance < prior)


def test_leave_one_out_in_closed_form_is_leaving_out(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 3))
    expected = []
    for k, index in enumerate(MEASURED):
        others = GPPosterior.after(KERNEL, inputs, np.delete(MEASURED, k))
        predicted = others.mean(np.delete(outputs, k, axis=0), np.array([index]))[0]
        expected.append(outputs[k] - predicted)
    closed = GPPosterior.after(KERNEL, inputs, MEASURED).leave_one_out(outputs)
    np.testing.assert_allclose(closed, expected, rtol=1e-7)


def test_errors_of_the_predictor_are_those_of_leaving_each_spectrum_out(inputs, rng):
    spectra = rng.normal(size=(len(MEASURED), 9)) * np.geomspace(3, 0.1, 9)
    predictor = GaussianProcessPredictor(inputs, outputs=4, refit_every=100, robust=False)
    observed = TrainingData(MEASURED, spectra)
    predictor.start(observed)
    mean = spectra.mean(axis=0)
    scores, axes = principal_components(spectra - mean, 4)
    expected = []
    for k, index in enumerate(MEASURED):
        others = GPPosterior.after(predictor.posterior.kernel, inputs, np.delete(MEASURED, k))
        score = others.mean(np.delete(scores, k, axis=0), np.array([index]))[0]
        expected.append(np.mean((mean + score @ axes - spectra[k]) ** 2))
    np.testing.assert_allclose(predictor.errors(observed), expected, rtol=1e-7)
    inside = np.mean((predictor.predict(MEASURED) - spectra) ** 2, axis=1)
    assert predictor.errors(observed).mean() > inside.mean()  # out of sample, honestly


@pytest.mark.slow
def test_the_search_finds_hyper_parameters_that_nothing_near_beats(inputs, survey, rng):
    covariance = plain_covariance(LOGS, survey, range(60), range(60))
    outputs = rng.multivariate_normal(np.zeros(60), covariance, size=2).T[MEASURED]
    found = Kernel.start(2).fitted(inputs, MEASURED, outputs)
    best = plain_objective(found.logs, survey, MEASURED, outputs)
    assert best < plain_objective(Kernel.start(2).logs, survey, MEASURED, outputs) - 0.1
    for _ in range(60):
        near = np.array(found.logs) + rng.normal(size=len(LOGS)) * 0.3
        assert plain_objective(near, survey, MEASURED, outputs) > best - 1e-3


def test_the_search_gives_the_same_bits_again_and_does_not_heed_the_units(inputs, rng):
    outputs = np.sin(3 * inputs.level[MEASURED]) + rng.normal(size=(len(MEASURED), 2)) * 0.1
    found = Kernel.start(2).fitted(inputs, MEASURED, outputs)
    assert Kernel.start(2).fitted(inputs, MEASURED, outputs).logs == found.logs
    tiny = Kernel.start(2).fitted(inputs, MEASURED, outputs * 1e-7)
    np.testing.assert_allclose(tiny.logs, found.logs, atol=0.02)


def test_what_is_fixed_is_not_searched(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 2))
    start = Kernel.start(2, window=False, level=False)
    found = start.fitted(inputs, MEASURED, outputs)
    for name in ("window", "level", "level_position"):
        assert found.logs[NAMES.index(name)] == start.logs[NAMES.index(name)]
    assert found.logs != start.logs
    weights = (start.features(inputs, np.arange(60)) ** 2).mean(axis=0)
    assert weights.max() < 3 * weights.min()  # all nine pixels of a patch
    np.testing.assert_allclose(start.variance(inputs, MEASURED), start.variance(inputs, [0])[0])


@pytest.fixture(scope="module")
def film():
    """Where image, patch and place are known to matter: two smooth channels of 26 x 26."""
    rng = np.random.default_rng(4)
    channels = {name: gaussian_filter(rng.normal(size=(26, 26)), 1.5) for name in ("a", "b")}
    return KernelInputs(Patches(Survey(channels), 7, "omit")), channels


@pytest.mark.slow
def test_the_search_tells_image_from_position_and_signal_from_noise(film, rng):
    inputs, _ = film
    many = np.arange(0, 400, 3)
    by_patch = np.sin(2 * inputs.windows(many)[:, :, 24])
    by_position = np.sin(6 * inputs.position[many])
    noise = rng.normal(size=by_patch.shape)
    position_share = [
        Kernel.start(2).fitted(inputs, many, y)["position"] for y in (by_patch, by_position)
    ]
    assert position_share[1] > 5 * position_share[0]
    errors = []
    for y in (by_patch, noise):
        posterior = GPPosterior.after(Kernel.start(2).fitted(inputs, many, y), inputs, many)
        errors.append(np.mean(posterior.leave_one_out(y) ** 2) / np.mean(y**2))
    assert errors[0] < 0.05
    assert 0.9 < errors[1] < 1.15  # of noise it says no more than the mean, and no less


def test_the_search_finds_the_channel_and_the_window_that_matter(film):
    inputs, _ = film
    many = np.arange(0, 400, 3)
    patches = inputs.windows(many)  # 7 x 7 pixels, the middle one is number 24
    middle = np.sin(3 * patches[:, 1, [24]])
    around = np.sin(3 * (patches[:, 1].mean(axis=1, keepdims=True)))
    narrow, wide = (Kernel.start(2).fitted(inputs, many, y) for y in (middle, around))
    for found in (narrow, wide):
        assert found.logs[-1] > found.logs[-2] + 1  # channel "b"
    assert narrow["window"] < 0.7 < 1.3 < wide["window"]


def test_the_level_carries_over_what_was_never_seen():
    # A response in proportion to the image, measured where the image is dark alone.
    image = np.tile(np.linspace(0.1, 2.0, 20), (20, 1))
    inputs = KernelInputs(Patches(Survey({"a": image}), 1))
    everyone = np.arange(400)
    dark = everyone[inputs.level[:, 0] < np.median(inputs.level)][::4]
    truth = inputs.level * [1.0, -2.0]
    errors = []
    for level in (True, False):
        kernel = Kernel.start(1, level=level).fitted(inputs, dark, truth[dark])
        predicted = GPPosterior.after(kernel, inputs, dark).mean(truth[dark], everyone)
        errors.append(np.mean((predicted - truth) ** 2) / truth.var())
    assert errors[0] < 0.01 < 0.1 < errors[1]


def test_one_observation_more_is_all_of_them_at_once(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED) + 1, 2))
    whole = GPPosterior.after(KERNEL, inputs, np.append(MEASURED, 7))
    grown = GPPosterior.after(KERNEL, inputs, MEASURED).condition_on(7)
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.precision, whole.precision, atol=1e-10)
    np.testing.assert_allclose(grown.leave_one_out(outputs), whole.leave_one_out(outputs))
    before = grown.variance[7]
    again = grown.condition_on(7)  # the same pixel once more
    assert np.isfinite(again.variance).all() and again.variance[7] < before


def test_a_posterior_that_has_grown_says_that_its_matrix_has_gone_on(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 2))
    posterior = GPPosterior.after(KERNEL, inputs, MEASURED)
    grown = posterior.condition_on(7)
    for ask in (
        lambda: posterior.precision,
        lambda: posterior.variance,
        lambda: posterior.condition_on(8),
        lambda: posterior.mean(outputs, np.arange(3)),
    ):
        with pytest.raises(RuntimeError, match="one observation more"):
            ask()
    for index in range(80):  # beyond the memory that it began with
        grown = grown.condition_on(index % 60)
    assert len(grown.precision) == len(MEASURED) + 81


def test_leaving_groups_out_is_leaving_them_out(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 3))
    posterior = GPPosterior.after(KERNEL, inputs, MEASURED)
    groups = np.array([[k, (k + 1) % 15, (k + 7) % 15] for k in range(15)])
    errors, variances = posterior.leave_groups_out(outputs, groups)
    for k, group in enumerate(groups):
        rest = np.delete(np.arange(15), group)
        others = GPPosterior.after(KERNEL, inputs, MEASURED[rest])
        expected = outputs[k] - others.mean(outputs[rest], MEASURED[[k]])[0]
        np.testing.assert_allclose(errors[k], expected, rtol=1e-7)
        variance = others.variance[MEASURED[k]] + KERNEL.noise
        assert variances[k] == pytest.approx(variance)
    alone = posterior.leave_groups_out(outputs, groups[:, :1])
    np.testing.assert_allclose(alone[0], posterior.leave_one_out(outputs))


def test_a_spoilt_spectrum_is_doubted_and_spoils_little(film):
    inputs, _ = film
    measured = np.arange(0, 400, 7)
    truth = np.sin(2 * inputs.windows(np.arange(400))[:, :, 24])
    spoilt = truth[measured].copy()
    spoilt[20] += 30
    errors = {}
    for robust in (True, False):
        predictor = GaussianProcessPredictor(inputs, robust=robust)
        predictor.start(TrainingData(measured, spoilt))
        errors[robust] = np.mean((predictor.predict() - truth) ** 2)
        noise = predictor.posterior.noise
        assert (noise.argmax() == 20) == robust
    assert errors[True] < 0.5 * errors[False]


def test_patches_keep_their_relative_distances_and_positions_their_shape(survey):
    inputs = KernelInputs(Patches(survey, SIZE, "omit"))
    flat = inputs.windows(np.arange(60)).reshape(60, -1)
    scaled = [c / c[1:-1, 1:-1].std() for c in survey.channels.values()]
    patches = Patches(Survey(dict(zip("ab", scaled, strict=True))), SIZE, "omit")
    wanted = np.stack([
        np.concatenate([c[i : i + 3, j : j + 3].ravel() for c in scaled])
        for i in range(10) for j in range(6)
    ])  # fmt: skip
    np.testing.assert_allclose(flat - flat[0], wanted - wanted[0], atol=1e-9)
    assert len(patches) == len(inputs)
    assert np.ptp(inputs.position, axis=0) == pytest.approx([5 / 9, 1])
    assert (inputs.level**2).mean(axis=0) == pytest.approx(1)


def test_hyper_parameters_are_searched_at_first_and_after_so_many_spectra(inputs, rng):
    predictor = GaussianProcessPredictor(inputs, outputs=3, refit_every=3)
    order, spectra = rng.permutation(60), rng.normal(size=(60, 5))
    searched = {4: predictor.start(TrainingData(order[:4], spectra[:4])).epochs}
    kernels = {4: predictor.posterior.kernel}
    for n in range(5, 12):
        searched[n] = predictor.update(TrainingData(order[:n], spectra[:n])).epochs
        kernels[n] = predictor.posterior.kernel
    assert [n for n, epochs in searched.items() if epochs] == [4, 7, 10]
    assert kernels[5] == kernels[6] == kernels[4] and kernels[8] == kernels[9] == kernels[7]
    assert kernels[7] != kernels[4]


def test_a_gap_disturbs_little_and_what_was_never_recorded_is_not_predicted(inputs, rng):
    shape = np.sin(np.linspace(0, 3, 8))
    spectra = 2 + np.outer(np.cos(inputs.level[:, 1]), shape)
    holed = spectra[MEASURED].copy()
    holed[2, 3] = holed[5, 6] = np.nan
    holed[:, 7] = np.nan
    predictor = GaussianProcessPredictor(inputs, outputs=4, refit_every=20)
    observed = TrainingData(MEASURED, holed)
    training = predictor.start(observed)
    predicted = predictor.predict()
    assert np.isnan(predicted[:, 7]).all() and np.isfinite(predicted[:, :7]).all()
    assert np.isfinite(predictor.errors(observed)).all() and np.isfinite(training.loss)
    whole = GaussianProcessPredictor(inputs, outputs=4, refit_every=20)
    whole.start(TrainingData(MEASURED, spectra[MEASURED]))
    difference = np.abs(predicted[:, :7] - whole.predict()[:, :7])
    assert np.median(difference) < 0.02 * spectra.std()


def test_a_constant_image_leaves_the_position_to_predict_from():
    rows, cols = np.mgrid[:10, :10]
    patches = Patches(Survey({"flat": np.full((10, 10), 7.3)}), 1)
    predictor = GaussianProcessPredictor(KernelInputs(patches), outputs=2)
    spectra = np.stack([rows.ravel(), cols.ravel()], axis=1).astype(float)
    predictor.start(TrainingData(np.arange(0, 100, 3), spectra[::3]))
    error = np.mean((predictor.predict() - spectra) ** 2) / spectra.var()
    assert error < 0.05
    assert np.isfinite(predictor.posterior.variance).all()


@pytest.mark.parametrize("value", [0.0, -3e-5, 1e9])
def test_constant_spectra_are_predicted_as_they_are(inputs, value):
    predictor = GaussianProcessPredictor(inputs, outputs=8, refit_every=20)
    observed = TrainingData(MEASURED, np.full((len(MEASURED), 6), value))
    predictor.start(observed)
    np.testing.assert_allclose(predictor.predict(), value, rtol=1e-12)
    np.testing.assert_allclose(predictor.errors(observed), 0, atol=1e-12 * value**2)
    assert (predictor.posterior.variance > 0).any()


def test_the_order_of_the_observations_is_of_no_account(inputs, rng):
    spectra = rng.normal(size=(len(MEASURED), 5))
    found = []
    for order in (np.arange(len(MEASURED)), rng.permutation(len(MEASURED))):
        predictor = GaussianProcessPredictor(inputs, outputs=3, refit_every=20)
        predictor.start(TrainingData(MEASURED[order], spectra[order]))
        found.append((predictor.predict(), predictor.posterior.variance))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
