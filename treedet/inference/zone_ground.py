"""How much ground of each zone is valid, and how much of that lies under crowns.

Everything is measured along the same horizontal lines, :data:`LINE_M` metres apart: a crown of 5 metres is crossed by
20 of them and measured with a standard error of 0.35 %, a zone of a hundred crowns with one of 0.04 %. The lines are
worked off band by band, so memory depends on how many shapes touch a band, not on how many there are.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
import numpy.typing as npt
import shapely

from treedet.core.scanlines import (
    Lines,
    Reach,
    Runs,
    edge_span,
    ellipse_runs,
    ellipse_span,
    polygon_edges,
    polygon_runs,
    rectangle_runs,
)
from treedet.inference.spill import Bands

LINE_M = 0.25
"""Metres from line to line."""
BANDS = 512
"""Bands at most; a band has :data:`LEAST_LINES` lines at least."""
LEAST_LINES = 64


class ZoneGround:
    """Measures valid and covered ground in zones.

    A context manager; crowns and valid ground may come in any order and in parts of any size.

    Args:
        polygons: Object ``[Z]``: the ground of each zone; they may overlap, and may be empty.
        line: Distance of lines in the unit of the polygons: :data:`LINE_M` in that unit.
    """

    def __init__(self, polygons: npt.NDArray[np.object_], *, line: float) -> None:
        self._n = len(polygons)
        bounds = shapely.total_bounds(polygons)
        if np.isnan(bounds).any():
            bounds = np.zeros(4)
        self._left, low, right, high = bounds.tolist()
        self._width = right - self._left
        self._lines = Lines(low, line, int(np.ceil((high - low) / line)))
        self._height = max(LEAST_LINES, -(-self._lines.count // BANDS))
        self._edges, self._crowns, self._valid = (Bands(n, height=self._height) for n in (5, 5, 4))
        self._has_ground = False
        edges = polygon_edges(polygons)
        self._edges.add(edges, *edge_span(edges, self._lines))

    def __enter__(self) -> ZoneGround:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bands in (self._edges, self._crowns, self._valid):
            bands.__exit__(kind, error, trace)

    def add_crowns(self, ellipses: npt.NDArray[np.float64]) -> None:
        """Take crowns as ellipses ``[N, 5]``; see :func:`treedet.core.scanlines.ellipses_of_axes`."""
        near = np.abs(ellipses[:, 0] - (self._left + self._width / 2)) <= self._width / 2 + _half_width(ellipses)
        kept = ellipses[near]
        self._crowns.add(kept, *ellipse_span(kept, self._lines))

    def add_valid(self, rectangles: npt.NDArray[np.float64]) -> None:
        """Take valid ground as rectangles ``[M, 4]``, which may overlap; without any call all ground is valid."""
        self._has_ground = True
        self._valid.add(rectangles, *self._lines.span(rectangles[:, 1], rectangles[:, 3]))

    def add_valid_polygons(self, polygons: npt.NDArray[np.object_]) -> None:
        """Take valid ground as polygons ``[M]`` that need not lie upright; they may overlap."""
        runs = polygon_runs(polygon_edges(polygons), self._lines, first=0, stop=self._lines.count)
        y, half = self._lines.y(runs.line), self._lines.spacing / 4
        self.add_valid(np.column_stack([runs.begin, y - half, runs.end, y + half]))

    def measure(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return which share of each zone is valid, and which share of that is covered, float64 ``[Z]`` each.

        A zone without valid ground is covered by 0; one so flat that no line crosses it is valid by 0.
        """
        total, valid, covered = (np.zeros(self._n) for _ in range(3))
        for band in range(-(-self._lines.count // self._height)):
            edges = self._edges.read(band)
            if not len(edges):
                continue
            first = band * self._height
            span = {"first": first, "stop": min(first + self._height, self._lines.count)}
            inside = polygon_runs(edges, self._lines, **span)
            length = inside.end - inside.begin
            good, under = self._along(band, inside, span)
            total += np.bincount(inside.owner, length, minlength=self._n)
            valid += np.bincount(inside.owner, good, minlength=self._n)
            covered += np.bincount(inside.owner, under, minlength=self._n)
        return _ratio(valid, total), _ratio(covered, valid)

    def _along(
        self, band: int, inside: Runs, span: dict[str, int]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return valid length, and length that is valid and covered, in each run inside a zone."""
        crowns = ellipse_runs(self._crowns.read(band), self._lines, **span)
        place = {"first": span["first"], "left": self._left, "width": self._width}
        under = Reach(crowns, **place).within(inside)
        if not self._has_ground:
            return inside.end - inside.begin, under
        valid = rectangle_runs(self._valid.read(band), self._lines, **span)
        good = Reach(valid, **place).within(inside)
        # What lies in both is what both have, less what either has.
        either = Runs(*(np.concatenate([getattr(r, name) for r in (crowns, valid)]) for name in _FIELDS))
        return good, under + good - Reach(either, **place).within(inside)


_FIELDS = ("owner", "line", "begin", "end")


def _half_width(ellipses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far ellipses reach along x from their centre, at most."""
    return np.asarray(ellipses[:, 2] + np.abs(ellipses[:, 4]) * ellipses[:, 3])


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.clip(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0), 0.0, 1.0)
