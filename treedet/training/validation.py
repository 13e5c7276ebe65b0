"""How well a model finds the crowns that were held out: predicted as a user would, merged, matched one to one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes, area, intersection
from treedet.core.neighbours import overlapping_pairs
from treedet.core.spec import ModelSpec
from treedet.datasets.split import Part
from treedet.errors import CutCrownsWarning, DetectionCapWarning, GsdWarning
from treedet.inference.detector import Detector
from treedet.inference.memory import find_crowns
from treedet.metrics.operating_points import THRESHOLDS, best_threshold
from treedet.metrics.paired import PairedCrowns
from treedet.models.backends.eager import EagerBackend, Precision
from treedet.models.base import WindowDetector
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster

EXCUSED_SHARE = 0.5
"""A detection this much of which lies on an ignored region is no false alarm."""


def predict_part(model: WindowDetector, part: Part, *, threshold: float = float(THRESHOLDS[0])) -> PairedCrowns:
    """Predict the ground of a part, and set what is found beside its crowns.

    Args:
        model: Finds crowns in windows.
        part: Annotated ground.
        threshold: Least score.

    Returns:
        Truth and prediction, in metres from the corner of the plot's grid. What lies on ignored ground is ignored,
        and what lies on crowns of classes that the model does not have, which are no part of the truth.
    """
    plot = part.plot
    with plot.open() as raster:
        found = find_crowns(raster, model, threshold=threshold, area=part.area)
    names = list(model.spec.labels.classes)
    # A class that the model does not have counts neither way.
    known = np.isin(plot.labels, names)
    truth = np.flatnonzero(part.mine & known)
    several = len(names) > 1
    metres = np.array([plot.grid.gsd_x, plot.grid.gsd_y] * 2)
    return PairedCrowns(
        truth=plot.boxes[truth] * metres,
        predicted=found.boxes * metres,
        scores=found.scores,
        truth_classes=np.array([names.index(name) for name in plot.labels[truth]], np.int64) if several else None,
        predicted_classes=found.classes if several else None,
        predicted_ignored=lies_on(
            found.boxes, np.concatenate([plot.ignored, plot.boxes[~known]]), share=EXCUSED_SHARE
        ),
        name=Path(plot.path).name,
        group="validation",
    )


def predicted_boxes(
    detector: Detector, path: Path, *, gsd: float | None = None, threshold: float | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Predict an image as a user would, and return boxes in pixels of its file, and scores.

    Args:
        detector: The model.
        path: Image.
        gsd: Metres per pixel, where the file does not say.
        threshold: Least score; the model's default if None.
    """
    table = detector.predict(path, gsd=gsd, score_threshold=threshold)
    with Raster.open(path, gsd=gsd) as raster:
        boxes = raster.native_grid.to_pixels(table.geometry.to_numpy())
    return boxes, table["score"].to_numpy(np.float32)


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

    def predictions(self, trunk: Trunk) -> list[PairedCrowns]:
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
