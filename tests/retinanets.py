"""RetinaNets of torchvision with random weights that find something: what imported weights are tested with."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

CANDIDATES = 1500
"""Anchors above the score threshold in the window that weights are set for."""
DELTA_SPREAD = 0.2
"""Standard deviation of box offsets there."""
LOGIT_SPREAD = 1.0


def retinanet(classes: int = 1, norm: type[nn.Module] = FrozenBatchNorm2d) -> RetinaNet:
    """Return ``retinanet_resnet50_fpn`` as DeepForest builds it: extra levels come from P5."""
    extra = LastLevelP6P7(256, 256)
    backbone = _resnet_fpn_extractor(resnet50(norm_layer=norm), 5, returned_layers=[2, 3, 4], extra_blocks=extra)
    return RetinaNet(backbone, classes, score_thresh=0.1, nms_thresh=0.05, anchor_generator=_default_anchorgen())


def busy_retinanet(pixels: npt.NDArray[np.uint8], *, classes: int = 1, seed: int = 0) -> RetinaNet:
    """Return a RetinaNet with random weights and frozen batch norm that finds 50 to 300 boxes in a window.

    Activations of untrained layers die out or blow up; the statistics of batch normalisation, and the spread and bias
    of the last layers, are therefore taken from what the network says about the window.

    Args:
        pixels: Uint8 ``[3, H, W]``, the window.
        classes: Number of classes.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    loose = retinanet(classes, nn.BatchNorm2d)
    for module in loose.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    towers = [loose.head.classification_head.conv, loose.head.regression_head.conv]
    for conv in (m for tower in towers for m in tower.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    images, _ = loose.transform([torch.from_numpy(pixels).float() / 255])
    with torch.no_grad():
        loose.backbone.body.train()
        levels = list(loose.backbone(images.tensors).values())
        loose.eval()
        # On fewer variations than batch statistics have, so that nothing hangs on one channel's variance.
        head = loose.head(levels)
        _set_last(loose.head.classification_head.cls_logits, head["cls_logits"], LOGIT_SPREAD)
        _set_last(loose.head.regression_head.bbox_reg, head["bbox_regression"], DELTA_SPREAD)
        logits = loose.head(levels)["cls_logits"].flatten()
        least = logits.topk(CANDIDATES).values[-1]
        loose.head.classification_head.cls_logits.bias += math.log(0.1 / 0.9) - least
    frozen = retinanet(classes)
    frozen.load_state_dict({k: v for k, v in loose.state_dict().items() if not k.endswith("num_batches_tracked")})
    return frozen.eval()


def _set_last(layer: nn.Conv2d, said: torch.Tensor, spread: float) -> None:
    """Scale a layer so that what it says has mean 0 and a spread."""
    scale = spread / said.std()
    layer.weight *= scale
    layer.bias.copy_((layer.bias - said.mean()) * scale)


def noise_window(side: int = 400, *, seed: int = 0, blobs: int = 1) -> npt.NDArray[np.uint8]:
    """Return uint8 ``[3, side, side]`` with blobs of many sizes: white noise looks alike everywhere."""
    # ``blobs`` windows of 400 px fit along a side of a larger picture.
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.nn.functional.interpolate(
            torch.rand(1, 3, n, n, generator=generator), size=(side, side), mode="bicubic", align_corners=False
        )
        for n in (6 * blobs, 20 * blobs, 60 * blobs, side)
    ]
    picture = sum(layers)[0] / len(layers)
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low) * 255).to(torch.uint8).numpy()


def hollow_tensors(classes: int = 1) -> dict[str, torch.Tensor]:
    """Return tensors of the right names and shapes, each a single number in memory: files of them are small."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in retinanet(classes).state_dict().items()}
    return {name: torch.full((1,), 0.5).expand(shape) for name, shape in shapes.items()}
