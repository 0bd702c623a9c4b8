"""The Gaussian process, each promise against a computation of its own."""

import numpy as np
import pytest

from curiosity_bluesky.learning import Patches, Survey
from curiosity_bluesky.learning.gaussian_process import (
    PRIOR_MEAN,
    PRIOR_WIDTH,
    Inputs,
    Kernel,
    Posterior,
    principal_components,
)
from curiosity_bluesky.learning.gp_predictor import GaussianProcessPredictor, gp_inputs
from curiosity_bluesky.learning.records import Observed

LOGS = (0.3, -0.7, -1.5, 0.2, 0.4, -1.0)
MEASURED = np.arange(0, 60, 4)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def inputs(rng):
    return Inputs(rng.normal(size=(60, 3)) / np.sqrt(3), rng.random((60, 2)))


def plain_kernel(logs, one, other):
    """The formula of the documentation, one pair of candidates at a time."""
    b, c, _, length, alpha, reach = np.exp(logs)
    (patch, position), (patch_2, position_2) = one, other
    d_patch = sum((p - q) ** 2 for p, q in zip(patch, patch_2, strict=True))
    d_position = np.sqrt(sum((p - q) ** 2 for p, q in zip(position, position_2, strict=True)))
    k_patch = (1 + d_patch / (2 * alpha * length**2)) ** -alpha
    k_position = np.exp(-d_position / reach)
    return k_patch + b * k_position + c * k_patch * k_position


def plain_covariance(logs, inputs, rows, columns):
    places = list(zip(inputs.patch, inputs.position, strict=True))
    return np.array([[plain_kernel(logs, places[i], places[j]) for j in columns] for i in rows])


def plain_objective(logs, inputs, indices, outputs):
    """Negative log of marginal likelihood times prior, outputs weighed by their variance."""
    n = len(indices)
    noisy = plain_covariance(logs, inputs, indices, indices)
    noisy += (np.exp(logs[2]) + 1e-6) * np.eye(n)
    scale = np.einsum("ik,ij,jk->k", outputs, np.linalg.inv(noisy), outputs) / n
    weight = (outputs**2).sum(axis=0) / (outputs**2).sum()
    prior = (np.array(logs) - np.array(list(PRIOR_MEAN.values()))) / PRIOR_WIDTH
    fit = 0.5 * n * (weight * np.log(scale)).sum()
    return fit + 0.5 * np.linalg.slogdet(noisy)[1] + 0.5 * (prior**2).sum()


def test_mean_and_variance_are_those_of_a_plain_dense_computation(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 2))
    posterior = Posterior(Kernel(LOGS), inputs, MEASURED)
    everyone = np.arange(60)
    noise = (np.exp(LOGS[2]) + 1e-6) * np.eye(len(MEASURED))
    inverse = np.linalg.inv(plain_covariance(LOGS, inputs, MEASURED, MEASURED) + noise)
    across = plain_covariance(LOGS, inputs, everyone, MEASURED)
    np.testing.assert_allclose(posterior.mean(outputs, everyone), across @ inverse @ outputs)
    prior = np.diag(plain_covariance(LOGS, inputs, everyone, everyone))
    expected = prior - np.diag(across @ inverse @ across.T)
    np.testing.assert_allclose(posterior.variance, expected)
    assert np.all(posterior.variance < Kernel(LOGS).variance)


def test_leave_one_out_in_closed_form_is_leaving_out(inputs, rng):
    outputs = rng.normal(size=(len(MEASURED), 3))
    kernel = Kernel(LOGS)
    expected = []
    for k, index in enumerate(MEASURED):
        others = Posterior(kernel, inputs, np.delete(MEASURED, k))
        predicted = others.mean(np.delete(outputs, k, axis=0), np.array([index]))[0]
        expected.append(outputs[k] - predicted)
    closed = Posterior(kernel, inputs, MEASURED).leave_one_out(outputs)
    np.testing.assert_allclose(closed, expected, rtol=1e-7)


def test_errors_of_the_predictor_are_those_of_leaving_each_spectrum_out(inputs, rng):
    spectra = rng.normal(size=(len(MEASURED), 9)) * np.geomspace(3, 0.1, 9)
    predictor = GaussianProcessPredictor(inputs, outputs=4, refit_every=100)
    observed = Observed(MEASURED, spectra)
    predictor.start(observed)
    mean = spectra.mean(axis=0)
    scores, axes = principal_components(spectra - mean, 4)
    expected = []
    for k, index in enumerate(MEASURED):
        others = Posterior(predictor.posterior.kernel, inputs, np.delete(MEASURED, k))
        score = others.mean(np.delete(scores, k, axis=0), np.array([index]))[0]
        expected.append(np.mean((mean + score @ axes - spectra[k]) ** 2))
    np.testing.assert_allclose(predictor.errors(observed), expected, rtol=1e-7)
    inside = np.mean((predictor.predict(MEASURED) - spectra) ** 2, axis=1)
    assert predictor.errors(observed).mean() > inside.mean()  # out of sample, honestly


def test_the_search_finds_hyper_parameters_that_nothing_near_beats(inputs, rng):
    outputs = rng.multivariate_normal(
        np.zeros(60), plain_covariance(LOGS, inputs, range(60), range(60)), size=2
    ).T[MEASURED]
    found = Kernel().fitted(inputs, MEASURED, outputs)
    best = plain_objective(found.logs, inputs, MEASURED, outputs)
    assert best < plain_objective(Kernel().logs, inputs, MEASURED, outputs) - 0.1
    for _ in range(60):
        near = np.array(found.logs) + rng.normal(size=6) * 0.3
        assert plain_objective(near, inputs, MEASURED, outputs) > best - 1e-3


def test_the_search_gives_the_same_bits_again_and_does_not_heed_the_units(inputs, rng):
    outputs = np.sin(3 * inputs.patch[MEASURED, :2]) + rng.normal(size=(len(MEASURED), 2)) * 0.1
    found = Kernel().fitted(inputs, MEASURED, outputs)
    assert Kernel().fitted(inputs, MEASURED, outputs).logs == found.logs
    tiny = Kernel().fitted(inputs, MEASURED, outputs * 1e-7)
    np.testing.assert_allclose(tiny.logs, found.logs, atol=0.02)


def test_the_search_tells_image_from_position_and_signal_from_noise(rng):
    many = np.arange(0, 200, 2)
    inputs = Inputs(rng.normal(size=(200, 2)) / np.sqrt(2), rng.random((200, 2)))
    by_patch = np.sin(2 * inputs.patch[many])
    by_position = np.sin(6 * inputs.position[many])
    noise = rng.normal(size=(100, 2))
    position_share = [
        np.exp(Kernel().fitted(inputs, many, y).logs[0]) for y in (by_patch, by_position)
    ]
    assert position_share[1] > 5 * position_share[0]
    errors = []
    for y in (by_patch, noise):
        posterior = Posterior(Kernel().fitted(inputs, many, y), inputs, many)
        errors.append(np.mean(posterior.leave_one_out(y) ** 2) / np.mean(y**2))
    assert errors[0] < 0.02
    assert 0.9 < errors[1] < 1.15  # of noise it says no more than the mean, and no less


def test_patches_keep_their_relative_distances_and_positions_their_shape(rng):
    image = rng.random((12, 9)) ** 3
    patches = Patches(Survey({"a": image}, np.arange(9) * 0.5, np.arange(12) * 0.5), 3)
    inputs = gp_inputs(patches, components=9)
    flat = patches.images().reshape(len(patches), -1).astype(float)
    wanted = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    given = np.linalg.norm(inputs.patch[:, None] - inputs.patch[None], axis=2)
    scale = given.sum() / wanted.sum()
    np.testing.assert_allclose(given, scale * wanted, atol=1e-4)
    assert np.mean((inputs.patch**2).sum(axis=1)) == pytest.approx(1)
    assert np.ptp(inputs.position, axis=0) == pytest.approx([6 / 9, 1])  # 7 x 10 candidates


def test_hyper_parameters_are_searched_at_first_and_after_so_many_spectra(inputs, rng):
    predictor = GaussianProcessPredictor(inputs, outputs=3, refit_every=3)
    order, spectra = rng.permutation(60), rng.normal(size=(60, 5))
    searched = {4: predictor.start(Observed(order[:4], spectra[:4])).epochs}
    kernels = {4: predictor.posterior.kernel}
    for n in range(5, 12):
        searched[n] = predictor.update(Observed(order[:n], spectra[:n])).epochs
        kernels[n] = predictor.posterior.kernel
    assert [n for n, epochs in searched.items() if epochs] == [4, 7, 10]
    assert kernels[5] == kernels[6] == kernels[4] and kernels[8] == kernels[9] == kernels[7]
    assert kernels[7] != kernels[4]


def test_a_gap_disturbs_little_and_what_was_never_recorded_is_not_predicted(inputs, rng):
    shape = np.sin(np.linspace(0, 3, 8))
    spectra = 2 + np.outer(np.cos(2 * inputs.patch[:, 0]), shape)
    holed = spectra[MEASURED].copy()
    holed[2, 3] = holed[5, 6] = np.nan
    holed[:, 7] = np.nan
    predictor = GaussianProcessPredictor(inputs, outputs=4, refit_every=20)
    observed = Observed(MEASURED, holed)
    training = predictor.start(observed)
    predicted = predictor.predict()
    assert np.isnan(predicted[:, 7]).all() and np.isfinite(predicted[:, :7]).all()
    assert np.isfinite(predictor.errors(observed)).all() and np.isfinite(training.loss)
    whole = GaussianProcessPredictor(inputs, outputs=4, refit_every=20)
    whole.start(Observed(MEASURED, spectra[MEASURED]))
    difference = np.abs(predicted[:, :7] - whole.predict()[:, :7])
    assert np.median(difference) < 0.02 * spectra.std()


def test_a_constant_image_leaves_the_position_to_predict_from():
    rows, cols = np.mgrid[:10, :10]
    patches = Patches(Survey({"flat": np.full((10, 10), 7.3)}), 1)
    predictor = GaussianProcessPredictor(gp_inputs(patches, 12), outputs=2, refit_every=20)
    spectra = np.stack([rows.ravel(), cols.ravel()], axis=1).astype(float)
    predictor.start(Observed(np.arange(0, 100, 3), spectra[::3]))
    error = np.mean((predictor.predict() - spectra) ** 2) / spectra.var()
    assert error < 0.05
    assert np.isfinite(predictor.posterior.variance).all()


@pytest.mark.parametrize("value", [0.0, -3e-5, 1e9])
def test_constant_spectra_are_predicted_as_they_are(inputs, value):
    predictor = GaussianProcessPredictor(inputs, outputs=8, refit_every=20)
    observed = Observed(MEASURED, np.full((len(MEASURED), 6), value))
    predictor.start(observed)
    np.testing.assert_allclose(predictor.predict(), value, rtol=1e-12)
    np.testing.assert_allclose(predictor.errors(observed), 0, atol=1e-12 * value**2)
    assert (predictor.posterior.variance > 0).any()


def test_the_order_of_the_observations_is_of_no_account(inputs, rng):
    spectra = rng.normal(size=(len(MEASURED), 5))
    found = []
    for order in (np.arange(len(MEASURED)), rng.permutation(len(MEASURED))):
        predictor = GaussianProcessPredictor(inputs, outputs=3, refit_every=20)
        predictor.start(Observed(MEASURED[order], spectra[order]))
        found.append((predictor.predict(), predictor.posterior.variance))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
