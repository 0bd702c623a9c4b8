"""An archive with files that end early, and names that a store cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
from recordings import write_nanonis_grid, write_nanonis_scan

from curiosity_bluesky import connect
from curiosity_bluesky.similarity.archive import documents_of, import_files
from curiosity_bluesky.similarity.image_files import FileImage, read_images

SHAPE = (20, 18)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=SHAPE).astype("f4")
SIZE = (1e-6, 2e-6)


def test_what_was_never_measured_is_not_imported_as_zeros(tmp_path):
    pytest.importorskip("SciFiReaders", reason="the pycroscopy extra is absent")
    stopped, cut, grid = (tmp_path / name for name in ("stopped.sxm", "cut.npz", "grid.3ds"))
    lines = IMAGE.copy()
    lines[12:] = 0
    write_nanonis_scan(stopped, {"Z": (lines, lines)}, SIZE, up=True)
    np.savez(cut, height=IMAGE)
    cut.write_bytes(cut.read_bytes()[:-100])
    # A third of a grid is too little to be described; it is refused, not filled up with zeros.
    cube = RNG.normal(size=(*SHAPE, 3)).astype("f4")
    write_nanonis_grid(grid, IMAGE, {"Current (A)": cube}, np.linspace(-1, 1, 3), SIZE)
    pixel = 4 * (5 + 3)
    grid.write_bytes(grid.read_bytes()[: -240 * pixel])
    with connect(tmp_path / "runs") as catalog:
        scan, npz, topo = import_files(catalog, [stopped, cut, grid])
        documents = list(catalog.documents(scan.uid))
    assert scan.status == "imported"
    assert "Z: 144 of 360 pixels were never measured; masked (NaN)" in scan.detail
    (event,) = [doc for name, doc in documents if name == "event"]
    expected = IMAGE.copy()
    expected[12:] = np.nan
    np.testing.assert_array_equal(event["data"]["file_Z"], expected)
    assert npz.status == "refused" and "cut.npz cannot be read as numpy arrays" in npz.detail
    assert topo.status == "refused" and "67% of topo is not a number" in topo.detail


def test_rows_of_zeros_are_said(tmp_path):
    from curiosity_bluesky.exchange.missing import not_measured

    lines = IMAGE.copy()
    lines[:3] = 0
    np.save(tmp_path / "scan.npy", lines)
    [image] = read_images(tmp_path / "scan.npy")
    assert not_measured(image.values).startswith("3 of 20 rows hold nothing but zeros")
    assert not_measured(IMAGE) == ""
    assert not_measured(np.zeros(SHAPE, "u1")) == ""


@pytest.mark.parametrize("suffix", ["npy", "npz", "png", "tif", "jpg", "bmp"])
def test_an_image_that_ends_anywhere_is_refused_or_whole(tmp_path, suffix):
    from skimage.io import imsave

    from curiosity_bluesky.errors import InputError

    path, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    grey = np.add.outer(np.arange(20), 3 * np.arange(18)).astype(np.uint8)
    if suffix == "npy":
        np.save(path, grey)
    elif suffix == "npz":
        np.savez(path, grey=grey)
    else:
        imsave(path, grey, check_contrast=False)
    [whole] = read_images(path)
    content = path.read_bytes()
    for end in range(0, len(content), 11):
        cut.write_bytes(content[:end])
        try:
            [image] = read_images(cut)
        except InputError:
            continue
        np.testing.assert_array_equal(image.values, whole.values)


def test_channels_become_data_keys_of_their_own():
    names = ["Z", "z", "Z backward", "dI/dV", "dI.dV", "µ", "", "Height [m]"]
    images = [FileImage(name, IMAGE + i) for i, name in enumerate(names)]
    docs = dict(documents_of(images, {}))
    keys = list(docs["event"]["data"])
    assert keys == [
        *("file_Z", "file_z_", "file_Z_backward", "file_dI_dV", "file_dI_dV_"),
        *("file_u", "file_image", "file_Height__m_"),
    ]
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(docs["event"]["data"][key], IMAGE + i)
        assert docs["descriptor"]["data_keys"][key]["source"].endswith(f"#{names[i]}")
