"""A region that structure does not explain, from the plan to the picture and back from Tiled."""

import math

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from event_model import DocumentNames, schema_validators
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from support import events

from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import flags_of, read_stream
from curiosity_bluesky.views.report import show_run
from curiosity_bluesky.views.run_figure import RunPicture
from sim_devices import RecordedSample, SyntheticSample

ODD = (slice(8, 16), slice(18, 26))


@pytest.fixture(scope="module")
def odd_film(tmp_path_factory):
    """A film with a square of loops that are upside down and four times as large."""
    film = SyntheticSample((32, 32), points=32)
    spectra = np.array(film.spectra["response"])
    spectra[ODD] *= -4
    path = tmp_path_factory.mktemp("odd") / "odd.npz"
    np.savez(path, image=film.images["amplitude"], spectra=spectra, axis=film.axis,
             extent_um=np.array([3.1, 3.1]))  # fmt: skip
    return RecordedSample.from_npz(path)


def ran(sample, num_points, catalog=None, **parameters):
    """Run the plan on a sample that takes no time; return the documents."""
    RE, documents = RunEngine({}), []
    RE.subscribe(lambda name, doc: documents.append((name, doc)))
    if catalog is not None:
        RE.subscribe(catalog.writer(batch_size=20))
    devices = simulated_instrument(sample, speed=math.inf)
    RE(
        curiosity_plan(
            [devices.spectrometer],
            devices.stage.x,
            devices.stage.y,
            devices.imager,
            num_points=num_points,
            options={"parameters": {"patch_size": 5, "n_seeds": 20, **parameters}},
        )
    )
    return documents


@pytest.mark.slow
def test_an_odd_region_is_in_the_documents_the_picture_and_what_is_read_back(odd_film, tmp_path):
    with connect(tmp_path / "runs") as catalog:
        documents = ran(odd_film, 60, catalog, rim="omit")
        run = catalog[-1]
        flags = flags_of(run)
        assert read_stream(run, "flags")["radius"].attrs["units"] == "um"
        picture = tmp_path / "run.png"
        report = show_run(catalog, run.start["uid"], picture)
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(event_model.sanitize_doc(doc))
    assert [flag.remark for flag in flags] == [e["remark"] for e in events(documents, "flags")]
    first = flags[0]
    assert abs(first.x - 2.15) < 0.4 and abs(first.y - 1.15) < 0.4
    assert documents[-1][1]["reason"].startswith("budget")
    assert report.flags == flags and report.to_dict()["flags"][0]["n_observed"] >= 3
    assert any(name == "look closer" and "µm" in words for name, words in report.rows())
    assert picture.exists()
    drawn = RunPicture()
    for name, doc in documents:
        drawn(name, doc)
    figure = Figure()
    drawn.draw(figure)
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    assert [circle.center for circle in circles] == [(flag.x, flag.y) for flag in flags]
    assert figure.axes[0].get_xlim()[1] < 3.3  # the survey, not the circle, sets the limits


def test_the_run_ends_early_when_its_strategy_has_enough(film):
    documents = ran(film, 100, least_gain=0.05)
    stop = documents[-1][1]
    assert stop["exit_status"] == "success" and stop["reason"].startswith("gain: ")
    assert 20 <= len(events(documents, "primary")) < 100
    assert events(documents, "maps")  # the end is written as at any other end


def test_no_region_no_stream(film):
    documents = ran(film, 25)
    assert "flags" not in {doc["name"] for name, doc in documents if name == "descriptor"}
