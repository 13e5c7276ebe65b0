"""Ground where crowns are known and crowns were predicted: what is counted, listed and drawn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.pairing import some
from treedet.errors import SparseTruthWarning
from treedet.evaluation.attributes import Attributes
from treedet.evaluation.classes import Classes, common
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints

__all__ = [
    "Classes",
    "EvaluatedGround",
    "Place",
    "Side",
    "check_truth",
    "common",
    "ground_of",
    "in_metres",
    "place_of",
]

LEAST_SHARE = 0.25
"""Truth that leaves more ground than the rest of this without a crown nearby looks incomplete."""
LEAST_HECTARES = 1.0
"""Rasters up to this size are annotated as a whole, however few crowns they show."""
NEAR_M = 25.0
"""Side of the cells in which ground is looked at; ground in the cells around a crown's is near it."""
FEW_PREDICTIONS = 20
"""Fewer predictions far from all truth say nothing about the truth."""


@dataclass(frozen=True, eq=False)
class Place:
    """Ground to evaluate. Coordinates are metres on the ground, x right, y down.

    Attributes:
        name: Of the raster or area, unique in an evaluation.
        crs: CRS of the tables; None for pixels of an image.
        hectares: Valid ground inside the AOI; NaN where unknown.
        aoi: Where the truth is complete; None for everywhere.
        points: The truth is points.
        plot: The raster; None where there is none.
    """

    name: str
    crs: pyproj.CRS | None
    hectares: float
    aoi: BaseGeometry | None = None
    points: bool = False
    plot: AnnotatedRaster | None = None

    def ignored(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
        """Tell which boxes ``[N, 4]`` have their centre outside the AOI, bool ``[N]``; None without an AOI."""
        if self.aoi is None:
            return None
        shapely.prepare(self.aoi)
        return np.asarray(~shapely.contains_xy(self.aoi, *_centres(boxes).T), dtype=bool)


@dataclass(frozen=True, eq=False)
class Side:
    """Crowns of one side, annotated or predicted.

    Attributes:
        table: Crowns table; the index is the row in the file, where there is one.
        boxes: Float64 ``[N, 4]``, metres on the ground, x right, y down; degenerate for points.
    """

    table: gpd.GeoDataFrame
    boxes: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EvaluatedGround:
    """Truth and prediction of one raster or area, ready to be counted and drawn.

    Attributes:
        name: Of the raster (its path as given) or area.
        crs: CRS of the tables; None for pixels of an image.
        hectares: Valid ground inside the AOI; NaN where unknown.
        truth_table: Crowns table of the truth (points where it is points); the index is the row in the file.
        predicted_table: Crowns table of the predictions.
        paired: The same crowns as arrays in metres on the ground, in the order of the tables.
        plot: The raster with its truth; None where there is no raster.
        complete: An AOI says where the truth is complete.
    """

    name: str
    crs: pyproj.CRS | None
    hectares: float
    truth_table: gpd.GeoDataFrame
    predicted_table: gpd.GeoDataFrame
    paired: PairedCrowns | PairedPoints
    plot: AnnotatedRaster | None = None
    complete: bool = False

    @classmethod
    def of(
        cls, place: Place, truth: Side, predicted: Side, *, classes: Classes, attributes: Attributes | None = None
    ) -> EvaluatedGround:
        """Set the crowns of both sides beside each other; those with their centre outside the AOI are ignored.

        Args:
            place: The ground.
            truth: Annotated crowns or points on it.
            predicted: Predicted crowns on it.
            classes: What both are compared by.
            attributes: What is said about crowns that is compared too; crowns alone, not points.
        """
        paired: PairedCrowns | PairedPoints
        if place.points:
            paired = _paired_points(place, truth, predicted)
        else:
            paired = _paired(place, truth, predicted, classes, attributes or Attributes())
        return cls(
            name=place.name,
            crs=place.crs,
            hectares=place.hectares,
            truth_table=truth.table,
            predicted_table=predicted.table,
            paired=paired,
            plot=place.plot,
            complete=place.aoi is not None,
        )

    @cached_property
    def truth_centres(self) -> npt.NDArray[np.float64]:
        """Points, or centres of the annotated boxes: float64 ``[N, 2]``, metres on the ground."""
        if isinstance(self.paired, PairedPoints):
            return self.paired.points
        return _centres(np.asarray(self.paired.truth, np.float64))


def ground_of(
    plot: AnnotatedRaster,
    found: CrownArrays,
    *,
    classes: Classes,
    attributes: Attributes | None = None,
    source: str = "",
) -> EvaluatedGround:
    """Set what was found on an annotated raster beside its truth.

    Args:
        plot: The raster, its truth and its AOI.
        found: Predicted crowns in pixels of ``plot.grid``, classes as numbers of ``classes.predicted``.
        classes: What crowns are compared by.
        attributes: What is said about crowns that is compared too; the others are left out.
        source: Raster named in the table of predictions; by default the plot's own path.

    Returns:
        The ground, called by the plot's path, with tables in the raster's CRS.
    """
    grid, attributes = plot.grid, attributes or Attributes()
    table = to_table(
        replace(found, attributes={name: found.attributes[name] for name in attributes.predicted}),
        grid,
        LabelSchema(classes=classes.predicted, attributes=attributes.predicted),
        source=source or plot.path,
        crs=plot.crs,
    )
    return EvaluatedGround.of(
        place_of(plot),
        Side(plot.crowns, in_metres(plot.boxes, grid)),
        Side(table, in_metres(found.boxes, grid)),
        classes=classes,
        attributes=attributes,
    )


def place_of(plot: AnnotatedRaster) -> Place:
    """Return the ground of an annotated raster."""
    aoi = plot.aoi
    if aoi is not None:
        scale = np.array([plot.grid.gsd_x, plot.grid.gsd_y])
        aoi = shapely.transform(aoi, lambda xy: xy * scale)
    return Place(plot.path, plot.crs, plot.hectares, aoi, plot.points, plot)


def in_metres(boxes: npt.ArrayLike, grid: Grid) -> npt.NDArray[np.float64]:
    """Return boxes ``[N, 4]`` in pixels of a grid as metres on the ground from its corner, float64.

    >>> from affine import Affine
    >>> in_metres([[0, 0, 10, 20]], Grid(None, Affine.identity(), 100, 100, 0.5, 0.25)).tolist()
    [[0.0, 0.0, 5.0, 5.0]]
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.asarray(boxes * np.array([grid.gsd_x, grid.gsd_y] * 2))


def _paired(place: Place, truth: Side, predicted: Side, classes: Classes, attributes: Attributes) -> PairedCrowns:
    return PairedCrowns(
        truth=truth.boxes,
        predicted=predicted.boxes,
        scores=predicted.table["score"].to_numpy(dtype=np.float32),
        truth_classes=classes.codes(truth.table["label"]),
        predicted_classes=classes.codes(predicted.table["label"]),
        truth_ignored=place.ignored(truth.boxes),
        predicted_ignored=place.ignored(predicted.boxes),
        name=place.name,
        hectares=place.hectares,
        attributes=attributes.paired(truth.table, predicted.table),
    )


def _paired_points(place: Place, truth: Side, predicted: Side) -> PairedPoints:
    return PairedPoints(
        points=_centres(truth.boxes),
        predicted=predicted.boxes,
        scores=predicted.table["score"].to_numpy(dtype=np.float32),
        name=place.name,
        hectares=place.hectares,
        complete=place.aoi is not None,
        point_ignored=place.ignored(truth.boxes),
        predicted_ignored=place.ignored(predicted.boxes),
    )


def _centres(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2)


def check_truth(places: Sequence[AnnotatedRaster | EvaluatedGround]) -> None:
    """Warn where truth without an AOI leaves most of the ground bare, so that good predictions count as false.

    - *A raster* above one hectare: less than a quarter of its ground is near an annotated crown (in a 25 m cell that
      holds one, or in a cell beside it). A raster without any crown is taken at its word.
    - *An area without a raster*: most predictions are far from all truth.

    Args:
        places: Annotated rasters, or truth with its prediction.

    Warns:
        SparseTruthWarning: Names the grounds.
    """
    shares = {_name(place): _near_share(place) for place in places}
    bare = {name: share for name, share in shares.items() if share < LEAST_SHARE}
    if not bare:
        return
    least = min(bare, key=bare.__getitem__)
    warnings.warn(
        f"the truth looks incomplete on {some(list(bare))}: only {bare[least]:.0%} of {least} is near an annotated "
        "crown, and all that is found elsewhere counts as false; draw the area that was annotated and give it with "
        "aoi= (--aoi)",
        SparseTruthWarning,
        stacklevel=2,
    )


def _name(place: AnnotatedRaster | EvaluatedGround) -> str:
    return place.path if isinstance(place, AnnotatedRaster) else place.name


def _near_share(place: AnnotatedRaster | EvaluatedGround) -> float:
    """Return the share of the ground that is near truth; 1 where that says nothing."""
    if isinstance(place, EvaluatedGround):
        if place.plot is not None:
            return _near_share(place.plot)
        return 1.0 if place.complete else _predictions_near(place)
    if place.aoi is not None or not len(place) or place.hectares <= LEAST_HECTARES:
        return 1.0
    grid = place.grid
    size = np.array([grid.height * grid.gsd_y, grid.width * grid.gsd_x])
    cells = np.ceil(size / NEAR_M).astype(int)
    holds = np.zeros(cells, dtype=bool)
    row_col = _centres(in_metres(place.boxes, grid))[:, ::-1] // NEAR_M
    holds[tuple(np.clip(row_col.astype(int), 0, cells - 1).T)] = True
    near = np.asarray(binary_dilation(holds, structure=np.ones((3, 3), dtype=bool)))
    # Nodata holds no crown, and is not missing truth.
    return min(1.0, float(near.mean()) * grid.hectares / place.hectares)


def _predictions_near(place: EvaluatedGround) -> float:
    predicted = _centres(np.asarray(place.paired.predicted, np.float64))
    if not len(place.truth_centres) or len(predicted) < FEW_PREDICTIONS:
        return 1.0
    distance, _ = cKDTree(place.truth_centres).query(predicted)
    return float(np.count_nonzero(distance <= 2 * NEAR_M) / len(predicted))
