"""Annotated rows as a file states them, and the checks of their geometries; nothing here runs once per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.errors import CrownsError, DegenerateCrownError
from treedet.vectors.box_rows import without_area

SHOWN_ROWS = 5
"""Row numbers that a message lists."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Annotations of any format before they are a crowns table.

    Attributes:
        path: The file, as given.
        columns: What the file says besides geometries; the index counts its rows from 1.
        geometries: Object ``[N]``.
        crs: CRS that the file states; None in pixels.
        sources: Name of the image of each row, object ``[N]``; None where geometries are on a map.
        images: Names of all images of a pixel format.
        sizes: Width and height of images in pixels, where told.
        normalised: Coordinates are fractions of an image's sides.
        boxes: Float64 ``[N, 4]`` of formats that state boxes, inverted ones included.
        label: The column that holds the class where the format defines it.
        metadata: What treedet stored with the file.
        place: How messages call the row of an index; None for its number.
        notices: What reading has to say.
    """

    path: str
    columns: pd.DataFrame
    geometries: npt.NDArray[np.object_]
    crs: pyproj.CRS | None = None
    sources: npt.NDArray[np.object_] | None = None
    images: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    normalised: bool = False
    boxes: npt.NDArray[np.float64] | None = None
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    place: Callable[[int], str] | None = None
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.geometries)

    def listed(self, wrong: npt.NDArray[np.bool_]) -> str:
        """Return the places of up to five rows, such as ``rows 3, 8 and 12 more``."""
        return listed(self.columns.index[wrong].tolist(), self.place)


def listed(numbers: Sequence[int], place: Callable[[int], str] | None = None) -> str:
    """Return row numbers in words.

    >>> listed([3]), listed([1, 2, 3, 4, 5, 6, 7])
    ('row 3', 'rows 1, 2, 3, 4, 5 and 2 more')
    """
    shown = [str(n) if place is None else place(int(n)) for n in numbers[:SHOWN_ROWS]]
    more = f" and {len(numbers) - SHOWN_ROWS} more" if len(numbers) > SHOWN_ROWS else ""
    word = "" if place is not None else "row " if len(numbers) == 1 else "rows "
    return f"{word}{', '.join(shown)}{more}"


@dataclass(frozen=True, eq=False)
class Usable:
    """Which rows can be crowns, and as what.

    Attributes:
        kept: Bool ``[N]``.
        geometries: Object ``[N]``; those kept are all polygons, or all points.
        notices: What was dropped or taken as something else.
    """

    kept: npt.NDArray[np.bool_]
    geometries: npt.NDArray[np.object_]
    notices: tuple[str, ...]

    @property
    def are_points(self) -> bool:
        """True where the crowns are points that need a diameter."""
        kinds = shapely.get_type_id(self.geometries[self.kept])
        return bool((kinds == shapely.GeometryType.POINT).any())


def usable(rows: Rows, *, drop: bool) -> Usable:
    """Return the geometries of rows that can be crowns.

    Rows without geometry are left out with a notice; crowns of several parts become their bounds.

    Args:
        rows: What the file says.
        drop: Leave out what can not be used, instead of raising.

    Raises:
        CrownsError: There are lines or other types, or points among polygons.
        DegenerateCrownError: A geometry has no area or holds what is no number.
    """
    notices: list[str] = []
    shapes = shapely.force_2d(rows.geometries)
    kept = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if rows.boxes is not None:
        kept |= without_area(rows.boxes)  # a box that is no number has no geometry either
    if not kept.all():
        notices.append(f"{rows.path}: {rows.listed(~kept)} without geometry dropped ({(~kept).sum()} in all)")
    shapes, single = _parts_joined(shapes)
    if (several := kept & ~single).any():
        notices.append(
            f"{rows.path}: crowns of several parts are taken as one each, their bounds: {rows.listed(several)}"
        )
    broken = kept & _degenerate(rows, shapes)
    if broken.any() and not drop:
        raise DegenerateCrownError(_degenerate_message(rows, broken))
    wrong = _wrong_type(rows, shapes, kept & ~broken, drop=drop)
    if (left_out := broken | wrong).any():
        notices.append(
            f"{rows.path}: {rows.listed(left_out)} can not be used and were dropped ({left_out.sum()} in all)"
        )
    kept &= ~left_out
    return Usable(kept, shapes, tuple(notices))


def _parts_joined(shapes: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.bool_]]:
    """Return multi-geometries of one part as that part, multipolygons of several as bounds, and who is single."""
    kinds = shapely.get_type_id(shapes)
    multi = np.isin(kinds, [shapely.GeometryType.MULTIPOLYGON, shapely.GeometryType.MULTIPOINT])
    if not multi.any():
        return shapes, np.ones(len(shapes), dtype=bool)
    shapes = shapes.copy()
    one = multi & (shapely.get_num_geometries(shapes) == 1)
    shapes[one] = shapely.get_geometry(shapes[one], 0)
    several = multi & (kinds == shapely.GeometryType.MULTIPOLYGON) & ~one & ~shapely.is_empty(shapes)
    shapes[several] = shapely.box(*shapely.bounds(shapes[several]).T)
    return shapes, ~several


def _degenerate(rows: Rows, shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    if rows.boxes is not None:
        return without_area(rows.boxes)
    with np.errstate(invalid="ignore"):  # NaN coordinates are what is looked for
        bounds = np.asarray(shapely.bounds(shapes), dtype=np.float64).reshape(-1, 4)
        area, flat = shapely.area(shapes), shapely.get_dimensions(shapes) < 2
    return np.asarray(~np.isfinite(bounds).all(axis=1) | (~flat & ~(area > 0)), dtype=bool)


def _degenerate_message(rows: Rows, broken: npt.NDArray[np.bool_]) -> str:
    found = ""
    if rows.boxes is not None:
        first = rows.boxes[int(np.flatnonzero(broken)[0])]
        found = f"; found {first.tolist()}, accepted is xmin < xmax and ymin < ymax"
    return (
        f"{rows.path}: {broken.sum()} crowns have no area or hold what is no number, {rows.listed(broken)}{found}; "
        "correct them, or leave them out with drop=True (--drop)"
    )


def _wrong_type(
    rows: Rows, shapes: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_], *, drop: bool
) -> npt.NDArray[np.bool_]:
    """Return the rows that are neither what most crowns can be: polygons, or points where there is no polygon."""
    kinds = shapely.get_type_id(shapes)
    polygons, points = kinds == shapely.GeometryType.POLYGON, kinds == shapely.GeometryType.POINT
    accepted = polygons if (polygons & kept).any() else points
    wrong = np.asarray(kept & ~accepted, dtype=bool)
    if not wrong.any():
        return wrong
    found = ", ".join(sorted({shapely.GeometryType(int(kind)).name.capitalize() for kind in np.unique(kinds[wrong])}))
    if not (accepted & kept).any():
        raise CrownsError(f"{rows.path} holds {found}; crowns are polygons, or points with a diameter")
    if not drop:
        what = "polygons" if accepted is polygons else "points"
        raise CrownsError(
            f"{rows.path} mixes {what} with {found}: {rows.listed(wrong)}; crowns of a file are all polygons or all "
            "points: keep them in files of their own, or leave these out with drop=True (--drop)"
        )
    return wrong


def repeated(
    geometries: npt.NDArray[np.object_], names: npt.NDArray[np.object_], sources: npt.NDArray[np.object_]
) -> npt.NDArray[np.bool_]:
    """Tell which crowns say again what an earlier one says: the same geometry, label and image.

    Args:
        geometries: Object ``[N]``.
        names: Label of each, object ``[N]``.
        sources: Image of each, object ``[N]``.
    """
    bounds = pd.DataFrame(np.asarray(shapely.bounds(geometries)).reshape(-1, 4)).assign(name=names, source=sources)
    again = np.zeros(len(geometries), dtype=bool)
    # Only what shares its bounds can be the same; normalising a million outlines would take seconds.
    alike = bounds.duplicated(keep=False).to_numpy()
    if alike.any():
        keys = pd.DataFrame({"wkb": shapely.to_wkb(shapely.normalize(geometries[alike]))})
        keys = keys.assign(name=names[alike], source=sources[alike])
        again[alike] = keys.duplicated().to_numpy()
    return again
