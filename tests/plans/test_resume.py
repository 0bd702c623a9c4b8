"""A run that was broken off anywhere goes on as if nothing had been."""

import math

import pytest
from bluesky import RunEngine
from killing import begun
from support import events, facts, few, grouped, learning_alike, measurable, slowly

from curiosity_bluesky import CuriosityAgent
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import RESUMES
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering
from sim_devices import Faults, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
POINTS = 9


def measured(name, *, past=None, lookahead=0, batch=1, steered=None, faults=None):
    """Run the plan to its end and return its documents."""
    documents, steering = [], Steering()
    strategy = Strategy.named(name, **few(name, budget=POINTS, batch=batch))
    ins = simulated_instrument(SAMPLE, speed=math.inf, faults=faults)
    RE = RunEngine({})

    def callback(kind, doc):
        documents.append((kind, doc))
        if steered is not None:
            steered(steering, documents)

    RE(
        explore(
            CuriosityAgent(strategy, 3),
            [ins.spectrometer],
            ins.stage.x,
            ins.stage.y,
            ins.imager,
            **grouped(lookahead=lookahead, maps_every=4, withhold=0.1, retry_wait=0),
            past=past,
            steering=steering,
        ),
        callback,
    )
    return documents


def cut_anywhere(documents):
    """Yield how many documents there are after each that comes after the survey."""
    first = next(k for k, (kind, _) in enumerate(documents) if kind == "event")
    return range(first + 1, len(documents))


def check(whole, cut, **settings):
    first = whole[:cut]
    second = measured(past=InterruptedRun.of([first]), **settings)
    assert second[0][1][RESUMES] == whole[0][1]["uid"]
    assert facts([first, second], "decisions") == facts([whole], "decisions")
    assert facts([first, second], "primary") == facts([whole], "primary")
    numbers = [e["decision_id"] for run in (first, second) for e in events(run, "primary")]
    assert numbers == list(range(POINTS))  # each spectrum once, none again
    assert second[-1][1]["reason"] == whole[-1][1]["reason"]


@pytest.mark.quick("curious", "random", "vatsavai2025-latent")
@pytest.mark.parametrize("name", learning_alike(measurable()))
def test_the_rest_is_as_it_would_have_been(name):
    whole = measured(name)
    cuts = cut_anywhere(whole)
    for cut in (cuts[3], cuts[len(cuts) // 2], cuts[-6]):
        check(whole, cut, name=name)


@pytest.mark.quick("curious-3-1", "random-3-2")
@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("batch", [3, *slowly(1)])
@pytest.mark.parametrize("name", ["curious", "random"])
def test_wherever_it_was_broken_off(name, batch, lookahead):
    settings = {"name": name, "batch": batch, "lookahead": lookahead}
    whole = measured(**settings)
    for cut in cut_anywhere(whole)[:: 7 if name == "curious" else 5]:
        check(whole, cut, **settings)


@pytest.mark.quick("curious")
@pytest.mark.parametrize(
    "name", ["vatsavai2025-latent", "curious", *slowly("vatsavai2025-ensemble")]
)
def test_what_was_expected_of_a_batch_is_expected_again_to_the_last_digit(name):
    whole = measured(name, batch=3)
    spectra = [k for k, (kind, doc) in enumerate(whole) if "stage_x" in doc.get("data", ())]
    for cut in spectra[5:]:  # in the middle of a batch, too
        check(whole, cut + 1, name=name, batch=3)


def test_a_resumed_run_is_resumed():
    whole = measured("curious")
    cuts = cut_anywhere(whole)
    first = whole[: cuts[len(cuts) // 3]]
    second = measured("curious", past=InterruptedRun.of([first]))
    second = second[: cut_anywhere(second)[len(second) // 3]]
    third = measured("curious", past=InterruptedRun.of([first, second]))
    assert facts([first, second, third], "decisions") == facts([whole], "decisions")
    assert facts([first, second, third], "primary") == facts([whole], "primary")


def test_an_attempt_that_failed_is_not_taken_for_the_one_that_comes():
    # A seed, one that is chosen, and one that is given up.
    pixels = [(d["row"], d["col"]) for d in events(measured("curious"), "decisions")]
    faults = Faults.at({pixels[1]: ["nan"], pixels[5]: ["flat"], pixels[6]: ["nan", "nan"]})
    whole = measured("curious", faults=faults)
    assert [f["given_up"] for f in events(whole, "failures")].count(1) == 1
    [last] = [
        k
        for k, (name, doc) in enumerate(whole)
        if name == "event" and doc["data"].get("given_up") == 1
    ]
    for cut in [last, *cut_anywhere(whole)[last::6]]:
        first = whole[:cut]
        second = measured("curious", past=InterruptedRun.of([first]))
        assert facts([first, second], "decisions") == facts([whole], "decisions")
        good = [  # the instrument of the second run fails no more
            e["decision_id"]
            for e in events([*first, *second], "primary")
            if e["spectrometer_quality"] >= 0.5
        ]
        assert len(good) == len(set(good)) == POINTS
        agent = CuriosityAgent.from_documents([*first, *second])
        assert agent.explorer.n_observed == POINTS and not agent.explorer.pending


@pytest.mark.parametrize("step", [3, *slowly(1)])
def test_wherever_it_was_broken_off_an_instrument_that_fails_goes_on_as_it_would_have(step):
    """The instrument lives on: what it did, each attempt on record, it does not do again."""
    pixels = [(d["row"], d["col"]) for d in events(measured("random"), "decisions")]
    planned = {pixels[1]: ["nan"], pixels[2]: ["raises"], pixels[4]: "flat"}
    whole = measured("random", faults=Faults.at(planned))
    assert {f["doses"] for f in events(whole, "failures")} == {1}
    for cut in cut_anywhere(whole)[::step]:
        first, faults = whole[:cut], Faults.at(planned)
        for pixel, attempts in begun([first]).items():
            for _ in range(attempts):
                faults.of_measurement(pixel, 0.0)
        second = measured("random", past=InterruptedRun.of([first]), faults=faults)
        for stream in ("decisions", "primary", "failures"):
            assert facts([first, second], stream) == facts([whole], stream), cut
        assert second[-1][1]["reason"] == whole[-1][1]["reason"]


def test_what_the_scientist_asked_for_holds_in_the_resumed_run():
    def steered(steering, documents):
        if documents[-1][0] == "event" and len(events(documents, "primary")) == 6 and not asked:
            asked.append(True)
            steering.add(7, 8)
            steering.mask(x=(0.0, 0.08))
            steering.set(refit_every=2)
            steering.budget(12)

    asked = []
    whole = measured("curious", steered=steered)
    assert len(events(whole, "steering")) == 4
    decisions = events(whole, "decisions")
    assert len(decisions) == 12
    assert [(d["row"], d["col"]) for d in decisions if d["reason"] == "manual"] == [(7, 8)]
    assert all(d["x"] > 0.08 for d in decisions[7:])
    after = [k for k in cut_anywhere(whole) if len(events(whole[:k], "steering")) == 4]
    for cut in after[:: max(1, len(after) // 3)]:
        second = measured("curious", past=InterruptedRun.of([whole[:cut]]))
        assert facts([whole[:cut], second], "decisions") == facts([whole], "decisions")


def test_a_run_that_was_ended_by_hand_goes_on():
    def steered(steering, documents):
        if documents[-1][0] == "event" and len(events(documents, "primary")) == 6 and not asked:
            asked.append(True)
            steering.stop("lunch")

    asked = []
    first = measured("curious", steered=steered)
    assert first[-1][1]["reason"] == "manual: lunch" and len(events(first, "primary")) == 6
    second = measured("curious", past=InterruptedRun.of([first]))
    assert facts([first, second], "decisions") == facts([measured("curious")], "decisions")


def test_a_run_that_is_complete_is_not_resumed_without_a_word():
    whole = measured("random")
    with pytest.raises(InputError, match="has all its 9 spectra; give num_points="):
        measured("random", past=InterruptedRun.of([whole]))


def test_a_run_of_another_plan_cannot_be_resumed():
    with pytest.raises(InputError, match="not made by curiosity_plan"):
        InterruptedRun.of([[("start", {"uid": "abc", "time": 0.0})]])


def test_a_run_without_its_survey_cannot_be_resumed():
    whole = measured("random")
    survey = next(k for k, (kind, _) in enumerate(whole) if kind == "event")
    for cut in (1, survey):  # killed before the survey was described, and before it was written
        with pytest.raises(InputError, match="before its survey was written"):
            InterruptedRun.of([whole[:cut]])
    InterruptedRun.of([whole[: survey + 1]])
