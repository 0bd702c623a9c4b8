"""Replay campaigns: strategies x samples x seeds, with statistics that can come out against us.

What is replayed is the explorer alone, without a RunEngine: the pixels it chooses and what
it learns are those of a run of the plan with the same strategy and seed.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.benchmark.arms import Arm as Arm
    from curiosity_bluesky.benchmark.arms import arms_from as arms_from
    from curiosity_bluesky.benchmark.campaign import Campaign as Campaign
    from curiosity_bluesky.benchmark.campaign import run_campaign as run_campaign
    from curiosity_bluesky.benchmark.patch_sizes import patch_size_study as patch_size_study
    from curiosity_bluesky.benchmark.report import write_report as write_report
    from curiosity_bluesky.benchmark.trial import Trial as Trial
    from curiosity_bluesky.benchmark.trial import Truth as Truth
    from curiosity_bluesky.benchmark.trial import run_trial as run_trial

_MODULES = {
    "Arm": "arms",
    "Campaign": "campaign",
    "Trial": "trial",
    "Truth": "trial",
    "arms_from": "arms",
    "patch_size_study": "patch_sizes",
    "run_campaign": "campaign",
    "run_trial": "trial",
    "write_report": "report",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
