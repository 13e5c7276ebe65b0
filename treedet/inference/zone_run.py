"""The table of zones of a prediction: crowns and valid ground counted as its parts come."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core.crowns import CrownArrays, said
from treedet.core.labels import LabelSchema
from treedet.core.scanlines import ellipses_in_boxes
from treedet.inference.setup import Setup
from treedet.inference.zone_facts import ZoneFacts, with_polygons
from treedet.inference.zone_frame import zones_on_raster
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_tally import ZoneCrowns, ZoneTally
from treedet.vectors.zone_table import check_zones_target, write_zones, zones_beside


class ZoneRun:
    """Counts the crowns of a run by zones, and writes the table beside them.

    A context manager. Everything is counted in pixels of the model grid.

    Args:
        options: The zones.
        setup: The run.
        labels: Names of classes and attributes.
        path: File to write.
        overwrite: Replace an existing file.

    Raises:
        CrownsError: The zones can not be read.
        CrsMismatchError: No zone lies on the raster.
    """

    def __init__(
        self, options: ZoneOptions, setup: Setup, *, labels: LabelSchema, path: Path, overwrite: bool
    ) -> None:
        self._path, self._overwrite = path, overwrite
        self._labels, self._min_p = labels, setup.options.min_p
        self._grid = grid = setup.job.plan.grid
        self._of_file = options.zones is not None
        placed = zones_on_raster(options, setup.raster, grid, area=setup.job.aoi)
        self._zones = placed.zones
        self._tally = ZoneTally(
            replace(placed.zones, polygons=placed.polygons),
            m2=placed.m2,
            line=placed.line,
            area=setup.job.aoi,
            extent=placed.extent,
            classes={"label": labels.classes, **labels.attributes},
        )

    def __enter__(self) -> ZoneRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tally.__exit__(kind, error, trace)

    def add(self, crowns: CrownArrays, ground: npt.NDArray[np.int32]) -> None:
        """Count a part.

        Args:
            crowns: Crowns that are kept, in pixels of the model grid.
            ground: Int32 ``[M, 4]``, valid ground as rectangles that no other part repeats.
        """
        sides = crowns.boxes[:, 2:] - crowns.boxes[:, :2]
        codes = {"label": crowns.classes} | {
            name: said(crowns.attributes[name], min_p=self._min_p) for name in self._labels.attributes
        }
        known = {"label": self._labels.classes, **self._labels.attributes}
        self._tally.add(
            ZoneCrowns(
                centres=crowns.centres,
                ellipses=ellipses_in_boxes(crowns.boxes),
                diameters=sides @ np.array([self._grid.gsd_x, self._grid.gsd_y]) / 2,
                names={
                    name: pd.Categorical.from_codes(codes[name].tolist(), categories=pd.Index(known[name]))
                    for name in codes
                },
            )
        )
        self._tally.add_valid(ground.astype(np.float64))

    def write(self) -> ZoneFacts:
        """Write the table, and return what is to be said of it.

        Raises:
            OutputError: The file can not be written.
        """
        table = with_polygons(self._tally.table(), self._zones, self._zones.polygons, all_rows=self._of_file)
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
        TreedetError: See :class:`ZoneRun`.
    """
    if options is None or not options.wanted:
        return nullcontext()
    return ZoneRun(options, setup, labels=labels, path=zones_beside(output), overwrite=overwrite)
