"""From logits and box offsets of a window to detections: threshold, decode, clip, suppress."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from treedet.core.boxes import clip, cut_sides
from treedet.core.detections import Detections
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig, suppress
from treedet.errors import DetectionCapWarning
from treedet.models.anchors import decode

CANDIDATES_PER_DETECTION = 12
"""Anchors above the threshold that are looked at, per detection allowed: about what one crown raises."""
REFERENCE_AREA_PX = 400 * 400
SMALLEST_SIDE_PX = 1.0


@dataclass(frozen=True)
class WindowShape:
    """The part of a window that is imagery, and where it may be cut.

    Attributes:
        height: Rows of imagery; padding below is not counted.
        width: Columns of imagery.
        sides: Bits of the sides beyond which the raster goes on (:func:`treedet.core.boxes.open_sides`).
    """

    height: int
    width: int
    sides: int


def detections_of(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    shape: WindowShape,
    *,
    spec: ModelSpec,
    threshold: float,
    merge: MergeConfig,
) -> Detections:
    """Turn the network's output for one window into detections.

    Caps on candidates and detections grow with the window's area; hitting one warns, since crowns may be missing.

    Args:
        logits: Float32 ``[M, K]``.
        deltas: Float32 ``[M, 4]``.
        anchors: Float32 ``[M, 4]``, pixels.
        shape: Extent of imagery in the window, and its open sides.
        spec: Caps, temperature and cut margin.
        threshold: Least score of a detection.
        merge: Rule of suppression.

    Returns:
        Detections in order of preference, clipped to the imagery.
    """
    scaled = logits / spec.temperature if spec.temperature != 1 else logits
    least = (
        math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else (-math.inf if threshold <= 0 else math.inf)
    )
    anchor, kind = (scaled >= least).nonzero(as_tuple=True)
    score = scaled[anchor, kind]
    cap = math.ceil(spec.max_detections * max(1.0, shape.height * shape.width / REFERENCE_AREA_PX))
    if len(score) > cap * CANDIDATES_PER_DETECTION:
        _warn_cap("candidates", len(score), cap * CANDIDATES_PER_DETECTION)
        score, top = score.topk(cap * CANDIDATES_PER_DETECTION)
        anchor, kind = anchor[top], kind[top]
    boxes = clip(decode(deltas[anchor], anchors[anchor]).cpu().numpy(), width=shape.width, height=shape.height)
    boxes = boxes.astype(np.float32)
    found = Detections(
        boxes=boxes,
        scores=score.sigmoid().cpu().numpy().astype(np.float32),
        classes=kind.cpu().numpy(),
        sides=cut_sides(boxes, width=shape.width, height=shape.height, sides=shape.sides, margin=spec.cut_margin_px),
    )
    found = found.take(np.all(boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE_PX, axis=1))
    kept = suppress(found.boxes, found.scores, classes=found.classes, sides=found.sides, config=merge)
    if len(kept) > cap:
        _warn_cap("detections", len(kept), cap)
        kept = kept[np.argsort(-found.scores[kept], kind="stable")[:cap]]
    return found.take(kept)


def _warn_cap(what: str, found: int, cap: int) -> None:
    warnings.warn(
        f"a window holds {found} {what}, more than the cap of {cap}; only the best are kept, so crowns may be "
        "missing; raise the score threshold, or the model's max_detections",
        DetectionCapWarning,
        stacklevel=3,
    )
