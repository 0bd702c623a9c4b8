"""A loop fit in place of the network."""

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from curiosity_bluesky.learning.loop_fit import PARAMETERS, fit_loop, loops, rising_branch
from sim_devices import SyntheticSample
from sim_devices.loops import bias_cycle

BIAS = bias_cycle(64, 10.0)


def test_the_branch_goes_by_the_direction_of_the_bias():
    assert rising_branch(np.array([0, 1, 1, 2, 1, 1, 0, -1, -1, 0])).tolist() == (
        [True] * 4 + [False] * 5 + [True]
    )
    assert rising_branch(np.array([3.0, 3.0, 2.0])).tolist() == [False] * 3
    assert rising_branch(np.zeros(4)).all()


@pytest.mark.parametrize("size", [1.0, 3e-7])
def test_a_loop_gives_its_parameters_back(size):
    rng = np.random.default_rng(0)
    for _ in range(5):
        up, down = rng.uniform(1, 5), rng.uniform(-5, -1)
        truth = [rng.normal() * size, 0.05 * size, (1 + rng.random()) * size, up, down, -0.3]
        spectrum = loops(BIAS, np.array([truth]))[0]
        found = fit_loop(BIAS, spectrum)
        np.testing.assert_allclose(found, truth, rtol=0.01, atol=0.01 * size)
        noisy = spectrum + 0.02 * size * rng.normal(size=64)
        noisy[[5, 40]] = np.nan
        found = fit_loop(BIAS, noisy)
        np.testing.assert_allclose(found[3:5], truth[3:5], atol=0.3)


@pytest.mark.parametrize("spectrum", [np.zeros(64), np.full(64, 1e-12), np.arange(64.0)])
def test_what_is_no_loop_is_fitted_as_well_as_can_be(spectrum):
    found = fit_loop(BIAS, spectrum)
    assert found.shape == (len(PARAMETERS),) and np.isfinite(found).all()
    error = np.mean((loops(BIAS, found[None])[0] - spectrum) ** 2)
    assert error <= spectrum.var() + 1e-30


def test_it_measures_where_theory_fails():
    film = SyntheticSample((32, 32), points=64)
    spectra = film.target().copy()
    odd = np.zeros(film.shape, bool)
    odd[6:18, 14:26] = True
    spectra[odd] += 8 * np.cos(film.axis)  # no loop has ripples
    strategy = Strategy.named("theory", patch_size=5, n_seeds=20, budget=70)
    shares = []
    for seed in range(2):
        explorer = Explorer(Survey(film.images), strategy, seed)
        while not explorer.should_stop()[0]:
            [proposal] = explorer.propose()
            pixel, number = proposal.pixel, proposal.decision_id
            explorer.observe(Observation(pixel, spectra[pixel], decision_id=number, axis=film.axis))
        pixels = np.array([d.pixel for d in explorer.decisions if d.reason == "curious"])
        shares.append(odd[tuple(pixels.T)].mean() / explorer.patches.flatten(odd).mean())
        error = explorer.maps()["error"]
        assert np.nanmean(error[odd]) > 3 * np.nanmean(error[~odd])
        predicted = explorer.predict().spectra[8:16, 16:24]
        assert np.mean(np.abs(predicted - film.target()[8:16, 16:24])) < 8  # still a loop
    assert np.mean(shares) > 1.5


def test_without_a_bias_axis_it_says_what_is_missing():
    explorer = Explorer(
        Survey({"a": np.random.default_rng(0).random((12, 12))}),
        Strategy.named("theory", patch_size=3, n_seeds=2),
    )
    for proposal in explorer.propose(2):
        explorer.observe(Observation(proposal.pixel, np.arange(8.0)))
    with pytest.raises(InputError, match=r"'theory' fits a loop along the bias.*axis="):
        explorer.propose()


def test_an_axis_that_never_turns_back_is_no_bias():
    survey = Survey({"a": np.random.default_rng(0).random((12, 12))})
    explorer = Explorer(survey, Strategy.named("theory", patch_size=3, n_seeds=2))
    for proposal in explorer.propose(2):
        spectrum, axis = np.arange(8.0), np.linspace(400, 800, 8)
        explorer.observe(Observation(proposal.pixel, spectrum, axis=axis))
    with pytest.raises(InputError, match=r"only goes from 400 to 800; expected a bias"):
        explorer.propose()
