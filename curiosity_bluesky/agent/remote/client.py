"""Client of a remote agent, with heartbeats and a timeout."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from typing import Any

import zmq

from curiosity_bluesky.agent.curiosity_agent import AgentUnreachable, TrainingCancelled
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.codec import decode, encode, sign, verify
from curiosity_bluesky.agent.remote.curve import Monitor, authenticate, split_message
from curiosity_bluesky.agent.remote.protocol import HEARTBEAT, PROTOCOL, REFUSED, AgentRefused
from curiosity_bluesky.errors import InputError

_AGAIN = 2.5 * HEARTBEAT
"""Seconds without a word until a request is sent again: the agent may be a new one."""
_SLOWEST = 2**20
"""Minimum transfer rate of a message, bytes per second."""
_LOOK_MS = 50
"""Milliseconds between two checks for a cancellation."""


class AgentClient:
    """Client of one agent, with a connection for each question.

    One that is kept would deliver what was asked of an agent that died, and that is not awaited
    any more, to the one that takes its place.

    Parameters
    ----------
    address
        Of the agent.
    token
        Of the agent; None: see `tokens.token_for`.

    Raises
    ------
    InputError
        If the address is none.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        tokens.endpoint(address)
        self.address = address
        self._token = token

    def ask(
        self,
        message: Mapping[str, Any],
        patience: float,
        *,
        cancelled: threading.Event | None = None,
        heard: Callable[[str, float], None] = lambda doing, seconds: None,
        first: float | None = None,
    ) -> dict[str, Any]:
        """Ask, and return the result.

        Parameters
        ----------
        message
            What is asked.
        patience
            Seconds without a word from the agent until it is away.
        cancelled
            Set when the answer is not needed any more.
        heard
            Told what the agent works at, and for how many seconds.
        first
            Seconds until its first word; default: `patience`.

        Raises
        ------
        AgentUnreachable
            If it says nothing, or cannot answer.
        AgentRefused
            If it does not know the token, or speaks another protocol.
        InputError
            If there is no token, or the agent cannot use what it was given.
        TrainingCancelled
            If it was cancelled.
        """
        number = secrets.token_hex(8)
        body = encode({"protocol": PROTOCOL, "id": number, **message})
        limit, last = patience if first is None else first, time.monotonic()
        limit += len(body) / _SLOWEST
        line: zmq.Socket | None = None
        monitor: Monitor | None = None
        ready = zmq.Poller()
        sealed_with = ""
        with ExitStack() as stack:
            while (left := last + limit - time.monotonic()) > 0:
                token = self._token_now()
                if token is None:  # the agent is not there, or not there yet
                    _wait(cancelled)
                    continue
                if line is None or monitor is None or token != sealed_with:
                    line, monitor, ready = self._connected(token, stack)
                    sealed_with = token
                # Again over the same connection: a slow one need not begin again.
                line.send_multipart(split_message(sign(body, token)))
                again = time.monotonic() + min(left, _AGAIN + len(body) / _SLOWEST)
                while time.monotonic() < again:
                    found = dict(ready.poll(_LOOK_MS))
                    if monitor.socket in found:
                        self._check_refused(monitor.said(), token)
                        sealed_with = ""  # another agent by now: with its token, another line
                        _wait(cancelled)
                        break
                    if line not in found:
                        _wait(cancelled, 0.0)
                        continue
                    reply = self._read(line.recv(), token)
                    if reply is None:
                        break  # another agent by now, which has left another token
                    if reply.get("id") != number:
                        continue
                    if "working" not in reply:
                        return self._result(reply)
                    heard(str(reply["working"]), float(reply["seconds"]))
                    # It speaks each second: less patience than for two words is none.
                    limit, last = max(patience, _AGAIN), time.monotonic()
                    again = last + _AGAIN
        raise AgentUnreachable(f"the agent at {self.address} has not said a word for {limit:.3g} s")

    def _token_now(self) -> str | None:
        """Return the token; None where an agent on this machine has not written it yet."""
        try:
            return tokens.token_for(self.address, self._token)
        except tokens.NoToken:
            if not tokens.is_loopback(self.address):
                raise
            return None

    def _connected(self, token: str, stack: ExitStack) -> tuple[zmq.Socket, Monitor, zmq.Poller]:
        line = stack.enter_context(closing(zmq.Context.instance().socket(zmq.DEALER)))
        line.setsockopt(zmq.LINGER, 0)
        authenticate(line, token)
        monitor = stack.enter_context(closing(Monitor(line)))
        ready = zmq.Poller()
        for each in (line, monitor.socket):
            ready.register(each, zmq.POLLIN)
        line.connect(self.address)
        return line, monitor, ready

    def _check_refused(self, why: str, token: str) -> None:
        """Raise Refused if the agent itself refuses the connection."""
        if why == "protocol":
            raise AgentRefused(
                f"what answers at {self.address} does not speak as an agent of this version does; "
                "is it an agent, and is the same version installed on both sides?"
            )
        if why == "token" and self._token_now() == token:
            raise AgentRefused(
                f"the agent at {self.address} does not know this token; give both sides the same: "
                f"${tokens.ENVIRONMENT}, or --token-file of `curiosity agent`"
            )

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message from a thread of its own, without waiting for a reply."""

        def send() -> None:
            # If it is away, so is what it is told to stop.
            with suppress(AgentUnreachable, InputError):
                self.ask(message, HEARTBEAT)

        threading.Thread(target=send, name="tell the agent", daemon=True).start()

    def _read(self, data: bytes, token: str) -> dict[str, Any] | None:
        """Return a reply, empty if it is malformed; None if the agent has a new token."""
        if data == REFUSED:
            self._check_refused("token", token)
            return None
        try:
            reply = decode(verify(data, token))
        except InputError:
            return {}  # of a stranger
        return reply if isinstance(reply, dict) else {}

    def _result(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        if "result" in reply:
            return reply["result"]
        if reply.get("behind"):
            return {"behind": True}
        kind, text = reply.get("error"), str(reply.get("text"))
        if kind == "protocol":
            raise AgentRefused(f"{self.address}: {text}")
        if kind == "input":
            raise InputError(text)
        if kind == "cancelled":
            raise TrainingCancelled(text)
        raise AgentUnreachable(f"the agent at {self.address} cannot answer: {text}")


def _wait(cancelled: threading.Event | None, seconds: float = _LOOK_MS / 1000) -> None:
    """Pause before the next try, or raise Cancelled."""
    if cancelled is not None and cancelled.wait(seconds):
        raise TrainingCancelled("the question to the agent was cancelled")
    if cancelled is None:
        time.sleep(seconds)


def ask_agent(
    address: str,
    what: str = "status",
    run: str | None = None,
    *,
    token: str | None = None,
    patience: float = 15.0,
    **args: Any,
) -> dict[str, Any]:
    """Ask an agent about the documents it has received: about itself, or a run that it follows.

    Parameters
    ----------
    address
        Such as ``tcp://127.0.0.1:5577``.
    what
        ``status``, or of a run ``suggest``, ``maps``, ``flags``, ``should_stop``, ``predict``.
    run
        Its uid; None: the run of which the agent heard last.
    token, patience
        As for `RemoteAgent`.
    **args
        For ``suggest`` ``n``, how many.

    Returns
    -------
    dict
        What it says: plain values and arrays.

    Raises
    ------
    AgentUnreachable
        If it does not answer.
    InputError
        If it answers that it cannot.
    """
    message: dict[str, Any] = {"what": what}
    if what != "status":
        runs = [] if run is None else [run]
        message |= {"run": run or "", "client": "", "runs": runs, "given": [], "args": args}
        message["n"] = time.time_ns()
    return AgentClient(address, token).ask(message, patience)
