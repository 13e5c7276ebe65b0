"""Detection loss: sigmoid focal loss for classes and generalised IoU loss for boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from treedet.models.anchors import BACKGROUND, IGNORED, decode, match_windows
from treedet.models.loss_config import LossConfig

FEWEST = 0.1
"""Positive anchors, relative to the mean of a batch, that every window is taken to hold besides its own."""


@dataclass(frozen=True)
class Targets:
    """Annotated crowns of one training window.

    Attributes:
        boxes: Float32 ``[N, 4]``, window pixels; N = 0 is a window without crowns.
        classes: Int64 ``[N]``, class index; -1 marks a crown or region to ignore.
        known: Bool ``[S, S]``, window pixels; False where nothing is known, as outside an AOI: an anchor centred
            there is no background, though it may answer for a crown. None where all is known.
        said: Int64 ``[N, A]``, class of each attribute in the schema's order; -1 where nothing is known.
        context: Bool ``[N]``, False where a crown has no surroundings, as a crop on a canvas; None where all have.
    """

    boxes: Tensor
    classes: Tensor
    known: Tensor | None = None
    said: Tensor | None = None
    context: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """Return the targets on another device."""
        known, said, context = (
            None if tensor is None else tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.known, self.said, self.context)
        )
        boxes = self.boxes.to(device, non_blocking=non_blocking)
        classes = self.classes.to(device, non_blocking=non_blocking)
        return Targets(boxes, classes, known, said, context)


@dataclass(frozen=True)
class DetectionLoss:
    """Scalar tensors: ``total`` is what is minimised."""

    total: Tensor
    classes: Tensor
    boxes: Tensor


def detection_loss(
    logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[Targets], *, config: LossConfig | None = None
) -> DetectionLoss:
    """Return the loss of a batch, normalised by its number of positive anchors.

    Class loss is the sigmoid focal loss of Lin et al. 2017; box loss is 1 - GIoU of the decoded box (Rezatofighi et
    al. 2019). A batch without crowns gives a finite loss that is still connected to the graph.

    Args:
        logits: Float32 ``[B, M, K]``.
        deltas: Float32 ``[B, M, 4]``.
        anchors: Float32 ``[M, 4]``, pixels.
        targets: One entry per window.
        config: Weights.
    """
    config = config or LossConfig()
    if len(logits) != len(targets):
        raise ValueError(f"a batch of {len(logits)} windows has {len(targets)} targets; give one for each window")
    boxes = torch.cat([target.boxes for target in targets])
    kinds = torch.cat([target.classes for target in targets])
    matched = _matched(anchors, boxes, kinds, targets)
    window, anchor = (matched >= 0).nonzero(as_tuple=True)
    crown = matched[window, anchor]

    wanted = torch.zeros_like(logits)
    wanted[window, anchor, kinds[crown]] = 1
    focal = sigmoid_focal_loss(logits, wanted, alpha=config.alpha, gamma=config.gamma)
    predicted = decode(deltas[window, anchor], anchors[anchor])
    positives = (matched >= 0).sum(dim=1)
    weight = _window_weights(positives, config.evenness) / max(1, len(crown))
    classes = ((focal * (matched != IGNORED)[:, :, None]).sum(dim=(1, 2)) * weight).sum()
    offsets = (generalized_box_iou_loss(predicted, boxes[crown], reduction="none") * weight[window]).sum()
    return DetectionLoss(classes + config.box_weight * offsets, classes.detach(), offsets.detach())


def _window_weights(positives: Tensor, evenness: float) -> Tensor:
    """Return the weight of each window ``[B]`` from its positive anchors ``[B]``; their mean, by anchors, is 1."""
    # Windows without crowns count as if they held a few, so that false alarms on bare ground are unlearned.
    counts = positives + FEWEST * positives.float().mean().clamp(min=1)
    weight = (counts.mean() / counts) ** evenness
    return weight * (counts.sum() / (weight * counts).sum())


def _matched(anchors: Tensor, boxes: Tensor, kinds: Tensor, targets: list[Targets]) -> Tensor:
    """Return int64 ``[B, M]``: index of a crown of the batch, ``BACKGROUND`` or ``IGNORED``."""
    counts = torch.tensor([len(target.boxes) for target in targets], device=boxes.device)
    window = torch.arange(len(targets), device=boxes.device).repeat_interleave(counts)
    matched = match_windows(anchors, boxes, kinds < 0, window, windows=len(targets))
    centre = ((anchors[:, :2] + anchors[:, 2:]) / 2).floor().long()
    for row, target in zip(matched, targets, strict=True):
        if target.known is not None:
            height, width = target.known.shape
            known = target.known[centre[:, 1].clamp(0, height - 1), centre[:, 0].clamp(0, width - 1)]
            row[(row == BACKGROUND) & ~known] = IGNORED
    return matched
