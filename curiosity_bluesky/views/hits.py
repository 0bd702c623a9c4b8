"""Figure of a search: the query image and its hits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from numpy.typing import NDArray

from curiosity_bluesky.utils.display import figure as text

COLUMNS = 5
Titled = tuple[NDArray, Sequence[str]]


def save_hits(path: str | Path, query: Titled, hits: Sequence[Titled]) -> Path:
    """Draw thumbnails with a few words each, the query first.

    Parameters
    ----------
    path
        Where the picture goes; its suffix says the format.
    query, hits
        Pictures, (rows, cols), grey from 0 to 255, and the lines that are written over them.
    """
    shown = [query, *hits]
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(2.0 * COLUMNS, 2.3 * rows), layout="constrained")
    for n, (picture, words) in enumerate(shown):
        axes = figure.add_subplot(rows, COLUMNS, n + 1)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(text(line) for line in words), fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(n == 0)
            spine.set_color("tab:red")
            spine.set_linewidth(3)
    path = Path(path)
    figure.savefig(path, dpi=120)
    return path
