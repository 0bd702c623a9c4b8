"""Parts of `curiosity_plan` that other plans may use as well."""

from curiosity_bluesky.plans.background import BackgroundCall, call_in_thread
from curiosity_bluesky.plans.measuring import measure, measure_point
from curiosity_bluesky.plans.readings import call_device, configuration
from curiosity_bluesky.plans.run_wrapper import in_a_run, read_into_event, save
from curiosity_bluesky.plans.surveying import (
    check_reach,
    image_of,
    last_survey,
    refusals,
    survey_timeout,
    take_survey,
)

__all__ = [
    "BackgroundCall",
    "call_device",
    "call_in_thread",
    "check_reach",
    "configuration",
    "image_of",
    "in_a_run",
    "last_survey",
    "measure",
    "measure_point",
    "read_into_event",
    "refusals",
    "save",
    "survey_timeout",
    "take_survey",
]
