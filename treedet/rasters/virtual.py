"""Mosaics that are written down as a VRT file: which files they name, where they are those files and nothing else."""

from __future__ import annotations

import logging
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from treedet.errors import UnreadableRasterError
from treedet.rasters.connecting import environment, is_remote, open_dataset
from treedet.rasters.lattice import OFF_GRID_PX
from treedet.rasters.raster import CACHE_MB

log = logging.getLogger("treedet")

SUFFIX = ".vrt"
OPENED = 8
"""Files, spread over all, of which the first that opens is compared with the mosaic."""
_DATASET = {"SRS", "GeoTransform", "Metadata", "VRTRasterBand", "MaskBand", "OverviewList"}
_BAND = {"NoDataValue", "HideNoDataValue", "ColorInterp", "ColorTable", "Description", "Metadata", "Overview"}
_SOURCES = {"SimpleSource", "ComplexSource"}
_SOURCE = {"SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "UseMaskBand"}


class _OtherwiseError(Exception):
    """A VRT is more than a plain mosaic; the message says how."""


@dataclass(frozen=True)
class _Place:
    """Where a file lies in a mosaic: column and row of its first pixel, width and height."""

    left: float
    top: float
    width: int
    height: int


@dataclass(frozen=True)
class _Facts:
    """What a file and a mosaic of it say alike, if nothing is changed on the way."""

    crs: CRS | None
    kinds: tuple[Any, ...]

    @classmethod
    def of(cls, dataset: Any) -> _Facts:  # noqa: ANN401 -- rasterio is untyped
        colours = tuple(colour.name for colour in dataset.colorinterp)
        masks = tuple(tuple(sorted(flag.name for flag in flags)) for flags in dataset.mask_flag_enums)
        nodata = tuple(None if value is None else repr(float(value)) for value in dataset.nodatavals)
        return cls(dataset.crs, (dataset.dtypes, colours, masks, nodata))


def mosaic_files(path: str) -> list[str]:
    """Return the files that a VRT is a plain mosaic of; none where it is none, which is said.

    Plain is a mosaic of whole files, pixel by pixel, with the bands, nodata, CRS and place that they have themselves.
    It may be read as those files are, which tells the file of each crown and does without a damaged one.

    Args:
        path: Any path; what is not a local file ending in ``.vrt`` is no mosaic, and nothing is said.
    """
    if is_remote(path) or Path(path).suffix.lower() != SUFFIX or not Path(path).is_file():
        return []
    try:
        places = _places(path)
        _compare(path, places)
    except _OtherwiseError as otherwise:
        log.info("%s is read as one raster, not file by file: %s", path, otherwise)
        return []
    return list(places)


def _places(path: str) -> dict[str, _Place]:
    """Return where each file lies, by path."""
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, OSError, UnicodeError) as error:
        raise _OtherwiseError(f"it can not be parsed ({error})") from error
    if kind := root.get("subClass"):
        raise _OtherwiseError(f"it is a {kind}")
    _refuse_others(root, _DATASET)
    bands = root.findall("VRTRasterBand")
    every = [_sources(band, number, path) for number, band in enumerate(bands, start=1)]
    masks = [_sources(band, None, path) for band in root.findall("MaskBand/VRTRasterBand")]
    if not every or not every[0]:
        raise _OtherwiseError("it names no files")
    if any(places != every[0] for places in (*every[1:], *masks)):
        raise _OtherwiseError("its bands are made of different files")
    return every[0]


def _sources(band: ET.Element, number: int | None, path: str) -> dict[str, _Place]:
    """Return the files of a band; ``number`` is None for the mask."""
    if (kind := band.get("subClass", "VRTSourcedRasterBand")) != "VRTSourcedRasterBand":
        raise _OtherwiseError(f"a band is a {kind}")
    _refuse_others(band, _BAND | _SOURCES)
    places: dict[str, _Place] = {}
    for source in band:
        if source.tag not in _SOURCES:
            continue
        _refuse_others(source, _SOURCE)
        wanted = "mask,1" if number is None else str(number)
        if source.findtext("SourceBand", "1").strip() != wanted:
            raise _OtherwiseError("its bands are others than those of the files, or in another order")
        missing = source.findtext("NODATA")
        if missing is not None and not _same_number(missing, band.findtext("NoDataValue")):
            raise _OtherwiseError("its nodata is not that of the files")
        file = _file_of(source, path)
        if file in places:
            raise _OtherwiseError(f"{file} is in it twice")
        places[file] = _place(source)
    return places


def _refuse_others(element: ET.Element, known: set[str]) -> None:
    """Raise for parts of an element that may change pixels."""
    for part in element:
        if part.tag not in known:
            raise _OtherwiseError(f"it has a {part.tag}")


def _file_of(source: ET.Element, path: str) -> str:
    name = source.find("SourceFilename")
    if name is None or not name.text:
        raise _OtherwiseError("it has a source without a file")
    return os.path.join(os.path.dirname(path), name.text) if name.get("relativeToVRT") == "1" else name.text  # noqa: PTH118, PTH120 -- as GDAL does, which may be a URL


def _place(source: ET.Element) -> _Place:
    """Return where a source lies, which is whole and in its own pixels."""
    whole, size = source.find("SourceProperties"), ("xSize", "ySize")
    if whole is None:
        raise _OtherwiseError("it does not tell the sizes of its files")
    sides = _numbers(whole, "RasterXSize", "RasterYSize")
    taken, given = (source.find(name) for name in ("SrcRect", "DstRect"))
    if taken is None or given is None or (*_numbers(taken, "xOff", "yOff", *size),) != (0.0, 0.0, *sides):
        raise _OtherwiseError("it shows parts of files")
    if tuple(_numbers(given, *size)) != tuple(sides):
        raise _OtherwiseError("files are resampled in it")
    left, top = _numbers(given, "xOff", "yOff")
    if max(abs(left - round(left)), abs(top - round(top))) > OFF_GRID_PX:
        raise _OtherwiseError("files lie between its pixels")
    return _Place(left, top, int(sides[0]), int(sides[1]))


def _numbers(element: ET.Element, *names: str) -> list[float]:
    try:
        return [float(element.get(name, "nan")) for name in names]
    except ValueError as error:
        raise _OtherwiseError(f"its {element.tag} can not be parsed") from error


def _same_number(first: str, second: str | None) -> bool:
    try:
        a, b = float(first), float(second or "")
    except ValueError:
        return False
    return a == b or (math.isnan(a) and math.isnan(b))


def _compare(path: str, places: dict[str, _Place]) -> None:
    """Raise if what the mosaic says of pixels differs from what its files say; one of them stands for all."""
    with environment(CACHE_MB):
        try:
            mosaic = open_dataset(path)
        except UnreadableRasterError as error:
            raise _OtherwiseError(str(error)) from error
        with mosaic:
            for file in _some(list(places)):
                try:
                    member = open_dataset(file)
                except UnreadableRasterError:
                    continue  # told when it is wanted
                with member:
                    _compare_with(member, mosaic, places[file])
                return


def _some(files: Sequence[str]) -> Iterator[str]:
    for i in np.unique(np.linspace(0, len(files) - 1, min(OPENED, len(files))).astype(int)).tolist():
        yield files[i]


def _compare_with(member: Any, mosaic: Any, place: _Place) -> None:  # noqa: ANN401 -- rasterio is untyped
    if member.count != mosaic.count:
        raise _OtherwiseError(f"it has {mosaic.count} bands, its files have {member.count}")
    said, meant = _Facts.of(member), _Facts.of(mosaic)
    if said.kinds != meant.kinds:
        raise _OtherwiseError("its data type, colours, mask or nodata are not those of its files")
    if said.crs is None or said.crs != meant.crs:
        raise _OtherwiseError("its CRS is not that of its files")
    there = mosaic.transform @ Affine.translation(place.left, place.top)
    corners = ((0, 0), (place.width, 0), (0, place.height))
    off = [np.subtract(~there @ (member.transform @ corner), corner) for corner in corners]
    if np.abs(off).max() > OFF_GRID_PX:
        raise _OtherwiseError("its files lie elsewhere on the map than it says")
