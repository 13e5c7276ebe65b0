"""Readers of annotations in pixels: CSV as DeepForest writes it, Pascal VOC and COCO.

They return boxes with the names of their images; whoever has the rasters turns them into crowns.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from treedet.errors import CrownsError, DegenerateCrownError, MissingColumnError

logger = logging.getLogger("treedet")

BOX = ["xmin", "ymin", "xmax", "ymax"]
OUTLINES = ("wkt", "geometry", "polygon")
"""Columns that may hold outlines in pixels as WKT where there are no boxes."""
DEFAULT_LABEL = "tree"


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
    if path.is_dir():
        return _read_voc_folder(path)
    readers = {".csv": _read_csv, ".txt": _read_csv, ".tsv": _read_csv, ".xml": _read_voc_file, ".json": _read_coco}
    if path.suffix.lower() not in readers:
        raise CrownsError(
            f"{path}: suffix {path.suffix!r} names no format for boxes; accepted are {', '.join(readers)}"
        )
    return readers[path.suffix.lower()](path)


def _read_csv(path: Path) -> BoxAnnotations:
    text = _text_of(path)
    header, _, _ = text.partition("\n")
    separator = max(",;\t", key=header.count)
    try:
        table = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CrownsError(f"{path} is not a table of boxes: {str(error).strip()}") from error
    known = {name.strip().lower(): name for name in table.columns}
    table = table.rename(columns={known[name]: name for name in ("image_path", *BOX, "label") if name in known})
    if "image_path" not in table.columns:
        raise MissingColumnError(_missing("image_path", table, path))
    boxes = _csv_boxes(table, path)
    if "label" not in table.columns:
        logger.info("%s has no column 'label'; every crown is called %r", path, DEFAULT_LABEL)
        table["label"] = DEFAULT_LABEL
    table["image_path"] = table["image_path"].str.strip()
    images = tuple(dict.fromkeys(table["image_path"]))
    empty = np.isnan(boxes).all(axis=1) | (boxes == 0).all(axis=1)
    _refuse_degenerate(boxes, ~empty, where=f"{path}, line", first=2)
    unnamed = ~empty & (table["label"].str.strip() == "").to_numpy()
    if unnamed.any():
        raise CrownsError(
            f"{path}, line {int(np.flatnonzero(unnamed)[0]) + 2}: the label is empty; every box needs one"
        )
    decimal_comma = _has_decimal_comma(table)
    others = [name for name in table.columns if name not in {"image_path", "label", *BOX}]
    kept = table[~empty]
    columns = {name: _natural(kept[name], decimal_comma=decimal_comma) for name in others}
    return BoxAnnotations(_frame(kept["image_path"], boxes[~empty], kept["label"], columns), images)


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What spreadsheets in western Europe and America write when not asked for UTF-8.
        return data.decode("cp1252", errors="replace")


def _csv_boxes(table: pd.DataFrame, path: Path) -> npt.NDArray[np.float64]:
    """Return float64 ``[N, 4]``; NaN where a row says nothing."""
    if not all(name in table.columns for name in BOX):
        lower = {name.lower(): name for name in table.columns}
        outline = next((lower[name] for name in OUTLINES if name in lower), None)
        if outline is None:
            raise MissingColumnError(_missing(next(n for n in BOX if n not in table.columns), table, path))
        texts = table[outline].str.strip()
        shapes = shapely.from_wkt(texts.where(texts != "", "POLYGON EMPTY").to_numpy(object), on_invalid="ignore")
        if (wrong := shapely.is_missing(shapes)).any():
            row = int(np.flatnonzero(wrong)[0])
            raise CrownsError(f"{path}, line {row + 2}: {outline!r} holds {texts.iloc[row][:40]!r}, which is not WKT")
        return np.asarray(shapely.bounds(shapes), dtype=np.float64)
    columns = []
    for name in BOX:
        texts = table[name].str.strip()
        numbers = pd.to_numeric(texts.str.replace(",", ".", regex=False), errors="coerce").to_numpy(dtype=np.float64)
        said = (texts != "").to_numpy() & ~texts.str.lower().isin(["nan", "na", "null"]).to_numpy()
        if (wrong := said & np.isnan(numbers)).any():
            row = int(np.flatnonzero(wrong)[0])
            raise DegenerateCrownError(
                f"{path}, line {row + 2}: {name} is {texts.iloc[row]!r}, not a number of pixels"
            )
        columns.append(numbers)
    return np.column_stack(columns)


def _has_decimal_comma(table: pd.DataFrame) -> bool:
    return any(bool(table[name].str.contains(",", regex=False).any()) for name in BOX if name in table.columns)


def _natural(column: pd.Series[Any], *, decimal_comma: bool) -> pd.Series[Any]:
    """Return a column of text as numbers where all of it is, else as text; empty is missing."""
    texts = column.str.strip()
    missing = texts == ""
    numbers = pd.to_numeric(texts.str.replace(",", ".", regex=False) if decimal_comma else texts, errors="coerce")
    if (numbers.notna() | missing).all() and not missing.all():
        return numbers
    return texts.mask(missing)


def _missing(name: str, table: pd.DataFrame, path: Path) -> str:
    return (
        f"{path} lacks column {name!r}; it has {[str(c) for c in table.columns]}, boxes need image_path, xmin, ymin, "
        "xmax, ymax and label"
    )


def _frame(
    images: Iterable[str], boxes: npt.NDArray[np.float64], labels: Iterable[str], others: Mapping[str, pd.Series[Any]]
) -> pd.DataFrame:
    """Return the table of boxes with its agreed dtypes."""
    values = {"image_path": pd.Series(list(images), dtype="str")}
    values |= {name: pd.Series(side, dtype="float64") for name, side in zip(BOX, boxes.T, strict=True)}
    values["label"] = pd.Series(list(labels), dtype="str").str.strip()
    values |= {name: column.reset_index(drop=True) for name, column in others.items()}
    return pd.DataFrame(values)


def _refuse_degenerate(
    boxes: npt.NDArray[np.float64], rows: npt.NDArray[np.bool_], *, where: str, first: int
) -> None:
    sides = boxes[:, 2:] - boxes[:, :2]
    wrong = rows & ~(np.isfinite(boxes).all(axis=1) & (sides > 0).all(axis=1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"{where} {row + first}: box {boxes[row].tolist()} has no area; accepted is xmin < xmax and ymin < ymax "
            "in pixels, or a row of zeros for an image without crowns"
        )


def _read_voc_file(path: Path) -> BoxAnnotations:
    return _voc([(path, path.parent)])


def _read_voc_folder(folder: Path) -> BoxAnnotations:
    found = [path for path in sorted(folder.rglob("*.xml")) if not path.name.endswith(".aux.xml")]
    if not found:
        raise CrownsError(f"{folder} holds no Pascal VOC .xml; give a folder of them, or one .csv or COCO .json")
    return _voc([(path, folder) for path in found])


def _voc(files: Iterable[tuple[Path, Path]]) -> BoxAnnotations:
    """Read Pascal VOC files; image names are relative to the folder given with each."""
    images, names, labels, boxes = [], [], [], []
    for path, folder in files:
        try:
            root = ET.parse(path).getroot()
        except ET.ParseError as error:
            raise CrownsError(f"{path} is not well-formed XML: {error}") from error
        if root.tag != "annotation":
            raise CrownsError(f"{path} is not Pascal VOC: its root is <{root.tag}>, accepted is <annotation>")
        image = (path.parent.relative_to(folder) / _voc_image(root, path)).as_posix()
        images.append(image)
        for number, item in enumerate(root.iter("object"), start=1):
            boxes.append(_voc_box(item, where=f"{path}, object {number}"))
            labels.append((item.findtext("name") or "").strip() or DEFAULT_LABEL)
            names.append(image)
    return BoxAnnotations(_frame(names, np.array(boxes).reshape(-1, 4), labels, {}), tuple(dict.fromkeys(images)))


def _voc_image(root: ET.Element, path: Path) -> str:
    """Name of the image: ``filename``, else the last part of ``path``, else the name of the file itself."""
    for tag in ("filename", "path"):
        text = (root.findtext(tag) or "").strip().replace("\\", "/")
        if text:
            return text.rsplit("/", 1)[-1]
    return path.stem


def _voc_box(item: ET.Element, *, where: str) -> list[float]:
    found = item.find("bndbox")
    if found is None:
        raise CrownsError(f"{where} has no <bndbox>; accepted are boxes with xmin, ymin, xmax and ymax")
    try:
        box = [float((found.findtext(name) or "").replace(",", ".")) for name in BOX]
    except ValueError as error:
        raise CrownsError(f"{where}: <bndbox> needs the numbers xmin, ymin, xmax and ymax ({error})") from error
    _refuse_degenerate(np.array([box]), np.array([True]), where=f"{where}, box", first=1)
    return box


def _read_coco(path: Path) -> BoxAnnotations:
    try:
        data = json.loads(_text_of(path))
        images = {image["id"]: str(image["file_name"]) for image in data["images"]}
        names = {category["id"]: str(category["name"]) for category in data["categories"]}
        items = [item for item in data["annotations"] if not item.get("iscrowd")]
        crowds = len(data["annotations"]) - len(items)
        image_of = [images[item["image_id"]] for item in items]
        label_of = [names[item["category_id"]] for item in items]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CrownsError(
            f"{path} is not COCO ({type(error).__name__}: {error}); it needs images, annotations and categories, "
            "each annotation with the id of an image and of a category"
        ) from error
    if crowds:
        logger.info("%s: %d crowd regions are left out, they are not single crowns", path, crowds)
    boxes = np.array([_coco_box(item, path) for item in items], dtype=np.float64).reshape(-1, 4)
    _refuse_degenerate(boxes, np.ones(len(boxes), dtype=bool), where=f"{path}, annotation", first=1)
    others = pd.DataFrame([_coco_extras(item) for item in items])
    columns = {str(name): others[name] for name in others.columns if name not in ("image_path", "label", *BOX)}
    return BoxAnnotations(_frame(image_of, boxes, label_of, columns), tuple(dict.fromkeys(images.values())))


def _coco_box(item: Mapping[str, Any], path: Path) -> list[float]:
    if len(item.get("bbox") or ()) == 4:
        x, y, width, height = map(float, item["bbox"])
        return [x, y, x + width, y + height]
    rings = item.get("segmentation")
    if not rings or not isinstance(rings, list):
        raise CrownsError(
            f"{path}: annotation {item.get('id')} has neither a bbox nor polygons; run-length masks need a bbox"
        )
    xy = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings])
    return [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()]


def _coco_extras(item: Mapping[str, Any]) -> dict[str, Any]:
    said = {**(item.get("attributes") or {})}
    return {"score": item["score"], **said} if "score" in item else said
