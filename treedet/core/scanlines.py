"""Areas measured along horizontal lines: unions and intersections of shapes become sums over sorted runs.

Along a line everything is exact; between lines nothing is known. An ellipse that ``n`` lines cross is measured with a
standard error of ``0.31 n ** -1.5`` of its area, and the errors of many shapes cancel out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """Horizontal lines at equal distances; line ``i`` lies in the middle of the ``i``-th strip.

    Attributes:
        origin: Lower border of the first strip, in the unit of the shapes.
        spacing: Height of a strip.
        count: Number of lines.

    >>> lines = Lines(origin=0.0, spacing=2.0, count=10)
    >>> lines.y(np.array([0, 1])).tolist(), [v.tolist() for v in lines.span(np.array([0.9]), np.array([3.0]))]
    ([1.0, 3.0], [[0], [1]])
    """

    origin: float
    spacing: float
    count: int

    def y(self, line: Ints) -> Floats:
        """Return where lines lie."""
        return np.asarray(self.origin + (line + 0.5) * self.spacing, dtype=np.float64)

    def span(self, low: Floats, high: Floats) -> tuple[Ints, Ints]:
        """Return the first line at or above ``low``, and the first at or above ``high``."""
        first, stop = (
            np.clip(np.ceil((at - self.origin) / self.spacing - 0.5), 0, self.count).astype(np.int64)
            for at in (low, high)
        )
        return first, np.maximum(first, stop)


@dataclass(frozen=True)
class Runs:
    """Stretches of lines.

    Attributes:
        owner: Int64 ``[R]``: the shape each belongs to.
        line: Int64 ``[R]``.
        begin: Float64 ``[R]``, x where it begins.
        end: Float64 ``[R]``, x where it ends.
    """

    owner: Ints
    line: Ints
    begin: Floats
    end: Floats


def ellipses_in_boxes(boxes: Floats) -> Floats:
    """Return the ellipses inscribed in upright boxes, as :func:`ellipses_of_axes` does.

    Args:
        boxes: Float64 ``[N, 4]`` as ``(xmin, ymin, xmax, ymax)``.

    >>> ellipses_in_boxes(np.array([[0.0, 0.0, 4.0, 2.0]])).tolist()
    [[2.0, 1.0, 2.0, 1.0, 0.0]]
    """
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.column_stack([centre, half, np.zeros(len(boxes))])


def ellipses_of_axes(centre: Floats, u: Floats, v: Floats) -> Floats:
    """Return ellipses ``centre + u cos t + v sin t`` in the form that lines cut.

    Args:
        centre: Float64 ``[N, 2]``.
        u: Float64 ``[N, 2]``, one half axis, or any conjugate half diameter.
        v: Float64 ``[N, 2]``, the other.

    Returns:
        Float64 ``[N, 5]``: x and y of the centre, half width along its middle line, half height, and by how much the
        middle of a cut moves along x for each unit of y.
    """
    high = np.maximum(np.hypot(u[:, 1], v[:, 1]), 1e-12)
    wide = np.abs(u[:, 0] * v[:, 1] - v[:, 0] * u[:, 1]) / high
    lean = (u[:, 0] * u[:, 1] + v[:, 0] * v[:, 1]) / high**2
    return np.column_stack([centre, wide, high, lean])


def ellipse_span(ellipses: Floats, lines: Lines) -> tuple[Ints, Ints]:
    """Return the lines that cross ellipses: first and stop, int64 ``[N]`` each."""
    return lines.span(ellipses[:, 1] - ellipses[:, 3], ellipses[:, 1] + ellipses[:, 3])


def ellipse_runs(ellipses: Floats, lines: Lines, *, first: int, stop: int) -> Runs:
    """Return where lines run through ellipses.

    Args:
        ellipses: Float64 ``[N, 5]`` of :func:`ellipses_of_axes`.
        lines: The lines.
        first: First of those wanted.
        stop: The one behind the last.
    """
    owner, line = _spread(*ellipse_span(ellipses, lines), first=first, stop=stop)
    x, y, wide, high, lean = ellipses[owner].T
    away = lines.y(line) - y
    reach = wide * np.sqrt(np.clip(1 - (away / np.maximum(high, 1e-12)) ** 2, 0, None))
    middle = x + lean * away
    return Runs(owner, line, middle - reach, middle + reach)


def rectangle_runs(boxes: Floats, lines: Lines, *, first: int, stop: int) -> Runs:
    """Return where lines run through upright boxes ``[N, 4]``; see :func:`ellipse_runs`."""
    owner, line = _spread(*lines.span(boxes[:, 1], boxes[:, 3]), first=first, stop=stop)
    return Runs(owner, line, boxes[owner, 0], boxes[owner, 2])


def polygon_edges(polygons: npt.NDArray[np.object_]) -> Floats:
    """Return the edges of polygons and multipolygons, holes included.

    Args:
        polygons: Object ``[P]``; empty ones have no edges.

    Returns:
        Float64 ``[E, 5]``: the polygon's position, then x and y of the lower end and of the upper end. Level edges
        are left out, since no line crosses them.
    """
    parts, owner = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    a, b = xy[:-1][same], xy[1:][same]
    of = owner[part[ring[:-1][same]]]
    upwards = (a[:, 1] <= b[:, 1])[:, None]
    low, high = np.where(upwards, a, b), np.where(upwards, b, a)
    edges = np.column_stack([of, low, high]).astype(np.float64)
    return np.asarray(edges[low[:, 1] < high[:, 1]])


def edge_span(edges: Floats, lines: Lines) -> tuple[Ints, Ints]:
    """Return the lines that cross edges: first and stop, int64 ``[E]`` each."""
    return lines.span(edges[:, 2], edges[:, 4])


def polygon_runs(edges: Floats, lines: Lines, *, first: int, stop: int) -> Runs:
    """Return where lines run inside polygons, whose position is the owner.

    Args:
        edges: All edges of :func:`polygon_edges` that the lines cross.
        lines: The lines.
        first: First of those wanted.
        stop: The one behind the last.
    """
    edge, line = _spread(*edge_span(edges, lines), first=first, stop=stop)
    of, x0, y0, x1, y1 = edges[edge].T
    x = x0 + (lines.y(line) - y0) * (x1 - x0) / (y1 - y0)
    order = np.lexsort((x, line, of))
    # A closed ring crosses a line an even number of times, so crossings pair up: in, out, in, out.
    into, out = order[::2], order[1::2]
    return Runs(of[into].astype(np.int64), line[into], x[into], x[out])


class Reach:
    """Tells how much of a line left of a place lies in the union of runs.

    All lines are laid end to end, so that one sorted array answers for each of them.

    Args:
        runs: Runs that may overlap.
        first: The first line of all.
        left: Where lines begin; what lies left of it counts for nothing.
        width: How long they are.
    """

    def __init__(self, runs: Runs, *, first: int, left: float, width: float) -> None:
        self._first, self._left, self._width = first, left, width
        begin, end = self._along(runs.line, runs.begin), self._along(runs.line, runs.end)
        order = np.argsort(begin, kind="stable")
        begin, reached = begin[order], np.maximum.accumulate(end[order]) if len(end) else end
        opens = np.ones(len(begin), dtype=bool)
        opens[1:] = begin[1:] > reached[:-1]
        starts = np.flatnonzero(opens)
        self._begin = begin[starts]
        self._end = reached[np.append(starts[1:] - 1, len(begin) - 1)] if len(starts) else begin[starts]
        self._before = np.concatenate([[0.0], np.cumsum(self._end - self._begin)])

    def _along(self, line: Ints, x: Floats) -> Floats:
        return np.asarray((line - self._first) * self._width + np.clip(x - self._left, 0, self._width))

    def within(self, runs: Runs) -> Floats:
        """Return the length of the union inside each of other runs, float64 ``[R]``."""
        return self._until(self._along(runs.line, runs.end)) - self._until(self._along(runs.line, runs.begin))

    def _until(self, place: Floats) -> Floats:
        if not len(self._begin):
            return np.zeros(len(place))
        run = np.searchsorted(self._begin, place, side="right") - 1
        at = np.maximum(run, 0)
        here = np.clip(np.minimum(place, self._end[at]) - self._begin[at], 0, None)
        return np.where(run < 0, 0.0, self._before[at] + here)


def _spread(start: Ints, end: Ints, *, first: int, stop: int) -> tuple[Ints, Ints]:
    """Return item and line of each line from ``start`` to ``end`` of each item, within those wanted."""
    start = np.clip(start, first, stop)
    size = np.clip(end, start, stop) - start
    item = np.repeat(np.arange(len(start)), size)
    line = np.arange(len(item)) - np.repeat(np.cumsum(size) - size, size) + start[item]
    return item, line
