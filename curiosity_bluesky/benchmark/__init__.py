"""Replay campaigns: strategies x samples x seeds, with statistics that can come out against us.

What is replayed is the explorer alone, without a RunEngine: the pixels it chooses and what
it learns are those of a run of the plan with the same strategy and seed.
"""

from curiosity_bluesky.benchmark.arms import Arm, arms_from
from curiosity_bluesky.benchmark.campaign import Campaign, run_campaign
from curiosity_bluesky.benchmark.patch_sizes import patch_size_study
from curiosity_bluesky.benchmark.report import write_report
from curiosity_bluesky.benchmark.trial import Trial, Truth, run_trial

__all__ = [
    "Arm",
    "Campaign",
    "Trial",
    "Truth",
    "arms_from",
    "patch_size_study",
    "run_campaign",
    "run_trial",
    "write_report",
]
