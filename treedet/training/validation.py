"""How well a model finds the crowns that were held out: predicted as a user would, merged, matched one to one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes, area, intersection
from treedet.core.neighbours import overlapping_pairs
from treedet.core.spec import ModelSpec
from treedet.datasets.split import Part
from treedet.errors import CutCrownsWarning, DetectionCapWarning, GsdWarning
from treedet.inference.memory import find_crowns
from treedet.models.backends.eager import EagerBackend, Precision
from treedet.models.base import WindowDetector
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.training.operating_points import THRESHOLDS, Prediction, best_threshold

EXCUSED_SHARE = 0.5
"""A detection this much of which lies on an ignored region is no false alarm."""


def predict_part(model: WindowDetector, part: Part, *, threshold: float = float(THRESHOLDS[0])) -> Prediction:
    """Predict the ground of a part, and set what is found beside its crowns.

    Args:
        model: Finds crowns in windows.
        part: Annotated ground.
        threshold: Least score.

    Returns:
        Truth and prediction, in pixels of the plot's grid.
    """
    plot = part.plot
    with plot.open() as raster:
        found = find_crowns(raster, model, threshold=threshold, area=part.area)
    truth = np.flatnonzero(part.mine)
    names = list(model.spec.labels.classes)
    several = len(names) > 1
    return Prediction(
        truth=plot.boxes[truth],
        boxes=found.boxes,
        scores=found.scores,
        source="validation",
        truth_classes=np.array([names.index(name) for name in plot.labels[truth]], np.int64) if several else None,
        classes=found.classes if several else None,
        excused=lies_on(found.boxes, plot.ignored, share=EXCUSED_SHARE),
    )


def lies_on(boxes: Boxes, regions: Boxes, *, share: float) -> npt.NDArray[np.bool_]:
    """Tell which boxes have at least a share of their area on one of the regions; bool ``[N]``.

    >>> lies_on(np.array([[0.0, 0, 4, 4], [8, 8, 9, 9]]), np.array([[0.0, 0, 3, 4]]), share=0.5).tolist()
    [True, False]
    """
    answer = np.zeros(len(boxes), dtype=bool)
    if not len(boxes) or not len(regions):
        return answer
    a, b = overlapping_pairs(np.asarray(boxes, np.float64), np.asarray(regions, np.float64))
    answer[a[intersection(boxes[a], regions[b]) >= share * area(boxes)[a]]] = True
    return answer


@dataclass(frozen=True)
class Validator:
    """Scores a trunk on held-out ground; what training selects its best epoch by.

    Attributes:
        parts: Held-out ground; at least one crown in it.
        spec: Architecture, GSD and labels of the trunk.
        device: Where to predict.
        precision: Of the prediction.
    """

    parts: Sequence[Part]
    spec: ModelSpec
    device: str = "auto"
    precision: Precision = "auto"

    def predictions(self, trunk: Trunk) -> list[Prediction]:
        """Predict every part."""
        model = NetworkDetector(EagerBackend(trunk, device=self.device, precision=self.precision), self.spec)
        with warnings.catch_warnings():
            # Said once before training; here it would be said after every epoch.
            warnings.simplefilter("ignore", GsdWarning)
            warnings.simplefilter("ignore", CutCrownsWarning)
            # At a threshold this low a cap cuts candidates that no operating point would keep.
            warnings.simplefilter("ignore", DetectionCapWarning)
            return [predict_part(model, part) for part in self.parts]

    def __call__(self, trunk: Trunk) -> Mapping[str, float]:
        """Return F1, precision and recall over all held-out crowns, at the threshold with the best F1."""
        threshold, best = best_threshold(self.predictions(trunk))
        return {
            "val_f1": best.micro_f1,
            "val_precision": best.micro_precision,
            "val_recall": best.micro_recall,
            "val_threshold": threshold,
        }
