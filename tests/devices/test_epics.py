"""The three devices over Channel Access: a real IOC in a process of its own, on loopback."""

from __future__ import annotations

import os
import signal as signals
import threading

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from event_model import DocumentNames, sanitize_doc, schema_validators
from support import WAIT, events, few, grouped, normal, until, whole_events

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from sim_devices import open_sample

pytest.importorskip("epics", reason="Channel Access comes with the extra 'epics'")
pytest.importorskip("caproto", reason="the IOC comes with the extra 'epics'")

from ophyd import EpicsSignalRO
from ophyd.utils import LimitError

from curiosity_bluesky.devices.epics import EpicsAFMStage, EpicsImager, EpicsSpectrometer
from curiosity_bluesky.devices.worker import WorkerBusy
from sim_devices import SyntheticSample
from sim_devices.ioc import IOCProcess
from sim_devices.ioc.settings import free_port

BACK = 200.0
"""How long a test waits for an IOC that was started again (s).

libca looks for it at intervals that double, so that it is found about as long after its start as
it was away, or twice as long if one answer comes too late."""
WAYS = ["stop", "pause", "unstage"]
AT_ONCE = [
    word
    for name in ("settle_s=0", "line_s=0", "spectrum_s=0", "speed_um_per_s=Infinity")
    for word in ("--set", name)
]


@pytest.fixture(scope="session")
def ports():
    """Return three ports of IOCs; libca reads where to search once in a process."""
    ports = free_port(), free_port(), free_port()
    os.environ["EPICS_CA_ADDR_LIST"] = " ".join(f"127.0.0.1:{port}" for port in ports)
    os.environ["EPICS_CA_AUTO_ADDR_LIST"] = "NO"
    return ports


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    film = SyntheticSample((16, 14), seed=1, points=16)
    path = tmp_path_factory.mktemp("ioc") / "film.npz"
    np.savez(
        path, image=film.images["amplitude"], spectra=film.spectra["response"], axis=film.axis,
        extent_um=np.array([0.26, 0.3]),
    )  # fmt: skip
    return path


class Instrument:
    """The three devices on one IOC."""

    def __init__(self, prefix, ioc=None):
        self.prefix, self.ioc = prefix, ioc
        self.stage = EpicsAFMStage(prefix, name="stage")
        self.imager = EpicsImager(f"{prefix}Image:", name="imager")
        self.spectrometer = EpicsSpectrometer(f"{prefix}Spectrum:", name="spectrometer")
        self.devices = (self.stage, self.imager, self.spectrometer)

    def connect(self, timeout=WAIT):
        for device in self.devices:
            device.wait_for_connection(timeout=timeout)
        return self

    def put(self, pv, value):
        import epics

        assert epics.caput(self.prefix + pv, value, wait=True, timeout=WAIT) == 1

    def get(self, pv, **how):
        import epics

        return epics.caget(self.prefix + pv, timeout=WAIT, use_monitor=False, **how)

    def alarm(self, pv):
        import epics

        return epics.get_pv(self.prefix + pv, connect=True).get_with_metadata(use_monitor=False)[
            "severity"
        ]


@pytest.fixture(scope="session")
def served(ports, file):
    """Return the devices on an IOC where nothing takes time but what a test says."""
    with IOCProcess("--sample", str(file), *AT_ONCE, prefix="A:", port=ports[0]) as ioc:
        yield Instrument("A:", ioc).connect()


@pytest.fixture
def instrument(served):
    yield served
    served.put("Spectrum:Abort", 1)
    served.put("Spectrum:Setting:spectrum_s", 0.0)
    served.put("x.STOP", 1)
    served.put("x.VELO", float("inf"))


@pytest.fixture
def mortal(ports, file):
    """Return the devices on an IOC that a test may kill, and what starts it."""
    running = []

    def start(*more):
        running.append(
            IOCProcess("--sample", str(file), *AT_ONCE, *more, prefix="B:", port=ports[1])
        )
        return running[-1]

    start()
    yield Instrument("B:").connect(), start, running
    for ioc in running:
        ioc.close()


def test_arrays_are_whole_before_channel_access_has_told_them(instrument):
    """As just after the connection: pyepics would take the first value for all of them."""
    driver = instrument.spectrometer.driver
    whole = driver.spectrum_settings["sample_source"], driver.spectrum_axis[2], driver._channels
    records = driver.records
    for one in (driver._setting_signal("sample_source"), records.axis, records.channels):
        one._read_pv._args.update(value=None, count=1)
    axis = driver.spectrum_axis[2]
    assert (driver.spectrum_settings["sample_source"], driver._channels) == (whole[0], whole[2])
    assert len(whole[0]) > 1
    np.testing.assert_array_equal(axis, whole[1])


@pytest.mark.parametrize(
    "read",
    [
        lambda image: image._array(1, (16, 14), np.dtype("f4")).ravel(),
        lambda image: image.image_axes[0],
    ],
    ids=["channel", "axis"],
)
def test_an_array_asked_for_while_ophyd_asks_for_its_time_is_whole(served, read):
    """pyepics lets requests of one type for one PV share an answer, whatever their lengths."""
    from epics import ca, dbr

    driver = served.imager.driver
    expected = read(driver)
    assert len(expected) > 1
    signal = driver.records.x if len(expected) == 14 else driver._others["Data1"]
    pv = signal._read_pv
    pending = ca.get_cache(pv.pvname).get_results
    found = []
    os.kill(served.ioc.pid, signals.SIGSTOP)
    try:
        ca.get_with_metadata(pv.chid, ftype=pv.ftype, count=1, wait=False)  # as ophyd does
        pv._args["value"] = None  # as before the first update
        reader = threading.Thread(target=lambda: found.append(read(driver)))
        reader.start()
        until(lambda: pending[dbr.native_type(pv.ftype)][0] is ca.GET_PENDING)
        assert pending[pv.ftype][0] is ca.GET_PENDING
    finally:
        os.kill(served.ioc.pid, signals.SIGCONT)
    reader.join(WAIT)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize(
    "read",
    [lambda driver: driver.spectrum_settings["sample"], lambda driver: driver.spectrum_axis[2]],
    ids=["text", "axis"],
)
def test_the_one_value_that_ophyd_asked_for_is_not_taken_for_the_array(served, read):
    driver = served.spectrometer.driver
    expected = read(driver)
    assert len(expected) > 1
    text = isinstance(expected, str)
    pv = (driver._setting_signal("sample") if text else driver.records.axis)._read_pv
    pv._args["value"] = ord(expected[0]) if text else expected[:1]
    np.testing.assert_array_equal(read(driver), expected)


def test_a_count_of_the_ioc_before_this_one_does_not_hide_a_measurement(served):
    """As just after the connection to an IOC that was started again."""
    driver = served.imager.driver
    driver.records.counter._read_pv._args["value"] = served.get("Image:ArrayCounter_RBV") + 1
    assert driver.scan()


def test_a_device_is_connected_when_all_that_is_in_use_is_found(served, monkeypatch):
    spectrometer = served.spectrometer
    driver = spectrometer.driver
    gone = EpicsSignalRO("A:Spectrum:Setting:gone", name="gone")
    monkeypatch.setitem(driver._others, "Setting:gone", gone)  # of an IOC before this one
    assert spectrometer.connected
    late = driver._setting_signal("settle_s")
    monkeypatch.setitem(late._metadata, "connected", False)
    assert not spectrometer.connected
    with pytest.raises(InputError, match="no IOC answers for A:Spectrum:Setting:settle_s within"):
        spectrometer.wait_for_connection(timeout=0.2)
    with pytest.raises(ConnectionError, match="connection to A:Spectrum:Setting:settle_s is lost"):
        spectrometer.stage()
    threading.Timer(0.2, lambda: late._metadata.update(connected=True)).start()
    spectrometer.wait_for_connection(timeout=WAIT)
    gone.destroy()


def test_a_connection_that_ends_in_the_middle_of_a_request_is_called_lost(served, monkeypatch):
    from epics import ca

    from curiosity_bluesky.devices.epics import access

    signal = served.spectrometer.driver.records.counter

    def fails(error):
        def get(*args, **kwargs):
            raise error

        monkeypatch.setattr(signal._read_pv, "get_with_metadata", get)

    def failure(status):
        return ca.ChannelAccessGetFailure(f"Get failed; status code: {status}", 1, status)

    for error in (
        ca.CASeverityException("get", "Virtual circuit disconnect"),
        failure(192),  # ECA_DISCONN, to what was under way
    ):
        fails(error)
        for ask in (access.read_now, access.last_value, access.read_array):
            with pytest.raises(ConnectionError, match="connection to A:.* is lost"):
                ask(signal)
    # What the IOC refuses is another matter.
    for error in (ca.CASeverityException("get", "Read access denied"), failure(368)):
        fails(error)
        with pytest.raises(type(error)):
            access.read_now(signal)


def run(instrument, RE=None, callback=lambda *_: None, **settings):
    documents = []

    def collect(name, doc):
        schema_validators[DocumentNames[name]].validate(sanitize_doc(doc))
        documents.append((name, doc))
        callback(name, doc)

    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        **grouped(**{"num_points": 8, "parameters": few("curious"), "retry_wait": 0, **settings}),
    )
    (RE or RunEngine({}))(plan, collect)
    return documents


def comparable(documents):
    """Return documents without what differs from one run to the next, and without sources."""
    streams, found = {}, []
    for name, doc in documents:
        doc = dict(doc)
        for key in ("uid", "time", "run_start", "timestamps", "versions"):
            doc.pop(key, None)
        if name == "descriptor":
            streams[documents[len(found)][1]["uid"]] = doc["name"]
            described = [doc["data_keys"]]
            for about in doc["configuration"].values():
                about.pop("timestamps")
                described.append(about["data_keys"])
            for keys in described:
                for about in keys.values():
                    about.pop("source")
        elif name == "event":
            doc["descriptor"] = streams[doc["descriptor"]]
            doc["data"] = {
                k: v for k, v in doc["data"].items() if k not in ("seconds", "remaining")
            }
        found.append((name, normal(doc)))
    return found


@pytest.mark.parametrize("points", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_points_over_channel_access_are_those_of_the_devices_in_process(instrument, file, points):
    here = simulated_instrument(open_sample(file), speed=float("inf"))
    for key in ("spectrum_s", "settle_s", "line_s"):
        setattr(here.microscope, f"_{key}", 0.0)
    how = {"num_points": points, "parameters": few("curious", patch_size=3)}
    over, within = run(instrument, **how), run(here, **how)
    descriptors = [doc for name, doc in over if name == "descriptor"]
    [primary] = [doc for doc in descriptors if doc["name"] == "primary"]
    assert primary["data_keys"]["stage_x"]["source"] == "PV:A:x.RBV"
    assert primary["data_keys"]["spectrometer_spectrum"]["source"] == "PV:A:Spectrum:Data1"
    assert len(events(over, "primary")) == points
    assert over[-1][1]["num_events"] == within[-1][1]["num_events"]
    for one, other in zip(comparable(over), comparable(within), strict=True):
        assert one == other


@pytest.mark.quick("raises*", "nan*")
@pytest.mark.parametrize(
    ("kind", "said", "timeout"),
    [
        ("raises", "spectrometer: RuntimeError: lock-in: reference unlocked", 20.0),
        ("timeout", "spectrometer did not answer within 0.4 s", 0.4),
        ("nan", "quality 0 of the spectrum", 20.0),
        ("saturated", "quality", 20.0),
        ("stuck", "um from its target", 20.0),
        ("lost", "ConnectionError: the connection to the microscope", 20.0),
    ],
)
def test_what_fails_at_the_ioc_is_tried_again_and_recorded_in_its_words(
    instrument, file, kind, said, timeout
):
    instrument.put(f"Fault:{kind}:Next", 1)
    documents = run(instrument, timeout=timeout, retries=4)
    failures = events(documents, "failures")
    assert failures and all(said in failure["reason"] for failure in failures), [
        f["reason"] for f in failures
    ]
    good = [p for p in events(documents, "primary") if p["spectrometer_quality"] >= 0.5]
    assert len(good) == 8
    pixels = {d["decision_id"]: (d["row"], d["col"]) for d in events(documents, "decisions")}
    truth = open_sample(file).spectra["spectrum"]
    for point in good:
        row, col = pixels[point["decision_id"]]
        np.testing.assert_array_equal(point["spectrometer_spectrum"], truth[row, col])


def test_what_failed_is_an_alarm_until_it_works_again(instrument):
    happened = instrument.get("Fault:lost:Happened")
    instrument.put("Fault:raises:Next", 1)
    with pytest.raises(RuntimeError, match="reference unlocked"):
        instrument.spectrometer.trigger().wait(WAIT)
    instrument.put("Fault:lost:Next", 1)

    def severity():
        return instrument.alarm("Spectrum:Acquire")

    assert severity() == 2
    with pytest.raises(ConnectionError, match="connection to the microscope broke"):
        instrument.stage.x.set(0.1).wait(WAIT)
    assert instrument.alarm("x.RBV") == 3
    for _ in range(2):  # the rest of what a lost connection costs
        with pytest.raises(ConnectionError, match="is lost"):
            instrument.spectrometer.trigger().wait(WAIT)
    assert severity() == 3
    instrument.spectrometer.trigger().wait(WAIT)
    instrument.stage.x.set(0.1).wait(WAIT)
    assert severity() == instrument.alarm("x.RBV") == 0
    assert instrument.get("Fault:lost:Happened") == happened + 1


def test_a_probability_that_cannot_be_is_refused(instrument):
    instrument.put("Fault:nan", 0.25)
    instrument.put("Fault:nan", 7)
    assert instrument.get("Fault:nan") == 0.25
    instrument.put("Fault:nan", 0)
    assert instrument.get("Fault:nan") == 0


# --- broken off ----------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch):
    """An IOC that obeys is waited for as long as a busy machine takes."""
    monkeypatch.setattr("curiosity_bluesky.devices.worker.ABORT_SECONDS", WAIT)


def ended_well(status, way):
    assert status.done
    if way in ("stop", "axis"):
        with pytest.raises(RuntimeError, match="was stopped"):
            status.wait(WAIT)
        return True
    return status.success


@pytest.mark.parametrize("way", WAYS)
def test_a_spectrum_broken_off_leaves_a_free_instrument(patient, instrument, way):
    instrument.put("Spectrum:Setting:spectrum_s", 1000.0)
    before = instrument.get("Spectrum:ArrayCounter_RBV")
    status = instrument.spectrometer.trigger()
    until(lambda: instrument.get("Spectrum:Acquire") == 1)
    with pytest.raises(WorkerBusy):
        instrument.spectrometer.trigger().wait(WAIT)
    getattr(instrument.spectrometer, way)()
    assert ended_well(status, way)
    assert instrument.get("Spectrum:ArrayCounter_RBV") == before
    instrument.put("Spectrum:Setting:spectrum_s", 0.0)
    instrument.stage.x.set(0.1).wait(WAIT)  # would be refused during a spectrum
    instrument.spectrometer.trigger().wait(WAIT)
    assert instrument.get("Spectrum:ArrayCounter_RBV") == before + 1


@pytest.mark.parametrize("way", ["axis", *WAYS])
def test_a_move_broken_off_leaves_a_free_stage(patient, instrument, way):
    axis = instrument.stage.x
    axis.set(0.0).wait(WAIT)
    instrument.put("x.VELO", 1e-7)  # the way takes weeks
    status = axis.set(axis.high_limit)
    until(lambda: instrument.get("x.DMOV") == 0)
    with pytest.raises(WorkerBusy):
        axis.set(0.1).wait(WAIT)
    (axis.stop if way == "axis" else getattr(instrument.stage, way))()
    assert ended_well(status, way)
    assert instrument.get("x.DMOV") == 1 and instrument.get("x.MOVN") == 0
    assert instrument.get("x.VAL") == instrument.get("x.RBV") < 1e-3
    instrument.put("x.VELO", float("inf"))
    axis.set(0.2).wait(WAIT)
    assert axis.position == 0.2 and axis.read()["stage_x"]["value"] == 0.2


def test_a_run_that_hangs_in_a_spectrum_is_paused_and_resumed(patient, instrument):
    RE = RunEngine({})
    instrument.put("Fault:timeout:Next", 1)

    happened = instrument.get("Fault:timeout:Happened")

    def pause():
        until(lambda: instrument.get("Fault:timeout:Happened") > happened)
        RE.request_pause()

    thread = threading.Thread(target=pause)
    thread.start()
    documents = []
    RE.subscribe(lambda *document: documents.append(document))
    with pytest.raises(RunEngineInterrupted):
        run(instrument, RE)
    thread.join()
    RE.resume()
    assert documents[-1][1]["exit_status"] == "success"
    assert documents[-1][1]["num_events"]["primary"] == 8
    assert "failures" not in documents[-1][1]["num_events"]


# --- limits and units ----------------------------------------------------------------------


def test_the_limits_of_the_record_hold_before_anything_moves_and_at_the_ioc(instrument):
    axis = instrument.stage.x
    axis.set(0.05).wait(WAIT)
    reach = axis.limits
    with pytest.raises(LimitError, match="outside the soft limits"):
        axis.set(reach[1] + 0.1)
    instrument.put("x.VAL", reach[1] + 0.1)  # a client that does not ask
    assert instrument.get("x.LVIO") == 1 and instrument.get("x.RBV") == 0.05
    assert "outside the soft limits" in instrument.get("x:Message", as_string=True)
    axis.set_limits(0.02, 0.1)
    with pytest.raises(LimitError, match=r"0.02 to 0.1 um"):
        axis.set(0.2)
    with pytest.raises(LimitError, match="what the stage reaches"):
        axis.set_limits(-1, 0.1)
    axis.set_limits(*reach)
    axis.set(0.0).wait(WAIT)
    assert instrument.get("x.LVIO") == 0


def test_a_record_in_other_units_is_refused(instrument):
    instrument.put("y.EGU", "mm")
    until(lambda: instrument.stage.y.egu == "mm")
    with pytest.raises(InputError, match="A:y moves in mm; expected um"):
        instrument.stage.stage()
    instrument.put("y.EGU", "um")
    until(lambda: instrument.stage.y.egu == "um")
    instrument.stage.stage()
    instrument.stage.unstage()


def test_the_devices_say_how_long_things_take(instrument):
    instrument.put("Spectrum:Setting:spectrum_s", 0.5)
    until(lambda: instrument.spectrometer.seconds == 0.5)
    instrument.put("x.VELO", 2.0)
    until(lambda: instrument.stage.x.seconds(-1.0) == 0.5)
    assert instrument.imager.seconds == instrument.stage.x.seconds(0) == 0


def test_an_ioc_that_does_not_answer_is_named(ports):
    with pytest.raises(InputError, match=r"no IOC answers for NONE:Image:Acquire.*curiosity ioc"):
        EpicsImager("NONE:Image:").wait_for_connection(timeout=0.2)
    with pytest.raises(InputError, match=r"no IOC answers for NONE:x"):
        EpicsAFMStage("NONE:").wait_for_connection(timeout=0.2)
    with pytest.raises(ConnectionError, match="NONE:Image:Acquire is lost"):
        EpicsImager("NONE:Image:").stage()


# --- an IOC that measures fewer cycles -----------------------------------------------------


def test_cycles_are_chosen_over_channel_access(ports, tmp_path):
    film = SyntheticSample((12, 10), seed=1, points=12)
    [spectra] = film.spectra.values()
    file = tmp_path / "cycled.npz"
    axis, extent = np.tile(film.axis, 3), np.array([0.2, 0.25])
    np.savez(
        file, image=film.images["amplitude"], spectra=np.tile(spectra, 3), axis=axis,
        extent_um=extent,
    )  # fmt: skip
    with IOCProcess("--sample", str(file), *AT_ONCE, prefix="C:", port=ports[2]) as ioc:
        instrument = Instrument("C:", ioc).connect()
        dwell = instrument.spectrometer.dwell
        assert dwell.values == (1.0, 2.0, 3.0) and dwell.unit == "cycles"
        found = run(
            instrument,
            num_points=6,
            strategy="random",
            parameters=few("random", n_seeds=2),
            dwell=2,
        )
        for device in instrument.devices:
            device.destroy()
    measured = events(found, "primary")
    assert {event["spectrometer_dwell"] for event in measured} == {2.0}
    for event in measured:
        finite = np.isfinite(event["spectrometer_spectrum"])
        assert finite[:24].all() and not finite[24:].any() and len(finite) == 36


def test_an_ioc_without_cycles_has_no_setting(instrument):
    assert instrument.spectrometer.dwell is None


# --- an IOC that dies ----------------------------------------------------------------------


def test_a_spectrum_of_an_ioc_that_counts_from_the_start_again_is_none(monkeypatch):
    """libca ends the put of an IOC that is gone; the next IOC holds no spectrum."""
    from types import SimpleNamespace

    from curiosity_bluesky.devices.epics import drivers

    counts = iter([{"value": 7}, {"value": 0}])
    monkeypatch.setattr(drivers, "read_now", lambda signal: next(counts))
    monkeypatch.setattr(drivers, "put", lambda signal, value: None)
    records = SimpleNamespace(acquire=SimpleNamespace(pvname="B:Acquire"), counter=None)
    with pytest.raises(ConnectionError, match="connection to B:Acquire is lost"):
        drivers.RecordsDriver(records)._measured((3,))


@pytest.mark.slow
def test_a_run_survives_the_death_of_its_ioc_in_the_middle_of_a_spectrum(mortal, file):
    instrument, start, running = mortal

    def killed(name, doc):
        if name == "event" and "spectrometer_quality" in doc["data"] and doc["seq_num"] == 3:
            instrument.put("Spectrum:Setting:spectrum_s", 1000.0)
            threading.Thread(target=kill_and_restart).start()

    def kill_and_restart():
        until(lambda: instrument.get("Spectrum:Acquire") == 1)
        os.kill(running[0].pid, signals.SIGKILL)
        start()

    documents = run(instrument, callback=killed, retries=round(BACK / 0.3), retry_wait=0.3)
    assert documents[-1][1]["exit_status"] == "success"
    failures = events(documents, "failures")
    assert "the Channel Access connection to B:" in failures[0]["reason"]
    assert not any(failure["given_up"] for failure in failures)
    points = whole_events(documents, "primary")
    assert [p["data"]["decision_id"] for p in points] == list(range(8))
    pixels = {d["decision_id"]: (d["row"], d["col"]) for d in events(documents, "decisions")}
    truth = open_sample(file).spectra["spectrum"]
    for point in points:
        row, col = pixels[point["data"]["decision_id"]]
        np.testing.assert_array_equal(point["data"]["spectrometer_spectrum"], truth[row, col])


@pytest.mark.slow  # libca takes its time to look for an IOC that is back
def test_a_run_that_follows_drift_pauses_when_its_ioc_is_gone_and_goes_on(mortal):
    instrument, start, running = mortal
    documents, RE = [], RunEngine({})

    def collect(name, doc):
        documents.append((name, doc))
        if name == "event" and "spectrometer_quality" in doc["data"] and doc["seq_num"] == 3:
            running[0].close()
            until(lambda: not (instrument.stage.connected or instrument.imager.connected))

    with pytest.raises(RunEngineInterrupted):
        run(instrument, RE, collect, resurvey_every=4)
    assert RE.state == "paused"
    reasons = [failure["reason"] for failure in events(documents, "failures")]
    assert len(reasons) == 6  # three points, each tried twice
    assert all("the Channel Access connection to B:" in reason for reason in reasons)
    start()
    instrument.connect(timeout=BACK)
    RE.resume()
    assert documents[-1][1]["exit_status"] == "success"
    assert len(events(documents, "primary")) == 8


@pytest.mark.slow
def test_while_the_connection_is_lost_all_is_refused_at_once_and_works_again_after(mortal):
    instrument, start, running = mortal
    axis = instrument.stage.x
    reach = axis.limits
    instrument.put("x.HLM", 0.1)
    until(lambda: axis.limits == (0.0, 0.1))
    with pytest.raises(LimitError):
        axis.set(0.2)
    running[0].close()
    until(lambda: not (axis.connected or instrument.spectrometer.connected))
    for asked in (lambda: axis.set(0.05), axis.read, instrument.spectrometer.stage):
        with pytest.raises(ConnectionError, match="connection to B:.* is lost"):
            asked()
    with pytest.raises(ConnectionError, match="is lost"):
        instrument.spectrometer.trigger().wait(WAIT)
    for device in instrument.devices:
        device.stop()
        device.unstage()
    with pytest.raises(ConnectionError):
        RunEngine({})(bps.mv(axis, 0.05))
    start()
    instrument.connect(timeout=BACK)
    until(lambda: axis.limits == reach)
    axis.set(0.2).wait(WAIT)
    instrument.spectrometer.trigger().wait(WAIT)
    assert np.isfinite(instrument.spectrometer.read()["spectrometer_spectrum"]["value"]).all()
