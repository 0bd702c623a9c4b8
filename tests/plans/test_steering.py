"""The scientist in charge: before a run, from a callback, at the prompt, with the mouse."""

import json
import math
import threading

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from support import events, few, grouped, until

from curiosity_bluesky import CuriosityAgent, curiosity_plan, steer
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.views.mouse import MouseSteering
from curiosity_bluesky.views.run_figure import RunPicture
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
POINTS = 9


def devices(instrument):
    return ([instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager)


def run(steering, at=None, RE=None, name="curious", batch=1, **settings):
    """Run the plan; `at` is called with the number of spectra each time that there is one more."""
    documents = []
    instrument = simulated_instrument(SAMPLE, speed=math.inf)

    def callback(kind, doc):
        documents.append((kind, doc))
        if at is not None and kind == "event" and "attempt" in doc["data"]:
            at(len(events(documents, "primary")))

    plan = curiosity_plan(
        *devices(instrument),
        **grouped(
            num_points=POINTS,
            strategy=name,
            parameters=few(name, batch=batch),
            steering=steering,
            **settings,
        ),
    )
    (RE or RunEngine({}))(plan, callback)
    return documents


def pixels(documents, reason=None):
    return [
        (d["row"], d["col"])
        for d in events(documents, "decisions")
        if reason is None or d["reason"] == reason
    ]


def test_points_of_ones_own_are_measured_first_and_learned_from():
    steering = Steering()
    steering.add(7, 8)
    steering.add(x=0.1, y=0.14)
    documents = run(steering)
    assert pixels(documents)[:2] == [(7, 8), (7, 5)]
    assert pixels(documents, "manual") == [(7, 8), (7, 5)]
    assert len(events(documents, "primary")) == POINTS  # out of the budget
    assert [e["kind"] for e in events(documents, "steering")] == ["add", "add"]
    agent = CuriosityAgent.from_documents(documents)
    assert {o.pixel for o in agent.explorer.observations} >= {(7, 8), (7, 5)}


def test_a_point_on_the_rim_can_be_added_though_nothing_can_be_learned_there():
    steering = Steering()
    steering.add(0, 0)
    documents = run(steering)
    assert pixels(documents)[0] == (0, 0)
    assert documents[-1][1]["exit_status"] == "success"


def test_a_measured_pixel_can_be_measured_again():
    steering = Steering()
    first = pixels(run(Steering()))[0]
    documents = run(steering, lambda n: steering.add(*first) if n == 5 else None)
    assert pixels(documents).count(first) == 2
    assert len(events(documents, "primary")) == POINTS


def test_where_one_must_not_go_nobody_goes():
    steering = Steering()
    documents = run(steering, lambda n: steering.mask(x=(0.0, 0.13)) if n == 4 else None)
    assert any(x < 6 for _, x in pixels(documents)[:4])
    assert all(d["x"] > 0.13 for d in events(documents, "decisions")[4:])
    assert len(events(documents, "primary")) == POINTS


def test_what_was_decided_before_the_mask_is_given_up():
    steering, everywhere = Steering(), np.ones(SAMPLE.shape, bool)
    everywhere[:3] = everywhere[-3:] = False
    everywhere[:, 11:] = False
    documents = run(
        steering,
        lambda n: steering.mask(everywhere) if n == 5 else None,
        name="random",
        lookahead=1,
    )
    given_up = [f for f in events(documents, "failures") if f["given_up"]]
    measured = {p["decision_id"] for p in events(documents, "primary")}
    late = [d for d in events(documents, "decisions") if d["decision_id"] not in measured]
    assert [f["decision_id"] for f in given_up] == [d["decision_id"] for d in late]
    assert all(f["reason"] == "masked by hand" for f in given_up)
    for decision in events(documents, "decisions")[5:]:
        masked = everywhere[decision["row"], decision["col"]]
        assert not masked or decision["decision_id"] not in measured


def test_a_veto_keeps_the_tip_away():
    steering, vetoed = Steering(), []

    def veto(n):
        if n == 5:
            vetoed.append(steering._pending[1])
            steering.veto(*vetoed[0].pixel)

    documents = run(steering, veto, name="random", batch=4)
    [proposal] = vetoed
    measured = {p["decision_id"] for p in events(documents, "primary")}
    assert proposal.decision_id not in measured
    assert pixels(documents).count(proposal.pixel) == 1
    assert len(measured) == POINTS


def test_the_budget_grows_and_shrinks():
    for budget in (POINTS + 4, 6):
        steering = Steering()
        documents = run(steering, lambda n: steering.budget(budget) if n == 5 else None)  # noqa: B023
        assert len(events(documents, "primary")) == budget
        assert documents[-1][1]["reason"] == f"budget: {budget} of {budget} spectra measured"


def test_parameters_and_strategy_change_in_the_middle():
    steering = Steering()

    def at(n):
        if n == 5:
            steering.set(n_seeds=2)
        if n == 6:
            steering.strategy("random", patch_size=3)

    documents = run(steering, at)
    assert [e["kind"] for e in events(documents, "steering")] == ["set", "set"]
    reasons = [d["reason"] for d in events(documents, "decisions")]
    assert reasons[4:6] == ["curious", "curious"] and reasons[6:] == ["random"] * 3
    said = json.loads(events(documents, "steering")[1]["arguments"])
    assert said["strategy"] == "random" and said["parameters"]["patch_size"] == 3


def test_the_exploration_weight_turns_in_the_middle():
    steering = Steering()

    def at(n):
        if n == 6:
            steering.set(rate=0.0)

    documents = run(steering, at, name="vatsavai2025-latent")
    weights = [d["exploration_weight"] for d in events(documents, "decisions")]
    assert weights[6:] != weights[5:6] * 3 and weights[6:] == weights[6:7] * 3


def test_ending_early_keeps_everything():
    steering = Steering()
    documents = run(steering, lambda n: steering.stop("good enough") if n == 6 else None)
    stop = documents[-1][1]
    assert stop["exit_status"] == "success" and stop["reason"] == "manual: good enough"
    assert stop["num_events"]["primary"] == 6 and stop["num_events"]["maps"] >= 1


def test_at_the_prompt_of_a_paused_run():
    RE, steering = RunEngine({}), Steering()

    def at(n):
        if n == 4:  # never from the RunEngine's own thread, which would wait for itself
            asking = threading.Thread(target=RE.request_pause)
            asking.start()
            asking.join(0.05)

    with pytest.raises(RunEngineInterrupted):
        run(steering, at, RE)
    steering.add(7, 8)
    steering.stop("seen enough")
    documents = []
    RE.subscribe(lambda *document: documents.append(document))
    RE.resume()
    assert documents[-1][1]["reason"] == "manual: seen enough"
    assert RE.state == "idle"


@pytest.mark.parametrize("how", ["mask", "veto"])
def test_what_is_refused_while_the_run_is_paused_is_not_taken_again(how):
    RE, steering, instrument = RunEngine({}), Steering(), simulated_instrument(SAMPLE, speed=20.0)
    documents, paused = [], []
    acquire = instrument.microscope.acquire

    def slow_acquire():
        if len(events(documents, "primary")) == 4 and not paused:
            paused.append(steering._pending[0])
            threading.Thread(target=RE.request_pause).start()
        return acquire()

    instrument.microscope.acquire = slow_acquire
    plan = curiosity_plan(
        *devices(instrument),
        num_points=POINTS,
        options={"parameters": few("curious"), "steering": steering},
    )
    with pytest.raises(RunEngineInterrupted):
        RE(plan, lambda *document: documents.append(document))
    [proposal] = paused
    if how == "mask":
        where = np.zeros(SAMPLE.shape, bool)
        where[proposal.pixel] = True
        steering.mask(where)
    else:
        steering.veto()
    RE.resume()
    measured = [p["decision_id"] for p in events(documents, "primary")]
    assert proposal.decision_id not in measured and len(measured) == POINTS
    assert pixels(documents).count(proposal.pixel) == 1
    failures = events(documents, "failures")
    assert [f["reason"] for f in failures] == (["masked by hand"] if how == "mask" else [])
    assert documents[-1][1]["exit_status"] == "success"


def test_wishes_for_a_run_that_is_ending_are_refused():
    steering, said = Steering(), []

    def late(name, doc):
        if name == "event" and "novelty" in doc["data"] and "row" not in doc["data"]:
            try:
                steering.add(7, 8)
            except InputError as error:
                said.append(str(error))

    RE = RunEngine({})
    RE.subscribe(late)
    run(steering, RE=RE, maps_every=0)
    assert len(said) == 1 and said[0].startswith("the run is ending")


@pytest.mark.parametrize("retries", [0, 1])
def test_added_points_end_with_the_budget(retries):
    """What is left of it can be asked for; more is refused at once."""
    steering, said = Steering(), []

    def ask(n):
        if n != 4:
            return
        for k in range(12):
            try:
                steering.add(5, k)
            except InputError as error:
                said.append(str(error))

    documents = run(steering, ask, retries=retries)
    left = POINTS - 4
    assert len(said) == 12 - left
    assert said[0].startswith(f"no spectrum of the budget is left for pixel (5, {left})")
    assert pixels(documents, "manual") == [(5, k) for k in range(left)]
    assert len(events(documents, "primary")) == POINTS
    assert documents[-1][1]["reason"] == f"budget: {POINTS} of {POINTS} spectra measured"


def test_a_budget_that_is_raised_has_room_for_a_point_at_once():
    steering, said = Steering(), []

    def ask(n):
        if n == POINTS:
            with pytest.raises(InputError, match="raise it first"):
                steering.add(7, 8)
            steering.budget(POINTS + 1)
            said.append(steering.add(7, 8))

    documents = run(steering, ask)
    assert said and pixels(documents, "manual") == [(7, 8)]
    assert documents[-1][1]["reason"] == f"budget: {POINTS + 1} of {POINTS + 1} spectra measured"


def test_what_was_asked_for_is_over_with_the_run():
    steering = Steering()
    run(steering, lambda n: steering.mask(x=(0.0, 0.05)) if n == POINTS else None)
    assert steering.take() == []
    assert pixels(run(steering), "manual") == []


def test_without_a_steering_of_its_own_the_plan_has_the_common_one():
    steer.add(7, 8)
    try:
        documents = run(None)
    finally:
        steer.clear()
    assert pixels(documents, "manual") == [(7, 8)]


@pytest.mark.quick("*outside the survey of*", "*gamma*", "*Did you mean*", "*to veto*")
@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s.add(99, 0), r"pixel \(99, 0\) is outside the survey of 16 x 14"),
        (lambda s: s.add(x=9.0, y=0.0), r"x = 9 um is outside the survey; expected -0.01"),
        (lambda s: s.mask(np.ones((3, 3))), r"mask has shape \(3, 3\), the survey \(16, 14\)"),
        (lambda s: s.mask(np.ones((16, 14))), "leaves no pixel to measure"),
        (lambda s: s.mask(x=(5, 6)), "covers no pixel"),
        (lambda s: s.set(gamma=3), "curious has no parameter 'gamma'; it has batch"),
        (lambda s: s.set(patch_size=40), "patch_size is 40 but the survey has 16 x 14"),
        (lambda s: s.strategy("furious"), "Did you mean 'curious'"),
        (lambda s: s.budget(10**6), "only 224 pixels can be measured"),
        (lambda s: s.veto(0, 0), "nothing is proposed there to veto; proposed now:"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_asked_for(ask, said):
    steering, refused = Steering(), []

    def at(n):
        if n == 5:
            with pytest.raises(InputError, match=said):
                ask(steering)
            refused.append(n)

    documents = run(steering, at)
    assert refused and "steering" not in documents[-1][1]["num_events"]
    # Before a run, when the survey is known: nothing is written then.
    try:
        ask(steering)
    except InputError:
        return
    documents = []
    with pytest.raises(InputError):
        RunEngine({})(
            curiosity_plan(
                *devices(simulated_instrument(SAMPLE, speed=math.inf)),
                num_points=POINTS,
                options={"parameters": few("curious"), "steering": steering},
            ),
            lambda *document: documents.append(document),
        )
    assert not documents


def test_one_bad_wish_before_a_run_costs_no_other():
    steering, RE = Steering(), RunEngine({})
    with pytest.raises(InputError, match="nothing is proposed before a run"):
        steering.veto()
    with pytest.raises(InputError, match="no strategy named 'nosuch'"):
        steering.strategy("nosuch")
    with pytest.raises(InputError, match="the number of points is -1"):
        steering.budget(-1)
    with pytest.raises(InputError, match="row is 'a'; expected a whole number"):
        steering.add("a", "b")  # pyright: ignore[reportArgumentType]
    steering.mask(x=(0.0, 0.08))
    steering.add(999, 3)
    steering.add(7, 8)
    with pytest.raises(InputError, match=r"\(999, 3\) is outside .* 2 others wait"):
        run(steering, RE=RE)
    documents = run(steering, RE=RE)
    assert pixels(documents)[0] == (7, 8)
    assert all(d["x"] > 0.08 for d in events(documents, "decisions"))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s.add(float("nan"), 1), "row is nan; expected a whole number"),
        (lambda s: s.add(1, 1.5), "col is 1.5; expected a whole number"),
        (lambda s: s.add(x=float("nan"), y=0.0), "x is nan; expected a number"),
        (lambda s: s.add(x=0.0, y=2j), "y is 2j; expected a number"),
        (lambda s: s.mask(x=("a", 1.0)), "x is 'a'; expected from and to"),
        (lambda s: s.mask(y=(0.0, float("nan"))), "y is nan; expected from and to"),
        (lambda s: s.mask(y=3.0), "y is 3.0; expected from and to, in um"),
    ],
)
def test_what_is_no_number_is_refused_before_a_run(ask, said):
    with pytest.raises(InputError, match=said):
        ask(Steering())


def test_a_call_that_says_too_little_or_too_much_is_refused():
    steering = Steering()
    for ask in (
        lambda: steering.add(),
        lambda: steering.add(1),
        lambda: steering.add(1, 2, x=1, y=2),
    ):
        with pytest.raises(InputError, match="add wants a pixel"):
            ask()
    with pytest.raises(InputError, match="mask wants an array"):
        steering.mask()


# ---- the mouse


class Drawn:
    """A run's picture on a canvas, with a hand on it, and a steering that follows the run."""

    def __init__(self, documents, asked, explain=None):
        self.picture = RunPicture()
        for document in documents:
            self.picture(*document)
        self.figure = Figure(figsize=(10, 8))
        self.canvas = FigureCanvasAgg(self.figure)
        self.picture.draw(self.figure)
        self.canvas.draw()
        self.hand = MouseSteering(self.canvas, self.picture, asked, explain)

    def click(self, x, y, **kwargs):
        self.event("button_press_event", x, y, **kwargs)
        self.event("button_release_event", x, y, **kwargs)

    def event(self, name, x, y, button=1, key=None, axes=0):
        px, py = self.figure.axes[axes].transData.transform((x, y))
        self.canvas.callbacks.process(name, MouseEvent(name, self.canvas, px, py, button, key=key))


class Asked:
    def __init__(self):
        self.acts = []

    def add(self, *, x, y):
        self.acts.append(("add", x, y))

    def mask(self, where):
        self.acts.append(("mask", where))

    def veto(self):
        raise InputError("nothing is proposed")


@pytest.fixture(scope="module")
def half():
    """The documents of a run that is still under way."""
    return run(Steering())[:-1]


def test_a_click_adds_a_point(half):
    asked = Asked()
    drawn = Drawn(half, asked)
    drawn.click(0.1, 0.14)
    [(kind, x, y)] = asked.acts
    assert kind == "add" and (x, y) == pytest.approx((0.1, 0.14))
    drawn.click(0.1, 0.14, axes=3)  # the curve: nothing to measure there
    drawn.event("button_press_event", 0.05, 0.05)  # dragged: no click
    drawn.event("button_release_event", 0.2, 0.2)
    assert len(asked.acts) == 1


def test_a_click_on_a_measured_point_says_why_it_was_chosen(half, capsys, caplog):
    asked, explained = Asked(), threading.Event()

    def explain(number):
        if number == 2:
            raise InputError("no document of it is left")
        explained.set()
        return f"why {number}"

    drawn = Drawn(half, asked, explain)
    first, second = (drawn.picture.decisions[number] for number in (1, 2))
    drawn.click(first.x, first.y, axes=1)  # on the map of what is expected, or on the survey
    drawn.click(second.x, second.y)
    until(lambda: "cannot be explained" in caplog.text and explained.is_set())
    until(lambda: not drawn.hand._thinking.locked())
    assert "why 1" in capsys.readouterr().out and asked.acts == []
    free = np.array([[p.x, p.y] for p in drawn.picture.decisions.values()])
    x, y = max(
        ((x, y) for x in SAMPLE.x for y in SAMPLE.y),
        key=lambda place: np.hypot(*(free - place).T).min(),
    )
    drawn.click(x, y)
    assert [act[0] for act in asked.acts] == ["add"]


def test_zooming_with_the_toolbar_adds_nothing(half):
    asked = Asked()
    drawn = Drawn(half, asked)
    drawn.canvas.widgetlock(drawn)
    drawn.click(0.1, 0.14)
    assert asked.acts == []
    drawn.canvas.widgetlock.release(drawn)
    drawn.click(0.1, 0.14)
    assert len(asked.acts) == 1


def test_dragging_with_shift_masks_what_is_inside(half):
    asked = Asked()
    drawn = Drawn(half, asked)
    corners = [(0.05, 0.05), (0.15, 0.05), (0.15, 0.15), (0.05, 0.15)]
    drawn.event("button_press_event", *corners[0], key="shift")
    for corner in corners[1:]:
        drawn.event("motion_notify_event", *corner, key="shift")
    drawn.event("button_release_event", *corners[-1], key="shift")
    [(kind, mask)] = asked.acts
    inside = (SAMPLE.x > 0.05) & (SAMPLE.x < 0.15)
    expected = np.outer((SAMPLE.y > 0.05) & (SAMPLE.y < 0.15), inside)
    assert kind == "mask" and (mask == expected).all()


def test_what_the_right_button_cannot_veto_is_said(half):
    drawn = Drawn(half, Asked())
    drawn.event("button_press_event", 0.1, 0.14, button=3)
    assert drawn.hand.said == "nothing is proposed"


def test_after_the_run_a_click_does_nothing():
    asked = Asked()
    drawn = Drawn(run(Steering()), asked)
    drawn.click(0.1, 0.14)
    assert asked.acts == [] and drawn.hand.said == "the run is over"


def test_clicks_in_a_run_are_measured():
    steering = Steering()
    documents = []
    hands = []

    def at(n):
        if n == 5:
            hands.append(Drawn(documents, steering))
            hands[0].click(0.1, 0.14)

    instrument = simulated_instrument(SAMPLE, speed=math.inf)

    def callback(kind, doc):
        documents.append((kind, doc))
        if kind == "event" and "attempt" in doc["data"]:
            at(len(events(documents, "primary")))

    plan = curiosity_plan(
        *devices(instrument),
        num_points=POINTS,
        options={"parameters": few("curious"), "steering": steering},
    )
    RunEngine({})(plan, callback)
    assert pixels(documents, "manual") == [(7, 5)]


# ---- before anything moves


def test_a_dry_run_moves_nothing_and_says_what_would_be(capsys):
    instrument = simulated_instrument(SAMPLE, speed=50.0)
    RE, documents, messages = RunEngine({}, call_returns_result=True), [], []
    RE.msg_hook = lambda msg: messages.append(msg.command)
    plan = {"num_points": POINTS, "parameters": few("curious")}
    result = RE(curiosity_plan(*devices(instrument), **grouped(dry_run=True, **plan)))
    assert result.plan_result.planned is None
    assert "the imager holds none" in capsys.readouterr().out
    assert not set(messages) & {"set", "trigger", "open_run", "stage"}
    RE(curiosity_plan(*devices(instrument), **grouped(**plan)), lambda *d: documents.append(d))
    messages.clear()
    outline = RE(curiosity_plan(*devices(instrument), **grouped(dry_run=True, **plan))).plan_result
    assert not set(messages) & {"set", "trigger", "open_run", "stage"}
    assert [p.pixel for p in outline.planned] == pixels(documents, "seed")
    assert outline.limits["stage_x"] == ((0.0, 0.26), (0.0, 0.26))
    survey, spectra = 16 * 0.1 / 50, POINTS * 0.5 / 50  # s, by the microscope's own clock
    assert outline.seconds["survey"] == pytest.approx(survey)
    assert survey + spectra < outline.seconds["all"] < 3 * (survey + spectra)
    assert 4 * 0.5 / 50 < outline.seconds["planned"] < outline.seconds["all"]
    json.dumps(outline.to_dict())
