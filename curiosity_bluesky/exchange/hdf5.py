"""Arrays in HDF5 files of the pycroscopy family: NSID and USID.

Read with h5py alone, and always for reading only. pyNSID 0.0.7.2 turns all real numbers
into float64 and complex ones into complex64, reads every dataset in the file into memory and
cannot be told otherwise; SciFiReaders 0.12.7 opens NSID files for writing; importing them
takes some seconds. The layouts are simple enough:

- NSID: https://pycroscopy.github.io/pyNSID/nsid.html
- USID: https://pycroscopy.github.io/USID/usid_model.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.readers import Dim, Field, kind_of, plain_units

ROLE = "curiosity_role"
"""Attribute of a main dataset that curiosity_bluesky wrote; see `CleanedImage`."""

_USID_PARTS = (
    "Position_Indices",
    "Position_Values",
    "Spectroscopic_Indices",
    "Spectroscopic_Values",
)


def hdf5_fields(path: Path) -> list[Field]:
    """Find the main datasets in a file.

    Raises
    ------
    InputError
        If h5py is missing, the file is no HDF5 or one of its main datasets is damaged.
    """
    found: list[Field] = []
    with _opened(path) as file:

        def visit(name: str, item: Any) -> None:
            if not hasattr(item, "dtype"):  # a group
                return
            if all(key in item.attrs for key in _USID_PARTS):
                found.extend(_usid(path, name, item))
            elif "main_data_name" in item.attrs and item.ndim > 0:
                found.append(_nsid(path, name, item))

        try:
            file.visititems(visit)
        except InputError:
            raise
        except Exception as error:  # any that h5py raises for a damaged file
            raise InputError(
                f"{path} cannot be read ({type(error).__name__}: {error}); expected whole NSID or "
                "USID datasets: copy it again, or write it again with pyNSID or pyUSID."
            ) from error
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path} needs h5py, which is not installed: "
            'pip install "curiosity-bluesky[pycroscopy]".'
        ) from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected an HDF5 file: check that it was copied "
            "whole, and that no program is still writing it."
        ) from error
    with file:
        yield file


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in np.ravel(value)]


def _nsid(path: Path, name: str, dataset: Any) -> Field:
    """Describe an NSID main dataset: each axis has a dimension scale."""
    dims = []
    for i, axis in enumerate(dataset.dims):
        if len(axis) == 0 or axis[0].shape != (dataset.shape[i],):
            raise InputError(
                f"{path}: axis {i} of {name!r} has no dimension scale of {dataset.shape[i]} "
                "values; expected one for each axis: write the file again with pyNSID."
            )
        scale = axis[0]
        about = {key: _text(scale.attrs.get(key, "")) for key in ("units", "dimension_type")}
        label = axis.label or scale.name.rsplit("/", 1)[-1]
        units = plain_units(about["units"])
        kind = kind_of(about["dimension_type"] or "UNKNOWN", label, units)
        dims.append(Dim(label, units, scale[()], kind))
    title = _text(dataset.attrs["main_data_name"]).strip()
    return Field(
        "" if title == "generic" else title,
        name,
        plain_units(_text(dataset.attrs.get("units", ""))),
        tuple(dims),
        dataset.dtype,
        lambda: _read(path, name, _measured),
        _text(dataset.attrs.get(ROLE, "")),
    )


def _read(path: Path, name: str, how: Callable[[Any], NDArray]) -> NDArray:
    with _opened(path) as file:
        try:
            return how(file[name])
        except MemoryError as error:
            raise InputError(
                f"{path}: {name!r} is larger than the memory ({error}); expected an array that "
                "fits: save the part that you want to an .npz file."
            ) from error
        except Exception as error:  # truncated, damaged, or a filter that this h5py lacks
            raise InputError(
                f"{path}: {name!r} cannot be read ({error}); expected a whole file: copy it again."
            ) from error


def _measured(dataset: Any, part: str | None = None) -> NDArray:
    """Read a dataset, or a part of a compound one, with NaN where nothing was ever written.

    Nothing was written to chunks that the file does not have, nor where the value is one that
    the file states for that (a fill value other than 0, ``_FillValue``, ``missing_value``).
    """
    values = dataset[()] if part is None else dataset[part]
    if values.dtype.kind not in "iuf":
        return values
    never = _unwritten(dataset)
    fill = dataset.fillvalue
    for stated in (
        fill if part is None or not hasattr(fill, "dtype") else fill[part],
        *(dataset.attrs.get(key) for key in ("_FillValue", "missing_value")),
    ):
        if np.size(stated) == 1 and np.asarray(stated).dtype.kind in "iuf" and np.all(stated):
            same = values == np.asarray(stated).item()
            never = same if never is None else never | same
    return values if never is None or not never.any() else np.where(never, np.nan, values)


def _unwritten(dataset: Any) -> NDArray[np.bool_] | None:
    """Return where a dataset has no storage in its file; None if it has all."""
    if dataset.is_virtual or dataset.external or not dataset.size:
        return None
    if dataset.chunks is None:
        written = dataset.id.get_storage_size() > 0
        return None if written else np.ones(dataset.shape, bool)
    chunks = dataset.chunks
    expected = np.prod([-(-n // c) for n, c in zip(dataset.shape, chunks, strict=True)], dtype=int)
    count = dataset.id.get_num_chunks()
    if count >= expected:
        return None
    never = np.ones(dataset.shape, bool)

    def is_there(chunk: Any) -> None:
        begin = chunk.chunk_offset
        never[tuple(slice(b, b + c) for b, c in zip(begin, chunks, strict=True))] = False

    if hasattr(dataset.id, "chunk_iter"):  # get_chunk_info looks through all chunks for each
        dataset.id.chunk_iter(is_there)
    else:  # as h5py is built with an HDF5 that has none
        for i in range(count):
            is_there(dataset.id.get_chunk_info(i))
    return never


def _usid(path: Path, name: str, dataset: Any) -> list[Field]:
    """Describe a USID main dataset, (positions, spectral steps); each part of a compound."""
    file = dataset.file
    parts = [file[dataset.attrs[key]] for key in _USID_PARTS]
    positions = _usid_dims(parts[0][()], parts[1][()], parts[1], "spatial")
    spectral = _usid_dims(parts[2][()].T, parts[3][()].T, parts[3], "spectral")
    sizes = [[len(dim.values) for dim in dims] for dims, _ in (positions, spectral)]
    for (_, flat), size, want in zip((positions, spectral), sizes, dataset.shape, strict=True):
        if len(flat) != want or len(np.unique(flat)) != want:
            raise InputError(
                f"{path}: the indices of {name!r} count {len(flat)} steps, {len(np.unique(flat))} "
                f"of them different, but the data has {want}; expected one index for each: write "
                "the file again with pyUSID."
            )
        if want != np.prod(size) and size is sizes[1]:
            raise InputError(
                f"{path}: the spectra of {name!r} are ragged: {want} steps do not fill "
                f"{' x '.join(map(str, size))} ({', '.join(dim.name for dim in spectral[0])}); "
                "expected a full grid: save the steps that you want to an .npz file."
            )
    dims = (*positions[0], *spectral[0])
    shape = (*sizes[0], *sizes[1])

    def reader(part: str | None) -> Callable[[], NDArray]:
        def how(data: Any) -> NDArray:
            values = _measured(data, part)
            if _in_order(positions[1], sizes[0]) and _in_order(spectral[1], sizes[1]):
                return values.reshape(shape)
            full = values.shape[0] == np.prod(sizes[0])
            # Positions that were never measured are NaN.
            dtype = values.dtype if full or values.dtype.kind in "fc" else np.float64
            grid = np.empty((np.prod(sizes[0]), np.prod(sizes[1])), dtype)
            if not full:
                grid[:] = np.nan
            grid[positions[1][:, None], spectral[1][None, :]] = values
            return grid.reshape(shape)

        return lambda: _read(path, name, how)

    short = name.rsplit("/", 1)[-1]
    if dataset.dtype.names is None:
        units = plain_units(_text(dataset.attrs.get("units", "")))
        return [Field(short, name, units, dims, dataset.dtype, reader(None))]
    fields = []
    for part in dataset.dtype.names:  # such as "Amplitude [V]"
        label, _, units = part.rstrip("] ").partition("[")
        label = label.strip()
        dtype = dataset.dtype[part]
        fields.append(
            Field(label, f"{name}/{label}", plain_units(units), dims, dtype, reader(part))
        )
    return fields


def _in_order(flat: NDArray[np.intp], sizes: list[int]) -> bool:
    return len(flat) == np.prod(sizes) and bool(np.all(np.diff(flat) == 1))


def _usid_dims(
    indices: NDArray, values: NDArray, described: Any, kind: Any
) -> tuple[list[Dim], NDArray[np.intp]]:
    """Axes of one side of a USID dataset, slowest first, and where each step lies on them.

    Parameters
    ----------
    indices, values
        (steps, axes).
    described
        The dataset whose attributes name the axes.
    kind
        What the axes are.

    Returns
    -------
    dims
        The axes, slowest first.
    flat
        (steps,): each step's place in an array over these axes.
    """
    labels, units = (_texts(described.attrs.get(key, [])) for key in ("labels", "units"))
    count = indices.shape[1]
    labels = labels if len(labels) == count else [f"axis_{i}" for i in range(count)]
    units = units if len(units) == count else [""] * count
    # The file's order may be fast to slow or slow to fast: the one that changes least is slowest.
    changes = [int(np.count_nonzero(np.diff(indices[:, i]))) for i in range(count)]
    dims, places = [], []
    for i in np.argsort(changes, kind="stable"):
        steps, first, place = np.unique(indices[:, i], return_index=True, return_inverse=True)
        at = values[first, i].astype(np.float64 if values.dtype.kind != "f" else values.dtype)
        for step in np.flatnonzero(np.isnan(at)):  # such as the bias of an off-field step
            known = values[indices[:, i] == steps[step], i]
            known = known[~np.isnan(known)]
            at[step] = known[0] if len(known) else np.nan
        dims.append(Dim(labels[i], plain_units(units[i]), at, kind))
        places.append(place)
    sizes = [len(dim.values) for dim in dims]
    return dims, np.asarray(np.ravel_multi_index(places, sizes))
