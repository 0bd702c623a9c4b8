"""Clusters of behaviour from the documents of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from stored import EXPECTED, STORED, documents_in
from support import few, grouped

from curiosity_bluesky import CuriosityAgent, InputError, curiosity_plan
from curiosity_bluesky.analysis import cluster_documents, predict_from_documents
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.views.cluster_figure import draw_clusters
from sim_devices import Sample, SyntheticSample


def halves(other: float = -0.5) -> Sample:
    """A film of two halves: a bright one with one loop, a dark one with `other` times that."""
    film = SyntheticSample((16, 20), seed=0, points=12, noise=0.0)
    left = np.arange(20) < 10
    image = np.broadcast_to(np.where(left, 1.0, 0.0), (16, 20)).copy()
    [(key, spectra)] = film.spectra.items()
    loop = spectra[0, 0]
    loops = np.where(left[None, :, None], loop, np.broadcast_to(other * loop, spectra.shape))
    return Sample(
        name="halves", images={"height": image}, spectra={key: loops}, x=film.x, y=film.y,
        axis=film.axis, axis_name=film.axis_name, axis_units=film.axis_units,
    )  # fmt: skip


def documents_of(sample: Any, strategy: str, points: int = 12) -> list[tuple[str, dict[str, Any]]]:
    ins = simulated_instrument(sample, speed=math.inf)
    options = grouped(strategy=strategy, parameters=few(strategy), record_predictions=False)
    documents: list[tuple[str, dict[str, Any]]] = []
    plan = curiosity_plan(
        [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, points, **options
    )
    RunEngine()(plan, lambda name, doc: documents.append((name, doc)))
    return documents


def test_two_halves_of_a_film_are_two_clusters() -> None:
    found = cluster_documents(documents_of(halves(), "curious"))

    known = found["cluster"].values >= 0
    assert found.sizes["number"] == 2 and found.attrs["silhouette"] > 0.8
    columns = [set(row[ok]) for row, ok in zip(found["cluster"].values.T, known.T, strict=True)]
    left, right = columns[4], columns[15]  # patches at the edge see both
    assert len(left) == len(right) == 1 and left != right
    assert found["share"].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(EXPECTED["documents"]))
def test_means_and_counts_are_those_of_the_pixels(name: str) -> None:
    documents = documents_in(STORED / f"{name}.jsonl.gz")
    predicted = predict_from_documents(documents)

    found = cluster_documents(documents, 3)

    where = found["cluster"].values
    np.testing.assert_array_equal(where < 0, predicted["no_claim"])
    assert found.sizes["number"] == 3
    shares = found["share"].values
    assert (np.diff(shares) <= 0).all()  # the largest first
    key = "spectrometer_response"
    for k in range(3):
        mean = predicted[key].values[where == k].mean(axis=0)
        np.testing.assert_allclose(found[key][k], mean)
        taken = (predicted["distance"].values == 0) & (where == k)
        assert found["n_measured"][k] == taken.sum()


def test_the_latent_space_is_that_of_the_network() -> None:
    documents = documents_in(STORED / "published.jsonl.gz")
    expected = CuriosityAgent.from_documents(documents).explorer.predict().latent

    found = cluster_documents(documents)

    assert expected is not None and "vatsavai2025-latent" in found.attrs["latent_space"]
    np.testing.assert_array_equal(found["latent"], expected)
    others = cluster_documents(documents_in(STORED / "curious.jsonl.gz"))
    assert "principal components" in others.attrs["latent_space"]


def test_clusters_that_cannot_be_are_refused() -> None:
    documents = documents_in(STORED / "curious.jsonl.gz")
    with pytest.raises(InputError, match="1 clusters are asked for; expected 2 or more"):
        cluster_documents(documents, 1)
    with pytest.raises(InputError, match="too much alike"):
        cluster_documents(documents_of(halves(other=1.0), "random"), 5)


def test_the_figure_has_a_row_for_each_run(tmp_path: Path) -> None:
    runs = [
        cluster_documents(documents_in(STORED / f"{name}.jsonl.gz"), 3)
        for name in ("curious", "published")
    ]
    figure = draw_clusters(runs)
    assert len(figure.axes) == 8
    assert {figure.axes[0].get_xlabel(), figure.axes[4].get_xlabel()} == {
        "principal component 1", "latent 1",
    }  # fmt: skip
    assert figure.axes[2].get_xlabel() == "x (um)" and "(V)" in figure.axes[3].get_xlabel()
    figure.savefig(tmp_path / "clusters.png")
    assert (tmp_path / "clusters.png").stat().st_size > 10_000
