"""Where agents of a test leave their tokens."""

from pathlib import Path

import pytest
from agents import GATED, AgentProcess


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("CURIOSITY_AGENT_TOKEN", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One agent for all tests of a module that do it no harm."""
    directory: Path = tmp_path_factory.mktemp("agent")
    with AgentProcess(directory, "--load", str(GATED)) as agent:
        yield agent


@pytest.fixture
def agent(shared, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(shared.home))
    monkeypatch.delenv("CURIOSITY_AGENT_TOKEN", raising=False)
    return shared


@pytest.fixture
def gated_here():
    """The strategy of gated.py, in this process and for this test alone."""
    import gated

    from curiosity_bluesky.learning import register, registry

    yield register(gated.Gated)
    registry._REGISTERED.pop("gated", None)
