"""OriginalDetector: runs imported weights as the tool they come from does, to compare results box for box.

All that treedet does otherwise is here: windows are enlarged before the network, anchors lie where torchvision puts
them in windows that are no multiple of the largest stride, candidates are capped level by level, boxes of one class
that overlap little already give way, no box counts as cut, and coordinates are cut down to whole pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from treedet.core.boxes import clip
from treedet.core.detections import Detections
from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig, suppress
from treedet.errors import BandMismatchError, ConfigError, DetectionCapWarning
from treedet.models.anchors import anchor_boxes, decode
from treedet.models.backends.base import Backend
from treedet.models.base import WindowDetector
from treedet.models.network import NetworkDetector

PADDED_TO = 32
"""Enlarged windows are padded to multiples of this, as in torchvision, rather than of the largest stride."""


class OriginalDetector:
    """Finds crowns as the tool that the weights were imported from does.

    Args:
        backend: Engine with the network loaded.
        spec: The model's spec, which holds the original setting.
        digest: Digest of the weights.
        whole_pixels: Cut coordinates down to whole pixels.

    Raises:
        ConfigError: The spec holds no original setting.
    """

    def __init__(self, backend: Backend, spec: ModelSpec, *, digest: str = "", whole_pixels: bool = True) -> None:
        if spec.original is None:
            raise ConfigError("the model was not imported from another tool; it has no setting but treedet's")
        self._backend = backend
        self._spec = spec
        self._setting = spec.original
        self._digest = digest
        self._whole_pixels = whole_pixels
        # Windows of one run have one size, but for a raster's narrow ends.
        self._anchors = lru_cache(maxsize=4)(
            lambda height, width: torch.split(
                anchor_boxes(spec, height, width, spread=True), _anchors_by_level(spec, height, width)
            )
        )

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is to be used."""
        return self._spec

    @property
    def identity(self) -> Mapping[str, str]:
        """Digest of the weights, kind of device, precision, and that the setting is the original one."""
        return {
            "model": self._digest,
            "device": self._backend.device,
            "precision": self._backend.precision,
            "setting": f"original ({self._setting.tool})",
        }

    def detect(
        self, pixels: npt.NDArray[np.uint8], *, sides: Sequence[int], threshold: float, merge: MergeConfig
    ) -> list[Detections]:
        """Find crowns in windows of one size; see :class:`treedet.models.base.WindowDetector`.

        Args:
            pixels: Uint8 ``[B, C, H, W]``, pixels of the raster as it is.
            sides: Not looked at: no box counts as cut.
            threshold: A detection's score must exceed it.
            merge: Not looked at: the setting has a rule of its own for boxes of one window.

        Raises:
            BandMismatchError: The windows do not have the bands the network was trained on.
        """
        del sides, merge
        height, width = pixels.shape[2:]
        if pixels.shape[1] != self._spec.bands:
            raise BandMismatchError(
                f"the model needs {self._spec.bands} bands, the windows have {pixels.shape[1]}; give bands="
            )
        with torch.inference_mode():
            enlarged = enlarge(pixels, self._setting)
            size = enlarged.shape[2], enlarged.shape[3]
            padded = _pad(enlarged, self._spec)
            out = self._backend.trunk(padded.numpy())
            anchors = self._anchors(*padded.shape[2:])
            counts = [len(level) for level in anchors]
            return [
                self._detections(
                    torch.split(logits.cpu(), counts),
                    torch.split(deltas.cpu(), counts),
                    anchors,
                    threshold=threshold,
                    seen=size,
                    size=(height, width),
                )
                for logits, deltas in zip(out.logits, out.deltas, strict=True)
            ]

    def _detections(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        *,
        threshold: float,
        seen: tuple[int, int],
        size: tuple[int, int],
    ) -> Detections:
        """Return the detections of one window of ``size`` that the network saw enlarged to ``seen``."""
        boxes, scores, classes = [], [], []
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            score = level_logits.sigmoid()
            anchor, kind = (score > threshold).nonzero(as_tuple=True)
            score = score[anchor, kind]
            # Lower ones are left out silently, as there: they seldom survive.
            score, top = score.topk(min(self._setting.candidates, len(score)))
            anchor, kind = anchor[top], kind[top]
            boxes.append(decode(level_deltas[anchor], level_anchors[anchor]))
            scores.append(score)
            classes.append(kind)
        found = clip(torch.cat(boxes).numpy(), width=seen[1], height=seen[0]).astype(np.float32)
        certain, kinds = torch.cat(scores).numpy(), torch.cat(classes).numpy()
        nowhere = np.zeros(len(found), np.uint8)
        within = MergeConfig(self._setting.iou_within, 1.0, per_class=True, cut_margin_px=0.0)
        kept = suppress(found, certain, classes=kinds, sides=nowhere, config=within)
        if len(kept) > self._setting.max_detections:
            _warn_cap(len(kept), self._setting)
            kept = kept[: self._setting.max_detections]
        ratio = np.array([size[1] / seen[1], size[0] / seen[0]] * 2, np.float32)
        shrunk = found[kept] * ratio
        if self._whole_pixels:
            shrunk = np.trunc(shrunk)
        answer = Detections(
            boxes=shrunk.astype(np.float32),
            scores=certain[kept].astype(np.float32),
            classes=kinds[kept],
            sides=nowhere[kept],
        )
        # A box that is thinner than a pixel may be left without an area; no table of crowns can hold it.
        return answer.take(np.all(shrunk[:, 2:] > shrunk[:, :2], axis=1))


def as_original(model: WindowDetector, name: str) -> OriginalDetector:
    """Return a detector with the same weights that works as the tool they were imported from.

    Args:
        model: The detector.
        name: The model's name, for the message.

    Raises:
        ConfigError: The model is no network, or was not imported.
    """
    if not isinstance(model, NetworkDetector) or model.spec.original is None:
        raise ConfigError(
            f"setting 'original' is for models imported from another tool (treedet import), {name} is none; "
            "accepted is 'treedet'"
        )
    return OriginalDetector(model.backend, model.spec, digest=model.identity["model"])


def enlarge(pixels: npt.NDArray[np.uint8], setting: OriginalSetting) -> Tensor:
    """Return windows enlarged (or reduced) as torchvision does it: bilinear, without smoothing first.

    Args:
        pixels: Uint8 ``[B, C, H, W]``.
        setting: How long the short and the long side may become.

    Returns:
        Float32 ``[B, C, H', W']`` on the scale of the bytes, 0 to 255.

    >>> enlarge(np.zeros((1, 3, 400, 400), np.uint8), OriginalSetting()).shape
    torch.Size([1, 3, 800, 800])
    """
    return torch.nn.functional.interpolate(
        torch.from_numpy(pixels).float(),
        scale_factor=setting.scale(*pixels.shape[2:]),
        mode="bilinear",
        recompute_scale_factor=True,
        align_corners=False,
    )


def _pad(enlarged: Tensor, spec: ModelSpec) -> Tensor:
    """Return windows padded at the bottom and right with the mean, which is what becomes 0 in the network."""
    height, width = enlarged.shape[2:]
    down, right = -height % PADDED_TO, -width % PADDED_TO
    if not down and not right:
        return enlarged
    mean = torch.tensor(spec.mean).mul(255).view(1, -1, 1, 1)
    padded = mean.expand(len(enlarged), -1, height + down, width + right).clone()
    padded[:, :, :height, :width] = enlarged
    return padded


def _anchors_by_level(spec: ModelSpec, height: int, width: int) -> list[int]:
    strides = [2**level for level in spec.levels]
    return [math.ceil(height / s) * math.ceil(width / s) * spec.anchors_per_location for s in strides]


def _warn_cap(found: int, setting: OriginalSetting) -> None:
    warnings.warn(
        f"a window holds {found} detections and {setting.tool} keeps {setting.max_detections} of a window, so crowns "
        "are missing, as they are there; the setting treedet has room for more (setting='treedet')",
        DetectionCapWarning,
        stacklevel=3,
    )
