"""NetworkDetector: a batch of windows → trunk → decode → suppression → attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from treedet.core.detections import Detections
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.errors import BandMismatchError
from treedet.models.anchors import anchor_boxes
from treedet.models.attributes import probabilities
from treedet.models.backends.base import Backend
from treedet.models.decode import WindowShape, detections_of
from treedet.models.trunk import TrunkOutput

Said: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""Probabilities ``[N, K]`` of the crowns of a window by attribute."""


class NetworkDetector:
    """Finds crowns with a network.

    Args:
        backend: Engine with the network loaded.
        spec: The model's spec.
        digest: Digest of the weights, so that a resumed run can tell whether the model changed.
    """

    def __init__(self, backend: Backend, spec: ModelSpec, *, digest: str = "") -> None:
        self._backend = backend
        self._spec = spec
        self._digest = digest
        # Windows of one run have one size, so one or two sets of anchors are ever needed.
        self._anchors = lru_cache(maxsize=4)(lambda height, width: anchor_boxes(spec, height, width))

    @property
    def backend(self) -> Backend:
        """The engine it runs on."""
        return self._backend

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is to be used."""
        return self._spec

    @property
    def identity(self) -> Mapping[str, str]:
        """Digest of the weights, kind of device and precision."""
        return {"model": self._digest, "device": self._backend.device, "precision": self._backend.precision}

    def detect(
        self, pixels: npt.NDArray[np.uint8], *, sides: Sequence[int], threshold: float, merge: MergeConfig
    ) -> list[Detections]:
        """Find crowns in windows of one size; see :class:`treedet.models.base.WindowDetector`.

        Raises:
            BandMismatchError: The windows do not have the bands the network was trained on.
        """
        batch, bands, height, width = pixels.shape
        if bands != self._spec.bands:
            raise BandMismatchError(
                f"the model needs {self._spec.bands} bands, the windows have {bands}; give bands="
            )
        padded = self._padded(pixels)
        with torch.inference_mode():
            out = self._backend.trunk(padded)
            anchors = self._anchors(*padded.shape[2:]).to(out.logits.device)
            found = [
                detections_of(
                    out.logits[i],
                    out.deltas[i],
                    anchors,
                    WindowShape(height, width, sides[i]),
                    spec=self._spec,
                    threshold=threshold,
                    merge=merge,
                )
                for i in range(batch)
            ]
            return self._with_attributes(found, out, size=(height, width))

    def say(
        self, pixels: npt.NDArray[np.uint8], boxes: Sequence[npt.NDArray[np.floating[Any]]], *, alone: bool = False
    ) -> list[Said]:
        """Return what the attribute heads say about boxes that are given.

        Args:
            pixels: Uint8 ``[B, C, H, W]``.
            boxes: Float ``[N_b, 4]`` for each window, in its pixels.
            alone: What lies around the boxes does not belong to them, as on a canvas of crops.

        Returns:
            For each window, probabilities float32 ``[N_b, K]`` by attribute.
        """
        with torch.inference_mode():
            out = self._backend.trunk(self._padded(pixels))
            given = [torch.from_numpy(np.asarray(one, np.float32).reshape(-1, 4)) for one in boxes]
            return self._said(out, given, size=(pixels.shape[2], pixels.shape[3]), alone=alone)

    def _padded(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        # Torchvision's networks know padding as the mean colour; ours know it as black.
        filling = None if self._spec.original is None else [round(255 * value) for value in self._spec.mean]
        return pad(pixels, self._spec.stride, filling=filling)

    def _with_attributes(
        self, found: list[Detections], out: TrunkOutput, *, size: tuple[int, int]
    ) -> list[Detections]:
        if not self._spec.labels.attributes:
            return found
        said = self._said(out, [torch.from_numpy(one.boxes) for one in found], size=size)
        return [replace(one, attributes=values) for one, values in zip(found, said, strict=True)]

    def _said(
        self, out: TrunkOutput, boxes: list[Tensor], *, size: tuple[int, int], alone: bool = False
    ) -> list[Said]:
        ends = np.cumsum([len(one) for one in boxes])[:-1]
        values = probabilities(self._backend.attributes(out, boxes, size=size, alone=alone), self._spec)
        by_window = {name: np.split(p.float().cpu().numpy(), ends) for name, p in values.items()}
        return [{name: parts[i] for name, parts in by_window.items()} for i in range(len(boxes))]


def pad(
    pixels: npt.NDArray[np.uint8], multiple: int, *, filling: Sequence[int] | None = None
) -> npt.NDArray[np.uint8]:
    """Return windows ``[B, C, H, W]`` padded at the bottom and right to whole multiples.

    Args:
        pixels: Uint8 ``[B, C, H, W]``.
        multiple: Of pixels.
        filling: Value of each band in the padding; zeros if None.
    """
    height, width = pixels.shape[2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return pixels
    padded = np.pad(pixels, ((0, 0), (0, 0), (0, down), (0, right)))
    if filling is not None:
        colour = np.array(filling, np.uint8)[:, None, None]
        padded[:, :, height:] = colour
        padded[:, :, :, width:] = colour
    return padded
