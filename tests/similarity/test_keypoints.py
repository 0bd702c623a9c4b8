"""Whether two images show the very same place."""

import numpy as np
import pytest
from synthetic.augmentation import (
    Reacquisition,
    random_structure,
    reacquire,
)
from synthetic.augmentation import ViewSettings as How

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.keypoints import SURE, Keypoints, agreeing, keypoints

KINDS = ("domains", "grains", "particles")


def views(kind: str, seed: int) -> tuple[Image, Image, Image]:
    """Return a place, part of it taken again, and another place of the same structure."""
    rng = np.random.default_rng(seed)
    structure = random_structure(kind, rng, 160)
    here, there = (structure.view(place, rng, How(160, noise=(0.02, 0.1))) for place in (0, 1))
    again = reacquire(here, rng, Reacquisition())
    return Image.checked(here), Image.checked(again), Image.checked(there)


@pytest.mark.quick("2-domains", "0-particles", "2-grains")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_part_taken_again_agrees_and_another_place_does_not(kind, seed):
    here, again, there = map(keypoints, views(kind, seed))
    assert agreeing(again, here) >= SURE
    assert agreeing(here, again) >= SURE
    assert agreeing(there, here) < SURE
    assert agreeing(there, again) < SURE


def test_an_image_agrees_with_itself_mirrored_and_inverted_too():
    image, _, _ = views("grains", 7)
    found = keypoints(image)
    mirrored = keypoints(Image.checked(image.values[:, ::-1]))
    assert agreeing(found, found) > 0.9 * len(found.at)
    assert agreeing(found, mirrored) > 0.5 * len(found.at)
    inverted = keypoints(Image.checked(-image.values))
    assert agreeing(found, inverted) > 0.5 * len(found.at)
    twice = found.mirrored().mirrored()
    np.testing.assert_array_equal(twice.descriptors, found.descriptors)


def test_a_phase_agrees_whatever_its_offset():
    rng = np.random.default_rng(0)
    base = random_structure("domains", rng, 160).view(0, rng, How(160, noise=(0.0, 0.02)))
    phase = 180 * (base > np.median(base)) + rng.normal(size=base.shape) * 10
    one, other = (
        keypoints(Image.checked((phase + offset) % 360, period=360.0)) for offset in (0.0, 143.0)
    )
    assert agreeing(one, other) >= SURE


def test_where_nothing_stands_out_nothing_agrees():
    empty = Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    ramp = keypoints(Image.checked(np.add.outer(np.arange(40.0), np.arange(40.0) ** 2)))
    full = keypoints(views("grains", 1)[0])
    for one in (empty, ramp):
        assert agreeing(one, full) < SURE
        assert agreeing(full, one) < SURE
