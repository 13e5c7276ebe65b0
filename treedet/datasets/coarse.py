"""Fine pixels made to look like coarser imagery, as a model sees it that reads such imagery at its own GSD."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def as_coarse(pixels: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """Average areas of pixels, and interpolate them back to as many pixels as there were.

    This is what the reader makes of a raster that is ``factor`` times coarser: area means, then cubic interpolation.

    Args:
        pixels: ``[H, W, C]``.
        factor: Width of a coarse pixel in fine ones; up to 1 nothing changes.

    Returns:
        ``[H, W, C]``.

    >>> stripes = np.tile(np.array([[[0], [200]]], np.uint8), (8, 4, 3))
    >>> as_coarse(stripes, 2.0).min(), as_coarse(stripes, 2.0).max()
    (np.uint8(100), np.uint8(100))
    """
    if factor <= 1:
        return pixels
    height, width = pixels.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    coarse = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
