"""Client of a Queue Server over 0MQ, with one-line errors."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.utils.wording import did_you_mean

ADDRESS = "QSERVER_ZMQ_CONTROL_ADDRESS"
"""Environment variable of bluesky-queueserver-api with the address of the manager."""

DEFAULT_ADDRESS = "tcp://127.0.0.1:60615"

PUBLIC_KEY = "QSERVER_ZMQ_PUBLIC_KEY"
"""Environment variable of bluesky-queueserver-api with the key of the manager."""

CONVENTIONAL: Mapping[str, Any] = {
    "detectors": ["spectrometer"],
    "x": "stage.x",
    "y": "stage.y",
    "imager": "imager",
    "tip": "tip",
}
"""Default device names of a plan, as in profiles/.

The tip as well: a run that lifts it leaves it lifted, and the next could not take its survey.
"""

WISHES = ("add", "mask", "veto", "set", "budget", "strategy", "stop")
"""Steering requests; the profile has a function ``steer_<wish>`` for each."""

_POLL = 0.2
_SILENT = "Timeout occurred while processing the request"  # of the manager to its worker


class QueueClient:
    """Client of one RE Manager; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    address
        Of the manager's control socket, such as ``tcp://127.0.0.1:60615``. Default:
        ``$QSERVER_ZMQ_CONTROL_ADDRESS``, else that port here.
    timeout
        How long it may take to answer, s.
    public_key
        Of the manager, if what is asked of it is encrypted. Default: ``$QSERVER_ZMQ_PUBLIC_KEY``,
        else what a manager on this machine has left for its owner, if it has.

    Attributes
    ----------
    api : bluesky_queueserver_api.zmq.REManagerAPI
        Everything else that can be asked.

    Raises
    ------
    InputError
        If bluesky-queueserver-api is not installed, or the address or the key is none.
    """

    def __init__(
        self, address: str | None = None, timeout: float = 5.0, public_key: str | None = None
    ) -> None:
        try:
            from bluesky_queueserver_api.zmq import REManagerAPI
        except ImportError:
            raise InputError(
                'the Queue Server comes with an extra: pip install "curiosity-bluesky[queueserver]"'
            ) from None
        self.address = address or os.environ.get(ADDRESS) or DEFAULT_ADDRESS
        if not self.address.startswith(("tcp://", "ipc://")):
            raise InputError(
                f"the address of the Queue Server is {self.address!r}; expected one such as "
                f"{DEFAULT_ADDRESS}"
            )
        key = public_key or os.environ.get(PUBLIC_KEY) or _left_key(self.address)
        if key is not None and len(key) != 40:
            raise InputError(
                f"the public key of the Queue Server has {len(key)} characters; expected 40, as "
                f"`qserver-zmq-keys` prints it: ${PUBLIC_KEY}"
            )
        self.api = REManagerAPI(
            zmq_control_addr=self.address,
            zmq_public_key=key,
            timeout_recv=timeout,
            timeout_send=timeout,
        )

    def __enter__(self) -> QueueClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.api.close()

    def ask(self, request: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a method of `api`.

        Raises
        ------
        Unreachable
            If no manager answers, or its worker does not.
        InputError
            If it refuses.
        """
        try:
            return getattr(self.api, request)(*args, **kwargs)
        except self.api.RequestTimeoutError:
            raise Unreachable(
                f"no Queue Server answers at {self.address}; start one (`curiosity queue serve`), "
                f"or say where it is: --address or ${ADDRESS}. One with a key answers who has it "
                f"alone: ${PUBLIC_KEY}"
            ) from None
        except self.api.RequestFailedError as error:
            reason = _reason(error)
            if _SILENT in reason:
                raise Unreachable(
                    "the worker has not answered the Queue Server in time: it is busy, hangs, or "
                    "has died; try again. If it stays so: what it measured is kept; `curiosity "
                    "queue close --force`, then `curiosity queue open`"
                ) from None
            raise InputError(f"the Queue Server refuses: {reason}") from None

    # ---- what there is

    def status(self) -> dict[str, Any]:
        """Return what the manager says of itself, as it is now."""
        return self.ask("status", reload=True)

    def plans(self) -> dict[str, Any]:
        """Return the plans that may be queued: name to description and parameters.

        Raises
        ------
        InputError
            If there are none, which they are until the environment has been opened.
        """
        plans = self.ask("plans_allowed", reload=True)["plans_allowed"]
        if not plans:
            raise InputError(
                "the Queue Server knows no plans yet; open its environment: `curiosity queue open`"
            )
        return plans

    def plan(self, name: str) -> dict[str, Any]:
        """Return what is known of one plan.

        Raises
        ------
        InputError
            If none has this name.
        """
        plans = self.plans()
        if name not in plans:
            raise InputError(f"there is no plan {name!r}; expected one of {', '.join(plans)}")
        return plans[name]

    def devices(self) -> dict[str, Any]:
        """Return those of `CONVENTIONAL` that there are."""
        there = self.ask("devices_allowed", reload=True)["devices_allowed"]
        return {
            name: called
            for name, called in CONVENTIONAL.items()
            if (called if isinstance(called, str) else called[0]).partition(".")[0] in there
        }

    def listing(self) -> dict[str, Any]:
        """Return the item that runs (or None), those that wait, and those that are done.

        Whether the one that runs is paused is ``state``, see `status`: ``manager_state``.
        """
        queue = self.ask("queue_get", reload=True)
        state = self.status()["manager_state"]
        history = self.ask("history_get", reload=True)["items"]
        running = queue["running_item"] or None
        return {"running": running, "state": state, "queue": queue["items"], "history": history}

    # ---- what can be queued

    @staticmethod
    def item(plan: str, **kwargs: Any) -> Any:
        """Return a plan by name with its parameters, to be queued."""
        from bluesky_queueserver_api import BPlan

        return BPlan(plan, **kwargs)

    def add(self, plan: str, *before: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Queue a plan by name, behind what is queued.

        Parameters
        ----------
        plan
            Its name.
        *before
            Items that come right before it, see `item`.
        **kwargs
            Its parameters, JSON-ready, devices by name. Those that are not given are called as in
            profiles/, see `CONVENTIONAL`.

        Returns
        -------
        list of dict
            The items as they were queued.

        Raises
        ------
        InputError
            If there is no such plan, or it does not take a parameter.
        """
        known = [parameter["name"] for parameter in self.plan(plan)["parameters"]]
        if unknown := [name for name in kwargs if name not in known]:
            raise InputError(
                f"{plan} has no parameter {', '.join(unknown)}; expected some of "
                f"{', '.join(known)}.{did_you_mean(unknown[0], known)}"
            )
        devices = {name: value for name, value in self.devices().items() if name in known}
        items = [*before, self.item(plan, **{**devices, **kwargs})]
        return self.ask("item_add_batch", items)["items"]

    def remove(self, item: str) -> dict[str, Any]:
        """Take an item out of the queue; return it.

        Parameters
        ----------
        item
            Its uid, or the first letters of it.

        Raises
        ------
        InputError
            If nothing that waits has this uid, or several items have.
        """
        waiting = self.ask("queue_get", reload=True)["items"]
        found = [one for one in waiting if item and one["item_uid"].startswith(item)]
        if len(found) != 1:
            if not waiting:
                raise InputError(f"there is no item {item!r}: nothing waits in the queue")
            uids = ", ".join(one["item_uid"][:8] for one in found or waiting)
            said = f"is the beginning of {len(found)}" if found else "is none"
            raise InputError(f"item {item!r} {said} of those that wait; expected one of {uids}")
        return self.ask("item_remove", uid=found[0]["item_uid"])["item"]

    # ---- what can be done to what runs

    def wait(self, *states: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the manager is in one of some states; return its status.

        Parameters
        ----------
        *states
            Such as ``idle`` or ``paused``.
        timeout
            How long to wait, s; None for any time.

        Raises
        ------
        InputError
            If it is in none of them by then.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.status())["manager_state"] not in states:
            if until is not None and time.monotonic() > until:
                raise InputError(
                    f"the Queue Server is still {status['manager_state']} after {timeout:g} s; "
                    f"expected {' or '.join(states)}"
                )
            time.sleep(_POLL)
        return status

    def open(self, timeout: float = 120.0) -> None:
        """Open the environment of the worker, unless it is open.

        Raises
        ------
        InputError
            If its startup files fail, or take longer.
        """
        if self.status()["worker_environment_exists"]:
            return
        self.ask("environment_open")
        if not self.wait("idle", timeout=timeout)["worker_environment_exists"]:
            raise InputError(
                "the environment did not open: the startup files of the profile failed; the "
                "manager's console or log says why"
            )

    def shut(self, timeout: float = 60.0, *, force: bool = False) -> None:
        """Close the environment of the worker, unless it is closed.

        Parameters
        ----------
        timeout
            How long it may take, s.
        force
            Kill the worker, which hangs, or has died: the manager does not notice by itself.

        Raises
        ------
        InputError
            If a plan runs (unless `force`), or it takes longer.
        """
        if self.status()["worker_environment_exists"]:
            self.ask("environment_destroy" if force else "environment_close")
            self.wait("idle", timeout=timeout)

    def pause(self, now: bool = False, timeout: float = 120.0) -> dict[str, Any]:
        """Pause the plan that runs, after the event that is under way, or `now`."""
        self._check_runs("executing_queue")
        self.ask("re_pause", "immediate" if now else "deferred")
        return self.wait("paused", "idle", timeout=timeout)

    def resume(self) -> None:
        """Go on with the plan that is paused."""
        self._check_runs("paused")
        self.ask("re_resume")

    def _check_runs(self, state: str) -> None:
        """Raise InputError if the manager is in another state."""
        found = self.status()["manager_state"]
        if found != state:
            said = {"executing_queue": "no plan runs", "paused": "no plan is paused"}[state]
            raise InputError(f"{said}: the Queue Server is {found.replace('_', ' ')}")

    def end(self, how: str, timeout: float = 120.0) -> dict[str, Any]:
        """End the plan that runs or is paused.

        Parameters
        ----------
        how
            ``stop``: the run is a success; ``abort``: it is not; ``halt``: no clean-up.
        timeout
            How long it may take, s.

        Returns
        -------
        dict
            What the history says of it.
        """
        if self.status()["manager_state"] != "paused":
            self.pause(now=True, timeout=timeout)
        if self.status()["manager_state"] == "paused":
            self.ask(f"re_{how}")
            self.wait("idle", timeout=timeout)
        return self.listing()["history"][-1]

    def call(self, function: str, *args: Any, timeout: float = 60.0, **kwargs: Any) -> Any:
        """Call a function in the worker, also while a plan runs; return what it returns.

        Raises
        ------
        InputError
            If it may not be called, or raises.
        """
        from bluesky_queueserver_api import BFunc

        task = self.ask(
            "function_execute", BFunc(function, *args, **kwargs), run_in_background=True
        )
        uid = task["task_uid"]
        until = time.monotonic() + timeout
        while (found := self.ask("task_result", uid))["status"] != "completed":
            if time.monotonic() > until:
                raise InputError(f"{function} has not answered within {timeout:g} s")
            time.sleep(0.05)
        result = found["result"]
        if not result["success"]:
            raise InputError(result["msg"].partition(": ")[2] or result["msg"])
        return result["return_value"]

    def steer(self, wish: str, *args: Any, **kwargs: Any) -> None:
        """Ask something of the run that goes on, see `curiosity_bluesky.steer`.

        Raises
        ------
        InputError
            If nothing runs, or it cannot be done.
        """
        if not self.status()["running_item_uid"]:
            raise InputError("nothing runs that could be steered; `curiosity queue start` first")
        self.call(f"steer_{wish}", *args, **kwargs)


def _left_key(address: str) -> str | None:
    """Return the key that a manager on this machine has left for its owner, None for none."""
    with contextlib.suppress(InputError, OSError):  # no TCP, or no key
        if tokens.is_loopback(address):
            return tokens.queue_key_of(tokens.endpoint(address)[1]).read_text().strip()
    return None


def describe_error(result: Mapping[str, Any]) -> str:
    """Return in one line what the history says went wrong with an item, "" if nothing did."""
    said = result["msg"]
    # Of a device that failed, the message has the status alone, and the traceback its cause.
    cause = result["traceback"].partition("\nThe above exception was the direct cause")
    if cause[1]:
        said = f"{said}: {cause[0].strip().splitlines()[-1]}"
    return " ".join(said.split())


def _reason(error: Any) -> str:
    """Return why a request was refused, in one line."""
    # Of several items, only each one's own result says what is wrong with it.
    wrong = [one["msg"] for one in error.response.get("results", []) if not one["success"]]
    said = wrong[0] if wrong else error.response.get("msg") or str(error)
    # Parameters are checked with pydantic, which writes three lines about each that is wrong.
    fields = re.findall(
        r"^(\S+)\n  (.+) \[type=\w+, input_value=(.*), input_type=\w+\]", said, re.MULTILINE
    )
    if fields:
        said = "; ".join(f"{name} is {value}: {expected}" for name, expected, value in fields)
    return " ".join(said.split())


def describe_item(item: Mapping[str, Any]) -> str:
    """Return what is queued, its plan and parameters, as one line.

    Devices that are called as they always are need no saying.
    """
    words: list[str] = [repr(arg) for arg in item.get("args", [])]
    for name, value in item.get("kwargs", {}).items():
        if name not in CONVENTIONAL or value != CONVENTIONAL[name]:
            words.append(f"{name}={_short(value)}")
    return f"{item['name']}({', '.join(words)})"


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(str(value)) > 60:
        return f"[{len(value)} values]"
    return repr(value)
