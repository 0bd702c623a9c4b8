"""The live view shows what the documents say, and never stands in the way."""

from __future__ import annotations

import math
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bluesky import RunEngine
from matplotlib.figure import Figure
from support import collected_run

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.views import LiveView, RunPicture
from curiosity_bluesky.views.run_figure import running_median
from sim_devices import SyntheticSample


def wait_until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def picture_of(documents) -> RunPicture:
    picture = RunPicture()
    for name, doc in documents:
        picture(name, doc)
    return picture


@pytest.fixture(scope="module")
def documents():
    """Documents of a run of 14 points, which tests only read."""
    film = SyntheticSample((16, 14), seed=1, points=16)
    devices = simulated_instrument(film, speed=math.inf)
    return collected_run(RunEngine({}), devices, num_points=14, sample="film")[1]


def test_the_picture_shows_survey_path_error_map_and_the_last_loop(documents, instrument):
    picture = picture_of(documents)
    figure = Figure()
    picture.draw(figure)
    path, errors, loop, curve = figure.axes[:4]
    film = instrument.sample
    np.testing.assert_array_equal(path.images[0].get_array(), film.images["amplitude"])
    seeds, measured = path.lines[0], path.collections[0]
    assert len(seeds.get_xdata()) == 6 and len(measured.get_offsets()) == 8
    assert np.isfinite(np.ma.filled(errors.images[0].get_array(), np.nan)).any()
    last = [doc for name, doc in documents if name == "event" and "stage_x" in doc["data"]][-1]
    np.testing.assert_allclose(
        loop.lines[0].get_ydata(), last["data"]["spectrometer_response"], rtol=1e-6
    )
    np.testing.assert_array_equal(loop.lines[0].get_xdata(), film.axis)
    assert loop.get_xlabel() == "bias (V)"
    assert "film" in figure.get_suptitle() and "14 of 14" in figure.get_suptitle()
    assert len(curve.lines[0].get_xdata()) == 8  # predictions begin after the seeds


def test_the_error_curve_is_that_of_the_predictions_made_beforehand(documents):
    n, errors = picture_of(documents).errors()
    events = [d["data"] for name, d in documents if name == "event" and "stage_x" in d["data"]]
    measured = np.array([e["spectrometer_response"] for e in events], float)
    expected = np.array([e["spectrometer_response_predicted"] for e in events], float)
    spread = np.mean((measured - measured.mean(axis=0)) ** 2)
    np.testing.assert_array_equal(n, np.arange(6, 14))
    np.testing.assert_allclose(
        errors, np.mean((expected - measured)[6:] ** 2, axis=1) / spread, rtol=1e-6
    )


def test_every_prefix_of_a_run_can_be_drawn(documents):
    picture = RunPicture()
    figure = Figure()
    picture.draw(figure)  # before there is anything
    for name, doc in documents:
        picture(name, doc)
        if name != "event" or doc["seq_num"] in (1, 7):
            picture.draw(figure)


@pytest.mark.parametrize("strategy", ["random"])
def test_a_strategy_without_an_error_model_is_drawn_too(RE, instrument, strategy):
    quick = {"patch_size": 3, "n_seeds": 4, "start_epochs": 2}
    _, documents = collected_run(RE, instrument, num_points=6, strategy=strategy, parameters=quick)
    figure = Figure()
    picture_of(documents).draw(figure)
    assert not figure.axes[1].images


def test_the_view_writes_a_file_that_is_whole_at_any_time(RE, instrument, tmp_path):
    view = LiveView(tmp_path / "pictures", interval=0.01, window=False)
    RE.subscribe(view)
    uid, _ = collected_run(RE, instrument, num_points=7, strategy="random")
    saved = view.save()
    assert saved == tmp_path / "pictures" / f"{uid[:8]}.png"
    assert saved.read_bytes().endswith(b"IEND\xaeB`\x82")
    deadline = time.monotonic() + 30
    while list(saved.parent.glob(".*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)  # the view's own thread may still be writing under another name
    assert list(saved.parent.iterdir()) == [saved]


def test_a_picture_that_cannot_be_written_does_not_disturb_the_run(RE, instrument, tmp_path):
    (tmp_path / "file").touch()
    RE.subscribe(LiveView(tmp_path / "file" / "pictures", interval=0.01, window=False))
    _, documents = collected_run(RE, instrument, num_points=7, strategy="random")
    assert documents[-1][1]["exit_status"] == "success"


def test_the_last_picture_of_a_run_does_not_wait(RE, instrument, tmp_path):
    view = LiveView(tmp_path, interval=10**6, window=False)
    saved, ended = view.save, []

    def save(path=None):
        ended.append(view.picture.ended)
        return saved(path)

    view.save = save
    RE.subscribe(view)
    collected_run(RE, instrument, strategy="random")
    wait_until(lambda: any(ended))


def test_what_is_not_drawn_yet_is_drawn_before_the_process_ends(documents, tmp_path):
    view = LiveView(tmp_path, window=False)
    for document in documents:
        view.picture(*document)
    view.path = tmp_path / "last.png"
    view.finish()
    assert not view.path.exists()  # there is no news
    view._news.set()
    view.finish()
    assert view.path.exists()


def test_saving_before_any_run_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="no run yet"):
        LiveView(tmp_path, window=False).save()


def test_the_running_median_looks_back_only():
    values = np.array([5.0, 1.0, 3.0])
    np.testing.assert_array_equal(running_median(values), [5.0, 3.0, 3.0])


def test_what_is_amiss_is_a_red_line_that_goes_when_it_is_mended(documents, tmp_path):
    amiss = ["Tiled does not answer since 14:02: 123 documents wait in runs/journal"]
    view = LiveView(tmp_path, interval=0.05, window=False, status=lambda: amiss[0])

    def red(path):
        pixels = plt.imread(path)[-40:, :, :3]
        return int(((pixels[..., 0] > 0.9) & (pixels[..., 1:].max(axis=-1) < 0.2)).sum())

    for name, doc in documents:
        view(name, doc)
    assert view.path is not None
    assert red(view.save(tmp_path / "with.png")) > 50
    wait_until(lambda: view.path.exists() and red(view.path) > 50)
    amiss[0] = ""
    wait_until(lambda: red(view.path) == 0)  # without another document
