"""Mean and quantiles of diameters by zone, in memory that does not grow with crowns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

STEP = math.log(1.01)
"""Diameters within 1 % of each other fall into one bin."""
LEAST_M = 0.01
BINS = 1200
"""From a centimetre to 1.5 kilometres."""
HELD = 1_000_000
"""Entries that wait until equal ones are summed."""


class Diameters:
    """Histograms of diameters in bins 1 % wide, with the sum in each bin.

    Means are exact. A quantile is taken from the mean of the bin it falls into, so it is exact where a bin holds one
    crown, or equal ones, and within 1 % always. At most one entry for each zone and bin is kept.

    Args:
        zones: Number of zones.

    >>> diameters = Diameters(2)
    >>> diameters.add(np.array([0, 0, 0]), np.array([2.0, 4.0, 9.0]))
    >>> diameters.mean().tolist(), diameters.quantiles([0.25, 0.5]).tolist()
    ([5.0, nan], [[3.0, 4.0], [nan, nan]])
    """

    def __init__(self, zones: int) -> None:
        self._n = zones
        self._key = np.zeros(0, np.int64)
        self._count, self._sum = np.zeros(0), np.zeros(0)
        self._waiting: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def add(self, zone: npt.NDArray[np.int64], diameters: npt.NDArray[np.floating[Any]]) -> None:
        """Take crowns.

        Args:
            zone: Int64 ``[N]``.
            diameters: Float ``[N]``, metres.
        """
        metres = np.asarray(diameters, np.float64)
        bins = np.clip(np.log(np.maximum(metres, LEAST_M) / LEAST_M) / STEP, 0, BINS - 1).astype(np.int64)
        self._waiting.append((zone * BINS + bins, metres))
        if sum(len(key) for key, _ in self._waiting) >= HELD:
            self._settle()

    def mean(self) -> npt.NDArray[np.float64]:
        """Return the mean diameter of each zone in metres, float64 ``[Z]``; NaN where there is no crown."""
        self._settle()
        zone = self._key // BINS
        sums, counts = (np.bincount(zone, of, minlength=self._n) for of in (self._sum, self._count))
        return np.asarray(np.divide(sums, counts, out=np.full(self._n, np.nan), where=counts > 0))

    def quantiles(self, at: list[float]) -> npt.NDArray[np.float64]:
        """Return quantiles of each zone in metres, float64 ``[Z, Q]``, interpolated between neighbouring crowns."""
        self._settle()
        ends = np.cumsum(self._count)
        by_zone = np.bincount(self._key // BINS, self._count, minlength=self._n)
        before = np.cumsum(by_zone) - by_zone
        there = by_zone > 0
        found = np.full((self._n, len(at)), np.nan)
        middle = np.divide(self._sum, self._count)
        for column, share in enumerate(at):
            rank = share * (by_zone[there] - 1)
            low, high = (
                middle[np.searchsorted(ends, before[there] + step(rank), side="right")]
                for step in (np.floor, np.ceil)
            )
            found[there, column] = low + (high - low) * (rank - np.floor(rank))
        return found

    def _settle(self) -> None:
        """Sum entries of the same zone and bin."""
        if not self._waiting:
            return
        key = np.concatenate([self._key, *(key for key, _ in self._waiting)])
        waiting = np.concatenate([metres for _, metres in self._waiting])
        count = np.concatenate([self._count, np.ones(len(waiting))])
        total = np.concatenate([self._sum, waiting])
        self._waiting = []
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(key) != 0]))[: len(key)]
        self._key = key[starts]
        self._count = np.add.reduceat(count[order], starts) if len(key) else count
        self._sum = np.add.reduceat(total[order], starts) if len(key) else total
