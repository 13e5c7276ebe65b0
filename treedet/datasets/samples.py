"""Random training windows drawn from annotated images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from treedet.datasets.augment import VISIBLE, vary_geometry, vary_radiometry
from treedet.datasets.sources import AnnotatedImage, scale_boxes
from treedet.errors import ConfigError
from treedet.models.losses import Targets


@dataclass(frozen=True)
class SampleConfig:
    """How training windows are drawn.

    Attributes:
        window_px: Side of a window in pixels.
        gsd: Metres per pixel of a window before jitter.
        zoom: Range of random zoom; teaches sizes and resolutions between the sets' own.
        mosaic: Share of windows put together from four images.
        calm_after: Number of the window after which images are varied little, so that training ends on what a user's
            imagery looks like; None for never.
    """

    window_px: int = 384
    gsd: float = 0.1
    zoom: tuple[float, float] = (0.65, 1.5)
    mosaic: float = 0.4
    calm_after: int | None = None

    def __post_init__(self) -> None:
        if self.window_px % 32 or not 0 < self.zoom[0] <= self.zoom[1] or not 0 <= self.mosaic <= 1:
            raise ConfigError(
                f"samples need a window of whole 32 px, zooms above 0 and a mosaic share of 0 to 1; found {self}"
            )


CALM_ZOOM = (0.85, 1.2)
CALM_TURN = 8.0
WILD_TURN = 25.0


@dataclass(frozen=True)
class Pool:
    """Images that are drawn alike.

    Attributes:
        images: At least one.
        weight: Share of windows drawn from this pool, relative to the others.
        equalised: Their contrast was equalised already.
        tightening: Further factor on box sizes, drawn between this and 1.
    """

    images: Sequence[AnnotatedImage]
    weight: float = 1.0
    equalised: bool = False
    tightening: float = 1.0


class CrownWindows(Dataset[tuple[Tensor, Targets]]):
    """Endless random windows: item ``i`` depends on the seed and ``i`` alone.

    Args:
        pools: Where images come from.
        config: How windows are drawn.
        seed: Seed of all draws.
    """

    def __init__(self, pools: Sequence[Pool], *, config: SampleConfig, seed: int = 0) -> None:
        if not pools or any(not pool.images for pool in pools):
            raise ConfigError("training needs at least one annotated image in each pool, found none")
        self.pools = tuple(pools)
        self.config = config
        self.seed = seed
        weights = np.array([pool.weight for pool in pools], dtype=float)
        self._share = weights / weights.sum()

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        rng = np.random.default_rng((self.seed, index))
        pool = self.pools[int(rng.choice(len(self.pools), p=self._share))]
        calm = self.config.calm_after is not None and index >= self.config.calm_after
        if not calm and rng.random() < self.config.mosaic:
            pixels, boxes, classes = self._mosaic(pool, rng)
        else:
            pixels, boxes, classes = self._crop(pool, rng, self.config.window_px, calm=calm)
        pixels = vary_radiometry(pixels, equalised=pool.equalised, seed=int(rng.integers(2**31)), calm=calm)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return tensor, Targets(torch.from_numpy(boxes), torch.from_numpy(classes))

    def _crop(
        self, pool: Pool, rng: np.random.Generator, side: int, *, calm: bool = False
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        image = pool.images[int(rng.integers(len(pool.images)))]
        return vary_geometry(
            np.ascontiguousarray(image.pixels.transpose(1, 2, 0)),
            scale_boxes(image.boxes, float(rng.uniform(pool.tightening, 1.0))),
            image.classes,
            side=side,
            zoom=image.gsd / self.config.gsd * _draw_zoom(rng, CALM_ZOOM if calm else self.config.zoom),
            turn=CALM_TURN if calm else WILD_TURN,
            seed=int(rng.integers(2**31)),
        )

    def _mosaic(
        self, pool: Pool, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Put four windows together at a random point."""
        side = self.config.window_px
        x, y = (int(v) for v in rng.integers(side // 4, 3 * side // 4, size=2))
        canvas = np.zeros((side, side, 3), np.uint8)
        boxes, classes = [], []
        for left, top, right, bottom in ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)):
            # Whole multiples of 32 px, so that few different croppers are built.
            longest = max(right - left, bottom - top)
            pixels, b, c = self._crop(pool, rng, -(-longest // 32) * 32)
            canvas[top:bottom, left:right] = pixels[: bottom - top, : right - left]
            b = b + np.array([left, top, left, top], np.float32)
            part = np.array([left, top, right, bottom], np.float32)
            clipped = np.concatenate([np.maximum(b[:, :2], part[:2]), np.minimum(b[:, 2:], part[2:])], axis=1)
            inside = np.clip(clipped[:, 2:] - clipped[:, :2], 0, None)
            kept = (inside.prod(axis=1) >= VISIBLE * (b[:, 2:] - b[:, :2]).prod(axis=1)) & (inside >= 3).all(axis=1)
            boxes.append(clipped[kept])
            classes.append(c[kept])
        return canvas, np.concatenate(boxes), np.concatenate(classes)


def _draw_zoom(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """Draw a zoom, as often below 1 as above."""
    low, high = span
    return float(rng.uniform(low, min(1.0, high)) if rng.random() < 0.5 else rng.uniform(max(1.0, low), high))


def collate(batch: list[tuple[Tensor, Targets]]) -> tuple[Tensor, list[Targets]]:
    """Stack windows; targets stay a list, since each window has its own number of crowns."""
    return torch.stack([pixels for pixels, _ in batch]), [targets for _, targets in batch]
