"""Crops laid out on canvases, which a network sees as windows.

A crop has no surroundings: each is a crown as large as the whole crop, and what lies between crops says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from treedet.core.grid import SAME_GSD
from treedet.datasets.augment import light_pipeline
from treedet.datasets.coarse import as_coarse
from treedet.datasets.crops import CropSet, Pixels
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import CALM_ZOOM
from treedet.errors import ConfigError
from treedet.models.losses import Targets
from treedet.rasters.resampling import Axis, resample

log = logging.getLogger("treedet")

MEAN_COLOUR = (115, 115, 102)
"""Between crops where nothing is drawn at random: the colour that normalising makes about zero of."""
GAP_PX = 8
"""Pixels between crops."""
LEAST_PX = 8
"""Least side of a crop on a canvas."""
SHAVED = 0.08
"""Most that is cut off each side of a crop in training, as a share of it: boxes are never drawn twice the same."""
_MOST_CROPS = 64
_FILLED = 0.95  # share of a canvas that crops are drawn for, gaps included
_NOISE_PX = 48  # side of the noise that is enlarged to a canvas


class CropCanvases(Dataset[tuple[Tensor, Targets]]):
    """Endless random canvases: item ``(epoch, index)`` depends on the seed and these two alone.

    Each crop is flipped, zoomed, shaved at its border and lit on its own, since crops come from different flights.
    Items are ``(uint8 [3, S, S], targets)``. The targets are neither crowns nor background for the detection (class
    -1, nothing known): a canvas is no ground to find crowns on.

    Args:
        crops: Pictures.
        codes: Int64 ``[N, A]``, class of each attribute of each crop; those without any are never drawn.
        config: Side and GSD of canvases, zoom, resolutions and light.
        seed: Seed of all draws.
        balance: 0 draws classes as often as they occur, 1 all equally often; between, a class of n crops as often as
            ``n ** (1 - balance)``.

    Raises:
        ConfigError: No crop has a code, or ``balance`` is outside 0 to 1.
    """

    def __init__(
        self,
        crops: CropSet,
        codes: npt.NDArray[np.int64],
        *,
        config: SampleConfig,
        seed: int = 0,
        balance: float = 0.5,
    ) -> None:
        if not 0 <= balance <= 1:
            raise ConfigError(f"the balance of classes must be from 0 to 1, found {balance}")
        if codes.shape[:1] != (len(crops),):
            raise ConfigError(f"codes must have a row for each of {len(crops)} crops, found {codes.shape[0]}")
        known = np.flatnonzero((codes >= 0).any(axis=1))
        if not len(known):
            raise ConfigError(f"{crops.path}: no crop has a class of the attributes to learn")
        self.crops = crops.take(known)
        self.codes = codes[known]
        self.config = config
        self.seed = seed
        _, of_class, count = np.unique(self.codes, axis=0, return_inverse=True, return_counts=True)
        chances = count[of_class.ravel()] ** -float(balance)
        self.chances = chances / chances.sum()

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, Targets]:
        epoch, index = number
        config, side = self.config, self.config.window_px
        rng = np.random.default_rng((self.seed, epoch, index))
        calm = config.calm_from is not None and epoch >= config.calm_from
        drawn = _packed(self._drawn(rng, calm=calm), side)
        light = light_pipeline("calm" if calm and config.radiometry == "strong" else config.radiometry)
        light.set_random_seed(int(rng.integers(2**31)))
        canvas = _ground(side, rng)
        boxes = []
        for one, place in drawn:
            crop = one.look(self.crops.pixels[one.row])
            if config.resolutions is not None:
                finest, coarsest = np.log(config.resolutions)
                crop = as_coarse(crop, float(np.exp(rng.uniform(finest, coarsest))) / config.gsd)
            boxes.append(_put(canvas, np.asarray(light(image=crop)["image"], np.uint8), place))
        rows = [one.row for one, _ in drawn]
        targets = Targets(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.full((len(rows),), -1, dtype=torch.int64),
            torch.zeros(side, side, dtype=torch.bool),
            torch.from_numpy(self.codes[rows]),
            torch.zeros(len(rows), dtype=torch.bool),
        )
        return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))), targets

    def _drawn(self, rng: np.random.Generator, *, calm: bool) -> list[_Drawn]:
        """Draw about as many crops as a canvas holds."""
        config, side = self.config, self.config.window_px
        # Ends of the calm range that the range asked for does not reach are drawn in to it, as for windows.
        low, high = (float(np.clip(end, *config.zoom)) for end in CALM_ZOOM) if calm else config.zoom
        rows = rng.choice(len(self.chances), size=_MOST_CROPS, p=self.chances)
        zooms = np.exp(rng.uniform(np.log(low), np.log(high), _MOST_CROPS))
        sizes = self.crops.pixels.sizes[rows]
        shaved = (rng.uniform(0, SHAVED, (_MOST_CROPS, 4)) * np.repeat(sizes, 2, axis=1)).astype(np.int64)
        kept = sizes - shaved.reshape(-1, 2, 2).sum(axis=2)
        scale = np.minimum(self.crops.gsd / config.gsd * zooms, side / kept.max(axis=1))
        scaled = np.clip(np.rint(kept * scale[:, None]), LEAST_PX, side).astype(np.int64)
        area = np.cumsum((scaled + GAP_PX).prod(axis=1))
        count = max(1, int((area <= _FILLED * side**2).sum()))
        ways = rng.integers(8, size=_MOST_CROPS)
        return [
            _Drawn(int(rows[i]), tuple(shaved[i].tolist()), tuple(scaled[i].tolist()), int(ways[i]))
            for i in range(count)
        ]


@dataclass(frozen=True)
class _Drawn:
    """A crop as it is shown this time.

    Attributes:
        row: Its number.
        shaved: Pixels cut off at the top, bottom, left and right.
        scaled: Height and width after that, before it is turned.
        way: Which of the eight flips and quarter turns.
    """

    row: int
    shaved: tuple[int, ...]
    scaled: tuple[int, ...]
    way: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width on the canvas."""
        height, width = self.scaled
        return (width, height) if self.way % 2 else (height, width)

    def look(self, crop: Pixels) -> Pixels:
        """Return the crop as it is shown, in light of its own."""
        (height, width), (top, bottom, left, right) = crop.shape[:2], self.shaved
        crop = crop[top : height - bottom, left : width - right]
        shrinks = self.scaled[0] < crop.shape[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        crop = np.asarray(cv2.resize(crop, self.scaled[::-1], interpolation=how), dtype=np.uint8)
        crop = np.rot90(crop, self.way % 4)
        return np.ascontiguousarray(crop[:, ::-1] if self.way >= 4 else crop)


def _packed(drawn: list[_Drawn], side: int) -> list[tuple[_Drawn, tuple[int, int]]]:
    """Return crops with their places; those drawn last are left out until all others fit.

    To leave out those that do not fit would show small crops, and classes of small crowns, less often.
    """
    while drawn:
        shelves = Shelves(side)
        # The tallest first, so that shelves are filled well.
        ordered = sorted(drawn, key=lambda one: one.size[0], reverse=True)
        places = [shelves.place(*one.size) for one in ordered]
        found = [(one, place) for one, place in zip(ordered, places, strict=True) if place is not None]
        if len(found) == len(drawn):
            return found
        drawn = drawn[:-1]
    return []


def canvases(
    crops: CropSet, *, gsd: float, side_px: int
) -> Iterator[tuple[Pixels, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Lay out each crop once, as it is, on as few canvases as it takes.

    Crops are resampled as rasters are read, and not at all within 2 % of the GSD asked for.

    Args:
        crops: Pictures.
        gsd: Metres per pixel of the canvases.
        side_px: Their side; a crop that is larger is shrunk to fit, which is said once.

    Yields:
        Pixels uint8 ``[3, S, S]``, boxes float32 ``[N, 4]`` of the crops in pixels, and their numbers int64 ``[N]``.
    """
    sizes = _sizes_at(crops, gsd, side_px)
    # By height, so that shelves are filled well.
    order = np.argsort(-sizes[:, 0], kind="stable")
    start = 0
    while start < len(order):
        shelves, places = Shelves(side_px), []
        for number in order[start:]:
            place = shelves.place(int(sizes[number, 0]), int(sizes[number, 1]))
            if place is None:
                break
            places.append(place)
        numbers = order[start : start + len(places)]
        canvas = np.empty((side_px, side_px, 3), np.uint8)
        canvas[:] = MEAN_COLOUR
        boxes = [
            _put(canvas, as_read(crops.pixels[int(number)], *sizes[number].tolist()), place)
            for number, place in zip(numbers, places, strict=True)
        ]
        yield np.ascontiguousarray(canvas.transpose(2, 0, 1)), np.array(boxes, np.float32), numbers.astype(np.int64)
        start += len(places)


def _sizes_at(crops: CropSet, gsd: float, side_px: int) -> npt.NDArray[np.int64]:
    """Return height and width of each crop on a canvas, int64 ``[N, 2]``."""
    ratio = crops.gsd / gsd
    sizes = crops.pixels.sizes * (1.0 if abs(ratio - 1) <= SAME_GSD else ratio)
    over = np.maximum(sizes.max(axis=1, initial=1.0) / side_px, 1.0)
    if (large := int((over > 1).sum())) > 0:
        log.info("%s: %d crops are larger than a canvas of %d px and are shrunk to fit", crops.path, large, side_px)
    return np.asarray(np.clip(np.rint(sizes / over[:, None]), 1, side_px), dtype=np.int64)


class Shelves:
    """Places for rectangles on a square, row by row (next-fit shelf packing), with a gap between them.

    >>> shelves = Shelves(100)
    >>> [shelves.place(40, 50), shelves.place(30, 40), shelves.place(50, 60), shelves.place(60, 10)]
    [(0, 0), (58, 0), (0, 48), None]
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._x = self._top = self._bottom = 0

    def place(self, height: int, width: int) -> tuple[int, int] | None:
        """Return left and top of the next rectangle; None where it does not fit any more."""
        left, top = (self._x, self._top) if self._x + width <= self._side else (0, self._bottom)
        if top + height > self._side or left + width > self._side:
            return None
        self._x, self._top = left + width + GAP_PX, top
        self._bottom = max(self._bottom, top + height + GAP_PX)
        return left, top


def _put(canvas: Pixels, crop: Pixels, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """Paint a crop, and return its box."""
    (x, y), (height, width) = place, crop.shape[:2]
    canvas[y : y + height, x : x + width] = crop
    return x, y, x + width, y + height


def _ground(side: int, rng: np.random.Generator) -> Pixels:
    """Draw what lies between crops: a colour of no meaning, one at random, or noise."""
    kind = rng.integers(3)
    if kind == 2:
        noise = rng.integers(0, 256, (_NOISE_PX, _NOISE_PX, 3), dtype=np.uint8)
        how = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(noise, (side, side), interpolation=how), dtype=np.uint8)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = MEAN_COLOUR if kind else rng.integers(0, 256, 3)
    return canvas


def as_read(crop: Pixels, height: int, width: int) -> Pixels:
    """Return a picture ``[H, W, 3]`` at another size, resampled as rasters are when they are read.

    >>> as_read(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 1, 1).tolist()
    [[[5, 6, 7]]]
    """
    down, along = Axis(crop.shape[0], height, 0, height), Axis(crop.shape[1], width, 0, width)
    planes = resample(np.ascontiguousarray(crop.transpose(2, 0, 1)), down, along)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))
