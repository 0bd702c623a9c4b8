"""The live view shows what the documents say, and never stands in the way."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bluesky import RunEngine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from support import QUICK, WAIT, collected_run

from curiosity_bluesky import InputError, connect, curiosity_plan
from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.analysis import explain_in_catalog
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import predictions
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.views import LiveView, RunPicture, colours, live
from curiosity_bluesky.views.expected import expected_maps
from curiosity_bluesky.views.panels import running_median
from sim_devices import Faults, SyntheticSample


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
    path, _, errors, loop, curve = figure.axes[:5]
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


def test_a_run_that_is_resumed_in_a_new_session_is_drawn_with_what_was_before(documents, tmp_path):
    first = documents[0][1]
    resumed = {**first, "uid": "next", "curiosity_resumes": first["uid"]}
    before = picture_of(documents)
    for known, numbers in ((True, before.good), (False, [])):

        def lineage(uid, known=known):
            if not known:
                raise InputError(f"no run {uid}")
            return [documents] if uid == first["uid"] else []

        view = LiveView(tmp_path, interval=600, window=False, lineage=lineage)
        view("start", resumed)
        assert view.picture.good == numbers and view.picture.start["uid"] == "next"
        view.finish()


@pytest.mark.slow
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
    figures = []
    for recorded in (True, False):
        asked = {"parameters": quick, "record_predictions": recorded}
        _, documents = collected_run(RE, instrument, num_points=6, strategy=strategy, **asked)
        figures.append(Figure())
        picture_of(documents).draw(figures[-1])
    assert figures[0].axes[1].images  # it learned at the end
    assert not figures[1].axes[1].images and not figures[1].axes[2].images


def test_the_counts_of_the_figure_agree_when_the_budget_is_changed(RE, instrument):
    steering, picture = Steering(), RunPicture()
    instrument.microscope.faults = Faults(nan=0.3, seed=2)

    def change(name, doc):
        picture(name, doc)
        if picture.count.n == 7 and picture.count.budget == 8:
            steering.budget(9)

    RE.subscribe(change)
    options = {"parameters": QUICK, "steering": steering, "retries": 5, "retry_wait": 0.0}
    stage = instrument.stage
    RE(curiosity_plan([instrument.spectrometer], stage.x, stage.y, instrument.imager, 8,
                      options=options))  # fmt: skip
    figure = Figure()
    picture.draw(figure)
    assert "9 of 9 spectra" in figure.get_suptitle()
    path, curve = figure.axes[0], figure.axes[4]
    labels = [each.get_text() for each in path.get_legend().get_texts()]
    assert "6 seeds" in labels and "3 chosen (bright: latest)" in labels
    assert curve.get_xlim()[1] == 9 and len(picture.good) == 9


@pytest.mark.quick("1.0")
@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_seeds_are_seen_on_any_ground(RE, ground):
    film = SyntheticSample((16, 14), seed=1, points=8)
    film.images["amplitude"] = np.full((16, 14), ground) + 1e-9 * np.arange(14)
    _, documents = collected_run(RE, simulated_instrument(film, speed=math.inf), num_points=6)
    picture, figure = picture_of(documents), Figure(figsize=(13.5, 8.6))
    canvas = FigureCanvasAgg(figure)
    picture.draw(figure)
    axes = figure.axes[0]
    axes.images[0].set_clim(0, 1)
    canvas.draw()
    brightness = np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=-1)
    for seed in (picture.decisions[i] for i in picture.good):
        x, y = axes.transData.transform((seed.x, seed.y)).astype(int)
        around = brightness[len(brightness) - y - 9 : len(brightness) - y + 9, x - 9 : x + 9]
        assert around.min() < 60 and around.max() > 220


def test_of_many_points_a_line_joins_the_newest_and_they_have_numbers(documents):
    picture = picture_of(documents)
    seed = picture.decisions[0]
    last = max(picture.decisions)
    for number in range(last + 1, 90):
        picture.decisions[number] = replace(seed, decision_id=number, reason="curious")
        picture.spectra[number] = picture.spectra[0]
    picture.count = SimpleNamespace(n=90, budget=90, decisions=set(range(90)))
    figure = Figure()
    picture.draw(figure)
    path = figure.axes[0]
    assert len(path.lines[1].get_xdata()) == 20
    assert [each.get_text() for each in path.texts] == ["87", "88", "89"]


def test_all_channels_of_the_survey_are_drawn_with_their_units(RE):
    film = SyntheticSample((16, 14), seed=1, points=8, phase=True)
    _, documents = collected_run(RE, simulated_instrument(film, speed=math.inf), num_points=6)
    figure = Figure()
    picture_of(documents).draw(figure)
    shown = {axes.get_title(): axes for axes in figure.axes}
    image = shown["imager_phase"].images[0]
    np.testing.assert_array_equal(image.get_array(), film.images["phase"])
    assert image.colorbar.ax.get_ylabel() == "deg"


# ---- what is expected


def test_the_first_component_is_found_with_its_share_and_unit():
    rng = np.random.default_rng(0)
    true, shape = rng.normal(size=(9, 7)), np.array([1.0, -3.0, 2.0, 0.0])
    spectra = 5 + true[..., None] * shape
    spectra[0] = np.nan  # nothing is expected there
    deviation = np.full(spectra.shape, 0.5)
    maps = expected_maps(spectra, deviation, 4, axis=np.arange(4), channels=[(4, "pm")])
    assert np.isnan(maps.values[0]).all()
    size = np.sqrt((shape**2).mean())
    centred = true[1:] - true[1:].mean()
    # Positive where the point that it changes most is increased, here the second.
    np.testing.assert_allclose(maps.values[1:], -size * centred)
    assert maps.label == "first principal component (pm)\n100 % of the variance"
    np.testing.assert_allclose(maps.error[1:], 0.5)
    assert maps.error_label == "standard deviation (pm)"


def test_channels_of_other_units_count_alike():
    true = np.random.default_rng(1).normal(size=(8, 8, 2))
    spectra = np.concatenate([1e6 * true[..., :1] * [1, -1], true[..., 1:] * [1, -1]], axis=-1)
    channels = [(2, "V"), (2, "rad")]
    maps = expected_maps(spectra, None, 4, axis=np.arange(2), channels=channels)
    share = int(re.search(r"(\d+) %", maps.label)[1])
    assert 50 <= share < 75 and "(scaled)" in maps.label and maps.error is None


def test_what_the_documents_expect_is_the_main_panel(RE, instrument, monkeypatch):
    monkeypatch.setattr(predictions, "BLOCK", 4 * 14 * 16 * 5)  # five rows an event
    _, documents = collected_run(RE, instrument)
    predicted = CuriosityAgent.from_documents(documents).explorer.predict()
    rows = [k for k, (_, doc) in enumerate(documents) if "first_row" in doc.get("data", {})]
    picture = picture_of(documents[: rows[-1]])
    assert len(rows) > 1 and picture.expected is None  # some are missing
    for document in documents[rows[-1] :]:
        picture(*document)
    figure = Figure()
    picture.draw(figure)
    main, error = figure.axes[1:3]
    assert main.get_title() == "Expected after 8 spectra"
    expected = np.sqrt((predicted.deviation**2).mean(axis=-1))
    shown = error.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert error.images[0].colorbar.ax.get_ylabel() == "standard deviation (pm)"


def test_a_property_takes_the_place_of_the_component_unless_it_fails(documents, caplog):
    predicted = CuriosityAgent.from_documents(documents).explorer.predict()

    def highest(spectra, axis):
        return "highest response (pm)", spectra.max(axis=-1)

    def broken(spectra, axis):
        raise ValueError("no such thing")

    picture = picture_of(documents)
    picture.measure = highest
    picture.expect(predicted.spectra, predicted.deviation, 14)
    np.testing.assert_array_equal(picture.expected.values, predicted.spectra.max(axis=-1))
    assert picture.expected.label == "highest response (pm)"
    picture.measure = broken
    picture.expect(predicted.spectra, predicted.deviation, 14)
    assert "component" in picture.expected.label and "no such thing" in caplog.text


def test_the_plan_says_what_is_expected_while_the_run_goes_on(RE, instrument, tmp_path):
    steering, view = Steering(), LiveView(tmp_path, interval=10**6, window=False)
    known = []

    def watch(explorer):
        view.watch(explorer)
        known.append(None if view.picture.expected is None else view.picture.expected.n_observed)

    steering.watchers.append(watch)
    RE.subscribe(view)
    collected_run(RE, instrument, num_points=9, steering=steering)
    assert known[:6] == [None] * 6  # nothing is learned for it before the seeds are in
    assert known[6] == 6


@pytest.mark.slow
def test_a_decision_of_a_run_under_way_is_explained(RE, instrument, tmp_path):
    said = []
    with connect(tmp_path) as catalog:
        RE.subscribe(catalog.writer())

        def ask(name, doc):
            if name == "event" and doc["data"].get("decision_id") == 7 and "attempt" in doc["data"]:
                said.append(str(explain_in_catalog(catalog, RE.md["uid_of_run"], 7)))

        RE.subscribe(lambda name, doc: RE.md.update(uid_of_run=doc["uid"]), "start")
        RE.subscribe(ask)
        collected_run(RE, instrument, num_points=9)
    assert said and "um" in said[0] and "comes out the same" in said[0]


def test_blind_strategies_learn_nothing_for_the_figure(RE, instrument, tmp_path):
    steering, view = Steering(), LiveView(tmp_path, interval=10**6, window=False)
    steering.watchers.append(view.watch)
    RE.subscribe(view)
    asked = {"strategy": "random", "record_predictions": False}
    collected_run(RE, instrument, steering=steering, **asked)
    assert view.picture.expected is None


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


def test_errors_in_the_figure_never_stop_a_run(RE, instrument, tmp_path, caplog):
    class Broken(RunPicture):
        def __call__(self, name, doc):
            super().__call__(name, doc)
            raise ValueError("a bad picture")

    steering, view = Steering(), LiveView(tmp_path, interval=10**6, window=False)
    view.picture = Broken(measure=lambda spectra, axis: 1 / 0)
    view.picture.expect = lambda *args: 1 / 0
    steering.watchers.append(view.watch)
    RE.subscribe(view)
    _, documents = collected_run(RE, instrument, num_points=8, steering=steering)
    assert documents[-1][1]["exit_status"] == "success"
    assert caplog.text.count("a bad picture") == 1  # said once
    assert caplog.text.count("could not predict") == 1


def test_the_last_picture_of_each_run_is_of_its_last_documents(documents, tmp_path, monkeypatch):
    """Also where the next run begins before the thread has drawn the one before."""
    view, drawn, second = LiveView(tmp_path, interval=10**6, window=False), {}, "second-run"
    held, write = threading.Event(), LiveView._write

    def held_up(self, path, picture):
        held.wait(WAIT)
        drawn[path.stem] = picture.count.n, picture.ended
        return write(self, path, picture)

    monkeypatch.setattr(LiveView, "_write", held_up)
    for document in documents:
        view(*document)
    start = {**documents[0][1], "uid": second}
    view("start", start)
    held.set()
    first = documents[0][1]["uid"][:8]
    wait_until(lambda: (tmp_path / f"{first}.png").exists())
    assert drawn[first] == (14, True)
    view("stop", {"run_start": second, "exit_status": "success", "uid": "end"})
    wait_until(lambda: drawn.get(second[:8]) == (0, True))


def test_a_window_leaves_the_last_picture_of_a_run_in_a_file(documents, tmp_path):
    view = LiveView(tmp_path, interval=0.01, window=False)
    view._figure = Figure()  # as if there were a window
    for document in documents[:-1]:
        view(*document)
    wait_until(lambda: not view._news.is_set())
    assert not list(tmp_path.glob("*.png"))
    view(*documents[-1])
    wait_until(lambda: list(tmp_path.glob("*.png")) == [view.path])


def test_the_view_says_where_it_draws_and_why(tmp_path, monkeypatch):
    view = LiveView(tmp_path, window=False)
    assert "PNG files" in view.where and matplotlib.get_backend() in view.where
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert "MPLBACKEND=agg" in view.where
    monkeypatch.delenv("MPLBACKEND")
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    assert "pip install curiosity-bluesky[live]" in view.where
    monkeypatch.setattr(live, "find_spec", lambda name: name)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(live.sys, "platform", "linux")
    assert "no display" in view.where


def seen(colour, vision):
    """Return a colour (linear RGB) as it is seen, after Vienot, Brettel and Mollon (1999)."""
    values = np.array(to_rgb(colour))
    values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return values @ np.array(vision).T


VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.004, -0.004, 1]],
    "deuteranopia": [[0.2928, 0.7072, 0], [0.2928, 0.7072, 0], [-0.0223, 0.0223, 1]],
}


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_are_told_apart_with_every_vision(vision):
    panels = [
        (colours.MEASURED, colours.PREDICTED),
        (colours.NEXT, colours.OUTLINE, *colours.SCORES),
        (colours.MANUAL, colours.FAILED, colours.FLAG, colours.DRIFT, colours.MARK),
    ]
    for panel in panels:
        for one, other in itertools.combinations(panel, 2):
            difference = seen(one, VISIONS[vision]) - seen(other, VISIONS[vision])
            assert np.linalg.norm(difference) > 0.1, (one, other)
    weights = np.array([0.2126, 0.7152, 0.0722])
    for name in (colours.EXPECTED_MAP, colours.ERROR_MAP, colours.SURVEY_MAP, colours.ORDER_MAP):
        steps = matplotlib.colormaps[name](np.linspace(0, 1, 30))[:, :3]
        brightness = [weights @ seen(step, VISIONS[vision]) for step in steps]
        assert (np.diff(brightness) > 0).all(), name


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


@pytest.mark.slow
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


def test_a_copy_of_a_picture_keeps_the_start_document_of_its_run():
    """The last picture of a run is drawn while the next one has begun."""
    picture = RunPicture()
    picture("start", {"uid": "first", "time": 0.0})
    kept = picture.copy()
    picture("start", {"uid": "second", "time": 1.0})
    assert (kept.start["uid"], picture.start["uid"]) == ("first", "second")


@pytest.mark.parametrize("along", [np.arange(4.0), np.arange(4.0)[::-1]])
def test_pixels_reach_half_a_step_beyond_their_centres(along):
    from curiosity_bluesky.views.extent import extent_of

    step = along[1] - along[0]
    left, right, bottom, top = extent_of(along, along)
    assert (left, right) == (along[0] - step / 2, along[-1] + step / 2) == (top, bottom)
