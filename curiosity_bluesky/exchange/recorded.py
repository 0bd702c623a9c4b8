"""Samples that were measured once: the recordings of mexpsimu, and your own files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.missing import FileChannel, usable
from curiosity_bluesky.exchange.sample import Sample, pixel_centres

PRESET_EXTENT_UM = 1.0


class RecordedSample(Sample):
    """A sample read from a recording; what it returns is what was recorded."""

    @classmethod
    def from_mexpsimu(cls, name: str = "PTO_BEPS_1d3um", channel: str = "image") -> RecordedSample:
        """Read one of the recordings that the package mexpsimu ships.

        Note that the images of the PTO_BEPS recordings are the mean magnitude of the
        spectra at each pixel (correlation above 0.999), not an independent scan: they
        tell a learner more than a separate overview image would.

        Parameters
        ----------
        name
            Name of the recording, such as "PTO_BEPS_1d3um".
        channel
            Image channel; "image2" is refused, since it is the mean of the spectra.

        Raises
        ------
        InputError
            If mexpsimu is not installed, or the recording or channel is not there.
        """
        recordings = mexpsimu_recordings()
        if recordings is None:
            raise InputError(
                f"recording {name!r} needs the package mexpsimu, which is not installed: "
                'pip install "curiosity-bluesky[recordings]".'
            )
        if name not in recordings:
            raise InputError(
                f"mexpsimu has no recording {name!r}; expected one of {sorted(recordings)}: "
                "choose one of these."
            )
        path = recordings[name]
        data = _load_npz(path)
        if channel == "image2":
            raise InputError(
                "channel 'image2' is the mean of the spectra, so it would leak what is to be "
                "predicted; expected 'image': choose that."
            )
        channels = [key for key in data if data[key].ndim == 2 and key != "image2"]
        if channel not in channels:
            raise InputError(
                f"recording {name!r} has no image channel {channel!r}; expected one of "
                f"{channels}: choose one of these."
            )
        extent, extent_note = mexpsimu_extent(name)
        current = "cAFM" in name
        spectrum, units = ("current", "A") if current else ("response", "a.u.")
        image = data[channel]
        x, y = pixel_centres((image.shape[0], image.shape[1]), extent)
        leak = "" if current else "; its image is practically the mean magnitude of its spectra"
        return cls(
            name=name,
            images={channel: image},
            spectra={spectrum: data["spectra"]},
            axis=data["vstep"],
            x=x,
            y=y,
            image_units={channel: units},
            spectrum_units={spectrum: units},
            source=f"mexpsimu {metadata.version('mexpsimu')}, {path.name}, "
            f"sha256 {_digest(path)}{extent_note}{leak}",
        )

    @classmethod
    def from_npz(cls, path: str | Path) -> RecordedSample:
        """Read a sample from an ``.npz`` file.

        The arrays in the file; others are ignored:

        ================== ========================================================
        image              (rows, cols) or (channels, rows, cols)
        spectra            (rows, cols, points) or (rows, cols, channels, points); NaN at
                           all points: never measured, and masked
        axis               (points,)
        extent_um          optional: (width, height); default square pixels, 1 um on
                           the longer side
        image_channels     optional: names; default "image", or "image_0", ...
        spectrum_channels  optional: names; default "spectrum", or "spectrum_0", ...
        image_units        optional: one unit for each image channel
        spectrum_units     optional: one unit for each spectral channel
        axis_name          optional: default "bias"
        axis_units         optional: default "V"
        mask               optional: (rows, cols), True where no spectrum may be taken
        ================== ========================================================

        Raises
        ------
        InputError
            If the file cannot be read or its arrays do not fit this layout.
        """
        path = Path(path)
        data = _load_npz(path)
        missing = [key for key in ("image", "spectra", "axis") if key not in data]
        if missing:
            raise InputError(
                f"{path} has no arrays {missing}, only {sorted(data)[:8]}; expected image, spectra "
                "and axis: save it with numpy.savez(path, image=..., spectra=..., axis=...)."
            )
        image, cube = data["image"], data["spectra"]
        if image.ndim not in (2, 3) or cube.ndim not in (3, 4):
            raise InputError(
                f"{path}: image is {image.shape}, spectra are {cube.shape}; expected ([channels,] "
                "rows, cols) and (rows, cols, [channels,] points): reorder the dimensions."
            )
        planes = image[None] if image.ndim == 2 else image
        cubes = cube[:, :, None, :] if cube.ndim == 3 else cube
        image_names = _texts(data, "image_channels", _numbered("image", len(planes)))
        names = _texts(data, "spectrum_channels", _numbered("spectrum", cubes.shape[2]))
        image_units = _texts(data, "image_units", [""] * len(image_names))
        units = _texts(data, "spectrum_units", [""] * len(names))
        extent = data.get("extent_um")
        x, y = pixel_centres(
            (planes.shape[1], planes.shape[2]),
            None if extent is None else tuple(extent.ravel().tolist()),
        )
        images = map(FileChannel, image_names, planes, image_units)
        curves = (FileChannel(n, cubes[:, :, i], units[i]) for i, n in enumerate(names))
        return cls(
            name=path.stem,
            axis=data["axis"],
            x=x,
            y=y,
            axis_units=_texts(data, "axis_units", ["V"])[0],
            **usable(
                path.name,
                list(images),
                list(curves),
                _texts(data, "axis_name", ["bias"])[0],
                f"file {path.name}, sha256 {_digest(path)}",
                data.get("mask"),
            ),
        )

    @classmethod
    def from_npy(
        cls,
        path: str | Path,
        image: int,
        spectra: slice | str,
        axis: ArrayLike | None = None,
        extent_um: tuple[float, float] | None = None,
    ) -> RecordedSample:
        """Read a sample from a cube (rows, cols, slices) in an ``.npy`` file.

        Parameters
        ----------
        path
            The file.
        image
            Index of the slice that is the overview image.
        spectra
            The slices that are the spectrum, as a slice or in words such as "49:". It
            may not contain the image, which would leak what is to be predicted.
        axis
            (points,); default 0, 1, ... with the name "step" and no units. One that is
            given is a bias in V.
        extent_um
            (width, height), um; default square pixels, 1 um on the longer side.

        Raises
        ------
        InputError
            If the file cannot be read, an index is out of range or the slices overlap.
        """
        path = Path(path)
        cube = _load_npy(path)
        if cube.ndim != 3:
            raise InputError(
                f"{path} has {cube.ndim} dimensions, shape {cube.shape}; expected a cube (rows, "
                "cols, slices): reshape it, or save image and spectra to an .npz file."
            )
        count = cube.shape[2]
        if not isinstance(image, (int, np.integer)) or not -count <= image < count:
            raise InputError(
                f"image slice {image!r} is not in {path.name}; expected a whole number from 0 to "
                f"{count - 1}: choose another slice."
            )
        chosen = range(count)[_slice(spectra)]
        if len(chosen) == 0:
            raise InputError(
                f"spectra slice {spectra!r} of {count} slices is empty; expected at least one: "
                'give start:stop, for example "49:".'
            )
        if int(image) % count in chosen:
            raise InputError(
                f"spectra slice {spectra!r} contains the image slice {image}, so the image would "
                "leak what is to be predicted; expected separate slices: change one of them."
            )
        x, y = pixel_centres((cube.shape[0], cube.shape[1]), extent_um)
        return cls(
            name=path.stem,
            axis=np.arange(len(chosen), dtype=np.float64) if axis is None else np.asarray(axis),
            x=x,
            y=y,
            axis_units="" if axis is None else "V",
            **usable(
                path.name,
                [FileChannel("image", cube[:, :, image])],
                [FileChannel("spectrum", cube[:, :, _slice(spectra)])],
                "step" if axis is None else "bias",
                f"file {path.name}, sha256 {_digest(path)}, image slice {image}, "
                f"spectra slices {chosen.start} to {chosen[-1]}",
            ),
        )


def mexpsimu_recordings() -> dict[str, Path] | None:
    """Name to file of the recordings of mexpsimu; None if it is not installed."""
    try:
        registry = import_module("mexpsimu.registry")
    except ImportError:
        return None
    return registry.discover_datasets()


def mexpsimu_extent(name: str) -> tuple[tuple[float, float], str]:
    """(width, height) of a recording in um, and a note if it is an assumption."""
    size = import_module("mexpsimu.registry").parse_scan_size_um(name)
    if size is None:
        size, note = PRESET_EXTENT_UM, f"; scan size not recorded, {PRESET_EXTENT_UM:g} um assumed"
    else:
        note = ""
    return (size, size), note


def _numbered(word: str, count: int) -> list[str]:
    return [word] if count == 1 else [f"{word}_{i}" for i in range(count)]


def _texts(data: Mapping[str, NDArray], key: str, default: list[str]) -> list[str]:
    """Return the texts under `key`, as many and as distinct as they have to be."""
    if key not in data:
        return default
    texts = [str(text) for text in np.atleast_1d(data[key])]
    distinct = not key.endswith("channels") or len(set(texts)) == len(texts)
    if len(texts) != len(default) or data[key].dtype.kind != "U" or not distinct:
        what = "different names" if key.endswith("channels") else "texts"
        raise InputError(
            f"{key} is {texts} (dtype {data[key].dtype}); expected {len(default)} {what}: "
            "one for each channel (axis_name and axis_units: one)."
        )
    return texts


def _slice(text: slice | str) -> slice:
    """Read a slice from "start:stop:step"."""
    if isinstance(text, slice):
        return text
    parts = str(text).split(":")
    try:
        if not 2 <= len(parts) <= 3:
            raise ValueError
        chosen = slice(*(int(part) if part.strip() else None for part in parts))
        if chosen.step == 0:
            raise ValueError
    except ValueError:
        raise InputError(
            f'spectra slice {text!r} cannot be read; expected "start:stop": for example "49:".'
        ) from None
    return chosen


def _digest(path: Path) -> str:
    """Enough of the file's hash to tell one version from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _load(path: Path, kind: str) -> Any:
    if not path.is_file():
        raise InputError(
            f"there is no file {path}; expected {kind}: check the path and the working directory."
        )
    try:
        # Pickled objects could run code, so they are never read.
        return np.load(path, allow_pickle=False)
    except Exception as error:  # any that numpy and zipfile raise
        # numpy takes any file that it does not know for a pickle and proposes to trust it.
        why = "it is not one, or holds Python objects" if "pickle" in str(error) else error
        raise InputError(
            f"{path} cannot be read ({why}); expected {kind} of plain numbers: "
            "save it again with numpy, without object arrays."
        ) from error


def _load_npy(path: Path) -> NDArray:
    data = _load(path, "an .npy file")
    if not isinstance(data, np.ndarray):
        data.close()
        raise InputError(
            f"{path} is an .npz archive; expected an .npy file with one cube: rename it to .npz "
            "if it has image, spectra and axis."
        )
    return data


def _load_npz(path: Path) -> dict[str, NDArray]:
    data = _load(path, "an .npz file")
    if isinstance(data, np.ndarray):
        raise InputError(
            f"{path} is a single array {data.shape}; expected an .npz file with image, spectra "
            "and axis: rename it to .npy and say which slices are image and spectra."
        )
    arrays = {}
    with data:
        for key in data.files:
            try:
                arrays[key] = data[key]
            except Exception as error:  # any that numpy and zipfile raise
                raise InputError(
                    f"{path}: array {key!r} cannot be read ({error}); expected plain numbers: "
                    "save it again without object arrays."
                ) from error
    return arrays
