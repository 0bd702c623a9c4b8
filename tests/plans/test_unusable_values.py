"""Masked, missing and huge values: never taken for what was measured."""

import warnings

import numpy as np
import pytest
from plain import POINTS, SIDE, Bench
from support import events, grouped

from curiosity_bluesky import CuriosityAgent, connect, documents
from curiosity_bluesky.documents import Translator, spectrum_of
from curiosity_bluesky.documents.reading import read_stream
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from curiosity_bluesky.learning.survey import LARGEST_VALUE
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun
from sim_devices import Sample

FILL = -9999.0


@pytest.fixture(autouse=True)
def no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def hidden(values, where, fill=FILL):
    """Return a masked array that holds numbers behind its mask."""
    return np.ma.masked_array(np.where(where, np.asarray(fill, values.dtype), values), mask=where)


# ---- masked spectra

SOME = np.arange(POINTS) == 7
MASKED = {
    "some": lambda s, n: {"det": hidden(s, SOME)},
    "all": lambda s, n: {"det": np.ma.masked_array(s, mask=True)},
    "whole numbers": lambda s, n: {"det": hidden((9 * s).astype(int), SOME)},
    "a list": lambda s, n: {"det": s, "det_map": [hidden(s, SOME), s]},
    "a number beside it": lambda s, n: {"det": s, "det_area": np.ma.masked},
}


@pytest.mark.parametrize("make", MASKED.values(), ids=MASKED)
def test_masked_values_are_a_failure_and_are_not_recorded(make):
    def at_times(s, n):
        good = {key: np.ma.getdata(value) for key, value in make(s, n).items()}
        return make(s, n) if n in (1, 4) else good | {"det": np.ma.getdata(good["det"])}

    bench = Bench(at_times)
    bench.run(retries=1)
    assert ["has masked values" in f["reason"] for f in events(bench.documents, "failures")] == [
        True, True,
    ]  # fmt: skip
    assert bench.stop["reason"].startswith("budget: 6 of 6") and bench.detector.measured == 8
    assert len(events(bench.documents, "primary")) == 6


def test_a_masked_array_without_masked_values_is_an_array():
    bench = Bench(lambda s, n: {"det": np.ma.masked_array(s)})
    bench.run()
    assert bench.stop["reason"].startswith("budget: 6 of 6")


def test_what_is_behind_a_mask_is_learned_by_nobody():
    values = np.linspace(0, 1, POINTS)
    data = {"det": hidden(values, SOME)}
    assert np.isnan(spectrum_of(data, ["det"]).values[7])
    explorer = Explorer(Survey({"h": np.eye(5)}), Strategy.named("random", patch_size=3))
    explorer.observe(Observation((2, 2), data["det"]))
    assert np.isnan(explorer.observations[0].spectrum[7])
    image, cube = np.eye(4), np.tile(values, (4, 4, 1))
    sample = Sample("s", {"h": image}, {"d": hidden(cube, cube == 0)}, np.arange(POINTS),
                    np.arange(4.0), np.arange(4.0))  # fmt: skip
    assert np.isnan(sample.target()[..., 0]).all()


# ---- surveys with masked or missing pixels


def corner():
    covered = np.zeros((SIDE, SIDE), bool)
    covered[:4, :5] = True
    return covered


class Patchy(Bench):
    """An instrument whose image is `image`."""

    def __init__(self, image):
        super().__init__()
        whole = type(self.camera)

        class Camera(whole):
            @property
            def values(self):
                return {f"{self.name}_height": image}

        self.camera.__class__ = Camera


def plain_image(dtype=float):
    return (1000 * np.add.outer(np.sin(np.arange(SIDE)), np.cos(np.arange(SIDE)))).astype(dtype)


@pytest.mark.quick("float")
@pytest.mark.parametrize("dtype", [float, np.int16])
def test_masked_pixels_of_a_survey_are_masked_pixels(dtype, tmp_path):
    bench = Patchy(hidden(plain_image(dtype), corner()))
    with connect(tmp_path / "runs") as runs:
        bench.RE.subscribe(runs.writer(batch_size=1000))
        bench.run(8)
        recorded = read_stream(runs[-1], "survey")
        again = CuriosityAgent.from_documents(runs[-1].documents())
    assert bench.stop["reason"].startswith("budget: 8 of 8")
    assert np.array_equal(recorded["mask"].values[0], corner())
    assert np.isnan(recorded["camera_height"].values[0][corner()]).all()
    live = CuriosityAgent.from_documents(bench.documents)
    for agent in (live, again):
        survey = agent.explorer.survey
        assert np.array_equal(survey.mask, corner())
        assert survey.channels["camera_height"].min() >= plain_image().min()
    assert again.explorer.propose()[0].pixel == live.explorer.propose()[0].pixel
    for event in events(bench.documents, "decisions"):
        assert not corner()[event["row"], event["col"]]


@pytest.mark.quick("nan")
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_pixel_without_a_number_may_be_masked(bad):
    image = plain_image()
    image[1, 2] = bad
    for dry_run in (False, True):
        bench = Patchy(image)
        bench.run(8, mask=corner(), dry_run=dry_run)
    survey = CuriosityAgent.from_documents(run_of(image, mask=corner())).explorer.survey
    neighbours = [image[r, c] for r, c in ((0, 2), (2, 2), (1, 1), (1, 3))]
    assert survey.channels["camera_height"][1, 2] in neighbours
    with pytest.raises(InputError, match=r"mask these pixels|mask=") as error:
        Patchy(image).run(8, mask=corner() & False)
    assert "camera_height" in str(error.value)


def run_of(image, **given):
    bench = Patchy(image)
    bench.run(8, **given)
    return bench.documents


def test_a_run_over_missing_pixels_goes_on_as_it_would_have():
    image = plain_image()
    image[:3, :3] = np.nan
    whole = run_of(image, mask=corner(), strategy="curious")
    decided = [(d["row"], d["col"]) for d in events(whole, "decisions")]
    cut = next(k for k, (_, doc) in enumerate(whole) if doc.get("data", {}).get("decision_id") == 5)
    past = InterruptedRun.of([whole[:cut]])
    bench = Patchy(image)
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
    later = [(d["row"], d["col"]) for d in events(bench.documents, "decisions")]
    assert decided[-len(later) :] == later


# ---- huge values

HUGE = {
    "an overload (SCPI)": lambda s: np.full(POINTS, 9.9e37) * np.linspace(0.9, 1, POINTS),
    "a spike": lambda s: np.where(SOME, 1e200, s),
    "near the end of float64": lambda s: s * 1e300,
    "both ends of float64": lambda s: np.where(SOME, 1.7e308, -1.7e308),
}


@pytest.mark.quick("a spike", "an overload*")
@pytest.mark.parametrize("make", HUGE.values(), ids=HUGE)
def test_a_huge_spectrum_is_a_failure_and_never_learned(make):
    def at_times(s, n):
        return {"det": make(s) if n in (5, 6) else s}

    bench = Bench(at_times)
    bench.run(9, strategy="curious", retries=1)
    failures = events(bench.documents, "failures")
    assert len(failures) == 2 and failures[-1]["given_up"]
    assert all("one beyond 1e+16, such as an overload" in f["reason"] for f in failures)
    assert bench.stop["reason"].startswith("budget: 9 of 9")
    agent = CuriosityAgent.from_documents(bench.documents)
    assert agent.explorer.n_observed == 9
    assert np.abs(agent.explorer.predict().spectra[3:-3, 3:-3]).max() < 100
    for event in events(bench.documents, "primary"):
        assert not np.abs(event["det" + documents.PREDICTED]).max() > 100


def test_a_spectrum_of_huge_values_alone_is_never_learned():
    bench = Bench(lambda s, n: {"det": s * 1e300})
    bench.run(5)
    assert bench.stop["exit_status"] == "success"
    assert CuriosityAgent.from_documents(bench.documents).explorer.n_observed == 0


def test_up_to_the_largest_value_is_learned():
    bench = Bench(lambda s, n: {"det": s / np.abs(s).max() * LARGEST_VALUE})
    bench.run(9, strategy="curious")
    assert CuriosityAgent.from_documents(bench.documents).explorer.n_observed == 9


def test_an_explorer_is_told_so():
    explorer = Explorer(Survey({"h": np.eye(5)}), Strategy.named("random", patch_size=3))
    with pytest.raises(InputError, match=r"\(2, 2\) reaches 1e\+200, more than the 1e\+16"):
        explorer.observe(Observation((2, 2), np.array([1.0, -1e200])))
    with pytest.raises(InputError, match=r"'h' reaches 1e\+300.*other units"):
        Survey({"h": np.eye(5) * 1e300})


# ---- what is said


def test_complex_numbers_in_the_middle_of_a_run_are_said_with_detector_and_key():
    for key in ("signal", "det"):  # which may have the name of its detector
        bench = Bench(lambda s, n, key=key: {key: s if n < 3 else s * 1j})
        with pytest.raises(InputError, match=f"det: {key} holds complex numbers"):
            bench.run()


def test_a_translator_takes_masked_documents_as_the_plan_does():
    bench = Bench()
    bench.run(4)
    translate, seen = Translator(), []
    for name, doc in bench.documents:
        if "det" in doc.get("data", {}):
            doc = {**doc, "data": {**doc["data"], "det": hidden(doc["data"]["det"], SOME)}}
        seen += [item for item in translate(name, doc) if isinstance(item, Observation)]
    assert len(seen) == 4 and all(np.isnan(o.spectrum[7]) for o in seen)
