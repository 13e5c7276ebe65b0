"""Features of single crowns, taken from the maps of a whole window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

CROWN_CELLS = 5
"""Cells along each side of a crown's box."""
CONTEXT_CELLS = 1
"""Rings of cells around it: a fifth of the box on every side."""
CELLS = CROWN_CELLS + 2 * CONTEXT_CELLS
SAMPLES = 2
"""Points along each side of a cell that are averaged."""


def pool_crowns(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, window: Tensor, *, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the features in and around each crown (RoIAlign, He et al. 2017, *Mask R-CNN*).

    Args:
        maps: Features ``[B, C_l, H_l, W_l]``.
        strides: Pixels from one value of a map to the next.
        boxes: Float32 ``[N, 4]`` of all windows, ``(xmin, ymin, xmax, ymax)`` in pixels of their window.
        window: Int64 ``[N]``, the window of each box.
        size: Height and width of the windows in pixels, without padding.

    Returns:
        Float32 ``[N, sum of C_l, CELLS, CELLS]``, and bool ``[N, CELLS, CELLS]`` of cells whose centre lies in the
        window: beyond it nothing is seen.
    """
    wide = around(boxes)
    rois = torch.cat([window.to(wide.dtype)[:, None], wide], dim=1)
    pooled = [
        # RoIAlign counts from pixel corners where `aligned` is set; a map's values lie at multiples of its stride
        # (see anchors.anchor_boxes), half a value further.
        roi_align(values.float(), rois + _half(stride, rois), CELLS, 1 / stride, SAMPLES, aligned=True)
        for values, stride in zip(maps, strides, strict=True)
    ]
    return torch.cat(pooled, dim=1), _inside(wide, size)


def around(boxes: Tensor) -> Tensor:
    """Return the boxes ``[N, 4]`` grown by the context on every side.

    >>> around(torch.tensor([[5.0, 5.0, 10.0, 15.0]])).tolist()
    [[4.0, 3.0, 11.0, 17.0]]
    """
    margin = (boxes[:, 2:] - boxes[:, :2]) * (CONTEXT_CELLS / CROWN_CELLS)
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1)


def crown_cells() -> Tensor:
    """Return which cells are the crown's own rather than context, bool ``[CELLS, CELLS]``."""
    own = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    own[CONTEXT_CELLS:-CONTEXT_CELLS, CONTEXT_CELLS:-CONTEXT_CELLS] = True
    return own


def _half(stride: int, rois: Tensor) -> Tensor:
    shift = torch.full((5,), stride / 2, dtype=rois.dtype, device=rois.device)
    shift[0] = 0
    return shift


def _inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    share = (torch.arange(CELLS, device=boxes.device) + 0.5) / CELLS
    sides = boxes[:, 2:] - boxes[:, :2]
    x, y = (boxes[:, axis, None] + share * sides[:, axis, None] for axis in (0, 1))
    return ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
