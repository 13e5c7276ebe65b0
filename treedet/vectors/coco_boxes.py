"""Boxes in COCO detection JSON (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from treedet.errors import CrownsError
from treedet.vectors.box_rows import BOX, BoxRows, frame, text_of


def load_coco(path: Path) -> BoxRows:
    """Read the annotations of a COCO file; crowd regions are left out."""
    try:
        data = json.loads(text_of(path))
        images = {image["id"]: str(image["file_name"]) for image in data["images"]}
        names = {category["id"]: str(category["name"]) for category in data["categories"]}
        items = [item for item in data["annotations"] if not item.get("iscrowd")]
        crowds = len(data["annotations"]) - len(items)
        image_of = [images[item["image_id"]] for item in items]
        label_of = [names[item["category_id"]] for item in items]
        sizes = _sizes(data["images"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CrownsError(
            f"{path} is not COCO ({type(error).__name__}: {error}); it needs images, annotations and categories, "
            "each annotation with the id of an image and of a category"
        ) from error
    boxes = np.array([_checked_box(item, path) for item in items], dtype=np.float64).reshape(-1, 4)
    others = pd.DataFrame([_coco_extras(item) for item in items])
    columns = {str(name): others[name] for name in others.columns if name not in ("image_path", "label", *BOX)}
    return BoxRows(
        frame(image_of, boxes, label_of, columns),
        tuple(dict.fromkeys(images.values())),
        lambda row: f"{path}, annotation {row}",
        sizes=sizes,
        notices=(f"{path}: {crowds} crowd regions are left out, they are not single crowns",) if crowds else (),
    )


def _sizes(images: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    return {
        str(image["file_name"]): (int(image["width"]), int(image["height"]))
        for image in images
        if image.get("width") and image.get("height")
    }


def _checked_box(item: Mapping[str, Any], path: Path) -> list[float]:
    try:
        return _coco_box(item, path)
    except CrownsError:
        raise
    except (TypeError, ValueError) as error:
        raise CrownsError(
            f"{path}: annotation {item.get('id')} has no sound place ({error}); accepted are a bbox of x, y, width "
            "and height, or polygons of x and y in turn: correct it"
        ) from error


def _coco_box(item: Mapping[str, Any], path: Path) -> list[float]:
    if len(item.get("bbox") or ()) == 4:
        x, y, width, height = map(float, item["bbox"])
        return [x, y, x + width, y + height]
    rings = item.get("segmentation")
    if not rings or not isinstance(rings, list):
        raise CrownsError(
            f"{path}: annotation {item.get('id')} has neither a bbox nor polygons; run-length "
            "masks (RLE) are not read: export polygons, or add a bbox to each annotation"
        )
    xy = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings])
    return [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()]


def _coco_extras(item: Mapping[str, Any]) -> dict[str, Any]:
    said = {**(item.get("attributes") or {})}
    return {"score": item["score"], **said} if "score" in item else said
