"""What varies in a finished training window: flips and quarter turns, and what light and cameras do.

Free turns, shears and zooms are made where windows are read (``datasets/views.py``), so that pixels are resampled
as rarely as can be.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

# Albumentations asks a server for its latest version on import unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np

from treedet.datasets.views import Patch


@lru_cache(maxsize=16)
def pipeline(radiometry: str, *, equalised: bool) -> A.Compose:
    """Return flips, quarter turns and random light; images already equalised never are again.

    Args:
        radiometry: ``strong``, ``calm`` or ``none``.
        equalised: The contrast of the images was equalised already.
    """
    return A.Compose(
        [A.D4(p=1.0), *_light(radiometry, equalised=equalised)],
        # Boxes come clipped and chosen; nothing here makes one smaller.
        bbox_params=A.BboxParams(format="pascal_voc", label_fields=["classes", "rows"]),
    )


def _light(radiometry: str, *, equalised: bool, tiles: int = 8) -> list[Any]:
    if radiometry == "none":
        return []
    grid = (tiles, tiles)
    if radiometry == "calm":
        return [
            A.CLAHE(clip_limit=(1.0, 4.0), tile_grid_size=grid, p=0.0 if equalised else 0.3),
            A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=(-0.2, 0.15), p=0.5),
            A.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=15, val_shift_limit=6, p=0.3),
        ]
    return [
        A.CLAHE(clip_limit=(1.0, 4.0), tile_grid_size=grid, p=0.0 if equalised else 0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=(-0.45, 0.25), p=0.7),
        A.RandomGamma(gamma_limit=(70, 140), p=0.3),
        A.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=30, val_shift_limit=12, p=0.5),
        A.RGBShift(r_shift_limit=15, g_shift_limit=12, b_shift_limit=15, p=0.3),
        A.ToGray(p=0.03),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.Downscale(scale_range=(0.4, 0.8)), A.Sharpen()], p=0.3),
        A.GaussNoise(std_range=(0.01, 0.05), p=0.2),
        A.ImageCompression(quality_range=(45, 95), p=0.2),
    ]


@lru_cache(maxsize=4)
def light_pipeline(radiometry: str) -> A.Compose:
    """Return random light alone, for pictures of single crowns.

    Args:
        radiometry: ``strong``, ``calm`` or ``none``.
    """
    # Tiles about as large as in a window: in smaller ones equalising makes noise of a crown.
    return A.Compose(_light(radiometry, equalised=False, tiles=2))


def vary(patch: Patch, *, radiometry: str, equalised: bool, seed: int) -> Patch:
    """Return a square window flipped, turned by quarters, and in another light.

    Args:
        patch: The window.
        radiometry: ``strong``, ``calm`` or ``none``.
        equalised: The contrast of its image was equalised already.
        seed: Seed of the draw.
    """
    compose = pipeline(radiometry, equalised=equalised)
    compose.set_random_seed(seed)
    known = {} if patch.known is None else {"mask": patch.known.view(np.uint8)}
    rows = np.arange(len(patch.boxes))
    result = compose(image=patch.pixels, bboxes=patch.boxes, classes=patch.classes, rows=rows, **known)
    return Patch(
        pixels=np.asarray(result["image"], np.uint8),
        boxes=np.asarray(result["bboxes"], np.float32).reshape(-1, 4),
        classes=np.asarray(result["classes"], np.int64).reshape(-1),
        known=None if patch.known is None else np.asarray(result["mask"], np.bool_),
        valid_share=patch.valid_share,
        said=patch.said[np.asarray(result["rows"], np.int64).reshape(-1)],
    )
