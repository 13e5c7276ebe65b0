"""Folders of crown pictures (``class/crop.jpg``) as training data for attribute heads.

A crop has no surroundings and no ground: crops are laid out on canvases, each a crown as large as the whole crop.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from treedet.datasets.attributes import Renaming, Schema
from treedet.datasets.augment import vary_crop
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.sources import place_of
from treedet.errors import ConfigError, CrownsError, RasterError
from treedet.models.losses import Targets
from treedet.rasters.raster import Raster

log = logging.getLogger("treedet")

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
MEAN_COLOUR = (115, 115, 102)
"""Between crops where nothing is drawn at random: what normalisation makes zero of."""
GAP_PX = 8
LEAST_PX = 8
SHAVED = 0.08
"""Most that is cut off each side of a crop in training, as a share of it: boxes are never drawn twice the same."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CropSet:
    """Pictures of one crown each, whose class is known.

    Attributes:
        path: The folder.
        attribute: Attribute that the classes are of.
        gsd: Metres per pixel.
        pixels: Uint8 ``[H, W, 3]`` of each.
        values: Class of each, as its folder is called or mapped.
        places: Key of the place each comes from: crops of one place belong on one side of a split.
        names: File of each, relative to the folder.
    """

    path: str
    attribute: str
    gsd: float
    pixels: Sequence[Pixels]
    values: tuple[str, ...]
    places: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def counts(self) -> Counter[str]:
        """Crops of each class."""
        return Counter(self.values)

    def take(self, index: npt.NDArray[np.int64]) -> CropSet:
        """Return some of the crops."""
        return replace(
            self,
            pixels=[self.pixels[i] for i in index],
            values=tuple(self.values[i] for i in index),
            places=tuple(self.places[i] for i in index),
            names=tuple(self.names[i] for i in index),
        )

    def codes(self, schema: Schema, renaming: Renaming) -> npt.NDArray[np.int64]:
        """Return the class of each attribute of each crop, int64 ``[N, A]``; -1 where nothing is known."""
        codes = np.full((len(self), len(schema)), -1, np.int64)
        if self.attribute in schema:
            classes, names = schema[self.attribute], renaming.get(self.attribute, {})
            place = {name: row for row, name in enumerate(classes)}
            codes[:, list(schema).index(self.attribute)] = [
                place.get(str(names.get(value, value)), -1) for value in self.values
            ]
        return codes


def read_crops(
    folder: str | Path,
    *,
    attribute: str,
    gsd: float,
    values: Mapping[str, str | None] | None = None,
    drop: bool = False,
) -> CropSet:
    """Read a folder that holds a folder of pictures for each class.

    Args:
        folder: Holds ``CLASS/PICTURE``.
        attribute: Attribute that the classes are of.
        gsd: Metres per pixel of all pictures.
        values: What folders are called as classes; None leaves a folder out. By default by their names.
        drop: Leave out pictures that can not be read, instead of raising.

    Raises:
        ConfigError: The GSD is not positive.
        CrownsError: There is no such folder, no picture in a folder of a class, or one class only.
        RasterError: A picture can not be read.
    """
    root = Path(folder)
    if not gsd > 0:
        raise ConfigError(f"the GSD of crops must be a positive number of metres, found {gsd}")
    if not root.is_dir():
        raise CrownsError(f"{root} is no folder; crops are a folder with a folder of pictures for each class")
    files, stray = _listed(root)
    if stray:
        log.info(
            "%s: %d files are no pictures in a folder of a class and were passed over, %s for one",
            root,
            len(stray),
            stray[0],
        )
    named = {path: _value(path.parent.name, values) for path in files}
    kept = [path for path in files if named[path] is not None]
    pixels: dict[Path, Pixels] = {}
    for path in kept:
        try:
            with Raster.open(str(path), gsd=gsd) as raster:
                found = raster.read(raster.grid.full_window).pixels[:3]
            pixels[path] = np.ascontiguousarray(found.transpose(1, 2, 0))
        except RasterError:
            if not drop:
                raise
            log.info("%s can not be read and was dropped", path)
    classes = sorted({str(named[path]) for path in pixels})
    if len(classes) < 2:
        has = f"pictures of {classes[0]!r} alone" if classes else "no picture in a folder of a class"
        raise CrownsError(
            f"{root} holds {has}; a head needs a folder of pictures for each of two classes at least, such as "
            f"{root.name}/alive/1.jpg"
        )
    return CropSet(
        path=str(root),
        attribute=attribute,
        gsd=gsd,
        pixels=list(pixels.values()),
        values=tuple(str(named[path]) for path in pixels),
        places=tuple(place_of(path.name) for path in pixels),
        names=tuple(str(path.relative_to(root)) for path in pixels),
    )


def _listed(root: Path) -> tuple[list[Path], list[str]]:
    """Return the pictures in folders of classes, and all other files."""
    files, stray = [], []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        inside = path.relative_to(root).parts
        fine = len(inside) == 2 and path.suffix.lower() in PICTURES and not path.name.startswith(".")
        (files.append(path) if fine else stray.append(str(path.relative_to(root))))
    return files, stray


def _value(name: str, values: Mapping[str, str | None] | None) -> str | None:
    if values is None:
        return name
    by_case = {key.casefold(): value for key, value in values.items()}
    targets = {value.casefold(): value for value in values.values() if value}
    if name.casefold() in by_case:
        return by_case[name.casefold()] or None
    if name.casefold() in targets:
        return targets[name.casefold()]
    raise CrownsError(
        f"folder {name!r} of crops is not in values=, which has {', '.join(values)}; add it, or map it to null to "
        "leave it out"
    )


class CropCanvases(Dataset[tuple[Tensor, Targets]]):
    """Endless random canvases: item ``(epoch, index)`` depends on the seed and these two alone.

    Each crop is flipped, zoomed, shaved at its border and lit on its own, since crops come from different flights.
    Classes are drawn as often as the square root of their number of crops. What lies between crops is a random
    colour, so that nothing can be learned from it.

    Args:
        crops: Pictures.
        codes: Int64 ``[N, A]``, what is known about each.
        config: Side and GSD of canvases, zoom and light.
        seed: Seed of all draws.
    """

    def __init__(self, crops: CropSet, codes: npt.NDArray[np.int64], *, config: SampleConfig, seed: int = 0) -> None:
        self.crops = crops
        self.config = config
        self.seed = seed
        self._known = np.flatnonzero((codes >= 0).any(axis=1))
        self._codes = codes
        _, of_class, count = np.unique(codes[self._known], axis=0, return_inverse=True, return_counts=True)
        chance = 1 / np.sqrt(count[of_class.ravel()])
        self._chances = chance / chance.sum()

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, Targets]:
        epoch, index = number
        rng = np.random.default_rng((self.seed, epoch, index))
        side = self.config.window_px
        calm = self.config.calm_from is not None and epoch >= self.config.calm_from
        radiometry = "calm" if calm and self.config.radiometry == "strong" else self.config.radiometry
        shelves = Shelves(side)
        canvas = np.empty((side, side, 3), np.uint8)
        canvas[:] = MEAN_COLOUR if rng.random() < 0.5 else rng.integers(0, 200, 3)
        boxes, rows = [], []
        while True:
            row = int(rng.choice(self._known, p=self._chances))
            crop = self._varied(self.crops.pixels[row], rng, radiometry)
            place = shelves.place(*crop.shape[:2])
            if place is None:
                break
            x, y = place
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
            boxes.append((x, y, x + crop.shape[1], y + crop.shape[0]))
            rows.append(row)
        n = len(rows)
        targets = Targets(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            # Neither crowns nor background: a canvas is no ground to find crowns on.
            torch.full((n,), -1, dtype=torch.int64),
            torch.zeros(side, side, dtype=torch.bool),
            torch.from_numpy(self._codes[rows]),
            torch.zeros(n, dtype=torch.bool),
        )
        return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))), targets

    def _varied(self, crop: Pixels, rng: np.random.Generator, radiometry: str) -> Pixels:
        height, width = crop.shape[:2]
        top, bottom, left, right = (rng.uniform(0, SHAVED, 4) * (height, height, width, width)).astype(int)
        crop = vary_crop(
            crop[top : height - bottom, left : width - right], radiometry=radiometry, seed=int(rng.integers(2**31))
        )
        low, high = self.config.zoom
        zoom = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return resized(crop, self.crops.gsd / self.config.gsd * zoom, most=self.config.window_px)


def canvases(
    crops: CropSet, *, gsd: float, side_px: int
) -> Iterator[tuple[Pixels, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Lay out each crop once, as it is, on as few canvases as it takes.

    Args:
        crops: Pictures.
        gsd: Metres per pixel of the canvases.
        side_px: Their side; a crop that is larger is shrunk to fit, which is said.

    Yields:
        Pixels uint8 ``[3, S, S]``, boxes float32 ``[N, 4]`` of the crops in pixels, and their numbers int64 ``[N]``.
    """
    scale = crops.gsd / gsd
    if large := sum(max(crop.shape[:2]) * scale > side_px for crop in crops.pixels):
        log.info("%s: %d crops are larger than a canvas of %d px and are shrunk to fit", crops.path, large, side_px)
    # By height, so that shelves are filled well.
    order = np.argsort([crop.shape[0] for crop in crops.pixels], kind="stable")
    position = 0
    while position < len(order):
        shelves, boxes, numbers = Shelves(side_px), [], []
        canvas = np.empty((side_px, side_px, 3), np.uint8)
        canvas[:] = MEAN_COLOUR
        while position < len(order):
            number = int(order[position])
            crop = resized(crops.pixels[number], scale, most=side_px)
            place = shelves.place(*crop.shape[:2])
            if place is None:
                break
            x, y = place
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
            boxes.append((x, y, x + crop.shape[1], y + crop.shape[0]))
            numbers.append(number)
            position += 1
        pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1))
        yield pixels, np.array(boxes, np.float32), np.array(numbers, np.int64)


class Shelves:
    """Places for rectangles on a square, row by row (shelf packing), with a gap between them.

    >>> shelves = Shelves(100)
    >>> [shelves.place(40, 50), shelves.place(30, 40), shelves.place(50, 60), shelves.place(60, 10)]
    [(0, 0), (58, 0), (0, 48), None]
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._x = self._top = self._bottom = 0

    def place(self, height: int, width: int) -> tuple[int, int] | None:
        """Return left and top of the next rectangle; None where it does not fit any more."""
        if self._x + width > self._side:
            self._x, self._top = 0, self._bottom
        if self._top + height > self._side:
            return None
        left, self._x = self._x, self._x + width + GAP_PX
        self._bottom = max(self._bottom, self._top + height + GAP_PX)
        return left, self._top


def resized(crop: Pixels, scale: float, *, most: int) -> Pixels:
    """Return a picture scaled: averaged where it shrinks, cubic where it grows; no side above ``most``."""
    height, width = crop.shape[:2]
    scale = min(scale, most / max(height, width))
    size = max(LEAST_PX, round(width * scale)), max(LEAST_PX, round(height * scale))
    if size == (width, height):
        return crop
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, size, interpolation=how), dtype=np.uint8)
