"""The baselines, each against its definition worked out by hand."""

import sys

import numpy as np
import pytest
from scipy.stats import norm, qmc
from sklearn.decomposition import PCA

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.cli import main
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Patches, Strategy, Survey
from curiosity_bluesky.learning.gp.kernel import KernelInputs
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.records import TrainingData
from curiosity_bluesky.learning.strategies.dkl import scalar
from curiosity_bluesky.learning.strategies.lcmd import LargestCluster
from sim_devices import SyntheticSample


def pixels_of(name, shape, budget, seed=0, mask=None, image=None, **parameters):
    """Where a strategy measures, without a spectrum that matters."""
    image = np.random.default_rng(3).random(shape) if image is None else image
    strategy = Strategy.named(name, budget=budget, n_seeds=4, **{"patch_size": 1, **parameters})
    explorer = Explorer(Survey({"a": image}, mask=mask), strategy, seed)
    while not explorer.should_stop()[0]:
        for proposal in explorer.propose():
            explorer.observe(Observation(proposal.pixel, np.zeros(3)))
    return np.array([decision.pixel for decision in explorer.decisions])


def reach(pixels, shape):
    """Distance of the pixel that is farthest from all of these."""
    everywhere = np.argwhere(np.ones(shape))
    return np.linalg.norm(everywhere[:, None] - pixels[None], axis=2).min(axis=1).max()


# ---- grid


@pytest.mark.parametrize(
    ("shape", "budget", "cell"), [((20, 20), 25, (4, 4)), ((30, 10), 12, (5, 5)), ((9, 9), 81, 1)]
)
def test_the_grid_has_one_point_in_each_cell(shape, budget, cell):
    pixels = pixels_of("grid", shape, budget)
    assert len({tuple(p) for p in pixels // cell}) == budget
    # A cell's diagonal, since the grid may begin at any corner of it.
    assert reach(pixels, shape) <= np.hypot(*np.broadcast_to(cell, 2)) + np.sqrt(0.5)


def test_the_seed_shifts_the_whole_grid():
    grids = [pixels_of("grid", (20, 20), 25, seed) for seed in range(4)]
    for pixels in grids:
        # The same in every cell, to the rounding to whole pixels.
        assert np.ptp(pixels % 4, axis=0).max() == 0
    assert len({tuple(pixels[0] % 4) for pixels in grids}) > 1


@pytest.mark.parametrize(("shape", "budget"), [((25, 40), 37), ((14, 12), 50), ((40, 8), 23)])
def test_a_grid_that_does_not_come_out_even_still_leaves_no_hole(shape, budget):
    pixels = pixels_of("grid", shape, budget)
    random = [reach(pixels_of("random", shape, budget, seed), shape) for seed in range(5)]
    side = np.sqrt(shape[0] * shape[1] / budget)
    assert reach(pixels, shape) <= 1.5 * side + 1
    assert reach(pixels, shape) < np.mean(random)


def test_the_grid_is_visited_far_apart_nodes_first():
    pixels = pixels_of("grid", (15, 15), 25)
    assert np.ptp(pixels % 3, axis=0).max() == 0
    for k in range(1, 24):
        done, ahead = pixels[:k], pixels[k:]
        nearest = np.linalg.norm(ahead[:, None] - done[None], axis=2).min(axis=1)
        assert nearest[0] == nearest.max()
    in_reading_order = np.array(sorted(map(tuple, pixels)))
    assert reach(pixels[:9], (15, 15)) < 0.7 * reach(in_reading_order[:9], (15, 15))


def test_a_node_that_may_not_be_measured_moves_to_a_neighbour():
    plain = {tuple(p) for p in pixels_of("grid", (15, 15), 25)}
    mask = np.zeros((15, 15), bool)
    first, second = sorted(plain)[12], sorted(plain)[1]
    mask[first] = mask[second] = True
    moved = {tuple(p) for p in pixels_of("grid", (15, 15), 25, mask=mask)}
    assert len(moved) == 25 and plain - moved == {first, second}
    for place in moved - plain:
        assert min(np.abs(np.subtract(place, node)).sum() for node in (first, second)) == 1


# ---- sobol


def test_sobol_fills_the_area_more_evenly_than_random_pixels_do():
    def unevenness(name, seed):
        pixels = pixels_of(name, (64, 64), 64, seed)
        return qmc.discrepancy((pixels + 0.5) / 64)

    sobol = [unevenness("sobol", seed) for seed in range(4)]
    random = [unevenness("random", seed) for seed in range(10)]
    assert max(sobol) < 0.5 * min(random)
    assert len(set(sobol)) == 4  # scrambled by the seed


def test_sobol_is_even_at_every_length():
    pixels = pixels_of("sobol", (64, 64), 64, seed=2)
    for n in (4, 8, 16, 32, 64):  # each quarter of the area has a quarter of the points
        quarters = (pixels[:n] // 32) @ (2, 1)
        assert (np.bincount(quarters, minlength=4) == n // 4).all()


# ---- farthest


@pytest.mark.parametrize("space", ["position", "patch"])
def test_farthest_takes_the_pixel_that_is_farthest_from_all_before(space):
    rng = np.random.default_rng(5)
    image = rng.random((11, 13)) ** 2
    mask = rng.random((11, 13)) < 0.2
    parameters = {"space": space, "patch_size": 3, "rim": "omit"}
    pixels = pixels_of("farthest", (11, 13), 30, mask=mask, image=image, **parameters)
    if space == "patch":

        def place(row, col):
            return image[row - 1 : row + 2, col - 1 : col + 2].ravel()
    else:

        def place(row, col):
            return np.array([row, col])

    free = [(r, c) for r in range(1, 10) for c in range(1, 12) if not mask[r, c]]
    for k in range(1, len(pixels)):
        done = np.array([place(*p) for p in pixels[:k]])
        distance = {p: np.linalg.norm(done - place(*p), axis=1).min() for p in free}
        assert distance[tuple(pixels[k])] == pytest.approx(max(distance.values()), rel=1e-5)


def test_the_two_spaces_of_farthest_are_two():
    assert not np.array_equal(
        pixels_of("farthest", (11, 13), 20, patch_size=3, space="patch"),
        pixels_of("farthest", (11, 13), 20, patch_size=3, space="position"),
    )


# ---- lcmd and variance


@pytest.fixture(scope="module")
def film():
    return SyntheticSample((14, 12), points=16)


def trained(film, n, seed):
    """A Gaussian process that knows n random pixels of the film, and which they are."""
    patches = Patches(Survey(film.images, film.x, film.y), 5)
    predictor = GaussianProcessPredictor(KernelInputs(patches))
    indices = np.random.default_rng(seed).permutation(len(patches))[:n]
    predictor.start(TrainingData(indices, patches.flatten(film.target())[indices]))
    return patches, predictor, indices


def plain_lcmd(squared, centres, pool, n):
    """LCMD-TP by its definition, a loop for every word of it."""
    centres, pool, chosen = list(centres), list(pool), []
    for _ in range(n):
        clusters = {centre: [] for centre in centres}
        for x in pool:
            clusters[min(centres, key=lambda centre: squared[x, centre])].append(x)
        own = {x: min(squared[x, centre] for centre in centres) for x in pool}
        largest = max(centres, key=lambda centre: sum(own[x] for x in clusters[centre]))
        farthest = max(clusters[largest], key=own.__getitem__)
        chosen.append(farthest)
        centres.append(farthest)
        pool.remove(farthest)
    return chosen


@pytest.mark.quick("7-3", "1-1")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [1, 7])
def test_lcmd_is_the_farthest_point_of_the_largest_cluster(film, seed, batch):
    patches, predictor, measured = trained(film, 9, seed)
    n = len(patches)
    allowed = np.random.default_rng(seed + 50).random(n) < 0.8
    allowed[measured] = True
    available = allowed.copy()
    available[measured] = False
    rule = LargestCluster(predictor)
    scores = rule.scores(TrainingData(measured, np.zeros((9, 3))))
    found = rule(scores.acquisition, available, batch, np.random.default_rng(0))
    covariance = predictor.posterior.prior_covariance(np.arange(n))
    own = np.diag(covariance)
    squared = own[:, None] + own[None] - 2 * covariance
    expected = plain_lcmd(squared, measured, np.flatnonzero(available), batch)
    assert [index for index, _ in found] == expected


@pytest.mark.slow
def test_lcmd_is_not_merely_the_farthest_point(film):
    different = 0
    for seed in range(8):
        patches, predictor, measured = trained(film, 9, seed)
        allowed = np.ones(len(patches), bool)
        available = allowed.copy()
        available[measured] = False
        rule = LargestCluster(predictor)
        values = rule.scores(TrainingData(measured, np.zeros((9, 3)))).acquisition
        [(index, _)] = rule(values, available, 1, np.random.default_rng(0))
        different += index != int(np.argmax(np.where(available, values, -1)))
    assert different > 0


def test_lcmd_counts_a_pixel_that_is_under_way_as_a_centre(film):
    explorer = Explorer(
        Survey(film.images, film.x, film.y),
        Strategy.named("lcmd", patch_size=5, n_seeds=5, budget=20, refit_every=100),
    )
    for proposal in explorer.propose(5):
        explorer.observe(Observation(proposal.pixel, film.target()[proposal.pixel]))
    one_by_one = [explorer.propose()[0].pixel for _ in range(6)]  # none of them measured yet
    together = Explorer(explorer.survey, explorer.strategy)
    for observation in explorer.observations:
        together.observe(observation)
    for decision in explorer.decisions[:5]:
        together.record(decision)
    assert [proposal.pixel for proposal in together.propose(6)] == one_by_one


def test_variance_takes_the_largest_variance(film):
    explorer = Explorer(
        Survey(film.images, film.x, film.y),
        Strategy.named("variance", patch_size=5, n_seeds=5, budget=15),
    )
    for _ in range(15):
        if len(explorer.decisions) >= 5:
            uncertainty = explorer.maps()["uncertainty"].copy()
            for observation in explorer.observations:
                uncertainty[observation.pixel] = -1
            [proposal] = explorer.propose()
            assert uncertainty[proposal.pixel] == np.nanmax(uncertainty)
            assert proposal.acquisition == pytest.approx(proposal.uncertainty**2)
        else:
            [proposal] = explorer.propose()
        explorer.observe(Observation(proposal.pixel, film.target()[proposal.pixel]))


# ---- oracle


def told(film, **parameters):
    """An oracle after its seeds, and its prediction."""
    explorer = Explorer(
        Survey(film.images, film.x, film.y),
        Strategy.named("oracle", patch_size=5, n_seeds=6, budget=12, **parameters),
        truth=film.target(),
    )
    for proposal in explorer.propose(6):
        explorer.observe(Observation(proposal.pixel, film.target()[proposal.pixel]))
    return explorer


def blurred(image, width):
    """A Gaussian blur, written out; the edge goes on as it ends."""
    if not width:
        return image
    steps = np.arange(-4 * int(width), 4 * int(width) + 1)
    weights = np.exp(-0.5 * (steps / width) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        last = image.shape[axis] - 1
        shifted = [
            w * np.take(image, np.clip(np.arange(last + 1) + s, 0, last), axis)
            for s, w in zip(steps, weights, strict=True)
        ]
        image = np.sum(shifted, axis=0)
    return image


@pytest.mark.parametrize("smoothing", [0, 1, 2])
def test_the_oracle_knows_the_true_error_smoothed(film, smoothing):
    explorer = told(film, smoothing=smoothing)
    maps = explorer.maps()
    true = np.mean((explorer.predict().spectra - film.target()) ** 2, axis=2)
    expected = blurred(true, smoothing)
    np.testing.assert_allclose(maps["error"], expected, rtol=1e-6)
    product = maps["error"] * maps["uncertainty"] ** 2
    np.testing.assert_allclose(maps["acquisition"], product)
    [proposal] = explorer.propose()
    for observation in explorer.observations:
        product[observation.pixel] = -1
    assert product[proposal.pixel] == np.nanmax(product)


def test_the_oracle_has_nothing_to_say_where_nobody_knows_the_truth(film, instrument, RE):
    survey = Survey(film.images, film.x, film.y)
    with pytest.raises(InputError, match=r"true spectra.*curiosity benchmark"):
        Explorer(survey, Strategy.named("oracle", patch_size=5))
    stage, documents = instrument.stage, []
    plan = curiosity_plan(
        [instrument.spectrometer],
        stage.x,
        stage.y,
        instrument.imager,
        num_points=8,
        strategy="oracle",
        options={"parameters": {"patch_size": 3, "n_seeds": 4}},
    )
    with pytest.raises(InputError, match="true spectra"):
        RE(plan, lambda name, document: documents.append(name))
    assert documents == []


def test_the_demo_refuses_the_oracle_in_one_line(film_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    options = ["--sample", str(film_file), "--points", "8", "--set", "patch_size=3"]
    monkeypatch.setattr(sys, "argv", ["curiosity", "demo", "--strategy", "oracle", *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "curiosity benchmark" in err
    assert sorted(tmp_path.rglob("*")) == before


# ---- deep kernel learning


def test_the_scalarisers_make_the_numbers_that_they_are_named_after():
    spectra = np.random.default_rng(1).normal(size=(20, 11)) * np.arange(1, 12)
    holed = spectra.copy()
    holed[3, 4] = np.nan
    assert scalar(holed, "range")[3] == np.ptp(np.delete(spectra[3], 4))
    np.testing.assert_allclose(scalar(spectra, "range"), np.ptp(spectra, axis=1))
    np.testing.assert_allclose(scalar(spectra, "mean"), np.abs(spectra).mean(axis=1))
    component = PCA(1).fit_transform(spectra)[:, 0]
    ours = scalar(spectra, "component")
    np.testing.assert_allclose(ours * np.sign(ours @ component), component)
    assert np.isfinite(scalar(holed, "component")).all()


def dkl_maps(film, **parameters):
    strategy = Strategy.named(
        "dkl", patch_size=5, n_seeds=8, budget=12, start_epochs=20, **parameters
    )
    explorer = Explorer(Survey(film.images, film.x, film.y), strategy)
    for proposal in explorer.propose(8):
        explorer.observe(Observation(proposal.pixel, film.target()[proposal.pixel]))
    measured = np.array([observation.spectrum for observation in explorer.observations])
    return explorer.maps(), measured


@pytest.mark.quick("mean")
@pytest.mark.parametrize("scalariser", ["range", "mean"])
def test_the_rules_of_deep_kernel_learning_agree_on_what_is_known(film, scalariser):
    by_rule = {
        rule: dkl_maps(film, rule=rule, scalariser=scalariser) for rule in ("ei", "ucb", "variance")
    }
    maps, measured = by_rule["ucb"]
    spread = maps["uncertainty"]
    inside = np.isfinite(spread)
    np.testing.assert_allclose(by_rule["variance"][0]["acquisition"][inside], spread[inside] ** 2)
    mean = (maps["acquisition"] - 2 * spread)[inside]
    values = scalar(measured, scalariser)
    best = (values.max() - values.mean()) / values.std()
    draws = mean + spread[inside] * norm.ppf((np.arange(20000) + 0.5) / 20000)[:, None]
    improvement = np.maximum(draws - best, 0).mean(axis=0)  # expected, by its definition
    np.testing.assert_allclose(by_rule["ei"][0]["acquisition"][inside], improvement, atol=1e-3)
    assert improvement.max() > 0


def test_without_gpytorch_only_deep_kernel_learning_is_out(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    survey = Survey(film.images, film.x, film.y)
    with pytest.raises(InputError, match=r"'dkl' needs gpytorch: pip install"):
        Explorer(survey, Strategy.named("dkl", patch_size=5))
    assert Explorer(survey, Strategy.named("lcmd", patch_size=5)).propose()
