"""What figures were measured on, for the record."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def about() -> dict[str, Any]:
    """Return date, cores and versions."""
    return {
        "date": str(datetime.now(UTC).date()),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("curiosity-bluesky", "bluesky", "numpy", "torch")},
    }
