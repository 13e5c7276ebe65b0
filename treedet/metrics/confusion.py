"""Confusion matrices of classes, and the scores of the classes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats, Index

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
        truth: Int64 ``[..., K]``, crowns that are of the class (its support); leading axes are cases of their own.
        predicted: Int64 ``[..., K]``, crowns said to be.
        right: Int64 ``[..., K]``, crowns that are and are said to be.
    """

    truth: Index
    predicted: Index
    right: Index

    @property
    def precision(self) -> Floats:
        """Share of what is said to be of the class that is, float64 ``[..., K]``; NaN where it is never said."""
        return _share(self.right, self.predicted)

    @property
    def recall(self) -> Floats:
        """Share of the class that is said to be of it, float64 ``[..., K]``; NaN where the truth has none."""
        return _share(self.right, self.truth)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of both, ``2 right / (truth + predicted)``, float64 ``[..., K]``; NaN where neither has any.

        Van Rijsbergen, *Information Retrieval*, 1979.
        """
        return _share(2 * self.right, self.truth + self.predicted)

    @property
    def macro(self) -> Averages:
        """Means over the classes that occur in the truth; NaN where none does.

        A class that is never said has a precision of 0 here, as in scikit-learn. The recall is the balanced accuracy
        (Brodersen et al. 2010). The F1 is the mean of F1 (Opitz and Burst 2019), not the F1 of means.
        """
        scores = np.nan_to_num(self.precision), self.recall, self.f1
        return Averages(*(float(_mean(score, self.truth > 0)) for score in scores))

    @property
    def macro_f1(self) -> Floats:
        """The F1 of :attr:`macro` of each case, float64 ``[...]``."""
        return _mean(self.f1, self.truth > 0)

    @property
    def accuracy(self) -> Floats:
        """The recall of :attr:`micro` of each case, float64 ``[...]``."""
        return _share(self.right.sum(axis=-1), self.truth.sum(axis=-1))

    @property
    def micro(self) -> Averages:
        """Scores of all crowns pooled; NaN where there is nothing to divide by."""
        truth, predicted, right = (int(counts.sum()) for counts in (self.truth, self.predicted, self.right))
        shares = (right, predicted), (right, truth), (2 * right, truth + predicted)
        return Averages(*(part / total if total else float("nan") for part, total in shares))


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
        truth: See :func:`treedet.metrics.attributes.attribute_scores`, as for all.
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
                f"class {codes[wrong][0]} is unknown; accepted are positions from 0 to {classes - 1} among the "
                "names, and -1 for none"
            )
    true, said, lost, invented = every
    # -1 becomes the column of what is unsaid, and as a row is dropped.
    rows = np.concatenate([true, lost, np.full(len(invented), classes)])
    columns = np.concatenate([said, np.full(len(lost), classes + 1), invented])
    columns = np.where(columns < 0, classes, columns)
    cells = (rows * (classes + 2) + columns)[rows >= 0]
    return np.bincount(cells, minlength=(classes + 1) * (classes + 2)).reshape(classes + 1, classes + 2)


def class_scores(confusion: Index, classes: int) -> ClassScores:
    """Return scores from a confusion matrix; rows and columns beyond those of the classes count as wrong.

    Args:
        confusion: Int64, at least ``[..., K, K]``, truth in rows.
        classes: Number of classes, K.

    >>> class_scores(np.array([[3, 1, 0], [0, 2, 2]]), 2).recall.tolist()
    [0.75, 0.5]
    """
    return ClassScores(
        truth=confusion[..., :classes, :].sum(axis=-1),
        predicted=confusion[..., :classes].sum(axis=-2),
        right=np.diagonal(confusion[..., :classes, :classes], axis1=-2, axis2=-1),
    )


def _share(part: Index | Floats, whole: Index) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))


def _mean(scores: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """Return the mean over the last axis of the scores that are there; NaN where none is."""
    return _share(np.where(there, scores, 0).sum(axis=-1), there.sum(axis=-1))
