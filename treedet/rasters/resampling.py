"""Resample 8-bit pixels from one lattice to another of the same extent: area mean when coarser, cubic when finer.

Both lattices cover the same ground, so pixel ``i`` of ``target`` pixels spans ``[i, i + 1) * source / target`` of
the source. Weights depend on that absolute position alone: reading a part gives the same values as cutting it out
of the whole, with no margin to crop. Means are taken here rather than by GDAL, which leaves out pixels equal to a
nodata value and is two to three times slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Axis:
    """A run of output pixels along one axis, and the source pixels it draws on.

    Attributes:
        source: Pixels of the source along the whole axis.
        target: Pixels of the output along the whole axis.
        first: First output pixel of the run.
        count: Output pixels in the run.
    """

    source: int
    target: int
    first: int
    count: int

    @property
    def ratio(self) -> float:
        """Source pixels per output pixel."""
        return self.source / self.target

    @property
    def step(self) -> int:
        """The ratio where it is a whole number, else 0."""
        return self.source // self.target if self.source % self.target == 0 else 0

    @property
    def start(self) -> int:
        """First source pixel needed."""
        if self.step:
            return self.first * self.step
        if self.ratio > 1:
            return int(self.first * self.ratio)
        return max(0, math.floor((self.first + 0.5) * self.ratio - 0.5) - 1)

    @property
    def stop(self) -> int:
        """Source pixel after the last one needed."""
        last = self.first + self.count
        if self.step:
            return last * self.step
        if self.ratio > 1:
            return min(self.source, math.ceil(last * self.ratio) + 1)
        return min(self.source, math.floor((last - 0.5) * self.ratio - 0.5) + 3)

    @cached_property
    def weights(self) -> sparse.csr_array:
        """The float32 ``[count, stop - start]`` matrix that maps source to output pixels."""
        places, values = _area_taps(self) if self.ratio >= 1 else _cubic_taps(self)
        places = np.clip(places, self.start, self.stop - 1) - self.start
        values /= values.sum(axis=1, keepdims=True)
        rows = np.arange(self.count + 1) * places.shape[1]
        # Built from its parts: every row keeps its taps in the same order, so sums repeat exactly.
        return sparse.csr_array(
            (values.astype(np.float32).ravel(), places.ravel().astype(np.int32), rows),
            shape=(self.count, self.stop - self.start),
        )


def resample(pixels: Pixels, down: Axis, along: Axis) -> Pixels:
    """Resample a block of source pixels.

    Args:
        pixels: Uint8 ``[C, down.stop - down.start, along.stop - along.start]``.
        down: The rows wanted.
        along: The columns wanted.

    Returns:
        Uint8 ``[C, down.count, along.count]``, rounded to the nearest level.

    >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 1, 8)
    >>> resample(ramp, Axis(1, 1, 0, 1), Axis(8, 2, 0, 2)).tolist()  # means 1.5 and 5.5 round up
    [[[2, 6]]]
    """
    if down.step and along.step:
        return _whole_means(pixels, down.step, along.step)
    rows, columns = down.weights, along.weights
    out = np.empty((len(pixels), down.count, along.count), dtype=np.uint8)
    for band, plane in enumerate(pixels):
        means = columns @ np.ascontiguousarray((rows @ plane.astype(np.float32)).T)
        means += np.float32(0.5)
        out[band] = np.clip(means, 0, 255).T
    return out


def _whole_means(pixels: Pixels, down: int, along: int) -> Pixels:
    """Means of ``down`` x ``along`` blocks in integers; adding strided planes runs at memory speed."""
    if down == along == 1:
        return pixels
    size = down * along
    total: type[np.uint16 | np.uint32] = np.uint16 if size * 255 + size // 2 <= 65535 else np.uint32
    rows: npt.NDArray[np.unsignedinteger[Any]] = pixels[:, ::down].astype(total)
    for k in range(1, down):
        rows += pixels[:, k::down]
    sums = rows[:, :, ::along].copy()
    for k in range(1, along):
        sums += rows[:, :, k::along]
    sums += total(size // 2)
    sums //= total(size)
    return sums.astype(np.uint8)


def _area_taps(axis: Axis) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Source pixels under each output pixel ``[count, K]``, and the length they share with it."""
    ratio = axis.ratio
    low = (axis.first + np.arange(axis.count)) * ratio
    places = np.floor(low).astype(np.int64)[:, None] + np.arange(math.ceil(ratio) + 1)
    shared = np.minimum((low + ratio)[:, None], places + 1) - np.maximum(low[:, None], places)
    shared = np.where(places < axis.source, np.clip(shared, 0, None), 0.0)
    return places, shared


def _cubic_taps(axis: Axis) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Four neighbours of each output pixel's centre, and their cubic convolution weights.

    Keys 1981, *Cubic convolution interpolation for digital image processing*, with a = -1/2.
    """
    centre = (axis.first + np.arange(axis.count) + 0.5) * axis.ratio - 0.5
    base = np.floor(centre)
    places = base.astype(np.int64)[:, None] + np.arange(-1, 3)
    t = np.abs(centre[:, None] - places)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return places, np.where(t <= 1, near, far)
