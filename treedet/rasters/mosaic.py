"""Several files of one pixel grid, read as one raster: windows cross their borders.

Where files overlap, the first one that has a valid pixel there gives it. A file that can not be read leaves ground
without data, and is noted; it stops nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely

from treedet.errors import UnreadableRasterError
from treedet.rasters.connecting import is_remote
from treedet.rasters.decoding import Handle, Mask, Pixels
from treedet.rasters.opening import Member, Opening

OPEN_FILES = 32
"""Files that a handle keeps open; the one that was not read for longest is closed for another."""


class Troubles:
    """Files that could not be read, with the first reason of each; threads may note at once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, path: str, reason: str) -> None:
        """Take note of a file that could not be read."""
        self._reasons.setdefault(path, reason)

    def reasons(self) -> dict[str, str]:
        """Return the reason by path."""
        return dict(self._reasons)


class MosaicHandle:
    """Open files of a mosaic, for one thread at a time; the counterpart of :class:`treedet.rasters.decoding.Handle`.

    Args:
        opening: The raster; it has members.
        troubles: Takes note of files that can not be read.
        overview: Number of the overview to read, which all members have; None for the full resolution.
    """

    def __init__(self, opening: Opening, troubles: Troubles, overview: int | None = None) -> None:
        factor = 1 if overview is None else opening.overviews[overview]
        self.width = math.ceil(opening.grid.width / factor)
        self.height = math.ceil(opening.grid.height / factor)
        self.block_shape = opening.facts.block_shape
        self._overview, self._factor = overview, factor
        self._members, self._channels, self._troubles = opening.members, opening.source.channels, troubles
        self._boxes = _boxes(opening.members) // factor
        self._boxes[:, 2:] = -(-_boxes(opening.members)[:, 2:] // factor)
        self._open: OrderedDict[int, Handle] = OrderedDict()
        if overview is not None and len(self._members) == 1 and self._members[0].source.warp is None:
            self._measure()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def read(self, row: int, col: int, height: int, width: int) -> tuple[Pixels, Mask | None]:
        """Read a window of native pixels; see :meth:`treedet.rasters.decoding.Handle.read`."""
        pixels: Pixels | None = None
        filled = np.zeros((height, width), np.bool_)
        for number, (left, top, right, bottom) in self._parts(row, col, height, width):
            place = (slice(top - row, bottom - row), slice(left - col, right - col))
            if filled[place].all():
                continue
            found = self._read_member(number, top, left, bottom - top, right - left)
            if found is None:
                continue
            seen, mask = found
            if mask is None and seen.shape[1:] == (height, width) and not filled.any():
                return seen, None
            if pixels is None:
                pixels = np.zeros((self._channels, height, width), np.uint8)
            new = ~filled[place] if mask is None else mask & ~filled[place]
            np.copyto(pixels[:, *place], seen, where=new)
            filled[place] |= new
        if pixels is None:
            pixels = np.zeros((self._channels, height, width), np.uint8)
        return pixels, None if filled.all() else filled

    def _parts(self, row: int, col: int, height: int, width: int) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Yield the members that a window meets, in order, each with the box they share."""
        low = np.maximum(self._boxes[:, :2], (col, row))
        high = np.minimum(self._boxes[:, 2:], (col + width, row + height))
        for number in np.flatnonzero((low < high).all(axis=1)).tolist():
            yield number, (*low[number].tolist(), *high[number].tolist())

    def _read_member(
        self, number: int, row: int, col: int, height: int, width: int
    ) -> tuple[Pixels, Mask | None] | None:
        """Read a part of a member, given in pixels of the mosaic; None where it can not be read."""
        member = self._members[number]
        # A server that did not answer for long is not waited for at every window; a file on disk is asked each time,
        # so that what is found does not depend on the order of reading.
        if is_remote(member.source.path) and member.source.path in self._troubles.reasons():
            return None
        try:
            handle = self._handle(number)
            if member.source.warp is None:
                row, col = row - int(self._boxes[number, 1]), col - int(self._boxes[number, 0])
            return handle.read(row, col, height, width)
        except UnreadableRasterError as error:
            self._troubles.note(member.source.path, str(error))
            if number in self._open:
                self._open.pop(number).close()
            return None

    def _measure(self) -> None:
        """Take the size of a lone file's overview from the file: some writers round it down, others up."""
        try:
            handle = self._handle(0)
        except UnreadableRasterError:
            return  # noted when it is read
        self.width, self.height = handle.width, handle.height
        self._boxes[0] = (0, 0, handle.width, handle.height)

    def _handle(self, number: int) -> Handle:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        member = self._members[number]
        handle = Handle(member.source, self._overview)
        wanted = self._size(member)
        if not self._fits((handle.width, handle.height), wanted):
            handle.close()
            raise UnreadableRasterError(
                f"{member.source.path} has {handle.width} x {handle.height} px, it had {wanted[0]} x {wanted[1]} "
                "when the run began; go on with resume=True (--resume), which looks at it anew"
            )
        self._open[number] = handle
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return handle

    def _fits(self, found: tuple[int, int], wanted: tuple[int, int]) -> bool:
        """Tell whether a member has the size it had; that of an overview may be rounded down instead of up."""
        rounded = 0 if self._overview is None else 1
        return all(0 <= more - there <= rounded for there, more in zip(found, wanted, strict=True))

    def _size(self, member: Member) -> tuple[int, int]:
        """Width and height that a member's handle has: its own, or where it is warped those of the whole."""
        if member.source.warp is not None:
            return self.width, self.height
        return math.ceil(member.size[0] / self._factor), math.ceil(member.size[1] / self._factor)


class Members:
    """The files a raster is made of, and which of them holds a place.

    Args:
        opening: The raster; one without members is its only file.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._members = opening.members

    @property
    def paths(self) -> list[str]:
        """The path of each file, as given."""
        return [member.source.path for member in self._members] or [self._opening.source.path]

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Width and height of each file in pixels, by path."""
        if not self._members:
            return {self._opening.source.path: (self._opening.facts.width, self._opening.facts.height)}
        return {member.source.path: member.size for member in self._members}

    @cached_property
    def boxes(self) -> npt.NDArray[np.int64]:
        """Where the files lie on the raster's grid: ``[M, 4]`` pixels, ``(xmin, ymin, xmax, ymax)``."""
        grid = self._opening.grid
        return _boxes(self._members) if self._members else np.array([[0, 0, grid.width, grid.height]], np.int64)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(np.asarray(shapely.box(*self.boxes.T), dtype=object))

    def holding(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return which file holds each point: the first of several, the nearest where there is none.

        Args:
            points: Float64 ``[N, 2]``, ``(x, y)`` in pixels of the raster's grid.

        Returns:
            Int64 ``[N]``, positions in :attr:`paths`.
        """
        if len(self.boxes) == 1 or not len(points):
            return np.zeros(len(points), np.int64)
        shapes = np.asarray(shapely.points(points), dtype=object)
        which, member = self._tree.query(shapes, predicate="intersects")
        # A border belongs to the file right of it or below it.
        within = (points[which] < self.boxes[member, 2:]).all(axis=1)
        found = np.full(len(points), len(self.boxes), np.int64)
        np.minimum.at(found, which[within], member[within])
        lost = np.flatnonzero(found == len(self.boxes))
        if len(lost):
            found[lost] = self._tree.nearest(shapes[lost])
        return found

    def corners(self) -> npt.NDArray[np.float64]:
        """Return the first pixel of each file on the raster's native grid, ``[M, 2]`` of ``(x, y)``."""
        return np.array([member.corner[::-1] for member in self._members] or [(0, 0)], np.float64)


def _boxes(members: tuple[Member, ...]) -> npt.NDArray[np.int64]:
    return np.array([member.box.box for member in members], np.int64).reshape(-1, 4)
