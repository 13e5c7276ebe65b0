"""Everything decided about a run over many rasters before it starts: ground, units of work, settings.

A unit of work is a band of rows of windows of one ground. Units know nothing of each other, so any machine may work
off any of them, in any order; what meets at the borders of bands is settled when they are gathered.
"""

from __future__ import annotations

import hashlib
import json
import logging
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.spec import Reading
from treedet.errors import ConfigError, NoOverlapError, RasterError, UnreadableRasterError
from treedet.inference.options import PredictOptions
from treedet.inference.setup import PARTS, Setup, check_gsd, followed, merging, reading, set_up, windows_of
from treedet.models.base import WindowDetector
from treedet.rasters.opening import Opening
from treedet.rasters.raster import Raster
from treedet.rasters.survey import Survey
from treedet.rasters.tiling import TilePlan
from treedet.vectors.annotations import read_polygons

log = logging.getLogger("treedet")

UNIT_WINDOWS = 128
"""Least windows of a unit, where its ground has as many: a minute or two on a CPU, lost if a machine dies."""


@dataclass(frozen=True)
class Unit:
    """A band of rows of windows of one ground.

    Attributes:
        ground: Number of the ground.
        first: First row of windows.
        last: Row after its last one.
        windows: Windows in it.
        key: Name of its result: a digest of all that it depends on besides the settings of the run.
    """

    ground: int
    first: int
    last: int
    windows: int
    key: str


def _ground_of(unit: Unit) -> int:
    return unit.ground


@dataclass(frozen=True, eq=False)
class Ground:
    """A piece of ground to be worked off.

    Attributes:
        opening: Its raster, of one or more files.
        area: Where crowns are wanted, in pixels of the raster's grid; None for everywhere.
        mode: Whether it is resampled to the model's GSD.
    """

    opening: Opening
    area: BaseGeometry | None
    mode: Reading


@dataclass(frozen=True, eq=False)
class Campaign:
    """A run over many rasters that is ready to start.

    Attributes:
        grounds: Pieces of ground in the order of their names.
        units: Units of work, ground by ground, from north to south.
        failures: Why a file can not be used, by path.
        outside: Files that the AOI does not touch.
        crs: CRS of one output for all; None for pixel coordinates.
        settings: Everything the result depends on besides the files, JSON-able.
        options: What the user asked for.
    """

    grounds: tuple[Ground, ...]
    units: tuple[Unit, ...]
    failures: Mapping[str, str]
    outside: int
    crs: pyproj.CRS | None
    settings: Mapping[str, Any]
    options: PredictOptions

    @property
    def windows(self) -> int:
        """Windows of all units."""
        return sum(unit.windows for unit in self.units)

    @property
    def rasters(self) -> int:
        """Files that are read."""
        return sum(len(ground.opening.members) for ground in self.grounds)

    def units_of(self, ground: int) -> tuple[Unit, ...]:
        """Return the units of a ground, from north to south."""
        first = bisect_left(self.units, ground, key=_ground_of)
        return self.units[first : bisect_right(self.units, ground, key=_ground_of)]


def ground_setup(ground: Ground, model: WindowDetector, options: PredictOptions) -> Setup:
    """Return a ground ready to be worked off, with a raster of its own that is not open yet.

    Raises:
        BandMismatchError: Its rasters have another number of bands than the model.
    """
    # The AOI is known in pixels already, or is everywhere.
    plain = replace(options, aoi=None)
    return set_up(Raster(ground.opening), model, plain, area=ground.area, mode=ground.mode, told=True)


def plan_campaign(surveyed: Survey, model: WindowDetector, options: PredictOptions) -> Campaign:
    """Decide what is worked off, and in which units.

    Args:
        surveyed: The files.
        model: Finds crowns in windows.
        options: What the user asked for.

    Raises:
        TreedetError: The AOI or an option can not be used, or no ground is left.
    """
    threshold = model.spec.threshold(options.score_threshold)
    areas, modes = _Areas(options.aoi), _Modes(model, options)
    failures, outside = dict(surveyed.failures), 0
    grounds: list[Ground] = []
    units: list[Unit] = []
    for opening in surveyed.grounds:
        try:
            raster = Raster(opening)
            ground = Ground(opening, areas.on(raster), modes.of(raster))
            setup = ground_setup(ground, model, options)
        except NoOverlapError:
            outside += len(opening.members)
        except RasterError as error:
            failures |= {member.source.path: str(error) for member in opening.members}
        else:
            units += _units(len(grounds), setup, ground)
            grounds.append(ground)
    if not grounds:
        if outside:
            raise NoOverlapError(
                f"the AOI {options.aoi} overlaps none of {outside} rasters; check that both are of the same place"
            )
        raise UnreadableRasterError(next(iter(failures.values()), "no raster is given"))
    settings = _settings(surveyed, model, options, threshold=threshold, areas=areas)
    crs = _crs([ground.opening for ground in grounds])
    return Campaign(tuple(grounds), tuple(units), failures, outside, crs, settings, options)


class _Areas:
    """The AOI on each ground, read once for each CRS."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._by_crs: dict[str, BaseGeometry] = {}

    def on(self, raster: Raster) -> BaseGeometry | None:
        """Return the AOI in pixels of a raster's grid, or None where there is none.

        Raises:
            NoOverlapError: The AOI does not touch the raster.
        """
        if self._path is None:
            return None
        key = "" if raster.source_crs is None else raster.source_crs.srs
        if key not in self._by_crs:
            polygons = read_polygons(self._path, crs=raster.source_crs)
            shapely.prepare(polygons)
            self._by_crs[key] = polygons
        return raster.area_on_grid(self._by_crs[key], name=f"the AOI {self._path}")

    @property
    def digest(self) -> str | None:
        """What tells one AOI from another."""
        if not self._by_crs:
            return None
        parts = [shapely.to_wkb(shapely.normalize(self._by_crs[key])) for key in sorted(self._by_crs)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


class _Modes:
    """How imagery of a resolution is read, decided and said once for each."""

    def __init__(self, model: WindowDetector, options: PredictOptions) -> None:
        self._spec, self._coarse = model.spec, options.coarse
        self._known: dict[str, Reading] = {}

    def of(self, raster: Raster) -> Reading:
        """Return how a raster is read."""
        key = f"{raster.grid.gsd:.3g}"
        if key not in self._known:
            check_gsd(raster.grid, self._spec)
            self._known[key] = reading(raster.grid, self._spec, coarse=self._coarse)
        return self._known[key]


def _units(number: int, setup: Setup, ground: Ground) -> Iterator[Unit]:
    plan = setup.job.plan
    about = {"windows": plan.to_dict(), "mode": ground.mode, "AOI": _digest_of(ground.area)}
    first = 0
    while first < len(plan.rows):
        last, windows = first, 0
        while last < len(plan.rows) and windows < UNIT_WINDOWS:
            windows += len(plan.rows[last])
            last += 1
        if windows:
            files = _files(setup, ground, plan, range(first, last))
            text = json.dumps({**about, "rows": [first, last], "files": files}, default=str)
            yield Unit(number, first, last, windows, hashlib.sha256(text.encode()).hexdigest()[:24])
        first = last


def _files(setup: Setup, ground: Ground, plan: TilePlan, rows: range) -> list[Any]:
    """Return what tells the files under some rows of windows, as they are now, from others."""
    windows = [window for row in rows for window in plan.rows[row]]
    scale = setup.raster.grid.height / plan.grid.height
    top, bottom = windows[0].row * scale, windows[-1].bottom * scale
    boxes = setup.raster.members.boxes
    near = np.flatnonzero((boxes[:, 1] < bottom) & (boxes[:, 3] > top))
    members = [ground.opening.members[i] for i in near]
    return [
        [m.source.path, m.stamp, m.box.box, m.size, m.source.bands, m.source.stretch, m.source.alpha, m.source.nodata]
        for m in members
    ]


def _digest_of(area: BaseGeometry | None) -> str | None:
    return None if area is None else hashlib.sha256(shapely.to_wkb(area)).hexdigest()


def _crs(openings: list[Opening]) -> pyproj.CRS | None:
    """Return the CRS that most files have."""
    counts: Counter[str] = Counter()
    systems: dict[str, pyproj.CRS | None] = {}
    for opening in openings:
        key = "" if opening.source_crs is None else opening.source_crs.to_wkt()
        counts[key] += len(opening.members)
        systems[key] = opening.source_crs
    return systems[counts.most_common(1)[0][0]]


def one_crs(campaign: Campaign) -> pyproj.CRS | None:
    """Return the CRS of one output for all, and say if crowns are brought to it.

    Raises:
        ConfigError: Some rasters have a CRS and others none.
    """
    systems = {ground.opening.source_crs for ground in campaign.grounds}
    if None in systems and len(systems) > 1:
        without = next(g.opening.source.path for g in campaign.grounds if g.opening.source_crs is None)
        raise ConfigError(
            f"{without} has no CRS and others have one: pixels and map coordinates do not go into one file; write "
            "one file per raster (--per_raster)"
        )
    if len(systems) > 1 and campaign.crs is not None:
        log.info("crowns of all rasters are written in %s, the CRS of most of them", campaign.crs.name)
    return campaign.crs


def _settings(
    surveyed: Survey, model: WindowDetector, options: PredictOptions, *, threshold: float, areas: _Areas
) -> dict[str, Any]:
    merge = merging(model.spec, followed(model.spec, options))
    return {
        "kind": "many rasters",
        **dict(model.identity),
        "AOI": areas.digest,
        "windows": asdict(windows_of(model.spec, options)),
        "windows of a unit": UNIT_WINDOWS,
        "GSD given": options.gsd,
        "coarse imagery": options.coarse,
        "bands given": options.bands and list(options.bands),
        "stretch given": options.stretch and list(options.stretch),
        "stretch measured": {kind: list(values) for kind, values in surveyed.stretches.items()},
        "score threshold": threshold,
        "merging": [merge.iou_threshold, merge.ios_threshold, merge.cut_margin_px],
        "version": version("treedet"),
        "parts": PARTS,
    }
