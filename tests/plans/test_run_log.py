"""What the RunEngine logs of a run that ended: a traceback only where nobody expected it."""

import logging
import math

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from sim_devices import SyntheticSample


def refused(RE):
    one = simulated_instrument(SyntheticSample((12, 12), points=8), speed=math.inf)
    devices = [one.spectrometer], one.stage.x, one.stage.y, one.imager
    with pytest.raises(InputError, match="patch_size is 20"):
        RE(curiosity_plan(*devices, options={"parameters": {"patch_size": 20}}))


def test_what_the_user_gave_is_said_once_and_without_a_traceback(caplog):
    refused(RunEngine({}))
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="bluesky"):
        refused(RunEngine({}))
    [record] = [each for each in caplog.records if "Run aborted" in each.getMessage()]
    assert record.levelname == "INFO" and record.exc_info is None
    assert record.getMessage().startswith("Run aborted: patch_size is 20")


def test_a_defect_keeps_its_traceback(caplog):
    def broken():
        yield from bps.null()
        raise KeyError("ours")

    with pytest.raises(KeyError):
        RunEngine({})(broken())
    [record] = caplog.records
    assert record.levelname == "ERROR" and record.exc_info[0] is KeyError
