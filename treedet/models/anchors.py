"""Anchors in metres, boxes relative to them, and which anchor answers for which crown.

Box offsets are those of R-CNN (Girshick et al. 2014, appendix C) with unit weights; matching by overlap is that of
RetinaNet (Lin et al. 2017, section 4.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from treedet.core.spec import ModelSpec

MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest growth of an anchor, so that an untrained network can not overflow the exponential."""

BACKGROUND, IGNORED = -1, -2


def base_anchors(spec: ModelSpec, level_index: int) -> Tensor:
    """Return the anchors of one level around the origin: float32 ``[A, 4]`` in pixels, ratio first, then size."""
    sizes = torch.tensor(spec.anchor_sizes_m[level_index]) / spec.gsd
    ratios = torch.tensor(spec.anchor_ratios).sqrt()
    height = (ratios[:, None] * sizes[None, :]).reshape(-1)
    width = (sizes[None, :] / ratios[:, None]).reshape(-1)
    return torch.stack([-width, -height, width, height], dim=1) / 2


def anchor_boxes(spec: ModelSpec, height: int, width: int) -> Tensor:
    """Return all anchors of a window.

    A location's centre is at ``index * stride`` pixels, as in torchvision: that is where the receptive field of a
    ResNet's strided convolutions lies.

    Args:
        spec: Levels and anchor sizes.
        height: Height of the window in pixels, a multiple of the largest stride.
        width: Width of the window in pixels, likewise.

    Returns:
        Float32 ``[M, 4]``, pixels; levels finest first, locations row by row, anchors fastest.
    """
    boxes = []
    for index, level in enumerate(spec.levels):
        stride = 2**level
        x = torch.arange(math.ceil(width / stride)) * stride
        y = torch.arange(math.ceil(height / stride)) * stride
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack([xx, yy, xx, yy], dim=-1).reshape(-1, 1, 4).float()
        boxes.append((centres + base_anchors(spec, index)).reshape(-1, 4))
    return torch.cat(boxes)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the offsets ``[N, 4]`` that turn ``anchors[i]`` into ``boxes[i]``; inverse of :func:`decode`."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + size / 2
    wanted = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(boxes[:, :2] + wanted / 2 - centre) / size, torch.log(wanted / size)], dim=1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes ``[N, 4]`` in pixels that offsets ``[N, 4]`` mean relative to anchors ``[N, 4]``."""
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2 + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def match(
    anchors: Tensor, boxes: Tensor, ignored: Tensor, *, foreground: float = 0.5, background: float = 0.4
) -> Tensor:
    """Say which crown each anchor answers for.

    An anchor belongs to the crown it overlaps most, if by at least ``foreground`` IoU; below ``background`` it is
    background; between, it is ignored. The best anchors of each crown belong to it whatever their overlap. Anchors
    that lie mostly on a crown marked as ignored, and on no other, are ignored too.

    Args:
        anchors: Float ``[M, 4]``.
        boxes: Float ``[N, 4]`` of annotated crowns; N may be 0.
        ignored: Bool ``[N]``: crowns that are neither target nor background.
        foreground: Least IoU of a positive anchor.
        background: IoU below which an anchor is background.

    Returns:
        Int64 ``[M]``: index of a crown, ``BACKGROUND`` or ``IGNORED``.
    """
    matched = torch.full((len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
    if len(boxes) == 0:
        return matched
    overlap, shared = _overlaps(boxes, anchors)
    wanted = ~ignored
    if wanted.any():
        index = wanted.nonzero()[:, 0]
        overlap = overlap[index]
        best, which = overlap.max(dim=0)
        matched[best >= background] = IGNORED
        positive = best >= foreground
        matched[positive] = index[which[positive]]
        top = overlap.max(dim=1, keepdim=True).values
        crown, anchor = ((overlap >= top - 1e-6) & (top > 0.05)).nonzero(as_tuple=True)
        matched[anchor] = index[crown]
    if ignored.any():
        size = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
        covered = shared[ignored].amax(dim=0) > 0.5 * size
        matched[covered & (matched == BACKGROUND)] = IGNORED
    return matched


def _overlaps(boxes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and shared area of every box with every anchor, both ``[N, M]``."""
    low = torch.maximum(boxes[:, None, :2], anchors[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], anchors[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    area_b = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    area_a = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    return shared / (area_b[:, None] + area_a[None] - shared), shared
