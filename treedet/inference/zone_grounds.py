"""Zones on many rasters: laid once over all of them, on the map."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.grid import Grid
from treedet.errors import ConfigError
from treedet.inference.campaign import Campaign
from treedet.inference.campaign_run import Run
from treedet.inference.zone_frame import PlacedZones, meeting_extents, zones_on_map
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_run import ZoneRun
from treedet.rasters.georeference import outline
from treedet.vectors.annotations import read_polygons
from treedet.vectors.crs import bring_to
from treedet.vectors.zone_table import check_zones_target, zones_beside

log = logging.getLogger("treedet")


@dataclass(frozen=True)
class GroundZones:
    """Zones of a run over many rasters.

    Attributes:
        placed: The zones in the CRS of most rasters.
        area: Where crowns are looked for, in the same; None for everywhere.
    """

    placed: PlacedZones
    area: BaseGeometry | None


def zones_target(output: Path, *, per_raster: bool) -> Path:
    """Return where the table of zones goes: beside the crowns, or beside the folder of the files of each raster.

    >>> zones_target(Path("crowns"), per_raster=True).name, zones_target(Path("crowns.csv"), per_raster=True).name
    ('crowns-zones.gpkg', 'crowns-zones.csv')
    """
    return zones_beside(output.with_suffix(".gpkg") if per_raster and not output.suffix else output)


def check_zones_of_many(
    options: ZoneOptions | None, output: str | Path, *, per_raster: bool, overwrite: bool
) -> None:
    """Find out before any work whether the table of zones of many rasters can be written.

    Raises:
        OutputError: It can not.
    """
    if options is not None and options.wanted:
        check_zones_target(zones_target(Path(output), per_raster=per_raster), overwrite=overwrite)


def zones_on_grounds(options: ZoneOptions | None, campaign: Campaign) -> GroundZones | None:
    """Return zones on the map of most rasters of a run; None where nothing is asked for.

    Args:
        options: The zones.
        campaign: The run.

    Raises:
        ConfigError: A raster has no CRS, or there would be too many cells.
        CrownsError: The zones can not be read.
        CrsMismatchError: No zone lies on any raster.
    """
    if options is None or not options.wanted:
        return None
    crs = campaign.crs
    lost = [g.opening.source.path for g in campaign.grounds if g.opening.source_crs is None]
    if lost or crs is None:
        raise ConfigError(
            f"zones and grid (--zones, --grid) of many rasters are laid on the map, and {lost[0]} has no CRS; leave "
            "them out, or give one raster at a time"
        )
    extents = _extents([ground.opening.native_grid for ground in campaign.grounds], crs)
    placed = zones_on_map(options, crs, extents, other="the rasters")
    area = None
    if campaign.options.aoi is not None:
        area = read_polygons(campaign.options.aoi, crs=crs, other="the rasters")
        shapely.prepare(area)
    if options.grid is not None and area is not None:
        near = np.asarray(shapely.intersects(area, placed.polygons))
        placed = replace(placed, zones=placed.zones.take(near), polygons=placed.polygons[near])
        placed = replace(placed, m2=np.broadcast_to(placed.m2, near.shape)[near])
    elif off := int((~meeting_extents(placed.zones, extents)).sum()):
        log.info("%s: %d of %d lie off the rasters; their rows are empty", placed.zones.name, off, len(placed.zones))
    return GroundZones(placed, area)


@contextmanager
def counted_by_zones(zones: GroundZones | None, run: Run, *, overwrite: bool) -> Iterator[ZoneRun | None]:
    """Return what counts the crowns of a run by zones, in a context; None in it where there are no zones."""
    if zones is None or run.zoning is None:
        yield None
        return
    with ZoneRun(
        zones.placed,
        area=zones.area,
        labels=run.model.spec.labels,
        min_p=run.options.min_p,
        path=zones_target(run.output, per_raster=run.how.per_raster),
        all_rows=run.zoning.zones is not None,
        overwrite=overwrite,
    ) as counted:
        yield counted


def _extents(grids: Sequence[Grid], crs: pyproj.CRS) -> npt.NDArray[np.float64]:
    """Return the boxes around grids on the map of a CRS, float64 ``[N, 4]``."""
    alike: dict[int, list[int]] = defaultdict(list)
    for number, grid in enumerate(grids):
        # Files that name their CRS in the same words share one object.
        alike[id(grid.crs)].append(number)
    found = np.empty((len(grids), 4))
    for numbers in alike.values():
        rings = np.asarray(shapely.multipoints([np.column_stack(outline(grids[i])) for i in numbers]), dtype=object)
        moved = bring_to(rings, grids[numbers[0]].crs, crs, where="the outlines of rasters", other="most rasters")
        found[numbers] = shapely.bounds(moved)
    return found
