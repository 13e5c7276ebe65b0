"""The table of zones of a prediction: crowns and valid ground counted as its parts come."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays, said
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.inference.setup import Setup
from treedet.inference.zone_facts import ZoneFacts, with_polygons
from treedet.inference.zone_frame import PlacedZones, zones_on_raster
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_tally import ZoneCrowns, ZoneTally
from treedet.inference.zone_way import Way
from treedet.vectors.zone_table import check_zones_target, write_zones, zones_beside


class ZoneRun:
    """Counts the crowns of a run by zones, and writes the table beside them.

    A context manager.

    Args:
        placed: The zones, in pixels of the model grid or on a map.
        area: Where crowns are looked for, in the same coordinates; None for everywhere.
        labels: Names of classes and attributes.
        min_p: Least probability of an attribute.
        path: File to write.
        all_rows: Keep zones with neither ground nor crowns.
        overwrite: Replace an existing file.
    """

    def __init__(
        self,
        placed: PlacedZones,
        *,
        area: BaseGeometry | None,
        labels: LabelSchema,
        min_p: float | None,
        path: Path,
        all_rows: bool,
        overwrite: bool,
    ) -> None:
        self._path, self._overwrite, self._all_rows = path, overwrite, all_rows
        self._labels, self._min_p, self._zones = labels, min_p, placed.zones
        self._tally = ZoneTally(
            replace(placed.zones, polygons=placed.polygons),
            m2=placed.m2,
            line=placed.line,
            area=area,
            extent=placed.extent,
            classes={"label": labels.classes, **labels.attributes},
        )

    def __enter__(self) -> ZoneRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tally.__exit__(kind, error, trace)

    def add(
        self, crowns: CrownArrays, ground: npt.NDArray[np.int32], grid: Grid, *, crs: pyproj.CRS | None = None
    ) -> None:
        """Count a part.

        Args:
            crowns: Crowns that are kept, in pixels of a model grid.
            ground: Int32 ``[M, 4]``, valid ground as rectangles in pixels of it.
            grid: The model grid.
            crs: CRS of the map that zones are measured on; None where they are measured in pixels of the grid.
        """
        way = Way(grid, crs)
        sides = crowns.boxes[:, 2:] - crowns.boxes[:, :2]
        codes = {"label": crowns.classes} | {
            name: said(crowns.attributes[name], min_p=self._min_p) for name in self._labels.attributes
        }
        known = {"label": self._labels.classes, **self._labels.attributes}
        self._tally.add(
            ZoneCrowns(
                centres=way.points(crowns.centres),
                ellipses=way.ellipses(crowns.boxes),
                diameters=sides @ np.array([grid.gsd_x, grid.gsd_y]) / 2,
                names={
                    name: pd.Categorical.from_codes(codes[name].tolist(), categories=pd.Index(known[name]))
                    for name in codes
                },
            )
        )
        way.add_ground(ground, self._tally)

    def write(self) -> ZoneFacts:
        """Write the table, and return what is to be said of it.

        Raises:
            OutputError: The file can not be written.
        """
        table = with_polygons(self._tally.table(), self._zones, self._zones.polygons, all_rows=self._all_rows)
        write_zones(table, self._path, overwrite=self._overwrite)
        return ZoneFacts.of(table, self._tally, str(self._path))


def check_zones(options: ZoneOptions | None, output: str | Path, *, overwrite: bool) -> None:
    """Find out before any work whether the table of zones of a run can be written.

    Args:
        options: The zones; None for none.
        output: The file of crowns that it goes beside.
        overwrite: Whether an existing table may be replaced.

    Raises:
        OutputError: It can not.
    """
    if options is not None and options.wanted:
        check_zones_target(zones_beside(output), overwrite=overwrite)


def counted_by(
    options: ZoneOptions | None, setup: Setup, output: Path, *, labels: LabelSchema, overwrite: bool
) -> AbstractContextManager[ZoneRun | None]:
    """Return what counts the crowns of a run by zones, in a context; None in it where nothing is asked for.

    Raises:
        CrownsError: The zones can not be read.
        CrsMismatchError: No zone lies on the raster.
    """
    if options is None or not options.wanted:
        return nullcontext()
    return ZoneRun(
        zones_on_raster(options, setup.raster, setup.job.plan.grid, area=setup.job.aoi),
        area=setup.job.aoi,
        labels=labels,
        min_p=setup.options.min_p,
        path=zones_beside(output),
        all_rows=options.zones is not None,
        overwrite=overwrite,
    )
