"""Why a decision was made, whichever kind it is, from documents alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from stored import EXPECTED, STORED, documents_in
from support import QUICK, events, grouped

from curiosity_bluesky import CuriosityAgent, InputError, connect, curiosity_plan
from curiosity_bluesky.analysis import Explanation, explain, explain_from_documents
from curiosity_bluesky.cli import main
from curiosity_bluesky.demo import SimulatedInstrument
from curiosity_bluesky.documents import prior_run_from, replay_run
from curiosity_bluesky.learning import Proposal
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.views import draw_decision

Documents = list[tuple[str, dict[str, Any]]]


def stored(name: str) -> Documents:
    return documents_in(STORED / f"{name}.jsonl.gz")


def decisions_of(documents: Documents) -> list[Proposal]:
    run = replay_run(documents)
    assert run is not None
    return run.decisions


def before(documents: Documents, number: int) -> Documents:
    """Return the documents before a decision was written."""
    uids = [d["uid"] for n, d in documents if n == "descriptor" and d["name"] == "decisions"]
    for k, (name, doc) in enumerate(documents):
        if name == "event" and doc["descriptor"] in uids and doc["data"]["decision_id"] == number:
            return documents[:k]
    raise AssertionError(number)


def gone_on(documents: Documents, number: int) -> tuple[Documents, Documents]:
    """Return a run as if it had been killed before a decision, and as it then went on."""
    first = before(documents, number)
    start = documents[0][1]
    again = {d["uid"]: f"{d['uid']}-again" for n, d in documents if n == "descriptor"}
    survey = {d["uid"] for n, d in documents if n == "descriptor" and d["name"] == "survey"}
    second: Documents = [
        ("start", {**start, "uid": f"again-{start['uid']}", "curiosity_resumes": start["uid"]})
    ]
    for k, (name, doc) in enumerate(documents):
        if name == "descriptor":
            uid = second[0][1]["uid"]
            second.append((name, {**doc, "uid": again[doc["uid"]], "run_start": uid}))
        elif name == "event" and (k >= len(first) or doc["descriptor"] in survey):
            second.append((name, {**doc, "descriptor": again[doc["descriptor"]]}))
    return first, second


@pytest.mark.quick("published", "curious-in-batches*", "random*", "lcmd*", "dose*", "drift*")
@pytest.mark.parametrize("name", sorted(EXPECTED["documents"]))
def test_each_decision_of_a_stored_run_comes_out_again(name: str) -> None:
    documents = stored(name)
    for decision in decisions_of(documents):
        explanation = explain_from_documents(documents, decision.decision_id)
        assert explanation.agrees, str(explanation)
        assert explanation.decision.pixel == decision.pixel
        assert "comes out the same" in str(explanation)
        assert "nan" not in str(explanation) and "inf " not in str(explanation)
        drawn = [v for k, v in explanation.maps.items() if not str(k).startswith("survey_")]
        assert all(np.isfinite(values.astype(float)).any() for values in drawn)  # none is empty
        assert all("units" in v.attrs for v in drawn if v.name != "available")


def test_a_chosen_pixel_has_its_rank_its_numbers_and_its_runners_up() -> None:
    documents = stored("curious")
    explorer = CuriosityAgent.from_documents(before(documents, 7)).explorer
    maps = explorer.maps()

    explanation = explain_from_documents(documents, 7)

    for name in ("error", "uncertainty", "acquisition"):
        np.testing.assert_array_equal(explanation.maps[name], maps[name])
    assert "novelty" not in explanation.maps  # this strategy has none
    assert explanation.maps["error"].attrs["units"] == "pm^2"
    free = explanation.maps["available"].values
    chosen = explanation.decision.pixel
    gain = np.where(free, maps["acquisition"], -np.inf)
    assert np.unravel_index(np.argmax(gain), gain.shape) == chosen
    assert "It has the largest expected gain (" in str(explanation)
    assert f"of {np.isfinite(gain).sum()} candidates" in str(explanation)
    assert not any(free[o.pixel] for o in explorer.observations)
    rms = np.sqrt(maps["error"])
    times = rms[chosen] / np.median(rms[free & np.isfinite(rms)])
    assert f"{rms[chosen]:.3g} pm, {times:.3g} times the median" in str(explanation)
    places = [chosen, *(place.pixel for place in explanation.runners_up)]
    assert len(places) == 5
    for k, (row, col) in enumerate(places):
        assert free[row, col]
        assert all(max(abs(row - r), abs(col - c)) > 2 for r, c in places[:k])
    shares = [place.share for place in explanation.runners_up]
    assert shares == sorted(shares, reverse=True) and shares[0] <= 1
    for place in explanation.runners_up:
        assert place.rank == (gain > gain[place.pixel]).sum() + 1
        assert place.share == pytest.approx(gain[place.pixel] / gain[chosen])
    assert [p.decision_id for p in explanation.known] == list(range(7))


def test_without_the_error_term_another_pixel_would_have_been_chosen() -> None:
    documents = stored("curious")
    start = documents[0][1]
    plain = {**start["curiosity_parameters"], "weights": "none"}
    agent = CuriosityAgent.from_documents(
        [("start", {**start, "curiosity_parameters": plain}), *before(documents, 5)[1:]]
    )
    [other] = agent.suggest()

    explanation = explain_from_documents(documents, 5)

    [found] = explanation.counterfactuals
    assert found.pixel == other.pixel != explanation.decision.pixel
    assert found.away == pytest.approx(
        np.hypot(other.x - explanation.decision.x, other.y - explanation.decision.y)
    )
    assert "without the error term" in str(explanation) and " um away" in str(explanation)


def test_without_a_spectrum_it_counts_as_given_up() -> None:
    documents = stored("curious")
    explorer = CuriosityAgent.from_documents(before(documents, 8)).explorer
    failed = CuriosityAgent.from_documents(
        [d for d in before(documents, 8) if not (d[0] == "event" and "doses" in d[1]["data"]
         and d[1]["data"]["decision_id"] == 5)]
    ).explorer  # fmt: skip
    [decision] = [p for p in explorer.decisions if p.decision_id == 5]
    failed.fail(decision, "left out", bar=True)
    [expected] = failed.propose()

    explanation = explain_from_documents(documents, 8, without=[5])

    [_, found] = explanation.counterfactuals
    assert found.pixel == expected.pixel
    assert "without the spectrum of decision 5" in str(found)
    assert explanation.agrees  # with it
    with pytest.raises(InputError, match=r"without=8 .* knew the spectra of 0 to 7"):
        explain_from_documents(documents, 8, without=[8])


def test_a_seed_is_the_first_of_so_many_and_has_no_maps() -> None:
    explanation = explain_from_documents(stored("curious"), 2)
    text = str(explanation)
    assert "(3rd spectrum)" in text and "3rd of 4 seeds" in text and "from 2 spectra" in text
    assert set(explanation.maps) == {"survey_imager_amplitude", "available"}
    assert not explanation.runners_up and not explanation.counterfactuals
    assert "nearest spectrum is that of decision" in text and " um away" in text
    draw_decision(explanation)  # of the survey alone


def test_a_failed_decision_became_no_spectrum() -> None:
    text = str(explain_from_documents(stored("random-with-failures"), 8))
    assert "(no spectrum)" in text and "It was given up." in text and "a random pixel" in text


def test_in_a_batch_what_was_chosen_before_counts_as_measured() -> None:
    explanation = explain_from_documents(stored("curious-in-batches-with-bad-spectra"), 8)
    assert "3rd of a batch of 3" in str(explanation)
    assert "count as measured" in str(explanation)
    assert {6, 7} < {p.decision_id for p in explanation.under_way}
    assert max(p.decision_id for p in explanation.known) < 5  # lookahead


def test_a_choice_among_the_ten_best_says_so() -> None:
    text = str(explain_from_documents(stored("published"), 6))
    assert "10th-largest acquisition" in text and "One of the 10 best is drawn" in text
    assert "by novelty alone" in text


def measured(
    RE: RunEngine, instrument: SimulatedInstrument, adding: tuple[int, int], **options: Any
) -> Documents:
    """Measure a run in which a pixel is added by hand after eight spectra."""
    documents: Documents = []
    steering = Steering()

    def callback(name: str, doc: dict[str, Any]) -> None:
        documents.append((name, doc))
        if name == "event" and "doses" in doc["data"] and len(events(documents, "primary")) == 8:
            steering.add(*adding)

    stage = instrument.stage
    devices = [instrument.spectrometer], stage.x, stage.y, instrument.imager
    options = grouped(steering=steering, parameters=QUICK, **options)
    RE(curiosity_plan(*devices, num_points=11, **options), callback)
    return documents


def test_what_was_added_by_hand_is_told_from_what_the_strategy_wanted(
    RE: RunEngine, instrument: SimulatedInstrument
) -> None:
    documents = measured(RE, instrument, (5, 6))
    [number] = [p.decision_id for p in decisions_of(documents) if p.reason == "manual"]
    [wanted] = CuriosityAgent.from_documents(
        [d for d in before(documents, number) if "act_id" not in d[1].get("data", {})]
    ).suggest()

    explanation = explain_from_documents(documents, number)

    assert "added by hand" in str(explanation) and explanation.agrees
    [other] = explanation.counterfactuals
    assert other.pixel == wanted.pixel and "without the request" in str(other)
    assert "expected error" in str(explanation)  # of the model that there was


def test_a_decision_of_a_resumed_run_is_explained_from_all_its_pieces() -> None:
    whole = stored("curious")
    first, second = gone_on(whole, 6)
    for number in (3, 7):
        alone = explain_from_documents(whole, number)
        found = explain_from_documents(first + second, number)
        assert found.agrees and found.paragraphs[1:] == alone.paragraphs[1:]
        np.testing.assert_array_equal(found.maps["available"], alone.maps["available"])
    early = str(explain_from_documents(first + second, 3))
    assert f"of run {whole[0][1]['uid'][:8]}, with which run again-00 goes on" in early
    with pytest.raises(InputError, match="decision 6 is asked for; run .* has the decisions 0 to"):
        explain_from_documents(first, 6)


def test_a_batch_that_a_crash_cut_short_is_that_of_the_run_that_went_on() -> None:
    whole = stored("curious-in-batches-with-bad-spectra")
    first, second = gone_on(whole, 3)
    cut = before(whole, 5)  # two decisions of three are written
    for number in (3, 4, 5):
        found = explain_from_documents(cut + second, number)
        assert found.agrees and "batch of 3" in str(found)
        assert "with which run" not in str(found)
    assert first  # what both have


def test_a_fallback_decision_is_told_from_what_the_agent_would_have_chosen(
    RE: RunEngine, instrument: SimulatedInstrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURIOSITY_AGENT_TOKEN", "a" * 43)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        away = {"agent": address, "agent_lost": "farthest", "agent_patience": 0.05}
        documents = measured(RE, instrument, (5, 6), **away)
    decisions = decisions_of(documents)
    assert all(p.decided_by.startswith("farthest, in place of curious at") for p in decisions)
    [wanted] = CuriosityAgent.from_documents(before(documents, 7)).suggest()

    explanation = explain_from_documents(documents, 7)

    assert explanation.agrees and "The agent was away" in str(explanation)
    [other] = explanation.counterfactuals
    assert other.pixel == wanted.pixel and "by curious, had the agent answered" in str(other)


def test_a_warm_run_is_explained_with_the_run_that_it_started_from() -> None:
    earlier = prior_run_from(stored("steered"))
    [(name, start), *others] = stored("curious")
    warm = {"curiosity_warm_start": earlier.uid, "curiosity_warm_spectra": 10}
    documents = [(name, {**start, **warm}), *others]
    explorer = CuriosityAgent.from_documents(before(documents, 7), earlier=earlier).explorer

    explanation = explain_from_documents(documents, 7, earlier=earlier)

    for key, values in explorer.maps().items():
        if key in explanation.maps:
            np.testing.assert_array_equal(explanation.maps[key], values)
    assert f"7 spectra and the 10 of run {earlier.uid[:8]}, from which" in str(explanation)
    with pytest.raises(InputError, match="cannot be followed without them"):
        explain_from_documents(documents, 7)


def test_a_decision_that_does_not_come_out_again_is_said_to_differ() -> None:
    documents = stored("curious")
    changed: Documents = []
    for name, doc in documents:
        if name == "event" and doc["data"].get("decision_id") == 6 and "row" in doc["data"]:
            doc = {**doc, "data": {**doc["data"], "row": doc["data"]["row"] - 1}}
        changed.append((name, doc))
    explanation = explain_from_documents(changed, 6)
    assert not explanation.agrees and "NOT the same" in str(explanation)


def test_a_picture_shows_the_maps_that_there_are() -> None:
    explanation = explain_from_documents(stored("curious"), 8)
    figure = draw_decision(explanation)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [
        "Survey: imager_amplitude (pm)",
        "Expected error (pm²)",
        "Uncertainty (standard deviation) (pm)",
        "What was maximised (pm²)",
    ]
    [legend] = figure.legends
    assert "chosen" in [text.get_text() for text in legend.get_texts()]


def test_a_run_without_decisions_is_refused() -> None:
    documents = stored("curious")
    with pytest.raises(InputError, match="holds no decision"):
        explain_from_documents(before(documents, 0), 0)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Explanation]:
    """Return a catalogue with a run that was killed and went on, and why of the latter."""
    directory = tmp_path_factory.mktemp("why") / "runs"
    first, second = gone_on(stored("curious"), 6)
    with connect(directory) as catalog:
        for documents in (first, second):
            writer = catalog.writer()
            stop = {"run_start": documents[0][1]["uid"], "uid": f"end-{documents[0][1]['uid']}",
                    "time": documents[-1][1]["time"], "exit_status": "success"}  # fmt: skip
            for document in [*documents, ("stop", stop)]:
                writer(*document)
        catalog.flush()
        explanation = catalog.read(second[0][1]["uid"], lambda run: explain(run, 7, without=[5]))
    return directory, explanation


def test_the_command_says_why_and_draws_it(
    catalogue: tuple[Path, Explanation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory, explanation = catalogue
    alone = explain_from_documents(stored("curious"), 7, without=[5])
    assert explanation.paragraphs[1:] == alone.paragraphs[1:]
    words = ["why", explanation.uid[:9], "7", "--catalog", str(directory), "--without", "5"]
    with pytest.raises(SystemExit) as end:
        main([*words, "-o", str(tmp_path / "why.png")])
    assert end.value.code == 0 and (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith(str(explanation))
    with pytest.raises(SystemExit):
        main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["decision"]["decision_id"] == 7 and told["agrees"] and told["picture"] is None
    assert told["paragraphs"] == list(explanation.paragraphs)
    assert told["counterfactuals"][1]["pixel"] == list(explanation.counterfactuals[1].pixel)


CODE = """
import json, sys
from curiosity_bluesky.cli.app import main

for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        heavy = ("tiled", "xarray", "bluesky", "scipy", "torch", "matplotlib")
        print(json.dumps([end.code, [name for name in heavy if name in sys.modules]]))
"""


def test_words_are_refused_before_heavy_imports(tmp_path: Path) -> None:
    refused = {
        "NUMBER is -1": ["why", "nopenope", "--", "-1"],
        "--without is -2": ["why", "nopenope", "3", "--without", "-2"],
        "expected a file ending in .png": ["why", "nopenope", "3", "-o", "why.txt"],
        "in a directory that exists": ["why", "nopenope", "3", "-o", "no/why.png"],
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(list(refused.values()))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[2, []]] * len(refused)
    for said, line in zip(refused, done.stderr.splitlines(), strict=True):
        assert said in line
