"""Draws of spectra: from the posterior where there is one, like the deviation, and reproducible."""

import numpy as np
import pytest

from curiosity_bluesky.learning import Explorer

ROW = 6


@pytest.fixture(scope="module")
def explorer(survey, cheap, drive):
    return drive(Explorer(survey, cheap("curious"), seed=1), 10)


def test_draws_have_mean_and_deviation_of_the_prediction(explorer):
    prediction = explorer.predict()
    drawn = explorer.draws(4000, ROW)
    inside = ~np.isnan(prediction.spectra[ROW]).all(axis=-1)
    np.testing.assert_array_equal(np.isnan(drawn).all(axis=(0, 2)), ~inside)
    deviation = prediction.deviation[ROW, inside]
    # A mean of 4000 is good to 1.6 % of the deviation, a standard deviation to 1.1 %.
    off = np.abs(drawn[:, inside].mean(axis=0) - prediction.spectra[ROW, inside])
    assert (off < 5 * deviation / np.sqrt(4000)).all()
    np.testing.assert_allclose(drawn[:, inside].std(axis=0), deviation, rtol=0.07)


def test_a_drawn_spectrum_moves_as_a_whole_and_its_neighbour_by_itself(explorer):
    drawn = explorer.draws(2000, ROW)[:, 4:6]
    along = np.corrcoef(drawn[:, 0].T)
    across = np.corrcoef(drawn[:, 0, 5], drawn[:, 1, 5])[0, 1]
    assert np.abs(along[~np.eye(len(along), dtype=bool)]).max() > 0.8
    assert abs(across) < 0.1  # four standard errors of none


def test_the_same_seed_gives_the_same_draws(explorer):
    first = explorer.draws(3, ROW, seed=5)
    np.testing.assert_array_equal(explorer.draws(3, ROW, seed=5), first)
    assert not np.array_equal(explorer.draws(3, ROW, seed=6), first, equal_nan=True)
    assert not np.array_equal(explorer.draws(3, ROW + 1, seed=5), first, equal_nan=True)


def test_the_loops_of_a_theory_are_drawn_by_their_parameters(survey, cheap, drive):
    explorer = drive(Explorer(survey, cheap("theory"), seed=1), 8)
    drawn, predicted = explorer.draws(400, ROW), explorer.predict()
    inside = ~np.isnan(predicted.spectra[ROW]).all(axis=-1)
    ratio = drawn[:, inside].std(axis=0) / predicted.deviation[ROW, inside]
    assert 0.5 < np.median(ratio) < 1.5  # the deviation is linear in the parameters, draws are not


def test_there_are_none_without_a_posterior_or_without_spectra(survey, cheap, drive):
    explorer = Explorer(survey, cheap("vatsavai2025-latent"), seed=1)
    assert drive(explorer, 7).draws(2, ROW) is None
    assert Explorer(survey, cheap("curious"), seed=1).draws(2, ROW) is None
