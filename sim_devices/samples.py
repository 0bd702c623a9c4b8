"""Samples by name or by file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from numpy.lib import format as npy_format

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.readers import SUFFIXES
from curiosity_bluesky.exchange.recorded import RecordedSample, mexpsimu_extent, mexpsimu_recordings
from curiosity_bluesky.exchange.sample import Sample
from curiosity_bluesky.exchange.sample_from_file import sample_from_file
from curiosity_bluesky.utils.wording import did_you_mean
from sim_devices.synthetic import PIXEL_UM, SyntheticSample


@dataclass(frozen=True)
class SampleInfo:
    """What can be said of a sample without loading it.

    Parameters
    ----------
    name
        What `open_sample` takes.
    shape
        (rows, cols).
    points
        Points of a spectrum, all channels together.
    extent_um
        (width, height), um.
    source
        Where it comes from, in words.
    """

    name: str
    shape: tuple[int, int]
    points: int
    extent_um: tuple[float, float]
    source: str


def list_samples() -> list[SampleInfo]:
    """All samples that `open_sample` knows by name; those of mexpsimu if it is installed."""
    infos = [
        SampleInfo(
            "synthetic",
            (64, 64),
            64,
            (63 * PIXEL_UM, 63 * PIXEL_UM),
            "generated, seeded: a ferroelectric film with known truth",
        )
    ]
    for name, path in sorted((mexpsimu_recordings() or {}).items()):
        rows, cols, points = _shape_in_npz(path, "spectra")
        extent, note = mexpsimu_extent(name)
        infos.append(
            SampleInfo(name, (rows, cols), points, extent, f"recorded, package mexpsimu{note}")
        )
    return infos


def open_sample(
    name_or_path: str | Path,
    *,
    image: int | str | None = None,
    spectra: slice | str | None = None,
    seed: int | None = None,
) -> Sample:
    """Open a sample by its name or from a file.

    Parameters
    ----------
    name_or_path
        A name from `list_samples`, or a path that ends in ``.npz`` (its layout:
        `RecordedSample.from_npz`), in ``.npy`` (a cube (rows, cols, slices)), or as the
        files of other programs do (``.h5``, ``.ibw``, ``.3ds``, ...; `read_fields`).
    image, spectra
        For an ``.npy`` file: index of the image slice, and the slices that are the
        spectrum, such as "49:". For files of other programs the names of the channels, if
        they cannot be found without (`sample_from_file`). For others nothing.
    seed
        Seed of the synthetic sample (default 0), and only there.

    Raises
    ------
    InputError
        If there is no such sample, the file cannot be used, or an option does not belong
        to this kind of sample.
    """
    text = str(name_or_path)
    suffix = Path(text).suffix.lower()
    if suffix not in (".npy", *SUFFIXES) and (image is not None or spectra is not None):
        raise InputError(
            f"image and spectra slices were given for {text!r}; expected them for .npy files only, "
            f"and names of channels for {', '.join(SUFFIXES)}: leave them out."
        )
    if text != "synthetic" and seed is not None:
        raise InputError(
            f"a sample seed was given for {text!r}; expected one for 'synthetic' only: "
            "leave it out, a recording is always the same."
        )
    if suffix == ".npz":
        return RecordedSample.from_npz(text)
    if suffix in SUFFIXES:
        for given, what in ((image, "image"), (spectra, "spectra")):
            if given is not None and not isinstance(given, str):
                raise InputError(
                    f"{what} is {given!r} for {text!r}; expected the names of its channels: for "
                    'example "height,phase".'
                )
        return sample_from_file(text, cast("str | None", image), cast("str | None", spectra))
    if suffix == ".npy":
        image = int(image) if isinstance(image, str) and image.strip("+-").isdecimal() else image
        if isinstance(image, str):
            raise InputError(
                f"image is {image!r} for {text!r}; expected the number of a slice, such as 25."
            )
        if image is None or spectra is None:
            raise InputError(
                f"{text!r} is a cube of slices; expected the image slice and the spectra slices "
                "too: for example --image-slice 25 --spectra-slice 49:"
            )
        return RecordedSample.from_npy(text, image, spectra)
    if text == "synthetic":
        return SyntheticSample(seed=0 if seed is None else seed)
    recordings = mexpsimu_recordings()
    if recordings and text in recordings:
        return RecordedSample.from_mexpsimu(text)
    names = ["synthetic", *sorted(recordings or {})]
    guess = did_you_mean(text, names)
    more = (
        ""
        if recordings is not None
        else ' For recorded ones: pip install "curiosity-bluesky[recordings]".'
    )
    raise InputError(
        f"there is no sample {text!r}; expected one of {names} or a path ending in .npz, .npy, "
        f"{', '.join(SUFFIXES)}.{guess}{more}"
    )


def _shape_in_npz(path: Path, key: str) -> tuple[int, ...]:
    """Read the shape of one array in an .npz file, from its header alone."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = npy_format.read_magic(file)
        read = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        return read(file)[0]
