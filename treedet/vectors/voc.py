"""Boxes in Pascal VOC XML: one file per image."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from treedet.errors import CrownsError, DegenerateCrownError
from treedet.vectors.box_rows import BOX, DEFAULT_LABEL, BoxRows, frame


def load_voc(path: Path) -> BoxRows:
    """Read one file, or all below a folder; image names are relative to the folder."""
    if path.is_file():
        return _load([path], path.parent)
    found = voc_files(path)
    if not found:
        raise CrownsError(f"{path} holds no Pascal VOC .xml; give a folder of them, or one .csv or COCO .json")
    return _load(found, path)


def voc_files(folder: Path) -> list[Path]:
    """Return the XML files below a folder that can be annotations, those of GDAL left out."""
    return [path for path in sorted(folder.rglob("*.xml")) if not path.name.endswith(".aux.xml")]


def _load(files: Sequence[Path], folder: Path) -> BoxRows:
    images, names, labels, boxes, places = [], [], [], [], []
    sizes: dict[str, tuple[int, int]] = {}
    for path in files:
        try:
            root = ET.parse(path).getroot()
        except ET.ParseError as error:
            raise CrownsError(f"{path} is not well-formed XML: {error}") from error
        if root.tag != "annotation":
            raise CrownsError(f"{path} is not Pascal VOC: its root is <{root.tag}>, accepted is <annotation>")
        image = (path.parent.relative_to(folder) / _image(root, path)).as_posix()
        images.append(image)
        if size := _size(root):
            sizes[image] = size
        for number, item in enumerate(root.iter("object"), start=1):
            places.append(f"{path}, object {number}")
            boxes.append(_box(item, where=places[-1]))
            labels.append((item.findtext("name") or "").strip() or DEFAULT_LABEL)
            names.append(image)
    unsized = [image for image in images if image not in sizes]
    return BoxRows(
        frame(names, np.array(boxes).reshape(-1, 4), labels),
        tuple(dict.fromkeys(images)),
        lambda row: places[row - 1],
        sizes=sizes,
        notices=(_no_size(unsized, len(images), files[0] if len(files) == 1 else folder),) if unsized else (),
    )


def _no_size(unsized: Sequence[str], files: int, path: Path) -> str:
    more = ", ..." if len(unsized) > 1 else ""
    which = "" if files == 1 else f" in {len(unsized)} of {files} files (of {unsized[0]}{more})"
    return (
        f"{path}: no <size> with width and height{which}; boxes are taken as pixels of the raster as it is now, so "
        "check on the sheet of windows that it was not resampled since"
    )


def _image(root: ET.Element, path: Path) -> str:
    """Name of the image: ``filename``, else the last part of ``path``, else the name of the file itself."""
    for tag in ("filename", "path"):
        text = (root.findtext(tag) or "").strip().replace("\\", "/")
        if text:
            return text.rsplit("/", 1)[-1]
    return path.stem


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Width and height; None where they are absent or, as some tools write, zero."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(item: ET.Element, *, where: str) -> list[float]:
    found = item.find("bndbox")
    if found is None:
        raise CrownsError(f"{where} has no <bndbox>; accepted are boxes with xmin, ymin, xmax and ymax")
    try:
        return [float((found.findtext(name) or "").replace(",", ".")) for name in BOX]
    except ValueError as error:
        raise DegenerateCrownError(
            f"{where}: <bndbox> needs the numbers xmin, ymin, xmax and ymax ({error})"
        ) from error
