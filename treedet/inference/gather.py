"""From finished units to tables: borders of units settled, crowns placed, totals added up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import pyproj
from affine import Affine

from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.placed import Placed
from treedet.inference.campaign import Campaign, ground_setup
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.cover import POINTS_PER_SIDE
from treedet.inference.exclusion import Exclusion
from treedet.inference.merge import CrownMerger
from treedet.inference.output import Ledger, place
from treedet.inference.parts import RowFacts
from treedet.inference.pipeline import crowns_in
from treedet.inference.setup import Setup
from treedet.inference.tally import ClassTally
from treedet.inference.zone_run import ZoneRun
from treedet.models.base import WindowDetector

FEWEST_POINTS = 128
"""Points along a side on which canopy cover of one of many grounds is counted."""
NOWHERE = Grid(None, Affine.identity(), 1, 1, 1.0, 1.0)
"""The grid of tallies that only add up others."""


@dataclass(frozen=True)
class Piece:
    """Crowns of a part of a ground, settled.

    Attributes:
        ground: Number of the ground.
        setup: How it was worked off; its CRS is that of the table the crowns go to.
        crowns: Crowns, in pixels of its model grid.
        facts: What was counted.
        settled: No later piece of the ground has a crown whose box begins above this row of the model grid.
        last: True for the last piece of the ground.
    """

    ground: int
    setup: Setup
    crowns: CrownArrays
    facts: RowFacts
    settled: float
    last: bool


class Sink(Protocol):
    """Takes crowns, ground by ground.

    Attributes:
        own_crs: Crowns are wanted in the CRS of their raster.
        crs: Else the CRS they are wanted in; None for pixels.
    """

    own_crs: bool
    crs: pyproj.CRS | None

    def take(self, piece: Piece, placed: Placed) -> None:
        """Take the crowns of a piece: ``placed`` holds those of them that do not lie where crowns are excluded."""

    def finish(self) -> None:
        """Write what is left."""


def gather(
    campaign: Campaign,
    folder: CampaignFolder,
    model: WindowDetector,
    sink: Sink,
    *,
    exclusion: Exclusion,
    troubles: dict[str, str],
) -> None:
    """Hand the crowns of all units to a sink.

    Args:
        campaign: The run; all its units are finished.
        folder: Where their results are.
        model: The model they were found with; only what it says about itself is used.
        sink: Takes the crowns.
        exclusion: Where crowns are dropped.
        troubles: Files that could not be read, by path; those that units tell of are added.

    Raises:
        OutputError: A result is missing or damaged, or the sink can not write.
    """
    attributes = {name: len(values) for name, values in model.spec.labels.attributes.items()}
    for number, ground in enumerate(campaign.grounds):
        setup = ground_setup(ground, model, campaign.options)
        setup = replace(setup, excluded=exclusion.on(setup.raster, setup.job.plan.grid))
        if not sink.own_crs:
            setup = replace(setup, crs=sink.crs)
        for piece in _pieces(campaign, number, setup, folder, attributes=attributes, troubles=troubles):
            sink.take(piece, place(piece.crowns, setup))
    exclusion.say_unmet("any raster")
    sink.finish()


def _pieces(
    campaign: Campaign,
    number: int,
    setup: Setup,
    folder: CampaignFolder,
    *,
    attributes: Mapping[str, int],
    troubles: dict[str, str],
) -> Iterator[Piece]:
    """Yield the crowns of a ground from north to south, those at the borders of units with the lower one."""
    units, plan = campaign.units_of(number), setup.job.plan
    merger = CrownMerger(setup.job.merge)
    if not units:
        yield Piece(number, setup, CrownArrays.concat([], attributes), RowFacts(), math.inf, last=True)
    for unit in units:
        result = folder.load(unit.key)
        for path, reason in result.troubles.items():
            troubles.setdefault(path, reason)
        below = plan.next_top(unit.last - 1)
        crowns = result.closed
        if len(result.open) or len(merger.open):
            border = crowns_in(merger.push(result.open, next_top=below), setup.job)
            crowns = CrownArrays.concat([crowns, border], attributes)
        top = float(merger.open.boxes[:, 1].min(initial=below))
        yield Piece(number, setup, crowns, result.facts, top, last=unit is units[-1])


class Totals:
    """Adds up grounds.

    Args:
        model: Tells the classes.
        min_p: Least probability of an attribute.
        grounds: How many there are. Of many, canopy cover is counted on fewer points each, and not on fewer together.
        zones: Counts crowns by zones on a map; None where nothing does.
        crs: CRS of that map.
    """

    def __init__(
        self,
        model: WindowDetector,
        *,
        min_p: float | None,
        grounds: int,
        zones: ZoneRun | None = None,
        crs: pyproj.CRS | None = None,
    ) -> None:
        self._zones, self._crs = zones, crs
        self._points = max(FEWEST_POINTS, round(POINTS_PER_SIDE / math.sqrt(max(1, grounds))))
        self._schema, self._min_p = model.spec.labels, min_p
        self.kept = ClassTally(self._schema, NOWHERE, min_p=min_p)
        self.found = ClassTally(self._schema, NOWHERE, min_p=min_p)
        self.facts = RowFacts()
        self.crowns = self.cut = 0
        self.hectares = self.covered_hectares = self.widest_cut_m = 0.0
        self._ledgers: dict[int, Ledger] = {}

    def add(self, piece: Piece, kept: CrownArrays) -> None:
        """Count a piece, and those of its crowns that are kept."""
        ledger = self._ledgers.get(piece.ground)
        if ledger is None:
            ledger = self._ledgers[piece.ground] = Ledger(
                piece.setup.job.plan, self._schema, min_p=self._min_p, points_per_side=self._points
            )
        ledger.add(piece.crowns, kept, piece.facts)
        if self._zones is not None:
            self._zones.add(kept, piece.facts.ground, piece.setup.job.plan.grid, crs=self._crs)
        if piece.last:
            self._close(self._ledgers.pop(piece.ground))

    def _close(self, ledger: Ledger) -> None:
        self.kept.join(ledger.kept)
        self.found.join(ledger.found)
        self.facts += ledger.facts
        self.crowns += ledger.crowns
        self.cut += ledger.cut
        self.hectares += ledger.hectares
        self.covered_hectares += ledger.covered_hectares
        self.widest_cut_m = max(self.widest_cut_m, ledger.widest_cut_m)
