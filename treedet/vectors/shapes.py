"""The geometry a crown is drawn as: its own outline, the ellipse in its box, or a point."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import shapely

from treedet.errors import ConfigError

Shape: TypeAlias = Literal["box", "ellipse", "point"]

SIDES = 32
_ANGLES = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)


def check_shape(shape: str) -> None:
    """Raise a ConfigError for a word that names no shape."""
    if shape not in get_args(Shape):
        raise ConfigError(f"shape {shape!r} is unknown: accepted are {', '.join(get_args(Shape))}")


def drawn(geometries: npt.NDArray[np.object_], shape: Shape) -> npt.NDArray[np.object_]:
    """Return crowns as the shape wanted.

    Args:
        geometries: Object ``[N]`` of polygons in any CRS.
        shape: ``box`` leaves them as they are, ``ellipse`` gives polygons with 32 corners on the ellipse inscribed
            in the box, ``point`` gives centroids.

    >>> square = np.array([shapely.box(0, 0, 2, 2)])
    >>> round(drawn(square, "ellipse")[0].area, 2), drawn(square, "point")[0].wkt
    (3.12, 'POINT (1 1)')
    """
    if shape == "point":
        return np.asarray(shapely.centroid(geometries), dtype=object)
    if shape == "ellipse" and len(geometries):
        return np.asarray(shapely.polygons(ellipse_corners(box_corners(geometries))), dtype=object)
    return geometries


def conjugate_axes(
    geometries: npt.NDArray[np.object_], *, ellipses: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the ellipse of each crown by its centre and two half axes: ``centre + u cos t + v sin t``.

    Args:
        geometries: Object ``[N]``: boxes, other outlines (taken by their box), or points (without axes).
        ellipses: Outlines were drawn by :func:`drawn` as ellipses, which are then found as they were.

    Returns:
        Centre, u and v, float64 ``[N, 2]`` each.

    >>> [part.tolist() for part in conjugate_axes(np.array([shapely.box(0, 0, 4, 2)]))]
    [[[2.0, 1.0]], [[0.0, 1.0]], [[-2.0, 0.0]]]
    """
    corners = box_corners(geometries)
    centre = corners.mean(axis=1)
    u = (corners[:, 1] + corners[:, 2] - corners[:, 0] - corners[:, 3]) / 4
    v = (corners[:, 2] + corners[:, 3] - corners[:, 0] - corners[:, 1]) / 4
    if ellipses:
        as_drawn = shapely.get_num_coordinates(geometries) == SIDES + 1
        points = shapely.get_coordinates(geometries[as_drawn]).reshape(-1, SIDES + 1, 2)[:, :SIDES]
        centre[as_drawn] = points.mean(axis=1)
        u[as_drawn], v[as_drawn] = points[:, 0] - centre[as_drawn], points[:, SIDES // 4] - centre[as_drawn]
    return centre, u, v


def box_corners(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return the four corners of each crown's box, float64 ``[N, 4, 2]``, in the order of the ring.

    A polygon with four corners is its own box, which keeps boxes of rotated rasters; any other outline is
    taken by its bounds.
    """
    has_four = (shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON) & (
        shapely.get_num_coordinates(geometries) == 5
    )
    boxes = np.where(has_four, geometries, np.asarray(shapely.box(*shapely.bounds(geometries).T), dtype=object))
    return np.asarray(shapely.get_coordinates(boxes), dtype=np.float64).reshape(-1, 5, 2)[:, :4]


def ellipse_corners(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return points on the ellipses inscribed in parallelograms, float64 ``[N, 32, 2]``.

    Centre plus cosine and sine times the two half axes: affine maps take inscribed ellipses to inscribed
    ellipses, so rotated and sheared boxes come out right.

    Args:
        corners: Float64 ``[N, 4, 2]`` in ring order.
    """
    centre = corners.mean(axis=1, keepdims=True)
    along = (corners[:, 1] + corners[:, 2] - corners[:, 0] - corners[:, 3])[:, None] / 4
    across = (corners[:, 2] + corners[:, 3] - corners[:, 0] - corners[:, 1])[:, None] / 4
    turn = _ANGLES[None, :, None]
    return np.asarray(centre + along * np.cos(turn) + across * np.sin(turn), dtype=np.float64)
