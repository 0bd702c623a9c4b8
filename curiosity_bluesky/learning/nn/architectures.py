"""The networks of the published algorithm (both workflows of the paper)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curiosity_bluesky.learning.nn.layers import BatchNorm, BatchNorm1d, Dropout

FILTERS = 64
SLOPE = 0.1
"""Filters of a convolution and slope of the leaky ReLU, where nothing else is said."""


@dataclass(frozen=True)
class Encoder:
    """Layers of an Im2spec encoder: a row of the paper's Table 1.

    Parameters
    ----------
    name
        As in the table.
    residual
        Blocks of the ResNet module that comes first, 0 for none.
    layers, slope, dropout
        The convolution block: its layers, the slope of its leaky ReLU, its dropout.
    dilated
        Layers of the dilated block that comes last, with dilations 1, 2, 3, ...; 0 for none.
    pooled
        Halve the side before the latent layer, as the published code does after a ResNet.
    width
        Share of the ensemble's filters.
    """

    name: str
    residual: int = 0
    layers: int = 3
    slope: float = SLOPE
    dropout: float = 0.5
    dilated: int = 0
    pooled: bool = False
    width: float = 1.0

    def __str__(self) -> str:
        parts = [f"ResNet depth {self.residual}"] if self.residual else []
        if self.layers:
            parts.append(f"{self.layers} convolutions, dropout {self.dropout:g}")
        return ", ".join(parts + ([f"{self.dilated} dilated layers"] if self.dilated else []))


TABLE_1 = (
    Encoder("im2spec"),
    Encoder("im2spec_2", slope=0.2, dropout=0.1),
    Encoder("im2spec_3", slope=0.2, dropout=0.1, dilated=4),
    Encoder("im2spec_4", residual=3, slope=0.2, dropout=0.2, pooled=True),
    Encoder("im2spec_5", residual=3, layers=0, dilated=4, pooled=True, width=0.5),
)
"""The five encoders of the ensemble (first workflow, Table 1)."""


def _convolutions(
    channels: int,
    layers: int,
    dropout: float = 0.0,
    slope: float = SLOPE,
    filters: int = FILTERS,
) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for layer in range(layers):
        blocks.append(nn.Conv2d(channels if layer == 0 else filters, filters, 3, padding=1))
        if dropout:
            blocks.append(Dropout(dropout))
        blocks += [nn.LeakyReLU(slope), BatchNorm(filters)]
    return nn.Sequential(*blocks)


class _Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(channels, filters, 1)
        self.first = nn.Conv2d(filters, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.norms = nn.ModuleList([BatchNorm(filters), BatchNorm(filters)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.shortcut(x)
        y = F.leaky_relu(self.norms[0](self.first(x)), SLOPE)
        return F.leaky_relu(x + self.norms[1](self.second(y)), SLOPE)


class _Dilated(nn.Module):
    """Convolutions with growing holes, one after another; their outputs are summed."""

    def __init__(self, channels: int, filters: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels if n == 1 else filters, filters, 3, padding=n, dilation=n),
                nn.LeakyReLU(SLOPE),
                BatchNorm(filters),
            )
            for n in range(1, layers + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(())
        for layer in self.layers:
            x = layer(x)
            total = total + x
        return total


def _growing(channels: int, size: int, latent: int) -> tuple[nn.Linear, nn.ModuleList, nn.Conv2d]:
    small = max(1, math.ceil(size / 4))
    return (
        nn.Linear(latent, FILTERS * small**2),
        nn.ModuleList([_convolutions(FILTERS, 1) for _ in range(3)]),
        nn.Conv2d(FILTERS, channels, 1),
    )


def _grow(
    latent: Tensor, first: nn.Linear, convolutions: nn.ModuleList, last: nn.Conv2d, size: int
) -> Tensor:
    """Latent to patch, grown in two steps to the patch's side and refined after each."""
    small = max(1, math.ceil(size / 4))
    y = first(latent).view(-1, FILTERS, small, small)
    for convolution, side in zip(convolutions, (small, min(2 * small, size), size), strict=True):
        y = convolution(F.interpolate(y, size=side, mode="nearest"))
    return last(y)


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
        self.convolutions = _convolutions(channels, 3)
        self.to_latent = nn.Linear(FILTERS * size * size, latent)
        self.from_latent, self.decoder, self.out = _growing(channels, size, latent)

    def encode(self, x: Tensor) -> Tensor:
        """``(n, channels, size, size)`` to ``(n, latent)``."""
        return self.to_latent(self.convolutions(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode, ``(n, channels, size, size)`` both ways."""
        return _grow(self.encode(x), self.from_latent, self.decoder, self.out, self.size)


class Im2Spec(nn.Module):
    """Patch to spectrum (the paper's Im2spec).

    Parameters
    ----------
    channels, size
        Image channels and side of a patch.
    points
        Points of the spectrum, all channels together.
    latent
        Size of the latent space.
    encoder
        What the encoder is made of; default the first row of Table 1.
    filters
        Filters of each convolution.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        points: int,
        latent: int = 2,
        encoder: Encoder = TABLE_1[0],
        filters: int = FILTERS,
    ) -> None:
        super().__init__()
        filters = max(1, int(filters * encoder.width))
        blocks: list[nn.Module] = [
            _Residual(filters if n else channels, filters) for n in range(encoder.residual)
        ]
        channels = filters if encoder.residual else channels
        half = encoder.pooled and size > 1
        if encoder.layers:
            blocks.append(
                _convolutions(channels, encoder.layers, encoder.dropout, encoder.slope, filters)
            )
        if half:
            # Table 1's fourth takes the maximum, its fifth the mean.
            blocks.append(nn.MaxPool2d(2) if encoder.layers else nn.AvgPool2d(2))
        if encoder.dilated:
            blocks.append(_Dilated(filters, filters, encoder.dilated))
        self.convolutions = blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)
        side = size // 2 if half else size
        self.to_latent = nn.Linear(filters * side * side, latent)
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


class Spec2Im(nn.Module):
    """Spectrum to patch (the paper's Spec2im): 1-D convolutions in, 2-D convolutions out.

    Parameters
    ----------
    channels, size
        Image channels and side of a patch.
    points
        Points of the spectrum, all channels together.
    latent
        Size of the latent space.
    """

    def __init__(self, channels: int, size: int, points: int, latent: int = 2) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        for layer in range(4):
            layers += [
                nn.Conv1d(FILTERS if layer else 1, FILTERS, 3, padding=1),
                nn.LeakyReLU(SLOPE),
                BatchNorm1d(FILTERS),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.to_latent = nn.Linear(FILTERS * points, latent)
        self.from_latent, self.decoder, self.out = _growing(channels, size, latent)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, points)`` to ``(n, channels, size, size)``."""
        latent = self.to_latent(self.convolutions(x[:, None]).flatten(1))
        return _grow(latent, self.from_latent, self.decoder, self.out, self.size)


class ErrorNet(nn.Module):
    """Features to the expected error: one hidden layer with dropout (second workflow).

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


class ErrorDecoder(nn.Sequential):
    """Latent space to the expected error: d-32-16-8-1 (first workflow).

    Parameters
    ----------
    latent
        Size of the input.
    """

    def __init__(self, latent: int) -> None:
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise((latent, 32, 16, 8)):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        super().__init__(*layers, nn.Linear(8, 1), nn.Flatten(0))
