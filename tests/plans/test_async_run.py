"""The plan with devices of ophyd-async, alone or beside others, and with an imager of files."""

from __future__ import annotations

import math

import bluesky.preprocessors as bpp
import event_model
import h5py
import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.utils import FailedStatus
from event_model import DocumentNames, schema_validators

pytest.importorskip("ophyd_async")

from async_support import with_async, with_band_excitation
from matplotlib.figure import Figure
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
from ophyd_async.sim import PatternGenerator, SimBlobDetector, SimMotor
from support import events, facts, few, grouped, normal, paused_run

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import PlanReadable, Translator, read_stream
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Survey
from curiosity_bluesky.plans import stubs
from curiosity_bluesky.views import RunPicture
from sim_devices import Faults, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
POINTS = 8
ALL = ("stage", "spectrometer", "imager")


def plan_on(instrument, **settings):
    settings = {"num_points": POINTS, "parameters": few("curious"), "retry_wait": 0, **settings}
    x, y = instrument.stage.x, instrument.stage.y
    return curiosity_plan([instrument.spectrometer], x, y, instrument.imager, **grouped(**settings))


def run(*which, RE=None, files=None, instrument=None, **settings):
    """Run the plan with these devices of ophyd-async, the others of ophyd; its documents."""
    RE, documents = RE or RunEngine({}), []
    instrument = instrument or simulated_instrument(SAMPLE, speed=math.inf)
    with_async(RE, instrument, *which, files=files)
    RE(plan_on(instrument, **settings), lambda *document: documents.append(document))
    return documents


@pytest.fixture(scope="module")
def classic():
    return run()


def survey_of(documents) -> Survey:
    translate = Translator()
    found = [item for document in documents for item in translate(*document)]
    [survey] = [item for item in found if isinstance(item, Survey)]
    return survey


def same_survey(first, second):
    assert list(first.channels) == list(second.channels)
    for name, values in first.channels.items():
        np.testing.assert_array_equal(second.channels[name], values)
        assert second.channels[name].dtype == values.dtype
    for axis in ("x", "y", "mask"):
        np.testing.assert_array_equal(getattr(first, axis), getattr(second, axis))


def valid(documents):
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(event_model.sanitize_doc(doc))


@pytest.mark.quick("which0", "which2")
@pytest.mark.parametrize("which", [("stage",), ("spectrometer",), ("imager",), ALL])
def test_the_run_is_the_same_whatever_kind_the_devices_are_of(classic, which, tmp_path):
    documents = run(*which, files=tmp_path)
    valid(documents)
    for stream in ("decisions", "primary"):
        assert facts([documents], stream) == facts([classic], stream)
    same_survey(survey_of(classic), survey_of(documents))
    assert documents[0][1]["motors"] == ["stage_x", "stage_y"]
    assert normal(documents[0][1]["hints"]) == normal(classic[0][1]["hints"])


def test_band_excitation_is_learned_from_and_recorded_alike(tmp_path):
    def recorded(*which):
        instrument = with_band_excitation(simulated_instrument(SAMPLE, speed=math.inf))
        return run(*which, instrument=instrument, num_points=6)

    expected, documents = recorded(), recorded("spectrometer")
    valid(documents)
    for stream in ("decisions", "primary"):
        assert facts([documents], stream) == facts([expected], stream)
    [*_, point] = events(documents, "primary")
    assert [key for key in point if key.endswith("_predicted")] == [
        "spectrometer_polarisation_predicted"
    ]
    assert point["spectrometer_spectrogram_real"].shape == (24, 32)


# --- instruments that fail -----------------------------------------------------------------


@pytest.mark.quick("raises*", "nan*")
@pytest.mark.parametrize(
    ("kind", "said", "timeout"),
    [
        ("raises", "RuntimeError", 20.0),
        ("timeout", "spectrometer did not answer within 0.3 s", 0.3),
        ("nan", "quality 0 of the spectrum", 20.0),
        ("stuck", "um from its target", 20.0),
        ("lost", "ConnectionError", 20.0),
    ],
)
def test_what_fails_is_tried_again_and_recorded_with_its_reason(
    classic, tmp_path, kind, said, timeout
):
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    scan = instrument.microscope.scan

    def scan_and_break():
        image = scan()
        instrument.microscope.faults = Faults(lost_calls=1)
        instrument.microscope.faults.next(kind)
        return image

    instrument.microscope.scan = scan_and_break
    documents = run(*ALL, files=tmp_path, instrument=instrument, retries=3, timeout=timeout)
    failures = events(documents, "failures")
    assert failures and all(said in f["reason"] for f in failures), failures
    assert documents[-1][1]["exit_status"] == "success"
    good = [p for p in events(documents, "primary") if p["spectrometer_quality"] >= 0.5]
    expected = [p["spectrometer_response"] for p in events(classic, "primary")]
    np.testing.assert_array_equal([p["spectrometer_response"] for p in good], expected)


def test_a_survey_that_fails_ends_the_plan_before_there_is_a_run(tmp_path):
    instrument = simulated_instrument(SAMPLE, speed=math.inf)

    def scan():
        raise ConnectionError("no route to the controller")

    instrument.microscope.scan = scan
    with pytest.raises(FailedStatus) as caught:
        run(*ALL, files=tmp_path, instrument=instrument)
    assert "no route to the controller" in str(caught.value.__cause__)
    assert not list(tmp_path.iterdir())


def test_a_pixel_out_of_reach_is_refused_before_there_is_a_run(tmp_path):
    RE, documents = RunEngine({}), []
    instrument = with_async(RE, simulated_instrument(SAMPLE, speed=math.inf), "stage")
    instrument.stage.x.limits = (0.0, 0.1)
    at = instrument.microscope.position("x")
    with pytest.raises(InputError, match=r"reaches x = 0\.\d+ um, where stage_x may not go"):
        RE(plan_on(instrument), lambda *document: documents.append(document))
    assert not documents and instrument.microscope.position("x") == at


def test_a_dry_run_moves_nothing_and_says_limits_and_times(tmp_path, capsys):
    RE = RunEngine({}, call_returns_result=True)
    instrument = simulated_instrument(SAMPLE, speed=1.0)
    with_async(RE, instrument, *ALL, files=tmp_path)
    outline = RE(plan_on(instrument, dry_run=True)).plan_result
    assert outline.limits["stage_x"][0] == instrument.microscope.limits("x")
    assert outline.seconds["survey"] == instrument.microscope.scan_seconds
    assert instrument.microscope.n_scans == 0 and not list(tmp_path.iterdir())
    assert "nothing moves" in capsys.readouterr().out


def test_a_run_that_is_paused_anywhere_is_the_same_run(classic, tmp_path):
    RE, documents = RunEngine({}), []
    instrument = with_async(RE, simulated_instrument(SAMPLE, speed=math.inf), *ALL, files=tmp_path)
    pauses = paused_run(
        RE,
        plan_on(instrument),
        lambda k, msg: k % 23 == 5,
        lambda *document: documents.append(document),
    )
    assert pauses > 5
    assert facts([documents], "decisions") == facts([classic], "decisions")
    same_survey(survey_of(classic), survey_of(documents))


# --- images in files -----------------------------------------------------------------------


@pytest.fixture
def catalog(tmp_path):
    with connect(tmp_path / "runs") as opened:
        yield opened


@pytest.mark.slow
def test_a_survey_in_a_file_is_in_tiled_and_rebuilds_the_agent(classic, catalog, tmp_path):
    RE, written = RunEngine({}), []
    RE.subscribe(catalog.writer(batch_size=1000))

    def is_written(name, doc):
        if name == "stream_resource":
            [path] = catalog.assets.iterdir()
            with h5py.File(path) as file:
                written.append(np.array(file[doc["parameters"]["dataset"]]))

    RE.subscribe(is_written)
    documents = run(*ALL, RE=RE, files=catalog.assets)
    np.testing.assert_array_equal(written, [[SAMPLE.images["amplitude"]]])
    [data] = events(documents, "survey")
    assert list(data) == ["mask"]
    catalog.flush()
    assert not list(catalog.journal.iterdir())

    with connect(tmp_path / "runs", create=False) as other:  # a client of its own
        stored = other[-1]
        survey = read_stream(stored, "survey")
        assert survey["imager_amplitude"].dims == ("event", "y", "x")
        assert survey["imager_amplitude"].attrs["units"] == "pm"
        np.testing.assert_array_equal(survey["imager_amplitude"][0], SAMPLE.images["amplitude"])
        np.testing.assert_array_equal(survey["x"], SAMPLE.x)
        points = read(stored)
        expected = [p["spectrometer_response"] for p in events(classic, "primary")]
        np.testing.assert_array_equal(points["spectrometer_response"], expected)
        expected = CuriosityAgent.from_documents(classic).suggest()[0]
        read_back = list(other.documents(-1))
        for source in (documents, stored.documents(), read_back):
            agent = CuriosityAgent.from_documents(source)
            assert agent.suggest()[0].pixel == expected.pixel
        picture, figure = RunPicture(), Figure()
        for document in read_back:
            picture(*document)
        picture.draw(figure)
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_array_equal(shown, SAMPLE.images["amplitude"])


@pytest.mark.parametrize("source", ["journal", pytest.param("tiled", marks=pytest.mark.slow)])
def test_a_run_with_a_survey_in_a_file_goes_on_where_it_was_killed(
    classic, catalog, tmp_path, source
):
    whole = run(*ALL, files=catalog.assets)
    at = next(k for k, (name, doc) in enumerate(whole) if doc.get("name") == "primary")
    journal = RunJournal(catalog.journal, whole[0][1]["uid"])
    for document in whole[: at + 9]:
        journal.append(*document)
    journal.close()
    if source == "tiled":
        [taken] = catalog.recover()
        assert (taken.status, taken.interrupted) == ("written", True), taken
    before = catalog.documents(whole[0][1]["uid"])
    rest = run(
        *ALL,
        files=tmp_path,
        resume=whole[0][1]["uid"],
        catalog=str(tmp_path / "runs"),
        parameters=None,
        num_points=None,
    )
    for stream in ("decisions", "primary"):
        assert facts([before, rest], stream) == facts([classic], stream)
    assert not [name for name, _ in rest if name.startswith("stream_")]
    np.testing.assert_array_equal(
        events(rest, "survey")[0]["imager_amplitude"], SAMPLE.images["amplitude"]
    )


def test_without_the_file_it_is_said_which_was_expected_where(tmp_path):
    documents = run("imager", files=tmp_path)
    [path] = tmp_path.iterdir()
    path.rename(path.with_suffix(".gone"))
    said = rf"imager_amplitude is expected in the file .*{path.name}, dataset /entry/amplitude"
    with pytest.raises(InputError, match=said):
        CuriosityAgent.from_documents(documents)
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="cannot be read"):
        CuriosityAgent.from_documents(documents)
    without = [d for d in documents if d[0] != "stream_datum"]
    with pytest.raises(InputError, match="no stream_datum came before"):
        CuriosityAgent.from_documents(without)


def test_a_pause_while_the_survey_is_taken_or_written_loses_no_image(tmp_path):
    """Each message of the first part of the plan, one after the other."""
    for k in range(4, 24, 2):
        RE, documents = RunEngine({}), []
        files = tmp_path / str(k)
        files.mkdir()
        instrument = with_async(
            RE, simulated_instrument(SAMPLE, speed=math.inf), "imager", files=files
        )

        def kth(n: int, msg: Msg, k: int = k) -> bool:
            return n == k

        plan = plan_on(instrument, num_points=4, strategy="random", parameters=few("random"))
        paused_run(RE, plan, kth, lambda *document: documents.append(document))  # noqa: B023
        resources = [doc for name, doc in documents if name == "stream_resource"]
        assert len({doc["uid"] for doc in resources}) == len(resources) == 1, k
        survey = survey_of([d for n, d in enumerate(documents) if not repeated(documents, n)])
        np.testing.assert_array_equal(
            survey.channels["imager_amplitude"], SAMPLE.images["amplitude"]
        )


def repeated(documents, n) -> bool:
    """Whether a document is an event that a pause had repeated."""
    name, doc = documents[n]
    key = doc.get("descriptor"), doc.get("seq_num")
    before = [(d["descriptor"], d["seq_num"]) for kind, d in documents[:n] if kind == "event"]
    return name == "event" and key in before


class Foreign:
    """Devices as others write them: two motors, and a camera that writes HDF5 on and on."""

    def __init__(self, directory):
        with init_devices():
            pattern = PatternGenerator()
            mx, my = SimMotor(units="um"), SimMotor(units="um")
            blob = SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), directory), pattern)
        self.x, self.y, self.blob, self.pattern = mx, my, blob, pattern


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.slow
def test_any_detector_that_writes_hdf5_takes_the_survey(tmp_path, monkeypatch, readable):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "runs").mkdir()
    if readable:
        listed = f"# of the camera\n{images}\n"
        (tmp_path / "runs" / "readable-storage").write_text(listed)
    RE, documents = RunEngine({}), []
    instrument = with_async(RE, simulated_instrument(SAMPLE, speed=math.inf), "spectrometer")
    foreign = Foreign(images)
    plan = curiosity_plan(
        [instrument.spectrometer],
        foreign.x,
        foreign.y,
        foreign.blob,
        num_points=3,
        strategy="random",
        options={"parameters": few("random")},
    )
    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer(batch_size=1000))
        RE(plan, lambda *document: documents.append(document))
        valid(documents)
        survey = survey_of(documents)
        assert list(survey.channels) == ["blob"] and survey.shape == (240, 320)
        assert survey.channels["blob"].max() > 0
        same_survey(survey_of(catalog.documents(-1)), survey)
        if readable:
            stored = read_stream(catalog[-1], "survey")
            np.testing.assert_array_equal(stored["blob"][0], survey.channels["blob"])
            assert stored["blob-sum"].dims == ("event",)
            assert int(stored["blob-sum"][0]) == survey.channels["blob"].sum()
        else:
            assert read(catalog[-1]).sizes["point"] == 3
            # The server refuses each time, and Tiled's client asks for half a minute.
            monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
            with pytest.raises(InputError, match="readable-storage"):
                read_stream(catalog[-1], "survey")


def test_a_line_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "readable-storage").write_text("images\n")
    with pytest.raises(InputError, match="'images'; expected a directory's whole path"):
        connect(tmp_path)


@pytest.mark.slow
def test_what_tiled_does_not_know_of_a_file_is_written_again(catalog, RE):
    RE.subscribe(catalog.writer(batch_size=1000))
    documents = run("imager", RE=RE, files=catalog.assets)
    uid = documents[0][1]["uid"]
    stored = catalog[uid]
    stored["survey"].base.delete_contents("imager_amplitude")
    assert "imager_amplitude" not in catalog[uid]["survey"].base
    journal = RunJournal(catalog.journal, uid)
    for document in documents:
        journal.append(*document)
    journal.close()
    [taken] = catalog.recover()
    assert taken.status == "written", taken
    survey = read_stream(catalog[uid], "survey")
    np.testing.assert_array_equal(survey["imager_amplitude"][0], SAMPLE.images["amplitude"])
    assert len(list(catalog.assets.iterdir())) == 1


@pytest.mark.slow
def test_the_image_that_counts_is_the_last_one_before_the_event(catalog, RE):
    """As where a pause had it taken again, by a camera that writes on into one file."""
    RE.subscribe(catalog.writer(batch_size=1000))
    foreign, looks, documents = Foreign(catalog.assets), [], []

    def plan():
        for x in (0.0, 2.0, 3.0):  # the pattern depends on it
            foreign.pattern.set_x(x)
            looks.append((yield from stubs.take_survey(foreign.blob)))
        mask = PlanReadable(
            "limits", {"mask": looks[0].mask.astype("|u1")}, {"mask": "yx"}, ["blob"]
        )

        def written():
            yield from stubs.save("survey", [foreign.blob, mask])
            foreign.pattern.set_x(5.0)
            looks.append((yield from stubs.take_survey(foreign.blob)))
            yield from stubs.save("survey", [foreign.blob, mask])
            return "done"

        yield from stubs.in_a_run(written(), {})

    RE(bpp.stage_wrapper(plan(), [foreign.blob]), lambda *d: documents.append(d))
    images = [look.channels["blob"] for look in looks]
    assert len({image.max() for image in images}) == 4
    np.testing.assert_array_equal(read_stream(catalog[-1], "survey")["blob"], images[2:])
    for source in (documents, catalog.documents(-1)):
        translate = Translator()
        found = [item for document in source for item in translate(*document)]
        np.testing.assert_array_equal([item.channels["blob"] for item in found], images[2:])


@pytest.mark.slow
def test_surveys_that_are_taken_again_are_in_files_as_well(tmp_path):
    whole = run(resurvey_every=3)
    documents = run(*ALL, files=tmp_path, resurvey_every=3)
    valid(documents)
    for stream in ("decisions", "primary"):
        assert facts([documents], stream) == facts([whole], stream)
    again = events(documents, "drift")
    assert len(again) == len(events(whole, "drift")) > 1
    assert [name for name, _ in documents].count("stream_datum") == 1 + len(again)
