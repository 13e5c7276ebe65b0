"""The last rows of a wide picture, kept in memory where they are few, else in an unlinked temporary file."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

MEMORY_BYTES = 32 * 2**20
"""Rows that need more than this go to a file; it is read and written piecewise, so it never counts as memory."""


class RowStore:
    """A ring of rows: writing row ``r`` forgets row ``r - capacity``. A context manager.

    Args:
        channels: Channels of a row.
        width: Pixels of a row.
        capacity: Rows kept.
        memory_bytes: Largest size that is kept in memory.
    """

    def __init__(self, channels: int, width: int, capacity: int, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._shape = (channels, width)
        self._capacity = capacity
        self._rows: Pixels | None = None
        self._file: Any = None
        if capacity * channels * width <= memory_bytes:
            self._rows = np.empty((capacity, channels, width), dtype=np.uint8)
        else:
            self._file = tempfile.TemporaryFile(buffering=0, prefix="treedet-rows-")  # noqa: SIM115 -- see close

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the rows and delete the file."""
        self._rows = None
        if self._file is not None:
            self._file.close()

    def write(self, first: int, block: Pixels) -> None:
        """Store rows ``first`` and after: uint8 ``[C, rows, width]``, at most ``capacity`` rows."""
        channels, width = self._shape
        by_row = np.ascontiguousarray(block.transpose(1, 0, 2))
        slot, count = first % self._capacity, len(by_row)
        head = min(count, self._capacity - slot)  # the rest goes on at the ring's start
        for place, part in ((slot, by_row[:head]), (0, by_row[head:])):
            if self._rows is not None:
                self._rows[place : place + len(part)] = part
            elif len(part):
                self._file.seek(place * channels * width)
                _write_all(self._file, part)

    def read(self, row: int, col: int, height: int, width: int) -> Pixels:
        """Return stored pixels as uint8 ``[C, height, width]``."""
        channels, full = self._shape
        slots = np.arange(row, row + height) % self._capacity
        if self._rows is not None:
            return np.ascontiguousarray(self._rows[slots, :, col : col + width].transpose(1, 0, 2))
        out = np.empty((channels, height, width), dtype=np.uint8)
        for i, slot in enumerate(slots.tolist()):
            for channel in range(channels):
                self._file.seek((slot * channels + channel) * full + col)
                self._file.readinto(out[channel, i])
        return out


def _write_all(file: Any, data: Pixels) -> None:  # noqa: ANN401 -- an unbuffered binary file
    """Write every byte: an unbuffered file may take fewer at a time."""
    rest = data.data.cast("B")
    while rest:
        rest = rest[file.write(rest) :]
