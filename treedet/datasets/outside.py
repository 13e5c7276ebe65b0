"""Crowns that lie on none of the rasters they were annotated for: harmless on a map, a mistake in pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj

from treedet.datasets.pairing import some
from treedet.errors import CrsMismatchError, DegenerateCrownError
from treedet.vectors.truth import Annotations
from treedet.vectors.truth_rows import listed

if TYPE_CHECKING:
    from treedet.datasets.annotated import AnnotatedRaster

log = logging.getLogger("treedet")


def say_outside(annotated: Annotations, plots: Sequence[AnnotatedRaster], *, drop: bool) -> None:
    """Say which rows of a file lie on none of its rasters.

    A map may show more ground than the rasters do; a box in pixels that its image does not have is a mistake.

    Raises:
        CrsMismatchError: None lies on any.
        DegenerateCrownError: Boxes in pixels lie outside their image, and are not to be dropped.
    """
    rows = annotated.table
    if annotated.in_pixels:
        rows = rows[rows["source"].isin([plot.image for plot in plots])]
    on_any = np.concatenate([np.zeros(0, dtype=np.int64), *(plot.crowns.index.to_numpy() for plot in plots)])
    outside = rows[~rows.index.isin(on_any)]
    if not len(outside):
        return
    if annotated.in_pixels and not drop:
        raise _beyond(outside, rows, plots, annotated.path)
    if len(outside) == len(rows):
        raise _nothing_on(plots, annotated)
    log.info(
        "%s: %s outside every raster and left out, %s",
        annotated.path,
        "1 crown is" if len(outside) == 1 else f"{len(outside)} crowns are",
        listed(outside.index.tolist()),
    )


def _beyond(
    outside: gpd.GeoDataFrame, rows: gpd.GeoDataFrame, plots: Sequence[AnnotatedRaster], path: str
) -> DegenerateCrownError:
    image = outside["source"].iloc[0]
    with next(plot for plot in plots if plot.image == image).open() as raster:
        size = f"{raster.native_grid.width}x{raster.native_grid.height}"
    first = [round(float(v), 4) for v in outside.geometry.iloc[0].bounds]
    return DegenerateCrownError(
        f"{path}: {len(outside)} of {len(rows)} boxes lie outside their image, {listed(outside.index.tolist())}; "
        f"found {first} on {image} of {size} pixels: give the raster that was annotated, or leave them out with "
        "drop=True (--drop)"
    )


def _nothing_on(plots: Sequence[AnnotatedRaster], annotated: Annotations) -> CrsMismatchError:
    def place(bounds: npt.ArrayLike, crs: pyproj.CRS | None) -> str:
        left, bottom, right, top = np.asarray(bounds, dtype=np.float64).tolist()
        # Metres to a decimetre, degrees to about a metre.
        digits = 5 if crs is not None and crs.is_geographic else 1
        name = "an unknown CRS" if crs is None else repr(crs.name)
        return f"x {left:.{digits}f} to {right:.{digits}f}, y {bottom:.{digits}f} to {top:.{digits}f} in {name}"

    crowns = annotated.table
    found = f"none of the {len(crowns)} crowns of {annotated.path} lies on {some([plot.path for plot in plots])}"
    if annotated.in_pixels:
        return CrsMismatchError(f"{found}; give the raster that was annotated")
    with plots[0].open() as raster:
        grid = raster.native_grid
    extent = grid.to_map(np.array([[0.0, 0.0, grid.width, grid.height]]))[0].bounds
    return CrsMismatchError(
        f"{found}: they span {place(crowns.total_bounds, crowns.crs)}, the raster {place(extent, grid.crs)}; check "
        "that both are of the same place, or say the CRS of the crowns with crs= (--crs EPSG:...)"
    )
