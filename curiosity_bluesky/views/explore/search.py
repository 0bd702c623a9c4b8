"""Search by a file that is dropped on the page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.views.explore.state import ViewState
from curiosity_bluesky.views.explore.upload import LARGEST, image_of, too_large


def search(
    visit: ViewState,
    name: str,
    content: str,
    pool: ThreadPoolExecutor,
    found: Callable[[Callable[[ViewState], None]], None],
) -> None:
    """Describe an uploaded image in the background, as the map is.

    Parameters
    ----------
    visit
        Where the visitor is.
    name, content
        Of the file, in base64.
    pool
        Where it is described.
    found
        Called in one of its threads with what shows the neighbours to a visit: it does nothing
        where another descriptor is looked at by then, and raises what went wrong.

    Raises
    ------
    InputError
        If the file is too large, or no image.
    """
    if len(content) > LARGEST * 4 / 3 + 4:
        raise InputError(too_large(name, len(content) * 3 // 4))
    image = image_of(name, base64.b64decode(content))
    asked = visit.copy()  # the visitor goes on meanwhile
    future = pool.submit(asked.described, image)

    def show(visit: ViewState) -> None:
        vector: Any = future.result()
        if visit.level.descriptor == asked.level.descriptor:
            visit.show(name, vector)

    future.add_done_callback(lambda _: found(show))
