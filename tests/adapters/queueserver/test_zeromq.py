"""Documents over 0MQ: sealed, never in the way of a run."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from facility_rig import eventually

from curiosity_bluesky.agent.remote.tokens import ENVIRONMENT
from curiosity_bluesky.agent.remote.zeromq import SealedPublisher, document_listener
from curiosity_bluesky.errors import InputError

START = {"uid": "a", "time": 1.0}
NOBODY = "tcp://127.0.0.1:9"
ONE = "one token of some length"


def test_without_a_token_nothing_is_published(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(InputError, match=ENVIRONMENT):
        SealedPublisher(NOBODY)
    monkeypatch.setenv(ENVIRONMENT, "from the environment")
    SealedPublisher(NOBODY).close()
    with pytest.raises(InputError, match="16 or more"):
        SealedPublisher(NOBODY, "short")
    with pytest.raises(InputError, match="is no address"):
        SealedPublisher("nowhere")


def test_only_who_knows_the_token_is_heard(facility):
    publisher = SealedPublisher(facility.incoming, ONE)
    stranger = SealedPublisher(facility.incoming, "another token altogether")
    heard = []
    with document_listener(facility.documents, ONE, lambda name, doc: heard.append((name, doc))):

        def arrives() -> bool:
            stranger("start", {**START, "from": "stranger"})
            publisher("start", START)
            return bool(heard)

        eventually(arrives)
        stranger("event", {"data": np.arange(3.0)})
        publisher("event", {"data": np.arange(3.0)})
        eventually(lambda: heard[-1][0] == "event")
    assert all("from" not in doc for _, doc in heard)
    assert np.array_equal(heard[-1][1]["data"], np.arange(3.0))
    publisher.close()
    stranger.close()


def test_what_cannot_be_published_is_said_once_and_ends_no_run(caplog):
    publisher = SealedPublisher(NOBODY, ONE)
    for _ in range(3):
        publisher("event", {"data": object()})
    [record] = caplog.records
    assert "object cannot be sent" in record.message
    publisher.close()


def test_a_process_that_nobody_listens_to_ends_all_the_same():
    code = f"""
from curiosity_bluesky.agent.remote.zeromq import SealedPublisher
publisher = SealedPublisher("{NOBODY}", "{ONE}")
for n in range(5000):
    publisher("event", {{"n": n}})
publisher.close()
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], timeout=100, capture_output=True)
    assert done.returncode == 0 and time.monotonic() - began < 100, done.stderr
