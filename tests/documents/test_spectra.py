"""What counts as a spectrum: one judge, an end whatever it says, and causes that are said."""

import logging
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import POINTS, Bench, Camera, Detector
from support import events, grouped

from curiosity_bluesky import CuriosityAgent, documents
from curiosity_bluesky.documents import Translator, channel_keys, spectrum_of
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.measuring import quality_problem
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering


@pytest.fixture(autouse=True)
def no_part_is_dropped():
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


# ---- one judge


NUMBERS = st.floats(-1e3, 1e3, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(NUMBERS, min_size=2, max_size=5),
    st.none() | st.floats(0, 1) | st.just(np.nan),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_plan_counts_what_the_agent_counts(numbers, quality, least):
    """A spectrum is good for the explorer just where the plan found nothing wrong with it."""
    data = {"det": np.array(numbers)} | ({} if quality is None else {"det_quality": quality})
    spectrum = spectrum_of(data, ["det"])
    strategy = Strategy.named("random", min_quality=least, patch_size=3)
    explorer = Explorer(Survey({"h": np.eye(5)}), strategy)
    explorer.observe(Observation((2, 2), spectrum.values, quality=spectrum.quality))
    assert explorer.n_observed == (quality_problem(spectrum.quality, least) is None)


AS_READ = {
    "integers": lambda s, n: {"det": (100 * s).astype(np.int32)},
    "small integers": lambda s, n: {"det": (20 * s).astype(np.uint8)},
    "float32": lambda s, n: {"det": s.astype(np.float32)},
    "a list": lambda s, n: {"det": s.tolist()},
    "two channels": lambda s, n: {"det_a": s, "det_b": 2 * s[:5]},
    "gaps": lambda s, n: {"det": np.where(np.arange(POINTS) % 3, s, np.nan)},
    "text beside it": lambda s, n: {"det": s, "det_note": "ok"},
    "flags beside it": lambda s, n: {"det": s, "det_fine": np.ones(POINTS, bool)},
    "an image beside it": lambda s, n: {"det": s, "det_map": np.outer(s, s)},
    "one element beside it": lambda s, n: {"det": s, "det_count": np.array([float(n)])},
    "now and then nothing": lambda s, n: {"det": s * (np.nan if n in (2, 3) else 1.0)},
    "a good quality of nothing": lambda s, n: {
        "det": s * (np.nan if n == 2 else 1.0),
        "det_quality": 1.0,
    },
}


@pytest.mark.parametrize("make", AS_READ.values(), ids=AS_READ)
def test_what_was_measured_is_what_is_learned(make):
    bench = Bench(make)
    bench.run(retries=1)
    agent = CuriosityAgent.from_documents(bench.documents)
    assert bench.stop["reason"].startswith("budget: 6 of 6")
    failed = len(events(bench.documents, "failures"))
    primary = events(bench.documents, "primary")
    assert len(primary) == 6 + failed == bench.detector.measured
    assert agent.explorer.n_observed == 6
    keys = [key for key in primary[0] if key + documents.PREDICTED in primary[0]]
    for observation, event in zip(agent.explorer.observations, primary, strict=True):
        wanted = np.concatenate([np.asarray(event[key], float) for key in keys])
        assert np.array_equal(observation.spectrum, wanted, equal_nan=True)


# ---- what is no spectrum


REFUSED = {
    "complex": (lambda s, n: {"det": s * 1j}, "complex"),
    "complex scalars aside": (lambda s, n: {"det": s * (1 + 0j), "det_n": 1.0}, "complex"),
    "complex64": (lambda s, n: {"det": (s * 1j).astype(np.complex64)}, "complex"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_complex_numbers_are_refused_before_anything_moves(make, said, dry_run):
    bench = Bench(make)
    with pytest.raises(InputError, match=said):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched()


def test_complex_numbers_that_are_only_described_are_refused_before_anything_moves():
    bench = Bench()
    describe = bench.detector.describe
    bench.detector.describe = lambda: {"det": {**describe()["det"], "dtype_numpy": "<c16"}}
    with pytest.raises(InputError, match="complex"):
        bench.run()
    assert bench.is_untouched()


def test_complex_numbers_beside_what_is_learned_are_recorded():
    bench = Bench(lambda s, n: {"det": s, "det_raw": s * 1j})
    bench.detector.learned = ["det"]
    bench.run()
    assert bench.stop["reason"].startswith("budget: 6 of 6")


AT_FIRST = {
    "complex": (lambda s, n: {"det": s * 1j if n else s}, "complex"),
    "flags": (lambda s, n: {"det": s > 0}, "det: booleans"),
    "text": (lambda s, n: {"det": np.array(["a", "b", "c"])}, "det: text"),
    "objects": (lambda s, n: {"det": np.array([1.0, None, {}])}, "det: objects"),
    "dates": (lambda s, n: {"det": np.arange(5).astype("M8[s]")}, "det: dates"),
    "ragged": (lambda s, n: {"det": [[1.0, 2.0], [3.0]] if n else s}, "different lengths"),
    "no element": (lambda s, n: {"det": s, "det_b": s[:0]}, "no value"),
    "a quality in words": (lambda s, n: {"det": s, "det_quality": "good"}, "det_quality is 'good'"),
    "a complex quality": (lambda s, n: {"det": s, "det_quality": 1j}, "det_quality"),
}


@pytest.mark.parametrize(("make", "said"), AT_FIRST.values(), ids=AT_FIRST)
def test_what_is_no_spectrum_ends_the_run_at_its_first_reading(make, said):
    bench = Bench(make)
    if said == "different lengths":
        bench.detector.describe = lambda: {"det": {"source": "", "dtype": "array", "shape": [20]}}
    with pytest.raises(InputError, match=said) as error:
        bench.run()
    assert bench.detector.measured == 1 and bench.RE.state == "idle"
    assert bench.stop["exit_status"] == "fail" and bench.stop["reason"] == str(error.value)
    assert not events(bench.documents, "primary")


DESCRIBED = {
    "one element": (lambda s, n: {"det": s[:1]}, {}, r"det: shape \[1\]"),
    "one value": (lambda s, n: {"det": 1.0}, {}, "det: one value"),
    "an image": (lambda s, n: {"det": np.outer(s, s)}, {}, r"det: shape \[20, 20\]"),
    "described as a number": (None, {"shape": []}, "one value"),
    "described in two dimensions": (None, {"shape": [POINTS, 1]}, r"shape \[20, 1\]"),
    "of the kind number": (None, {"dtype": "number"}, "one value"),
    "of the kind string": (None, {"dtype": "string", "shape": []}, "det: a string"),
    "of the kind boolean": (None, {"dtype": "boolean", "shape": []}, "det: a boolean"),
    "flags": (None, {"dtype_numpy": "|b1"}, "det: booleans"),
    "text": (None, {"dtype_numpy": "<U3"}, "det: text"),
    "in a file": (None, {"external": "FILESTORE:"}, "FILESTORE: data"),
}


def describing(make, about):
    bench = Bench(make)
    describe = bench.detector.describe
    bench.detector.describe = lambda: {k: {**d, **about} for k, d in describe().items()}
    return bench


@pytest.mark.parametrize(("make", "about", "said"), DESCRIBED.values(), ids=DESCRIBED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_describes_itself_as_no_spectrum_is_refused_before_anything_moves(
    make, about, said, dry_run
):
    bench = describing(make, about)
    with pytest.raises(InputError, match=f"det reads no spectrum .*{said}"):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched()


def test_an_array_whose_length_is_not_known_yet_is_believed():
    bench = Bench()
    describe = bench.detector.describe
    bench.detector.describe = lambda: {
        "det": {**describe()["det"], "shape": [POINTS if bench.detector.measured else 0]}
    }
    bench.run()
    assert bench.stop["reason"].startswith("budget: 6 of 6")


def test_what_is_to_be_learned_has_to_be_described_as_a_spectrum():
    for learned, said in (["det_n"], "one value"), (["other"], "does not describe"):
        bench = Bench(lambda s, n: {"det": s, "det_n": 1.0})
        bench.detector.learned = learned
        with pytest.raises(InputError, match=f"{learned[0]} is to be learned .*{said}"):
            bench.run()
        assert bench.is_untouched()


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_imager_and_a_detector_that_are_swapped_are_refused(dry_run):
    bench = Bench()
    detector, bench.camera = bench.detector, bench.detector
    camera = Camera("camera")
    bench.detectors = [camera]
    with pytest.raises(InputError, match=r"shape \[12, 12\].* swapped\? det describes a spectrum"):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched() and not camera.measured
    bench.detectors, bench.camera = [detector], Detector("other", bench.x, bench.y)
    with pytest.raises(InputError, match=r"imager other describes no image \(other: shape"):
        bench.run(dry_run=dry_run)
    assert bench.is_untouched()


OTHERWISE = {
    "another shape": ({"shape": [POINTS - 1]}, r"\[19\] is described"),
    "whole numbers": ({"dtype_numpy": "<i8"}, "<i8 is described"),
    "fewer digits": ({"dtype_numpy": "<f4"}, "<f4 is described"),
}


@pytest.mark.parametrize(("about", "said"), OTHERWISE.values(), ids=OTHERWISE)
def test_a_spectrum_that_is_not_as_it_is_described_ends_the_run(about, said):
    """It would be recorded otherwise than it is learned, or not be learned at all."""
    bench = Bench()
    describe = bench.detector.describe
    bench.detector.describe = lambda: {"det": {**describe()["det"], **about}}
    with pytest.raises(InputError, match=said):
        bench.run()
    assert bench.detector.measured == 1 and bench.stop["exit_status"] == "fail"


@pytest.mark.parametrize("more", [True, False])
def test_a_detector_that_describes_other_keys_than_it_reads_ends_the_run(more):
    bench = Bench()
    describe = bench.detector.describe
    other = {"det_b": {"source": "", "dtype": "number", "shape": []}}
    bench.detector.describe = lambda: (describe() | other) if more else {}
    with pytest.raises(InputError, match=r"det_b must be|det must be"):
        bench.run()
    assert bench.detector.measured == 1 and bench.stop["exit_status"] == "fail"


def test_a_shape_that_is_not_known_before_is_that_of_the_first_spectrum():
    bench = Bench()
    bench.detector.describe = lambda: {"det": {"source": "", "dtype": "array", "shape": [None]}}
    bench.run()
    assert CuriosityAgent.from_documents(bench.documents).explorer.n_observed == 6


@pytest.mark.parametrize("read", [lambda at: np.array([at]), lambda at: np.array([at, 0.0, 1.0])])
def test_where_a_motor_is_is_no_spectrum(read):
    bench = Bench(as_read=read)
    bench.run()
    agent = CuriosityAgent.from_documents(bench.documents)
    assert {o.spectrum.size for o in agent.explorer.observations} == {POINTS}
    bench = Bench(lambda s, n: {"det": 1.0}, as_read=read)
    with pytest.raises(InputError, match="reads no spectrum"):
        bench.run()


def stream(*shapes, dtype=None):
    keys = {
        f"k{n}": {"source": "", "dtype": "array", "shape": list(shape)}
        | ({} if dtype is None else {"dtype_numpy": dtype})
        for n, shape in enumerate(shapes)
    }
    return {"data_keys": keys, "configuration": {}}


def test_the_channels_of_a_stream_that_does_not_name_them():
    assert channel_keys(stream((1,), (2,), (), (3, 3), (0,), (None,))) == ["k1", "k5"]
    assert channel_keys(stream((9,), dtype="|b1")) == channel_keys(stream((9,), dtype="<U3")) == []
    assert channel_keys(stream((9,), dtype="<i2")) == channel_keys(stream((9,), dtype="<c8"))


def test_the_channels_that_a_stored_run_names_are_what_they_were():
    about = stream((1,), (2,), dtype="|b1")
    data = {documents.schema.CHANNELS: ["k0", "k1"]}
    assert channel_keys(about | {"configuration": {"d": {"data": data}}}) == ["k0", "k1"]


def test_complex_documents_are_not_learned_by_half():
    bench = Bench()
    bench.run(4)
    translate = Translator()
    with pytest.raises(InputError, match="complex"):
        for name, doc in bench.documents:
            if "det" in doc.get("data", {}):
                doc = {**doc, "data": {**doc["data"], "det": doc["data"]["det"] * 1j}}
            translate(name, doc)
    with pytest.raises(InputError, match="complex"):
        Survey({"h": np.eye(3) * 1j})
    with pytest.raises(InputError, match="complex"):
        documents.survey_from({"h": np.eye(3) * 1j}, {})


# ---- an end that does not depend on what is learned


class Deaf(CuriosityAgent):
    """It learns nothing from any spectrum."""

    def __call__(self, name, doc):
        if name != "event" or "attempt" not in doc["data"] or "given_up" in doc["data"]:
            super().__call__(name, doc)


def deaf_run(bench, retries=0, steering=None, budget=6):
    strategy = Strategy.named("random", n_seeds=4, patch_size=5, budget=budget)
    course = grouped(retries=retries, retry_wait=0.0, max_failures=99)
    plan = explore(
        Deaf(strategy, 0),
        bench.detectors,
        bench.x,
        bench.y,
        bench.camera,
        **course,
        steering=steering or Steering(),
    )
    bench.RE(plan, lambda *document: bench.documents.append(document))


@pytest.mark.parametrize("retries", [0, 2])
def test_an_agent_that_learns_nothing_does_not_keep_the_run_from_its_end(retries):
    bench = Bench()
    deaf_run(bench, retries)
    assert bench.detector.measured <= 6 * (1 + retries)
    assert bench.stop["exit_status"] == "success" and bench.stop["reason"]


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("lookahead", [0, 1])
def test_no_sample_is_visited_more_often_than_its_budget_with_retries(retries, lookahead):
    bench = Bench(lambda s, n: {"det": s, "det_quality": 0.0})
    bench.run(5, retries=retries, lookahead=lookahead)
    assert bench.detector.measured == 5 * (1 + retries)
    assert bench.stop["reason"].startswith(f"visits: the sample was measured {5 * (1 + retries)} ")
    assert bench.stop["exit_status"] == "success"


def test_a_run_whose_last_visit_completes_it_ends_by_its_budget():
    bench = Bench()
    bench.run(5)
    assert bench.stop["reason"].startswith("budget: 5 of 5")
    assert bench.detector.measured == 5


@pytest.mark.parametrize(("wish", "most"), [("budget", 9), ("add", 8)])
def test_what_somebody_asks_for_meanwhile_may_be_visited_too(wish, most):
    steering = Steering()
    bench = Bench(lambda s, n: {"det": s, "det_quality": 0.0})

    def ask(name, doc):
        if "det" in doc.get("data", {}) and bench.detector.measured == 3:
            if wish == "budget":
                steering.budget(9)
            else:
                steering.add(5, 6)
                steering.add(6, 5)

    bench.RE.subscribe(ask)
    bench.run(6, steering=steering)
    assert bench.detector.measured == most
    assert bench.stop["reason"].startswith("visits")


def test_out_of_reach_and_what_never_touched_the_sample_is_no_visit():
    bench = Bench()
    moves = iter(range(1000))
    to = bench.x.set
    bench.x.set = lambda value: to(value) if next(moves) % 2 else 1 / 0
    bench.run(6, retries=0)
    assert bench.detector.measured == 6
    assert bench.stop["reason"].startswith("budget: 6 of 6")
    assert len(events(bench.documents, "failures")) >= 5


def test_a_run_that_is_resumed_may_visit_as_often_as_what_it_lacks():
    bench = Bench(lambda s, n: {"det": s, "det_quality": float(n < 3)})
    bench.run(6)
    assert bench.stop["reason"].startswith("visits") and bench.detector.measured == 6
    past = InterruptedRun.of([bench.documents])
    bench.documents = []
    plan = explore(
        CuriosityAgent(past.strategy, past.seed),
        bench.detectors,
        bench.x,
        bench.y,
        bench.camera,
        past=past,
        **grouped(retries=0, retry_wait=0.0, max_failures=99),
    )
    bench.RE(plan, lambda *document: bench.documents.append(document))
    assert bench.stop["reason"].startswith("visits: the sample was measured 4 times for 4 spectra")
    assert bench.detector.measured == 10


# ---- what goes wrong in the middle of an event


def test_a_reading_that_raises_while_an_event_is_put_together_is_said_and_tried_again():
    bench = Bench()
    read, left = bench.detector.read, [2]  # the first for the plan, the second for the event

    def fails():
        if bench.detector.measured == 2:
            left[0] -= 1
            if left[0] == 0:
                raise OSError("the ADC is gone")
        return read()

    bench.detector.read = fails
    bench.run(retries=1)
    [failure] = events(bench.documents, "failures")
    assert failure["reason"] == "OSError: the ADC is gone"
    assert bench.stop["reason"].startswith("budget: 6 of 6")


def test_an_imager_that_raises_while_the_survey_is_recorded_says_why():
    bench = Bench()
    describe = bench.camera.describe

    def fails():
        if bench.camera.measured and any(name == "start" for name, _ in bench.documents):
            raise OSError("the controller is gone")
        return describe()

    bench.camera.describe = fails
    with pytest.raises(OSError, match="the controller is gone"):
        bench.run()
    assert bench.stop["reason"] == "the controller is gone" and bench.RE.state == "idle"


def test_a_length_that_changes_is_a_failure_and_is_not_recorded():
    bench = Bench(lambda s, n: {"det": s if n != 3 else s[:-1]})
    bench.run(retries=1)
    [failure] = events(bench.documents, "failures")
    assert failure["reason"] == "ValueError: det has shape [19] where [20] is described"
    assert all(len(event["det"]) == POINTS for event in events(bench.documents, "primary"))
    assert bench.stop["reason"].startswith("budget: 6 of 6")


def test_a_channel_that_is_missing_once_is_a_failure():
    bench = Bench(lambda s, n: {"det": s} if n != 3 else {})
    bench.run(retries=1)
    [failure] = events(bench.documents, "failures")
    assert failure["reason"] == "ValueError: det was not read"


def test_complex_numbers_in_the_middle_of_a_run_end_it():
    bench = Bench(lambda s, n: {"det": s if n < 3 else s * 1j})
    with pytest.raises(InputError, match="complex"):
        bench.run()
    assert bench.detector.measured == 3 and bench.stop["exit_status"] == "fail"
    assert len(events(bench.documents, "primary")) == 2


# ---- devices that are given twice


def test_a_device_is_given_once():
    for change in (
        lambda b: b.detectors.append(b.detector),
        lambda b: b.detectors.append(b.x),
        lambda b: setattr(b, "y", b.x),
    ):
        bench = Bench()
        change(bench)
        with pytest.raises(InputError, match="is given twice, as"):
            bench.run()
        assert bench.is_untouched()
