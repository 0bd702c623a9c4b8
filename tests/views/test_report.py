"""What ``curiosity show`` says of a run."""

from __future__ import annotations

import numpy as np
import xarray as xr

from curiosity_bluesky.views.report import RunReport


def test_each_expected_error_stands_under_its_unit() -> None:
    n = 3
    points = xr.Dataset(
        {
            "loop": (("point", "bias"), np.zeros((n, 8)), {"units": "pm"}),
            "loop_predicted": (("point", "bias"), np.zeros((n, 8))),
            "decision_id": ("point", np.arange(n)),
            "reason": ("point", ["seed", "curious", "curious"]),
            "predicted_error": ("point", [np.nan, 9.0, 1.5]),
            "decided_by": ("point", ["curious", "curious", "vatsavai2025-im2spec"]),
        }
    )
    start = {"uid": "u", "time": 0.0, "curiosity_strategy": "curious"}
    table = RunReport(start, "success", "", {}, points, [], None).decisions_table()
    shown = {str(c.header): [str(cell) for cell in c.cells] for c in table.columns}
    assert shown["expected error (rms, pm)"] == ["", "3", ""]
    assert shown["expected error (relative)"] == ["", "", "1.5"]
