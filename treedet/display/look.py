"""The look sheet: squares of ground drawn at random, with the crowns found on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays, said
from treedet.core.grid import Grid, Window
from treedet.core.labels import LabelSchema
from treedet.core.palette import NO_VALUE, OTHER, class_colours, coloured_by
from treedet.display.figures import (
    draw_boxes,
    legend_below,
    outline_keys,
    panels,
    save_figure,
    scale_bar,
    show_ground,
)
from treedet.inference.watching import View
from treedet.rasters.raster import Raster, Tile

SQUARES = 9
SIDE_M = 40.0
TRIES = 60
LEGEND = 12
"""Classes the legend names; rarer ones are one entry."""
NAME = 32
"""Letters of a file's name that fit above a square."""
SHARP_GSD = 0.05
"""Finest resolution a square is drawn at, in metres; more would not show on the sheet."""


@dataclass
class Square:
    """One square of the sheet.

    Attributes:
        tile: Its pixels.
        grid: The grid its window lies on.
        ground: Number of the piece of ground, of many.
        source: Path of the file that holds its centre, of many; empty for a single raster.
        boxes: Crowns on it, in pixels of the tile.
        groups: Name of each crown's class; None for those without a value.
    """

    tile: Tile
    grid: Grid
    ground: int = 0
    source: str = ""
    boxes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How many crowns are on it, and in which file, by the end of its name where it is long."""
        count = f"{len(self.boxes)} crown{'' if len(self.boxes) == 1 else 's'}"
        name = Path(self.source).name
        shown = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
        return f"{shown}: {count}" if self.source else count


class LookSheet:
    """Collects crowns on squares of 40 m drawn at random, with a fixed seed, over valid ground.

    Args:
        schema: Names of classes and attributes.
        seed: Seed of the draw.
        colour_by: Column that colours the crowns; see :func:`treedet.core.palette.coloured_by`.
        min_p: Least probability of an attribute; crowns below it have no value.

    Raises:
        ConfigError: There is no such column.
    """

    def __init__(
        self, schema: LabelSchema, *, seed: int = 0, colour_by: str | None = None, min_p: float | None = None
    ) -> None:
        self._seed = seed
        self._min_p = min_p
        self._by = coloured_by(schema.attributes, colour_by)
        self._names = schema.attributes.get(self._by, schema.classes)
        # Crowns of the whole run by class, those without a value first.
        self._counts = np.zeros(1 + len(self._names), np.int64)
        self.squares: list[Square] = []

    def begin(self, raster: Raster, aoi: BaseGeometry | None, grid: Grid) -> None:
        """Draw the squares and read them.

        Args:
            raster: The raster, open.
            aoi: Where crowns are looked for, in pixels of ``grid``; None for everywhere.
            grid: A grid of the raster.
        """
        rng = np.random.default_rng(self._seed)
        self.squares = []
        for share in _shares(rng, aoi, grid, TRIES):
            if len(self.squares) == SQUARES:
                break
            self._draw(raster, share)

    def begin_many(self, m2: npt.NDArray[np.float64], view: Callable[[int], View]) -> None:
        """Draw squares spread over many pieces of ground, and read them; no more than a few are opened for it.

        Args:
            m2: Float64 ``[N]``, area of each piece of ground, which it is drawn by.
            view: Gives one by its number.
        """
        rng = np.random.default_rng(self._seed)
        self.squares = []
        drawn = rng.choice(len(m2), TRIES, p=m2 / m2.sum()).tolist()
        places: dict[int, tuple[Raster, Iterator[npt.NDArray[np.float64]]]] = {}
        with ExitStack() as stack:
            for number in drawn:
                if number not in places:
                    seen = view(number)
                    raster = stack.enter_context(seen.raster)
                    shares = _shares(rng, seen.area, raster.grid, drawn.count(number))
                    places[number] = raster, iter(shares)
                raster, left = places[number]
                if (share := next(left, None)) is not None:
                    (holder,) = raster.members.holding(share[None] * [raster.grid.width, raster.grid.height])
                    self._draw(raster, share, ground=number, source=raster.members.paths[holder])
                if len(self.squares) == SQUARES:
                    break

    def observe(self, crowns: CrownArrays, grid: Grid, *, ground: int = 0) -> None:
        """Take note of the crowns that lie on a square.

        Args:
            crowns: Crowns in pixels of ``grid``.
            grid: A grid of the same raster.
            ground: Number of the piece of ground, of many.
        """
        group = crowns.classes if self._by == "label" else said(crowns.attributes[self._by], min_p=self._min_p)
        self._counts += np.bincount(group + 1, minlength=len(self._counts))
        for square in self.squares:
            if square.ground != ground:
                continue
            scale = np.array([square.grid.width / grid.width, square.grid.height / grid.height] * 2)
            window = square.tile.window
            boxes = crowns.boxes * scale - np.array([window.col, window.row] * 2)
            seen = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < [window.width, window.height]).all(axis=1)
            square.boxes.extend(boxes[seen])
            square.groups.extend(None if i < 0 else self._names[i] for i in group[seen])

    def _draw(self, raster: Raster, share: npt.NDArray[np.float64], *, ground: int = 0, source: str = "") -> None:
        """Read the square around a point given as shares of width and height.

        One that overlaps another much, or shows little valid ground, is passed over.
        """
        grid = raster.grid.at_gsd(max(raster.grid.gsd, SHARP_GSD))
        side = max(8, round(SIDE_M / grid.gsd))
        height, width = min(side, grid.height), min(side, grid.width)
        col, row = round(share[0] * grid.width - width / 2), round(share[1] * grid.height - height / 2)
        window = Window(min(max(row, 0), grid.height - height), min(max(col, 0), grid.width - width), height, width)
        if any(_shared(window, other.tile.window) > 0.25 for other in self.squares if other.ground == ground):
            return
        tile = raster.read_on(grid, window)
        if tile.valid.mean() >= 0.5:
            self.squares.append(Square(tile, grid, ground, source))

    def save(self, path: Path, *, title: str) -> None:
        """Draw the sheet as a PNG, under a temporary name first.

        Raises:
            OutputError: The file can not be written.
        """
        colours = self._colours
        figure, axes = panels(len(self.squares), title=title)
        for panel, square in zip(axes, self.squares, strict=True):
            height, width = square.tile.valid.shape
            show_ground(panel, square.tile.pixels, title=square.title)
            draw_boxes(panel, np.array(square.boxes), [colours[name] for name in square.groups])
            scale_bar(panel, width=width, height=height, gsd=square.grid.gsd_x)
        legend_below(figure, outline_keys(self.legend))
        save_figure(figure, path)

    @property
    def legend(self) -> dict[str, str]:
        """Colours by entry of the legend, which counts the crowns of the whole run.

        Of many classes the most frequent have an entry, the others one together; crowns without a value have theirs.
        """
        named, others = self._ranked
        legend = {f"{self._names[i]}: {self._counts[i + 1]:,}": self._colours[self._names[i]] for i in named}
        if len(others):
            legend[f"{len(others)} others: {self._counts[others + 1].sum():,}"] = OTHER
        if self._counts[0]:
            legend[f"no value: {self._counts[0]:,}"] = NO_VALUE
        return legend

    @property
    def _ranked(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Classes with an entry of their own, and the others."""
        if len(self._names) <= LEGEND:
            return np.arange(len(self._names)), np.arange(0)
        order = np.argsort(-self._counts[1:], kind="stable")
        return order[: LEGEND - 1], order[LEGEND - 1 :]

    @property
    def _colours(self) -> dict[str | None, str]:
        """Colour of each class: the same as in a map style, but for rare ones of many."""
        rare = {self._names[i] for i in self._ranked[1]}
        colours: dict[str | None, str] = {None: NO_VALUE}
        for name, colour in class_colours(self._names).items():
            colours[name] = OTHER if name in rare else colour
        return colours


def _shares(rng: np.random.Generator, area: BaseGeometry | None, grid: Grid, count: int) -> npt.NDArray[np.float64]:
    """Return points drawn in an area, at most ``count``, as shares ``[N, 2]`` of width and height of its grid."""
    if area is None:
        return rng.random((count, 2))
    low, high = np.array(area.bounds[:2]), np.array(area.bounds[2:])
    points = low + rng.random((10 * TRIES, 2)) * (high - low)
    inside = shapely.contains_xy(area, points[:, 0], points[:, 1])
    return np.asarray(points[inside][:count] / [grid.width, grid.height])


def _shared(a: Window, b: Window) -> float:
    down = min(a.bottom, b.bottom) - max(a.row, b.row)
    along = min(a.right, b.right) - max(a.col, b.col)
    return max(0, down) * max(0, along) / (a.height * a.width)
