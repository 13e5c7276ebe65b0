"""How GDAL is asked for files: a capped cache, and patience with servers."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from treedet.errors import UnreadableRasterError

TRIES = 3
"""How often a remote file is asked for in all, where a connection breaks."""
PASSING = ("CURL error", "timed out")
"""What GDAL says of a connection that may hold next time; codes of a busy server it tries again on its own."""
_opening = threading.Lock()  # warnings.catch_warnings changes state of the whole process

RETRIES = 4
"""How often a server that is busy or out of order is asked again; GDAL doubles the pause each time."""
RETRY_PAUSE_S = 0.2


def environment(cache_mb: int) -> Any:  # noqa: ANN401 -- rasterio is untyped
    """Return the GDAL settings for reading: a capped block cache (else 5 % of the machine's memory), and retries."""
    # In bytes: rasterio hands an integer on as it is, where GDAL's own option would read 64 as MiB.
    return rasterio.Env(
        GDAL_CACHEMAX=cache_mb * 2**20, GDAL_HTTP_MAX_RETRY=RETRIES, GDAL_HTTP_RETRY_DELAY=RETRY_PAUSE_S
    )


def open_dataset(path: str, **options: Any) -> Any:  # noqa: ANN401 -- rasterio is untyped
    """Open a file with rasterio, or say in one line why that fails.

    Raises:
        UnreadableRasterError: It can not be opened; a remote file not even after several tries.
    """
    for attempt in Attempts(path):
        try:
            with _opening, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                return rasterio.open(path, **options)
        except RasterioError as error:
            if attempt.is_last or not any(text in str(error) for text in PASSING):
                raise UnreadableRasterError(_why_unreadable(path, error)) from error
    raise AssertionError  # the last attempt returns or raises


@dataclass(frozen=True)
class Attempt:
    """One of several tries, counted from 0."""

    number: int
    is_last: bool


class Attempts:
    """Tries at reading a file: one for a local file, several with growing pauses for a remote one.

    What GDAL remembers of a remote file, such as that it was not there, is forgotten before each further try.

    Args:
        path: What is read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tries = TRIES if is_remote(path) else 1

    def __iter__(self) -> Iterator[Attempt]:
        for number in range(self._tries):
            with ExitStack() as stack:
                if number:
                    time.sleep(RETRY_PAUSE_S * 2 ** (number - 1))
                    stack.enter_context(rasterio.Env(CPL_VSIL_CURL_NON_CACHED=_gdal_path(self._path)))
                yield Attempt(number, is_last=number == self._tries - 1)


def is_remote(path: str) -> bool:
    """Tell whether a path is read over a network."""
    return "://" in path or path.startswith("/vsi")


def _gdal_path(path: str) -> str:
    """Return a path as GDAL calls it.

    >>> _gdal_path("https://example.org/a.tif"), _gdal_path("s3://bucket/a.tif")
    ('/vsicurl/https://example.org/a.tif', '/vsis3/bucket/a.tif')
    """
    scheme, _, rest = path.partition("://")
    if not rest:
        return path
    return f"/vsicurl/{path}" if scheme in ("http", "https", "ftp") else f"/vsi{scheme}/{rest}"


def _why_unreadable(path: str, error: Exception) -> str:
    """One line: what is wrong with the path, and what to give in its place."""
    place = Path(path)
    if place.is_dir():
        return f"{path} is a folder, not a raster; give a file in it"
    if not is_remote(path) and "No such file" in str(error):
        return f"there is no file {path}; check the path"
    if place.is_file() and place.stat().st_size == 0:
        return f"{path} is empty (0 bytes); copy or download it again"
    cause = " ".join(str(error).split())
    return f"{path} can not be opened as a raster ({cause}); readable here: {_formats()}"


def _formats() -> str:
    names = {
        "GTiff": "GeoTIFF",
        "VRT": "VRT",
        "JPEG": "JPEG",
        "PNG": "PNG",
        "JP2OpenJPEG": "JPEG 2000",
        "HFA": "ERDAS Imagine",
        "WEBP": "WebP",
        "ECW": "ECW",
        "MrSID": "MrSID",
    }
    with rasterio.Env() as env:
        present = env.drivers()
    return ", ".join(name for driver, name in names.items() if driver in present)
