"""The look sheet: squares of ground drawn at random, with the crowns found on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import CrownArrays
from treedet.core.grid import Grid, Window
from treedet.core.labels import LabelSchema
from treedet.core.palette import class_colours
from treedet.display.figures import (
    draw_boxes,
    legend_below,
    outline_keys,
    panels,
    save_figure,
    scale_bar,
    show_ground,
)
from treedet.rasters.raster import Raster, Tile

SQUARES = 9
SIDE_M = 40.0
TRIES = 60
SHARP_GSD = 0.05
"""Finest resolution a square is drawn at, in metres; more would not show on the sheet."""


@dataclass
class Square:
    """One square of the sheet.

    Attributes:
        tile: Its pixels.
        grid: The grid its window lies on.
        boxes: Crowns on it, in pixels of the tile.
        groups: Name of each crown's class.
    """

    tile: Tile
    grid: Grid
    boxes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


class LookSheet:
    """Collects crowns on squares of 40 m drawn at random, with a fixed seed, over valid ground.

    Args:
        schema: Names for the legend: by status if there is one, else by class.
        seed: Seed of the draw.
    """

    def __init__(self, schema: LabelSchema, *, seed: int = 0) -> None:
        self._seed = seed
        self._by = "status" if "status" in schema.attributes else "label"
        names = schema.attributes.get("status", schema.classes)
        self._colours = class_colours(names)
        self._names = tuple(names)
        self.squares: list[Square] = []

    def begin(self, raster: Raster, aoi: BaseGeometry | None, grid: Grid) -> None:
        """Draw the squares and read them.

        Args:
            raster: The raster, open.
            aoi: Where crowns are looked for, in pixels of ``grid``; None for everywhere.
            grid: A grid of the raster.
        """
        rng = np.random.default_rng(self._seed)
        shares = rng.random((TRIES, 2))
        if aoi is not None:
            low, high = np.array(aoi.bounds[:2]), np.array(aoi.bounds[2:])
            points = low + rng.random((10 * TRIES, 2)) * (high - low)
            inside = shapely.contains_xy(aoi, points[:, 0], points[:, 1])
            shares = points[inside][:TRIES] / [grid.width, grid.height]
        self.squares = _draw_squares(raster, shares)

    def observe(self, crowns: CrownArrays, grid: Grid) -> None:
        """Take note of the crowns that lie on a square.

        Args:
            crowns: Crowns in pixels of ``grid``.
            grid: A grid of the same raster.
        """
        group = crowns.attributes["status"].argmax(axis=1) if self._by == "status" else crowns.classes
        for square in self.squares:
            scale = np.array([square.grid.width / grid.width, square.grid.height / grid.height] * 2)
            window = square.tile.window
            boxes = crowns.boxes * scale - np.array([window.col, window.row] * 2)
            seen = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < [window.width, window.height]).all(axis=1)
            square.boxes.extend(boxes[seen])
            square.groups.extend(self._names[i] for i in group[seen])

    def save(self, path: Path, *, title: str) -> None:
        """Draw the sheet as a PNG, under a temporary name first.

        Raises:
            OutputError: The file can not be written.
        """
        figure, axes = panels(len(self.squares), title=title)
        for panel, square in zip(axes, self.squares, strict=True):
            height, width = square.tile.valid.shape
            n = len(square.boxes)
            show_ground(panel, square.tile.pixels, title=f"{n} crown{'' if n == 1 else 's'}")
            draw_boxes(panel, np.array(square.boxes), [self._colours[name] for name in square.groups])
            scale_bar(panel, width=width, height=height, gsd=square.grid.gsd_x)
        legend_below(figure, outline_keys(self._colours))
        save_figure(figure, path)


def _draw_squares(raster: Raster, shares: npt.NDArray[np.float64]) -> list[Square]:
    """Read squares around points ``[N, 2]`` given as shares of width and height.

    Those that overlap much, or show little valid ground, are passed over.
    """
    grid = raster.grid.at_gsd(max(raster.grid.gsd, SHARP_GSD))
    side = max(8, round(SIDE_M / grid.gsd))
    height, width = min(side, grid.height), min(side, grid.width)
    squares: list[Square] = []
    for u, v in shares:
        col, row = round(u * grid.width - width / 2), round(v * grid.height - height / 2)
        window = Window(min(max(row, 0), grid.height - height), min(max(col, 0), grid.width - width), height, width)
        if any(_shared(window, square.tile.window) > 0.25 for square in squares):
            continue
        tile = raster.read(window, grid.gsd) if grid is raster.grid else raster.read_on(grid, window)
        if tile.valid.mean() >= 0.5:
            squares.append(Square(tile, grid))
        if len(squares) == SQUARES:
            break
    return squares


def _shared(a: Window, b: Window) -> float:
    down = min(a.bottom, b.bottom) - max(a.row, b.row)
    along = min(a.right, b.right) - max(a.col, b.col)
    return max(0, down) * max(0, along) / (a.height * a.width)
