"""A run whose crowns stay in memory, for results that fit there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays
from treedet.core.spec import ModelSpec
from treedet.inference.candidates import Candidates
from treedet.inference.options import PredictOptions
from treedet.inference.parts import RowFacts
from treedet.inference.pipeline import Progress, run
from treedet.inference.setup import Setup, set_up
from treedet.models.base import WindowDetector
from treedet.rasters.raster import Raster


@dataclass
class Memory:
    """A sink that keeps crowns."""

    parts: list[CrownArrays] = field(default_factory=list)

    def finish_row(self, row: int, closed: CrownArrays, open_: Candidates, facts: RowFacts) -> None:
        """Keep the crowns a row closed."""
        del row, open_, facts
        self.parts.append(closed)

    def all(self, spec: ModelSpec) -> CrownArrays:
        """Return everything kept."""
        return CrownArrays.concat(self.parts, {name: len(v) for name, v in spec.labels.attributes.items()})


def run_in_memory(setup: Setup, model: WindowDetector, *, watch: Callable[[Progress], None] | None) -> CrownArrays:
    """Return the crowns of a prepared run, in pixels of its model grid."""
    memory = Memory()
    run(setup.raster, model, setup.job, memory, watch=watch)
    return memory.all(model.spec)


def find_crowns(
    raster: Raster,
    model: WindowDetector,
    *,
    threshold: float | str | None = None,
    area: BaseGeometry | None = None,
    coarse: Literal["auto", "adapt", "native"] = "auto",
    watch: Callable[[Progress], None] | None = None,
) -> CrownArrays:
    """Find the crowns of an open raster, as arrays rather than as a table.

    Args:
        raster: The raster.
        model: Finds crowns in windows.
        threshold: Least score, or the name of an operating point; the model's default if None.
        area: Where crowns are wanted, in pixels of ``raster.grid``; None for everywhere.
        coarse: How imagery coarser than the model's GSD is read; see
            :class:`treedet.inference.options.PredictOptions`.
        watch: Called after each batch of windows.

    Returns:
        Crowns with boxes in pixels of ``raster.grid``.

    Raises:
        TreedetError: The raster can not be used.
    """
    setup = set_up(raster, model, PredictOptions(score_threshold=threshold, coarse=coarse), area=area)
    return run_in_memory(setup, model, watch=watch).scaled(setup.job.plan.grid, raster.grid)
