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
RUN = 24
"""Consecutive anchors whose common bounds are compared with a crown first."""


def base_anchors(spec: ModelSpec, level_index: int) -> Tensor:
    """Return the anchors of one level around the origin: float32 ``[A, 4]`` in pixels, ratio first, then size."""
    sizes = torch.tensor(spec.anchor_sizes_m[level_index]) / spec.gsd
    if spec.anchor_rounding:
        # Metres over metres per pixel is seldom whole; half of 101 px must not be rounded as half of 101.00001 px.
        sizes = (sizes * 1000).round() / 1000
    ratios = torch.tensor(spec.anchor_ratios).sqrt()
    height = (ratios[:, None] * sizes[None, :]).reshape(-1)
    width = (sizes[None, :] / ratios[:, None]).reshape(-1)
    anchors = torch.stack([-width, -height, width, height], dim=1) / 2
    return anchors.round() if spec.anchor_rounding else anchors


def anchor_boxes(spec: ModelSpec, height: int, width: int, *, spread: bool = False) -> Tensor:
    """Return all anchors of a window.

    A location's centre is at ``index * stride`` pixels, as in torchvision: that is where the receptive field of a
    ResNet's strided convolutions lies. In windows that are no multiple of the largest stride torchvision spreads the
    locations of a level over the window instead, in whole pixels rounded down: of 13 in 800 px each is 61 px from the
    next, though the features are 64 px apart.

    Args:
        spec: Levels and anchor sizes.
        height: Height of the window in pixels, a multiple of the largest stride unless ``spread``.
        width: Width of the window in pixels, likewise.
        spread: Place the locations as torchvision does.

    Returns:
        Float32 ``[M, 4]``, pixels; levels finest first, locations row by row, anchors fastest.
    """
    boxes = []
    for index, level in enumerate(spec.levels):
        stride = 2**level
        columns, rows = math.ceil(width / stride), math.ceil(height / stride)
        x = torch.arange(columns) * (width // columns if spread else stride)
        y = torch.arange(rows) * (height // rows if spread else stride)
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
    """Say which crown each anchor of one window answers for; see :func:`match_windows`.

    Args:
        anchors: Float ``[M, 4]``.
        boxes: Float ``[N, 4]`` of annotated crowns; N may be 0.
        ignored: Bool ``[N]``: crowns that are neither target nor background.
        foreground: Least IoU of a positive anchor.
        background: IoU below which an anchor is background.

    Returns:
        Int64 ``[M]``: index of a crown, ``BACKGROUND`` or ``IGNORED``.
    """
    window = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return match_windows(anchors, boxes, ignored, window, windows=1, foreground=foreground, background=background)[0]


def match_windows(
    anchors: Tensor,
    boxes: Tensor,
    ignored: Tensor,
    window: Tensor,
    *,
    windows: int,
    foreground: float = 0.5,
    background: float = 0.4,
) -> Tensor:
    """Say which crown each anchor of each window answers for.

    An anchor belongs to the crown it overlaps most, if by at least ``foreground`` IoU; below ``background`` it is
    background; between, it is ignored. The best anchors of each crown belong to it whatever their overlap. Anchors
    that lie mostly on a crown marked as ignored, and on no other, are ignored too. Of equal crowns the first wins.

    Args:
        anchors: Float ``[M, 4]``, the same for all windows.
        boxes: Float ``[N, 4]``, the crowns of all windows one after the other; N may be 0.
        ignored: Bool ``[N]``: crowns that are neither target nor background.
        window: Int64 ``[N]``: the window each crown lies in.
        windows: Number of windows B.
        foreground: Least IoU of a positive anchor.
        background: IoU below which an anchor is background, above 0.

    Returns:
        Int64 ``[B, M]``: index into ``boxes``, ``BACKGROUND`` or ``IGNORED``.
    """
    places = windows * len(anchors)
    matched = torch.full((places,), BACKGROUND, dtype=torch.int64, device=anchors.device)
    crown, anchor, shared, overlap = _overlapping(boxes, anchors)
    place = window[crown] * len(anchors) + anchor
    wanted = ~ignored[crown]
    c, p, iou = crown[wanted], place[wanted], overlap[wanted]

    best = overlap.new_zeros(places).scatter_reduce_(0, p, iou, "amax")
    matched[best >= background] = IGNORED
    holds = (iou >= foreground) & (iou >= best[p])
    first = torch.full_like(matched, len(boxes)).scatter_reduce_(0, p[holds], c[holds], "amin")
    matched = torch.where(first < len(boxes), first, matched)

    top = overlap.new_zeros(len(boxes)).scatter_reduce_(0, c, iou, "amax")[c]
    holds = (iou >= top - 1e-6) & (top > 0.05)
    last = torch.full_like(matched, -1).scatter_reduce_(0, p[holds], c[holds], "amax")
    matched = torch.where(last >= 0, last, matched)

    size = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    covered = place[~wanted & (shared > 0.5 * size[anchor])]
    matched[covered[matched[covered] == BACKGROUND]] = IGNORED
    return matched.view(windows, len(anchors))


def _overlapping(boxes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pairs of a box and an anchor that overlap: both indices, shared area and IoU, each ``[P]``.

    Anchors are looked at in runs first: neighbours in the list are neighbours on the ground, so few runs reach a box,
    and the work follows the pairs that overlap rather than all of ``N * M``.
    """
    # [R, 4, RUN], so that taking a run copies one piece of memory.
    padded = torch.nn.functional.pad(anchors.T, (0, -len(anchors) % RUN), mode="replicate")
    runs = padded.view(4, -1, RUN).transpose(0, 1).contiguous()
    low, high = runs[:, :2].amin(dim=2), runs[:, 2:].amax(dim=2)
    near = ((boxes[:, None, :2] < high) & (boxes[:, None, 2:] > low)).all(dim=2)
    crown, run = near.nonzero(as_tuple=True)
    a, b = runs.index_select(0, run), boxes.index_select(0, crown)[:, :, None]
    width = torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])
    height = torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])
    anchor = (run[:, None] * RUN + torch.arange(RUN, device=anchors.device)).view(-1)
    hit = ((width > 0) & (height > 0)).view(-1).nonzero()[:, 0]
    crown, anchor = crown.index_select(0, hit // RUN), anchor.index_select(0, hit)
    shared = width.view(-1).index_select(0, hit) * height.view(-1).index_select(0, hit)
    # The last run is filled up with copies of the last anchor: they say what that says.
    anchor = anchor.clamp(max=len(anchors) - 1)
    area_b = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).index_select(0, crown)
    area_a = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).index_select(0, anchor)
    return crown, anchor, shared, shared / (area_b + area_a - shared)
