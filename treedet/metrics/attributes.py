"""What is said about crowns against what is known of them: confusion, scores by class, and honest probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.calibration import Reliability, reliability
from treedet.metrics.paired import PairedAttribute, PairedCrowns

NOTHING: Index = np.zeros(0, np.int64)


class Averages(NamedTuple):
    """Scores of all classes together."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Precision, recall and F1 of each class.

    Attributes:
        truth: Int64 ``[K]``, crowns that are of the class (its support).
        predicted: Int64 ``[K]``, crowns said to be.
        right: Int64 ``[K]``, crowns that are and are said to be.
    """

    truth: Index
    predicted: Index
    right: Index

    @property
    def precision(self) -> Floats:
        """Share of what is said to be of the class that is, float64 ``[K]``; NaN where it is never said."""
        return _share(self.right, self.predicted)

    @property
    def recall(self) -> Floats:
        """Share of the class that is said to be of it, float64 ``[K]``; NaN where the truth has none."""
        return _share(self.right, self.truth)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of both, ``2 right / (truth + predicted)``, float64 ``[K]``; NaN where neither has any.

        Van Rijsbergen, *Information Retrieval*, 1979.
        """
        return _share(2 * self.right, self.truth + self.predicted)

    @property
    def macro(self) -> Averages:
        """Means over the classes that occur in the truth; NaN where none does.

        A class that is never said has a precision of 0 here, as in scikit-learn. The recall is the balanced accuracy
        (Brodersen et al. 2010). The F1 is the mean of F1 (Opitz and Burst 2019), not the F1 of means.
        """
        there = self.truth > 0
        if not there.any():
            return Averages(*[float("nan")] * 3)
        scores = np.nan_to_num(self.precision), self.recall, self.f1
        return Averages(*(float(score[there].mean()) for score in scores))

    @property
    def micro(self) -> Averages:
        """Scores of all crowns pooled; NaN where there is nothing to divide by."""
        truth, predicted, right = (int(counts.sum()) for counts in (self.truth, self.predicted, self.right))
        shares = (right, predicted), (right, truth), (2 * right, truth + predicted)
        return Averages(*(part / total if total else float("nan") for part, total in shares))


@dataclass(frozen=True, eq=False)
class AttributeScores:
    """How right what is said about crowns is.

    Attributes:
        names: The classes, K of them.
        confusion: Int64 ``[K + 1, K + 2]`` crowns, what is true in rows and what is said in columns. Row K:
            *spurious*, predictions that are no annotated crown. Column K: *unsaid*, crowns that were found and about
            which nothing is said. Column K + 1: *missed*, crowns that were not found.
        reliability: The probability of what is said against the share of it that is right, on matched crowns.
        unknown: Annotated crowns of which the attribute is not known; they are in no other figure.
    """

    names: tuple[str, ...]
    confusion: Index
    reliability: Reliability
    unknown: int = 0

    @cached_property
    def matched(self) -> ClassScores:
        """Scores given that a crown was found: what the head does. What is unsaid counts against recall."""
        return _class_scores(self.confusion[:-1, :-1], len(self.names))

    @cached_property
    def all(self) -> ClassScores:
        """Scores of all crowns: what a user gets. Missed crowns count against recall, spurious against precision."""
        return _class_scores(self.confusion, len(self.names))

    @property
    def unsaid(self) -> int:
        """Matched crowns of known class about which nothing is said."""
        return int(self.confusion[:-1, -2].sum())

    @property
    def missed(self) -> int:
        """Crowns of known class that were not found."""
        return int(self.confusion[:-1, -1].sum())

    @property
    def spurious(self) -> int:
        """Predicted crowns that are no annotated one, whatever is said about them."""
        return int(self.confusion[-1].sum())

    @property
    def accuracy(self) -> float:
        """Share of the matched crowns about which the right thing is said; NaN without any."""
        return self.matched.micro.recall

    @property
    def kappa(self) -> float:
        """Agreement on matched crowns beyond chance (Cohen 1960); NaN where chance alone agrees, or without any."""
        scores, total = self.matched, int(self.matched.truth.sum())
        if not total:
            return float("nan")
        chance = float(scores.truth @ scores.predicted) / total**2
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else float("nan")

    @property
    def majority(self) -> str | None:
        """The most frequent class of the matched crowns, the first of equal ones; None without any."""
        truth = self.matched.truth
        return self.names[int(truth.argmax())] if truth.any() else None

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always saying :attr:`majority`: the baseline of :attr:`accuracy`; NaN without crowns."""
        truth = self.matched.truth
        return float(truth.max() / truth.sum()) if truth.any() else float("nan")


def attribute_scores(
    truth: npt.NDArray[np.integer[Any]],
    predicted: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    missed: npt.NDArray[np.integer[Any]] = NOTHING,
    spurious: npt.NDArray[np.integer[Any]] = NOTHING,
    probabilities: npt.NDArray[np.floating[Any]] | None = None,
    unknown: int = 0,
) -> AttributeScores:
    """Compare what is said about crowns with what is true.

    Boxes may be given instead of found: then there are no crowns missed or spurious, and all are matched.

    Args:
        truth: Int ``[P]``, the class of each matched crown as a position in ``names``; those with -1, of which
            nothing is known, are left out.
        predicted: Int ``[P]``, what is said about each; -1 for nothing.
        names: The classes.
        missed: Int ``[L]``, the class of each crown that was not found; -1 is left out.
        spurious: Int ``[F]``, what is said about each prediction that is no crown; -1 for nothing.
        probabilities: Float ``[P]`` of what is said, 0 to 1; NaN where there is none. None: there are none at all.
        unknown: Further annotated crowns of which nothing is known, to be told.

    Raises:
        ConfigError: Arrays of different length, a class that is no position in ``names``, or a probability outside 0
            to 1.

    >>> found = attribute_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), ("alive", "dead"), missed=np.array([1]))
    >>> found.confusion.tolist()
    [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    >>> round(found.accuracy, 3), found.matched.recall.tolist(), found.all.recall.tolist()
    (0.667, [0.5, 1.0], [0.5, 0.5])
    """
    known = np.asarray(truth) >= 0
    unknown += int((~known).sum())
    confusion = confusion_matrix(truth, predicted, len(names), missed=missed, spurious=spurious)
    certain = np.full(len(known), np.nan) if probabilities is None else np.asarray(probabilities, np.float64)
    if len(certain) != len(known):
        raise ConfigError(f"{len(known)} crowns have {len(certain)} probabilities; give one for each, or none")
    told = known & (np.asarray(predicted) >= 0) & ~np.isnan(certain)
    honest = reliability(certain[told], np.asarray(truth)[told] == np.asarray(predicted)[told])
    return AttributeScores(tuple(names), confusion, honest, unknown)


def confusion_matrix(
    truth: npt.NDArray[np.integer[Any]],
    predicted: npt.NDArray[np.integer[Any]],
    classes: int,
    *,
    missed: npt.NDArray[np.integer[Any]] = NOTHING,
    spurious: npt.NDArray[np.integer[Any]] = NOTHING,
) -> Index:
    """Count crowns by what is true, in rows, and what is said, in columns.

    Args:
        truth: See :func:`attribute_scores`, as for all.
        predicted: Likewise.
        classes: Number of classes, K.
        missed: Likewise.
        spurious: Likewise.

    Returns:
        Int64 ``[K + 1, K + 2]``; row K holds spurious crowns, column K what is unsaid, column K + 1 missed crowns.

    Raises:
        ConfigError: Arrays of different length, or a class that is not from -1 to K - 1.

    >>> confusion_matrix(np.array([0, 1, -1]), np.array([0, -1, 1]), 2, spurious=np.array([1])).tolist()
    [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    """
    every = [np.asarray(codes, np.int64) for codes in (truth, predicted, missed, spurious)]
    if len(every[0]) != len(every[1]):
        raise ConfigError(f"{len(every[0])} crowns are known and {len(every[1])} said; give one of each for a crown")
    for codes in every:
        if (wrong := (codes < -1) | (codes >= classes)).any():
            raise ConfigError(
                f"class {codes[wrong][0]} is unknown; accepted are positions from 0 to {classes - 1} among the names, "
                "and -1 for none"
            )
    true, said, lost, invented = every
    # -1 becomes the column of what is unsaid, and as a row is dropped.
    rows = np.concatenate([true, lost, np.full(len(invented), classes)])
    columns = np.concatenate([said, np.full(len(lost), classes + 1), invented])
    columns = np.where(columns < 0, classes, columns)
    cells = (rows * (classes + 2) + columns)[rows >= 0]
    return np.bincount(cells, minlength=(classes + 1) * (classes + 2)).reshape(classes + 1, classes + 2)


@dataclass
class _Gathered:
    """Crowns of several rasters, one array per raster."""

    names: tuple[str, ...]
    truth: list[Index] = field(default_factory=list)
    predicted: list[Index] = field(default_factory=list)
    probabilities: list[npt.NDArray[np.float32]] = field(default_factory=list)
    missed: list[Index] = field(default_factory=list)
    spurious: list[Index] = field(default_factory=list)
    unknown: int = 0

    def scores(self) -> AttributeScores:
        truth, predicted, missed, spurious = (
            np.concatenate([NOTHING, *parts]) for parts in (self.truth, self.predicted, self.missed, self.spurious)
        )
        return attribute_scores(
            truth,
            predicted,
            self.names,
            missed=missed,
            spurious=spurious,
            probabilities=np.concatenate([np.zeros(0, np.float32), *self.probabilities]),
            unknown=self.unknown,
        )


def scores_by_attribute(rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4) -> dict[str, AttributeScores]:
    """Match crowns whatever is said about them, and compare what is said.

    Under the rule on ignored crowns (:class:`treedet.metrics.paired.PairedCrowns`). A crown of which the attribute is
    not known is left out, and so is the prediction matched with it. A raster whose annotated crowns are all of that
    kind says nothing about the attribute and is left out with its spurious crowns; one without annotated crowns
    stays.

    Args:
        rasters: Annotated and predicted crowns, the latter down to the threshold.
        iou_threshold: A pair counts where its intersection over union is above this.

    Returns:
        Scores by attribute, crowns of all rasters pooled, in the order in which rasters name them.

    >>> box, one = np.array([[0.0, 0, 4, 4]]), np.ones(1, np.float32)
    >>> said = {"status": PairedAttribute(("alive", "dead"), np.array([1]), np.array([0]), one * 0.75)}
    >>> found = scores_by_attribute([PairedCrowns(box, box, one, attributes=said)])["status"]
    >>> found.accuracy, found.reliability.ece
    (0.0, 0.75)
    """
    found: dict[str, _Gathered] = {}
    for raster in rasters:
        if not raster.attributes:
            continue
        matching = raster.matched(iou_threshold=iou_threshold)
        counts, alarms, hits = raster.counts(matching)
        missed = counts.copy()
        missed[matching.truth] = False
        alarms[matching.predicted] = False
        true, said = matching.truth[hits], matching.predicted[hits]
        for name, one in raster.attributes.items():
            gathered = found.setdefault(name, _Gathered(one.names))
            known = one.truth >= 0
            gathered.unknown += int((counts & ~known).sum())
            if counts.any() and not (counts & known).any():
                continue
            pairs = known[true]
            gathered.truth.append(one.truth[true[pairs]])
            gathered.predicted.append(one.predicted[said[pairs]])
            gathered.probabilities.append(one.probabilities[said[pairs]])
            gathered.missed.append(one.truth[missed & known])
            gathered.spurious.append(one.predicted[alarms])
    return {name: gathered.scores() for name, gathered in found.items()}


def _class_scores(confusion: Index, classes: int) -> ClassScores:
    """Return scores from a confusion matrix; rows and columns beyond those of the classes count as wrong."""
    return ClassScores(
        truth=confusion[:classes].sum(axis=1),
        predicted=confusion[:, :classes].sum(axis=0),
        right=np.diagonal(confusion)[:classes],
    )


def _share(part: Index, whole: Index) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
