"""Random training windows drawn from annotated ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from treedet.datasets.augment import vary
from treedet.datasets.coarse import as_coarse
from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.views import Floats, Patch, View, look, turned
from treedet.errors import ConfigError
from treedet.models.losses import Targets

CALM_ZOOM = (0.85, 1.2)
CALM_TURN = 8.0
LEAST_GROUND = 0.1
"""Least chance of a ground to be drawn, relative to that of one of average size."""
_CANDIDATES = 12  # places tried for one without crowns
_TRIES = 4  # windows looked at for one with data
_LEAST_VALID = 0.25


@dataclass(frozen=True)
class Pool:
    """Grounds that are drawn alike.

    Attributes:
        grounds: At least one.
        weight: Share of windows drawn from this pool, relative to the others.
        mosaic: Share of windows put together from four; None for that of the settings. 1 where grounds are smaller
            than half a window, which would be mostly empty otherwise, to the end of training.
    """

    grounds: Sequence[Ground]
    weight: float = 1.0
    mosaic: float | None = None

    @cached_property
    def chances(self) -> npt.NDArray[np.float64]:
        """Probability of each ground ``[G]``: by its hectares, but none is left out for being small."""
        hectares = np.array([ground.hectares for ground in self.grounds])
        weights = np.maximum(hectares, LEAST_GROUND * hectares.mean())
        return np.asarray(weights / weights.sum(), dtype=np.float64)


class CrownWindows(Dataset[tuple[Tensor, Targets]]):
    """Endless random windows: item ``(epoch, index)`` depends on the seed and these two alone.

    Items are ``(uint8 [3, S, S], targets)``.

    Args:
        pools: What windows are drawn from.
        config: How.
        seed: Seed of all draws.

    Raises:
        ConfigError: A pool holds no ground, or no weight is positive.
    """

    def __init__(self, pools: Sequence[Pool], *, config: SampleConfig, seed: int = 0) -> None:
        if not pools or any(not pool.grounds for pool in pools):
            raise ConfigError("training needs at least one annotated raster in each pool, found none")
        weights = np.array([pool.weight for pool in pools], dtype=float)
        if (weights < 0).any() or not weights.sum() > 0:
            raise ConfigError(f"weights of pools must not be negative, and one must be positive; found {weights}")
        self.pools = tuple(pools)
        self.config = config
        self.seed = seed
        self._share = weights / weights.sum()

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, Targets]:
        epoch, index = number
        config = self.config
        calm = config.calm_from is not None and epoch >= config.calm_from
        draw = _Draw(np.random.default_rng((self.seed, epoch, index)), config, calm=calm)
        pool = self.pools[int(draw.rng.choice(len(self.pools), p=self._share))]
        empty = bool(draw.rng.random() < config.empty)
        share = config.mosaic if pool.mosaic is None else pool.mosaic
        mosaic = not (empty or (calm and pool.mosaic is None)) and bool(draw.rng.random() < share)
        patch, equalised = draw.mosaic(pool) if mosaic else draw.window(pool, empty=empty)
        # Drawn before the resolution, so that windows are the same with and without it but for their detail.
        light = int(draw.rng.integers(2**31))
        patch = vary(
            draw.coarsened(patch),
            radiometry="calm" if calm and config.radiometry == "strong" else config.radiometry,
            equalised=equalised,
            seed=light,
        )
        pixels = torch.from_numpy(np.ascontiguousarray(patch.pixels.transpose(2, 0, 1)))
        known = None if patch.known is None else torch.from_numpy(np.ascontiguousarray(patch.known))
        boxes, classes, said = (torch.from_numpy(values) for values in (patch.boxes, patch.classes, patch.said))
        return pixels, Targets(boxes, classes, known, said)


class _Draw:
    """Draws one window.

    Args:
        rng: Source of every choice.
        config: How windows are drawn.
        calm: Vary it little.
    """

    def __init__(self, rng: np.random.Generator, config: SampleConfig, *, calm: bool) -> None:
        self.rng = rng
        self.side = config.window_px
        self.gsd = config.gsd
        self.resolutions = config.resolutions
        self.coarse = config.coarse
        self.turn = min(CALM_TURN, config.turn) if calm else config.turn
        low, high = config.zoom
        if calm:
            # Ends of the calm range that the range asked for does not reach are drawn in to it.
            low, high = (float(np.clip(end, low, high)) for end in CALM_ZOOM)
        self.zoom = (low, high)

    def window(self, pool: Pool, *, empty: bool) -> tuple[Patch, bool]:
        """Return one window, and whether its contrast was equalised already."""
        ground = self._ground(pool)
        return self._look(ground, self.side, self.side, empty=empty), ground.equalised

    def mosaic(self, pool: Pool) -> tuple[Patch, bool]:
        """Put four windows together at a random point."""
        side = self.side
        x, y = (int(v) for v in self.rng.integers(side // 4, 3 * side // 4, size=2))
        pixels = np.empty((side, side, 3), np.uint8)
        known = np.ones((side, side), np.bool_)
        boxes, classes, said, equalised = [], [], [], False
        for left, top, right, bottom in ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)):
            ground = self._ground(pool)
            equalised = equalised or ground.equalised
            part = self._look(ground, bottom - top, right - left, empty=False)
            pixels[top:bottom, left:right] = part.pixels
            if part.known is not None:
                known[top:bottom, left:right] = part.known
            boxes.append(part.boxes + np.array([left, top, left, top], np.float32))
            classes.append(part.classes)
            said.append(part.said)
        unknown = None if known.all() else known
        rows = np.concatenate(boxes), np.concatenate(classes)
        return Patch(pixels, *rows, unknown, 1.0, np.concatenate(said)), equalised

    def coarsened(self, patch: Patch) -> Patch:
        """Give a window the resolution of other imagery, where that is asked for."""
        if self.resolutions is None or (self.coarse < 1 and self.rng.random() >= self.coarse):
            return patch
        low, high = np.log(self.resolutions)
        # Relative to the windows' GSD before zoom: what counts for the network is detail per pixel it sees.
        factor = float(np.exp(self.rng.uniform(low, high))) / self.gsd
        return replace(patch, pixels=as_coarse(patch.pixels, factor))

    def _ground(self, pool: Pool) -> Ground:
        return pool.grounds[int(self.rng.choice(len(pool.grounds), p=pool.chances))]

    def _look(self, ground: Ground, height: int, width: int, *, empty: bool) -> Patch:
        for _ in range(_TRIES):
            grid = ground.pixels.grid.at_gsd(self.gsd / self._zoom())
            matrix = turned(self.turn, self.rng)
            view = self._aim(ground, View(grid, np.zeros(2), matrix, height, width), empty=empty)
            patch = look(ground, view, tightening=float(self.rng.uniform(*ground.tightening)))
            if patch.valid_share >= _LEAST_VALID:
                break
        return patch

    def _zoom(self) -> float:
        """Draw a zoom, as often below 1 as above."""
        low, high = self.zoom
        if low >= 1 or (high > 1 and self.rng.random() < 0.5):
            return float(self.rng.uniform(max(1.0, low), high))
        return float(self.rng.uniform(low, min(1.0, high)))

    def _aim(self, ground: Ground, view: View, *, empty: bool) -> View:
        """Move a view to a random place."""
        scale = view.scale_of(ground.pixels.grid)
        if empty or not len(ground.targets):
            return self._aim_at_none(ground, view, scale)
        crown = ground.boxes[ground.targets[int(self.rng.integers(len(ground.targets)))]] * np.tile(scale, 2)
        centre = (crown[:2] + crown[2:]) / 2
        margin = np.minimum((crown[2:] - crown[:2]) / 2, view.middle)
        wanted = self.rng.uniform(margin, 2 * view.middle - margin)
        free = centre - np.linalg.inv(view.matrix) @ (wanted - view.middle)
        moved = _placed(view, _within(free[None], ground, view, scale)[0])
        seen = moved.to_window(centre)
        # On a small raster, the window that shows most of it can miss a crown in its corner.
        return moved if ((seen > 0) & (seen < 2 * view.middle)).all() else _placed(view, free)

    def _aim_at_none(self, ground: Ground, view: View, scale: Floats) -> View:
        centres = _within(ground.places(self.rng, _CANDIDATES) * scale, ground, view, scale)
        if len(ground.boxes):
            around = np.tile(view.bounds, (_CANDIDATES, 1)) + np.tile(centres, 2)
            met = np.bincount(ground.near(around / np.tile(scale, 2))[0], minlength=_CANDIDATES)
            return _placed(view, centres[int(np.argmin(met))])
        return _placed(view, centres[0])


def _within(centres: Floats, ground: Ground, view: View, scale: Floats) -> Floats:
    """Move centres ``[N, 2]`` so that windows show as much as they can of the ground that is known."""
    x0, y0, x1, y1 = np.array(ground.extent) * np.tile(scale, 2)
    ends = np.stack([np.array([x0, y0]) + view.middle, np.array([x1, y1]) - view.middle])
    # Ground smaller than the window may lie anywhere in it.
    return np.clip(centres, ends.min(axis=0), ends.max(axis=0))


def _placed(view: View, centre: Floats) -> View:
    """Return the view about a centre; an upright one falls on whole pixels, so that none is resampled."""
    if view.upright:
        centre = np.rint(centre - view.middle) + view.middle
    return View(view.grid, centre, view.matrix, view.height, view.width)


def collate(batch: list[tuple[Tensor, Targets]]) -> tuple[Tensor, list[Targets]]:
    """Stack windows; targets stay a list, since each window has its own number of crowns."""
    return torch.stack([pixels for pixels, _ in batch]), [targets for _, targets in batch]
