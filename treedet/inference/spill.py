"""Rows of numbers sorted by the band of lines they touch, on disk once there are many."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from types import TracebackType

import numpy as np
import numpy.typing as npt

from treedet.errors import OutputError

HELD_ROWS = 500_000
"""Rows kept in memory until they go to disk."""


class Bands:
    """Takes rows in any order and gives them back band by band; a row that touches several bands is in each.

    A context manager; what went to disk lies in a temporary file without a name.

    Args:
        columns: Numbers in a row.
        height: Lines in a band.
    """

    def __init__(self, columns: int, *, height: int) -> None:
        self._columns, self._height = columns, height
        self._held: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []
        self._rows = 0
        self._file = tempfile.TemporaryFile(prefix="treedet-")  # noqa: SIM115 - closed by __exit__
        self._pieces: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def __enter__(self) -> Bands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: npt.NDArray[np.float64], first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> None:
        """Take rows.

        Args:
            rows: Float64 ``[N, columns]``.
            first: Int64 ``[N]``, first line that each touches.
            stop: Int64 ``[N]``, the line behind the last; rows without a line are dropped.

        Raises:
            OutputError: The disk of temporary files is full.
        """
        low = first // self._height
        size = np.where(stop > first, (stop - 1) // self._height - low + 1, 0)
        row = np.repeat(np.arange(len(rows)), size)
        band = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size) + low[row]
        self._held.append((band, rows[row]))
        self._rows += len(row)
        if self._rows >= HELD_ROWS:
            self._flush()

    def read(self, band: int) -> npt.NDArray[np.float64]:
        """Return the rows of a band, float64 ``[N, columns]``; asked for when nothing is added any more."""
        self._flush()
        found = [np.zeros((0, self._columns))]
        for offset, count in self._pieces.get(band, []):
            self._file.seek(offset)
            found.append(np.fromfile(self._file, dtype=np.float64, count=count * self._columns))
        return np.concatenate([piece.reshape(-1, self._columns) for piece in found])

    def _flush(self) -> None:
        if not self._rows:
            return
        band = np.concatenate([band for band, _ in self._held])
        rows = np.concatenate([rows for _, rows in self._held])
        self._held, self._rows = [], 0
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], np.diff(band[order]) != 0]))
        try:
            offset = self._file.seek(0, 2)
            rows[order].tofile(self._file)
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()} can not take what zones are counted from: {error.strerror or error}; free "
                "some space there, or name another folder in the environment variable TMPDIR"
            ) from error
        ends = np.append(starts[1:], len(order))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            place = offset + start * self._columns * rows.itemsize
            self._pieces[int(band[order[start]])].append((place, end - start))
