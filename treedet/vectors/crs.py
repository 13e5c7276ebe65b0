"""Bringing geometries of one file to the CRS of another, and saying what was done."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import ProjError

from treedet.core.crowns import reproject
from treedet.errors import CrsMismatchError

logger = logging.getLogger("treedet")


def horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    """Return the horizontal part of a compound CRS, or the CRS itself.

    >>> horizontal(pyproj.CRS("EPSG:32633+5773")).to_epsg()
    32633
    """
    return crs.sub_crs_list[0] if crs.is_compound else crs


def same_ground(a: pyproj.CRS, b: pyproj.CRS) -> bool:
    """Tell whether equal coordinates mean equal places; heights and the official axis order do not matter here.

    >>> same_ground(pyproj.CRS("EPSG:32633+5773"), pyproj.CRS(32633))
    True
    """
    return bool(horizontal(a).equals(horizontal(b), ignore_axis_order=True))


Relation: TypeAlias = Literal["same", "assumed", "transform"]


def relation(source: pyproj.CRS | None, target: pyproj.CRS | None) -> Relation:
    """Tell how coordinates of a file come into the CRS of a raster.

    Returns:
        ``same`` where they are in it; ``assumed`` where one CRS is missing, or nothing leads from one to the other
        but names and units agree, so that only the place of the geometries can tell; ``transform`` otherwise, which
        fails where there is no transformation.

    >>> relation(pyproj.CRS(32633), None), relation(pyproj.CRS(32633), pyproj.CRS(4326))
    ('assumed', 'transform')
    """
    if source is None or target is None:
        return "same" if source is target else "assumed"
    if same_ground(source, target):
        return "same"
    try:
        pyproj.Transformer.from_crs(source, target, always_xy=True)
    except ProjError:
        return "assumed" if _alike(source, target) else "transform"
    return "transform"


def bring_to(
    geometries: npt.NDArray[np.object_],
    source: pyproj.CRS | None,
    target: pyproj.CRS | None,
    *,
    where: str,
    other: str = "the raster",
) -> npt.NDArray[np.object_]:
    """Return geometries of a file in the CRS of a raster.

    Where a CRS is missing, or local without any transformation but of the same name and unit, coordinates are
    taken as they are, with a notice.

    Args:
        geometries: Object ``[N]``.
        source: CRS of the file.
        target: CRS of the raster.
        where: How messages call the file.
        other: How messages call what has the CRS wanted.

    Raises:
        CrsMismatchError: No transformation leads from one to the other.
    """
    if source is None or target is None:
        if source is not target:
            lacking, has = ("the file", f"that of {other}") if source is None else (other, "the file's")
            logger.info("%s: %s has no CRS; its coordinates are taken to be in %s", where, lacking, has)
        return geometries
    if same_ground(source, target):
        return geometries
    try:
        moved = reproject(geometries, source, target)
    except ProjError as error:
        if _alike(source, target):
            logger.info(
                "%s: no transformation from its CRS to that of %s, both called %r; coordinates are kept",
                where,
                other,
                target.name,
            )
            return geometries
        raise CrsMismatchError(
            f"{where} is in {source.name!r}, which can not be transformed to {target.name!r} of {other} ({error}); "
            f"reproject one of them in a GIS, or give {other} its proper CRS"
        ) from error
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise CrsMismatchError(
            f"{where} is in {source.name!r} and lies outside the area where {target.name!r}, the CRS of {other}, is "
            "defined; check both CRSs"
        )
    logger.info("%s: reprojected from %r to %r", where, source.name, target.name)
    return moved


def _alike(a: pyproj.CRS, b: pyproj.CRS) -> bool:
    def units(crs: pyproj.CRS) -> list[float]:
        return [axis.unit_conversion_factor for axis in horizontal(crs).axis_info[:2]]

    def name(crs: pyproj.CRS) -> str:
        return "".join(c for c in horizontal(crs).name.lower() if c.isalnum())

    return name(a) == name(b) and units(a) == units(b)
