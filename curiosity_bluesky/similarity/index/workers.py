"""Workers that compute the vectors of images, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.descriptors.protocol import Descriptor
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.collection import THUMBNAIL

T = TypeVar("T")

CHUNK = 8
"""Images that are sent to another process at once,"""

CHUNK_BYTES = 16_000_000
"""but no more bytes of them, unless one image is larger."""

WAITING_BYTES = 256_000_000
"""Maximum images in transit; one chunk is always allowed."""

WORTH = 48
"""Minimum images for which other processes are started."""


class Thumbnail:
    """A picture of an image, (48, 48), grey from 0 to 255; a descriptor as far as the index goes.

    The proportions are kept; between the first and the last hundredth of the values grey
    rises from 1 to 255, and 0 is what lies outside the image or was not measured.
    """

    name, version, size = "thumbnail", 1, THUMBNAIL * THUMBNAIL

    def __call__(self, image: Image) -> NDArray[np.uint8]:
        """Return the picture of an image."""
        values = image.values
        known = values[np.isfinite(values)]
        # Of some thousand pixels: all of a large image would take longer than the rest.
        low, high = np.percentile(known[:: max(1, known.size // 8192)], (1, 99))
        if high <= low:
            low, high = known.min(), known.max()
        scaled = np.clip((values - low) / (high - low), 0, 1)
        longer = max(values.shape)
        rows, cols = (_averaging(n, max(1, round(THUMBNAIL * n / longer))) for n in values.shape)
        share = rows @ np.isfinite(values).astype(float) @ cols.T
        sums = rows @ np.nan_to_num(scaled, nan=0.0) @ cols.T
        grey = np.where(share > 0.5, 1 + np.rint(254 * sums / np.maximum(share, 1e-9)), 0)
        picture = np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)
        top, left = ((THUMBNAIL - n) // 2 for n in grey.shape)
        picture[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
        return picture


def _averaging(n: int, to: int) -> NDArray[np.float64]:
    """Return the matrix (to, n) that averages over equal parts of n pixels."""
    edges = np.linspace(0, n, to + 1)
    pixels = np.arange(n)
    low, high = edges[:-1, None], edges[1:, None]
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return overlap / overlap.sum(1, keepdims=True)


@dataclass(frozen=True)
class Task(Generic[T]):
    """Task of a worker: an image and its descriptors.

    Parameters
    ----------
    item
        Returned with the answer as it is.
    values, um_per_pixel, period, what
        As for `Image.checked`.
    kinds
        What is wanted: names with versions.
    """

    item: T
    values: Any
    um_per_pixel: tuple[float, float] | None
    period: float | None
    what: str
    kinds: tuple[str, ...]


Answer = tuple[dict[str, NDArray], str]
"""Arrays by kind, NaN where there is none, and why not."""


def kind_of(descriptor: Any) -> str:
    """Return name and version of a descriptor in one word."""
    return f"{descriptor.name}-{descriptor.version}"


def describe_image(task: Task[Any], descriptors: Mapping[str, Descriptor]) -> Answer:
    """Return what is wanted of one image.

    Parameters
    ----------
    task
        The image.
    descriptors
        By kind.
    """
    try:
        image = Image.checked(task.values, task.um_per_pixel, task.period, what=task.what)
    except InputError as error:
        return {kind: _nothing(descriptors[kind]) for kind in task.kinds}, str(error)
    found: dict[str, NDArray] = {}
    refused = []
    for kind in task.kinds:
        try:
            found[kind] = np.asarray(descriptors[kind](image))
            if not np.isfinite(found[kind]).all():
                raise InputError("not all of its numbers are finite")
        except Exception as error:  # one image must not end the indexing of all others
            found[kind] = _nothing(descriptors[kind])
            said = str(error) if isinstance(error, InputError) else repr(error)
            refused.append(f"{kind}: {said}")
    return found, "; ".join(refused)


def _nothing(descriptor: Any) -> NDArray:
    if descriptor.name == Thumbnail.name:
        return np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)
    return np.full(descriptor.size, np.nan, np.float32)


_mine: dict[str, Descriptor] = {}


def _begin(descriptors: Mapping[str, Descriptor]) -> None:
    _mine.update(descriptors)


def _described_there(tasks: Sequence[Task[Any]]) -> list[Answer]:
    return [describe_image(task, _mine) for task in tasks]


def describe(
    tasks: Iterable[Task[T]], descriptors: Mapping[str, Descriptor], workers: int = 0
) -> Iterator[tuple[T, dict[str, NDArray], str]]:
    """Yield each task's item with its arrays and why some are missing, in their order.

    No more than a few images are in memory at once, and no process is started for so few that
    they are done before it would be ready.

    Parameters
    ----------
    tasks
        Images, taken as they are needed.
    descriptors
        By kind; for other processes they are pickled.
    workers
        Processes; with 0 or 1 it is this one.
    """
    tasks = iter(tasks)
    for task in islice(tasks, None if workers < 2 else WORTH):
        yield (task.item, *describe_image(task, descriptors))
    chunks = _chunks(tasks)
    first = next(chunks, [])
    if not first:
        return
    # One thread each, and no fork of a process with threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _alone, (dict(descriptors),)) as pool:
        try:
            waiting: deque[tuple[list[Task[T]], Future[list[Answer]]]] = deque()
            chunk, held = first, 0
            while chunk or waiting:
                size = sum(map(size_of, chunk))
                fits = len(waiting) < 2 * workers and held + size <= WAITING_BYTES
                if chunk and (fits or not waiting):
                    lean = [_without_item(task) for task in chunk]
                    waiting.append((chunk, pool.submit(_described_there, lean)))
                    held += size
                    chunk = next(chunks, [])
                    continue
                asked, future = waiting.popleft()
                held -= sum(map(size_of, asked))
                for task, answer in zip(asked, future.result(), strict=True):
                    yield (task.item, *answer)
        except BaseException:  # the rest is not needed any more, or Ctrl-C of the terminal
            pool.shutdown(cancel_futures=True)
            raise


def size_of(task: Any) -> int:
    """Return the bytes of an image's values; 0 for what is no image."""
    return int(getattr(getattr(task, "values", None), "nbytes", 0))


def _chunks(tasks: Iterator[Task[T]]) -> Iterator[list[Task[T]]]:
    chunk: list[Task[T]] = []
    size = 0
    for task in tasks:
        chunk.append(task)
        size += size_of(task)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _alone(descriptors: Mapping[str, Descriptor]) -> None:
    import torch
    from threadpoolctl import threadpool_limits

    # Ctrl-C reaches all processes of a terminal; the one that asks ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    threadpool_limits(1)
    torch.set_num_threads(1)  # its first sum would undo the limit
    _begin(descriptors)


def _end_with_parent() -> None:
    # A killed parent says no goodbye, and this process would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _without_item(task: Task[Any]) -> Task[None]:
    return Task(None, task.values, task.um_per_pixel, task.period, task.what, task.kinds)
