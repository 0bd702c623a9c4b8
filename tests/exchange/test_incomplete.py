"""Recordings that ended early: what was never measured is masked and said, or refused."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the pycroscopy extra is absent")

import h5py
from recordings import (
    write_gwyddion,
    write_igor,
    write_nanonis_grid,
    write_nanonis_scan,
    write_usid,
)

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.hdf5 import _unwritten
from curiosity_bluesky.exchange.readers import read_fields
from sim_devices import open_sample

ROWS, COLS, POINTS = 5, 4, 8
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(ROWS, COLS)).astype("f4")
CUBE = RNG.normal(size=(ROWS, COLS, POINTS)).astype("f4")
BIAS = np.linspace(-1, 1, POINTS)
POSITIONS = [("X", "nm", np.arange(COLS) * 25.0), ("Y", "nm", np.arange(ROWS) * 50.0)]
SIZE = (1e-6, 2e-6)
PIXEL = 4 * (5 + 2 * POINTS)  # bytes in a Nanonis grid of two channels


def igor(path: Path) -> None:
    write_igor(path, {"Height": IMAGE, "Phase": -IMAGE}, SIZE)


def gwyddion(path: Path) -> None:
    write_gwyddion(path, {"Height": IMAGE, "Phase": -IMAGE}, SIZE)


def nanonis_grid(path: Path) -> None:
    pytest.importorskip("SciFiReaders", reason="the pycroscopy extra is absent")
    write_nanonis_grid(path, IMAGE, {"Current (A)": CUBE, "X (V)": -CUBE}, BIAS, SIZE)


def nanonis_scan(path: Path) -> None:
    pytest.importorskip("SciFiReaders", reason="the pycroscopy extra is absent")
    write_nanonis_scan(path, {"Z": (IMAGE, -IMAGE)}, SIZE, up=False)


def usid(path: Path) -> None:
    height = IMAGE.reshape(-1, 1), POSITIONS, [("none", "a.u.", np.array([1.0]))], "m"
    cube = CUBE.reshape(ROWS * COLS, -1), POSITIONS, [("Bias", "V", BIAS)], "pm"
    write_usid(path, {"height": height, "response": cube})


def npz(path: Path, **changed: np.ndarray) -> Path:
    np.savez(path, **{"image": IMAGE, "spectra": CUBE, "axis": BIAS, **changed})
    return path


def _fields(path: Path) -> dict[str, np.ndarray]:
    return {field.name: field.read() for field in read_fields(path)}


def _sample(path: Path, **options: object) -> dict[str, np.ndarray]:
    sample = open_sample(path, **options)
    images = {f"image {k}": np.where(sample.mask, np.nan, v) for k, v in sample.images.items()}
    cubes = {k: np.where(sample.mask[..., None], np.nan, v) for k, v in sample.spectra.items()}
    return images | cubes


def _cube(path: Path) -> dict[str, np.ndarray]:
    return _sample(path, image=0, spectra="2:")


@pytest.mark.parametrize(
    ("suffix", "write", "read", "step"),
    [
        ("ibw", igor, _fields, 1),
        ("gwy", gwyddion, _fields, 1),
        ("3ds", nanonis_grid, _fields, 7),
        ("3ds", nanonis_grid, _sample, 31),
        ("sxm", nanonis_scan, _fields, 3),
        ("h5", usid, _fields, 97),
        ("npz", npz, _sample, 5),
        ("npy", lambda path: np.save(path, CUBE), _cube, 5),
    ],
)
def test_a_file_that_ends_anywhere_is_refused_or_masked(tmp_path, suffix, write, read, step):
    path, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    write(path)
    whole, content = read(path), path.read_bytes()
    refused = 0
    for end in range(0, len(content), step):
        cut.write_bytes(content[:end])
        try:
            found = read(cut)
        except InputError:
            refused += 1
            continue
        # What is there is what was measured, or NaN.
        assert found.keys() == whole.keys(), end
        for name, values in found.items():
            known = ~np.isnan(values)
            np.testing.assert_array_equal(values[known], whole[name][known], err_msg=f"at {end}")
    assert refused  # at 0 bytes at least


def test_a_grid_that_was_stopped_is_masked_and_it_is_said(tmp_path, caplog):
    nanonis_grid(tmp_path / "g.3ds")
    content = (tmp_path / "g.3ds").read_bytes()
    (tmp_path / "g.3ds").write_bytes(content[: -13 * PIXEL])
    sample = open_sample(tmp_path / "g.3ds")
    never = np.arange(ROWS * COLS).reshape(ROWS, COLS) >= 7
    np.testing.assert_array_equal(sample.mask, never)
    np.testing.assert_array_equal(sample.spectra["Current"][~never], CUBE[~never])
    assert np.isnan(sample.spectra["Current"][never]).all()
    np.testing.assert_array_equal(sample.images["topo"][~never], IMAGE[~never])
    # Patches reach over the border of what was measured: there is the nearest height, no zero.
    assert np.isin(sample.images["topo"][never], IMAGE[~never]).all()
    said = "13 of 20 pixels were never measured; masked"
    assert [record.message for record in caplog.records] == [f"g.3ds: {said}"]
    assert said in sample.source


@pytest.mark.parametrize(("lost", "masked"), [(1, 1), (PIXEL - 1, 1), (PIXEL + 4, 2)])
def test_a_pixel_that_was_cut_is_masked_whole(tmp_path, lost, masked):
    nanonis_grid(tmp_path / "g.3ds")
    content = (tmp_path / "g.3ds").read_bytes()
    (tmp_path / "g.3ds").write_bytes(content[:-lost])
    sample = open_sample(tmp_path / "g.3ds")
    assert sample.mask.ravel().nonzero()[0].tolist() == list(range(20 - masked, 20))


@pytest.mark.parametrize("kept", [0, 4, PIXEL - 4])
def test_a_grid_without_a_pixel_is_refused(tmp_path, kept):
    nanonis_grid(tmp_path / "g.3ds")
    content = (tmp_path / "g.3ds").read_bytes()
    (tmp_path / "g.3ds").write_bytes(content[: len(content) - 20 * PIXEL + kept])
    with pytest.raises(InputError, match=f"no whole pixel.*has {kept} bytes.*takes {PIXEL}"):
        open_sample(tmp_path / "g.3ds")


@pytest.mark.parametrize("blank", [0.0, np.nan])
def test_a_grid_of_full_length_may_be_blank_from_a_pixel_on(tmp_path, blank):
    nanonis_grid(tmp_path / "g.3ds")
    content = (tmp_path / "g.3ds").read_bytes()
    rest = np.full(3 * PIXEL // 4, blank, ">f4").tobytes()
    (tmp_path / "g.3ds").write_bytes(content[: -3 * PIXEL] + rest)
    assert open_sample(tmp_path / "g.3ds").mask.ravel().nonzero()[0].tolist() == [17, 18, 19]


@pytest.mark.parametrize("blank", [0.0, np.nan])
@pytest.mark.parametrize("up", [True, False])
def test_lines_that_were_not_scanned_are_not_a_number(tmp_path, up, blank, caplog):
    from curiosity_bluesky.exchange import read_images

    nanonis_scan(tmp_path / "s.sxm")  # skips without the reader
    rows = slice(3, None) if up else slice(None, 2)  # row 0 is the lowest
    scanned, there_and_back = IMAGE.copy(), np.zeros_like(IMAGE)
    scanned[rows] = blank
    there_and_back[:] = -scanned
    write_nanonis_scan(tmp_path / "s.sxm", {"Z": (scanned, there_and_back)}, SIZE, up)
    images = read_images(tmp_path / "s.sxm")
    for name, sign in (("Z", 1), ("Z backward", -1)):
        expected = sign * IMAGE.copy()
        expected[rows] = np.nan
        np.testing.assert_array_equal(images[name], expected)
    assert "s.sxm: Z: 8 of 20 pixels were never measured" in caplog.text

    nothing = np.full_like(IMAGE, blank)
    write_nanonis_scan(tmp_path / "s.sxm", {"Z": (nothing, nothing)}, SIZE, up)
    with pytest.raises(InputError, match="holds no line of its scan of 5 lines"):
        read_images(tmp_path / "s.sxm")


def _replaced(path: Path, name: str, **made: object) -> None:
    """Put another dataset in the place of one in a file, of the same attributes."""
    with h5py.File(path, "r+") as file:
        old, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        new = file.create_dataset(name, old.shape, **{"dtype": old.dtype, **made})
        if made["chunks"] is not None:
            new[: 3 * COLS] = old[: 3 * COLS]
        new.attrs.update(attributes)


RESPONSE = "Measurement_000/response_group/response"


@pytest.mark.parametrize("dtype", ["f4", "i2"])
@pytest.mark.parametrize("fill", [None, -9999])
def test_what_was_never_written_to_hdf5_is_masked(tmp_path, dtype, fill, caplog):
    usid(tmp_path / "u.h5")
    # A fill value that is stated counts wherever it is; else what has no place in the file.
    chunks = (COLS if fill is None else ROWS * COLS, POINTS)
    _replaced(tmp_path / "u.h5", RESPONSE, chunks=chunks, fillvalue=fill, dtype=dtype)
    sample = open_sample(tmp_path / "u.h5")
    assert sample.mask.nonzero()[0].tolist() == [3] * COLS + [4] * COLS
    np.testing.assert_array_equal(sample.spectra["response"][:3], CUBE[:3].astype(dtype))
    assert "u.h5: 8 of 20 pixels were never measured; masked" in caplog.text


def test_hdf5_to_which_nothing_was_written_is_refused(tmp_path):
    usid(tmp_path / "u.h5")
    _replaced(tmp_path / "u.h5", RESPONSE, chunks=None)
    with pytest.raises(InputError, match="no pixel of 20 was measured"):
        open_sample(tmp_path / "u.h5")


def test_an_attribute_states_what_is_missing(tmp_path):
    usid(tmp_path / "u.h5")
    with h5py.File(tmp_path / "u.h5", "r+") as file:
        file[RESPONSE][2] = -1.0
        file[RESPONSE].attrs["missing_value"] = np.float32(-1.0)
    assert open_sample(tmp_path / "u.h5").mask.ravel().nonzero()[0].tolist() == [2]


def test_a_damaged_hdf5_dataset_is_refused_in_words(tmp_path):
    usid(tmp_path / "u.h5")
    with h5py.File(tmp_path / "u.h5", "r+") as file:
        file[RESPONSE].attrs["Position_Indices"] = h5py.Reference()
    with pytest.raises(InputError, match="cannot be read.*copy it again"):
        open_sample(tmp_path / "u.h5")


@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_pixels_that_are_nowhere_are_refused(tmp_path, what):
    usid(tmp_path / "u.h5")
    with h5py.File(tmp_path / "u.h5", "r+") as file:
        values = file["Measurement_000/response_group/Position_Values"]
        values[:, 1] = np.where(values[:, 1] == 25.0, what, values[:, 1])  # (y, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="axis X of 'response' holds NaN or infinite"):
            open_sample(tmp_path / "u.h5")


def _with(values: np.ndarray, at: tuple, what: float) -> np.ndarray:
    changed = values.copy()
    changed[at] = what
    return changed


@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hole", [False, True])
def test_a_pixel_without_a_number_is_masked(tmp_path, hole, what, caplog):
    image = _with(IMAGE, (2, 1), what) if hole else IMAGE
    cube = _with(CUBE, (2, 1), what)
    for sample in (
        open_sample(npz(tmp_path / "a.npz", image=image, spectra=cube)),
        open_sample(_saved_cube(tmp_path / "a.npy", image, cube), image=0, spectra="1:"),
    ):
        assert np.argwhere(sample.mask).tolist() == [[2, 1]]
        (drawn,) = sample.images.values()
        expected = IMAGE.copy()
        if hole:
            assert drawn[2, 1] in (IMAGE[1, 1], IMAGE[3, 1], IMAGE[2, 0], IMAGE[2, 2])
            expected[2, 1] = drawn[2, 1]
        np.testing.assert_array_equal(drawn, expected)
    assert caplog.text.count("1 of 20 pixels were never measured; masked") == 2


@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_an_image_with_a_hole_where_there_is_a_spectrum_is_refused(tmp_path, what):
    holed = _with(_with(IMAGE, (2, 1), what), (4, 3), what)
    with pytest.raises(InputError, match=r"'image' has 1 NaN.*of 20.*fill them in"):
        open_sample(npz(tmp_path / "a.npz", image=holed, spectra=_with(CUBE, (4, 3), np.nan)))
    # Barred by the file, it needs no image.
    mask = np.isin(np.arange(20).reshape(ROWS, COLS), [9, 19])
    sample = open_sample(npz(tmp_path / "a.npz", image=holed, mask=mask))
    np.testing.assert_array_equal(sample.mask, mask)
    assert np.isfinite(sample.images["image"]).all()


def _saved_cube(path: Path, image: np.ndarray, spectra: np.ndarray) -> Path:
    np.save(path, np.concatenate([image[..., None], spectra], axis=2))
    return path


def test_a_spectrum_that_holds_some_numbers_stays(tmp_path, caplog):
    cube = _with(CUBE, (2, 1, slice(3)), np.nan)
    sample = open_sample(npz(tmp_path / "a.npz", spectra=cube))
    assert not sample.mask.any() and not caplog.records
    np.testing.assert_array_equal(sample.spectra["spectrum"], cube)


def test_the_mask_of_a_file_and_what_is_missing_add_up(tmp_path):
    mask = np.zeros((ROWS, COLS), bool)
    mask[0, 0] = mask[1, 1] = True
    cube = _with(_with(CUBE, (1, 1), np.nan), (2, 2), np.nan)
    sample = open_sample(npz(tmp_path / "a.npz", spectra=cube, mask=mask))
    assert np.argwhere(sample.mask).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert "1 of 20 pixels were never measured" in sample.source  # the file said the others
    with pytest.raises(InputError, match="mask has shape"):
        open_sample(npz(tmp_path / "a.npz", spectra=cube, mask=mask[1:]))


def test_nothing_measured_is_refused(tmp_path):
    with pytest.raises(InputError, match="no pixel of 20 was measured"):
        open_sample(npz(tmp_path / "a.npz", spectra=np.full_like(CUBE, np.nan)))


@pytest.mark.parametrize("flip", [False, True])
def test_zeros_that_nothing_explains_are_said(tmp_path, flip, caplog):
    cube = CUBE.copy()
    cube.reshape(-1, POINTS)[7:] = 0
    sample = open_sample(npz(tmp_path / "a.npz", spectra=cube[::-1] if flip else cube))
    assert "13 pixels along its border hold nothing but zeros" in caplog.text
    assert not sample.mask.any()  # they may be true
    caplog.clear()
    open_sample(npz(tmp_path / "a.npz", spectra=_with(CUBE, (2, 2), 0.0)))
    assert not caplog.records


def _igor_wave(kind: int, shape: tuple[int, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        igor(path)
        content = bytearray(path.read_bytes())
        content[64 + 16 : 64 + 18] = np.int16(kind).tobytes()
        content[64 + 12 : 64 + 16] = np.int32(np.prod(shape) if shape else 0).tobytes()
        content[64 + 68 : 64 + 84] = np.int32([*shape, 0, 0, 0, 0][:4]).tobytes()
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        (0, (4, 5), "is a wave of text"),
        (0, (), "is a wave of text"),
        (2, (), "is an empty wave"),
        (3, (4, 5), "complex numbers, 4 x 5.*real and imaginary"),
        (5, (4, 5), "complex numbers"),
        (128, (4, 5), "type 128, 4 x 5, which is not read here"),
    ],
)
def test_igor_waves_that_are_no_images_are_told_apart(tmp_path, kind, shape, said):
    _igor_wave(kind, shape)(tmp_path / "w.ibw")
    with pytest.raises(InputError, match=said):
        read_fields(tmp_path / "w.ibw")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("step", [np.inf, np.nan, 0.0])
def test_an_image_of_no_size_counts_its_pixels(tmp_path, step):
    igor(tmp_path / "w.ibw")
    content = bytearray((tmp_path / "w.ibw").read_bytes())
    content[64 + 84 : 64 + 92] = np.float64(step).tobytes()
    (tmp_path / "w.ibw").write_bytes(content)
    height = read_fields(tmp_path / "w.ibw")[0]
    assert [dim.units for dim in height.dims] == ["", ""]
    np.testing.assert_array_equal(height.read(), IMAGE)


@pytest.mark.filterwarnings("error")
def test_an_infinite_value_warns_of_nothing_in_numpy(tmp_path, caplog):
    from sim_devices import Clock, SimMicroscope

    cube = _with(_with(CUBE, (2, 1, 3), np.inf), (3, 3), np.nan)
    sample = open_sample(npz(tmp_path / "a.npz", spectra=cube))
    caplog.set_level(logging.WARNING)
    microscope = SimMicroscope(sample, Clock(np.inf), noise=0.1)
    assert np.isfinite(microscope.acquire()["spectrum"]).all()
    # What a prediction is scored against is a number or nothing.
    np.testing.assert_array_equal(sample.target(), np.where(np.isinf(cube), np.nan, cube))


class Id:
    """The identity of a dataset, with or without `chunk_iter`, that counts what it is asked."""

    def __init__(self, inner, iterates: bool) -> None:
        self._inner, self.asked = inner, 0
        self.get_num_chunks = inner.get_num_chunks
        if iterates:
            self.chunk_iter = inner.chunk_iter

    def get_chunk_info(self, i: int):
        self.asked += 1
        return self._inner.get_chunk_info(i)


class Dataset:
    """A dataset with another identity."""

    is_virtual, external = False, None

    def __init__(self, inner: h5py.Dataset, iterates: bool) -> None:
        self.shape, self.size, self.chunks = inner.shape, inner.size, inner.chunks
        self.id = Id(inner.id, iterates)


@pytest.mark.parametrize("iterates", [True, False])
def test_the_chunks_of_a_file_are_gone_through_once(tmp_path: Path, iterates: bool) -> None:
    """HDF5 looks through all chunks to find one by its number: 32,400 of them took a minute."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", (10, 7), chunks=(2, 3), dtype="f4")
        data[:4] = 1.0
        data[9, 6] = 1.0
        stands_for = Dataset(data, iterates)
        never = _unwritten(stands_for)
    expected = np.ones((10, 7), bool)
    expected[:4] = False
    expected[8:, 6:] = False
    assert never is not None and np.array_equal(never, expected)
    assert stands_for.id.asked == (0 if iterates else 7)
