"""Layers, construction and evaluation of networks, seeded through generators of their own.

PyTorch's layers draw from one global generator. Here every network is given its own, so
that what it learns depends on its seed and its data and on nothing else that runs in the
process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def device() -> torch.device:
    """Return the GPU where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(factory: Callable[[], _Network], seed: int) -> _Network:
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
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
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
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero each value with the probability and scale the others up, in training only."""
        if self.mask is not None:
            return x * self.mask
        if not self.training or self.probability == 0:
            return x
        return x * self._draw(x.shape, self.generator).to(x.device)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        kept = torch.rand(shape, generator=generator) >= self.probability
        return kept / (1 - self.probability)


def with_dropout(
    network: nn.Module, images: Tensor, passes: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Run an evaluated network with dropout at work, `passes` times over all images.

    In each pass the same units are dropped for all images: one network is drawn from those
    that dropout stands for, and asked everything (Gal and Ghahramani, ICML 2016).
    """
    network.eval()
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    shapes: list[torch.Size] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _given, out: shapes.append(out.shape[1:]))
        for layer in layers
    ]
    in_batches(network, images[:1])
    for hook in hooks:
        hook.remove()
    try:
        for _ in range(passes):
            for layer, shape in zip(layers, shapes, strict=True):
                layer.mask = layer._draw(shape, generator).to(images.device)
            yield in_batches(network, images)
    finally:
        for layer in layers:
            layer.mask = None


class _LetsOneThrough:
    """Batch normalisation that lets a single value through, where torch's raises.

    One value a channel has no spread. It comes when a training batch is one patch of 1 x 1
    pixels, in a run with one seed or in a last batch of one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; by the statistics so far where the batch has none of its own."""
        norm: Any = self
        if norm.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return super().forward(input)  # pyright: ignore[reportAttributeAccessIssue]


class BatchNorm(_LetsOneThrough, nn.BatchNorm2d):
    """For images."""


class BatchNorm1d(_LetsOneThrough, nn.BatchNorm1d):
    """For spectra."""


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
