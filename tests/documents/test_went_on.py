"""A run that went on with another one is read together with it."""

import numpy as np
import pytest
import xarray as xr

from curiosity_bluesky.documents import reading


class Piece(dict):
    """A run as far as its start document and streams count."""

    def __init__(self, uid: str) -> None:
        super().__init__(primary=type("Stream", (), {"base": {"internal": None}})())
        self.start = {"uid": uid}


def points_of(decisions: list[int]) -> xr.Dataset:
    spectra = np.ones((len(decisions), 3))
    return xr.Dataset(
        {"response": (("point", "bias"), spectra, {"units": "pm"})},
        {"decision_id": ("point", decisions), "bias": ("bias", [0.0, 1.0, 2.0], {"units": "V"})},
    )


def test_units_are_those_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Piece("first"), Piece("second")]
    measured = {"first": points_of([0, 1]), "second": points_of([1, 2])}
    monkeypatch.setattr(reading, "lineage", lambda run: pieces)
    monkeypatch.setattr(reading, "_points", lambda run: measured[run.start["uid"]])
    points = reading.read(pieces[1])
    assert points["decision_id"].values.tolist() == [0, 1, 2]
    assert points["response"].attrs == {"units": "pm"} and points["bias"].attrs == {"units": "V"}
    assert points.attrs["uid"] == "second"
