"""What the tests of journals and of uploads share: documents to write, and how to compare them."""

from __future__ import annotations

import time
from typing import Any

from support import comparable

QUICK_RETRY = (0.1, 0.5)


def until(true, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def same(emitted, back) -> None:
    """Compare documents one by one: all that Tiled keeps."""
    there, here = (sorted(comparable(*d) for d in documents) for documents in (back, emitted))
    assert len(there) == len(here)
    for one, other in zip(there, here, strict=True):
        assert one == other


def documents_of(uid: str, n: int = 4) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of a run of one number."""
    keys = {"x": {"dtype": "number", "shape": [], "source": "sim"}}
    descriptor = {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "time": 1.0}
    descriptor |= {"data_keys": keys, "configuration": {}, "hints": {}, "object_keys": {}}
    events = [
        {
            "uid": f"{uid}-{number}",
            "descriptor": f"{uid}-d",
            "seq_num": number,
            "time": 1.0 + number,
            "data": {"x": float(number)},
            "timestamps": {"x": 1.0},
            "filled": {},
        }
        for number in range(1, n + 1)
    ]
    stop = {"uid": f"{uid}-s", "run_start": uid, "time": 9.0, "exit_status": "success"}
    return [
        ("start", {"uid": uid, "time": 0.0, "plan_name": "count"}),
        ("descriptor", descriptor),
        *(("event", event) for event in events),
        ("stop", stop | {"reason": "", "num_events": {"primary": n}}),
    ]
