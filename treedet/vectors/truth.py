"""Somebody's annotations, in whatever format, as crowns; and those of one raster in its CRS."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import CRSError

from treedet.core.crowns import DTYPES
from treedet.core.grid import Grid
from treedet.errors import ConfigError, CrownsError, CrsMismatchError, DegenerateCrownError
from treedet.vectors.crs import bring_to, relation
from treedet.vectors.truth_columns import Said, filled, what_columns_say
from treedet.vectors.truth_formats import open_rows
from treedet.vectors.truth_rows import Rows, repeated, usable
from treedet.vectors.truth_table import CrownRows
from treedet.vectors.truth_values import value_maps

logger = logging.getLogger("treedet")


@dataclass(frozen=True)
class TruthOptions:
    """How annotations are read.

    Attributes:
        columns: Names of columns, ours to the file's: ``{"label": "Class", "species": "SP_CODE", "diameter":
            "crown_w", "x": "E", "y": "N"}``. Keys other than label, diameter, x and y are attributes.
        crs: CRS of the file, overriding what it says: anything that names one, such as ``EPSG:32633``.
        diameter: Metres; crown diameter of points without a column of diameters.
        drop: Leave out rows that can not be used instead of raising.
        points: Points stay points (stems, street trees) and need no diameter; polygons are crowns as ever.
        values: What values of a column are called as classes, by attribute or ``label``:
            ``{"status": {"Live": "alive", "Standing dead": "dead", "Downed": None}}``. None is a missing label, and
            under ``label`` leaves the row out. Without a map values are taken as they are. Once there is one, a value
            that is neither a key of it nor one of its classes is an error, or a missing label with ``drop``. Values
            are compared as they are written, then without case where that says the same.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    crs: str | None = None
    diameter: float | None = None
    drop: bool = False
    points: bool = False
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", value_maps(self.values))
        if self.diameter is not None and not (math.isfinite(self.diameter) and self.diameter > 0):
            raise ConfigError(f"diameter must be a positive number of metres, found {self.diameter}")
        if self.points and self.diameter is not None:
            raise ConfigError(
                f"points=True and diameter={self.diameter:g} exclude each other: points stay points or become crowns "
                "of a diameter; leave one out"
            )

    @property
    def known_crs(self) -> pyproj.CRS | None:
        """The CRS asked for; a ConfigError says that it names none."""
        if self.crs is None:
            return None
        try:
            return pyproj.CRS.from_user_input(self.crs)
        except CRSError as error:
            raise ConfigError(f"crs={self.crs!r} names no CRS; accepted are EPSG:32633, WKT or PROJ text") from error


@dataclass(frozen=True, eq=False)
class Annotations:
    """Annotated crowns of one file or folder.

    Attributes:
        path: The file, as given.
        table: Columns of the crowns table, with score 1 unless they are predictions; ``area_m2``, ``crown_m2`` and
            ``diameter_m`` are NaN until :func:`on_raster` knows the ground, except that points carry their diameter.
            Points stay points until then. The index counts rows of the file from 1. ``source`` is the image a row
            names, empty on a map.
        images: Images that a pixel format names, those without a crown included; empty on a map.
        in_pixels: Geometries are in pixels of the image in ``source``.
        notices: What was recognised, assumed or dropped; said through the log too.
        normalised: Geometries are fractions of the image's width and height instead of pixels.
        sizes: Width and height in pixels of the images that the file tells them for.
        points: Geometries are points and stay so on a raster.
        has_scores: The file says how sure its predictions are; see :mod:`treedet.vectors.predictions`.
    """

    path: str
    table: gpd.GeoDataFrame
    images: tuple[str, ...]
    in_pixels: bool
    notices: tuple[str, ...]
    normalised: bool = False
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    points: bool = False
    has_scores: bool = False


def read_annotations(path: str | Path, options: TruthOptions | None = None) -> Annotations:
    """Read annotated crowns, the format told by suffix and content.

    Shapefile, GeoPackage, GeoJSON, GeoParquet and FlatGeobuf; CSV with boxes, WKT or points; Pascal VOC, COCO, YOLO
    and Label Studio. Rows without geometry and exact repetitions are left out with a notice.

    Args:
        path: A file, or a folder of Pascal VOC or YOLO files.
        options: Columns, CRS, diameter, and whether bad rows are dropped.

    Raises:
        CrownsError: The file can not be read, holds no crown, mixes points and polygons, has two columns that can be
            the class, or lacks labels.
        MissingColumnError: A column asked for, or all coordinates, are absent.
        DegenerateCrownError: Crowns have no area or coordinates that are no numbers.
        ConfigError: An option makes no sense.
    """
    options = options or TruthOptions()
    return annotated_crowns(open_rows(path, options.columns, crs=options.known_crs), options)


def annotated_crowns(
    rows: Rows, options: TruthOptions, *, scores: npt.NDArray[np.float64] | None = None
) -> Annotations:
    """Return the rows of a file, or of a table that is like one, as annotated crowns.

    Args:
        rows: What the file says.
        options: Columns, diameter, and whether bad rows are dropped.
        scores: Float64 ``[N]``, 0 to 1, where the rows are predictions: then there may be none, and one said twice
            is there twice.

    Raises:
        CrownsError: As :func:`read_annotations` says.
    """
    may_be_none = scores is not None or bool(rows.images)
    if not len(rows) and not may_be_none:
        raise CrownsError(f"{rows.path} holds no crown; give the file that holds the annotation")
    said = what_columns_say(rows, options.columns, options.values, drop=options.drop)
    shapes = usable(rows, drop=options.drop)
    labels, kept, notices = filled(said, rows, shapes.kept, drop=options.drop)
    notices = [*rows.notices, *said.notices, *shapes.notices, *notices]
    diameters = np.full(len(rows), np.nan)
    stay_points = options.points and (shapes.are_points or not kept.any())
    if shapes.are_points and not stay_points:
        diameters, kept = _diameters(said, rows, kept, options, notices)
    sources = np.full(len(rows), "", dtype=object) if rows.sources is None else rows.sources
    if scores is None:
        again = np.zeros(len(rows), dtype=bool)
        again[kept] = repeated(shapes.geometries[kept], labels[kept], sources[kept])
        if again.any():
            notices.append(f"{rows.path}: {again.sum()} exact repetitions dropped, {rows.listed(again)}")
        kept = kept & ~again
    if not kept.any() and not may_be_none:
        raise CrownsError(f"{rows.path} holds no crown that can be used: {'; '.join(notices)}")
    for notice in notices:
        logger.info("%s", notice)
    crowns = CrownRows(rows, said, labels, shapes.geometries, diameters=diameters, sources=sources, scores=scores)
    return Annotations(
        rows.path,
        crowns.table(kept),
        rows.images,
        rows.sources is not None,
        tuple(notices),
        rows.normalised,
        rows.sizes,
        points=stay_points,
    )


def _diameters(
    said: Said, rows: Rows, kept: npt.NDArray[np.bool_], options: TruthOptions, notices: list[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return metres by row and the rows kept; a column wins over the option, which fills its gaps."""
    if said.diameters is None and options.diameter is None:
        raise CrownsError(
            f"{rows.path} holds points, and a crown needs a size: give its diameter in metres with diameter= "
            "(--diameter 5), or a column with columns={'diameter': ...} (--columns.diameter)"
        )
    found = np.full(len(rows), np.nan) if said.diameters is None else said.diameters
    found = np.where(np.isnan(found) & (options.diameter is not None), options.diameter or np.nan, found)
    wrong = kept & ~(np.isfinite(found) & (found > 0))
    if wrong.any() and not options.drop:
        raise DegenerateCrownError(
            f"{rows.path}: {wrong.sum()} points have no positive diameter, {rows.listed(wrong)}; correct them, fill "
            "the gaps with diameter= (--diameter 5), or leave them out with drop=True (--drop)"
        )
    if wrong.any():
        notices.append(f"{rows.path}: {rows.listed(wrong)} without a diameter dropped ({wrong.sum()} in all)")
    return found, kept & ~wrong


def on_raster(annotations: Annotations, grid: Grid, *, image: str | None = None) -> gpd.GeoDataFrame:
    """Return the crowns of one raster in its CRS.

    Map geometries are reprojected, and belong to the raster when the centre of their box lies on it. Where the CRS of
    the file is missing, or local without a transformation but of the raster's name and unit, coordinates are taken as
    the raster's (x = easting) if they fall where the raster is. Points become squares of their diameter, unless they
    are to stay points.

    Args:
        annotations: What :func:`read_annotations` returned.
        grid: The raster's own grid.
        image: The raster's name in a pixel format; None takes the only image there is. Map formats need none.

    Returns:
        Columns of the crowns table with areas and diameters in ground metres, NaN for points; the index is the row in
        the file. Without rows where nothing lies on the raster.

    Raises:
        CrsMismatchError: The CRS can not be brought to the raster's, or was assumed and nothing falls there.
        CrownsError: ``image`` is needed, or was annotated at another size than the raster's.
    """
    table = annotations.table
    if annotations.in_pixels:
        table = _of_image(annotations, grid, image)
        shapes = _from_pixels(np.asarray(table.geometry.to_numpy(), dtype=object), annotations, grid)
    else:
        table, shapes = _near(annotations, grid)
    if not annotations.points:
        shapes = _squares(shapes, table["diameter_m"].to_numpy(dtype=np.float64), grid)
    boxes = grid.to_pixels(shapes)
    if not annotations.in_pixels:
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centre >= 0) & (centre < [grid.width, grid.height])).all(axis=1)
        table, shapes, boxes = table[inside], shapes[inside], boxes[inside]
    return _measured(table, shapes, boxes, grid)


def _of_image(annotations: Annotations, grid: Grid, image: str | None) -> gpd.GeoDataFrame:
    named = annotations.images
    if image is None and len(named) > 1:
        raise CrownsError(
            f"{annotations.path} names {len(named)} images ({', '.join(named[:3])}, ...); say which with image="
        )
    image = named[0] if image is None else image
    size = annotations.sizes.get(image)
    if size is not None and size != (grid.width, grid.height):
        raise CrownsError(
            f"{annotations.path}: {image} was annotated at {size[0]}x{size[1]} pixels, the raster has "
            f"{grid.width}x{grid.height}; give the raster that was annotated"
        )
    return annotations.table[(annotations.table["source"] == image).to_numpy()]


def _from_pixels(shapes: npt.NDArray[np.object_], annotations: Annotations, grid: Grid) -> npt.NDArray[np.object_]:
    t = grid.transform
    scale = np.array([grid.width, grid.height] if annotations.normalised else [1.0, 1.0])

    def mapped(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = (xy * scale).T
        return np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=-1)

    return np.asarray(shapely.transform(shapes, mapped), dtype=object).reshape(len(shapes))


def _near(annotations: Annotations, grid: Grid) -> tuple[gpd.GeoDataFrame, npt.NDArray[np.object_]]:
    """Return the rows whose bounds meet the raster's extent, and their geometries in its CRS."""
    table = annotations.table
    shapes = np.asarray(table.geometry.to_numpy(), dtype=object)
    xmin, ymin, xmax, ymax = shapely.bounds(grid.to_map(np.array([[0.0, 0.0, grid.width, grid.height]])))[0]
    if relation(table.crs, grid.crs) == "assumed":
        # Before it is said that coordinates are taken as the raster's.
        found = shapely.total_bounds(shapes)
        if not ((found[:2] <= [xmax, ymax]) & (found[2:] >= [xmin, ymin])).all():
            raise CrsMismatchError(_elsewhere(annotations, grid, found.tolist(), [xmin, ymin, xmax, ymax]))
    try:
        shapes = bring_to(shapes, table.crs, grid.crs, where=annotations.path)
    except CrsMismatchError as error:
        raise CrsMismatchError(f"{error}; or state the file's CRS with crs= (--crs EPSG:...)") from error
    bounds = np.asarray(shapely.bounds(shapes), dtype=np.float64).reshape(-1, 4)
    meets = (bounds[:, :2] <= [xmax, ymax]).all(axis=1) & (bounds[:, 2:] >= [xmin, ymin]).all(axis=1)
    return table[meets], shapes[meets]


def _elsewhere(annotations: Annotations, grid: Grid, found: list[float], raster: list[float]) -> str:
    def words(values: list[float]) -> str:
        return "x {:.1f} to {:.1f}, y {:.1f} to {:.1f}".format(*(values[i] for i in (0, 2, 1, 3)))

    crs = annotations.table.crs
    if crs is None:
        what = "says no CRS (a Shapefile has it in .prj)"
    elif grid.crs is None:
        what = f"is in {crs.name!r} and the raster says no CRS"
    else:
        what = f"is in {crs.name!r}, from which nothing leads to the raster's {grid.crs.name!r}"
    return (
        f"{annotations.path} {what}, and its crowns ({words(found)}) do not fall on the raster ({words(raster)}); "
        "state the file's CRS with crs= (--crs EPSG:...), or give the raster that belongs to it"
    )


def _squares(
    shapes: npt.NDArray[np.object_], diameters: npt.NDArray[np.float64], grid: Grid
) -> npt.NDArray[np.object_]:
    """Return points of the map as squares with sides of their diameter on the ground; polygons as they are."""
    points = shapely.get_type_id(shapes) == shapely.GeometryType.POINT
    if not points.any():
        return shapes
    x, y, half = shapely.get_x(shapes[points]), shapely.get_y(shapes[points]), diameters[points] / 2
    wide, high = half / grid.metres_x, half / grid.metres_y
    squares = shapes.copy()
    squares[points] = shapely.box(x - wide, y - high, x + wide, y + high)
    return squares


def _measured(
    table: gpd.GeoDataFrame, shapes: npt.NDArray[np.object_], boxes: npt.NDArray[np.float64], grid: Grid
) -> gpd.GeoDataFrame:
    """Return rows with their geometries, and areas and diameters on the ground; a point has neither."""
    wide, high = (boxes[:, 2] - boxes[:, 0]) * grid.gsd_x, (boxes[:, 3] - boxes[:, 1]) * grid.gsd_y
    pixel_m2 = grid.hectares * 1e4 / (grid.width * grid.height)
    area = shapely.area(grid.geometries_to_pixels(shapes)) * pixel_m2
    numbers = {"area_m2": area, "crown_m2": math.pi / 4 * wide * high, "diameter_m": (wide + high) / 2}
    solid = shapely.get_dimensions(shapes) == 2
    numbers = {name: np.where(solid, values, np.nan) for name, values in numbers.items()}
    placed = gpd.GeoDataFrame(table.drop(columns="geometry"), geometry=shapes, crs=grid.crs)
    placed = placed.assign(**{name: values.astype(DTYPES[name]) for name, values in numbers.items()})
    return placed[list(table.columns)]
