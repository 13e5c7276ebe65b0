"""Detection loss: sigmoid focal loss for classes and generalised IoU loss for boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from treedet.models.anchors import BACKGROUND, decode, match


@dataclass(frozen=True)
class Targets:
    """Annotated crowns of one training window.

    Attributes:
        boxes: Float32 ``[N, 4]``, window pixels; N = 0 is a window without crowns.
        classes: Int64 ``[N]``, class index; -1 marks a crown or region to ignore.
    """

    boxes: Tensor
    classes: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """Return the targets on another device."""
        return Targets(
            self.boxes.to(device, non_blocking=non_blocking), self.classes.to(device, non_blocking=non_blocking)
        )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the detection loss.

    Attributes:
        alpha: Weight of positives in the focal loss (Lin et al. 2017, equation 5).
        gamma: Focusing exponent.
        box_weight: Weight of the box loss relative to the class loss.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    box_weight: float = 2.0


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
    class_terms, box_terms, positives = [], [], 0
    for logit, delta, target in zip(logits, deltas, targets, strict=True):
        matched = match(anchors, target.boxes, target.classes < 0)
        positive = matched >= 0
        positives += int(positive.sum())
        wanted = torch.zeros_like(logit)
        wanted[positive, target.classes[matched[positive]]] = 1
        counted = positive | (matched == BACKGROUND)
        focal = sigmoid_focal_loss(logit, wanted, alpha=config.alpha, gamma=config.gamma)
        class_terms.append((focal * counted[:, None]).sum())
        predicted = decode(delta[positive], anchors[positive])
        box_terms.append(generalized_box_iou_loss(predicted, target.boxes[matched[positive]], reduction="sum"))
    count = max(1, positives)
    classes = torch.stack(class_terms).sum() / count
    boxes = torch.stack(box_terms).sum() / count
    return DetectionLoss(classes + config.box_weight * boxes, classes.detach(), boxes.detach())
