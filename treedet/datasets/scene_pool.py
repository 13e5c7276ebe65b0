"""Rendered scenes to draw training windows from, beside annotated rasters."""

from __future__ import annotations

import numpy as np

from treedet.datasets.ground import Ground
from treedet.datasets.samples import Pool
from treedet.datasets.scenes import random_config, render_scene
from treedet.rasters.decoded import DecodedRaster

SIDE_PX = 416


def scene_pool(count: int, *, gsd: float, weight: float, seed: int, label: int = 0) -> Pool:
    """Render scenes of random kinds.

    Args:
        count: How many, at least one; each is 416 px wide and high.
        gsd: Metres per pixel.
        weight: Share of training windows drawn from them, relative to other pools.
        seed: Seed of what they show.
        label: Class index of their crowns.
    """
    rng = np.random.default_rng(seed)
    grounds = []
    for index in range(count):
        config = random_config(rng, gsd=gsd, width_px=SIDE_PX, height_px=SIDE_PX)
        scene = render_scene(config, seed=int(rng.integers(2**31)))
        grounds.append(
            Ground(
                name=f"scene-{index}",
                pixels=DecodedRaster.of_pixels(scene.pixels, gsd=gsd),
                boxes=scene.boxes.astype(np.float64),
                classes=np.full(len(scene.boxes), label, np.int64),
            )
        )
    return Pool(grounds, weight=weight)
