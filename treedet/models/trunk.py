"""The trunk: ResNet body, feature pyramid and RetinaNet head, read in the order image → pyramid → logits and boxes.

Behind it are the attribute heads, which take no part in finding crowns.

Parameter names equal those of torchvision's RetinaNet, so its public weights load without renaming. Two things differ
from torchvision: the head may have any number of convolutions, and no level is added to the pyramid unasked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError
from treedet.models.attributes import AttributeHeads

PRIOR = 0.01
"""Score of every anchor at the start of training (Lin et al. 2017, section 4.1)."""

BODY_WIDTHS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
}


@dataclass(frozen=True)
class TrunkOutput:
    """What the trunk says about a batch.

    Attributes:
        pyramid: One tensor ``[B, C, H_l, W_l]`` per level, finest first.
        logits: Float32 ``[B, M, K]``: a logit per anchor and class, anchors in the order of
            :func:`treedet.models.anchors.anchor_boxes`.
        deltas: Float32 ``[B, M, 4]``: box offsets relative to the anchors.
        body: One tensor ``[B, C, H_l, W_l]`` per level of the body, finest first: what attribute heads look at.
    """

    pyramid: list[Tensor]
    logits: Tensor
    deltas: Tensor
    body: list[Tensor]


class Trunk(nn.Module):
    """Body, pyramid and head; ``forward`` takes bytes, scaling and normalising are its first step.

    The attribute heads are asked apart (:meth:`say`), about crowns that were found.

    Args:
        spec: Architecture and normalisation constants.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        if spec.backbone not in BODY_WIDTHS:
            raise ConfigError(f"backbone {spec.backbone!r} is unknown; accepted are {', '.join(BODY_WIDTHS)}")
        self.backbone = Backbone(spec)
        self.head = Head(spec)
        levels = _body_levels(spec)
        self.strides = tuple(2**level for level in levels)
        # Last, so that the weights drawn for all else do not depend on it.
        self.attributes = AttributeHeads(spec, [BODY_WIDTHS[spec.backbone][level - 2] for level in levels])
        self.register_buffer("mean", torch.tensor(spec.mean).mul(255).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).mul(255).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> TrunkOutput:
        """Run a batch.

        Args:
            pixels: Uint8 ``[B, C, H, W]``, sides a multiple of the largest stride.
        """
        body = self.backbone.body(self._normalised(pixels))
        pyramid = self.backbone.pyramid(body)
        logits, deltas = self.head(pyramid)
        return TrunkOutput(pyramid, logits, deltas, list(body.values()))

    def body(self, pixels: Tensor) -> list[Tensor]:
        """Return the body's maps alone, finest first: all that attribute heads need.

        Args:
            pixels: Uint8 ``[B, C, H, W]``, sides a multiple of the largest stride.
        """
        return list(self.backbone.body(self._normalised(pixels)).values())

    def say(
        self,
        body: list[Tensor],
        boxes: Sequence[Tensor],
        *,
        size: tuple[int, int],
        context: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the logits of each attribute for crowns of a batch; see :class:`AttributeHeads`."""
        said: dict[str, Tensor] = self.attributes(body, self.strides, boxes, size=size, context=context)
        return said

    def _normalised(self, pixels: Tensor) -> Tensor:
        weight = self.backbone.body["conv1"].weight
        x = (pixels.to(torch.float32) - self.mean) / self.std
        return x.to(dtype=weight.dtype, memory_format=torch.channels_last)


class Backbone(nn.Module):
    """ResNet body and feature pyramid (Lin et al. 2017, *Feature Pyramid Networks*)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, spec.backbone)(weights=None)
        if spec.bands != resnet.conv1.in_channels:
            resnet.conv1 = nn.Conv2d(spec.bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        body_levels = _body_levels(spec)
        self.body = IntermediateLayerGetter(resnet, {f"layer{level - 1}": str(level) for level in body_levels})
        channels = spec.fpn_channels
        self.fpn = FeaturePyramidNetwork(
            [BODY_WIDTHS[spec.backbone][level - 2] for level in body_levels],
            channels,
            extra_blocks=LastLevelP6P7(channels, channels) if max(spec.levels) > 5 else None,
            norm_layer=nn.BatchNorm2d if spec.pyramid_norm else None,
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the pyramid, finest level first."""
        return self.pyramid(self.body(x))

    def pyramid(self, body: dict[str, Tensor]) -> list[Tensor]:
        """Return the pyramid of the body's maps, finest level first."""
        return list(self.fpn(body).values())


class Head(nn.Module):
    """Two branches shared by all levels: class logits and box offsets (Lin et al. 2017, *Focal Loss*)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.classification_head = ClassBranch(spec)
        self.regression_head = BoxBranch(spec)

    def forward(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, M, K]`` and deltas ``[B, M, 4]``."""
        return self.classification_head(pyramid), self.regression_head(pyramid)


class ClassBranch(nn.Module):
    """One logit per anchor and class."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = _tower(spec)
        self.cls_logits = nn.Conv2d(
            spec.fpn_channels, spec.anchors_per_location * len(spec.labels.classes), kernel_size=3, padding=1
        )
        nn.init.normal_(self.cls_logits.weight, std=0.01)
        self.cls_logits.bias = nn.Parameter(
            torch.full((self.cls_logits.out_channels,), -math.log((1 - PRIOR) / PRIOR))
        )
        self.classes = len(spec.labels.classes)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return float32 ``[B, M, K]``."""
        return torch.cat([_per_anchor(self.cls_logits(self.conv(level)), self.classes) for level in pyramid], dim=1)


class BoxBranch(nn.Module):
    """Four box offsets per anchor."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = _tower(spec)
        self.bbox_reg = nn.Conv2d(spec.fpn_channels, spec.anchors_per_location * 4, kernel_size=3, padding=1)
        nn.init.normal_(self.bbox_reg.weight, std=0.01)
        self.bbox_reg.bias = nn.Parameter(torch.zeros(self.bbox_reg.out_channels))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return float32 ``[B, M, 4]``."""
        return torch.cat([_per_anchor(self.bbox_reg(self.conv(level)), 4) for level in pyramid], dim=1)


def _body_levels(spec: ModelSpec) -> list[int]:
    return [level for level in spec.levels if level <= 5]


def _tower(spec: ModelSpec) -> nn.Sequential:
    channels = spec.fpn_channels
    blocks = []
    for _ in range(spec.head_convs):
        conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        # Kaiming rather than torchvision's std of 0.01: with untrained features that starves the deeper layers.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        conv.bias = nn.Parameter(torch.zeros(channels))
        blocks.append(nn.Sequential(conv, nn.ReLU(inplace=True)))
    return nn.Sequential(*blocks)


def _per_anchor(maps: Tensor, values: int) -> Tensor:
    """Reorder ``[B, A*V, H, W]`` to float32 ``[B, H*W*A, V]``: locations row by row, anchors fastest."""
    batch, _, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(batch, height * width * (maps.shape[1] // values), values).float()
