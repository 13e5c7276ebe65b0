"""What a model finds on annotated rasters, under each condition."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from treedet.core.crown_arrays import CrownArrays
from treedet.datasets.annotated import AnnotatedRaster
from treedet.evaluation.attributes import Attributes
from treedet.evaluation.classes import Classes
from treedet.evaluation.conditions import AS_IT_IS, Condition, predict_conditions, spans_windows
from treedet.evaluation.ground import EvaluatedGround, ground_of
from treedet.inference.detector import Detector
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints


@dataclass(frozen=True)
class Standing:
    """Where an evaluation stands.

    Attributes:
        raster: The one being looked at.
        done: Rasters finished.
        total: Rasters in all.
        share: Of the raster being looked at, 0 to 1.
    """

    raster: str
    done: int
    total: int
    share: float = 0.0


Watch = Callable[[Standing], None]
Found = dict[Condition, list[PairedCrowns | PairedPoints]]
"""Crowns of each raster under each condition."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a model on annotated rasters.

    Attributes:
        conditions: How the rasters are seen.
        threshold: Score that crowns have at least.
        least: Score that those have which figures by score are made from.
        classes: Names of the classes that crowns are compared by.
        attributes: What is said about crowns that is compared.
        upsample: Whether pixels may be enlarged.
    """

    conditions: Sequence[Condition]
    threshold: float
    least: float
    classes: Classes
    attributes: Attributes
    upsample: bool


@dataclass
class Predicted:
    """What was found so far.

    Attributes:
        found: Crowns at the threshold.
        ranked: Crowns down to the least score.
        grounds: Rasters as they are, with their crowns.
        notes: Paths of the rasters that something was noted of.
    """

    found: Found
    ranked: Found
    grounds: list[EvaluatedGround] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def said(self, total: int) -> list[str]:
        """Return what was noted as sentences, with the number of rasters unless it is the total."""
        return [_sentence(text, len(set(paths)), total) for text, paths in self.notes.items()]


def predict_plots(
    detector: Detector, plots: Sequence[AnnotatedRaster], asked: Asked, *, watch: Watch | None = None
) -> Predicted:
    """Find the crowns of annotated rasters under each condition, one raster after the other.

    Args:
        detector: The model.
        plots: Rasters with their truth.
        asked: What is looked for.
        watch: Told before each raster, and after each of its conditions, where the evaluation stands.

    Raises:
        RasterError: A raster can not be used.
    """
    predicted = Predicted({one: [] for one in asked.conditions}, {one: [] for one in asked.conditions})
    watch = watch or _nobody
    for number, plot in enumerate(plots):
        watch(Standing(plot.path, number, len(plots)))
        for position, (condition, low, crowns) in enumerate(_conditions(detector, plot, asked)):
            ground = ground_of(plot, crowns, classes=asked.classes, attributes=asked.attributes)
            predicted.found[condition].append(ground.paired)
            predicted.ranked[condition].append(ground_of(plot, low, classes=asked.classes).paired)
            if condition == AS_IT_IS:
                predicted.grounds.append(ground)
            if condition.note:
                predicted.notes.setdefault(condition.note, []).append(plot.path)
            watch(Standing(plot.path, number, len(plots), (position + 1) / len(asked.conditions)))
    return predicted


def _conditions(
    detector: Detector, plot: AnnotatedRaster, asked: Asked
) -> Iterator[tuple[Condition, CrownArrays, CrownArrays]]:
    """Yield each condition with the crowns down to the least score, and those at the threshold."""
    # At a seam a whole crown of low score may take the place of a cut one of high score.
    levels = (asked.least, asked.threshold) if spans_windows(plot, detector.spec) else (asked.least,)
    with tempfile.TemporaryDirectory() as scratch:
        runs: list[Iterable[tuple[Condition, CrownArrays]]] = [
            predict_conditions(
                detector.model,
                plot,
                asked.conditions,
                threshold=level,
                scratch=Path(scratch),
                upsample=asked.upsample,
            )
            for level in levels
        ]
        if len(runs) == 1:
            for condition, crowns in runs[0]:
                yield condition, crowns, crowns
            return
        for (condition, low), (_, crowns) in zip(*runs, strict=True):
            yield condition, low, crowns


def _sentence(text: str, concerned: int, total: int) -> str:
    sentence = f"{text[0].upper()}{text[1:]}."
    return sentence if concerned == total else f"On {concerned} of {total} rasters: {sentence}"


def _nobody(standing: Standing) -> None:
    del standing
