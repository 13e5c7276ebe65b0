"""Annotated and predicted crowns of one raster, side by side: what every score is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.detection import RasterCount
from treedet.metrics.matching import Bools, Matching, Overlaps, greedy, hungarian

Method: TypeAlias = Literal["hungarian", "greedy", "deepforest"]


@dataclass(frozen=True, eq=False)
class PairedAttribute:
    """One attribute of the annotated and the predicted crowns of a raster, as positions in the same names.

    Attributes:
        names: What may be said, or is said in the truth.
        truth: Int64 ``[N]``; -1 where nothing is known.
        predicted: Int64 ``[M]``; -1 where nothing is said.
        probabilities: Float32 ``[M]`` of what is said; NaN where it has none.
    """

    names: tuple[str, ...]
    truth: Index
    predicted: Index
    probabilities: npt.NDArray[np.float32]

    def kept(self, truth: Bools, predicted: Bools) -> PairedAttribute:
        """Return the same of some crowns, chosen by masks ``[N]`` and ``[M]``."""
        chosen = self.predicted[predicted], self.probabilities[predicted]
        return PairedAttribute(self.names, self.truth[truth], *chosen)


@dataclass(frozen=True, eq=False)
class PairedCrowns:
    """Annotated and predicted crowns of one raster.

    Ignored crowns (in COCO's sense) take part in matching but are neither missed nor false alarms: crowns outside
    the AOI, detections on ground where nothing is known. Of the truth, the crowns that are not ignored count. A hit
    is a pair whose truth counts, even if its prediction is ignored (a crown on the AOI's border). Of the
    predictions, all count but those matched to an ignored truth and those that are ignored and unmatched.

    Attributes:
        truth: Float ``[N, 4]``, boxes in metres on the ground, x right, y down.
        predicted: Float ``[M, 4]``, likewise.
        scores: Float32 ``[M]``, 0 to 1.
        truth_classes: Int64 ``[N]``; None where there is one class.
        predicted_classes: Int64 ``[M]``; None where there is one class.
        truth_ignored: Bool ``[N]``; None: none is.
        predicted_ignored: Bool ``[M]``; None: none is.
        name: Of the raster.
        group: The data set, for scores averaged over sets.
        hectares: Valid ground inside the AOI; NaN where unknown.
        attributes: What is known and said of the crowns, by attribute; matching does not look at it.
    """

    truth: Boxes
    predicted: Boxes
    scores: npt.NDArray[np.float32]
    truth_classes: npt.NDArray[np.integer[Any]] | None = None
    predicted_classes: npt.NDArray[np.integer[Any]] | None = None
    truth_ignored: Bools | None = None
    predicted_ignored: Bools | None = None
    name: str = ""
    group: str = ""
    hectares: float = float("nan")
    attributes: Mapping[str, PairedAttribute] = field(default_factory=dict)

    @cached_property
    def overlaps(self) -> Overlaps:
        """All pairs of crowns that share area, whatever their classes; found once."""
        return Overlaps.of(self.truth, self.predicted)

    @cached_property
    def truth_diameters(self) -> Floats:
        """Mean of the two sides of each annotated box, metres; float64 ``[N]``."""
        return diameters(self.truth)

    @cached_property
    def predicted_diameters(self) -> Floats:
        """Mean of the two sides of each predicted box, metres; float64 ``[M]``."""
        return diameters(self.predicted)

    def at(self, threshold: float) -> PairedCrowns:
        """Return the same raster with the predictions that score at least ``threshold`` (as float32)."""
        return self._kept(np.ones(len(self.truth), bool), self.scores >= np.float32(threshold))

    def of_class(self, index: int) -> PairedCrowns:
        """Return the crowns of one class; where classes are None, all crowns are of class 0."""
        return self._kept(
            _is_class(self.truth_classes, index, len(self.truth)),
            _is_class(self.predicted_classes, index, len(self.predicted)),
        )

    def without_ignored(self) -> PairedCrowns:
        """Return the crowns that are not ignored."""
        truth, predicted = (
            _not(self.truth_ignored, len(self.truth)),
            _not(self.predicted_ignored, len(self.predicted)),
        )
        return self if truth.all() and predicted.all() else self._kept(truth, predicted)

    def matched(
        self, *, iou_threshold: float = 0.4, method: Method = "hungarian", by_class: bool = False
    ) -> Matching:
        """Match predictions to truth one to one, ignored crowns included.

        Args:
            iou_threshold: A pair counts where its intersection over union is above this.
            method: ``hungarian`` maximises the sum of IoU, ``deepforest`` that of the areas shared, ``greedy`` lets
                predictions choose by falling score.
            by_class: Match crowns of the same class only, where there are classes.
        """
        overlaps = self.overlaps
        if by_class and self.truth_classes is not None and self.predicted_classes is not None:
            overlaps = overlaps.take(self.truth_classes[overlaps.truth] == self.predicted_classes[overlaps.predicted])
        if method == "greedy":
            return greedy(overlaps, self.scores, iou_threshold=iou_threshold)
        weight: Literal["iou", "intersection"] = "intersection" if method == "deepforest" else "iou"
        return hungarian(overlaps, iou_threshold=iou_threshold, weight=weight)

    def counts(self, matching: Matching) -> tuple[Bools, Bools, Bools]:
        """Tell what counts under the rule on ignored crowns.

        Args:
            matching: Of these crowns.

        Returns:
            Bool ``[N]``: the truth that counts; bool ``[M]``: the predictions that count; bool ``[K]``: the pairs
            that are hits.

        >>> one = np.array([[0.0, 0, 4, 4]])
        >>> border = PairedCrowns(one, one, np.ones(1, np.float32), predicted_ignored=np.array([True]))
        >>> [part.tolist() for part in border.counts(border.matched())]
        [[True], [True], [True]]
        """
        truth = _not(self.truth_ignored, len(self.truth))
        predicted = _not(self.predicted_ignored, len(self.predicted))
        hits = truth[matching.truth]
        predicted[matching.predicted] = hits
        return truth, predicted, hits

    def counted(
        self, *, iou_threshold: float = 0.4, method: Method = "hungarian", by_class: bool = False
    ) -> RasterCount:
        """Match (see :meth:`matched`) and count, under the rule on ignored crowns."""
        matching = self.matched(iou_threshold=iou_threshold, method=method, by_class=by_class)
        truth, predicted, hits = self.counts(matching)
        return RasterCount(int(truth.sum()), int(predicted.sum()), int(hits.sum()))

    def _kept(self, truth: Bools, predicted: Bools) -> PairedCrowns:
        """Return the chosen crowns; their overlaps are renumbered, not found again."""
        new = replace(
            self,
            truth=self.truth[truth],
            predicted=self.predicted[predicted],
            scores=self.scores[predicted],
            truth_classes=_masked(self.truth_classes, truth),
            predicted_classes=_masked(self.predicted_classes, predicted),
            truth_ignored=_masked(self.truth_ignored, truth),
            predicted_ignored=_masked(self.predicted_ignored, predicted),
            attributes={name: one.kept(truth, predicted) for name, one in self.attributes.items()},
        )
        old = self.overlaps
        kept = old.take(truth[old.truth] & predicted[old.predicted])
        renumbered = replace(
            kept, truth=(np.cumsum(truth) - 1)[kept.truth], predicted=(np.cumsum(predicted) - 1)[kept.predicted]
        )
        new.__dict__["overlaps"] = renumbered
        return new


def diameters(boxes: Boxes) -> Floats:
    """Return the mean of the two sides of each box; float64 ``[N]``, in the unit of the boxes.

    >>> diameters(np.array([[0.0, 0, 4, 6]])).tolist()
    [5.0]
    """
    boxes = np.asarray(boxes, np.float64)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).mean(axis=1))


def _masked(values: npt.NDArray[Any] | None, mask: Bools) -> npt.NDArray[Any] | None:
    return None if values is None else values[mask]


def _not(ignored: Bools | None, length: int) -> Bools:
    return np.ones(length, bool) if ignored is None else ~ignored


def _is_class(classes: npt.NDArray[Any] | None, index: int, length: int) -> Bools:
    return np.full(length, index == 0) if classes is None else np.asarray(classes == index)
