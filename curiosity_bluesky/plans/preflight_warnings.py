"""What is worth saying before a run begins: what of the map it leaves out, and what it will do."""

from __future__ import annotations

import logging

from curiosity_bluesky.learning import Explorer, Survey
from curiosity_bluesky.utils.masked import fill_values_in_words

logger = logging.getLogger(__name__)

_MUCH = 0.25
"""Share of the map that is said as a warning if it cannot be proposed."""


def say_before(explorer: Explorer) -> None:
    """Say what an explorer that has decided nothing yet cannot, or will not, do.

    Pixels near the border that are left out for want of a whole patch: a warning from a quarter
    of the map on, else for information. A run that has no more points than seeds explores
    nothing: a warning. So is a channel that holds one value, or values that stand for none.

    Parameters
    ----------
    explorer
        With its survey and its strategy.
    """
    for text in image_problems(explorer.survey):
        logger.warning("%s", text)
    strategy, (rows, cols) = explorer.strategy, explorer.survey.shape
    size, n_seeds = strategy.patch_size, strategy.n_seeds
    rim = 1 - len(explorer.patches) / (rows * cols)
    if rim > 0:
        logger.log(
            logging.WARNING if rim >= _MUCH else logging.INFO,
            "%.0f%% of the map, %d x %d pixels, is never proposed: near the border no patch of "
            "%d x %d pixels fits (patch_size), and rim is 'omit'. To have them completed by "
            "reflection: options={'parameters': {'rim': 'reflect'}} (command: --set rim=reflect)",
            *(100 * rim, rows, cols, size, size),
        )
    if explorer.budget <= n_seeds:
        fewer = max(1, explorer.budget // 3)
        logger.warning(
            "all %d points are seeds, which lie spread over the map (n_seeds is %d), so nothing "
            "is explored: ask for more than %d points (num_points; command: --points), or for "
            "fewer seeds, options={'parameters': {'n_seeds': %d}} (command: --set n_seeds=%d)",
            *(explorer.budget, n_seeds, n_seeds, fewer, fewer),
        )


def image_problems(survey: Survey) -> list[str]:
    """Say of each channel what is allowed and can hardly be meant: one value, or a fill value."""
    found, open_ = [], ~survey.mask
    for name, image in survey.channels.items():
        values = image[open_]
        if values.size > 1 and (values == values.flat[0]).all():
            found.append(
                f"channel {name!r} of the survey is {values.flat[0]:g} everywhere: it teaches "
                "nothing; leave it out, or look at the imager"
            )
        elif filled := fill_values_in_words(values):
            found.append(f"channel {name!r} of the survey: {filled}; mask these pixels (mask=)")
    return found
