"""Clusters of behaviour from the documents of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from stored import EXPECTED, STORED, documents_in
from support import events, few, grouped

from curiosity_bluesky import CuriosityAgent, InputError, curiosity_plan
from curiosity_bluesky.analysis import cluster_documents, clusters, predict_from_documents
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import predictions, schema
from curiosity_bluesky.learning.learner import ModelLearner
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


Documents = list[tuple[str, dict[str, Any]]]


def documents_of(
    sample: Any, strategy: str, points: int = 12, *, recorded: bool = False
) -> Documents:
    ins = simulated_instrument(sample, speed=math.inf)
    options = grouped(strategy=strategy, parameters=few(strategy), record_predictions=recorded)
    documents: Documents = []
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


@pytest.mark.quick("published", "curious-in-batches*", "lcmd*", "dose*")
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
        np.testing.assert_allclose(found[key][k], mean, rtol=1e-5, atol=1e-5)  # single precision
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


def without(documents: Documents, *, blocks: int = 0, key: str = "") -> Documents:
    """Return documents without the last recorded blocks, or as before a key was recorded."""
    [stream] = [d["uid"] for n, d in documents if n == "descriptor" and d["name"] == "predictions"]
    mine = [doc for _, doc in documents if doc.get("descriptor") == stream]
    dropped = mine[len(mine) - blocks :]
    kept = [(name, doc) for name, doc in documents if not any(doc is each for each in dropped)]
    return [
        (n, d | {"data": {k: v for k, v in d["data"].items() if k != key}} if d in mine else d)
        if n == "event" and d.get("descriptor") == stream
        else (n, d)
        for n, d in kept
    ]


@pytest.mark.quick("curious")
@pytest.mark.parametrize("strategy", ["vatsavai2025-ensemble", "curious"])
def test_what_a_run_recorded_is_clustered_without_learning_again(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "BLOCK", 4 * 14 * 12 * 5)  # rows in blocks, the last filled
    film = SyntheticSample((14, 14), seed=1, points=12)
    documents = documents_of(film, strategy, 8, recorded=True)
    blocks = events(documents, schema.PREDICTIONS)
    assert len(blocks) == 3 and (schema.LATENT in blocks[0]) == (strategy != "curious")
    broken_off = without(documents, blocks=1)
    older = [broken_off, without(documents, key=schema.LATENT)][: 1 + (strategy != "curious")]
    expected = [cluster_documents(each, 3) for each in older]

    def refuse(*_: object) -> None:
        raise AssertionError("a model is trained")

    monkeypatch.setattr(ModelLearner, "_learn", refuse)
    found = cluster_documents(documents, 3)

    for each in expected:
        xr.testing.assert_identical(found, each)
    for each in older:
        with pytest.raises(AssertionError, match="a model is trained"):
            cluster_documents(each, 3)
    goes_on = [
        *documents,
        ("start", documents[0][1] | {"uid": "b", schema.RESUMES: documents[0][1]["uid"]}),
    ]
    with pytest.raises(AssertionError, match="a model is trained"):
        cluster_documents(goes_on, 3)


def test_seeds_and_the_density_where_others_were_chosen_are_told_apart() -> None:
    documents = documents_in(STORED / "published.jsonl.gz")
    found = cluster_documents(documents, 3)

    decided = [(d["row"], d["col"]) for d in events(documents, schema.DECISIONS)
               if d["reason"] == "seed"]  # fmt: skip
    assert sorted(decided) == sorted(map(tuple, np.argwhere(found["seed"].values).tolist()))
    assert found["n_seeds"].sum() == len(decided) < found["n_measured"].sum()

    known = found["cluster"].values >= 0
    space = found["latent"].values[known]
    apart = np.linalg.norm(space[:, None] - space, axis=-1)
    far = np.sort(apart, axis=1)[:, 10]
    sparser = (far[:, None] < far).mean(axis=1)
    np.testing.assert_allclose(found["density"].values[known], sparser, atol=0.01)
    chosen = (found["measured"] & ~found["seed"]).values
    assert found.attrs["density"] == found["density"].values[chosen].mean()


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
        "principal component 1", "latent component 1",
    }  # fmt: skip
    assert figure.axes[3].get_ylim() == figure.axes[7].get_ylim()
    assert [figure.axes[i].get_title() for i in (0, 4)] == [
        "curious\nfilm of curious", "vatsavai2025-latent\nfilm of vatsavai2025-latent"
    ]  # fmt: skip
    assert figure.axes[2].get_xlabel() == "x (um)" and "(V)" in figure.axes[3].get_xlabel()
    figure.savefig(tmp_path / "clusters.png")
    assert (tmp_path / "clusters.png").stat().st_size > 10_000


def test_alike_clusters_have_one_colour_and_the_titles_say_what_differs() -> None:
    one = cluster_documents(documents_in(STORED / "curious.jsonl.gz"), 3)
    parameters = json.loads(one.attrs["parameters"]) | {"patch_size": 99}
    other = one.isel(number=[2, 0, 1]).assign_attrs(parameters=json.dumps(parameters))

    figure = draw_clusters([one, other])

    first, second = ([line.get_color() for line in figure.axes[i].lines] for i in (3, 7))
    assert second == [first[2], first[0], first[1]] and len(set(first)) == 3
    assert figure.axes[4].get_title() == "curious\npatch_size = 99"


def test_a_cluster_of_few_pixels_is_scored_too() -> None:
    """Of a large survey not all pixels are scored; an outlier must be among them."""
    space = np.random.default_rng(0).normal(size=(4096, 2))
    space[:2] += 1e3
    labels, silhouette = clusters._clustered(space, None, seed=0)
    assert silhouette > 0.8 and list(np.bincount(labels)) == [4094, 2]
