"""From finished parts to rows of the output: filters, ids, native pixels, totals."""

from __future__ import annotations

import logging
from importlib.metadata import version

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from treedet.core import crowns as crowns_table
from treedet.core.crowns import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.inference.cover import CanopyCover
from treedet.inference.options import PredictOptions
from treedet.inference.parts import RowFacts
from treedet.inference.setup import Setup
from treedet.inference.summary import Summary
from treedet.inference.tally import ClassTally
from treedet.inference.where import holds
from treedet.rasters.tiling import TilePlan

log = logging.getLogger("treedet")

CUT_SLACK_PX = 4.0
"""A cut piece spans the overlap if it is at most this much narrower: the cut margins at both ends."""
CURE = 1.5
"""How much wider than the widest cut piece a whole crown may be expected to be."""


class Filters:
    """How crowns become rows: what is said of them, and by which conditions they are kept.

    Args:
        options: ``min_p``, ``probabilities``, ``where`` and ``min_diameter``.
        spec: The model's labels, so that a condition on an absent column is found before any work.

    Raises:
        ConfigError: The condition can not be understood, or columns of probabilities would have the same name.
    """

    def __init__(self, options: PredictOptions, spec: ModelSpec) -> None:
        self._where = options.where
        self._least = options.min_diameter
        self._exclude = options.exclude
        self._labels = spec.labels
        self._min_p = options.min_p
        # Names of the columns of probabilities, refused here if they would be there twice.
        self.probabilities = tuple(crowns_table.probability_columns(spec.labels)) if options.probabilities else ()
        if (options.min_p is not None or options.probabilities) and not spec.labels.attributes:
            log.info("min_p and probabilities change nothing: the model names no attribute")
        if self._where:
            nothing = crowns_table.empty(spec.labels)
            self.keep(nothing.assign(**{name: np.zeros(0, np.float32) for name in self.probabilities}))

    @property
    def text(self) -> str:
        """The conditions in words; empty where there are none."""
        least = f"diameter_m >= {self._least:g}" if self._least is not None else None
        outside = f"not in {self._exclude}" if self._exclude is not None else None
        return " and ".join(part for part in (self._where, least, outside) if part)

    def keep(self, table: gpd.GeoDataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows of a crowns table are kept, bool ``[N]``."""
        kept = np.ones(len(table), dtype=bool)
        if self._least is not None:
            kept &= (table["diameter_m"] >= self._least).to_numpy()
        if self._where:
            kept &= holds(self._where, table)
        return kept

    def table(self, part: CrownArrays, setup: Setup, *, first_id: int) -> tuple[CrownArrays, gpd.GeoDataFrame]:
        """Return the crowns of a part that are kept, as arrays and as rows with running ids."""
        every = crowns_table.to_table(
            part,
            setup.job.plan.grid,
            self._labels,
            source=setup.raster.path,
            crs=setup.crs,
            first_id=first_id,
            min_p=self._min_p,
        )
        if self.probabilities:
            every = crowns_table.with_probabilities(every, part, self._labels)
        if not self.text:
            return part, every
        kept = self.keep(every)
        if setup.excluded is not None:
            kept &= ~np.asarray(shapely.contains_xy(setup.excluded, part.centres), dtype=bool)
        table = every[kept].reset_index(drop=True)
        table["crown_id"] = np.arange(first_id, first_id + len(table), dtype=np.int64)
        return part.take(kept), table


def native_boxes(boxes: npt.NDArray[np.float64], setup: Setup) -> npt.NDArray[np.float64]:
    """Return boxes of the model grid in pixels of the raster's own file, float64 ``[N, 4]``."""
    grid, native = setup.job.plan.grid, setup.raster.native_grid
    if not setup.raster.warped:
        return np.asarray(boxes * np.array([native.width / grid.width, native.height / grid.height] * 2))
    outlines = grid.to_map(boxes)
    if grid.crs is not None and setup.crs is not None:
        outlines = crowns_table.reproject(outlines, grid.crs, setup.crs)
    return np.asarray(native.to_pixels(outlines))


def widest_cut_m(crowns: CrownArrays, plan: TilePlan) -> float:
    """Return the widest side, in metres, of the cut crowns that are as wide as the overlap of windows.

    Smaller ones are pieces that the window beyond saw whole and did not take for a crown; a wider overlap would not
    cure those. 0 where there is none.
    """
    sides = (crowns.boxes[crowns.cut, 2:] - crowns.boxes[crowns.cut, :2]).max(axis=1, initial=0.0)
    wide = sides[sides >= plan.overlap_px - CUT_SLACK_PX]
    return float(wide.max(initial=0.0)) * plan.grid.gsd


class Ledger:
    """Adds up what the parts of a run gave.

    Args:
        plan: Windows on the model grid.
        schema: Names of classes and attributes.
        min_p: Least probability of an attribute.
    """

    def __init__(self, plan: TilePlan, schema: LabelSchema, *, min_p: float | None = None) -> None:
        self.crowns = 0
        self._kept = ClassTally(schema, plan.grid, min_p=min_p)
        # Before conditions: who asks for dead crowns alone shall not be told that all are dead.
        self._found = ClassTally(schema, plan.grid, min_p=min_p)
        self._cut = 0
        self._widest_cut_m = 0.0
        self._facts = RowFacts()
        self._cover = CanopyCover(plan.grid)
        self._plan = plan

    def add(self, found: CrownArrays, kept: CrownArrays, facts: RowFacts) -> None:
        """Count a part: crowns found, those of them that are kept, and how that went."""
        self._found.add(found)
        self._kept.add(kept)
        self.crowns += len(kept)
        # Without the ground, which would grow with the raster.
        self._facts += RowFacts(**facts.figures)  # type: ignore[arg-type]
        self._cover.add(kept.boxes)
        self._cut += int(kept.cut.sum())
        widest = widest_cut_m(kept, self._plan)
        self._widest_cut_m = max(self._widest_cut_m, widest)

    def summary(self, setup: Setup, *, name: str, output: str, filters: str, extra_s: float) -> Summary:
        """Return the totals, with how the run was done.

        Args:
            setup: The run.
            name: The model's name.
            output: File written.
            filters: Conditions in words.
            extra_s: Seconds spent after the last row of windows.
        """
        plan, facts, merge = setup.job.plan, setup.raster.facts, setup.job.merge
        hectares = self._facts.valid_px * plan.grid.gsd_x * plan.grid.gsd_y / 1e4
        return Summary(
            source=setup.raster.path,
            output=output,
            crowns=self.crowns,
            hectares=hectares,
            canopy_cover=min(1.0, self._cover.hectares / hectares) if hectares else 0.0,
            cut=self._cut,
            cure_m=CURE * self._widest_cut_m,
            windows=int(self._facts.windows),
            skipped=int(self._facts.skipped),
            seconds=self._facts.seconds + extra_s,
            network_s=self._facts.network_s,
            megapixels=plan.grid.width * plan.grid.height / 1e6,
            gsd=facts.gsd,
            gsd_reason=facts.gsd_reason,
            model_gsd=setup.seen_gsd,
            mode=setup.mode,
            bands=facts.bands,
            bands_reason=facts.bands_reason,
            stretch=setup.raster.stretch,
            crs="pixel coordinates" if setup.crs is None else setup.crs.name,
            model=f"{name} ({setup.identity['model'][:12]})",
            device=setup.identity["device"],
            precision=setup.identity["precision"],
            score_threshold=setup.job.threshold,
            iou_threshold=merge.iou_threshold,
            ios_threshold=merge.ios_threshold,
            window_px=(plan.width, plan.height),
            overlap_px=plan.overlap_px,
            aoi=setup.options.aoi,
            filters=filters,
            version=version("treedet"),
            min_p=setup.options.min_p,
            classes=self._kept.tables(hectares),
            cautions=self._found.cautions,
            setting=setup.identity.get("setting", "treedet"),
        )
