"""Image files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.io import imsave

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.archive import documents_of
from curiosity_bluesky.similarity.image_files import FileImage, channel_of, read_images
from curiosity_bluesky.similarity.index.run_images import image_keys

GREY = np.add.outer(np.arange(20), 3 * np.arange(30)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_pictures_come_as_they_were_saved(tmp_path, suffix):
    imsave(tmp_path / f"scan{suffix}", GREY, check_contrast=False)
    [image] = read_images(tmp_path / f"scan{suffix}")
    assert image.channel == "image" and image.um_per_pixel is None
    np.testing.assert_array_equal(image.values, GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    deep = GREY.astype(np.uint16) * 300 + 7
    imsave(tmp_path / f"scan{suffix}", deep, check_contrast=False)
    [image] = read_images(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(image.values, deep)


@pytest.mark.parametrize("planes", [3, 4])
def test_colours_become_grey(tmp_path, planes):
    colours = np.repeat(GREY[..., None], planes, axis=2)
    imsave(tmp_path / "scan.png", colours, check_contrast=False)
    [image] = read_images(tmp_path / "scan.png")
    np.testing.assert_allclose(image.values, GREY, atol=0.01)


def test_a_jpeg_is_nearly_what_was_saved(tmp_path):
    imsave(tmp_path / "scan.jpg", GREY, check_contrast=False)
    [image] = read_images(tmp_path / "scan.jpg")
    assert np.abs(image.values.astype(float) - GREY).max() < 20


def test_arrays_keep_their_names_and_their_size(tmp_path):
    np.save(tmp_path / "scan.npy", GREY.astype(float))
    [image] = read_images(tmp_path / "scan.npy")
    np.testing.assert_array_equal(image.values, GREY)
    phase = np.linspace(-180, 180, 600).reshape(20, 30)
    np.savez(tmp_path / "scan.npz", height=GREY, phase=phase, axis=np.arange(4),
             extent_um=np.array([2.9, 1.9]))  # fmt: skip
    images = read_images(tmp_path / "scan.npz")
    assert [image.channel for image in images] == ["height", "phase"]
    assert images[0].um_per_pixel == pytest.approx((0.1, 0.1))
    assert channel_of(images, "phase", "it") is images[1]
    with pytest.raises(InputError, match="no channel 'deflection' in it; it has height, phase"):
        channel_of(images, "deflection", "it")


@pytest.mark.parametrize(("units", "um"), [("nm", 1e-3), ("micron", 1.0), ("pm", 1e-6)])
def test_a_file_of_pycroscopy_has_its_scale_and_its_period(tmp_path, units, um):
    pyNSID = pytest.importorskip("pyNSID")
    sidpy = pytest.importorskip("sidpy")
    h5py = pytest.importorskip("h5py")
    values = np.linspace(-180, 180, 20 * 30).reshape(30, 20)
    data = sidpy.Dataset.from_array(values, title="phase")
    data.units, data.quantity, data.data_type = "deg", "phase", "image"
    for axis, (name, length) in enumerate((("x", 30), ("y", 20))):
        steps = np.arange(length) * 50.0
        data.set_dimension(
            axis, sidpy.Dimension(steps, name, units=units, dimension_type="spatial")
        )
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        pyNSID.hdf_io.write_nsid_dataset(
            data, file.create_group("Measurement_000/Channel_000"), "phase"
        )
    [found] = read_images(tmp_path / "scan.h5")
    assert found.values.shape == (20, 30)  # rows first
    assert found.um_per_pixel == pytest.approx((50 * um, 50 * um))
    if "phase" in found.channel.lower():
        assert found.image().period == 360.0


@pytest.mark.parametrize(
    ("units", "period"), [("deg.", 360.0), ("°", 360.0), ("Radians", 2 * math.pi), ("V", None)]
)
def test_a_phase_goes_round_in_a_run_as_it_does_in_a_file(units, period):
    phase = FileImage("phase", np.linspace(-3, 3, 600).reshape(20, 30), (0.1, 0.2), units)
    descriptor = next(doc for name, doc in documents_of([phase], {}) if name == "descriptor")
    [key] = image_keys("survey", descriptor)
    assert key.period == phase.image().period == period
    assert key.um_per_pixel == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scan.txt", b"1 2 3", "is no image file; expected one of .png"),
        ("scan.png", b"not a picture", "cannot be read as an image"),
        ("scan.tif", b"II*\x00", "cannot be read as an image"),
        ("scan.npy", b"\x93NUMPY", "cannot be read as numpy arrays"),
        ("scan.npz", b"PK\x03\x04", "cannot be read as numpy arrays"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_images(tmp_path / name)


def test_a_file_that_is_not_there_or_holds_no_image_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_images(tmp_path / "none.png")
    np.savez(tmp_path / "curves.npz", axis=np.arange(5.0))
    with pytest.raises(InputError, match="holds no image"):
        read_images(tmp_path / "curves.npz")
    np.save(tmp_path / "cube.npy", np.zeros((20, 30, 7)))
    with pytest.raises(InputError, match="has the shape"):
        read_images(tmp_path / "cube.npy")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((20, 30)), "1 everywhere"),
        (np.ones((1, 1)), "expected .rows, cols., at least 16"),
        (np.full((20, 30), math.nan), "100% of image is not a number"),
    ],
)
def test_an_image_that_cannot_be_described_is_said(tmp_path, values, said):
    np.save(tmp_path / "scan.npy", values)
    with pytest.raises(InputError, match=said):
        read_images(tmp_path / "scan.npy")[0].image()
