"""The other published strategies: what is built, and every formula by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from support import collected_run, events, few
from torch import nn

from curiosity_bluesky.learning import Explorer, Observation, Patches, Strategy, Survey
from curiosity_bluesky.learning.acquisition import BetaCuriosity, ErrorNoveltyAndSpread
from curiosity_bluesky.learning.nn import ensemble
from curiosity_bluesky.learning.nn import layers as nets
from curiosity_bluesky.learning.nn.architectures import TABLE_1
from curiosity_bluesky.learning.nn.ensemble import EnsemblePredictor
from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor
from curiosity_bluesky.learning.protocols import AcquisitionTerms
from curiosity_bluesky.learning.records import TrainingData


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def quick(name, **parameters):
    return Strategy.named(name, **few(name, **{"budget": 14, **parameters}))


def observed(patches, spectra, n, seed=0):
    """n random pixels of the film and what is measured there."""
    indices = np.random.default_rng(seed).permutation(len(patches))[:n]
    return TrainingData(indices, patches.flatten(spectra)[indices])


# ---- the ensemble as built


@pytest.fixture(scope="module")
def five():
    """The networks that a run with the default sizes trains, and what reads their latent space."""
    made = []
    build = nets.build

    def noted(factory, seed):
        made.append(build(factory, seed))
        return made[-1]

    rng = np.random.default_rng(0)
    survey = Survey({"a": rng.random((17, 18))})
    strategy = Strategy.named("vatsavai2025-ensemble", n_seeds=2, budget=4, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets, "build", noted)
        explorer = Explorer(survey, strategy)
        for proposal in explorer.propose(2):
            explorer.observe(Observation(proposal.pixel, rng.random(20)))
        explorer.propose()
    return made


def layers(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


TABLE = {
    # residual blocks, layers of the convolution block, slope, dropout, dilated layers, filters
    "im2spec": (0, 3, 0.1, 0.5, 0, 128),
    "im2spec_2": (0, 3, 0.2, 0.1, 0, 128),
    "im2spec_3": (0, 3, 0.2, 0.1, 4, 128),
    "im2spec_4": (3, 3, 0.2, 0.2, 0, 128),
    "im2spec_5": (3, 0, None, None, 4, 64),
}


@pytest.mark.parametrize("k", range(5))
def test_the_five_networks_are_those_of_table_1(five, k):
    residual, plain, slope, dropout, dilated, filters = list(TABLE.values())[k]
    network = [m for m in five if type(m).__name__ == "Im2Spec"][k]
    convolutions = layers(network.convolutions, nn.Conv2d)
    squares = [m for m in convolutions if m.kernel_size == (3, 3)]
    assert {m.out_channels for m in convolutions} == {filters}
    assert len(squares) == 2 * residual + plain + dilated
    assert [m.kernel_size for m in convolutions].count((1, 1)) == residual  # the shortcuts
    if plain:
        assert [m.probability for m in layers(network, nets.Dropout)] == [dropout] * 3
        slopes = [m.negative_slope for m in layers(network, nn.LeakyReLU)]
        assert slopes[:3] == [slope] * 3
    else:
        assert layers(network, nets.Dropout) == []
    dilations = [m.dilation[0] for m in squares]
    assert dilations == [1] * (2 * residual + plain) + list(range(1, dilated + 1))
    # Every layer is normalised, and none of them changes the size of the patch.
    assert len(layers(network.convolutions, nn.BatchNorm2d)) == len(squares)
    halved = {3: nn.MaxPool2d, 4: nn.AvgPool2d}.get(k)
    pools = layers(network, nn.MaxPool2d | nn.AvgPool2d)
    assert [type(m) for m in pools] == ([halved] if halved else [])
    side = 8 if halved else 16
    assert (network.to_latent.in_features, network.to_latent.out_features) == (
        filters * side**2,
        3,
    )
    widths = [3, 5, 10, 15, 20, 20, 20]
    linear = [(m.in_features, m.out_features) for m in layers(network.decoder, nn.Linear)]
    assert linear == list(itertools.pairwise(widths))


def test_the_error_model_of_the_ensemble_is_3_32_16_8_1(five):
    decoder = next(m for m in five if type(m).__name__ == "ErrorDecoder")
    widths = [(m.in_features, m.out_features) for m in layers(decoder, nn.Linear)]
    assert widths == [(3, 32), (32, 16), (16, 8), (8, 1)]


# ---- acquisitions


@pytest.mark.parametrize(("n", "budget", "rate"), [(30, 100, 2.0), (99, 100, 2.0), (3, 9, 0.7)])
def test_mcd_weighs_error_novelty_and_spread_by_the_published_formula(rng, n, budget, rate):
    error, novelty, spread = rng.random((3, 25)) * [[1e-6], [1e3], [0.1]]
    values, weight = ErrorNoveltyAndSpread(rate)(
        AcquisitionTerms(error, novelty, spread, n, budget)
    )
    c, e, u = (term / np.mean(term) for term in (error, novelty, spread))
    early, late = np.exp(-rate * n / budget), np.exp(-rate * (budget - n) / budget)
    expected = c * (1 + 2 * np.exp(-rate) - early - late) + e * early + u * late
    np.testing.assert_allclose(values, expected)
    assert weight == pytest.approx(early)


def test_units_of_the_spread_say_nothing(rng):
    error, novelty, spread = rng.random((3, 25))
    rule = ErrorNoveltyAndSpread()
    one, _ = rule(AcquisitionTerms(error, novelty, spread, 5, 9))
    other, _ = rule(AcquisitionTerms(error, novelty, spread * 1e-7, 5, 9))
    np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_beta_curiosity_is_the_published_formula(rng, beta):
    error = rng.random(30) * 7 - 2
    scaled = (error - error.min()) / (error.max() - error.min())
    values, weight = BetaCuriosity(beta, 0.1)(AcquisitionTerms(error, error, None, 3, 9))
    np.testing.assert_allclose(values, 1 - np.exp(-0.1 * np.abs(scaled - (1 - beta))))
    assert weight == 0
    best = {0.0: np.argmin(error), 1.0: np.argmax(error)}.get(beta)
    if best is not None:  # conservative and curious
        assert np.argmax(values) == best


def test_lambda_has_no_effect_on_the_order(rng):
    terms = AcquisitionTerms(rng.random(200), rng.random(200), None, 3, 9)
    for beta in (0.0, 0.4, 1.0):
        orders = {
            tuple(np.argsort(BetaCuriosity(beta, rate)(terms)[0], kind="stable"))
            for rate in (0.01, 0.1, 1.0, 10.0)
        }
        assert len(orders) == 1


def test_lambda_has_no_effect_on_a_run_and_beta_has(survey, drive):
    def pixels(**parameters):
        explorer = drive(Explorer(survey, quick("vatsavai2025-ensemble", **parameters)), 9)
        return [decision.pixel for decision in explorer.decisions]

    usual = pixels()
    assert pixels(rate=3.0) == usual
    assert pixels(beta=0.0) != usual


# ---- Monte-Carlo dropout


def im2spec(survey, spectra, n=9, epochs=25):
    patches = Patches(survey, 5)
    predictor = Im2SpecPredictor(
        patches.images(),
        latent=2,
        encoder=dataclasses.replace(TABLE_1[0], dropout=0.3),
        start_epochs=epochs,
        update_epochs=1,
        seed=5,
        limits=None,
        on_epoch=lambda model, epoch, epochs: None,
    )
    predictor.start(observed(patches, spectra, n))
    return predictor


@pytest.mark.slow
def test_the_spread_is_that_of_networks_with_units_dropped_at_random(survey, spectra):
    predictor = im2spec(survey, spectra)
    passes = 300
    ours = predictor.spread(9, passes)
    # Dropout at work and nothing else, with masks of PyTorch's own, one for every patch.
    network, scale = predictor._network.eval(), predictor._scale
    generator = torch.Generator().manual_seed(99)

    def dropped(module, given, out):
        kept = torch.rand(out.shape, generator=generator) >= module.probability
        return out * kept / (1 - module.probability)

    hooks = [m.register_forward_hook(dropped) for m in layers(network, nets.Dropout)]
    with torch.inference_mode():
        drawn = torch.stack([network(predictor._images).double() for _ in range(passes)])
    for hook in hooks:
        hook.remove()
    theirs = drawn.std(dim=0, correction=0).mean(dim=1).numpy() * scale.factor
    assert ours.min() > 0
    # A standard deviation from so many passes is good to 3 %; two of them are compared.
    assert np.abs(ours / theirs - 1).max() < 6 * np.sqrt(2 / (2 * passes))
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.05)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.5


def test_looking_with_dropout_leaves_the_model_as_it_was(survey, spectra):
    predictor = im2spec(survey, spectra)
    before = {name: value.clone() for name, value in predictor._network.state_dict().items()}
    predicted = predictor.predict()
    spread = predictor.spread(9, 7)
    after = predictor._network.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(predictor.predict(), predicted)
    assert np.array_equal(predictor.spread(9, 7), spread)  # asked again, the same again
    assert not np.array_equal(predictor.spread(10, 7), spread)


def test_the_decision_shows_the_spread_of_im2spec(survey, drive):
    def uncertainty(strategy):
        explorer = drive(Explorer(survey, strategy), 6)
        return explorer.maps()["uncertainty"], explorer

    spread, explorer = uncertainty(quick("vatsavai2025-mcd", passes=6))
    predictor = explorer._active.learner._predictor
    np.testing.assert_array_equal(explorer.patches.flatten(spread), predictor.spread(6, 6))


# ---- the ensemble at work


def an_ensemble(survey, hook=lambda model, epoch, epochs: None, **parameters):
    given = {"epochs": 4, "patience": 1000, "batches": 2, "retrain_share": 0.0, "batch": 1}
    patches = Patches(survey, 5)
    predictor = EnsemblePredictor(
        patches.images(), TABLE_1, latent=3, filters=2, seed=3, limits=None, on_epoch=hook,
        **{**given, **parameters},
    )  # fmt: skip
    return patches, predictor


@pytest.mark.slow
def test_the_best_network_is_the_one_with_the_smallest_validation_loss(
    survey, spectra, monkeypatch
):
    validated, losses = [], {}
    plain = ensemble.squared_error

    def noted(predicted, wanted, recorded):
        loss = plain(predicted, wanted, recorded)
        if torch.is_inference_mode_enabled():
            assert len(wanted) == 4  # a fifth of twenty is not trained on
            validated.append(float(loss))
        return loss

    def hook(model, epoch, epochs):
        losses.setdefault(model, []).append(validated.pop())

    monkeypatch.setattr(ensemble, "squared_error", noted)
    patches, predictor = an_ensemble(survey, hook, epochs=53)
    training = predictor.start(observed(patches, spectra, 20))
    assert [len(values) for values in losses.values()] == [53] * 5
    means = {model: np.mean(values[-50:]) for model, values in losses.items()}
    assert training.model == min(means, key=means.__getitem__)
    everyone = np.arange(len(patches))
    best = predictor._networks[list(means).index(training.model)]
    with torch.inference_mode():
        expected = predictor._scale.back(best(predictor._images))
    np.testing.assert_allclose(predictor.predict(everyone), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_weights_are_averaged_over_the_last_fifty_epochs(survey, spectra):
    snapshots = []

    def hook(model, epoch, epochs):
        if model == "im2spec":
            weights = predictor._networks[0].named_parameters()
            snapshots.append({name: value.detach().clone() for name, value in weights})

    patches, predictor = an_ensemble(survey, hook, epochs=110)
    predictor.start(observed(patches, spectra, 10))
    # All of them in the second half: a training that ends early has averaged too.
    assert 55 < len(snapshots) <= 110
    last = snapshots[max(55, len(snapshots) - 50) :]
    for name, value in predictor._networks[0].named_parameters():
        mean = torch.stack([snapshot[name] for snapshot in last]).mean(dim=0)
        torch.testing.assert_close(value.detach(), mean, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(value, snapshots[-1][name])


@pytest.mark.quick("0.0")
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_five_are_trained_at_first_and_then_as_often_as_they_should(survey, spectra, share):
    trained = []
    patches, predictor = an_ensemble(
        survey, lambda model, epoch, epochs: trained.append(model), retrain_share=share
    )
    everything = observed(patches, spectra, 14)
    training = predictor.start(everything.first(8))
    assert set(trained) == set(TABLE)
    for n in range(9, 15):
        best = training.model
        trained.clear()
        training = predictor.update(everything.first(n))
        assert set(trained) == (set(TABLE) if share else {best})


@pytest.mark.slow
def test_all_five_are_retrained_with_the_probability_that_was_asked_for(survey, spectra):
    trained = []
    patches, predictor = an_ensemble(
        survey,
        lambda model, epoch, epochs: trained.append(model),
        retrain_share=0.3,
        epochs=1,
        batches=1,
    )
    everything = observed(patches, spectra, 65)
    predictor.start(everything.first(5))
    whole = 0
    for n in range(6, 66):
        trained.clear()
        predictor.update(everything.first(n))
        whole += len(set(trained)) == 5
    assert abs(whole / 60 - 0.3) < 3.5 * np.sqrt(0.3 * 0.7 / 60)


def test_nothing_is_trained_inside_a_batch(survey, spectra):
    trained = []
    patches, predictor = an_ensemble(
        survey, lambda model, epoch, epochs: trained.append(model), batch=3
    )
    everything = observed(patches, spectra, 12)
    predictor.start(everything.first(5))
    for n in range(6, 13):
        before, known = len(trained), predictor.predict()
        training = predictor.update(everything.first(n))
        done = (n - 5) % 3 == 0
        assert (len(trained) > before) == done == (training.epochs > 0)
        assert np.array_equal(predictor.predict(), known) != done


def test_the_map_is_that_of_the_best_network_also_when_another_one_becomes_the_best(
    survey, spectra
):
    patches, predictor = an_ensemble(survey, epochs=2, retrain_share=0.0)
    everything, everyone = observed(patches, spectra, 12), np.arange(len(patches))
    best = [predictor.start(everything.first(6)).model]
    for n in range(7, 13):
        predictor.predict()  # somebody looks at the map
        # Whatever the next training makes of the best one, another has become better.
        predictor._validation[(predictor._best + 1) % 5] = -float(n)
        best.append(predictor.update(everything.first(n)).model)
        one_by_one = predictor.predict(everyone)
        np.testing.assert_allclose(predictor.predict(), one_by_one, rtol=1e-4, atol=1e-5)
    assert len(set(best)) == 5


def test_errors_of_the_ensemble_are_mean_absolute_ones(survey, spectra):
    patches, predictor = an_ensemble(survey)
    known = observed(patches, spectra, 8)
    predictor.start(known)
    spectrum = known.spectra.copy()
    spectrum[2, 5] = np.nan
    expected = np.nanmean(np.abs(predictor.predict(known.indices) - spectrum), axis=1)
    found = predictor.errors(TrainingData(known.indices, spectrum))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- spec2im


def test_spec2im_is_curious_about_the_patch(survey, spectra, drive):
    explorer = drive(Explorer(survey, quick("vatsavai2025-spec2im", start_epochs=20)), 8)
    explorer.maps()
    predictor = explorer._active.learner._predictor
    known = explorer._active.training_data(explorer._history)
    low, high = known.spectra[:4].min(), known.spectra[:4].max()  # of the four seeds
    scaled = (known.spectra - (low + high) / 2) / ((high - low) / 2)
    with torch.inference_mode():
        rebuilt = predictor._network(torch.as_tensor(scaled, dtype=torch.float32)).numpy()
    patches = explorer.patches.images()[known.indices]
    expected = np.mean((rebuilt - patches) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(predictor.errors(known), expected, rtol=1e-4)
    # A gap is the middle of the scale.
    holed, filled = known.spectra.copy(), known.spectra.copy()
    holed[1, 3], filled[1, 3] = np.nan, (low + high) / 2
    np.testing.assert_allclose(
        predictor.errors(TrainingData(known.indices, holed)),
        predictor.errors(TrainingData(known.indices, filled)),
        rtol=1e-4,
    )


def test_spec2im_predicts_the_spectra_that_im2spec_does(survey, drive):
    inverse = drive(Explorer(survey, quick("vatsavai2025-spec2im"), seed=2), 8)
    plain = Explorer(survey, quick("random", predictor="im2spec", rim="omit"), seed=2)
    for observation in inverse.observations:
        plain.observe(observation)
    predicted = inverse.predict().spectra
    np.testing.assert_array_equal(predicted, plain.predict().spectra)
    assert np.isfinite(predicted[5, 5]).all()


# ---- batches in a plan


@pytest.mark.parametrize("strategy", ["vatsavai2025-ensemble", "lcmd"])
def test_a_batch_is_decided_on_before_its_first_pixel_is_measured(strategy, instrument, RE):
    parameters = {**few(strategy), "patch_size": 3, "n_seeds": 3, "batch": 3}
    _, documents = collected_run(
        RE, instrument, num_points=11, strategy=strategy, parameters=parameters
    )
    streams = {d["uid"]: d["name"] for n, d in documents if n == "descriptor"}
    order = [streams[d["descriptor"]] for n, d in documents if n == "event"]
    order = "".join(name[0] for name in order if name in ("decisions", "primary"))
    assert order == "dddppp" * 3 + "ddpp"  # the last batch is what is left of the budget
    known = [
        value
        for row in events(documents, "decisions")
        for key, value in row.items()
        if key.endswith("n_observed")
    ]
    assert known == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9]
