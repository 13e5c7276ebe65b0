"""Boxes in the JSON that Label Studio exports (``JSON`` and ``JSON-MIN``): percent of an image's sides."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from treedet.errors import CrownsError
from treedet.vectors.box_rows import DEFAULT_LABEL, BoxRows, frame

RECTANGLES, POLYGONS = "rectanglelabels", "polygonlabels"
IMAGE_KEYS = ("image", "img", "photo", "picture")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def is_label_studio(data: object) -> bool:
    """Tell whether parsed JSON is a list of Label Studio's tasks."""
    return isinstance(data, list) and all(
        isinstance(task, dict) and ("annotations" in task or "completions" in task or _image_key(task) is not None)
        for task in data
    )


def load_label_studio(tasks: Sequence[Mapping[str, Any]], path: Path) -> BoxRows:
    """Return the boxes of tasks that were read from ``path``; a turned rectangle or a polygon is its bounds."""
    images, names, labels, boxes, places = [], [], [], [], []
    sizes: dict[str, tuple[int, int]] = {}
    others = several = 0
    for number, task in enumerate(tasks, start=1):
        image = _image(task, where=f"{path}, task {number}")
        images.append(image)
        results, versions = _results(task)
        several += versions > 1
        for place, result in enumerate(results, start=1):
            value = result.get("value", result)
            where = f"{path}, task {number}, result {place}"
            if not ({"points"} <= set(value) or {"x", "y", "width", "height"} <= set(value)):
                # Results without a place name relations and choices; brushes are masks.
                others += bool(value)
                continue
            sizes[image] = size = _size(result, where=where)
            boxes.append(_box(value, size, where=where))
            labels.append(_label(value))
            names.append(image)
            places.append(where)
    notices = []
    if others:
        notices.append(f"{path}: {others} results that are neither rectangles nor polygons are left out")
    if several:
        notices.append(
            f"{path}: {several} tasks have more than one annotation; the first that was not cancelled is read"
        )
    return BoxRows(
        frame(names, np.array(boxes).reshape(-1, 4), labels),
        tuple(dict.fromkeys(images)),
        lambda row: places[row - 1],
        sizes=sizes,
        notices=tuple(notices),
    )


def _results(task: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the results of a task and how many annotations it has."""
    versions = task.get("annotations") or task.get("completions")
    if versions is None:
        return list(_minimal(task)), 1
    valid = [version for version in versions if not version.get("was_cancelled")]
    return (list(valid[0].get("result") or []) if valid else []), len(valid)


def _minimal(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for values in task.values():
        if isinstance(values, list):
            yield from (value for value in values if isinstance(value, dict) and "original_width" in value)


def _image_key(data: Mapping[str, Any]) -> str | None:
    return next((key for key in IMAGE_KEYS if isinstance(data.get(key), str)), None)


def _image(task: Mapping[str, Any], *, where: str) -> str:
    """Return the name of a task's image: the last part of its URL, without the prefix that an upload gives it."""
    data = task.get("data", task)
    key = _image_key(data)
    text = str(data[key]) if key else next((v for v in data.values() if isinstance(v, str) and "/" in v), "")
    if not text:
        raise CrownsError(f"{where} names no image; accepted is a task with data.image, found {sorted(data)}")
    parts = urlsplit(text)
    inner = parse_qs(parts.query).get("d", [])
    name = PurePosixPath(unquote(inner[0] if inner else parts.path)).name
    return _UPLOAD_PREFIX.sub("", name) if "upload" in parts.path else name


def _size(result: Mapping[str, Any], *, where: str) -> tuple[int, int]:
    width, height = result.get("original_width"), result.get("original_height")
    if not width or not height:
        raise CrownsError(
            f"{where} has no original_width and original_height, without which percent are not pixels; export JSON "
            "from Label Studio again"
        )
    return int(width), int(height)


def _box(value: Mapping[str, Any], size: tuple[int, int], *, where: str) -> list[float]:
    try:
        if "points" in value:
            xy = np.asarray(value["points"], dtype=np.float64).reshape(-1, 2) * size / 100
        else:
            xy = _rectangle(value, size)
    except (TypeError, ValueError) as error:
        raise CrownsError(f"{where}: coordinates must be numbers in percent ({error})") from error
    return [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()]


def _rectangle(value: Mapping[str, Any], size: tuple[int, int]) -> Any:  # noqa: ANN401 - an array
    x, y, wide, high = (
        float(value[k]) * side / 100 for k, side in zip(("x", "y", "width", "height"), (*size, *size), strict=True)
    )
    # Turned clockwise about the top left corner, as the exporter defines it.
    turn = math.radians(float(value.get("rotation") or 0))
    along, down = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    return np.array([x, y]) + np.array([0 * along, wide * along, high * down, wide * along + high * down])


def _label(value: Mapping[str, Any]) -> str:
    names = value.get(RECTANGLES) or value.get(POLYGONS) or value.get("labels") or [DEFAULT_LABEL]
    return str(names[0])
