"""Look at many files once: which can be read, which are one piece of ground, what their values are scaled by."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from treedet.errors import RasterError, UnreadableRasterError
from treedet.rasters.connecting import environment
from treedet.rasters.joining import join
from treedet.rasters.lattice import Cluster, clusters
from treedet.rasters.opening import Opening, look_at, percentiles, valid_values
from treedet.rasters.raster import CACHE_MB
from treedet.rasters.survey_notices import notices

log = logging.getLogger("treedet")

SAMPLED = 64
"""Files, spread over all, whose values the common stretch follows from."""
SAMPLED_VALUES = 4_000_000
"""Values of them together, which bounds memory."""
_UNMEASURED = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of many files before any is worked off.

    Attributes:
        grounds: Pieces of ground, each a raster of one or more files, in the order of their first files' names.
        failures: Why a file can not be used, by path.
        stretches: Values that become 0 and 255, by data type, where they were measured.
    """

    grounds: tuple[Opening, ...]
    failures: Mapping[str, str]
    stretches: Mapping[str, tuple[float, float]]


def survey(
    paths: Sequence[str],
    *,
    gsd: float | None = None,
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    measured: Mapping[str, tuple[float, float]] | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Survey:
    """Look at files and put those together that are one piece of ground.

    Files of one CRS and pixel grid that abut or overlap become one raster; where they overlap, the first by name is
    read. All values of one data type are stretched alike.

    Args:
        paths: Paths or URLs.
        gsd: Ground metres per pixel of all, overriding what they say.
        bands: Bands to read; by default chosen file by file.
        stretch: Values that become 0 and 255; by default the 1st and 99th percentile of a sample of all files.
        measured: Stretches by data type that an earlier survey measured, to be kept to.
        watch: Called with the number of files looked at and of all.

    Raises:
        UnreadableRasterError: No file can be used.
        ConfigError: An argument makes no sense.
    """
    with _said_once():
        looked, failures = _look(_distinct(paths), gsd=gsd, bands=bands, stretch=stretch or _UNMEASURED, watch=watch)
        if not looked:
            reason = next(iter(failures.values()), "no raster is given")
            raise UnreadableRasterError(
                reason if len(failures) == 1 else f"none of {len(failures)} rasters can be used; the first: {reason}"
            )
        stretches: dict[str, tuple[float, float]] = {}
        if stretch is None:
            stretches = _stretches(looked, measured or {})
            looked = [opening.with_stretch(stretches.get(_kind(opening))) for opening in looked]
        found = clusters([opening.native_grid for opening in looked])
        for line in notices(looked, found):
            log.info("%s", line)
        grounds = []
        for cluster in found:
            files = [looked[i] for i in cluster.files]
            try:
                grounds.append(join(files, cluster.corners, name=_name(cluster, looked), gsd=gsd))
            except RasterError as error:
                failures |= {file.source.path: str(error) for file in files}
    return Survey(tuple(grounds), failures, stretches)


def _name(cluster: Cluster, looked: Sequence[Opening]) -> str:
    first = looked[int(cluster.files[0])].source.path
    others = len(cluster.files) - 1
    return first if not others else f"{first} and {others} more"


def _distinct(paths: Sequence[str]) -> list[str]:
    """Return the paths by name, without those that lead to a file that is there already."""
    by_file = {os.path.realpath(path) if os.path.exists(path) else path: path for path in sorted(paths, reverse=True)}  # noqa: PTH110 -- paths may be URLs
    if len(by_file) < len(paths):
        log.info("%d paths lead to a raster that is named already; each is read once", len(paths) - len(by_file))
    return sorted(by_file.values())


def _look(
    paths: Sequence[str],
    *,
    gsd: float | None,
    bands: Sequence[int] | None,
    stretch: tuple[float, float],
    watch: Callable[[int, int], None] | None,
) -> tuple[list[Opening], dict[str, str]]:
    looked: list[Opening] = []
    failures: dict[str, str] = {}
    for done, path in enumerate(paths, start=1):
        try:
            looked.append(look_at(path, gsd=gsd, bands=bands, stretch=stretch, cache_mb=CACHE_MB))
        except RasterError as error:
            failures[path] = str(error)
        if watch is not None:
            watch(done, len(paths))
    return looked, failures


def _kind(opening: Opening) -> str:
    """Return the data type of values that are stretched; empty where they are not."""
    return str(opening.source.dtype) if opening.measures_stretch else ""


def _stretches(
    looked: Sequence[Opening], measured: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return one stretch for each data type that needs one."""
    found: dict[str, tuple[float, float]] = {}
    for kind in sorted({_kind(opening) for opening in looked} - {""}):
        alike = [opening for opening in looked if _kind(opening) == kind]
        found[kind] = measured[kind] if kind in measured else _common_stretch(alike)
        log.info("%s values from %g to %g are scaled to 8 bits in all %d rasters", kind, *found[kind], len(alike))
    return found


def _common_stretch(alike: Sequence[Opening]) -> tuple[float, float]:
    chosen = np.unique(np.linspace(0, len(alike) - 1, min(SAMPLED, len(alike))).astype(int))
    values = []
    with environment(CACHE_MB):
        for i in chosen.tolist():
            try:
                every = valid_values(alike[i].source)
            except RasterError:
                continue  # told when its pixels are wanted
            values.append(every[:: 1 + len(chosen) * len(every) // SAMPLED_VALUES])
    dtype = alike[0].source.dtype
    return percentiles(np.concatenate([np.zeros(0, dtype), *values]), dtype)


@contextmanager
def _said_once() -> Iterator[None]:
    """Let a notice through for the first file it is about, and count the others."""
    seen: dict[str, int] = {}

    def new(record: logging.LogRecord) -> bool:
        seen[str(record.msg)] = seen.get(str(record.msg), 0) + 1
        return seen[str(record.msg)] == 1 or str(record.msg) == "%s"

    log.addFilter(new)
    try:
        yield
    finally:
        log.removeFilter(new)
    repeated = sum(count - 1 for text, count in seen.items() if text != "%s")
    if repeated:
        log.info("the same is true of further rasters; %d notices like these are left out", repeated)
