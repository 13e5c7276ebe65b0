"""Works off one unit of a run over many rasters; every machine calls the same function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from treedet.core.crown_arrays import CrownArrays
from treedet.inference.campaign import Ground, Unit, ground_setup
from treedet.inference.campaign_folder import UnitResult
from treedet.inference.candidates import Candidates
from treedet.inference.options import PredictOptions
from treedet.inference.parts import RowFacts
from treedet.inference.pipeline import Progress, run
from treedet.models.base import WindowDetector


@dataclass
class _Band:
    """A sink that keeps what a band of rows gives."""

    parts: list[CrownArrays] = field(default_factory=list)
    open: Candidates = field(default_factory=Candidates.empty)
    facts: RowFacts = field(default_factory=RowFacts)

    def finish_row(self, row: int, closed: CrownArrays, open_: Candidates, facts: RowFacts) -> None:
        """Keep the crowns a row closed, and the detections open below it."""
        del row
        if len(closed):
            self.parts.append(closed)
        self.open = open_
        self.facts += facts


def work_off(
    unit: Unit,
    ground: Ground,
    model: WindowDetector,
    options: PredictOptions,
    *,
    watch: Callable[[Progress], None] | None = None,
) -> UnitResult:
    """Find the crowns of a band of rows of windows.

    Args:
        unit: The band.
        ground: The ground it belongs to.
        model: Finds crowns in windows.
        options: What is looked for.
        watch: Called after each batch of windows.

    Returns:
        What was found; the result is the same wherever and whenever it is called. A file that can not be read is
        among the troubles, and its ground without data.
    """
    setup = ground_setup(ground, model, options)
    band = _Band()
    run(setup.raster, model, setup.job, band, first_row=unit.first, last_row=unit.last, watch=watch)
    attributes = {name: len(values) for name, values in model.spec.labels.attributes.items()}
    closed = CrownArrays.concat(band.parts, attributes)
    return UnitResult(closed, band.open, band.facts, setup.raster.troubles.reasons())
