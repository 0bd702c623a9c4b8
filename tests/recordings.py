"""Files of other programs, written by their packages or after their published layouts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@contextmanager
def old_numpy() -> Iterator[None]:
    """Give numpy 2 what pyUSID 0.0.12 still takes from numpy 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "product", np.prod, raising=False)
        patch.setattr(np, "complex_", np.complex128, raising=False)
        yield


def write_usid(path: Path, parts: dict[str, Any]) -> None:
    """Write main datasets with pyUSID: name to (data, position axes, spectral axes, units).

    Axes are (name, units, values), fastest first, as pyUSID wants them.
    """
    import h5py
    import pyUSID

    with old_numpy(), h5py.File(path, "w") as file:
        for name, (data, positions, spectral, units) in parts.items():
            group = file.create_group(f"Measurement_000/{name}_group")
            pyUSID.hdf_utils.write_main_dataset(
                group,
                data,
                name,
                name,
                units,
                [pyUSID.Dimension(*axis) for axis in positions],
                [pyUSID.Dimension(*axis) for axis in spectral],
            )


def write_igor(path: Path, channels: dict[str, NDArray], size_m: tuple[float, float]) -> None:
    """Write an Igor binary wave as Asylum does: float32 (x, y, channel), WaveMetrics' TN 3."""
    planes = np.stack([plane.T for plane in channels.values()], axis=2).astype("<f4")
    labels = b"".join(name.encode().ljust(32, b"\0") for name in ["", *channels])
    note = b"ScanSize: 1\r"
    head = struct.pack("<hh12i", 5, 0, 0, 0, len(note), 0, 0, 0, 0, 0, 0, 0, len(labels), 0)
    head = head.ljust(64, b"\0")
    wave = bytearray(320)
    struct.pack_into("<ih", wave, 12, planes.size, 2)
    wave[28:33] = b"film0"
    struct.pack_into("<4i", wave, 68, *planes.shape, 0)
    steps = [size / (n - 1) for size, n in zip(size_m, planes.shape[:2], strict=True)]
    struct.pack_into("<4d", wave, 84, *steps, 1.0, 1.0)
    wave[148:149] = b"m"
    wave[152:153], wave[156:157] = b"m", b"m"
    path.write_bytes(head + bytes(wave) + planes.tobytes(order="F") + note + labels)


def write_gwyddion(path: Path, channels: dict[str, NDArray], size_m: tuple[float, float]) -> None:
    """Write images with gwyfile."""
    import gwyfile.objects as gwy

    content = gwy.GwyContainer()
    for i, (name, image) in enumerate(channels.items()):
        content[f"/{i}/data/title"] = name
        content[f"/{i}/data"] = gwy.GwyDataField(
            np.asarray(image, dtype=np.float64),
            xreal=size_m[0],
            yreal=size_m[1],
            si_unit_xy=gwy.GwySIUnit(unitstr="m"),
            si_unit_z=gwy.GwySIUnit(unitstr="V"),
        )
    content.tofile(str(path))


def write_nanonis_grid(
    path: Path, topo: NDArray, cubes: dict[str, NDArray], bias: NDArray, size_m: Sequence[float]
) -> None:
    """Write a Nanonis grid: words, then for each pixel its parameters and its curves."""
    rows, cols = topo.shape
    header = "\r\n".join(
        [
            f'Grid dim="{cols} x {rows}"',
            f"Grid settings=0.0;0.0;{size_m[0]:E};{size_m[1]:E};0.0",
            'Sweep Signal="Bias (V)"',
            'Fixed parameters="Sweep Start;Sweep End"',
            'Experiment parameters="X (m);Y (m);Z (m)"',
            "# Parameters (4 byte)=5",
            f"Experiment size (bytes)={4 * len(bias) * len(cubes)}",
            f"Points={len(bias)}",
            f'Channels="{";".join(cubes)}"',
            "Experiment=Experiment",
            'Date="01.01.2026 00:00:00"',
            "User=",
            ":HEADER_END:\r\n",
        ]
    )
    first = np.zeros((rows, cols, 5))
    first[..., 0], first[..., 1], first[..., 4] = bias[0], bias[-1], topo
    pixels = np.concatenate([first, *cubes.values()], axis=2).astype(">f4")
    path.write_bytes(header.encode() + pixels.tobytes())


def write_nanonis_scan(
    path: Path, channels: dict[str, tuple[NDArray, NDArray]], size_m: Sequence[float], up: bool
) -> None:
    """Write a Nanonis scan: each channel forwards and backwards, lines as they were scanned."""
    rows, cols = next(iter(channels.values()))[0].shape
    table = ["\tChannel\tName\tUnit\tDirection\tCalibration\tOffset"]
    table += [f"\t{i}\t{name}\tm\tboth\t1.0\t0.0" for i, name in enumerate(channels)]
    lines = [
        *(":SCAN_PIXELS:", f"       {cols}       {rows}"),
        *(":SCAN_RANGE:", f"           {size_m[0]:E}           {size_m[1]:E}"),
        *(":SCAN_OFFSET:", "           0.0           0.0"),
        *(":SCAN_TIME:", "           1.0           1.0"),
        *(":SCAN_DIR:", "up" if up else "down"),
        *(":BIAS:", "            1.0"),
        *(":ACQ_TIME:", "       10.0"),
        *(":COMMENT:", "", ":DATA_INFO:", *table, ""),
        *(":SCANIT_END:", "", "", ""),
    ]
    planes = []
    for forward, backward in channels.values():
        planes += [forward, backward[:, ::-1]]
    data = np.stack([plane if up else plane[::-1] for plane in planes]).astype(">f4")
    path.write_bytes("\n".join(lines).encode() + b"\x1a\x04" + data.tobytes())
