"""Savings that the benchmark measured, kept beside the code so that the demo can show them.

``python benchmarks/measured.py DIR --command "..."`` writes
``curiosity_bluesky/benchmark/measured.json`` out of ``DIR/trials.parquet``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from curiosity_bluesky.benchmark.statistics import Saving, curves, saving

OUT = Path(__file__).parents[1] / "curiosity_bluesky" / "benchmark" / "measured.json"
STRATEGY, TWIN = "curious", "random"
AT = 100
"""Spectra."""


def measured(trials: Any, command: str) -> dict[str, Any]:
    """Return the savings of ``curious`` against random pixels, shared seeds.

    Parameters
    ----------
    trials
        The table ``trials.parquet`` of a campaign.
    command
        What measured it.
    """
    samples = {}
    shared = trials[trials["protocol"] == "shared"]
    for name, rows in shared.groupby("sample"):
        known = curves(rows, "test_nmse"), curves(rows, "hidden_nmse")
        found = [saving(c[STRATEGY], c[TWIN], AT) for c in known if {STRATEGY, TWIN} <= set(c)]
        if len(found) == 2 and all(isinstance(one, Saving) for one in found):
            seeds = len(known[0][STRATEGY].common(known[0][TWIN])[0].seeds)
            samples[str(name)] = {"saving": str(found[0]), "hidden": str(found[1]), "seeds": seeds}
    return {
        "command": command,
        "date": str(datetime.now(UTC).date()),
        "n": AT,
        "samples": samples,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--command", required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    found = measured(pd.read_parquet(given.directory / "trials.parquet"), given.command)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["samples"], indent=1))


if __name__ == "__main__":
    main()
