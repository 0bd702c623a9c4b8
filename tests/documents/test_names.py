"""Names and metadata: refused in words before anything is measured, or measured and readable."""

import datetime
import logging
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import AXIS, POINTS, Bench, described

from curiosity_bluesky import read
from curiosity_bluesky.catalog import connect
from curiosity_bluesky.documents import read_stream
from curiosity_bluesky.errors import InputError


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def a_channel(name):
    """A bench with another channel of this name."""
    return Bench(lambda s, n: {"det": s, name: 2 * s})


def a_number(name):
    return Bench(lambda s, n: {"det": s, name: float(n)})


def an_array(name):
    return Bench(lambda s, n: {"det": s, name: np.outer(s, s)})


def a_device(role):
    names = ["mx", "my", "camera", "det"]
    return lambda name: Bench(names=tuple(name if k == role else n for k, n in enumerate(names)))


def a_setting(name):
    bench = Bench()
    bench.detector.configured = {name: 1.0}
    return bench


def an_image(name):
    bench = Bench()
    image = next(iter(bench.camera.values.values()))
    bench.camera.read = lambda: {name: {"value": image, "timestamp": 1.0}}
    bench.camera.describe = lambda: described({name: image})
    return bench


ROLES = {
    "channel": a_channel,
    "number": a_number,
    "array": an_array,
    "x": a_device(0),
    "imager": a_device(2),
    "detector": a_device(3),
    "setting": a_setting,
    "image": an_image,
}

REFUSED = [
    # what, as what, what is said
    ("µx", "x", "begins with 'µ'"),
    ("µ", "number", "begins with 'µ'"),
    ("1a", "number", "begins with '1'"),
    ("_a", "number", "begins with '_'"),
    ("cam.1", "detector", "has a . or a /"),
    ("cam.1", "imager", "has a . or a /"),
    ("dI/dV", "channel", "has a . or a /"),
    ("dI/dV", "setting", "has a . or a /"),
    ("a.b", "setting", "has a . or a /"),
    (".", "number", "has a . or a /"),
    ("..", "channel", "has a . or a /"),
    ("", "channel", "is empty"),
    ("", "detector", "is empty"),
    ("a\ud800", "channel", "half a character"),
    ("a\ud800", "setting", "half a character"),
    ("Current (A)", "channel", r"has a '\('.*such as 'Current _A_'"),
    ("a%b", "number", "has a '%'"),
    ("a+b", "array", r"has a '\+'"),
    ("a=b", "channel", "has a '='"),
    ("a;b", "channel", "has a ';'"),
    ("a--b", "channel", "has a '--'"),
    ("a'b", "channel", 'has a "\'"'),
    ('a"b', "number", "has a '\"'"),
    ("a`b", "channel", "has a '`'"),
    ("a\\b", "channel", "has a "),
    ("a#b", "channel", "has a '#'"),
    ("a?b", "image", r"has a '\?'"),
    ("a\nb", "channel", "cannot be printed"),
    ("a\t", "number", "cannot be printed"),
    ("a\x00b", "channel", "cannot be printed"),
    ("a ", "channel", "space at an end"),
    (" a", "array", "space at an end"),
    ("time", "number", "keeps for itself"),
    ("seq_num", "channel", "keeps for itself"),
    ("Event", "channel", "keeps for itself"),
    ("point", "number", "keeps for itself"),
    ("internal", "array", "keeps for itself"),
    ("internal_0", "channel", "keeps for itself"),
    ("det_predicted", "channel", "ends in '_predicted'"),
    ("attempt", "number", "both have the data key 'attempt'"),
    ("Attempt", "number", "would share the column"),
    ("mask", "image", "both have the data key 'mask'"),
    ("Det", "channel", "would share the column"),
    ("DET", "number", "would share the column"),
    ("Mx", "channel", "would share the column"),
    ("ts_mx", "number", "would share the column"),
    ("mx", "channel", "both have the data key 'mx'"),
    ("my", "x", "two devices are called 'my'"),
    ("det", "x", "two devices are called 'det'"),
    ("expectation", "detector", "called 'expectation', one of them what the plan"),
    ("limits", "imager", "called 'limits', one of them what the plan"),
    (
        "a" * 51,
        "channel",
        "51 bytes, and the store takes 50 of a spectrum, for '_predicted' is added",
    ),
    ("é" * 26, "channel", "52 bytes, and the store takes 50"),
    ("a" * 61, "number", "61 bytes, and the store takes 60 of it; give"),
    ("a" * 300, "array", "300 bytes"),
]


@pytest.mark.parametrize(("name", "role", "said"), REFUSED)
def test_a_name_that_cannot_be_recorded_is_refused_before_anything_moves(name, role, said):
    for dry_run in (False, True):
        bench = ROLES[role](name)
        with pytest.raises(InputError, match=said):
            bench.run(dry_run=dry_run)
        assert bench.is_untouched()


CHANNELS = ["a b-c:d,e", "a@b!c$d&e", "a*b[c]d~e", "日本", "µ", "1a", "_b", "a😀İ", "row", "n" * 50]
NUMBERS = ["h" * 60, "a^b|c<d{e}", "a日\u0301", "y", "order"]


@pytest.mark.slow
def test_names_that_can_be_recorded_are_measured_and_read(tmp_path):
    def make(spectrum, n):
        made = {name: (k + 1) * spectrum for k, name in enumerate(["det", *CHANNELS])}
        return made | {name: float(n + k) for k, name in enumerate(NUMBERS)}

    bench = Bench(make)
    bench.detector.learned = ["det", "µ", "n" * 50]
    bench.detector.configured = {"µ setting": 1.0, "time": 2.0, "A" * 300: 3.0, "a\n": 4.0}
    with connect(tmp_path / "runs") as runs:
        bench.RE.subscribe(runs.writer(batch_size=1000))
        bench.run(2)
        points = read(runs[-1])
        assert points.sizes["point"] == 2
        for k, name in enumerate(CHANNELS):
            held = points[f"{name}_readback" if name == "row" else name]
            assert np.array_equal(held, (k + 2) * points["det"]), name
        for k, name in enumerate(NUMBERS):
            held = points[f"{name}_readback" if name == "y" else name]
            assert held.values.tolist() == [1.0 + k, 2.0 + k], name
        configured = runs[-1]["primary"].metadata["configuration"]["det"]["data"]
        assert configured == bench.detector.configured


LETTERS = st.sampled_from("aAmMµé1_-. /#?%()+='\"`;\\\n\t日\u0301😀\ud800\x00")
ANY_NAME = (
    st.text(LETTERS, max_size=6)
    | st.text(max_size=8)
    | st.sampled_from([name for name, *_ in REFUSED] + CHANNELS + NUMBERS)
    | st.integers(45, 70).map(lambda n: "w" * n)
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_name_is_refused_before_anything_is_measured_or_measured_and_read(tmp_path):
    with connect(tmp_path / "runs") as runs:
        writer = runs.writer(batch_size=1000)

        @settings(max_examples=40, deadline=None, derandomize=True, database=None)
        @given(role=st.sampled_from(sorted(ROLES)), name=ANY_NAME)
        def check(role, name):
            bench = ROLES[role](name)
            bench.RE.subscribe(writer)
            try:
                [uid] = bench.run(2)
            except InputError:
                assert bench.is_untouched()
            else:
                assert read(runs[uid]).sizes["point"] == 2
                assert read_stream(runs[uid], "survey").sizes["event"] == 1

        check()


# ---- axes


def along(dims, axes=None, **more):
    """A bench whose arrays lie along these dimensions."""
    bench = Bench(lambda s, n: {"det": s, **{key: np.outer(s, s)[:3] for key in more}})
    describe = bench.detector.describe
    named = {"det": dims, **more}
    bench.detector.describe = lambda: {
        key: {**about, **({"dims": list(named[key])} if named[key] else {})}
        for key, about in describe().items()
    }
    bench.detector.configured = {key: AXIS[:1].repeat(n) for key, n in (axes or {}).items()}
    described_axes = {
        key: {"source": "", "dtype": "array", "shape": [n], "dims": [key.removeprefix("det_")]}
        for key, n in (axes or {}).items()
    }
    bench.detector.describe_configuration = lambda: described_axes
    return bench


@pytest.mark.parametrize(
    ("bench", "said"),
    [
        (lambda: along(["det"]), "'det' is both the axis of 'det' of det and a data key"),
        (lambda: along(["bias"], image=["bias", "z"]), "cannot stand in one dataset"),
        (lambda: along(["mx"]), "'mx' is both the axis"),
    ],
)
def test_axes_and_channels_that_could_not_be_told_apart_are_refused(bench, said):
    made = bench()
    with pytest.raises(InputError, match=said):
        made.run()
    assert made.is_untouched()


def test_axes_that_can_be_told_apart_are_measured_and_read(tmp_path):
    bench = along(["time"], {"det_time": POINTS}, image=["y", "x"])
    with connect(tmp_path / "runs") as runs:
        bench.RE.subscribe(runs.writer(batch_size=1000))
        bench.run(2)
        points = read(runs[-1])
    assert points["image"].dims == ("point", "y_axis", "x_axis")
    assert points["det"].shape == (2, POINTS) and points["x"].dims == ("point",)


# ---- what describes itself as documents may not


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"dtype": "complex"}, "data_keys.det.dtype .*'complex' is not one of"),
        ({"source": 5}, "data_keys.det.source"),
        ({"units": 5}, "data_keys.det.units"),
        ({"shape": "x"}, "data_keys.det.shape"),
        ({"units": "n\0A"}, "description of 'det' of det.*PostgreSQL"),
        ({"dtype_numpy": "<f3"}, "'det' of det: numpy does not know the dtype_numpy '<f3'"),
    ],
)
def test_what_event_model_refuses_is_refused_before_anything_moves(about, said):
    bench = Bench()
    describe = bench.detector.describe
    bench.detector.describe = lambda: {"det": {**describe()["det"], **about}}
    with pytest.raises(InputError, match=said):
        bench.run()
    assert bench.is_untouched()


@pytest.mark.parametrize(
    "value", [1j, {1, 2}, object(), b"x", np.array([1j]), np.array([{}]), {1: 2}, [{2: 3}]]
)
def test_a_setting_that_json_cannot_hold_is_refused(value):
    bench = a_setting("a")
    bench.detector.configured = {"a": value}
    bench.detector.describe_configuration = lambda: {
        "a": {"source": "", "dtype": "array", "shape": [1]}
    }
    with pytest.raises(InputError, match="configuration 'a' of det"):
        bench.run()
    assert bench.is_untouched()


def test_a_setting_that_is_not_described_is_refused():
    bench = a_setting("a")
    bench.detector.describe_configuration = dict
    with pytest.raises(InputError, match="det has a in its configuration and does not describe"):
        bench.run()


def test_a_device_that_cannot_be_asked_now_is_not_told_that_it_forgot_something():
    bench = a_setting("a")

    def describe_configuration():
        raise TimeoutError("no answer")

    bench.detector.describe_configuration = describe_configuration
    with pytest.raises(InputError, match=r"describe_configuration\(\) fails .*no answer"):
        bench.run(4)
    assert bench.is_untouched()


# ---- metadata

BAD = {
    "a key with a dot": {"a.b": 1},
    "a key with a slash": {"a": {"b/c": 1}},
    "an empty key": {"": 1},
    "a key that is no text": {"a": [{1: 2}]},
    "half a character": {"a": "\ud800"},
    "half a character in a key": {"\ud800": 1},
    "an array": {"a": np.arange(3)},
    "an array inside": {"a": [{"b": np.arange(3)}]},
    "NaN": {"a": float("nan")},
    "infinity inside": {"a": [1.0, [float("inf")]]},
    "numpy's NaN": {"a": np.float32("nan")},
    "a set": {"a": {1, 2}},
    "a character of value 0": {"a": ["x\0y"]},
    "a character of value 0 in a key": {"x\0y": 1},
    "a whole number that the store cuts": {"a": 2**53},
    "a whole float that the store cuts": {"a": -1e20},
    "a complex number": {"a": 1j},
    "bytes": {"a": b"x"},
    "a date": {"a": datetime.date(2026, 1, 1)},
    "a path": {"a": pathlib.Path("x")},
    "an object": {"a": object()},
    "a sample that is a number": {"sample": 5},
    "no sample": {"sample": None},
    "an owner that is a number": {"owner": 3},
    "hints that are none": {"hints": 5},
    "a uid": {"uid": "x"},
    "a key of the plan's own": {"curiosity_strategy": "random"},
    "a time": {"time": 1.0},
    "specs that are none": {"tiled_specs": 3},
    "a list": [1],
    "text": "sample 3",
}


@pytest.mark.parametrize("md", BAD.values(), ids=BAD)
@pytest.mark.parametrize("dry_run", [False, True])
def test_metadata_that_cannot_be_recorded_is_refused_before_anything_moves(md, dry_run):
    bench = Bench()
    with pytest.raises(InputError, match="md"):
        bench.run(md=md, dry_run=dry_run)
    assert bench.is_untouched()


def test_metadata_that_can_be_recorded_is():
    md = {
        "sample": {"name": "film [/b] 3", "µ": [1, 2.5, None, True, {"a": (1, 2)}]},
        "n": np.int64(3),
        "f": np.float32(0.5),
        "big": 2**53 - 1,
        "density": 1.5e15,
        "a key": "\u0301",
    }
    bench = Bench()
    bench.run(4, md=md)
    start = bench.documents[0][1]
    assert {key: start[key] for key in md} == md


@pytest.mark.parametrize(
    "engine",
    [{"owner": 5}, {"a.b": 1}, {"sample": {"b/c": 1}}, {"curiosity_seed": 1}],
    ids=["type", "dot", "slash", "the plan's own"],
)
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("with_the_plan", [False, True])
def test_what_the_run_engine_adds_is_refused_before_anything_moves(engine, dry_run, with_the_plan):
    bench = Bench()
    if not with_the_plan:
        bench.RE.md.update(engine)
    plan = bench.plan(4, dry_run=dry_run)
    with pytest.raises(
        InputError,
        match=r"RE\.md \(or RE\(plan, \.\.\.\)\).* (cannot be in a start|has 'curiosity_)",
    ):
        bench.RE(plan, **(engine if with_the_plan else {}))
    assert bench.is_untouched() and not bench.RE.suspenders


def test_what_is_given_with_the_plan_goes_before_what_the_run_engine_has():
    bench = Bench()
    bench.RE.md.update(owner=5, sample=3, group="x")
    bench.RE(
        bench.plan(4, md={"sample": "film"}), lambda *doc: bench.documents.append(doc), owner="a"
    )
    start = bench.documents[0][1]
    assert (start["owner"], start["sample"], start["group"]) == ("a", "film", "x")
