"""Annotations in pixels: CSV as DeepForest writes it, Pascal VOC and COCO.

They are boxes with the names of their images; whoever has the rasters turns them into crowns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from treedet.errors import CrownsError, DegenerateCrownError
from treedet.vectors.box_rows import BOX, BoxRows, without_area
from treedet.vectors.coco_boxes import load_coco
from treedet.vectors.csv_boxes import load_csv
from treedet.vectors.voc import load_voc

__all__ = ["BOX", "BoxAnnotations", "read_boxes"]

logger = logging.getLogger("treedet")

LOADERS = {".csv": load_csv, ".txt": load_csv, ".tsv": load_csv, ".xml": load_voc, ".json": load_coco}


@dataclass(frozen=True)
class BoxAnnotations:
    """Annotated boxes in pixels, and the images somebody looked at.

    Attributes:
        boxes: One row per crown: ``image_path``, ``xmin``, ``ymin``, ``xmax``, ``ymax`` (float64 pixels, edges),
            ``label``, then whatever else the file says.
        images: Names of all images in the order of the file, those without a crown included.
    """

    boxes: pd.DataFrame
    images: tuple[str, ...]


def read_boxes(path: str | Path) -> BoxAnnotations:
    """Read annotated boxes.

    Args:
        path: A CSV, a Pascal VOC XML or a folder of them, or a COCO JSON. A CSV may have commas, semicolons or tabs,
            decimal commas and a byte order mark; a row of zeros or without coordinates says that an image is empty.

    Returns:
        Boxes and images. Coordinates are taken as written; image names from a folder are relative to it.

    Raises:
        MissingColumnError: A CSV has no ``image_path`` or no coordinates.
        DegenerateCrownError: A box has no area or is not a number; the message names the line.
        CrownsError: The file is missing or is none of these formats.
    """
    path = Path(path)
    if not path.exists():
        raise CrownsError(f"there is no {path}; give a .csv, a Pascal VOC .xml or a folder of them, or a COCO .json")
    if not path.is_dir() and path.suffix.lower() not in LOADERS:
        raise CrownsError(
            f"{path}: suffix {path.suffix!r} names no format for boxes; accepted are {', '.join(LOADERS)}"
        )
    rows = load_voc(path) if path.is_dir() else LOADERS[path.suffix.lower()](path)
    for notice in rows.notices:
        logger.info("%s", notice)
    _refuse_degenerate(rows)
    return BoxAnnotations(rows.boxes.reset_index(drop=True), rows.images)


def _refuse_degenerate(rows: BoxRows) -> None:
    boxes = rows.corners
    wrong = without_area(boxes)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"{rows.place(int(rows.boxes.index[first]))}: box {boxes[first].tolist()} has no area; accepted is "
            "xmin < xmax and ymin < ymax in pixels, or a row of zeros for an image without crowns"
        )
