"""The study of patch sizes: the same pixels, learned with patches of several sizes."""

import json

import numpy as np
import pytest

from curiosity_bluesky.benchmark import patch_size_study
from curiosity_bluesky.benchmark.trial import common_area, shared_seeds
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey, withheld_pixels

GP = {"predictor": "gp"}


def test_losses_are_those_of_the_same_random_pixels_learned_by_hand(truth, tmp_path):
    sizes, points = [3, 5], 20
    result = patch_size_study(truth, sizes, tmp_path, points=points, seeds=2, parameters=GP)
    withheld = withheld_pixels(truth.mask.shape, 0.2)
    area = common_area(truth.mask.shape, 5)  # of the largest patch, for both
    survey = Survey(truth.channels, truth.x, truth.y, withheld | ~area)
    spread = np.mean((truth.spectra[area] - truth.spectra[area].mean(axis=0)) ** 2)
    for k, size in enumerate(sizes):
        losses = []
        for seed in range(2):
            strategy = Strategy.named("random", patch_size=size, n_seeds=points, budget=points)
            explorer = Explorer(survey, strategy, seed)
            pixels = [decision.pixel for decision in shared_seeds(survey, points, seed)]
            for pixel in pixels:
                explorer.observe(Observation(pixel, truth.spectra[pixel]))
            error = np.mean((explorer.predict().spectra - truth.spectra) ** 2, axis=2) / spread
            measured = np.mean([error[pixel] for pixel in pixels])
            losses.append((measured, error[withheld & area].mean()))
        training, validation = np.transpose(losses)
        assert result["training"][k] == pytest.approx(training.mean(), rel=1e-4)
        assert result["validation"][k] == pytest.approx(validation.mean(), rel=1e-4)
        assert result["validation_std"][k] == pytest.approx(validation.std(), rel=1e-3)
    assert result["best"] == sizes[int(np.argmin(result["validation"]))]
    assert json.loads((tmp_path / "patch-sizes.json").read_text()) == result
    assert (tmp_path / "patch-sizes.png").read_bytes().startswith(b"\x89PNG")


def test_im2spec_is_asked_unless_another_predictor_is_named(truth, tmp_path):
    told = []
    result = patch_size_study(
        truth, [3, 4], tmp_path, points=10, seeds=2, parameters={"start_epochs": 2},
        progress=lambda: told.append(1),
    )  # fmt: skip
    assert result["parameters"] == {"predictor": "im2spec", "start_epochs": 2}
    assert len(told) == 4
    assert all(0 < loss < 100 for loss in result["training"] + result["validation"])


@pytest.mark.parametrize(
    ("sizes", "given", "said"),
    [
        ([], {}, "expected 1 or more"),
        ([0, 3], {}, "expected 1 or more"),
        ([3], {"seeds": 0}, "expected 1 or more"),
        ([3], {"points": 0}, "expected 1 or more"),
        ([3, 15], {}, "patch of 15 does not fit"),
        ([3], {"points": 500}, "500 seeds are asked for"),
        ([3], {"withhold": 0.0}, "no pixel is left to validate"),
        ([3], {"withhold": 1.0}, "withhold is 1.0"),
        ([3], {"parameters": {"space": "patch"}}, "no parameter 'space'"),
    ],
)
def test_a_study_that_cannot_be_is_refused_and_nothing_is_written(
    truth, tmp_path, sizes, given, said
):
    with pytest.raises(InputError, match=said):
        patch_size_study(truth, sizes, tmp_path / "out", **{"points": 8, **given})
    assert not (tmp_path / "out").exists()
