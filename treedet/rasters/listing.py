"""Which rasters a user means by a file, a folder, a glob or a list."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from treedet.errors import UnreadableRasterError
from treedet.rasters.connecting import is_remote
from treedet.rasters.virtual import SUFFIX as VRT_SUFFIX
from treedet.rasters.virtual import mosaic_files

log = logging.getLogger("treedet")

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", VRT_SUFFIX, ".jp2")
"""Files of a folder that are taken for rasters."""
LIST_SUFFIX = ".txt"
OWN_PICTURE = re.compile(
    r"(?P<stem>.+)-(look|match|training-windows|validation|curves|confusion-.+|thresholds|reliability)\.png"
)
"""What treedet draws beside its outputs."""


def list_rasters(rasters: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the paths of the rasters a user means; nothing is opened.

    Args:
        rasters: A file or URL; a folder, which stands for the rasters directly in it, or else for all below it, by
            suffix and in the order of their names; a glob (``**`` goes into folders); a ``.txt`` file with one path a
            line, relative to itself; or a sequence of any of these.

    Returns:
        Each raster once, in the order given.

    Raises:
        UnreadableRasterError: A folder or a glob holds no raster, a list names none, or nothing is given.
    """
    if isinstance(rasters, str | os.PathLike):
        return list(dict.fromkeys(_expand(os.fspath(rasters))))
    paths = list(dict.fromkeys(path for item in rasters for path in _expand(os.fspath(item))))
    if not paths:
        raise UnreadableRasterError("no raster is given; give a file, a folder, a glob or a .txt list of paths")
    return paths


def list_files(rasters: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the paths of the rasters a user means, with the files of a mosaic in place of its VRT.

    A VRT that is more than a plain mosaic stays what it is; see :func:`treedet.rasters.virtual.mosaic_files`.

    Args:
        rasters: As in :func:`list_rasters`.

    Returns:
        Each raster once, in the order given, and then the files that mosaics name besides.

    Raises:
        UnreadableRasterError: See :func:`list_rasters`.
    """
    paths = list_rasters(rasters)
    mosaics = {path: files for path in paths if (files := mosaic_files(path))}
    if not mosaics:
        return paths
    named = {os.path.realpath(path): path for path in paths if path not in mosaics}
    for path, files in mosaics.items():
        places = [os.path.realpath(file) for file in files]
        known = sum(place in named for place in places)
        again = f"; {known} of them are named already, each is read once" if known else ""
        log.info("%s is a mosaic; it is read as the %d files in it%s", path, len(files), again)
        for place, file in zip(places, files, strict=True):
            named.setdefault(place, file)
    return list(named.values())


def names_many(raster: str | os.PathLike[str]) -> bool:
    """Tell whether a path stands for many rasters: a folder, a glob, a list, or a mosaic of several files.

    >>> names_many("tiles/*.tif"), names_many("tile.tif")
    (True, False)
    """
    text = os.fspath(raster)
    path = Path(text)
    if path.exists():
        return path.is_dir() or path.suffix.lower() == LIST_SUFFIX or len(mosaic_files(text)) > 1
    return not is_remote(text) and glob.has_magic(text)


def _expand(text: str) -> list[str]:
    path = Path(text)
    if path.is_dir():
        here = [str(entry) for entry in path.iterdir() if _is_raster(entry)]
        found = sorted(here or [str(entry) for entry in path.rglob("*") if _is_raster(entry)])
        return _said(found, f"the folder {text}", f"a folder must hold files ending in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        lines = [line.strip() for line in _text(path).splitlines()]
        named = [line for line in lines if line and not line.startswith("#")]
        found = [line if is_remote(line) else str(path.parent / line) for line in named]
        return _said(found, f"the list {text}", "a list holds one path a line")
    if not path.exists() and not is_remote(text) and glob.has_magic(text):
        found = sorted(entry for entry in glob.glob(text, recursive=True) if _is_raster(Path(entry)))  # noqa: PTH207 -- absolute patterns
        return _said(found, f"the pattern {text}", "check it, and put it in quotes on a command line")
    return [text]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableRasterError(
            f"the list {path} can not be read as text ({error}); save it as UTF-8, one path a line"
        ) from error


def _said(found: list[str], what: str, advice: str) -> list[str]:
    if not found:
        raise UnreadableRasterError(f"{what} names no raster; {advice}")
    log.info("%s: %d rasters", what, len(found))
    return found


def _is_raster(path: Path) -> bool:
    if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return not _is_own_picture(path)


def _is_own_picture(path: Path) -> bool:
    """Tell whether treedet drew a picture: it is no raster of anybody's forest.

    Names that a raster may have too have to lie beside what they were drawn with.
    """
    found = OWN_PICTURE.fullmatch(path.name)
    if found is None or path.name.endswith("-look.png"):
        return found is not None
    return any(path.with_name(found["stem"] + end).exists() for end in (".safetensors", "-records.csv"))
