"""What other packages set for the whole process changes no decision."""

import pytest

from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from sim_devices import SyntheticSample

gpytorch = pytest.importorskip("gpytorch")
linear_operator = pytest.importorskip("linear_operator")


def decided(exactly):
    film = SyntheticSample((16, 14), seed=1, points=16)
    truth = film.target()
    wanted = {"patch_size": 5, "n_seeds": 4, "budget": 7, "start_epochs": 2, "update_epochs": 2}
    explorer = Explorer(
        Survey(film.images, film.x, film.y), Strategy.named("dkl", refit_every=3, **wanted), 3
    )
    while explorer.n_observed < 7:
        for proposal in explorer.propose():
            number = proposal.decision_id
            spectrum = truth[proposal.pixel]
            explorer.observe(Observation(proposal.pixel, spectrum, decision_id=number))
    return [exactly(decision) for decision in explorer.decisions]


def test_dkl_decides_the_same_where_botorch_was_imported(monkeypatch, exactly):
    """It turns off fast computations in gpytorch, for all; so do bluesky-adaptive's agents."""
    before = decided(exactly)
    settings = linear_operator.settings
    for flag in ("_fast_covar_root_decomposition", "_fast_log_prob", "_fast_solves"):
        monkeypatch.setattr(getattr(settings, flag), "_default", False)
    monkeypatch.setattr(settings.cholesky_max_tries, "_global_value", 6)
    monkeypatch.setattr(settings.max_cholesky_size, "_global_value", 4096)
    monkeypatch.setattr(gpytorch.settings.max_eager_kernel_size, "_global_value", 4096)
    assert decided(exactly) == before
