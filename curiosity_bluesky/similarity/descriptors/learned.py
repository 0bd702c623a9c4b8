"""A descriptor that was learned: a network that was taught to name wallpaper groups.

What Nguyen et al., npj Computational Materials 7, 166 (2021), did with a ResNet-34, small enough
for a CPU. Theirs had learned its symmetries, as far as it had; in this one turns by 90 degrees and
mirrors are built in (Cohen & Welling, Group equivariant convolutional networks, ICML 2016,
equations 10 and 11), and it was taught a second thing: which two images show the same structure.
`benchmarks/train_learned.py` makes the weights, docs/learned.md says what they are worth.
"""

from __future__ import annotations

import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.symmetry import CLASSES

SIDE = 48
"""Side of the windows that the network sees, pixels."""

WAVE = 10.0
"""Wavelength that an image is resampled to, pixels."""

LONGEST = 128
"""Pixels along the longer side that the wavelength is looked for in."""

LARGEST = 1024
"""Maximum pixels along the longer side, at any wavelength."""

SPIKES = 0.005
"""Fraction of the values that is clipped at either end."""

NAMES = CLASSES
"""Classes of the network; the last is: no periodic symmetry."""

_BELLS = np.arange(-10.0, 7.5, 0.5)  # octaves: 1 nm to 128 um

_SQUARE = 8  # turns by 90 degrees and mirrors: the point group 4mm


def _orbit(array: NDArray) -> list[NDArray]:
    """Return an array in its 8 positions; the first is its own."""
    return [np.rot90(a, turns) for a in (array, array[:, ::-1]) for turns in range(4)]


def _quotients() -> NDArray[np.int64]:
    """Return the number of h^-1 g for each h (row) and g (column)."""
    probe = np.arange(9).reshape(3, 3)
    known = {tuple(a.ravel()): n for n, a in enumerate(_orbit(probe))}
    # Row h: where each element lands when h follows it; turned round, h^-1 g.
    product = np.array(
        [[known[tuple(_orbit(a)[h].ravel())] for a in _orbit(probe)] for h in range(_SQUARE)]
    )
    return np.argsort(product, axis=1)


class SquareConvolution(nn.Module):
    """Convolution whose output turns and is mirrored with its input.

    Parameters
    ----------
    fields_in
        Each of 8 channels, one a position; 0: the input is one plain image.
    fields_out
        Each of 8 channels.
    width
        Of the filters, pixels; even ones go in steps of two pixels, as symmetry wants it.
    """

    index: Tensor

    def __init__(self, fields_in: int, fields_out: int, width: int) -> None:
        super().__init__()
        channels = max(1, _SQUARE * fields_in)
        self.shape = (_SQUARE * fields_out, channels, width, width)
        # An odd filter in steps of two would see the pixels of one side, and not of the other.
        self.step, self.margin = (1, width // 2) if width % 2 else (2, width // 2 - 1)
        taps = width * width
        places = np.stack([a.ravel() for a in _orbit(np.arange(taps).reshape(width, width))])
        if fields_in:
            # (h, field, g, tap): the filter for output position h takes its part h^-1 g.
            fields = np.arange(fields_in)[None, :, None, None] * _SQUARE
            index = (fields + _quotients()[:, None, :, None]) * taps + places[:, None, None, :]
        else:
            index = places
        self.register_buffer("index", torch.from_numpy(index.reshape(-1).copy()), persistent=False)
        self.weight = nn.Parameter(
            torch.randn(fields_out, channels * taps) * (2 / (channels * taps)) ** 0.5
        )
        self.norm = nn.BatchNorm2d(fields_out)
        self.frozen: tuple[Tensor, Tensor] | None = None

    def filters(self) -> tuple[Tensor, Tensor]:
        """Return filters in all positions, (out, in, rows, cols), and offsets, for use.

        What normalises is a factor and an offset of each field then: both are in them.
        """
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        offset = (norm.bias - norm.running_mean * gain).repeat_interleave(_SQUARE)
        weight = self.weight[:, self.index].reshape(self.shape)
        return weight * gain.repeat_interleave(_SQUARE)[:, None, None, None], offset

    def freeze(self) -> None:
        """Compute the filters once: they took half of the time of an evaluation."""
        filters, offsets = (tensor.detach() for tensor in self.filters())
        # This order of memory is what a CPU is quickest with.
        self.frozen = filters.contiguous(memory_format=torch.channels_last), offsets

    def forward(self, x: Tensor) -> Tensor:
        """Return (images, 8 x fields_out, rows, cols), rectified."""
        if not self.training:
            filters, offsets = self.frozen or self.filters()
            return functional.relu(functional.conv2d(x, filters, offsets, self.step, self.margin))
        weight = self.weight[:, self.index].reshape(self.shape)
        x = functional.conv2d(x, weight, None, self.step, self.margin)
        n, channels, rows, cols = x.shape
        # The 8 positions of a field are one channel to it, or it would break the symmetry.
        x = self.norm(x.reshape(n, channels // _SQUARE, _SQUARE * rows, cols))
        return functional.relu(x.reshape(n, channels, rows, cols))


def _pooled(x: Tensor) -> Tensor:
    """Return the invariants under rotation, reflection and shift, (images, 2 x fields)."""
    positions = x.mean((2, 3)).reshape(len(x), -1, _SQUARE)
    return torch.cat([positions.mean(2), positions.amax(2)], 1)


class Network(nn.Module):
    """Network that classifies windows by group, and embeds similar windows near each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                SquareConvolution(0, 4, 8),
                SquareConvolution(4, 6, 3),
                SquareConvolution(6, 12, 3),
                SquareConvolution(12, 12, 3),
                SquareConvolution(12, 16, 3),
                SquareConvolution(16, 64, 1),
            ]
        )
        self.summary = nn.Linear(2 * (4 + 6 + 12 + 12 + 16 + 64) + 128, 128)
        self.norm = nn.BatchNorm1d(128)
        self.naming = nn.Linear(128, len(NAMES))
        self.placing = nn.Linear(128, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the names, (images, 18), and places, (images, 64).

        Parameters
        ----------
        x
            Windows of mean 0 and standard deviation 1, (images, 1, 48, 48).
        """
        found = []
        for n, layer in enumerate(self.layers):
            x = layer(x)
            if n in (1, 3):
                x = functional.max_pool2d(x, 2)
            found.append(_pooled(x))
        best = x.reshape(len(x), -1, _SQUARE, *x.shape[2:]).amax(2)
        found += [best.mean((2, 3)), best.amax((2, 3))]
        summary = functional.relu(self.norm(self.summary(torch.cat(found, 1))))
        return self.naming(summary), self.placing(summary)


def scalar(image: Image) -> NDArray[np.float32]:
    """Return values on one axis, without their mean plane, NaN filled with the mean.

    Circular values are points on a circle: of those, the coordinate along their principal axis,
    with the sign that makes the rarer values the larger ones.

    Parameters
    ----------
    image
        As `Image.checked` returns it.
    """
    values, known = image.values, np.isfinite(image.values)
    if image.period is not None:
        points = np.exp(2j * np.pi * values / image.period)
        points = np.where(known, points - points[known].mean(), 0)
        # Of a complex variable z, half the angle of the mean of z^2 is its principal axis.
        values = np.real(points * np.exp(-0.5j * np.angle(np.sum(points**2))))
        values = values * (-1.0 if np.sum(values**3) < 0 else 1.0)
    else:
        # Instruments measure in metres and amperes: nothing squared may be lost.
        values = _level(np.where(known, values, 0) / np.nanmax(np.abs(values)), known)
    values = np.where(known, values, values.mean(where=known))
    return (values - values.mean()).astype(np.float32)


def _level(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Subtract the plane of least squares; values are 0 where they are not known."""
    y, x = (np.linspace(-1, 1, n) for n in values.shape)
    rows, cols = known.sum(1), known.sum(0)
    xy = y @ known @ x
    normal = np.array(
        [
            [rows.sum(), rows @ y, cols @ x],
            [rows @ y, rows @ y**2, xy],
            [cols @ x, xy, cols @ x**2],
        ],
        float,
    )
    rows, cols = values.sum(1), values.sum(0)
    plane = np.linalg.lstsq(normal, np.array([rows.sum(), rows @ y, cols @ x]), rcond=None)[0]
    return values - plane[0] - plane[1] * y[:, None] - plane[2] * x


def _resized(values: Tensor, rows: int, cols: int) -> Tensor:
    return functional.interpolate(
        values[None, None], (rows, cols), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]


def wavelength(values: Tensor) -> float:
    """Return the dominant wavelength of an image, in pixels.

    Parameters
    ----------
    values
        Of mean 0, (rows, cols).
    """
    # All waves, not one of each pair: else an image and the same turned differ by some rounding.
    rows, cols = values.shape
    window = torch.hann_window(rows, False)[:, None] * torch.hann_window(cols, False)
    power = torch.fft.fft2(values * window).abs() ** 2
    k = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.fftfreq(cols))
    kept = (k > 1.5 / max(rows, cols)) & (k < 0.5)
    power, k = power[kept], k[kept]
    # White noise lies under all of it; a quarter of all waves at least are nothing else.
    floor = power.kthvalue(max(1, len(power) // 4)).values
    power = (power - 3 * floor).clamp_min(0)
    if float(power.sum()) <= 0:
        return WAVE
    return float(torch.exp(-torch.sum(power * torch.log(k)) / power.sum()))


def windows(image: Image) -> tuple[Tensor, float | None]:
    """Return up to four parts of an image as input of the network, and its wavelength, um.

    Pixels become square, and so large that the wavelength is 10 of them; but never is a pixel
    of the image more than two of these, nor the shorter side less than a window, nor the longer
    one more than 1024. The windows, of mean 0 and standard deviation 1 each, lie around the
    middles of the four quarters: a square turned or mirrored has the same four.

    Parameters
    ----------
    image
        As `Image.checked` returns it.
    """
    values = torch.from_numpy(scalar(image))
    steps = np.abs(np.array(image.um_per_pixel or (1.0, 1.0)))
    extent = np.array(values.shape) * steps
    pixel = max(float(steps.min()), float(extent.max()) / LONGEST)
    rows, cols = (max(1, int(n)) for n in np.rint(extent / pixel))
    small = _resized(values, rows, cols)
    low, high = np.quantile(small.numpy(), [SPIKES, 1 - SPIKES])
    if high > low:
        small, values = small.clamp(low, high), values.clamp(low, high)
    wave = wavelength(small) * pixel
    pixel = min(max(wave / WAVE, float(steps.min()) / 2), float(extent.min()) / SIDE)
    pixel = max(pixel, float(extent.max()) / LARGEST)
    rows, cols = (max(SIDE, int(n)) for n in np.rint(extent / pixel))
    large = _resized(values, rows, cols)
    starts = [max(0, round(n / 4 - SIDE / 2)) for n in (rows, cols)]
    found = [
        large[top : top + SIDE, left : left + SIDE]
        for top in dict.fromkeys((starts[0], rows - SIDE - starts[0]))
        for left in dict.fromkeys((starts[1], cols - SIDE - starts[1]))
    ]
    parts = torch.stack(found)[:, None]
    parts = parts - parts.mean((2, 3), keepdim=True)
    size = parts.std((2, 3), keepdim=True, correction=0)
    return parts / size.clamp_min(1e-6), wave if image.um_per_pixel else None


class Learned:
    """Descriptor of the embedding of an image, and the scale of its structure.

    The first 64 numbers are the mean place of its windows, of length 1: turns by 90 degrees and
    mirrors of the image leave it alone to rounding, other turns, shifts, magnification, contrast
    and noise as far as was learned. The others are the logarithm of its wavelength in um, spread
    over bells half an octave wide and of length 1 together: two scales an octave apart count as
    much as ten. They are 0 where the scale is not known, which is equally far from all.

    Parameters
    ----------
    weights
        File as `benchmarks/train_learned.py` writes it; default: those that come with this module.

    Raises
    ------
    InputError
        If the file does not hold the weights of this network.
    """

    name = "learned"
    version = 1
    size = 64 + len(_BELLS)

    def __init__(self, weights: Path | None = None) -> None:
        self.network = load(weights)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (99,)."""
        parts, wave = windows(image)
        with torch.inference_mode():
            place = functional.normalize(self.network(parts)[1], dim=1).mean(0)
        place = functional.normalize(place, dim=0).numpy()
        return np.concatenate([place, _scale(wave)]).astype(np.float32)

    def names(self, image: Image) -> dict[str, float]:
        """Return the probability of each group and of "none"; the sum is 1.

        Parameters
        ----------
        image
            As `Image.checked` returns it.
        """
        with torch.inference_mode():
            # Windows of one image are no independent witnesses: their logits are averaged.
            sure = torch.softmax(self.network(windows(image)[0])[0].mean(0), 0)
        return dict(zip(NAMES, sure.tolist(), strict=True))


def load(weights: Path | None = None) -> Network:
    """Return the network with its weights, ready for use.

    Parameters
    ----------
    weights
        File as `benchmarks/train_learned.py` writes it; default: those that come with this module.

    Raises
    ------
    InputError
        If the file does not hold the weights of this network.
    """
    file = weights or resources.files("curiosity_bluesky.similarity") / "weights" / "learned-1.npz"
    network = Network()
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            network.load_state_dict({k: torch.from_numpy(arrays[k]) for k in arrays.files})
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{file} does not hold the weights of this network: {why}") from error
    network.eval()
    for layer in network.layers:
        assert isinstance(layer, SquareConvolution)
        layer.freeze()
    return network


def _scale(wave: float | None) -> NDArray[np.float64]:
    if wave is None:
        return np.zeros(len(_BELLS))
    octaves = np.clip(np.log2(wave), _BELLS[0], _BELLS[-1])
    bells = np.exp(-(((octaves - _BELLS) / 0.5) ** 2) / 2)
    return bells / np.linalg.norm(bells)
