"""Stored runs: what is read, rebuilt, resumed and searched of runs that were written before.

``python tests/stored.py`` writes ``tests/data/stored-runs`` anew, with the code as it is: do that
only to add a run, never to make a test pass. The tests compare with what was read at that time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from support import events, few, grouped

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.learning import Explorer
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.similarity.index import Index
from curiosity_bluesky.similarity.search import similar
from sim_devices import Clock, Faults, SimMicroscope, SyntheticSample

Documents = list[tuple[str, dict[str, Any]]]

STORED = Path(__file__).parent / "data" / "stored-runs"
SAMPLE = SyntheticSample((18, 16), seed=1, points=12)
POINTS = 9
ARCHIVED = Path("/tmp/curiosity-stored/runs")
"""Where the archived catalogue was written: its assets name this directory."""
EXPECTED: dict[str, Any] = (
    json.loads((STORED / "expected.json").read_text()) if STORED.exists() else {}
)


# ---- what is compared


def digest_of(values: Any) -> str:
    """Return a short hash of an array, dtype and shape included."""
    array = np.ascontiguousarray(values)
    if array.dtype.kind in "OUS":
        return hashlib.sha256(json.dumps(array.tolist()).encode()).hexdigest()[:16]
    about = f"{array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(about + array.tobytes()).hexdigest()[:16]


def state_of(explorer: Explorer) -> dict[str, Any]:
    """Return what an explorer knows."""
    return {
        "n_observed": explorer.n_observed,
        "decisions": [[list(p.pixel), p.reason] for p in explorer.decisions],
        "spectra": digest_of(np.array([o.spectrum for o in explorer.observations])),
        "masked": int(explorer.masked.sum()),
        "budget": explorer.budget,
    }


def rebuilt(documents: Documents) -> dict[str, Any]:
    """Return what an agent makes of the documents alone, and what it proposes next."""
    agent = CuriosityAgent.from_documents(documents)
    return {**state_of(agent.explorer), "next": next_of(documents)}


def next_of(documents: Documents) -> list[Any]:
    """Return pixel, reason and predicted error of the next proposals, had there been more time."""
    start = documents[0][1]
    longer = {**start, "curiosity_parameters": {**start["curiosity_parameters"], "budget": 40}}
    agent = CuriosityAgent.from_documents([("start", longer), *documents[1:]])
    return [[list(p.pixel), p.reason, p.predicted_error] for p in agent.suggest(2)]


def resumed(directory: Path, uid: str) -> dict[str, Any]:
    """Resume a run of a catalogue on the sample that it was measured on."""
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    documents: Documents = []
    stage = instrument.stage
    RunEngine({})(
        curiosity_plan(
            [instrument.spectrometer],
            stage.x,
            stage.y,
            instrument.imager,
            resume=uid,
            options={"catalog": str(directory), "steering": Steering(), "retry_wait": 0.0},
        ),
        lambda name, doc: documents.append((name, doc)),
    )
    return {
        "decisions": [[d["row"], d["col"], d["reason"]] for d in events(documents, "decisions")],
        "measured": len(events(documents, "primary")),
        "exit_status": documents[-1][1]["exit_status"],
    }


def table_of(catalog: Catalog) -> list[Any]:
    """Return what is listed of the runs."""
    return [[r.uid, r.sample, r.strategy, r.status, r.points, r.num_points] for r in catalog.runs()]


def dataset_of(run: Any) -> dict[str, Any]:
    """Return names, dimensions and contents of what `read` returns."""
    dataset = read(run)
    variables = {
        str(name): [list(map(str, v.dims)), digest_of(v.values)]
        for name, v in sorted(dataset.variables.items())
    }
    return {"sizes": dict(sorted(dataset.sizes.items())), "variables": variables}


def found_in(catalog: Catalog, uid: str) -> list[Any]:
    """Return what is most similar to the survey of a run."""
    found = similar(Index(catalog), uid, by="texture")
    return [[hit.entry.uid, hit.entry.channel, hit.distance] for hit in found.hits]


def documents_in(path: Path) -> Documents:
    """Read the documents of a stored run."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [(line["name"], line["doc"]) for line in map(json.loads, file)]


def unpacked(directory: Path) -> Path:
    """Unpack the archived catalogue; return its directory."""
    with tarfile.open(STORED / "catalogue.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory / "runs"


def check_rebuilt(found: Any, expected: Any) -> None:
    """Compare what is known exactly, and what was predicted as far as processors agree."""
    next_found, next_expected = found.pop("next"), dict(expected)["next"]
    assert found == {key: value for key, value in expected.items() if key != "next"}
    assert [p[:2] for p in next_found] == [p[:2] for p in next_expected]
    errors = [[p[2] for p in proposals] for proposals in (next_found, next_expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4, nan_ok=True)


# ---- how they were written


def _measured(
    strategy: str,
    *callbacks: Any,
    steered: dict[int, Any] | None = None,
    faults: Faults | None = None,
    drift: tuple[float, float] = (0.0, 0.0),
    parameters: dict[str, Any] | None = None,
    **options: Any,
) -> Documents:
    """Measure a run; after so many spectra, `steered` says what the scientist asks for."""
    documents: Documents = []
    steering = Steering()

    def callback(name: str, doc: Any) -> None:
        documents.append((name, doc))
        if name == "event" and "attempt" in doc["data"] and "doses" in doc["data"]:
            act = (steered or {}).pop(len(events(documents, "primary")), None)
            if act is not None:
                act(steering)

    microscope = SimMicroscope(
        SAMPLE, Clock(math.inf), drift_um_per_min=drift, faults=faults, spectrum_s=20.0, noise=0.02
    )
    stage = AFMStage(microscope, name="stage")
    RunEngine({})(
        curiosity_plan(
            [Spectrometer(microscope, name="spectrometer")],
            stage.x,
            stage.y,
            Imager(microscope, name="imager"),
            **grouped(
                num_points=POINTS,
                strategy=strategy,
                seed=3,
                steering=steering,
                parameters={**few(strategy), **(parameters or {})},
                md={"sample": f"film of {strategy}"},
                **{"retry_wait": 0.0, "maps_every": 4, **options},
            ),
        ),
        [callback, *callbacks],
    )
    return documents


def _runs() -> dict[str, Documents]:
    """Measure the runs that are stored as documents."""
    broken = Faults.at({(r, c): ["nan"] for r in range(18) for c in range(0, 16, 3)})
    failing = Faults.at({(r, c): ["raises", "raises"] for r in range(0, 18, 2) for c in range(16)})
    whole = _measured("lcmd")
    return {
        "curious": _measured("curious", withhold=0.1),
        "curious-in-batches-with-bad-spectra": _measured(
            "curious", faults=broken, lookahead=1, parameters={"batch": 3, "min_quality": 0.5}
        ),
        "random-with-failures": _measured("random", faults=failing, max_failures=100),
        "lcmd-interrupted": whole[: 3 * len(whole) // 4],
        "steered": _measured(
            "curious",
            steered={
                2: lambda s: s.add(7, 8),
                3: lambda s: s.mask(x=(0.0, 0.06)),
                4: lambda s: s.set(refit_every=4),
                5: lambda s: s.veto(),
                6: lambda s: s.strategy("variance"),
                7: lambda s: s.budget(12),
            },
        ),
        "drift": _measured("variance", drift=(0.002, -0.001), resurvey_every=3),
        "dose": _measured("farthest", parameters={"max_per_area": [1, 0.03]}),
        "theory": _measured("theory"),
        "published": _measured("vatsavai2025-latent"),
    }


def _killed(directory: Path) -> None:
    """Measure until the process is killed in the middle of the run."""
    with connect(directory) as catalog:
        writer, seen = catalog.writer(), []

        def dies(name: str, doc: Any) -> None:
            seen.append(name == "event" and "doses" in doc["data"])
            if sum(seen) > 6:
                os._exit(0)

        _measured("curious", writer, dies)


def _catalogue(directory: Path) -> None:
    shutil.rmtree(directory.parent, ignore_errors=True)
    directory.parent.mkdir(parents=True)
    with connect(directory) as catalog:
        _measured("lcmd", catalog.writer(), withhold=0.1)
        _measured("random", catalog.writer(), parameters={"batch": 2})
        catalog.flush()
        uid = catalog.runs()[0].uid
        index = Index(catalog)
        index.update()
        index.save_selection({"name": "films", "note": "two of them", "images": [{"uid": uid}]})
    child = multiprocessing.get_context("spawn").Process(target=_killed, args=(directory,))
    child.start()
    child.join()
    for left in ("server.json", "server.lock"):
        (directory / left).unlink(missing_ok=True)


def _plain(tar: tarfile.TarInfo) -> tarfile.TarInfo:
    tar.uid = tar.gid = tar.mtime = 0
    tar.uname = tar.gname = ""
    return tar


def main() -> None:
    """Write all of it."""
    shutil.rmtree(STORED, ignore_errors=True)
    STORED.mkdir(parents=True)
    expected: dict[str, Any] = {"documents": {}}
    for name, documents in _runs().items():
        lines = (json.dumps({"name": n, "doc": event_model.sanitize_doc(d)}) for n, d in documents)
        path = STORED / f"{name}.jsonl.gz"
        with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
            file.write("\n".join(lines).encode() + b"\n")
        expected["documents"][name] = rebuilt(documents_in(path))
    _catalogue(ARCHIVED)
    with tarfile.open(STORED / "catalogue.tar.xz", "w:xz") as archive:
        archive.add(ARCHIVED, "runs", filter=_plain)
    with connect(ARCHIVED) as catalog:
        table = table_of(catalog)
        catalog.recover()
        expected["catalogue"] = {
            "runs": table,
            "datasets": {row[0]: dataset_of(catalog[row[0]]) for row in table},
            "similar": found_in(catalog, table[0][0]),
            "selections": [one["id"] for one in Index(catalog).selections()],
            "rebuilt": {row[0]: rebuilt(catalog.documents(row[0])) for row in table},
        }
    expected["catalogue"]["resumed"] = resumed(ARCHIVED, table[-1][0])
    (STORED / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
