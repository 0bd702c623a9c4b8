"""A killed run that is resumed ends where, and as, it would have: visits, failures, budget."""

import logging

import pytest
from plain import Bench
from support import events, facts, grouped, slowly

from curiosity_bluesky import CuriosityAgent
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.utils.run_end import EndKind, RunEnd

STRATEGY = Strategy.named("random", n_seeds=4, patch_size=5, budget=6)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def bad(spectrum, n):
    return {"det": spectrum, "det_quality": 0.0}


def here_and_there(spectrum, n):
    """Read a spectrum that is good at some pixels, whenever it is taken."""
    return {"det": spectrum, "det_quality": float(spectrum.max() > 3.4)}


def measured(
    make, *, past=None, asked=None, num_points=None, strategy=STRATEGY, steering=None, **course
):
    """Run the plan on a new instrument, which forgets nothing, and return its documents."""
    bench, steering = Bench(make), steering or Steering()
    strategy = strategy if past is None else past.strategy
    plan = explore(
        *(CuriosityAgent(strategy, 0), bench.detectors, bench.x, bench.y, bench.camera),
        **grouped(**{"retry_wait": 0.0, "max_failures": 99, "retries": 1, **course}),
        **{"past": past, "steering": steering, "num_points": num_points},
    )

    def hear(name, doc):
        bench.documents.append((name, doc))
        if asked is not None:
            asked(steering, bench.documents)

    bench.RE(plan, hear)
    return bench.documents


def cuts(documents):
    """Yield how many documents there are after each event since the first spectrum."""
    found = [k for k, (name, doc) in enumerate(documents) if "given_up" in doc.get("data", {})]
    return range(found[0], len(documents))


def end(documents):
    assert documents[-1][1]["exit_status"] == "success"
    return RunEnd.of(documents[-1][1])


def check(whole, before=(), every=1, **settings):
    """Check that wherever a run is killed, twice too, the pieces are the run undisturbed."""
    for cut in cuts(whole)[::every]:
        pieces = [*before, whole[:cut]]
        pieces.append(measured(past=InterruptedRun.of(pieces), **settings))
        assert_same(whole, pieces[len(before) :])
        middle = pieces[-1][: len(pieces[-1]) // 2]
        pieces[-1] = middle
        pieces.append(measured(past=InterruptedRun.of(pieces), **settings))
        assert_same(whole, pieces[len(before) :])


def assert_same(whole, pieces):
    for stream in ("decisions", "primary", "failures"):
        assert facts(pieces, stream) == facts([whole], stream)
    assert pieces[-1][-1][1]["reason"] == whole[-1][1]["reason"]


@pytest.mark.parametrize("every", [11, *slowly(1)])
@pytest.mark.parametrize("make", [bad, here_and_there])
def test_a_killed_run_visits_the_sample_no_more_often(make, every):
    whole = measured(make)
    assert end(whole).kind is EndKind.VISITS and len(events(whole, "primary")) == 12
    check(whole, every=every, make=make)


def test_it_does_not_end_earlier_where_it_goes_on_with_one_that_was_closed():
    """Each run that goes on after an end may visit as often as what it lacks."""
    first = measured(here_and_there)
    good = 6 - int(end(first).text.split(" spectra")[0].split()[-1])
    assert end(first).kind is EndKind.VISITS
    second = measured(here_and_there, past=InterruptedRun.of([first]))
    assert end(second).kind in (EndKind.VISITS, EndKind.BUDGET) and good <= 6
    check(second, [first], make=here_and_there, every=11)


@pytest.mark.parametrize("every", [7, *slowly(1)])
@pytest.mark.parametrize("make", [bad, here_and_there])
def test_failures_in_a_row_count_over_a_kill(make, every):
    settings = {"make": make, "attended": False, "max_failures": 3}
    whole = measured(**settings)
    assert end(whole).kind is EndKind.FAILURES
    check(whole, every=every, **settings)


def test_a_budget_that_is_lowered_is_no_trouble():
    """Half of the spectra are enough after all, while the next point is decided already."""

    def asked(steering, documents):
        if len(events(documents, "primary")) == 4 and not said:
            said.append(steering.budget(2))

    for ahead in ({}, {"lookahead": 1}):
        said = []
        whole = measured(None, asked=asked, **ahead)
        assert said and end(whole).kind is EndKind.BUDGET
        assert end(whole).text.endswith("of 2 spectra measured")


def test_added_points_beyond_the_budget_are_left_out_and_after_a_kill_too():
    """What is asked for before the run begins is not counted: it is said at its end."""
    steering = Steering()
    for k in range(4, 10):
        steering.add(5, k)
    strategy = STRATEGY.replace(budget=4)
    whole = measured(None, strategy=strategy, retries=0, steering=steering)
    assert [d["reason"] for d in events(whole, "decisions")] == ["manual"] * 4
    left_out = "4 of 4 spectra measured; the added pixels (5, 8), (5, 9) left out"
    assert end(whole) == RunEnd(EndKind.BUDGET, left_out)
    measurements = [k for k, (_, doc) in enumerate(whole) if "attempt" in doc.get("data", {})]
    for cut in (measurements[0], measurements[-1], measurements[-1] + 1):
        second = measured(None, past=InterruptedRun.of([whole[:cut]]), retries=0)
        assert_same(whole, [whole[:cut], second])
