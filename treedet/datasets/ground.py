"""Ground that training windows are drawn from: pixels, the crowns on them, and where both are known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.datasets.split import Part
from treedet.rasters.decoded import DecodedRaster, PixelSource, ReopenedRaster, held_grid

log = logging.getLogger("treedet")

_ATTEMPTS = 64  # points thrown at a polygon at a time
_THROWS = 4


@dataclass(frozen=True, eq=False)
class Ground:
    """What training windows are drawn from. All coordinates are pixels of ``pixels.grid``.

    Attributes:
        name: Name for messages.
        pixels: Where its pixels are read from.
        boxes: Float64 ``[N, 4]``.
        classes: Int64 ``[N]``, index into the classes of the schema; -1 is neither crown nor background.
        known: Where annotation is complete; None is everywhere.
        blank: Ground that is never shown, None for none of it.
        equalised: Its contrast was equalised already, so it never is again.
        tightening: Range of factors on box sides about their centres, drawn anew for each window.
        said: Int64 ``[N, A]``, class of each attribute in the schema's order, -1 where nothing is known; None without
            attributes.
    """

    name: str
    pixels: PixelSource
    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    known: BaseGeometry | None = None
    blank: BaseGeometry | None = None
    equalised: bool = False
    tightening: tuple[float, float] = (1.0, 1.0)
    said: npt.NDArray[np.int64] | None = None

    @cached_property
    def said_rows(self) -> npt.NDArray[np.int64]:
        """What is known about each crown, ``[N, A]``; ``[N, 0]`` without attributes."""
        return np.zeros((len(self.boxes), 0), np.int64) if self.said is None else self.said

    @cached_property
    def extent(self) -> tuple[float, float, float, float]:
        """Bounds of what is known, cut off at the raster's edge."""
        grid = self.pixels.grid
        if self.known is None or self.known.is_empty:
            return 0.0, 0.0, float(grid.width), float(grid.height)
        x0, y0, x1, y1 = self.known.bounds
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(grid.width)), min(y1, float(grid.height))

    @cached_property
    def roles(self) -> npt.NDArray[np.int64]:
        """Classes ``[N]``, with -1 for crowns whose centre is never shown: they are the other side's to find."""
        if self.blank is None or not len(self.boxes):
            return self.classes
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        hidden = shapely.contains_xy(self.blank, centres)
        return np.where(hidden, -1, self.classes)

    @cached_property
    def targets(self) -> npt.NDArray[np.int64]:
        """Numbers of the crowns that windows are aimed at."""
        return np.nonzero(self.roles >= 0)[0]

    @cached_property
    def hectares(self) -> float:
        """Ground that is known and shown, in hectares."""
        return float(self._areas.sum() * self.pixels.grid.gsd_x * self.pixels.grid.gsd_y / 1e4)

    def near(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return which crowns meet which of some boxes ``[M, 4]``: int64 ``[2, K]`` of box and crown numbers."""
        return np.asarray(self._index.query(shapely.box(*boxes.T)), dtype=np.int64)

    def places(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        """Draw points ``[count, 2]``, evenly spread over the ground that is known and shown."""
        parts = self._parts
        drawn = rng.choice(len(parts), size=count, p=self._areas / self._areas.sum())
        return np.concatenate([_point_in(parts[i], rng) for i in drawn])

    @cached_property
    def _index(self) -> shapely.STRtree:
        return shapely.STRtree(np.asarray(shapely.box(*self.boxes.T), dtype=object))

    @cached_property
    def _parts(self) -> npt.NDArray[np.object_]:
        grid = self.pixels.grid
        whole = shapely.box(0, 0, grid.width, grid.height)
        shown = whole if self.known is None else shapely.intersection(whole, self.known)
        if self.blank is not None:
            shown = shapely.difference(shown, self.blank)
        parts = shapely.get_parts(shown)
        parts = parts[shapely.area(parts) > 0]
        # Ground of which nothing is known is still a ground; all of it is ignored.
        return np.asarray(parts if len(parts) else [whole], dtype=object)

    @cached_property
    def _areas(self) -> npt.NDArray[np.float64]:
        return np.asarray(shapely.area(self._parts), dtype=np.float64)


def ground_of(
    part: Part,
    classes: tuple[str, ...],
    *,
    finest_gsd: float,
    memory_mb: float,
    said: npt.NDArray[np.int64] | None = None,
) -> Ground:
    """Return the ground of one part of a split.

    Its pixels are decoded once where they fit ``memory_mb``, else read from the file window by window. Crowns that
    belong to another part, or whose class is not among ``classes``, are neither crown nor background.

    Args:
        part: Annotated raster, and what of it belongs to this side.
        classes: Class names of the schema, in its order.
        finest_gsd: Finest ground metres per pixel that windows will have.
        memory_mb: Memory this ground may take, in MiB.
        said: Int64 ``[N, A]``, class of each attribute of the plot's crowns, -1 where nothing is known.

    Raises:
        RasterError: The raster can not be read.
    """
    plot = part.plot
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index.get(str(label), -1) for label in plot.labels], dtype=np.int64)
    numbers = np.where(part.mine, labels, -1)
    known = plot.aoi if part.area is None else part.area
    with plot.open() as raster:
        held = held_grid(raster.grid, finest_gsd)
        wanted_mb = held.width * held.height * (raster.channels + 1) / 2**20
        pixels: PixelSource
        if wanted_mb <= memory_mb:
            pixels = DecodedRaster.of(raster, finest_gsd=finest_gsd)
        else:
            pixels = ReopenedRaster(raster)
            log.info(
                "%s: %.0f MiB decoded are more than %.0f MiB; windows are read from the file",
                plot.path,
                wanted_mb,
                memory_mb,
            )
    ignored = np.asarray(plot.ignored, dtype=np.float64).reshape(-1, 4)
    return Ground(
        name=plot.path,
        pixels=pixels,
        boxes=np.concatenate([plot.boxes, ignored]),
        classes=np.concatenate([numbers, np.full(len(ignored), -1, np.int64)]),
        known=known,
        blank=part.blank,
        said=None if said is None else np.pad(said, ((0, len(ignored)), (0, 0)), constant_values=-1),
        equalised=plot.origin is not None and plot.origin.equalised,
        tightening=(1.0, 1.0) if plot.origin is None else plot.origin.tightening,
    )


def _point_in(polygon: BaseGeometry, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a point ``[1, 2]`` of a polygon by rejection; slivers that are never hit give a point on their own."""
    x0, y0, x1, y1 = polygon.bounds
    for _ in range(_THROWS):
        points = rng.uniform((x0, y0), (x1, y1), size=(_ATTEMPTS, 2))
        inside = shapely.contains_xy(polygon, points)
        if inside.any():
            return np.asarray(points[inside][:1], dtype=np.float64)
    point = polygon.representative_point()
    return np.array([[point.x, point.y]])
