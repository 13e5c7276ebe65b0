"""What is said about crowns against what is known of them: confusion, scores by class, and honest probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.errors import ConfigError
from treedet.metrics.assignment import Index
from treedet.metrics.bootstrap import DRAWS, Interval, class_intervals
from treedet.metrics.calibration import Reliability, reliability
from treedet.metrics.confusion import NOTHING, ClassScores, class_scores, confusion_matrix
from treedet.metrics.paired import PairedCrowns


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
        intervals: By drawing rasters (:func:`treedet.metrics.bootstrap.class_intervals`); none where crowns come
            without rasters.
    """

    names: tuple[str, ...]
    confusion: Index
    reliability: Reliability
    unknown: int = 0
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @cached_property
    def matched(self) -> ClassScores:
        """Scores given that a crown was found: what the head does. What is unsaid counts against recall."""
        return class_scores(self.confusion[:-1, :-1], len(self.names))

    @cached_property
    def all(self) -> ClassScores:
        """Scores of all crowns: what a user gets. Missed crowns count against recall, spurious against precision."""
        return class_scores(self.confusion, len(self.names))

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

    def scores(self, *, draws: int, seed: int) -> AttributeScores:
        truth, predicted, missed, spurious = (
            np.concatenate([NOTHING, *parts]) for parts in (self.truth, self.predicted, self.missed, self.spurious)
        )
        pooled = attribute_scores(
            truth,
            predicted,
            self.names,
            missed=missed,
            spurious=spurious,
            probabilities=np.concatenate([np.zeros(0, np.float32), *self.probabilities]),
            unknown=self.unknown,
        )
        return replace(pooled, intervals=class_intervals(self._confusions(), len(self.names), draws=draws, seed=seed))

    def _confusions(self) -> Index:
        """Return the confusion matrix of each raster, int64 ``[R, K + 1, K + 2]``."""
        size = len(self.names)
        rasters = zip(self.truth, self.predicted, self.missed, self.spurious, strict=True)
        found = [confusion_matrix(t, p, size, missed=lost, spurious=made_up) for t, p, lost, made_up in rasters]
        return np.array(found, np.int64).reshape(-1, size + 1, size + 2)


def scores_by_attribute(
    rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4, draws: int = DRAWS, seed: int = 0
) -> dict[str, AttributeScores]:
    """Match crowns whatever is said about them, and compare what is said.

    Under the rule on ignored crowns (:class:`treedet.metrics.paired.PairedCrowns`). A crown of which the attribute is
    not known is left out, and so is the prediction matched with it. A raster whose annotated crowns are all of that
    kind says nothing about the attribute and is left out with its spurious crowns; one without annotated crowns
    stays.

    Args:
        rasters: Annotated and predicted crowns, the latter down to the threshold.
        iou_threshold: A pair counts where its intersection over union is above this.
        draws: Samples of the rasters for the intervals.
        seed: Of these samples.

    Returns:
        Scores by attribute, crowns of all rasters pooled, in the order in which rasters name them.

    >>> from treedet.metrics.paired import PairedAttribute
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
    return {name: gathered.scores(draws=draws, seed=seed) for name, gathered in found.items()}
