"""Training windows of two kinds: real ground, and crops laid out on canvases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from treedet.errors import ConfigError
from treedet.models.losses import Targets

Windows = Dataset[tuple[Tensor, Targets]]


@dataclass(frozen=True, eq=False)
class Canvases:
    """Crops on canvases, and how often they are drawn.

    Attributes:
        windows: The canvases; items by ``(epoch, index)``.
        share: Share of all training windows, above 0; 1 where there is no other ground.
    """

    windows: Windows
    share: float = 0.5


class MixedWindows(Dataset[tuple[Tensor, Targets]]):
    """Draws from one of two sets; item ``(epoch, index)`` depends on the seed and these two alone.

    Args:
        first: Windows of real ground.
        second: Canvases of crops.
        share: Share of items from the second, 0 to 1.
        seed: Seed of the choice.

    Raises:
        ConfigError: ``share`` is outside 0 to 1.
    """

    def __init__(self, first: Windows, second: Windows, *, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"the share of canvases must be from 0 to 1, found {share}")
        self._sets = (first, second)
        self._share = share
        self._seed = seed

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, Targets]:
        draw = np.random.default_rng((self._seed, *number)).random()
        return self._sets[int(draw < self._share)][number]
