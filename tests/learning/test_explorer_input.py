"""What the explorer can be given, and what it refuses in plain words."""

import dataclasses

import numpy as np
import pytest
from support import learning_alike

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy, Survey

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def with_gaps(spectra):
    gappy = spectra.copy()
    gappy[np.random.default_rng(0).random(spectra.shape) < 0.3] = np.nan
    gappy[..., 3] = np.nan  # never recorded
    return gappy


def with_infinities(spectra):
    return np.where(np.isnan(with_gaps(spectra)), np.inf, spectra)


TRUTHS = {
    "as it is": lambda s: s,
    "constant spectra": lambda s: np.full_like(s, 4.0),
    "zero spectra": np.zeros_like,
    "gaps": with_gaps,
    "infinities": with_infinities,
    "tiny": lambda s: s * 1e-12,
    "huge": lambda s: s * 1e12,
    "single points": lambda s: s[..., :1],
    "several channels": lambda s: np.concatenate([s, s**2, with_gaps(s)], axis=2),
}


@pytest.mark.quick("*-curious", "as it is-*")
@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
@pytest.mark.parametrize("kind", TRUTHS)
def test_spectra_of_any_kind_are_learned(name, kind, survey, cheap, drive, spectra):
    if name == "theory" and kind == "single points":
        pytest.skip("a single point is no loop; theory says so (tests/learning/test_theory.py)")
    truth = TRUTHS[kind](spectra)
    explorer = drive(Explorer(survey, cheap(name, budget=8)), truth=truth)
    predicted = explorer.predict().spectra
    assert explorer.n_observed == 8
    assert predicted.shape == truth.shape
    # Where no spectrum ever gave a number, a strategy may say that it knows nothing.
    ever = np.isfinite([o.spectrum for o in explorer.observations]).any(axis=0)
    candidates = ~explorer.reach.mask
    assert candidates.sum() == (80 if explorer.strategy.rim == "omit" else 14 * 12)
    assert np.isfinite(predicted[candidates][:, ever]).all()
    assert np.isnan(predicted[~candidates]).all()
    for values in explorer.maps().values():
        assert np.isfinite(values[candidates]).all() or np.isnan(values).all()


@pytest.mark.quick("*-curious", "constant-*")
@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
@pytest.mark.parametrize("kind", ["two channels", "constant", "one row of patches", "patches of 1"])
def test_images_of_any_kind_are_explored(name, kind, sample, cheap, drive):
    image, size = sample.images["amplitude"], 5
    channels = {
        "two channels": {"a": image, "b": image[::-1] * 1e6},
        "constant": {"a": np.full(sample.shape, 3.0)},
        "one row of patches": {"a": image[:5]},
        "patches of 1": {"a": image},
    }[kind]
    size = 1 if kind == "patches of 1" else 5
    strategy = cheap(name, budget=8, patch_size=size)  # all that one row has
    explorer = drive(Explorer(Survey(channels), strategy))
    assert len({d.pixel for d in explorer.decisions}) == explorer.n_observed == 8
    assert np.isfinite(explorer.predict().spectra[2, 2:-2]).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((15, 7), 3), ((13, 5), 1), ((4, 4), 4), ((1, 1), 1), ((9, 9), 9)]
)
def test_any_number_of_candidates_works(name, shape, size, cheap, drive):
    # 65 patches leave a last batch of one; a normalised batch of one value has no variance.
    rng = np.random.default_rng(0)
    strategy = cheap(name, patch_size=size, n_seeds=1, budget=min(3, shape[0] - size + 1))
    survey, truth = Survey({"a": rng.random(shape)}), rng.random((*shape, 8))
    explorer = drive(Explorer(survey, strategy), truth=truth)
    assert np.isfinite(explorer.predict().spectra).any()


@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
def test_masked_and_rim_pixels_are_accepted_and_never_learned_from(name, sample, cheap, drive):
    spectra = sample.target()
    mask = np.zeros(sample.shape, bool)
    mask[6:8] = True
    survey = Survey(sample.images, sample.x, sample.y, mask)
    plain, told = (drive(Explorer(survey, cheap(name, rim="omit")), 6) for _ in range(2))
    for number, pixel in enumerate([(6, 5), (7, 7), (0, 0), (13, 11), (0, 5)]):
        told.observe(Observation(pixel, spectra[pixel] + 1e3 * (1 + number)))
    assert told.n_observed == 11
    assert np.array_equal(told.predict().spectra, plain.predict().spectra, equal_nan=True)
    for key, values in told.maps().items():
        assert np.array_equal(values, plain.maps()[key], equal_nan=True)
    assert told.propose()[0].pixel == plain.propose()[0].pixel


@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
def test_a_pixel_that_nobody_proposed_is_learned_from(name, survey, cheap, drive, spectra):
    plain, told = (drive(Explorer(survey, cheap(name)), 6) for _ in range(2))
    pixel = next(p for p in [(6, 6), (7, 6)] if p not in {d.pixel for d in told.decisions})
    told.observe(Observation(pixel, spectra[pixel] + 50))
    assert not np.array_equal(told.predict().spectra, plain.predict().spectra, equal_nan=True)


def test_what_is_observed_is_copied(name, survey, cheap):
    explorer = Explorer(survey, cheap(name))
    spectrum = np.ones(16)
    explorer.observe(Observation((5, 5), spectrum))
    spectrum[:] = 7
    assert (explorer.observations[0].spectrum == 1).all()


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (Observation((5, 5), np.full(16, np.nan)), "no finite number"),
        (Observation((5, 5), np.full(16, np.inf)), "no finite number"),
        (Observation((5, 5), np.ones(15)), "15 points, those before have 16"),
        (Observation((5, 5), np.ones((4, 4))), r"shape \(4, 4\)"),
        (Observation((5, 5), np.ones(0)), "expected"),
        (Observation((14, 5), np.ones(16)), "outside the survey of 14 x 12"),
        (Observation((-1, 5), np.ones(16)), "outside"),
    ],
)
def test_spectra_that_cannot_be_used_are_refused(name, observation, said, survey, cheap):
    explorer = Explorer(survey, cheap(name))
    explorer.observe(Observation((4, 4), np.ones(16)))
    with pytest.raises(InputError, match=said):
        explorer.observe(observation)
    assert explorer.n_observed == 1


def test_decisions_that_cannot_be_are_refused(name, survey, cheap):
    explorer = Explorer(survey, cheap(name))
    decision = Proposal(0, (5, 5), *survey.position((5, 5)), "manual")
    explorer.record(decision)
    explorer.record(decision)
    with pytest.raises(InputError, match="number of its own"):
        explorer.record(dataclasses.replace(decision, pixel=(5, 6)))
    with pytest.raises(InputError, match="whim.*seed, curious, random, design, manual, repeat"):
        explorer.record(dataclasses.replace(decision, decision_id=1, reason="whim"))
    with pytest.raises(InputError, match="outside the survey"):
        explorer.record(dataclasses.replace(decision, decision_id=1, pixel=(14, 0)))
    assert len(explorer.decisions) == 1
    with pytest.raises(InputError, match="expected 1 or more"):
        explorer.propose(0)
    with pytest.raises(InputError, match="nothing was observed yet"):
        explorer.predict()


@pytest.mark.parametrize(
    ("parameters", "seed", "said"),
    [
        ({"patch_size": 13}, 0, "patch_size is 13.*14 x 12.*from 1 to 12"),
        ({"budget": 81, "rim": "omit"}, 0, "81 points.*only 80 pixels.*no patch of 5 fits"),
        ({"budget": 169, "rim": "reflect"}, 0, "169 points.*only 168 pixels.*less the masked ones"),
        ({}, -1, "seed is -1"),
        ({}, 2.5, "seed is 2.5"),
        ({}, "3", "seed is '3'"),
        ({}, None, "seed is None"),
    ],
)
def test_explorers_that_cannot_be_are_refused(name, parameters, seed, said, survey, cheap):
    with pytest.raises(InputError, match=said):
        Explorer(survey, cheap(name, **parameters), seed)


def test_a_mask_over_everything_is_refused(name, sample):
    survey = Survey(sample.images, mask=np.ones(sample.shape))
    with pytest.raises(InputError, match="no pixel to measure"):
        Explorer(survey, Strategy.named(name, patch_size=3))
