"""Boxes in YOLO's text files: one per image, each line ``class x y width height`` in fractions of its sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from treedet.errors import CrownsError
from treedet.vectors.box_rows import DEFAULT_LABEL, BoxRows, frame, text_of

NAME_LISTS = ("classes.txt", "obj.names", "classes.names")
NOT_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt")
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".webp")


def label_files(folder: Path) -> list[Path]:
    """Return the text files below a folder that can hold boxes, lists of names and of images left out."""
    return [path for path in sorted(folder.rglob("*.txt")) if path.name.lower() not in NOT_LABELS]


def is_yolo(path: Path) -> bool:
    """Tell whether the first line of a text file is a class and at least four numbers, apart by blanks."""
    first = next((line for line in text_of(path).splitlines() if line.strip()), "")
    return len(first.split()) >= 5 and all(_is_number(word) for word in first.split())


def load_yolo(path: Path) -> BoxRows:
    """Read one text file, or all below a folder, with the names in ``data.yaml`` or ``classes.txt``.

    Images are named by the picture found beside the text, or in ``images`` beside ``labels``; else by the stem.

    Raises:
        CrownsError: A line is not a box, its class has no name, or names are missing and needed.
    """
    files = [path] if path.is_file() else label_files(path)
    folder = path.parent if path.is_file() else path
    names = _names(folder)
    images, owners, classes, boxes, scores, places = [], [], [], [], [], []
    for file in files:
        image = _image(file, folder)
        images.append(image)
        for number, line in enumerate(text_of(file).splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            index, box, score = _parsed(line, where=where)
            if names is not None and not 0 <= index < len(names):
                raise CrownsError(
                    f"{where}: class {index} is out of range, the names are {', '.join(names[:8])}, accepted is 0"
                    f"{f' to {len(names) - 1}' * (len(names) > 1)}; add the name to data.yaml or classes.txt, or "
                    "correct the line"
                )
            owners.append(image)
            classes.append(index)
            boxes.append(box)
            scores.append(score)
            places.append(where)
    labels, notices = _labels(classes, names, path)
    others = {} if np.isnan(scores).all() else {"score": pd.Series(scores)}
    return BoxRows(
        frame(owners, np.array(boxes).reshape(-1, 4), labels, others),
        tuple(dict.fromkeys(images)),
        lambda row: places[row - 1],
        normalised=True,
        notices=notices,
    )


def _labels(classes: Sequence[int], names: Sequence[str] | None, path: Path) -> tuple[list[str], tuple[str, ...]]:
    if names is not None:
        return [names[index] for index in classes], ()
    if len(set(classes)) > 1:
        raise CrownsError(
            f"{path}: classes {sorted(set(classes))} have no names; put data.yaml or classes.txt into the folder"
        )
    return [DEFAULT_LABEL] * len(classes), (f"{path}: no data.yaml or classes.txt; every row is {DEFAULT_LABEL!r}",)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parsed(line: str, *, where: str) -> tuple[int, list[float], float]:
    """Return class, box in fractions, and confidence or NaN; more than five numbers after the class are a polygon."""
    words = line.split()
    if len(words) < 5 or not all(_is_number(word) for word in words) or not float(words[0]).is_integer():
        raise CrownsError(
            f"{where}: {line.strip()[:60]!r} is no box; accepted is 'class x y width height' in fractions of the "
            "image, or 'class x1 y1 x2 y2 ...' of a polygon"
        )
    values = np.array(words[1:], dtype=np.float64)
    score = float(values[4]) if len(values) == 5 else float("nan")
    if len(values) <= 5:
        x, y, wide, high = values[:4].tolist()
        box = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
    else:
        xy = values[: len(values) // 2 * 2].reshape(-1, 2)
        box = [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()]
    if max(map(abs, box)) > 2:
        raise CrownsError(
            f"{where}: {line.strip()[:60]!r} is not in fractions of the image; YOLO needs numbers from 0 to 1"
        )
    return int(float(words[0])), box, score


def _names(folder: Path) -> list[str] | None:
    """Return the class names found in a folder, its parent or the one above, the nearest first."""
    for place in (folder, folder.parent, folder.parent.parent):
        for file in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            try:
                data = yaml.safe_load(text_of(file))
            except yaml.YAMLError as error:
                raise CrownsError(f"{file} is not YAML: {str(error).splitlines()[0]}") from error
            if isinstance(data, dict) and "names" in data:
                return _listed(data["names"], file)
        for name in NAME_LISTS:
            if (place / name).is_file():
                return [line.strip() for line in text_of(place / name).splitlines() if line.strip()]
    return None


def _listed(names: Any, file: Path) -> list[str]:  # noqa: ANN401 - whatever YAML holds
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        return [str(names[i]) for i in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    raise CrownsError(f"{file}: names must be a list, or numbers from 0 with a name each; found {names!r}")


def _image(file: Path, folder: Path) -> str:
    places = [file.parent]
    parts = file.parent.parts
    if "labels" in parts:
        at = len(parts) - 1 - parts[::-1].index("labels")
        places.append(Path(*parts[:at], "images", *parts[at + 1 :]))
    for place in places:
        for suffix in IMAGE_SUFFIXES:
            for found in (place / (file.stem + suffix), place / (file.stem + suffix.upper())):
                if found.is_file():
                    return found.relative_to(folder).as_posix() if found.is_relative_to(folder) else found.name
    return file.stem
