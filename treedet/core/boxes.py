"""Axis-aligned boxes as arrays ``[N, 4]`` of ``(xmin, ymin, xmax, ymax)``: measures, cuts and neighbours.

Coordinates are edges, not pixel centres, and are never truncated to integers.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Boxes: TypeAlias = npt.NDArray[np.floating[Any]]

LEFT, TOP, RIGHT, BOTTOM = 1, 2, 4, 8
"""Bits that name the sides of a box, in the order of its coordinates."""
SIDES = np.array([LEFT, TOP, RIGHT, BOTTOM], dtype=np.uint8)


def area(boxes: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the area of each box; negative sides count as zero.

    >>> area(np.array([[0.0, 0.0, 2.0, 3.0]])).tolist()
    [6.0]
    """
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1])


def intersection(a: Boxes, b: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the area that ``a[i]`` and ``b[i]`` share, for arrays of equal length."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None)
    return np.asarray(shared[:, 0] * shared[:, 1])


def iou(a: Boxes, b: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return intersection over union of ``a[i]`` and ``b[i]`` (Jaccard index); 0 where both are empty.

    >>> iou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0]])).round(3).tolist()
    [0.333]
    """
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def clip(boxes: Boxes, *, width: float, height: float) -> Boxes:
    """Return the boxes cut off at ``[0, width] x [0, height]``."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)


def corners(boxes: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the corners of each box as ``[N, 4, 2]``: top left, top right, bottom right, bottom left."""
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    return np.stack([x, y], axis=-1)


def open_sides(window: tuple[float, float, float, float], *, width: float, height: float) -> int:
    """Return which sides of a window lie inside a grid of ``width`` x ``height``, as side bits.

    A crown may go on beyond such a side; at the edge of the grid it can not.

    >>> open_sides((0, 0, 100, 100), width=100, height=200) == BOTTOM
    True
    """
    xmin, ymin, xmax, ymax = window
    return (
        (LEFT if xmin > 0 else 0)
        | (TOP if ymin > 0 else 0)
        | (RIGHT if xmax < width else 0)
        | (BOTTOM if ymax < height else 0)
    )


def cut_sides(boxes: Boxes, *, width: float, height: float, sides: int, margin: float) -> npt.NDArray[np.uint8]:
    """Return which sides of each box are cut by its window, as side bits.

    Args:
        boxes: Float ``[N, 4]`` in pixels of the window.
        width: Width of the window in pixels.
        height: Height of the window in pixels.
        sides: Bits of the sides of the window beyond which there is imagery (see :func:`open_sides`).
        margin: A box within this many pixels of such a side is cut by it; regressed boxes rarely touch exactly.

    Returns:
        Uint8 ``[N]`` of side bits; 0 for a whole crown.
    """
    near = np.stack(
        [
            boxes[:, 0] <= margin,
            boxes[:, 1] <= margin,
            boxes[:, 2] >= width - margin,
            boxes[:, 3] >= height - margin,
        ],
        axis=-1,
    )
    bits = np.where(near, SIDES, np.uint8(0)).sum(axis=-1, dtype=np.uint8)
    return np.asarray(bits & np.uint8(sides), dtype=np.uint8)
