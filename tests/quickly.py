"""Parameters that make a strategy quick, for whoever must not import much (a spawned process)."""

from __future__ import annotations

import dataclasses
from typing import Any

from curiosity_bluesky.learning import Strategy


def few(name: str, **parameters: Any) -> dict[str, Any]:
    """Parameters with which a strategy learns in an instant."""
    fields = [field.name for field in dataclasses.fields(Strategy.named(name))]
    epochs = {field: 2 for field in fields if "epochs" in field}
    small = {"filters": 2, "batches": 1, "passes": 2, "refit_every": 3}
    small = {field: value for field, value in small.items() if field in fields}
    return {**epochs, **small, "patch_size": 5, "n_seeds": 4, **parameters}
