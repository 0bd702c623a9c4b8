"""Teach the network of the descriptor ``learned``.

``python benchmarks/train_learned.py OUT.npz --steps N``. Nothing but
generated images goes in: a stock of motifs of all 17 groups, drawn again for each step at another
place, rotation, size, contrast and noise, and random textures, which have no group. The same seed
and number of steps give the same weights, bit for bit, on one machine with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from synthetic.wallpaper import (
    GROUPS,
    random_pattern,
    random_shape,
)
from torch import Tensor
from torch.nn import functional

from curiosity_bluesky.similarity.descriptors.learned import (
    SIDE,
    WAVE,
    Network,
    wavelength,
)

TEMPERATURE = 0.1
RATE = 3e-3
RISING, FALLING = 100, 250


@dataclass(frozen=True)
class SyntheticSet:
    """Structures to draw: motifs first, then textures.

    Parameters
    ----------
    names
        Numbers of their names in `NAMES`, (structures,).
    shapes
        Gain, threshold and sign of their non-linearities, (structures, 3).
    amplitudes, vectors
        Of the motifs: complex amplitudes, (motifs, waves), and wave vectors, (motifs, waves, 2),
        radians, of a motif whose wavelength, as the descriptor takes it, is 1.
    textures
        Grain for such a wavelength, stretch and width of the ring, (textures, 3).
    """

    names: Tensor
    shapes: Tensor
    amplitudes: Tensor
    vectors: Tensor
    textures: Tensor


def synthetic_set(motifs: int, textures: int, seed: int) -> SyntheticSet:
    """Return so many motifs of each group, and so many textures.

    Parameters
    ----------
    motifs
        Of each group.
    textures
        Without a group.
    seed
        Decides everything.
    """
    rng = np.random.default_rng(seed)
    names, shapes, amplitudes, vectors = [], [], [], []
    for n, group in enumerate(GROUPS):
        for _ in range(motifs):
            shape = random_shape(rng)
            pattern = random_pattern(group, rng, shape=shape)
            length = wavelength(torch.from_numpy(shape(pattern.drawn(128))).float())
            # Waves h and -h are one real wave: half of them do.
            half = np.array([tuple(w) > (0, 0) for w in pattern.waves.tolist()])
            both = pattern.amplitudes[half] + pattern.amplitudes[::-1][half].conj()
            wave = 2 * np.pi * pattern.waves[half] @ np.linalg.inv(pattern.cell)
            names.append(n)
            shapes.append((shape.gain, shape.threshold, shape.sign))
            amplitudes.append(both * math.sqrt(2 / np.sum(np.abs(both) ** 2)))
            vectors.append(wave * length)
    ring = []
    for k in range(textures):
        draw = torch.Generator().manual_seed(seed * textures + k)
        shape = random_shape(rng)
        one = torch.tensor([[12.0, math.exp(rng.uniform(0, 1.2)), rng.uniform(0.15, 1)]])
        field = standardised(_textures(one, draw))[0]
        length = wavelength(torch.from_numpy(shape(field.numpy())).float())
        names.append(len(GROUPS))
        shapes.append((shape.gain, shape.threshold, shape.sign))
        ring.append((12 / length, *one[0, 1:].tolist()))
    return SyntheticSet(
        torch.tensor(names),
        torch.tensor(shapes),
        torch.from_numpy(np.array(amplitudes)).to(torch.complex64),
        torch.from_numpy(np.array(vectors)).float(),
        torch.tensor(ring),
    )


def _uniform(rng: torch.Generator, low: float, high: float, n: int) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _turned(vectors: Tensor, rng: torch.Generator) -> Tensor:
    """Return wave vectors, (images, n, 2), each image's turned and perhaps mirrored."""
    turn = _uniform(rng, 0, 2 * math.pi, len(vectors))
    mirror = torch.randint(2, (len(vectors),), generator=rng) * 2.0 - 1
    cos, sin = torch.cos(turn), torch.sin(turn)
    matrix = torch.stack(
        [torch.stack([cos, -sin * mirror], 1), torch.stack([sin, cos * mirror], 1)], 1
    )
    return vectors @ matrix


def _drawn(amplitudes: Tensor, vectors: Tensor, rng: torch.Generator) -> Tensor:
    """Return images of motifs, (images, 48, 48), each at a place of its own."""
    place = torch.arange(SIDE) - SIDE / 2
    start = torch.rand(vectors.shape[0], 1, 2, generator=rng) * 1000
    shift = (vectors * start).sum(2)
    x = torch.exp(1j * vectors[..., :1] * place)
    y = torch.exp(1j * (vectors[..., 1:] * place + shift[..., None]))
    return torch.einsum("bny,bnx->byx", y * amplitudes[..., None], x).real


def _textures(rings: Tensor, rng: torch.Generator) -> Tensor:
    """Return random fields as `wallpaper.random_texture` makes them, (images, 48, 48).

    That one draws what they are made of by itself; here two views have the same.
    """
    n, padded = len(rings), 2 * SIDE
    grain, stretch, width = rings[:, :, None, None].unbind(1)
    k = torch.fft.fftfreq(padded)
    grid = torch.stack(torch.meshgrid(k, k, indexing="xy"), -1).reshape(1, -1, 2)
    grid = _turned(grid.expand(n, -1, -1), rng).reshape(n, padded, padded, 2)
    k = torch.hypot(grid[..., 0] * stretch, grid[..., 1] / stretch) * grain
    filtered = torch.exp(-(((k - 1) / width) ** 2) / 2) * (k > 0)
    noise = torch.fft.fft2(torch.randn(n, padded, padded, generator=rng))
    return torch.fft.ifft2(noise * filtered).real[:, :SIDE, :SIDE]


def standardised(x: Tensor) -> Tensor:
    """Return images of mean 0 and standard deviation 1 each, (images, rows, cols)."""
    x = x - x.mean((1, 2), keepdim=True)
    return x / x.std((1, 2), keepdim=True, correction=0).clamp_min(1e-6)


def views(known: SyntheticSet, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return two views of each of n structures, (2, n, 48, 48), and the numbers of their names.

    Parameters
    ----------
    known
        What to draw.
    n
        How many structures; three tenths of them without a group.
    rng
        Where chance comes from.
    """
    plain, motifs = round(0.3 * n), len(known.vectors)
    waves = torch.randint(motifs, (n - plain,), generator=rng)
    rings = torch.randint(len(known.textures), (plain,), generator=rng)
    chosen = torch.cat([waves, motifs + rings])
    gain, threshold, sign = known.shapes[chosen, :, None, None].unbind(1)
    both = []
    for _ in range(2):
        # Wavelengths are estimated, so two views need not be resampled quite alike.
        length = WAVE * torch.exp(0.1 * torch.randn(n, 1, 1, generator=rng))
        vectors = _turned(known.vectors[waves] / length[: n - plain], rng)
        grain = torch.cat([length[n - plain :, :, 0], torch.ones(plain, 2)], 1)
        fields = _textures(known.textures[rings] * grain, rng)
        x = torch.cat([_drawn(known.amplitudes[waves], vectors, rng), standardised(fields)])
        x = sign * torch.where(gain > 0, torch.tanh(gain * (x - threshold)), x)
        both.append(_spoilt(_contrasted(x, rng), rng))
    return torch.stack(both), known.names[chosen]


def _contrasted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return images with a gamma of 0.7 to 1.4, every other one inverted: no structure changes."""
    n = len(x)
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    unit = (x - low) / (high - low).clamp_min(1e-6)
    unit = torch.where(_uniform(rng, 0, 1, n)[:, None, None] < 0.5, unit, 1 - unit)
    return standardised(unit ** torch.exp(_uniform(rng, -0.35, 0.35, n))[:, None, None])


def _spoilt(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return images with white noise, noise of the lines, and a blur, by chance each."""
    n = len(x)
    noise = 0.4 * _uniform(rng, 0, 1, n) ** 2
    lines = 0.3 * _uniform(rng, 0, 1, n) ** 4
    x = x + noise[:, None, None] * torch.randn(x.shape, generator=rng)
    x = x + lines[:, None, None] * torch.randn(n, SIDE, 1, generator=rng)
    centre = _uniform(rng, 0.5, 1, n)
    side = (1 - centre)[:, None, None] / 2
    pad = functional.pad(x[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    x = centre[:, None, None] * pad[:, 1:-1] + side * (pad[:, :-2] + pad[:, 2:])
    x = centre[:, None, None] * x[..., 1:-1] + side * (x[..., :-2] + x[..., 2:])
    return standardised(x)


def loss(network: Network, both: Tensor, names: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what naming costs, what placing costs (InfoNCE), and the share named right."""
    n = len(names)
    logits, places = network(both.reshape(2 * n, 1, SIDE, SIDE))
    twice = names.repeat(2)
    naming = functional.cross_entropy(logits, twice, label_smoothing=0.02)
    places = functional.normalize(places, dim=1)
    near = places @ places.T / TEMPERATURE
    near = near.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=near.device), -torch.inf)
    partner = (torch.arange(2 * n, device=near.device) + n) % (2 * n)
    placing = functional.cross_entropy(near, partner)
    return naming, placing, (logits.argmax(1) == twice).float().mean()


def train(
    steps: int | None,
    structures: int = 48,
    motifs: int = 300,
    seed: int = 1,
    minutes: float = math.inf,
    device: str = "cpu",
) -> tuple[Network, list[dict[str, float]]]:
    """Return a network that has learned, and how it went.

    The rate of learning rises, stays, and falls to 0 in the last 250 steps; so the clock may say
    when to begin with them, and whoever asks for as many steps as it came to gets the same.

    Parameters
    ----------
    steps
        Of the optimiser (AdamW); None: until the minutes are over, and 250 more.
    structures
        In a step; twice as many images.
    motifs
        Of each group in the stock, and twice as many textures.
    seed
        Decides everything.
    minutes
        After which the last steps begin.
    device
        Where the network is, for torch; images are drawn on the CPU.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = Network().train().to(device)
    known = synthetic_set(motifs, 2 * motifs, seed)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    history, recent, began, step = [], [], time.monotonic(), 0
    while steps is None or step < steps:
        if steps is None and time.monotonic() - began > 60 * minutes:
            steps = step + FALLING
        step += 1
        left = 1.0 if steps is None else min(1.0, (steps - step + 1) / FALLING)
        optimiser.param_groups[0]["lr"] = RATE * min(left, step / RISING)
        both, names = views(known, structures, rng)
        naming, placing, right = loss(network, both.to(device), names.to(device))
        optimiser.zero_grad()
        (naming + 0.5 * placing).backward()
        optimiser.step()
        recent.append([float(value.detach()) for value in (naming, placing, right)])
        if step % 50 == 0 or step == steps:
            mean = np.mean(recent, axis=0)
            spent = (time.monotonic() - began) / 60
            row = dict(zip(("naming", "placing", "right"), mean.round(4).tolist(), strict=True))
            history.append({"step": step, **row, "minutes": round(spent, 2)})
            print(history[-1], flush=True)
            recent = []
    return network.cpu().eval(), history


def main() -> None:
    """Train, and write weights and, beside them, how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--structures", type=int, default=48)
    parser.add_argument("--motifs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.steps is None and not arguments.minutes < math.inf:
        parser.error("give --steps or --minutes: how long it shall take")
    torch.set_num_threads(1)
    network, history = train(
        arguments.steps,
        arguments.structures,
        arguments.motifs,
        arguments.seed,
        arguments.minutes,
        arguments.device,
    )
    np.savez(arguments.out, **{k: v.numpy() for k, v in network.state_dict().items()})
    arguments.out.with_suffix(".json").write_text(json.dumps(history, indent=1))


if __name__ == "__main__":
    main()
