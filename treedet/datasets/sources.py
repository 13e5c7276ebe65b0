"""Annotated image sets that models are trained on, and the rules of what may be trained on what.

One module holds these rules: which sets are for evaluation only, and what counts as the same place, so that no
training image ever meets an evaluation image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from treedet.errors import ConfigError
from treedet.rasters.raster import Raster
from treedet.vectors.annotations import read_boxes

EVALUATION_ONLY = (
    "neon-benchmark/valid",
    "neon-plots/eval",
    "neon-plots/partial",
    "alive-dead-crops/test",
    "pasture-25cm",
    "OSBS_029",
    "SOAP_061",
)
"""Parts of paths that no training run for a bundled model may read."""

IGNORE = -1
"""Class of a box that is neither target nor background."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its crowns, small enough to stay in memory.

    Attributes:
        name: File name relative to the set's folder.
        place: Key of the ground it shows; images of one place never sit on both sides of a split.
        pixels: Uint8 ``[3, H, W]``.
        boxes: Float32 ``[N, 4]``, pixels.
        classes: Int64 ``[N]``; -1 marks a box to ignore.
        gsd: Metres per pixel.
        source: Name of the set.
    """

    name: str
    place: str
    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    gsd: float
    source: str


@dataclass(frozen=True)
class Source:
    """A set of annotated images, and how to treat it.

    Attributes:
        name: Short name.
        annotations: CSV or Pascal VOC file, relative to the data folder.
        gsd: Metres per pixel, where the files do not say.
        weight: Share of training windows drawn from it, relative to the others.
        equalised: Its contrast was equalised already, so it never is again.
        tightening: Factor about their centres that brings loosely drawn boxes to the crown's outline.
    """

    name: str
    annotations: str
    gsd: float | None = None
    weight: float = 1.0
    equalised: bool = False
    tightening: float = 1.0


SOURCES = (
    Source("neon-benchmark", "neon-benchmark/train/annotations.csv", 0.096, 5.0, equalised=True, tightening=0.9),
    Source("neon-plots", "neon-plots/train/annotations.csv", weight=1.6),
    Source("yell", "samples/2019_YELL_2_541000_4977000_image_crop.xml", 0.1, 1.0),
    Source("idtrees", "species-idtrees/annotations.csv", weight=1.2),
)
"""The sets the bundled model is trained on, besides rendered scenes."""


def load_source(data: Path, source: Source) -> list[AnnotatedImage]:
    """Read all images and boxes of a set.

    Args:
        data: Folder that holds the sets.
        source: The set.

    Raises:
        ConfigError: The set is for evaluation only.
    """
    refuse_evaluation_only(source.annotations)
    path = data / source.annotations
    annotations = read_boxes(path)
    groups = dict(tuple(annotations.boxes.groupby("image_path")))
    images = []
    for name in annotations.images:
        refuse_evaluation_only(name)
        rows = groups.get(name)
        boxes = np.zeros((0, 4), np.float32)
        if rows is not None:
            boxes = rows[["xmin", "ymin", "xmax", "ymax"]].to_numpy(np.float32)
        with Raster.open(path.parent / name, gsd=source.gsd) as raster:
            tile = raster.read(raster.grid.full_window)
            gsd = raster.grid.gsd
        images.append(
            AnnotatedImage(
                name=name,
                place=place_of(name),
                pixels=tile.pixels,
                boxes=scale_boxes(boxes, source.tightening),
                classes=np.zeros(len(boxes), np.int64),
                gsd=gsd,
                source=source.name,
            )
        )
    return images


def refuse_evaluation_only(path: str) -> None:
    """Raise if a path belongs to a set that is for evaluation only.

    Raises:
        ConfigError: It does.
    """
    if hit := next((part for part in EVALUATION_ONLY if part in path), None):
        raise ConfigError(f"{path} is for evaluation only ({hit}); models are never trained on it")


def place_of(name: str) -> str:
    """Return the key of the place an image shows: site and plot, or site and kilometre tile.

    >>> place_of("2018_SJER_3_252000_4104000_image_628.jpg"), place_of("SJER_2017/SJER_002.tif")
    ('SJER_252000_4104000', 'SJER_002')
    >>> place_of("DSNY_010_2018.jpg"), place_of("MLBS_12_competition.jpg")
    ('DSNY_010', 'MLBS_12')
    """
    stem = Path(name).stem
    if tile := re.search(r"([A-Z]{4})_\d+_(\d{6})_(\d{7})", stem):
        return "_".join(tile.groups())
    if plot := re.search(r"([A-Z]{4})_(\d+)", stem):
        return "_".join(plot.groups())
    return stem


def scale_boxes(boxes: npt.NDArray[np.float32], factor: float) -> npt.NDArray[np.float32]:
    """Return boxes grown or shrunk by a factor about their centres.

    >>> scale_boxes(np.array([[0, 0, 10, 20]], np.float32), 0.5).tolist()
    [[2.5, 5.0, 7.5, 15.0]]
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def split_by_place(
    images: list[AnnotatedImage], *, share: float, seed: int
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split images into training and validation so that no place is on both sides.

    Args:
        images: Images of one set.
        share: Share of places held out for validation.
        seed: Seed of the draw.

    Returns:
        Training images and validation images.
    """
    places = sorted({image.place for image in images})
    if len(places) < 2:
        return images, []
    drawn = np.random.default_rng(seed).permutation(len(places))[: max(1, round(share * len(places)))]
    held = {places[i] for i in drawn}
    return [i for i in images if i.place not in held], [i for i in images if i.place in held]
