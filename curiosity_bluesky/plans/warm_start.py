"""A run that starts from an earlier one: what the plan has to ask, and of whom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bluesky.protocols import Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.agent.prior_runs import prior_run_of
from curiosity_bluesky.catalog import Catalog, connect
from curiosity_bluesky.catalog.journal import is_held
from curiosity_bluesky.catalog.successors import check_newest, lock_to_resume, unlock
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, Survey
from curiosity_bluesky.plans import stubs
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.run_images import image_keys
from curiosity_bluesky.similarity.prior_run_search import (
    GATE,
    WarmStartSource,
    find_prior_run,
)

UPLOAD_SECONDS = 10.0
"""Maximum wait for another process that uploads the journal of a run to resume, s."""


@dataclass(frozen=True)
class WarmStart:
    """What a run is to start from.

    Parameters
    ----------
    asked
        ``similar``, or the uid of a run.
    catalog
        Where earlier runs are, as for `connect`.
    gate
        The distance above which no run is similar; None for the usual one.

    Raises
    ------
    InputError
        If it cannot be asked for.
    """

    asked: str
    catalog: str | None = None
    gate: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.asked, str) or len(self.asked) < 5:
            raise InputError(
                f"warm_start is {self.asked!r}; expected 'similar', or the uid of a run or at "
                "least 5 characters of it"
            )
        if self.gate is not None and not self.gate >= 0:
            raise InputError(f"warm_gate is {self.gate}; expected a distance, 0 or more")

    def check(self, strategy: Strategy) -> None:
        """Make sure that a strategy can start from an earlier run.

        Raises
        ------
        InputError
            If it cannot.
        """
        if not strategy.supports_warm_start:
            raise InputError(
                f"{strategy.name} cannot start from an earlier run: only strategies whose "
                "predictor is a Gaussian process on the spectra can, such as 'curious'; leave "
                "warm_start out"
            )

    def found(
        self, survey: Survey, imager: Readable, detectors: Sequence[Readable]
    ) -> MsgGenerator[WarmStartSource]:
        """Find the earlier run, in a thread: what the devices say of their axes decides.

        Raises
        ------
        InputError
            If the run that is asked for does not exist or does not fit, or if there is no
            catalogue.
        """
        about = yield from _described([imager])
        channels = documents.channels_of((yield from _described(detectors)))

        def images() -> dict[str, Image]:
            known = {key.key: key for key in image_keys(documents.SURVEY, about)}
            return {
                name: known[name].image(values)
                if name in known
                else Image.checked(values, what=name)
                for name, values in survey.channels.items()
            }

        def search() -> WarmStartSource:
            with connect(self.catalog, create=False) as runs:
                gate = GATE if self.gate is None else self.gate
                return find_prior_run(self.asked, runs, survey, images, channels, gate)

        return (yield from stubs.call_in_thread(search))


def fetch_interrupted(catalog: Catalog, uid: str) -> InterruptedRun:
    """Fetch a run to go on with, and the one that it started from.

    Its lock is held: `InterruptedRun.release` is to be called when the run has ended.

    Raises
    ------
    InputError
        If there is no such run, it cannot be resumed, another one went on with it already, another
        process does so now, or what it started from is gone.
    """
    past = InterruptedRun.of(catalog.lineage(uid))
    lock = lock_to_resume(catalog, past.uid)
    try:
        if not past.ended:
            _check_given_up(catalog.journal / f"{past.uid}.jsonl")
        check_newest(catalog, past.uid)
        return InterruptedRun(past.runs, prior_run_of(catalog, past.start), lock)
    except BaseException:
        unlock(lock)
        raise


def _check_given_up(journal: Path) -> None:
    """Make sure that the process that measured a run has ended.

    Raises
    ------
    InputError
        If the journal is still held. A process that only uploads it is waited for.
    """
    deadline = time.monotonic() + UPLOAD_SECONDS
    while is_held(journal):
        if time.monotonic() > deadline:
            raise InputError(
                f"run {journal.stem} is still being measured, or its journal is still being "
                "written to the catalogue; resume it when that has ended"
            )
        time.sleep(0.05)


def _described(devices: Sequence[Readable]) -> MsgGenerator[dict[str, Any]]:
    """Return what a descriptor document of these devices would say of keys and configuration."""
    keys: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    for device in devices:
        keys |= yield from stubs.call_device(device.describe)
        about = yield from stubs.call_device(device.describe_configuration)  # pyright: ignore[reportAttributeAccessIssue]
        values = yield from stubs.configuration(device)
        data = {key: np.asarray(value) for key, value in values.items()}
        configuration[device.name] = {"data": data, "data_keys": dict(about)}
    return {"data_keys": keys, "configuration": configuration}
