"""The look sheet: squares of ground drawn at random, with the crowns found on them."""

from __future__ import annotations

import math
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
from treedet.errors import OutputError
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
        # Imported here: a second that only those pay who draw.
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.collections import PatchCollection  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.patches import Patch, Rectangle  # noqa: PLC0415

        columns = max(1, math.ceil(math.sqrt(len(self.squares))))
        rows = max(1, math.ceil(len(self.squares) / columns))
        figure = Figure(figsize=(4 * columns, 4 * rows + 0.7), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, fontsize=11)
        for position, square in enumerate(self.squares):
            axes = figure.add_subplot(rows, columns, position + 1)
            axes.imshow(square.tile.pixels.transpose(1, 2, 0), interpolation="nearest")
            patches = [Rectangle((b[0], b[1]), b[2] - b[0], b[3] - b[1]) for b in square.boxes]
            colours = [self._colours[name] for name in square.groups]
            axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=colours, linewidth=1.3))
            height, width = square.tile.valid.shape
            axes.set_xlim(0, width)
            axes.set_ylim(height, 0)
            _scale_bar(axes, square)
            n = len(square.boxes)
            axes.set_title(f"{n} crown{'' if n == 1 else 's'}", fontsize=9)
            axes.set_axis_off()
        handles = [Patch(edgecolor=self._colours[n], facecolor="none", label=n) for n in self._names]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            figure.savefig(temporary, format="png")
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"can not write {path}: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)


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


def _scale_bar(axes: object, square: Square) -> None:
    """Draw a bar of ten metres."""
    length = 10 / square.grid.gsd_x
    height, width = square.tile.valid.shape
    if length < width:
        y = height * 0.96
        axes.plot([width * 0.04, width * 0.04 + length], [y, y], color="white", linewidth=3)  # type: ignore[attr-defined]
        axes.text(  # type: ignore[attr-defined]
            width * 0.04, y - height * 0.02, "10 m", color="white", fontsize=8, va="bottom"
        )
