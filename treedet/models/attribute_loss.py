"""Loss of attribute heads: cross-entropy over the crowns of which something is known, with classes balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou

from treedet.models.anchors import decode
from treedet.models.loss_config import HeadConfig
from treedet.models.losses import Targets
from treedet.models.trunk import TrunkOutput

EFFECTIVE_BETA = 0.999
"""How fast further crowns of a class stop counting (Cui et al. 2019, *Class-balanced loss*)."""
LIKELY = 200
"""Best anchors of a window among which the detection of a crown is looked for."""
SAME_CROWN = 0.5
"""Least IoU of a detection with the crown it is taken for."""
LEAST_SIDE_PX = 2.0


@dataclass(frozen=True)
class Described:
    """Boxes that heads are trained on, for each window of a batch.

    Attributes:
        boxes: Float32 ``[N_b, 4]`` for each window, in its pixels.
        said: Int64 ``[N, A]``, N the sum of N_b.
        context: Bool ``[N]``, False where nothing around the crown is seen.
    """

    boxes: list[Tensor]
    said: Tensor
    context: Tensor


def attribute_loss(
    logits: Mapping[str, Tensor],
    said: Tensor,
    counts: Sequence[Sequence[int]],
    *,
    config: HeadConfig | None = None,
) -> Tensor:
    """Return the mean over attributes of the cross-entropy over crowns with a label; a scalar.

    A batch without any label gives a zero that is still connected to the graph.

    Args:
        logits: Float32 ``[N, K]`` by attribute, those that learn.
        said: Int64 ``[N, A]``, a column for each of these, in their order; -1 where nothing is known.
        counts: Training crowns of each class, for each of these attributes.
        config: Balance and smoothing.
    """
    config = config or HeadConfig()
    total = torch.stack([values.sum() * 0 for values in logits.values()]).sum()
    for column, (values, seen) in enumerate(zip(logits.values(), counts, strict=True)):
        known = said[:, column] >= 0
        if not known.any():
            continue
        number = torch.tensor(seen, dtype=values.dtype, device=values.device)
        total = total + cross_entropy(
            values[known] + _prior(number, config),
            said[known, column],
            weight=_weights(number, config),
            label_smoothing=config.smoothing,
        )
    return total / max(1, len(logits))


def _prior(counts: Tensor, config: HeadConfig) -> Tensor:
    """Return what is added to the logits while training (Menon et al. 2021, *Logit adjustment*), ``[K]``.

    Added here and left out in prediction, it makes all classes as probable before anything is seen.
    """
    if config.balance != "logits":
        return torch.zeros_like(counts)
    return (counts.clamp(min=1) / counts.clamp(min=1).sum()).log() * config.strength


def _weights(counts: Tensor, config: HeadConfig) -> Tensor | None:
    if config.balance != "effective":
        return None
    weights = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA ** counts.clamp(min=1))
    return weights / weights.mean()


def describe(
    targets: Sequence[Targets], *, found: TrunkOutput | None, anchors: Tensor, config: HeadConfig
) -> Described:
    """Choose the boxes that heads are trained on: annotated ones, moved a little, and what the trunk finds there.

    Draws from the global random generator.

    Args:
        targets: Annotation of each window.
        found: What the trunk says about the windows; None where it was not asked.
        anchors: Float32 ``[M, 4]``, pixels.
        config: How much boxes are moved, and how often surroundings are hidden.
    """
    boxes, said, context = [], [], []
    for number, target in enumerate(targets):
        if target.said is None or not (target.said >= 0).any():
            boxes.append(target.boxes[:0])
            continue
        labelled = (target.said >= 0).any(dim=1)
        crowns, rows = target.boxes[labelled], target.said[labelled]
        seen = torch.ones(len(crowns), dtype=torch.bool, device=crowns.device)
        if target.context is not None:
            seen = target.context[labelled]
        moved = jittered(crowns, config.jitter)
        if found is not None:
            detected, of_crown = detections_of_crowns(crowns, found, anchors, number)
            moved, rows, seen = (
                torch.cat(pair) for pair in ((moved, detected), (rows, rows[of_crown]), (seen, seen[of_crown]))
            )
        boxes.append(moved)
        said.append(rows)
        context.append(seen & (torch.rand(len(seen), device=seen.device) >= config.hide_context))
    if not said:
        width = next((t.said.shape[1] for t in targets if t.said is not None), 0)
        device = targets[0].boxes.device
        return Described(
            boxes, torch.zeros(0, width, dtype=torch.int64, device=device), torch.zeros(0, device=device) > 0
        )
    return Described(boxes, torch.cat(said), torch.cat(context))


def jittered(boxes: Tensor, share: float) -> Tensor:
    """Return boxes ``[N, 4]`` with each side moved by up to a share of the box's width or height."""
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = boxes + (torch.rand_like(boxes) * 2 - 1) * share * size
    low, high = moved[:, :2], moved[:, 2:]
    return torch.cat([low, torch.maximum(high, low + LEAST_SIDE_PX)], dim=1)


@torch.no_grad()
def detections_of_crowns(crowns: Tensor, found: TrunkOutput, anchors: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the best detection of each annotated crown that has one.

    Args:
        crowns: Float32 ``[N, 4]``, pixels of the window.
        found: What the trunk says about the batch.
        anchors: Float32 ``[M, 4]``.
        window: Number of the window in the batch.

    Returns:
        Float32 ``[D, 4]``, D at most N, and int64 ``[D]``: the crown of each.
    """
    scores = found.logits[window].amax(dim=1)
    best = scores.topk(min(LIKELY, len(scores))).indices
    boxes = decode(found.deltas[window, best], anchors[best])
    same = torch.where(box_iou(crowns, boxes) >= SAME_CROWN, scores[best], -torch.inf)
    top, place = same.max(dim=1)
    has = torch.isfinite(top)
    return boxes[place[has]], has.nonzero()[:, 0]
