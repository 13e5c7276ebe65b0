"""Is the annotation complete? The starting model is run over it before anything is learned from it.

Ground without a crown is taught as background. Where only some crowns were drawn, a model would learn not to see the
others: it fine-tunes itself into finding nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core import crowns as crowns_table
from treedet.core.boxes import area, intersection
from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.neighbours import overlapping_pairs
from treedet.core.spec import DEFAULT_POINT, ModelSpec
from treedet.datasets.annotated import AnnotatedRaster
from treedet.inference.memory import find_crowns
from treedet.inference.pipeline import Progress
from treedet.models.base import WindowDetector
from treedet.vectors.writers import write_crowns

log = logging.getLogger("treedet")

MET_SHARE = 0.25
"""A detection meets an annotated crown if they share this much of the smaller one: styles of drawing differ."""
MANY, MANY_SHARE = 10, 0.25
"""From this many confident detections without an annotation, and this share of all, training stops and asks."""


SURER, HIGHEST_SCORE = 0.15, 0.95
"""How much above its default threshold a model without a precise one is called confident, and the most asked."""


@dataclass(frozen=True, eq=False)
class Unannotated:
    """Confident detections of one raster that nobody annotated.

    Attributes:
        plot: The annotated raster.
        crowns: Those detections, boxes in pixels of ``plot.grid``.
        confident: How many confident detections there are in all.
    """

    plot: AnnotatedRaster
    crowns: CrownArrays
    confident: int


@dataclass(frozen=True)
class AnnotationCheck:
    """What the starting model says about the annotation of all rasters.

    Attributes:
        rasters: One entry per raster.
        threshold: Score from which a detection is confident.
        labels: What the starting model can say.
    """

    rasters: tuple[Unannotated, ...]
    threshold: float
    labels: LabelSchema

    @property
    def confident(self) -> int:
        """Confident detections."""
        return sum(entry.confident for entry in self.rasters)

    @property
    def unannotated(self) -> int:
        """Those of them that nobody annotated."""
        return sum(len(entry.crowns) for entry in self.rasters)

    @property
    def suspicious(self) -> bool:
        """True where so many crowns seem to be missing that training would unlearn them."""
        return self.unannotated >= MANY and self.unannotated >= MANY_SHARE * self.confident

    def partial(self) -> list[AnnotatedRaster]:
        """Return the plots with the unannotated detections as regions that are neither crown nor background."""
        return [
            entry.plot.with_ignored(np.concatenate([entry.plot.ignored, entry.crowns.boxes]))
            for entry in self.rasters
        ]

    def message(self) -> str:
        """Return what a user has to know and decide."""
        worst = max(self.rasters, key=lambda entry: len(entry.crowns))
        return (
            f"{self.unannotated} of {self.confident} confident detections of the starting model (score "
            f"{self.threshold:.2f} and more) have no annotated crown, {len(worst.crowns)} of them on "
            f"{worst.plot.path}. If they are trees, give --aoi with the area where every crown is drawn, or "
            "--partial to leave such places out; if they are false alarms, --complete trains on the annotation as it "
            "is"
        )

    def write(self, path: Path) -> None:
        """Write the unannotated detections to a file, replacing an earlier one.

        Args:
            path: File of any format for crowns; geometries are in the CRS of the first raster.
        """
        first = self.rasters[0].plot
        tables = [
            crowns_table.to_table(e.crowns, e.plot.grid, self.labels, source=e.plot.path, crs=first.crs)
            for e in self.rasters
            if len(e.crowns)
        ]
        together = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs=first.crs)
        together["crown_id"] = np.arange(1, len(together) + 1, dtype=np.int64)
        write_crowns(together, path, overwrite=True)


def confident_score(spec: ModelSpec) -> float:
    """Return the score from which a detection of a model is called confident.

    Halfway from the default operating point to the precise one; a little above the default where that is no higher.
    """
    default = spec.operating_points[DEFAULT_POINT].threshold
    precise = spec.operating_points.get("precise")
    if precise is not None and precise.threshold > default:
        return (default + precise.threshold) / 2
    return min(HIGHEST_SCORE, default + SURER)


def check_annotation(
    model: WindowDetector, plots: Sequence[AnnotatedRaster], *, watch: Callable[[Progress], None] | None = None
) -> AnnotationCheck:
    """Run a model over annotated rasters and compare.

    Args:
        model: The starting model.
        plots: Annotated rasters; inside an AOI annotation is complete by declaration, so they should have none.
        watch: Called after each batch of windows.
    """
    threshold = confident_score(model.spec)
    entries = []
    for plot in plots:
        with plot.open() as raster:
            found = find_crowns(raster, model, threshold=threshold, area=plot.aoi, watch=watch)
        unmet = ~met(found.boxes, np.concatenate([plot.boxes, plot.ignored]))
        entries.append(Unannotated(plot, found.take(unmet), len(found)))
    check = AnnotationCheck(tuple(entries), threshold, model.spec.labels)
    log.info(
        "annotation: %d confident detections of the starting model, %d of them not annotated",
        check.confident,
        check.unannotated,
    )
    return check


def met(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which boxes ``[N, 4]`` share enough with one of the others ``[M, 4]``; bool ``[N]``.

    >>> met(np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([[3.0, 0, 5, 4]])).tolist()
    [True, False]
    """
    answer = np.zeros(len(boxes), dtype=bool)
    if len(boxes) and len(others):
        a, b = overlapping_pairs(boxes, others)
        smaller = np.minimum(area(boxes)[a], area(others)[b])
        answer[a[intersection(boxes[a], others[b]) > MET_SHARE * smaller]] = True
    return answer
