"""The agent as a process: it receives documents and answers plans."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zmq

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import TrainingCancelled
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.codec import decode, encode, sign, verify
from curiosity_bluesky.agent.remote.curve import Authenticator, check_available
from curiosity_bluesky.agent.remote.protocol import (
    HEARTBEAT,
    LARGEST,
    PROTOCOL,
    REFUSED,
    earlier_of,
    strategy_of,
)
from curiosity_bluesky.agent.remote.requests import (
    FetchRuns,
    Request,
    RequestError,
    failure_reply,
)
from curiosity_bluesky.agent.remote.session import Session, SessionBehind
from curiosity_bluesky.agent.remote.store import DocumentStore
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.threads import use_one_thread

logger = logging.getLogger(__name__)

VERSION = version("curiosity-bluesky")
DEFAULT_ADDRESS = "tcp://127.0.0.1:5577"
_RUNS_FOR_EACH = 4
"""Runs whose documents are kept, per agent."""


class AgentServer:
    """Server of agents over 0MQ, one agent for each plan that asks.

    `serve` does it all in the thread that calls it, but for the learning, which has a thread for
    each request: so it says every second that it is at work, and can be told to stop.

    Parameters
    ----------
    bind
        ``tcp://HOST:PORT``; port 0 takes one that is free.
    token
        Token that clients must have. None: one is made, and left in a file that its owner
        alone can read (`tokens.note_of`).
    keep
        Maximum number of agents; the least recently used one is dropped.
    public
        Whether `bind` may be an address that other machines reach.

    Attributes
    ----------
    address : str
        Where it is.
    store : Store
        The documents of runs that it has received; filled with a source, a name and a document.
    fetch : Fetch or None
        Asked for the documents of runs that a plan asks about and that the store lacks.

    Raises
    ------
    InputError
        If the address cannot be used, or is open to others without `public` and a token.
    """

    def __init__(
        self,
        bind: str = DEFAULT_ADDRESS,
        token: str | None = None,
        *,
        keep: int = 8,
        public: bool = False,
    ) -> None:
        host, port = tokens.endpoint(bind)
        if keep < 1:
            raise InputError(f"keep is {keep}; expected 1 agent or more")
        if not tokens.is_loopback(bind) and not (public and token is not None):
            raise InputError(
                f"{bind} can be reached from other machines: say so with --public, and give a "
                f"token (--token-file FILE or ${tokens.ENVIRONMENT}); docs/remote-agent.md says "
                "what others can still do"
            )
        check_available()
        use_one_thread()  # loads the strategies: the first question need not wait for torch
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 16)  # messages of one sender that may wait
        # Left for others to find when it is known which port it is for.
        made = secrets.token_hex(16) if token is None else token
        self._guard = Authenticator(self._context, made)
        self._guard.guard(self._socket)
        try:
            self._socket.bind(f"tcp://{'127.0.0.1' if host == 'localhost' else host}:{port}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(
                f"{bind} cannot be used ({error}); is there an agent already (`curiosity agent "
                f"status {bind}`)? Else choose another port: --bind"
            ) from None
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._port = tokens.endpoint(self.address)[1]
        self._noted = token is None
        self._token = tokens.write_token_file(self._port, made) if token is None else token
        self.store = DocumentStore(_RUNS_FOR_EACH * keep)
        self.fetch: FetchRuns | None = None
        self._keep = keep
        self._since = time.time()
        self._sessions: dict[tuple[str, str], Session] = {}
        self._works: dict[tuple[str, str], Request] = {}
        self._last: dict[tuple[str, str], tuple[int, str, bytes]] = {}
        self._done: queue.SimpleQueue[tuple[Request, dict[str, Any]]] = queue.SimpleQueue()
        self._awake, self._alarm = socket.socketpair()
        self._alarm.setblocking(False)
        self._awake.setblocking(False)
        self._ending = False  # no Event: a signal handler may set it
        self._refused = 0

    @property
    def token(self) -> str:
        """Token that clients must have."""
        return self._token

    @property
    def note(self) -> Path | None:
        """The file with the token, if it was made here."""
        return tokens.token_file(self._port) if self._noted else None

    # ---- one thread: what comes in and goes out

    def serve(self) -> None:
        """Answer until `end` is called, or an exception comes."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._guard.socket, zmq.POLLIN)
        poller.register(self._awake.fileno(), zmq.POLLIN)
        spoken = time.monotonic()
        try:
            while not self._ending:
                wait = max(0.0, spoken + HEARTBEAT - time.monotonic())
                ready = dict(poller.poll(int(1000 * wait) + 1))
                if self._awake.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._awake.recv(4096)
                self._finish()
                if self._guard.socket in ready:
                    self._guard.answer()
                if self._socket in ready:
                    self._receive()
                if time.monotonic() >= spoken + HEARTBEAT:
                    spoken = time.monotonic()
                    for work in self._works.values():
                        self._say_working(work)
        finally:
            self.close()

    def end(self) -> None:
        """Have `serve` return; from any thread, or from a signal handler."""
        self._ending = True
        self._wake()

    def close(self) -> None:
        """Stop all trainings and let go of the address; more than once does no harm."""
        self._ending = True
        for session in list(self._sessions.values()):
            session.cancel()
        for work in list(self._works.values()):
            work.cancelled = True
        if self._noted:
            tokens.remove_token_file(self._port, self._token)
        self._context.destroy(linger=200)
        self._alarm.close()
        self._awake.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._alarm.send(b"!")

    def _receive(self) -> None:
        for _ in range(64):  # then a look at what has been done
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            identity, *rest = frames
            if sum(map(len, rest)) > LARGEST:
                self._turn_away(identity)
                continue
            try:
                message = decode(verify(b"".join(rest), self._token))
            except InputError:
                self._turn_away(identity)
                continue
            self._answer(identity, message)

    def _turn_away(self, identity: bytes) -> None:
        self._refused += 1
        self._send(identity, REFUSED)

    def _answer(self, identity: bytes, message: Any) -> None:
        message = message if isinstance(message, dict) else {}
        number = message.get("id")
        reply: dict[str, Any] | None
        try:
            if message.get("protocol") != PROTOCOL:
                raise RequestError(
                    "protocol",
                    f"the agent speaks protocol {PROTOCOL} (version {VERSION}), the plan protocol "
                    f"{message.get('protocol')!r}; install the same version on both sides",
                )
            reply = self._taken(identity, message)
        except Exception as error:  # any request may fail, and the next one is still answered
            reply = failure_reply(error)
        if reply is not None:
            self._reply(identity, number, reply)

    def _taken(self, identity: bytes, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer quick requests at once; begin the others."""
        what = message["what"]
        if what == "hello":
            strategy_of(message.get("strategy"))
            return {"result": {"version": VERSION, "pid": os.getpid()}}
        if what == "status":
            return {"result": self.status()}
        client = str(message["run"]), str(message["client"])
        if what == "cancel":
            self._cancel(client)
            return {"result": {}}
        if what == "documents":
            for name, doc in message["documents"]:
                self.store("request", name, decode(doc))
            return {"result": {}}
        self._begin(client, identity, message)
        return None

    def _begin(self, client: tuple[str, str], identity: bytes, message: Mapping[str, Any]) -> None:
        """Start work on a request; a repeated one only gets its reply."""
        number, about = int(message["n"]), str(message["id"])
        last, before = self._last.get(client), self._works.get(client)
        if last is not None and last[1] == about:
            self._send(identity, last[2])
            return
        if before is not None and before.id == about:
            before.identity = identity
            self._say_working(before)
            return
        if number < max(last[0] if last else 0, before.number if before else 0):
            return  # it was under way for long: its answer is not needed any more
        if before is not None and not client[1]:
            raise RequestError("full", "another plan asks about this run just now; ask again")
        if before is not None:
            self._cancel(client)
        held = {*self._sessions, *self._works}
        if client not in held and len(held) >= self._keep:
            self._let_go()
        work = Request(client, number, about, identity, self._sessions.get(client))
        self._works[client] = work
        self._say_working(work)
        threading.Thread(
            target=self._work, args=(work, message), name=f"{message['what']}", daemon=True
        ).start()

    def _let_go(self) -> None:
        """Drop the least recently used agent."""
        idle = [key for key in self._sessions if key not in self._works]
        if not idle:
            raise RequestError(
                "full", f"the agent works for {len(self._works)} plans already (--keep)"
            )
        oldest = min(idle, key=lambda key: self._sessions[key].used)
        del self._sessions[oldest]
        self._last.pop(oldest, None)

    def _cancel(self, client: tuple[str, str]) -> None:
        session, work = self._sessions.pop(client, None), self._works.pop(client, None)
        if work is not None:
            work.cancelled = True
        for one in {session, work.session if work else None} - {None}:
            assert one is not None
            one.cancel()

    def _finish(self) -> None:
        while not self._done.empty():
            work, reply = self._done.get()
            if work.cancelled or self._works.get(work.client) is not work:
                continue
            del self._works[work.client]
            self._sessions.pop(work.client, None)
            # One that failed in the middle of a document may have missed it: it is made again.
            if work.session is not None and "result" in reply:
                work.session.used = time.monotonic()
                work.session.doing = ""
                self._sessions[work.client] = work.session
            data = self._packed(work.id, reply)
            self._last.pop(work.client, None)  # the newest comes last
            self._last[work.client] = work.number, work.id, data
            self._send(work.identity, data)
        while len(self._last) > 4 * self._keep:
            del self._last[next(iter(self._last))]

    def _say_working(self, work: Request) -> None:
        doing = (work.session.doing if work.session else "") or "reading documents"
        seconds = time.monotonic() - work.since
        self._reply(work.identity, work.id, {"working": doing, "seconds": seconds})

    def _reply(self, identity: bytes, number: Any, reply: Mapping[str, Any]) -> None:
        self._send(identity, self._packed(number, reply))

    def _packed(self, number: Any, reply: Mapping[str, Any]) -> bytes:
        return sign(encode({"protocol": PROTOCOL, "id": number, **reply}), self._token)

    def _send(self, identity: bytes, data: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # gone, or it reads nothing
            self._socket.send_multipart([identity, data], zmq.NOBLOCK)

    # ---- a thread for each request

    def _work(self, work: Request, message: Mapping[str, Any]) -> None:
        try:
            reply = {"result": self._done_for(work, message)}
        except Exception as error:
            reply = failure_reply(error)
        self._done.put((work, reply))
        self._wake()

    def _done_for(self, work: Request, message: Mapping[str, Any]) -> dict[str, Any]:
        runs, what = [str(uid) for uid in message["runs"]], str(message["what"])
        if what == "open":
            keys = [str(key) for key in message["keys"]]
            missing = self._missing(runs, keys)
            work.session = Session(
                strategy_of(message["strategy"]),
                message["seed"],
                earlier_of(message["earlier"]),
                keys,
            )
            return {"missing": missing}
        if not work.client[1]:
            runs = self._looked_up(work, runs)
        elif work.session is None:
            raise SessionBehind
        else:
            for name, data in message["documents"]:
                self.store("request", name, decode(data))
            work.session.extend(int(message["first"]), [str(key) for key in message["keys"]])
        assert work.session is not None
        if work.cancelled:
            raise TrainingCancelled("the question was cancelled")
        return work.session.answer(self.store, runs, what, message["given"], message["args"])

    def _missing(self, runs: Sequence[str], keys: Sequence[str]) -> list[int]:
        """Return the numbers of the documents that neither the store nor the catalogue has."""
        found = self.store.have(runs, keys)
        if len(found) < len(keys) and self.fetch is not None:
            self.fetch(runs)
            found = self.store.have(runs, keys)
        return [k for k, key in enumerate(keys) if key not in found]

    def _looked_up(self, work: Request, runs: list[str]) -> list[str]:
        """Give a client that sends no documents an agent that has learned from the store's."""
        if not runs:
            newest = self.store.newest()
            if newest is None:
                raise InputError("the agent has not heard of any run yet")
            runs = [newest]
        tried = set()
        while True:
            start = self.store.start(runs[0])
            if start is None and self.fetch is not None and runs[0] not in tried:
                tried.add(runs[0])
                self.fetch(runs[:1])
                continue
            if start is None:
                raise InputError(f"the agent has not heard of a run {runs[0]}")
            if start.get(documents.RESUMES) is None:
                break
            runs.insert(0, str(start[documents.RESUMES]))
        keys = [key for uid in runs for key in self.store.keys(uid)]
        if work.session is None or not work.session.begins_with(keys):
            first = self.store.start(runs[0]) or {}
            earlier = None if self.fetch is None else self.fetch.earlier(first)
            work.session = Session(None, None, earlier, keys)
        else:
            work.session.extend(0, keys)
        return runs

    def status(self) -> dict[str, Any]:
        """Return the status of the server, JSON-ready."""
        now = time.monotonic()
        works = {work.client: work for work in list(self._works.values())}
        agents = []
        for client, session in list(self._sessions.items()):
            agents.append(
                {
                    "run": client[0],
                    "learned_from": session.learned,
                    "doing": session.doing if client in works else "",
                    "idle_s": 0.0 if client in works else round(now - session.used, 1),
                }
            )
        return {
            "address": self.address,
            "version": VERSION,
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "since": self._since,
            "refused": self._refused + self._guard.refused,
            "agents": agents,
            "runs": self.store.counts(),
        }
