"""Import of an archive: image files become runs like any others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import event_model
import numpy as np
from jsonschema import ValidationError
from tiled.queries import Eq

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.documents import SURVEY
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.missing import not_measured
from curiosity_bluesky.exchange.names import LONGEST_IMAGE, plain
from curiosity_bluesky.similarity.image_files import FileImage, read_images

DEVICE = "file"
PLAN = "import"

TAKEN = ("uid", "time", "plan_name", "file", "file_sha256", "file_time")
"""Keys of the start document that an import must not set."""


@dataclass(frozen=True)
class ImportedFile:
    """Result of the import of one file.

    Parameters
    ----------
    file
        Its path as it was given.
    uid
        Of the run that it is; None if it cannot be one.
    channels
        Its images, as far as they can be described.
    status
        ``imported``, ``present`` (it was imported before) or ``refused``.
    detail
        Why it was refused, or what was left out of it and why.
    """

    file: str
    uid: str | None
    channels: tuple[str, ...]
    status: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-ready."""
        return asdict(self)


def import_files(
    catalog: Catalog, files: Sequence[str | Path], metadata: Mapping[str, Any] | None = None
) -> Iterator[ImportedFile]:
    """Import each file as a run, and yield the result.

    One that was imported already, under any name, is noticed by its checksum. One that holds no
    image is refused, and keeps no other waiting. A channel that cannot be described, such as one
    that is the same everywhere, is left out; the others of its file come in.

    Parameters
    ----------
    catalog
        Where the runs go.
    files
        See `read_images`.
    metadata
        For the start document of each: sample, operator, technique ...

    Raises
    ------
    InputError
        If the metadata cannot be in a start document; nothing is imported then.
    """
    _check(metadata or {})
    writer = catalog.writer(batch_size=1)
    for file in files:
        path = Path(file)
        try:
            yield _imported(catalog, writer, path, metadata or {})
        except InputError as error:
            yield ImportedFile(str(file), None, (), "refused", str(error))


def _check(metadata: Mapping[str, Any]) -> None:
    taken = [key for key in metadata if key in TAKEN]
    if taken:
        raise InputError(
            f"the metadata give {', '.join(taken)}, which the import itself writes; expected "
            "other keys, such as operator: leave it out"
        )
    try:
        event_model.compose_run(metadata=dict(metadata))
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        raise InputError(
            f"the metadata cannot be in a start document ({where}{': ' if where else ''}"
            f"{error.message[:200]}); expected what Bluesky's schema allows, such as a number as "
            "scan_id, a text as sample, no '.' in a key"
        ) from None


def _imported(
    catalog: Catalog, writer: Callable[[str, Any], None], path: Path, metadata: Mapping[str, Any]
) -> ImportedFile:
    images, left_out = [], []
    for image in read_images(path):
        try:
            image.image()
            images.append(image)
        except InputError as error:
            left_out.append(str(error))
    if not images:
        raise InputError(f"{path}: {'; '.join(left_out)}")
    said = [f"{i.channel}: {words}" for i in images if (words := not_measured(i.values))]
    detail = "; ".join([*said, *([f"left out: {'; '.join(left_out)}"] if left_out else [])])
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    channels = tuple(image.channel for image in images)
    there = list(catalog.search(Eq("start.file_sha256", digest)))
    if there:
        return ImportedFile(str(path), there[0], channels, "present", detail)
    known = {
        "file": path.name,
        "file_sha256": digest,
        "file_time": path.stat().st_mtime,
        **metadata,
        "plan_name": PLAN,
    }
    uid = ""
    for name, doc in documents_of(images, known):
        uid = doc["uid"] if name == "start" else uid
        writer(name, doc)
    return ImportedFile(str(path), uid, channels, "imported", detail)


def documents_of(
    images: Sequence[FileImage], metadata: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a run that took these images as its survey.

    Parameters
    ----------
    images
        Its channels.
    metadata
        For its start document.
    """
    run: Any = event_model.compose_run(metadata=dict(metadata))
    yield "start", run.start_doc
    data_keys: dict[str, Any] = {}
    data: dict[str, Any] = {}
    used: set[str] = set()
    for image in images:
        values = np.ascontiguousarray(image.values)
        # A store may know no difference between capital and small letters.
        key = f"{DEVICE}_{plain(image.channel, 'image', LONGEST_IMAGE)}"
        while key.lower() in used:
            key += "_"
        used.add(key.lower())
        data[key] = values
        data_keys[key] = {
            "source": f"file:{metadata.get('file', '')}#{image.channel}",
            "dtype": "array",
            "dtype_numpy": values.dtype.str,
            "shape": list(values.shape),
            "dims": ["y", "x"],
            "units": image.units,
            "object_name": DEVICE,
        }
    stamp = time.time()
    described = run.compose_descriptor(
        name=SURVEY,
        data_keys=data_keys,
        configuration={DEVICE: _axes(images, stamp)},
        object_keys={DEVICE: list(data_keys)},
        hints={},
    )
    yield "descriptor", described.descriptor_doc
    yield "event", described.compose_event(data=data, timestamps=dict.fromkeys(data, stamp))
    yield "stop", run.compose_stop()


def _axes(images: Sequence[FileImage], stamp: float) -> dict[str, Any]:
    """Return the configuration with the axes of the first image, um, if its scale is known."""
    first = images[0]
    axes: dict[str, Any] = {}
    if first.um_per_pixel is not None:
        for name, size, step in zip("yx", first.values.shape, first.um_per_pixel, strict=True):
            axes[f"{DEVICE}_{name}"] = (np.arange(size) * step).tolist()
    return {
        "data": axes,
        "timestamps": dict.fromkeys(axes, stamp),
        "data_keys": {
            key: {
                "source": DEVICE,
                "dtype": "array",
                "shape": [len(values)],
                "dims": [key.removeprefix(f"{DEVICE}_")],
                "units": "um",
            }
            for key, values in axes.items()
        },
    }
