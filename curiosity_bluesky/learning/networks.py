"""The networks of the published algorithm, seeded through generators of their own.

PyTorch's layers draw from one global generator. Here every network is given its own, so
that what it learns depends on its seed and its data and on nothing else that runs in the
process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

EpochHook = Callable[[str, int, int], None]
"""Called as ``hook(model, epoch, epochs)`` after every epoch; it may raise to end it."""

FILTERS = 64
SLOPE = 0.1
"""Filters of a convolution and slope of the leaky ReLU (both workflows of the paper)."""


def device() -> torch.device:
    """Return the GPU where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a network whose weights and dropout come from `seed` alone.

    The layers are laid out on torch's "meta" device, where making them draws no random
    number, and then filled as torch fills them by default (He et al., ICCV 2015, uniform
    with a = sqrt(5); biases uniform within 1 / sqrt(fan in)).
    """
    with torch.device("meta"):
        network = factory()
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, Dropout):
            module.generator = generator
    # Rows of channels side by side are what the CPU's convolutions like best.
    return network.to(device()).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class Dropout(nn.Module):
    """Dropout that draws its mask from the network's own generator."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero each value with the probability and scale the others up, in training only."""
        if not self.training or self.probability == 0:
            return x
        draw = torch.rand(x.shape, generator=self.generator).to(x.device)
        return x * (draw >= self.probability) / (1 - self.probability)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that lets a single value through, where torch's raises.

    One value a channel has no spread. It comes when a training batch is one patch of 1 x 1
    pixels, in a run with one seed or in a last batch of one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; by the statistics so far where the batch has none of its own."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


def _convolutions(channels: int, layers: int, dropout: float = 0.0) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for layer in range(layers):
        blocks.append(nn.Conv2d(channels if layer == 0 else FILTERS, FILTERS, 3, padding=1))
        if dropout:
            blocks.append(Dropout(dropout))
        blocks += [nn.LeakyReLU(SLOPE), BatchNorm(FILTERS)]
    return nn.Sequential(*blocks)


class Autoencoder(nn.Module):
    """Patch to patch through a few numbers (second workflow of the paper).

    Parameters
    ----------
    channels, size
        Image channels and side of a patch.
    latent
        Size of the latent space.
    """

    def __init__(self, channels: int, size: int, latent: int = 3) -> None:
        super().__init__()
        self.size = size
        self.small = max(1, math.ceil(size / 4))
        self.convolutions = _convolutions(channels, 3)
        self.to_latent = nn.Linear(FILTERS * size * size, latent)
        self.from_latent = nn.Linear(latent, FILTERS * self.small**2)
        self.decoder = nn.ModuleList([_convolutions(FILTERS, 1) for _ in range(3)])
        self.out = nn.Conv2d(FILTERS, channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """``(n, channels, size, size)`` to ``(n, latent)``."""
        return self.to_latent(self.convolutions(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode, ``(n, channels, size, size)`` both ways."""
        y = self.from_latent(self.encode(x)).view(-1, FILTERS, self.small, self.small)
        # Grown in two steps to the patch's side, refined after each.
        for convolution, side in zip(
            self.decoder, (self.small, min(2 * self.small, self.size), self.size), strict=True
        ):
            y = convolution(F.interpolate(y, size=side, mode="nearest"))
        return self.out(y)


class Im2Spec(nn.Module):
    """Patch to spectrum (the paper's Im2spec; first row of its Table 1).

    Parameters
    ----------
    channels, size
        Image channels and side of a patch.
    points
        Points of the spectrum, all channels together.
    latent
        Size of the latent space.
    dropout
        Probability in the encoder.
    """

    def __init__(
        self, channels: int, size: int, points: int, latent: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.convolutions = _convolutions(channels, 3, dropout)
        self.to_latent = nn.Linear(FILTERS * size * size, latent)
        quarter = max(1, points // 4)
        widths = [latent, quarter, 2 * quarter, 3 * quarter, points, points]
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Linear(points, points))

    def encode(self, x: Tensor) -> Tensor:
        """``(n, channels, size, size)`` to ``(n, latent)``."""
        return self.to_latent(self.convolutions(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels, size, size)`` to ``(n, points)``."""
        return self.decoder(self.encode(x))


class ErrorNet(nn.Module):
    """Features to the expected error: one hidden layer with dropout.

    Parameters
    ----------
    features
        Size of the input.
    hidden
        Units of the hidden layer.
    dropout
        Probability on the hidden layer.
    """

    def __init__(self, features: int, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, features)`` to ``(n,)``."""
        return self.out(self.dropout(F.relu(self.hidden(x)))).squeeze(1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and standard deviation over all dropout masks, ``(n,)`` each.

        Between the dropped layer h and the output there is only a linear map w, so the
        limit of infinitely many dropout passes is known: the mean is that of the whole
        network, the variance :math:`\sum_j w_j^2 h_j^2\, p / (1 - p)` (Wager, Wang and
        Liang, NeurIPS 2013, section 2).
        """
        hidden = F.relu(self.hidden(x))
        p = self.dropout.probability
        variance = (hidden**2) @ (self.out.weight[0] ** 2) * p / (1 - p)
        return self.out(hidden).squeeze(1), variance.sqrt()


def in_batches(network_call: Callable[[Tensor], Tensor], images: Tensor, size: int = 64) -> Tensor:
    """Run a network over many patches in portions that fit the processor's cache."""
    with torch.inference_mode():
        return torch.cat([network_call(part) for part in images.split(size)])


def tensor(array: NDArray) -> Tensor:
    """Bring an array to where the networks are, as float32."""
    out = torch.as_tensor(array, dtype=torch.float32).to(device())
    return out.contiguous(memory_format=torch.channels_last) if out.dim() == 4 else out


def shuffled(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield all numbers below `n` once, in random order, `batch` at a time."""
    yield from torch.randperm(n, generator=generator).split(batch)
