"""A window of ground, zoomed and turned: its pixels, the boxes of its crowns, and what is known there.

Crowns are turned as the ellipses inscribed in their boxes: the box around a turned box would be up to 40 % wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.boxes import area, clip
from treedet.core.grid import Grid, Window
from treedet.datasets.ground import Ground

VISIBLE = 0.3
"""Share of a crown that must be shown in a window for it to be a target there."""
SLIVER = 0.05
"""Share of a crown below which what is shown of it is background."""
LEAST_PX = 3.0
"""Least side in pixels of a target."""
_SHIFT = 4  # fractional bits of the coordinates cv2 fills polygons with

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class View:
    """Where a window lies.

    Attributes:
        grid: The ground at the window's GSD, made by ``at_gsd``.
        centre: Float64 ``[2]``, the window's centre in pixels of ``grid``.
        matrix: Float64 ``[2, 2]``, turns and shears distances on ``grid`` into distances in the window; keeps areas.
        height: Rows of the window.
        width: Columns of the window.
    """

    grid: Grid
    centre: Floats
    matrix: Floats
    height: int
    width: int

    @property
    def middle(self) -> Floats:
        """The window's centre in its own pixels, ``[2]``."""
        return np.array([self.width, self.height]) / 2

    @property
    def upright(self) -> bool:
        """True where rows of the window run along rows of the grid, and their pixels fall on one another."""
        return bool(np.array_equal(self.matrix, np.eye(2)))

    @property
    def bounds(self) -> Floats:
        """Box ``[4]`` around the window in pixels of ``grid``."""
        reach = np.abs(np.linalg.inv(self.matrix)) @ self.middle
        return np.concatenate([self.centre - reach, self.centre + reach])

    def scale_of(self, grid: Grid) -> Floats:
        """Pixels of this view's grid per pixel of another grid of the same extent, ``[2]``."""
        return np.array([self.grid.width / grid.width, self.grid.height / grid.height])

    def to_window(self, xy: Floats) -> Floats:
        """Turn points ``[..., 2]`` of the grid into points of the window."""
        return (xy - self.centre) @ self.matrix.T + self.middle


@dataclass(frozen=True, eq=False)
class Patch:
    """A window with its annotation.

    Attributes:
        pixels: Uint8 ``[H, W, 3]``; zeros beyond the raster, where it has no data, and where it is never shown.
        boxes: Float32 ``[N, 4]``, window pixels.
        classes: Int64 ``[N]``; -1 is neither crown nor background.
        known: Bool ``[H, W]``, False where annotation is not complete; None where all is known.
        valid_share: Share of the raster below the window that has data; 0 beside it.
        said: Int64 ``[N, A]``, class of each attribute, -1 where nothing is known.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    known: Mask | None
    valid_share: float
    said: npt.NDArray[np.int64]


def turned(turn: float, rng: np.random.Generator) -> Floats:
    """Draw a turn of at most ``turn`` degrees and shears of a quarter of that: ``[2, 2]`` with determinant 1."""
    if turn == 0:
        return np.eye(2)
    angle = math.radians(rng.uniform(-turn, turn))
    along, down = np.tan(np.radians(rng.uniform(-turn / 4, turn / 4, size=2)))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.array([[1.0, along], [down, 1.0]]) @ rotation
    return np.asarray(matrix / math.sqrt(np.linalg.det(matrix)), dtype=np.float64)


def look(ground: Ground, view: View, *, tightening: float = 1.0) -> Patch:
    """Read a window of ground.

    A crown of which less than ``VISIBLE`` is shown, or that is smaller than ``LEAST_PX``, is neither target nor
    background (class -1), unless it is but a sliver: a part of a crown still looks like one, and to call it
    background would teach the network to doubt its edges.

    Args:
        ground: The ground.
        view: Where to look.
        tightening: Factor on box sizes about their centres.
    """
    pixels, shown, valid_share = _pixels(ground, view)
    scale = view.scale_of(ground.pixels.grid)
    if ground.blank is not None and (hidden := _filled(ground.blank, view, scale)) is not None:
        # Two pixels more: outlines are filled to within one, and neighbours are blended by the turn.
        hidden = cv2.dilate(hidden.view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
        shown = ~hidden if shown is None else shown & ~hidden
        pixels[hidden] = 0
    known = None
    if ground.known is not None:
        filled = _filled(ground.known, view, scale)
        known = np.zeros((view.height, view.width), np.bool_) if filled is None else filled
        known = None if known.all() else known
    box = view.bounds / np.tile(scale, 2)
    near = np.sort(ground.near(box[None])[1])
    boxes = _boxes_in(ground.boxes[near], view, scale, tightening)
    seen, classes, kept = visible(boxes, ground.roles[near], height=view.height, width=view.width, shown=shown)
    # Of a crown of which too little is shown, nothing is to be learned.
    said = np.where(classes[:, None] >= 0, ground.said_rows[near][kept], -1)
    return Patch(pixels, seen.astype(np.float32), classes, known, valid_share, said)


def visible(
    boxes: Floats, classes: npt.NDArray[np.int64], *, height: int, width: int, shown: Mask | None = None
) -> tuple[Floats, npt.NDArray[np.int64], Mask]:
    """Cut boxes off at what is shown of a window, and say which of them are still targets.

    Args:
        boxes: Float64 ``[N, 4]``, window pixels, whole.
        classes: Int64 ``[N]``.
        height: Rows of the window.
        width: Columns of the window.
        shown: Bool ``[height, width]``, False where nothing is shown; None where all is.

    Returns:
        Boxes ``[M, 4]`` and classes ``[M]``, the latter -1 where too little is seen of a crown, and bool ``[N]``:
        which crowns these are.

    >>> visible(np.array([[-5.0, 0, 5, 10], [-8, 0, 2, 10]]), np.array([0, 0]), height=20, width=20)[1].tolist()
    [0, -1]
    """
    whole = np.maximum(area(boxes), 1e-9)
    cut = clip(boxes, width=width, height=height).astype(np.float64, copy=False)
    share = area(cut) / whole
    if shown is not None:
        integral = np.asarray(cv2.integral(shown.view(np.uint8)), dtype=np.int32)
        cut = _trimmed(cut, integral)
        x0, y0, x1, y1 = np.rint(cut).astype(np.int64).T
        share = _count(integral, x0, y0, x1, y1) / whole
    sides = (cut[:, 2:] - cut[:, :2]).min(axis=1, initial=np.inf)
    target = (classes >= 0) & (share >= VISIBLE) & (sides >= LEAST_PX)
    kept = target | ((share > SLIVER) & (sides >= 1))
    return cut[kept], np.where(target, classes, -1)[kept], kept


def _pixels(ground: Ground, view: View) -> tuple[npt.NDArray[np.uint8], Mask | None, float]:
    """Return pixels ``[H, W, 3]``, where they are valid (None: everywhere), and the valid share of the raster."""
    margin = 0 if view.upright else 1  # neighbours that are blended
    bounds = view.bounds
    left, top = (int(v) - margin for v in np.floor(bounds[:2] + 1e-6))
    right, bottom = (int(v) + margin for v in np.ceil(bounds[2:] - 1e-6))
    col, row = max(0, left), max(0, top)
    wide, high = min(right, view.grid.width) - col, min(bottom, view.grid.height) - row
    if wide < 1 or high < 1:
        blank = np.zeros((view.height, view.width, 3), np.uint8)
        return blank, np.zeros(blank.shape[:2], np.bool_), 0.0
    tile = ground.pixels.read_on(view.grid, Window(row, col, high, wide))
    image = cv2.merge([*tile.pixels])  # faster than a transposed copy
    everywhere = bool(tile.valid.all())
    if not everywhere:
        image[~tile.valid] = 0  # nodata may hold any value
    # OpenCV counts from pixel centres, boxes from pixel corners: half a pixel on either side.
    shift = view.to_window(np.array([col, row]) + 0.5) - 0.5
    matrix, size = np.column_stack([view.matrix, shift]), (view.width, view.height)
    flags = cv2.INTER_NEAREST if view.upright else cv2.INTER_LINEAR
    pixels = np.asarray(cv2.warpAffine(image, matrix, size, flags=flags), dtype=np.uint8)
    if everywhere and (left, top, right, bottom) == (col, row, col + wide, row + high):
        return pixels, None, 1.0
    valid = np.ascontiguousarray(tile.valid).view(np.uint8)
    shown = cv2.warpAffine(valid, matrix, size, flags=cv2.INTER_NEAREST).astype(np.bool_)
    return pixels, shown, float(tile.valid.mean())


def _boxes_in(boxes: Floats, view: View, scale: Floats, tightening: float) -> Floats:
    """Boxes around the turned ellipses inscribed in ``boxes``, in window pixels.

    An ellipse with half axes ``(p, q)`` turned by a matrix ``m`` reaches ``sqrt((m_x0 p)^2 + (m_x1 q)^2)`` along x.
    """
    centre = view.to_window((boxes[:, :2] + boxes[:, 2:]) / 2 * scale)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale * tightening
    reach = np.sqrt(half**2 @ (view.matrix**2).T)
    return np.concatenate([centre - reach, centre + reach], axis=1)


def _filled(geometry: BaseGeometry, view: View, scale: Floats) -> Mask | None:
    """Window pixels that lie in a geometry, ``[H, W]``, to within a pixel of its outline; None where none does."""
    x0, y0, x1, y1 = view.bounds / np.tile(scale, 2)
    near = shapely.clip_by_rect(geometry, x0 - 2, y0 - 2, x1 + 2, y1 + 2)
    polygons = [part for part in shapely.get_parts(shapely.get_parts(near)) if part.geom_type == "Polygon"]
    if not polygons:
        return None
    canvas = np.zeros((view.height, view.width), np.uint8)
    for polygon in polygons:
        rings = [view.to_window(shapely.get_coordinates(ring) * scale) - 0.5 for ring in shapely.get_rings(polygon)]
        points = [np.rint(ring * 2**_SHIFT).astype(np.int32) for ring in rings]
        cv2.fillPoly(canvas, points, 1, shift=_SHIFT)
    return canvas.astype(np.bool_) if canvas.any() else None


def _count(integral: npt.NDArray[np.int32], x0: Ints, y0: Ints, x1: Ints, y1: Ints) -> npt.NDArray[np.int32]:
    """Pixels shown in rectangles, by a summed-area table (Crow 1984, *Summed-area tables for texture mapping*)."""
    return np.asarray(integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0])


def _trimmed(boxes: Floats, integral: npt.NDArray[np.int32]) -> Floats:
    """Move the sides of boxes inwards over rows and columns of which nothing is shown."""
    x0, y0, x1, y1 = corners = np.rint(boxes).astype(np.int64).T
    moved = np.stack(
        [
            _past_empty(lambda x: _count(integral, x0, y0, x, y1), x0, x1),
            _past_empty(lambda y: _count(integral, x0, y0, x1, y), y0, y1),
            _past_empty(lambda x: _count(integral, x, y0, x1, y1), x1, x0),
            _past_empty(lambda y: _count(integral, x0, y, x1, y1), y1, y0),
        ]
    )
    # A side that stays keeps its fraction of a pixel.
    return np.where(moved == corners, boxes.T, moved).T


def _past_empty(count: Callable[[Ints], npt.NDArray[np.int32]], start: Ints, end: Ints) -> Ints:
    """Return how far each box goes from ``start`` towards ``end`` before something is shown, by bisection."""
    size, step = np.abs(end - start), np.sign(end - start)
    gone = np.zeros_like(size)
    for bit in reversed(range(int(size.max(initial=0)).bit_length())):
        further = gone + (1 << bit)
        empty = (further <= size) & (count(start + step * np.minimum(further, size)) == 0)
        gone = np.where(empty, further, gone)
    return np.asarray(start + step * gone, dtype=np.int64)
