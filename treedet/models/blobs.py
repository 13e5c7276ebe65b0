"""BlobDetector: finds painted blobs exactly, so that everything around a model can be proved without learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from treedet.core.boxes import cut_sides
from treedet.core.detections import Detections
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig, suppress

FOREGROUND = 128
"""First band at and above which a pixel belongs to a blob."""


class BlobDetector:
    """A documented peer of the network: connected bright blobs on a dark ground are crowns.

    The first band says where blobs are, and its brightest value / 255 is the score. Where the spec names attributes,
    the brightest value of the second band chooses the class: 0 to 255 spread over the classes.

    Args:
        spec: GSD, crown range, window size and labels to pretend.
    """

    def __init__(self, spec: ModelSpec | None = None) -> None:
        self._spec = spec or ModelSpec()

    @property
    def spec(self) -> ModelSpec:
        """What it pretends to be."""
        return self._spec

    @property
    def identity(self) -> Mapping[str, str]:
        """It has no weights and runs on the CPU."""
        return {"model": "blobs", "device": "cpu", "precision": "exact"}

    def detect(
        self, pixels: npt.NDArray[np.uint8], *, sides: Sequence[int], threshold: float, merge: MergeConfig
    ) -> list[Detections]:
        """Find blobs in windows of one size; see :class:`treedet.models.base.WindowDetector`."""
        found = []
        for window, open_sides in zip(pixels, sides, strict=True):
            one = self._blobs(window, open_sides)
            one = one.take(one.scores >= threshold)
            found.append(
                one.take(suppress(one.boxes, one.scores, classes=one.classes, sides=one.sides, config=merge))
            )
        return found

    def _blobs(self, window: npt.NDArray[np.uint8], sides: int) -> Detections:
        _, height, width = window.shape
        labels, count = ndimage.label(window[0] >= FOREGROUND)
        sizes = {name: len(values) for name, values in self._spec.labels.attributes.items()}
        if not count:
            return Detections.empty(sizes)
        index = np.arange(1, count + 1)
        where = ndimage.find_objects(labels)
        boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in where], np.float32)
        brightest = np.asarray(ndimage.maximum(window[0], labels, index))
        attributes = {}
        if sizes:
            second = np.asarray(ndimage.maximum(window[1], labels, index), dtype=np.int64)
            attributes = {name: np.eye(k, dtype=np.float32)[second * k // 256] for name, k in sizes.items()}
        return Detections(
            boxes=boxes,
            scores=(brightest / 255).astype(np.float32),
            classes=np.zeros(count, np.int64),
            sides=cut_sides(boxes, width=width, height=height, sides=sides, margin=self._spec.cut_margin_px),
            attributes=attributes,
        )
