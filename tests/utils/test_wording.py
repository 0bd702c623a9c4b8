"""Words of messages."""

import pytest

from curiosity_bluesky.benchmark.arms import arms_from
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.descriptors.registry import check
from curiosity_bluesky.utils.wording import did_you_mean, plural


def test_a_noun_after_a_number():
    assert [f"{n} {plural(n, 'run')}" for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [plural(n, "spectrum", "spectra") for n in (1, 3)] == ["spectrum", "spectra"]


def test_the_name_that_was_meant_is_asked_for_in_its_own_spelling():
    assert did_you_mean("pto", ["PTO", "synthetic"]) == " Did you mean 'PTO'?"
    assert did_you_mean("nothing", ["PTO", "synthetic"]) == ""


def test_what_is_known_by_name_says_which_one_was_meant():
    with pytest.raises(InputError, match="Did you mean 'texture'?"):
        check("textur")
    with pytest.raises(InputError, match="no strategy has .* Did you mean 'patch_size'?"):
        arms_from(["random"], points=5, n_seeds=3, common={"patchsize": 3})
