"""A run that starts from an earlier one: state is data all the same, and it does no harm."""

import dataclasses
import functools

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, PriorRun, Proposal, Strategy, Survey
from sim_devices import SyntheticSample
from sim_devices.loops import bias_cycle

AXIS = bias_cycle(16, 10.0)
GAUSSIAN = [n for n in Strategy.names() if Strategy.named(n).supports_warm_start]
QUICK = ("curious", "random")
SEEDS = range(3)


def earlier_on(sample, n=40, **changed):
    """An earlier run that measured some pixels of a film."""
    rng = np.random.default_rng(1)
    inner = np.argwhere(np.ones((sample.shape[0] - 4, sample.shape[1] - 4), bool)) + 2
    pixels = rng.permutation(inner)[:n]
    known = {
        "uid": "earlier",
        "survey": Survey(sample.images, sample.x, sample.y),
        "pixels": pixels,
        "spectra": sample.target()[tuple(pixels.T)],
        "axis": AXIS,
    }
    return PriorRun(**{**known, **changed})


@pytest.fixture(scope="module")
def other():
    """Another film of the same kind."""
    return SyntheticSample((20, 20), seed=7, points=16)


@pytest.fixture(scope="module")
def earlier(other):
    return earlier_on(other)


def test_which_strategies_can_start_from_an_earlier_run():
    assert "curious" in GAUSSIAN and "random" in GAUSSIAN
    assert "theory" not in GAUSSIAN and "vatsavai2025-latent" not in GAUSSIAN
    assert not Strategy.named("random", predictor="im2spec").supports_warm_start


@pytest.fixture(scope="module")
def uninterrupted(survey, cheap, drive, earlier):
    """Return the run of a strategy to its end, which tests only read."""

    @functools.cache
    def run(name):
        return drive(Explorer(survey, cheap(name), seed=5, earlier=earlier))

    return run


@pytest.mark.quick("2-curious", "7-random")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in GAUSSIAN]
)
@pytest.mark.parametrize("half", [2, 7])
def test_a_run_rebuilt_half_way_goes_on_bit_for_bit(
    name, half, uninterrupted, drive, exactly, earlier
):
    whole = uninterrupted(name)
    after = Explorer(whole.survey, whole.strategy, seed=5, earlier=earlier)
    before = [*whole.observations[:half], *whole.decisions[:half]]
    for item in before[::-1]:  # in another order
        (after.record if isinstance(item, Proposal) else after.observe)(item)
    drive(after)
    assert exactly(*after.decisions) == exactly(*whole.decisions)
    assert np.array_equal(after.predict().spectra, whole.predict().spectra, equal_nan=True)


def error(explorer, truth):
    patches = explorer.patches
    difference = patches.flatten(explorer.predict().spectra) - patches.flatten(truth)
    return float((difference**2).mean())


def explored(seed, earlier, drive, n=12):
    """Error on a film of 24 x 24 after so many spectra."""
    film = SyntheticSample((24, 24), seed=seed, points=16)
    survey = Survey(film.images, film.x, film.y)
    strategy = Strategy.named("curious", patch_size=5, n_seeds=10, budget=n)
    explorer = Explorer(survey, strategy, seed, earlier=earlier)
    return error(drive(explorer, truth=film.target()), film.target())


@pytest.fixture(scope="module")
def cold(drive):
    return np.array([explored(seed, None, drive) for seed in SEEDS])


def test_an_earlier_run_on_the_same_material_is_worth_many_spectra(cold, drive):
    like = earlier_on(SyntheticSample((40, 40), seed=9, points=16), 100)
    warm = np.array([explored(seed, like, drive) for seed in SEEDS])
    assert (warm < cold).all() and (warm / cold).mean() < 0.8


def test_an_earlier_run_that_says_nothing_does_little_harm(cold, drive):
    film = earlier_on(SyntheticSample((40, 40), seed=9, points=16), 100)
    rng = np.random.default_rng(0)
    useless = dataclasses.replace(film, spectra=rng.permutation(film.spectra))
    warm = np.array([explored(seed, useless, drive) for seed in SEEDS])
    assert np.exp(np.log(warm / cold).mean()) < 1.1


def test_an_earlier_run_with_constant_spectra_or_image_changes_nothing(survey, cheap, drive):
    film = SyntheticSample((20, 20), seed=7, points=16)
    flat = earlier_on(film, spectra=np.ones((40, 16)))
    nothing = drive(Explorer(survey, cheap("curious"), seed=5))
    told = drive(Explorer(survey, cheap("curious"), seed=5, earlier=flat))
    assert [p.pixel for p in told.decisions] == [p.pixel for p in nothing.decisions]
    blank = Survey({"amplitude": np.ones((20, 20))}, film.x, film.y)
    blind = drive(Explorer(survey, cheap("curious"), earlier=earlier_on(film, survey=blank)))
    assert np.isfinite(blind.predict().spectra[5:-5, 5:-5]).all()


def test_gaps_in_the_earlier_spectra_are_no_obstacle(survey, cheap, drive, earlier):
    spectra = earlier.spectra.copy()
    spectra[::3, 4] = np.nan
    spectra[:, 9] = np.nan
    gappy = dataclasses.replace(earlier, spectra=spectra)
    explorer = drive(Explorer(survey, cheap("curious"), earlier=gappy))
    assert np.isfinite(explorer.predict().spectra[5:-5, 5:-5]).all()


def test_patches_show_the_same_um_whatever_the_pixels(drive, cold):
    """The same film at half the pixel size, then and now, is worth as much as the film itself."""
    film = SyntheticSample((40, 40), seed=9, points=16)
    plain = earlier_on(film, 100)
    finer = {name: np.kron(image, np.ones((2, 2))) for name, image in film.images.items()}
    x, y = (np.arange(80) * 0.01 - 0.005 for _ in range(2))
    fine = dataclasses.replace(plain, survey=Survey(finer, x, y), pixels=2 * plain.pixels)
    warm = np.array([explored(seed, fine, drive) for seed in SEEDS])
    assert (warm / cold).mean() < 0.9


def test_the_axes_have_to_be_the_same(survey, cheap, spectra, earlier):
    explorer = Explorer(survey, cheap("curious"), earlier=earlier)
    good = spectra[5, 5]
    explorer.observe(Observation((5, 5), good, axis=AXIS + 1e-4))
    with pytest.raises(InputError, match="8 points, those of run earlier have 16"):
        explorer.observe(Observation((6, 6), good[:8]))
    with pytest.raises(InputError, match="differs by up to 1 from that of run earlier"):
        explorer.observe(Observation((6, 6), good, axis=AXIS + 1))


@pytest.mark.parametrize("name", ["vatsavai2025-latent", "theory", "random"])
def test_a_strategy_without_a_gaussian_process_on_spectra_says_so(name, survey, cheap, earlier):
    strategy = cheap(name, **({"predictor": "im2spec"} if name == "random" else {}))
    with pytest.raises(InputError, match="cannot start from an earlier run: only strategies whose"):
        Explorer(survey, strategy, earlier=earlier)


def test_what_cannot_be_compared_is_refused(survey, cheap, other, earlier):
    def refused(match, **changed):
        with pytest.raises(InputError, match=match):
            Explorer(survey, cheap("curious"), earlier=dataclasses.replace(earlier, **changed))

    images = {"height": other.images["amplitude"]}
    refused("has no survey channel amplitude, only height", survey=Survey(images))
    coarse = Survey(other.images, other.x * 10, other.y * 10)
    refused("0.1 x 0.1 times those of run earlier; expected at most 4", survey=coarse)
    few = {"pixels": earlier.pixels[:9], "spectra": earlier.spectra[:9]}
    refused("has 9 good spectra; expected 10 or more", **few)
