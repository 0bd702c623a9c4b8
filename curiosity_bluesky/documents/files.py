"""Arrays that documents only point to: HDF5 files, by stream_resource and stream_datum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hdf5 import MIMETYPE, path_of


class ExternalFiles:
    """Remembers what stream documents say about files, and reads the arrays.

    Give it the documents of a run in their order. Any detector's will do whose ``mimetype`` is
    ``application/x-hdf5``.
    """

    def __init__(self) -> None:
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._datums: dict[tuple[str, str], list[Mapping[str, Any]]] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process a document; those of other kinds are passed over."""
        if name == "stream_resource":
            self._resources[doc["uid"]] = doc
        elif name == "stream_datum":
            key = self.resource_of(doc)["data_key"]
            self._datums.setdefault((doc["descriptor"], key), []).append(doc)

    def resource_of(self, datum: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the stream resource that a stream datum refers to.

        Raises
        ------
        InputError
            If it has not come in.
        """
        if datum["stream_resource"] not in self._resources:
            raise InputError(
                f"a stream_datum refers to the stream_resource {datum['stream_resource']}, which "
                "did not come before it; give the documents in the order in which they were emitted"
            )
        return self._resources[datum["stream_resource"]]

    def data(self, descriptor: Mapping[str, Any], seq_num: int) -> dict[str, NDArray]:
        """Return what an event has in files, data key to array.

        Parameters
        ----------
        descriptor
            Of the event.
        seq_num
            The event's.

        Raises
        ------
        InputError
            If no document says where an array is, or its file cannot be read.
        """
        data = {}
        for key in external_keys(descriptor["data_keys"]):
            for datum in self._datums.get((descriptor["uid"], key), []):
                first = datum["seq_nums"]["start"]
                if first <= seq_num < datum["seq_nums"]["stop"]:
                    index = datum["indices"]["start"] + seq_num - first
                    described = descriptor["data_keys"][key]
                    data[key] = read_array(self.resource_of(datum), described, index)
                    break
            else:
                raise InputError(
                    f"{key} of event {seq_num} in stream {descriptor['name']} is in a file, and no "
                    "stream_datum came before the event to say in which; put documents that come "
                    "from Tiled in order first: curiosity_bluesky.documents.in_order"
                )
        return data


def external_keys(data_keys: Mapping[str, Any]) -> list[str]:
    """Return the data keys whose values are in files."""
    return [key for key, about in data_keys.items() if about.get("external") == "STREAM:"]


def read_array(
    resource: Mapping[str, Any], described: Mapping[str, Any], index: int
) -> NDArray[Any]:
    """Read one event's array from its file.

    Parameters
    ----------
    resource
        A stream resource document.
    described
        The data key in the descriptor. A first dimension of 1, with which detectors say that an
        event holds one frame, is left out: ``(1, y, x)`` is read as ``(y, x)``.
    index
        Number of the event in the file.

    Raises
    ------
    InputError
        If the file is of another kind, is not there, or does not hold it.
    """
    key, parameters = resource["data_key"], resource["parameters"]
    dataset = parameters.get("dataset") or parameters.get("path")
    cut = re.fullmatch(r"(\d+):", parameters.get("slice") or "0:")
    plain = cut and "template" not in parameters and not parameters.get("squeeze")
    if resource["mimetype"] != MIMETYPE or urlsplit(resource["uri"]).scheme != "file" or not plain:
        raise InputError(
            f"{key} is in {resource['uri']} ({resource['mimetype']}, {dict(parameters)}); expected "
            f"one HDF5 file on a disk ({MIMETYPE}) with an entry for each event: give an imager "
            "that writes such a file, or arrays"
        )
    assert cut is not None
    index += int(cut[1])
    path = Path(path_of(resource["uri"]))
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{key} is in an HDF5 file, {path}; install what reads it: "
            "pip install curiosity-bluesky[async]"
        ) from None
    try:
        with h5py.File(path, "r", swmr=parameters.get("swmr", True)) as file:
            found: Any = file[dataset]
            frames = described["shape"][0] if found.ndim == len(described["shape"]) else 1
            values = np.asarray(found[index * frames : (index + 1) * frames])
        if len(values) != frames:
            raise IndexError(f"it holds {len(found) if found else 'fewer'} frames")
    except (OSError, KeyError, IndexError, ValueError) as error:
        there = "cannot be read" if path.exists() else "is not there"
        raise InputError(
            f"{key} is expected in the file {path}, dataset {dataset}, entry {index}, which "
            f"{there} ({' '.join(str(error).split())}); the file was written where the run was "
            "measured: work there, or make the file readable here under the same path"
        ) from error
    return values[0] if frames == 1 else values


def in_order(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return documents with those about files before the first event that they belong to.

    So the RunEngine emits them; Tiled gives them back at the end of a run.
    """
    found = list(documents)
    resources = {doc["uid"]: doc for name, doc in found if name == "stream_resource"}
    waiting = [doc for name, doc in found if name == "stream_datum"]
    if not waiting:
        return found
    ordered: list[tuple[str, Mapping[str, Any]]] = []
    for name, doc in found:
        if name in ("stream_resource", "stream_datum"):
            continue
        if name in ("event", "stop"):
            mine = [
                datum
                for datum in waiting
                if name == "stop"
                or (
                    datum["descriptor"] == doc["descriptor"]
                    and datum["seq_nums"]["start"] <= doc["seq_num"]
                )
            ]
            for datum in mine:
                resource = resources.pop(datum["stream_resource"], None)
                if resource is not None:
                    ordered.append(("stream_resource", resource))
                ordered.append(("stream_datum", datum))
            waiting = [datum for datum in waiting if datum not in mine]
        ordered.append((name, doc))
    return ordered
