"""Images become vectors, pictures and labels; one that cannot harms no other."""

from __future__ import annotations

import numpy as np
from scans import Crude, scan
from synthetic.wallpaper import random_image

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.workers import Task, Thumbnail, describe, kind_of
from curiosity_bluesky.similarity.symmetry import SymmetryScores, labels_of


class Failing(Crude):
    name = "failing"

    def __call__(self, image):
        raise ZeroDivisionError("a defect")


def test_a_thumbnail_keeps_the_proportions_and_shows_what_was_not_measured_as_black():
    values = np.add.outer(np.zeros(40), np.linspace(0, 1, 80))
    values[:, 60:] = np.nan
    picture = Thumbnail()(Image.checked(values))
    assert picture.shape == (48, 48) and picture.dtype == np.uint8
    assert (picture[:12] == 0).all() and (picture[36:] == 0).all()
    inside = picture[12:36].astype(int)
    assert (inside[:, 36:] == 0).all() and (inside[:, :36] > 0).all()
    assert (np.diff(inside[0, :36]) > 0).all() and inside[0, 0] < 12 and inside[0, 35] > 243


def test_one_spike_does_not_make_a_thumbnail_dark():
    values = np.add.outer(np.linspace(0, 1, 48), np.zeros(48))
    values[3, 3] = 1e6
    picture = Thumbnail()(Image.checked(values)).astype(int)
    assert picture[-1].min() > 240 and np.ptp(picture[:, 20]) > 230


def test_what_fails_is_said_and_the_rest_is_there():
    makers = {kind_of(one): one for one in (Crude(), Failing(), Thumbnail())}
    images = [scan(0), np.zeros((24, 24)), scan(1)]
    tasks = [Task(n, v, None, None, f"scan {n}", tuple(makers)) for n, v in enumerate(images)]
    answers = list(describe(tasks, makers))
    assert [item for item, _, _ in answers] == [0, 1, 2]
    for item, arrays, refused in answers:
        assert set(arrays) == set(makers) and np.isnan(arrays["failing-1"]).all()
        if item == 1:
            assert "scan 1 is 0 everywhere" in refused and np.isnan(arrays["crude-1"]).all()
        else:
            assert "failing-1: ZeroDivisionError" in refused
            assert np.isfinite(arrays["crude-1"]).all() and arrays["thumbnail-1"].max() > 200


def test_the_symmetry_is_read_off_the_vectors_of_its_descriptor():
    scores = SymmetryScores()
    rng = np.random.default_rng(0)
    images = [random_image(group, rng, 128) for group in ("p4m", "p6", None)]
    vectors = [scores(Image.checked(values)) for values in images]
    said = labels_of(np.stack([*vectors, np.full(scores.size, np.nan, np.float32)]))
    assert [one.get("symmetry") for one in said] == ["p4m", "p6", "none", None]
    assert all(0.5 < one["symmetry_probability"] <= 1 for one in said[:3])
