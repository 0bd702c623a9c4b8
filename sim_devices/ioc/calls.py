"""Blocking calls from an event loop, and words for what they raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from caproto import ChannelType
from caproto.server import pvproperty

MESSAGE_LENGTH = 400


async def in_a_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Make a blocking call in a daemon thread, so that one that hangs never holds the IOC."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def set_answer(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def run() -> None:
        result, failed = None, None
        try:
            result = call(*args)
        except Exception as error:  # whatever the instrument raises belongs to whoever asked
            failed = error
        try:
            loop.call_soon_threadsafe(set_answer, result, failed)
        except RuntimeError:
            return  # the IOC has ended meanwhile

    threading.Thread(target=run, name=f"call {call!r}", daemon=True).start()
    return await answer


def in_words(error: BaseException) -> str:
    """Return kind and text of an exception in one line that fits into a message PV."""
    return " ".join(f"{type(error).__name__}: {error}".split())[: MESSAGE_LENGTH - 1]


def said(name: str, doc: str, value: str = "") -> Any:
    """Return a read-only PV that holds a text of up to 400 characters."""
    return pvproperty(
        name=name,
        value=value,
        dtype=ChannelType.CHAR,  # pyright: ignore[reportArgumentType] (as caproto's own examples do)
        max_length=MESSAGE_LENGTH,
        read_only=True,
        string_encoding="utf-8",
        doc=doc,
    )
