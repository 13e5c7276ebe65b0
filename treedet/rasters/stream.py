"""Read the tiles of a plan in the background: in order, a bounded number at a time.

Tiled files are read window by window by a few threads with a handle each. Striped ones are read once, from top to
bottom, by one thread as full-width bands of rows from which windows are cut: read window by window, each strip
would be decoded for every window across the raster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError, RasterError
from treedet.rasters.connecting import environment
from treedet.rasters.raster import Raster, Tile
from treedet.rasters.row_store import RowStore
from treedet.rasters.tiling import TilePlan

_BAND_BYTES = 8 * 2**20  # pixels of a band of rows read at a time


@dataclass(frozen=True)
class StreamConfig:
    """How many tiles are read ahead, and by how many threads.

    Attributes:
        threads: Reading threads for tiled files; striped ones have one.
        queue: Tiles being read or waiting to be taken.

    Raises:
        ConfigError: A value is below 1.
    """

    threads: int = 2
    queue: int = 3

    def __post_init__(self) -> None:
        if min(self.threads, self.queue) < 1:
            raise ConfigError(
                f"threads and queue must be at least 1, found threads={self.threads}, queue={self.queue}"
            )


def stream_tiles(
    raster: Raster,
    plan: TilePlan,
    *,
    config: StreamConfig | None = None,
    first_row: int = 0,
    last_row: int | None = None,
) -> Generator[tuple[int, Tile], None, None]:
    """Read the windows of a plan.

    Every window of the plan is yielded; one without a valid pixel comes as :meth:`Tile.blank`, whose ``is_empty``
    is True, and takes no memory. Memory is bounded by ``config.queue`` tiles, whatever the raster's size.
    Abandoning the iterator (``close()``) stops the threads and closes their files. The raster itself is not read,
    so it stays free for its owner.

    Args:
        raster: What to read.
        plan: Windows on ``plan.grid``, a grid made by ``raster.grid.at_gsd``.
        config: Threads and tiles ahead.
        first_row: Row of windows to begin with, when an interrupted run is resumed.
        last_row: Row before which to end; None for the last one.

    Yields:
        The row of windows and the tile, row by row, left to right.

    Raises:
        RasterError: A window can not be read; the message names it.
    """
    config = config or StreamConfig()
    jobs = [(row, window) for row in range(len(plan.rows))[first_row:last_row] for window in plan.rows[row]]
    if not jobs:
        return
    with ExitStack() as stack:
        readers: list[Callable[[Window], Tile]] = []
        if is_read_in_bands(raster, plan):
            readers.append(stack.enter_context(_BandReader(_clone(raster, plan.grid, stack), plan)).read)
        else:
            clones = [_clone(raster, plan.grid, stack) for _ in range(min(config.threads, len(jobs)))]
            readers = [partial(clone.read_on, plan.grid) for clone in clones]
        if len(jobs) == 1:
            # Nothing to read ahead of: thousands of small files would start thousands of threads.
            row, window = jobs[0]
            yield row, _tile(_attempt(readers[0], window), window, raster.path)
            return
        # Entered last, so that threads have ended before the files they read are closed.
        work = stack.enter_context(_Readers(readers, [window for _, window in jobs], raster, config.queue))
        for number, (row, _) in enumerate(jobs):
            yield row, work.take(number)


def is_read_in_bands(raster: Raster, plan: TilePlan) -> bool:
    """Tell whether a raster is read as full-width bands of rows: striped, and wider than a window."""
    return raster.facts.layout == "striped" and not raster.warped and plan.width < plan.grid.width


def _clone(raster: Raster, grid: Grid, stack: ExitStack) -> Raster:
    clone = stack.enter_context(raster.clone())
    with environment(raster.cache_mb):
        clone.prepare(grid)  # opened here, so that a vanished file is reported at once
    return clone


class _Readers:
    """Threads that read windows in order of their number, at most ``queue`` of them not yet taken."""

    def __init__(
        self, readers: list[Callable[[Window], Tile]], windows: list[Window], raster: Raster, queue: int
    ) -> None:
        self._windows, self._path, self._cache_mb = windows, raster.path, raster.cache_mb
        self._change = threading.Condition()
        self._ready: dict[int, Tile | Exception] = {}
        self._next, self._limit, self._stopped = 0, queue, False
        # Daemons: should their owner be dropped at the interpreter's end, they do not keep it alive.
        self._threads = [
            threading.Thread(target=self._run, args=(reader,), name=f"treedet-reader-{i}", daemon=True)
            for i, reader in enumerate(readers)
        ]

    def __enter__(self) -> _Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def take(self, number: int) -> Tile:
        """Wait for a window's tile and make room for another."""
        with self._change:
            self._change.wait_for(lambda: number in self._ready)
            result = self._ready.pop(number)
            self._limit += 1
            self._change.notify_all()
        return _tile(result, self._windows[number], self._path)

    def _run(self, read: Callable[[Window], Tile]) -> None:
        # Entered once a thread: the cap is GDAL's own, one for the process, and would flap with every read.
        with environment(self._cache_mb):
            while (number := self._claim()) is not None:
                result = _attempt(read, self._windows[number])
                with self._change:
                    self._ready[number] = result
                    self._change.notify_all()

    def _claim(self) -> int | None:
        """Wait for room and return the next window's number, or None where there is nothing left to do."""
        with self._change:
            self._change.wait_for(
                lambda: self._stopped or self._next < self._limit or self._next >= len(self._windows)
            )
            if self._stopped or self._next >= len(self._windows):
                return None
            self._next += 1
            return self._next - 1


def _attempt(read: Callable[[Window], Tile], window: Window) -> Tile | Exception:
    """Read a window and return it, or what went wrong."""
    try:
        tile = read(window)
    except Exception as error:  # noqa: BLE001 -- raised again by _tile()
        return error
    return Tile.blank(window, len(tile.pixels)) if tile.is_empty else tile


def _tile(result: Tile | Exception, window: Window, path: str) -> Tile:
    """Return a tile that was read, or raise why it was not."""
    if isinstance(result, Tile):
        return result
    if isinstance(result, RasterError):
        raise result
    raise RasterError(f"{path}: reading {window} failed ({type(result).__name__}: {result})") from result


class _BandReader:
    """Windows cut from full-width bands of rows, each row read once; windows must come top to bottom."""

    def __init__(self, raster: Raster, plan: TilePlan) -> None:
        windows = [window for row in plan.rows for window in row]
        self._raster, self._plan = raster, plan
        self._left = min(window.col for window in windows)
        self._width = max(window.right for window in windows) - self._left
        # The valid mask travels as one more channel.
        self._channels = raster.channels + 1
        self._band_rows = max(1, min(plan.height, _BAND_BYTES // (self._width * self._channels)))
        self._store = RowStore(self._channels, self._width, plan.height + self._band_rows)
        self._filled = 0

    def __enter__(self) -> _BandReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def read(self, window: Window) -> Tile:
        """Return a window, reading the rows down to its bottom first."""
        self._filled = max(self._filled, window.row)  # rows above are needed by no window to come
        while self._filled < window.bottom:
            rows = min(self._band_rows, self._plan.grid.height - self._filled)
            band = self._raster.read_on(self._plan.grid, Window(self._filled, self._left, rows, self._width))
            self._store.write(self._filled, np.concatenate([band.pixels, band.valid.view(np.uint8)[None]]))
            self._filled += rows
        cut = self._store.read(window.row, window.col - self._left, window.height, window.width)
        return Tile(window, cut[:-1], cut[-1].view(np.bool_))
