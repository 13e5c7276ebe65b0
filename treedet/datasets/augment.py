"""Random variation of training windows: geometry that keeps boxes true, and what light and cameras do.

Crowns are turned as the ellipses inscribed in their boxes: the bounding box of a turned box would grow by up to 40 %.
"""

from __future__ import annotations

import os
from functools import lru_cache

# Albumentations asks a server for its latest version on import unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
import numpy.typing as npt

VISIBLE = 0.3
"""Share of a crown that must be inside a window for it to be a target there."""


def geometry(side: int, zoom: float, *, turn: float = 25.0) -> A.Compose:
    """Return the zoom, random turn, shear and crop that ends in a square of ``side`` pixels.

    Args:
        side: Side of the result in pixels.
        zoom: Pixels of the result per pixel of the image.
        turn: Largest turn in degrees, besides quarter turns; shear is a quarter of it.
    """
    return A.Compose(
        [
            A.Affine(
                scale=(zoom, zoom),
                rotate=(-turn, turn),
                shear=(-turn / 4, turn / 4),
                keep_ratio=True,
                fit_output=True,
                rotate_method="ellipse",
                p=1.0,
            ),
            A.PadIfNeeded(side, side, position="random", p=1.0),
            A.RandomCrop(side, side, p=1.0),
            A.D4(p=1.0),
        ],
        bbox_params=A.BboxParams(
            format="pascal_voc",
            label_fields=["classes"],
            min_visibility=VISIBLE,
            clip=True,
            min_width=3,
            min_height=3,
        ),
    )


@lru_cache(maxsize=4)
def radiometry(equalised: bool, calm: bool) -> A.Compose:
    """Return random light, colour, contrast, sharpness and noise; images already equalised never are again."""
    if calm:
        return A.Compose(
            [
                A.CLAHE(clip_limit=(1.0, 4.0), p=0.0 if equalised else 0.3),
                A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=(-0.2, 0.15), p=0.5),
                A.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=15, val_shift_limit=6, p=0.3),
            ]
        )
    return A.Compose(
        [
            A.CLAHE(clip_limit=(1.0, 4.0), p=0.0 if equalised else 0.5),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=(-0.45, 0.25), p=0.7),
            A.RandomGamma(gamma_limit=(70, 140), p=0.3),
            A.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=30, val_shift_limit=12, p=0.5),
            A.RGBShift(r_shift_limit=15, g_shift_limit=12, b_shift_limit=15, p=0.3),
            A.ToGray(p=0.03),
            A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.Downscale(scale_range=(0.4, 0.8)), A.Sharpen()], p=0.3),
            A.GaussNoise(std_range=(0.01, 0.05), p=0.2),
            A.ImageCompression(quality_range=(45, 95), p=0.2),
        ]
    )


def vary_geometry(
    pixels: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    *,
    side: int,
    zoom: float,
    seed: int,
    turn: float = 25.0,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Cut a random square out of an image, zoomed, turned and sheared.

    Args:
        pixels: Uint8 ``[H, W, 3]``.
        boxes: Float32 ``[N, 4]``, pixels.
        classes: Int64 ``[N]``.
        side: Side of the square in pixels.
        zoom: Pixels of the result per pixel of the image.
        seed: Seed of the draw.
        turn: Largest turn in degrees, besides quarter turns.

    Returns:
        Uint8 ``[side, side, 3]``, and the boxes and classes of crowns with at least ``VISIBLE`` of them in sight.
    """
    compose = geometry(side, zoom, turn=turn)
    compose.set_random_seed(seed)
    limit = np.array([pixels.shape[1], pixels.shape[0]] * 2, np.float32)
    inside = np.clip(boxes, 0, limit)
    kept = (inside[:, 2:] - inside[:, :2] > 1).all(axis=1)
    result = compose(image=pixels, bboxes=inside[kept], classes=classes[kept])
    return (
        result["image"],
        np.asarray(result["bboxes"], np.float32).reshape(-1, 4),
        np.asarray(result["classes"], np.int64).reshape(-1),
    )


def vary_radiometry(
    pixels: npt.NDArray[np.uint8], *, equalised: bool, seed: int, calm: bool = False
) -> npt.NDArray[np.uint8]:
    """Return the image ``[H, W, 3]`` in another light; a little another one where ``calm``."""
    compose = radiometry(equalised, calm)
    compose.set_random_seed(seed)
    return np.asarray(compose(image=pixels)["image"], np.uint8)
