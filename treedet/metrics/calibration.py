"""Is a score of 0.8 right eight times in ten? Reliability of scores, and the temperature that mends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, logsumexp

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats
from treedet.metrics.matching import Bools
from treedet.metrics.paired import PairedCrowns

SURE = 1e-6
"""Scores are kept this far from 0 and 1, whose logits are infinite."""
TEMPERATURES = (0.05, 20.0)
"""Range in which a temperature is searched."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """How far scores are from the share of them that is right.

    Attributes:
        table: One row per bin: ``low``, ``high``, ``count``, ``confidence`` (mean score) and ``accuracy`` (share that
            is right); both NaN in an empty bin.
        ece: Expected calibration error: mean over bins, weighted by count, of the distance between confidence and
            accuracy (Naeini et al. 2015; Guo et al. 2017). NaN without detections.
        brier: Mean squared distance of a score from 1 where it is right, from 0 where not (Brier 1950); NaN likewise.
    """

    table: pd.DataFrame
    ece: float
    brier: float


def reliability(confidence: npt.NDArray[np.floating[Any]], correct: Bools, *, bins: int = 15) -> Reliability:
    """Compare scores with how often they are right, in bins of equal width.

    Args:
        confidence: Float ``[N]``, 0 to 1.
        correct: Bool ``[N]``.
        bins: Number of bins over 0 to 1. A score on a border belongs to the bin above it, 1 to the last.

    Raises:
        ConfigError: Fewer than one bin, a score outside 0 to 1, or arrays of different length.

    >>> found = reliability(np.array([0.9, 0.9, 0.1]), np.array([True, False, False]), bins=2)
    >>> found.table["accuracy"].tolist(), round(found.ece, 3), round(found.brier, 3)
    ([0.0, 0.5], 0.3, 0.277)
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; give a number of at least 1, such as 15")
    scores = _checked(confidence, correct)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, scores, minlength=bins) / count
        accuracy = np.bincount(place, correct, minlength=bins) / count
    table = pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "count": count, "confidence": mean, "accuracy": accuracy}
    )
    if not len(scores):
        return Reliability(table, float("nan"), float("nan"))
    used = count > 0
    ece = float((count[used] * np.abs(mean - accuracy)[used]).sum() / len(scores))
    return Reliability(table, ece, float(np.square(scores - correct).mean()))


def fit_temperature(confidence: npt.NDArray[np.floating[Any]], correct: Bools) -> float:
    """Return the temperature that makes scores most probable, given which are right (Guo et al. 2017).

    Minimises the negative log-likelihood of ``sigmoid(logit(confidence) / T)``, which has one minimum. Above 1 the
    scores were too sure. It leaves their order, and so average precision, as it is.

    Args:
        confidence: Float ``[N]``, 0 to 1; best of all detections, not only those above a threshold.
        correct: Bool ``[N]``.

    Returns:
        0.05 to 20.

    Raises:
        ConfigError: No detections, or all right, or all wrong: nothing to fit on; a score outside 0 to 1; arrays of
            different length.

    >>> sure = np.array([0.99] * 4 + [0.01] * 4)
    >>> round(fit_temperature(sure, np.array([1, 1, 1, 0, 0, 0, 0, 1], bool)), 2)  # sure of 0.99, right at 0.75
    4.18
    """
    confidence, right = _checked(confidence, correct), np.asarray(correct, bool)
    if not right.any() or right.all():
        raise ConfigError(
            f"a temperature can not be fitted on {len(right)} detections of which {int(right.sum())} are right; "
            "give annotated rasters on which some detections are right and some wrong"
        )
    towards_right = np.where(right, 1.0, -1.0) * _logits(confidence)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -towards_right / np.exp(log_temperature)).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_softmax_temperature(probabilities: npt.NDArray[np.floating[Any]], classes: npt.NDArray[np.int64]) -> float:
    """Return the temperature that makes the true classes most probable (Guo et al. 2017).

    Minimises the negative log-likelihood of ``softmax(log(p) / T)``, which has one minimum. The most probable class
    stays what it was.

    Args:
        probabilities: Float ``[N, K]``, rows that add up to 1.
        classes: Int64 ``[N]``, the true class of each.

    Returns:
        0.05 to 20.

    Raises:
        ConfigError: No rows.

    >>> sure = np.array([[0.99, 0.01]] * 4)  # sure of 0.99, right at 0.75
    >>> round(fit_softmax_temperature(sure, np.array([0, 0, 0, 1])), 2)
    4.18
    """
    if not len(classes):
        raise ConfigError("a temperature can not be fitted without crowns; hold out some with a known class")
    logits = np.log(np.clip(np.asarray(probabilities, np.float64), SURE, 1.0))
    rows = np.arange(len(classes))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[rows, classes]).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(confidence: npt.NDArray[np.floating[Any]], temperature: float) -> Floats:
    """Return ``sigmoid(logit(confidence) / temperature)``; float64 of the same shape.

    Args:
        confidence: Float of any shape, 0 to 1; kept a millionth from 0 and 1.
        temperature: Above 0; 1 changes nothing.

    Raises:
        ConfigError: A temperature of 0 or less.

    >>> with_temperature(np.array([0.5, 0.9]), 2.0).round(3).tolist()
    [0.5, 0.75]
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; give a number above 0, 1 for scores as they are")
    return np.asarray(expit(_logits(confidence) / temperature))


def detections_correct(
    rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4, by_class: bool = False
) -> tuple[Floats, Bools]:
    """Tell of all predictions that count whether they are right: matched, by falling score, with a crown.

    Args:
        rasters: Annotated and predicted crowns.
        iou_threshold: A pair counts where its intersection over union is above this.
        by_class: Only a crown of the same class makes a prediction right.

    Returns:
        Float64 ``[N]`` scores and bool ``[N]``, raster after raster; without the predictions that do not count
        because they, or the crown they are matched with, are ignored.

    >>> crowns, scores = np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([0.5, 0.25], np.float32)
    >>> confidence, correct = detections_correct([PairedCrowns(crowns[:1], crowns, scores)])
    >>> confidence.tolist(), correct.tolist()
    ([0.5, 0.25], [True, False])
    """
    confidence, correct = [np.zeros(0)], [np.zeros(0, bool)]
    for raster in rasters:
        matching = raster.matched(iou_threshold=iou_threshold, method="greedy", by_class=by_class)
        _, counts, _ = raster.counts(matching)
        right = np.zeros(len(raster.predicted), bool)
        right[matching.predicted] = True
        # A prediction matched with an ignored crown does not count, so it falls out here.
        confidence.append(raster.scores[counts].astype(np.float64))
        correct.append(right[counts])
    return np.concatenate(confidence), np.concatenate(correct)


def _logits(confidence: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(logit(np.clip(np.asarray(confidence, np.float64), SURE, 1 - SURE)))


def _checked(confidence: npt.NDArray[np.floating[Any]], correct: Bools) -> Floats:
    """Return the scores as float64, if they are scores and as many as there are outcomes."""
    scores = np.asarray(confidence, np.float64)
    if scores.shape != np.shape(correct):
        raise ConfigError(
            f"confidence has shape {scores.shape}, correct {np.shape(correct)}; give one outcome for each score"
        )
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        raise ConfigError(f"a score is {scores[wrong][0]}; scores are probabilities from 0 to 1")
    return scores
