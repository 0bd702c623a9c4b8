"""Sources of documents for an agent besides its clients: 0MQ and Tiled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from bluesky.callbacks.zmq import RemoteDispatcher
from bluesky_tiled_plugins import subscribe_to_streams

from curiosity_bluesky import documents
from curiosity_bluesky.agent.prior_runs import prior_run_of
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.codec import deserializer
from curiosity_bluesky.agent.remote.store import DocumentStore
from curiosity_bluesky.catalog import Catalog, connect
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun

logger = logging.getLogger(__name__)

_AGAIN = 2.0
"""Seconds between two retries."""
_LOOK = 10.0
"""Maximum seconds between two readings of the catalogue."""
_REST = 0.3
"""Minimum seconds between two readings of a run, and four times as long as one took."""
_BELLS = {
    documents.DECISIONS: ("decision_id",),
    documents.PRIMARY: ("decision_id",),
    documents.FAILURES: ("decision_id",),
    documents.STEERING: ("act_id",),
    documents.DRIFT: ("resurvey",),
}
"""Scalars of each stream that an agent learns from: one small update for each event."""


class Subscriber:
    """Subscriber to the documents of a 0MQ proxy, in a thread of its own.

    Parameters
    ----------
    address
        Where the proxy gives documents out.
    token
        Whose seal they have to bear; others are dropped.
    store
        Where they go.
    """

    def __init__(self, address: str, token: str, store: DocumentStore) -> None:
        host, port = tokens.endpoint(address)
        self._address = f"{host}:{port}"
        self._token = token
        self._store = store
        threading.Thread(target=self._run, name="documents", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                dispatcher = RemoteDispatcher(self._address, deserializer=deserializer(self._token))
                dispatcher.subscribe(self._heard)
                dispatcher.start()
            except Exception:  # such as the name of a document that is none
                logger.exception("the documents of %s broke off; they are taken up again",
                                 self._address)  # fmt: skip
            time.sleep(_AGAIN)

    def _heard(self, name: str, doc: Mapping[str, Any]) -> None:
        try:
            self._store("0MQ", name, doc)
        except Exception as error:  # of a sender with the token and another version
            logger.warning("a document over 0MQ is passed over: %s", error)


class CatalogReader:
    """Reader of runs in a catalogue into the store, on request.

    Parameters
    ----------
    where
        As for `connect`.
    store
        Where it goes.
    """

    def __init__(self, where: str, store: DocumentStore) -> None:
        self._where = where
        self._store = store
        self._open: Catalog | None = None

    def __call__(self, uids: Sequence[str]) -> None:
        """Fetch these runs; a missing one is skipped."""
        with ExitStack() as stack:
            catalog = self._open
            try:
                # Opened for this alone: a process that has a directory open serves it to others.
                catalog = catalog or stack.enter_context(connect(self._where, create=False))
            except Exception as error:
                logger.warning("the catalogue %s cannot be read: %s", self._where, error)
                return
            for uid in uids:
                try:
                    self._read(catalog, uid, "catalogue")
                except Exception as error:  # Tiled's many ways
                    logger.warning("run %s cannot be read from %s: %s", uid, self._where, error)

    def earlier(self, start: Mapping[str, Any]) -> PriorRun | None:
        """Return the run that one started from, by its start document; None for a cold start.

        Raises
        ------
        InputError
            If it is not there any more.
        """
        if start.get(documents.WARM_START) is None:
            return None
        with ExitStack() as stack:
            catalog = self._open or stack.enter_context(connect(self._where, create=False))
            return prior_run_of(catalog, start)

    def _read(self, catalog: Catalog, uid: str, source: str) -> None:
        for name, doc in catalog.documents(uid):
            self._store(source, name, doc)


class CatalogFollower(CatalogReader):
    """Follower of the newest runs of a catalogue, by Tiled's streaming subscription.

    Tiled tells of each array and each table by itself, in no common order: it is taken as a bell,
    and the documents of the run are read.

    Parameters
    ----------
    where, store
        As for `CatalogReader`.
    """

    def __init__(self, where: str, store: DocumentStore) -> None:
        super().__init__(where, store)
        self._rung: set[str] = set()
        self._news = threading.Event()
        self.ready = threading.Event()
        """Whether it is subscribed."""
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def _run(self) -> None:
        said = ""
        while True:
            try:
                with connect(self._where, create=False) as catalog:
                    self._open = catalog
                    self._follow(catalog)
            except Exception as error:  # there is none yet, its server went away, ...
                if str(error) != said:
                    said = str(error)
                    logger.warning("%s is not followed at present: %s", self._where, error)
            finally:
                self._open = None
                self.ready.clear()
            time.sleep(_AGAIN)

    def _follow(self, catalog: Catalog) -> None:
        """Read runs at each notification, until the server is replaced."""
        client = catalog.client
        newest = self._newest(catalog)
        since = newest["time"] if newest else 0.0
        ended = threading.Event()
        threading.Thread(
            target=self._subscribe, args=(client, since, ended), name="subscribe", daemon=True
        ).start()
        try:
            if newest:
                self._ring(newest["uid"])
            while catalog.client is client:
                if not self._news.wait(_LOOK):
                    newest = self._newest(catalog)
                    if newest is None or self._is_complete(newest["uid"]):
                        continue
                    self._ring(newest["uid"])
                self._news.clear()
                began = time.monotonic()
                while self._rung:
                    self._read(catalog, self._rung.pop(), "Tiled")
                time.sleep(max(_REST, 4 * (time.monotonic() - began)))
        finally:
            ended.set()

    def _subscribe(self, client: Any, since: float, ended: threading.Event) -> None:
        """Notify of new runs until the end; a server that does not stream delays nothing."""

        def ours(start: Mapping[str, Any]) -> bool:
            wanted = "curiosity_strategy" in start and start["time"] >= since
            if wanted:
                self._ring(start["uid"])
            return wanted

        try:
            with subscribe_to_streams(
                client,
                lambda update: self._ring(update.run_uid),
                streams=_BELLS,
                metadata_filter=ours,
            ):
                self.ready.set()
                ended.wait()
        except Exception as error:
            logger.warning(
                "%s does not stream (%s); it is looked at every %g s", self._where, error, _LOOK
            )

    def _ring(self, uid: str) -> None:
        self._rung.add(uid)
        self._news.set()

    def _newest(self, catalog: Catalog) -> Mapping[str, Any] | None:
        """Return the start document of the newest curiosity run, None if there is none."""
        try:
            start = catalog[-1].start
        except InputError:
            return None
        return start if "curiosity_strategy" in start else None

    def _is_complete(self, uid: str) -> bool:
        return any(key.startswith("stop ") for key in self._store.keys(uid))
