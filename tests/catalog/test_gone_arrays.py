"""A run whose arrays were deleted says so."""

import shutil

import pytest
from plain import Bench

from curiosity_bluesky import connect, read
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.views.report import show_run


def test_a_run_whose_arrays_are_gone_says_where_they_were(tmp_path, monkeypatch):
    # The server fails each time, and Tiled's client asks for half a minute.
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    with connect(tmp_path / "runs") as catalog:
        bench = Bench()
        bench.RE.subscribe(catalog.writer())
        [uid] = bench.run(3)
    shutil.rmtree(tmp_path / "runs" / "data" / uid / "primary")
    with connect(tmp_path / "runs") as catalog:
        for ask in (lambda: read(catalog[uid]), lambda: show_run(catalog, uid)):
            with pytest.raises(InputError, match=f"data/{uid} .* gone"):
                ask()
        assert [run.uid for run in catalog.runs()] == [uid]
