"""Which annotation belongs to which raster, by name: full paths are the key, basenames only where unique."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from treedet.errors import CrownsError
from treedet.vectors.truth import Annotations

log = logging.getLogger("treedet")

FILE_SUFFIXES = (".shp", ".gpkg", ".geojson", ".parquet", ".fgb", ".csv", ".json")
"""Annotation files looked for in a folder, one per raster, with the raster's stem."""
SHOWN = 5
"""Names that a message lists."""


def match_images(images: Sequence[str], annotations: str | Path, rasters: Sequence[str]) -> dict[str, str]:
    """Tell which image of an annotation file each raster is.

    An image is first looked for as a path relative to the annotation file, then as given, then by its basename,
    which may lack the suffix of the raster.

    Args:
        images: Names as they stand in the file.
        annotations: The file, or the folder of files.
        rasters: Paths of the rasters.

    Returns:
        The image of each raster that has one, by the raster's path; images and rasters without each other are left
        out.

    Raises:
        CrownsError: A name fits two rasters, or two names fit one.
    """
    folder = annotation_folder(annotations)
    by_path = {os.path.realpath(raster): raster for raster in rasters}
    found: dict[str, str] = {}
    left: list[str] = []
    for image in images:
        name = image.replace("\\", "/")
        exact = by_path.get(os.path.realpath(folder / name)) or by_path.get(os.path.realpath(name))
        if exact is None:
            left.append(image)
        else:
            _assign(found, exact, image, annotations)
    named: defaultdict[str, list[str]] = defaultdict(list)
    for raster in rasters:
        if raster not in found:
            named[Path(raster).name].append(raster)
            named[Path(raster).stem].append(raster)
    for image in left:
        fitting = named.get(_key(image), [])
        if len(fitting) > 1:
            raise CrownsError(
                f"{annotations}: image {image!r} may be {fitting[0]} or {fitting[1]}; write paths relative to the "
                "annotation file in it, or give one of the rasters"
            )
        if fitting:
            _assign(found, fitting[0], image, annotations)
    return found


def annotation_folder(annotations: str | Path) -> Path:
    """Return the folder that image names of an annotation file are relative to."""
    path = Path(annotations)
    return path if path.is_dir() else path.parent


def _key(image: str) -> str:
    r"""Return the basename by which an image is looked for.

    >>> _key("C:\\plots\\a.tif"), _key("plots/a"), _key("plots/a.2019")
    ('a.tif', 'a', 'a.2019')
    """
    return PurePosixPath(image.replace("\\", "/")).name


def _assign(found: dict[str, str], raster: str, image: str, annotations: str | Path) -> None:
    if found.setdefault(raster, image) != image:
        raise CrownsError(
            f"{annotations}: images {found[raster]!r} and {image!r} may both be {raster}; write paths relative to "
            "the annotation file in it"
        )


def named_rasters(annotations: Annotations, paths: Sequence[str], *, whole_folder: bool) -> dict[str, str]:
    """Return the image of each raster that the annotations name, and say what has no partner.

    Args:
        annotations: Annotations in pixels.
        paths: Paths of the rasters.
        whole_folder: The rasters are all of a folder, so an image that is neither among them nor beside the
            annotations is missing rather than left out on purpose.

    Raises:
        CrownsError: No image is among the rasters, or one is missing, or a name fits two.
    """
    found = match_images(annotations.images, annotations.path, paths)
    images = set(found.values())
    absent = [image for image in annotations.images if image not in images]
    beside = annotation_folder(annotations.path)
    missing = [image for image in absent if not (beside / image).exists()] if whole_folder else []
    if not found or missing:
        names = missing or absent
        raise CrownsError(
            f"{annotations.path} names {len(names)} images that are not among the {len(paths)} rasters: "
            f"{some(names, most=3)}; give these rasters too, or take their rows out of the file"
        )
    if absent:
        rows = int((~annotations.table["source"].isin(images)).sum())
        log.info(
            "%s: %d images that are not among the rasters are left out, with their %d crowns",
            annotations.path,
            len(absent),
            rows,
        )
    say_left_out([path for path in paths if path not in found], f"not named in {annotations.path}")
    return {path: found[path] for path in paths if path in found}


def files_by_stem(folder: Path, paths: Sequence[str]) -> dict[str, Path]:
    """Return the annotation file of each raster: the one of its stem.

    Args:
        folder: Where the files are.
        paths: Paths of the rasters.

    Returns:
        Files by raster, for those that have one; empty where the folder is one annotation as a whole (Pascal VOC,
        YOLO).

    Raises:
        CrownsError: Two files have the stem of a raster, or two rasters that of a file.
    """
    files: dict[str, Path] = {}
    for path in paths:
        stem = Path(path).stem
        fitting = [folder / f"{stem}{suffix}" for suffix in FILE_SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
        if len(fitting) > 1:
            raise CrownsError(
                f"{folder} holds {fitting[0].name} and {fitting[1].name} for {path}; keep one file per raster in it"
            )
        files |= dict.fromkeys([path], fitting[0]) if fitting else {}
    stems = [Path(path).stem for path in files]
    if twice := next((path for path in files if stems.count(Path(path).stem) > 1), None):
        raise CrownsError(f"{files[twice]} may be for several rasters of that name; give rasters of different names")
    return files


def say_left_out(paths: Sequence[str], why: str) -> None:
    """Say which rasters are left out, if any, and why."""
    if paths:
        log.info("%d rasters are left out, %s: %s", len(paths), why, some(paths))


def some(names: Sequence[Any], *, most: int = SHOWN) -> str:
    """Return the first names, and how many more there are.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
