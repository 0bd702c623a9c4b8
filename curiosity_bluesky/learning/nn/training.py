"""The loop in which every network learns: epochs, batches, cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from curiosity_bluesky.learning.protocols import EpochHook

EVERYTHING: tuple[None] = (None,)
"""The one batch of a training that shows everything at once."""


def train(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor | None], Tensor],
    epochs: int,
    *,
    model: str = "",
    on_epoch: EpochHook | None = None,
    batches: Callable[[], Iterable[Tensor | None]] = lambda: EVERYTHING,
    after_epoch: Callable[[int], bool] = lambda epoch: False,
) -> list[float]:
    """Train a network in place; it is left in evaluation mode.

    Parameters
    ----------
    network
        What is trained.
    optimiser
        Of its parameters.
    loss_of
        Returns the loss of a batch, by the network as it is.
    epochs
        Most epochs.
    model
        Its name for `on_epoch`.
    on_epoch
        Called after every epoch as ``on_epoch(model, epoch, epochs)``; what it raises ends the
        training.
    batches
        Returns the batches of an epoch: the rows of each, None for all.
    after_epoch
        Called with the number of an epoch from 0, the network in evaluation mode, before
        `on_epoch`; True ends the training.

    Returns
    -------
    list of float
        Mean loss over the batches of each epoch.
    """
    losses: list[float] = []
    for epoch in range(epochs):
        network.train()
        shown = []
        for batch in batches():
            optimiser.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            optimiser.step()
            shown.append(float(loss.detach()))
        network.eval()
        losses.append(float(np.mean(shown)))
        ended = after_epoch(epoch)
        if on_epoch is not None:
            on_epoch(model, epoch + 1, epochs)
        if ended:
            break
    return losses
