"""A moving average of a trunk's weights, which generalises better than the weights of any one step."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from treedet.models.trunk import Trunk

RAMP = 10.0
"""Steps over which the average lets go of where it started."""


class AveragedTrunk(nn.Module):
    """Exponential moving average of a trunk, running statistics of its normalisation included.

    A module, so that checkpoints hold it, and it moves to devices, with the module it is part of. It never trains.

    Args:
        trunk: Where the average starts; copied.
        decay: Share of the average that is kept at each update, once it has settled; 0 follows the trunk exactly.
    """

    updates: Tensor

    def __init__(self, trunk: Trunk, *, decay: float) -> None:
        super().__init__()
        self.trunk: Trunk = copy.deepcopy(trunk).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.train(False)

    def train(self, mode: bool = True) -> AveragedTrunk:
        """Stay in evaluation mode whatever is asked, since the average is never trained."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def update(self, trunk: Trunk) -> None:
        """Move the average towards a trunk of the same architecture."""
        done = float(self.updates)
        kept = min(self.decay, (1 + done) / (RAMP + done))
        pairs = list(zip(_values(self.trunk), _values(trunk), strict=True))
        floating = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floating], [now for _, now in floating], 1 - kept)
        for mean, now in pairs:
            if not mean.is_floating_point():
                mean.copy_(now)
        self.updates += 1


def _values(trunk: Trunk) -> Iterator[Tensor]:
    yield from trunk.parameters()
    yield from trunk.buffers()
