"""The order in which places are visited, and how far apart they are for the tip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def travel(places: NDArray, start: NDArray) -> NDArray:
    """Return the way of the tip from `start` to each place, um.

    Both axes move at the same time, so the longer way counts: the Chebyshev distance.

    Parameters
    ----------
    places
        ``(places, 2)``, x and y in um.
    start
        ``(2,)``.

    Returns
    -------
    NDArray
        ``(places,)``.
    """
    return np.abs(places - start).max(axis=-1, initial=0.0)


def short_path(places: NDArray, start: NDArray | None = None) -> NDArray[np.intp]:
    """Return an order in which the way through all places is short.

    Nearest neighbour, then 2-opt (Croes, Operations Research 6, 791, 1958): pieces of the way
    are turned round as long as that shortens it. The way is open, it does not come back.

    Parameters
    ----------
    places
        ``(places, 2)``, x and y in um.
    start
        ``(2,)``, where the tip is. Default: at the place with the least x + y.

    Returns
    -------
    NDArray
        ``(places,)``, the numbers of the places in their order.
    """
    n = len(places)
    if n < 2:
        return np.arange(n)
    first = places[int(np.argmin(places.sum(axis=1)))] if start is None else start
    # Row and column 0 are the tip, which stays the first.
    points = np.vstack([first, places])
    way = np.abs(points[:, None] - points).max(axis=2)
    order, left = [0], list(range(1, n + 1))
    while left:
        order.append(left.pop(int(np.argmin(way[order[-1], left]))))
    path = np.array(order)
    improved = True
    while improved:
        improved = False
        for i in range(1, n):
            # Turn round i ... j: two edges go, two come; behind the last place there is none.
            j = np.arange(i + 1, n + 1)
            ahead = path[np.minimum(j + 1, n)]
            gone = way[path[i - 1], path[i]] + np.where(j < n, way[path[j], ahead], 0.0)
            come = way[path[i - 1], path[j]] + np.where(j < n, way[path[i], ahead], 0.0)
            k = int(np.argmin(come - gone))
            if come[k] < gone[k] - 1e-12:
                path[i : j[k] + 1] = path[i : j[k] + 1][::-1]
                improved = True
    return path[1:] - 1
