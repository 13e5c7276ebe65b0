"""From finished parts to rows of the output: filters, ids, native pixels, totals."""

from __future__ import annotations

import logging
from importlib.metadata import version

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from treedet.core import crowns as crowns_table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.placed import Placed
from treedet.core.spec import ModelSpec
from treedet.inference.cover import POINTS_PER_SIDE, CanopyCover
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
        placed = place(part, setup)
        kept, table = self.rows(placed, crs=setup.crs, first_id=first_id)
        return placed.crowns.take(kept), table

    def rows(
        self, placed: Placed, *, crs: pyproj.CRS | None, first_id: int
    ) -> tuple[npt.NDArray[np.bool_], gpd.GeoDataFrame]:
        """Return which crowns are kept, bool ``[N]``, and those as rows with running ids.

        Args:
            placed: Crowns of any rasters.
            crs: CRS of their outlines.
            first_id: Number of the first row.
        """
        every = placed.table(self._labels, crs=crs, first_id=first_id, min_p=self._min_p)
        if self.probabilities:
            every = crowns_table.with_probabilities(every, placed.crowns, self._labels)
        if not self.text:
            return np.ones(len(placed), dtype=bool), every
        kept = self.keep(every)
        table = every[kept].reset_index(drop=True)
        table["crown_id"] = np.arange(first_id, first_id + len(table), dtype=np.int64)
        return kept, table


def place(part: CrownArrays, setup: Setup) -> Placed:
    """Return crowns of a run with their place on the map, and the file that holds the centre of each.

    Those whose centre lies where crowns are excluded are left out.
    """
    if setup.excluded is not None:
        part = part.take(~np.asarray(shapely.contains_xy(setup.excluded, part.centres), dtype=bool))
    grid, raster, members = setup.job.plan.grid, setup.raster, setup.raster.members
    outlines, wide, high = crowns_table.on_ground(part, grid, crs=setup.crs)
    holder = members.holding(part.centres * [raster.grid.width / grid.width, raster.grid.height / grid.height])
    boxes = native_boxes(part.boxes, setup) - np.tile(members.corners()[holder], 2)
    sources = np.array(members.paths, dtype=object)[holder]
    return Placed(part, outlines, np.stack([wide, high], axis=-1), sources, boxes)


def native_boxes(boxes: npt.NDArray[np.float64], setup: Setup) -> npt.NDArray[np.float64]:
    """Return boxes of the model grid in pixels of the raster's own file, float64 ``[N, 4]``."""
    grid, native = setup.job.plan.grid, setup.raster.native_grid
    if not setup.raster.warped:
        return np.asarray(boxes * np.array([native.width / grid.width, native.height / grid.height] * 2))
    outlines = grid.to_map(boxes)
    source_crs = setup.raster.source_crs
    if grid.crs is not None and source_crs is not None:
        outlines = crowns_table.reproject(outlines, grid.crs, source_crs)
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
        points_per_side: How finely canopy cover is counted; see :class:`treedet.inference.cover.CanopyCover`.
    """

    def __init__(
        self,
        plan: TilePlan,
        schema: LabelSchema,
        *,
        min_p: float | None = None,
        points_per_side: int = POINTS_PER_SIDE,
    ) -> None:
        self.crowns = 0
        self.kept = ClassTally(schema, plan.grid, min_p=min_p)
        # Before conditions: who asks for dead crowns alone shall not be told that all are dead.
        self.found = ClassTally(schema, plan.grid, min_p=min_p)
        self.cut = 0
        self.widest_cut_m = 0.0
        self.facts = RowFacts()
        self._cover = CanopyCover(plan.grid, points_per_side=points_per_side)
        self._plan = plan

    @property
    def hectares(self) -> float:
        """Valid ground in the AOI."""
        return self.facts.valid_px * self._plan.grid.gsd_x * self._plan.grid.gsd_y / 1e4

    @property
    def covered_hectares(self) -> float:
        """Ground under crowns."""
        return self._cover.hectares

    def add(self, found: CrownArrays, kept: CrownArrays, facts: RowFacts) -> None:
        """Count a part: crowns found, those of them that are kept, and how that went."""
        self.found.add(found)
        self.kept.add(kept)
        self.crowns += len(kept)
        # Without the ground, which would grow with the raster.
        self.facts += RowFacts(**facts.figures)  # type: ignore[arg-type]
        self._cover.add(kept.boxes)
        self.cut += int(kept.cut.sum())
        self.widest_cut_m = max(self.widest_cut_m, widest_cut_m(kept, self._plan))

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
        hectares = self.hectares
        return Summary(
            source=setup.raster.path,
            output=output,
            crowns=self.crowns,
            hectares=hectares,
            canopy_cover=min(1.0, self.covered_hectares / hectares) if hectares else 0.0,
            cut=self.cut,
            cure_m=CURE * self.widest_cut_m,
            windows=int(self.facts.windows),
            skipped=int(self.facts.skipped),
            seconds=self.facts.seconds + extra_s,
            network_s=self.facts.network_s,
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
            classes=self.kept.tables(hectares),
            cautions=self.found.cautions,
            setting=setup.identity.get("setting", "treedet"),
        )
