"""Where a raster has valid ground, as rectangles: small enough to keep for every window seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STRIP_M = 0.25
"""Height in metres of the strips that a mask with holes is described by; each is seen along one row of pixels."""


def no_ground() -> npt.NDArray[np.int32]:
    """Return no rectangles, int32 ``[0, 4]``."""
    return np.zeros((0, 4), dtype=np.int32)


def valid_rectangles(
    valid: npt.NDArray[np.bool_], *, left: int = 0, top: int = 0, gsd: float = STRIP_M
) -> npt.NDArray[np.int32]:
    """Describe a mask by rectangles that do not overlap: one for a mask without holes, else strips where it has any.

    Args:
        valid: Bool ``[H, W]``.
        left: Column of the mask on its grid.
        top: Row of the mask on its grid.
        gsd: Metres from row to row.

    Returns:
        Int32 ``[M, 4]``, ``(xmin, ymin, xmax, ymax)`` in pixels of the grid.

    >>> valid_rectangles(np.array([[1, 1, 0, 1], [1, 1, 0, 0]], bool), left=10).tolist()
    [[10, 0, 12, 2], [13, 0, 14, 1]]
    """
    height, width = valid.shape
    if valid.all():
        return np.array([[left, top, left + width, top + height]], dtype=np.int32)
    rows = max(1, int(STRIP_M / gsd + 1e-9))
    tops = np.arange(0, height, rows)
    seen = valid[np.minimum(tops + rows // 2, height - 1)]
    padded = np.zeros((len(tops), width + 2), dtype=np.int8)
    padded[:, 1:-1] = seen
    change = np.diff(padded, axis=1)
    strip, begin = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    # Runs of equal columns in strips one below the other are one rectangle.
    order = np.lexsort((strip, end, begin))
    strip, begin, end = strip[order], begin[order], end[order]
    goes_on = (np.diff(begin) == 0) & (np.diff(end) == 0) & (np.diff(strip) == 1)
    starts = np.flatnonzero(np.concatenate([[True], ~goes_on])[: len(strip)])
    stops = np.append(starts[1:], len(strip))[: len(starts)] - 1
    bottom = np.minimum(tops[strip[stops]] + rows, height)
    found = np.stack([begin[starts], tops[strip[starts]], end[starts], bottom], axis=1)
    return np.asarray(found + np.array([left, top, left, top]), dtype=np.int32)
