"""Everything decided about a run before it starts: raster, grid, AOI, windows, thresholds, fingerprint."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from treedet.core.grid import Grid
from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec, Reading
from treedet.core.suppression import MergeConfig
from treedet.errors import BandMismatchError, GsdWarning
from treedet.inference.exclusion import Exclusion
from treedet.inference.options import PredictOptions
from treedet.inference.pipeline import Job
from treedet.models.base import WindowDetector
from treedet.rasters.raster import Raster
from treedet.rasters.stream import StreamConfig
from treedet.rasters.tiling import TilingConfig, plan_tiles
from treedet.vectors.annotations import read_polygons

log = logging.getLogger("treedet")

PARTS = 2
"""What parts of a run hold, so that one of an older kind is not taken up: 2, since valid ground is recorded."""
GPU_BATCH = 4
"""Windows at once on a GPU; on a CPU batching gains nothing and costs memory."""


@dataclass(frozen=True)
class Setup:
    """A run that is ready to start.

    Attributes:
        raster: The raster, open.
        job: What is looked for, and where.
        mode: Whether the raster is resampled to the model's GSD (``adapt``) or read as it is (``native``).
        crs: CRS of the result; None for pixel coordinates.
        identity: Digest of the model, device and precision.
        options: What the user asked for.
        original: The setting of the tool that the model was imported from, where it is followed.
        excluded: Where crowns are dropped, in pixels of the model grid; None for nowhere, and where it is not known
            yet (:class:`treedet.inference.exclusion.Exclusion`).
    """

    raster: Raster
    job: Job
    mode: Reading
    crs: pyproj.CRS | None
    identity: Mapping[str, str]
    options: PredictOptions
    original: OriginalSetting | None = None
    excluded: BaseGeometry | None = None

    @property
    def seen_gsd(self) -> float:
        """Metres per pixel that the network sees."""
        return self.job.plan.grid.gsd / (self.original.enlargement if self.original else 1.0)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything the result depends on, JSON-able."""
        return _fingerprint(self)

    @property
    def overlap_m(self) -> float:
        """What neighbouring windows share, in metres."""
        return self.job.plan.overlap_px * self.job.plan.grid.gsd


@contextmanager
def prepare(path: str, model: WindowDetector, options: PredictOptions) -> Iterator[Setup]:
    """Open a raster and decide how it will be worked off.

    Args:
        path: The raster.
        model: Finds crowns in windows.
        options: What the user asked for.

    Raises:
        TreedetError: The raster, the AOI or an option can not be used.
    """
    # Before the raster is opened, which may take a while over a network.
    model.spec.threshold(options.score_threshold)
    with Raster.open(path, gsd=options.gsd, bands=options.bands, stretch=options.stretch) as raster:
        setup, exclusion = set_up(raster, model, options), Exclusion(options.exclude)
        setup = replace(setup, excluded=exclusion.on(raster, setup.job.plan.grid))
        exclusion.say_unmet(path)
        yield setup


def set_up(
    raster: Raster,
    model: WindowDetector,
    options: PredictOptions,
    *,
    area: BaseGeometry | None = None,
    mode: Reading | None = None,
    told: bool = False,
) -> Setup:
    """Decide how an open raster will be worked off.

    Args:
        raster: The raster; what the options say about reading it was seen to when it was opened.
        model: Finds crowns in windows.
        options: What the user asked for.
        area: Where crowns are wanted, in pixels of the raster's grid, instead of the option's file.
        mode: How the raster is read, whatever its GSD, instead of what ``options.coarse`` leads to.
        told: The user was warned before of a GSD that the model is not trained for.

    Raises:
        TreedetError: The raster, the AOI or an option can not be used.
    """
    spec = model.spec
    threshold = spec.threshold(options.score_threshold)
    if raster.channels != spec.bands:
        raise BandMismatchError(
            f"{raster.path}: the model needs {spec.bands} bands, {raster.channels} were chosen; give bands= (--bands)"
        )
    if not told:
        check_gsd(raster.grid, spec)
    original = followed(spec, options)
    mode = "native" if original else mode or reading(raster.grid, spec, coarse=options.coarse)
    grid = raster.grid if mode == "native" else raster.grid.at_gsd(spec.gsd)
    if area is None:
        aoi = _aoi(options.aoi, raster, grid)
    else:
        aoi = shapely.affinity.scale(
            area, grid.width / raster.grid.width, grid.height / raster.grid.height, origin=(0, 0)
        )
        shapely.prepare(aoi)
    plan = plan_tiles(grid, windows_of(spec, options), aoi=aoi)
    boxes = raster.members.boxes
    if len(boxes) > 1:
        scale = np.array([grid.width / raster.grid.width, grid.height / raster.grid.height] * 2)
        plan = plan.over(boxes * scale)
    job = Job(
        plan=plan,
        threshold=threshold,
        merge=merging(spec, original),
        aoi=aoi,
        batch_size=options.batch_size or (1 if model.identity["device"] == "cpu" else GPU_BATCH),
        stream=StreamConfig(threads=options.readers),
    )
    return Setup(raster, job, mode, raster.source_crs, model.identity, options, original)


def reading(grid: Grid, spec: ModelSpec, *, coarse: Literal["auto", "adapt", "native"] = "auto") -> Reading:
    """Return how a raster is read: resampled to the model's GSD, or as it is.

    Only imagery coarser than the model's GSD is ever read as it is. Where a stored choice is followed, that is said.

    Args:
        grid: The raster's grid.
        spec: The model's GSD and what was better on validation.
        coarse: What the user asked for.
    """
    if not spec.is_coarse(grid.gsd):
        if coarse == "native":
            log.info(
                "coarse=native changes nothing: imagery of %.3g m per pixel is not coarser than the model's %g m",
                grid.gsd,
                spec.gsd,
            )
        return "adapt"
    if coarse != "auto":
        return coarse
    choice = spec.choice_at(grid.gsd)
    if choice is not None:
        how = "as it is (native)" if choice.mode == "native" else f"resampled to the model's {spec.gsd:g} m (adapt)"
        log.info(
            "imagery of %.3g m per pixel is read %s, the better way on validation at %g m: F1 %.3f resampled, %.3f "
            "as it is; choose with coarse= (--coarse adapt or native)",
            grid.gsd,
            how,
            choice.gsd,
            choice.adapt_f1,
            choice.native_f1,
        )
    return spec.mode_at(grid.gsd)


def tiling(spec: ModelSpec, max_crown: float | None) -> TilingConfig:
    """Return windows for a model: an overlap wider than the widest crown, and a window at least three times that."""
    overlap = spec.overlap_px(max_crown)
    multiple = max(spec.stride, 64)
    side = max(spec.window_px, 3 * overlap)
    return TilingConfig(window_px=math.ceil(side / multiple) * multiple, overlap_px=overlap, multiple=multiple)


def followed(spec: ModelSpec, options: PredictOptions) -> OriginalSetting | None:
    """Return the setting of the tool a model was imported from, where the user wants it followed."""
    return spec.original if options.setting == "original" else None


def windows_of(spec: ModelSpec, options: PredictOptions) -> TilingConfig:
    """Return the windows of a run: a model's own, or as the tool that it was imported from places them."""
    original = followed(spec, options)
    if original is not None:
        return TilingConfig(original.patch_px, original.overlap_px, multiple=1, steady=True)
    return tiling(spec, options.max_crown)


def merging(spec: ModelSpec, original: OriginalSetting | None) -> MergeConfig:
    """Return when detections of different windows are one crown; ``original`` knows no cut ones."""
    if original is not None:
        return MergeConfig(original.iou_between, 1.0, cut_margin_px=0.0)
    return MergeConfig(spec.iou_threshold, spec.ios_threshold, cut_margin_px=spec.cut_margin_px)


def check_gsd(grid: Grid, spec: ModelSpec) -> None:
    """Warn of imagery outside the resolutions that a model is trained for."""
    finest, coarsest = spec.gsd_range
    if not finest * 0.98 <= grid.gsd <= coarsest * 1.02:
        warnings.warn(
            f"the raster's GSD is {grid.gsd:.4g} m, the model is trained for {finest:g} to {coarsest:g} m; crowns "
            "may be missed or invented. Check the GSD, or use a model for this resolution",
            GsdWarning,
            stacklevel=6,
        )


def _aoi(path: str | None, raster: Raster, grid: Grid) -> BaseGeometry | None:
    """Read the AOI and return it in pixels of the model grid."""
    if path is None:
        return None
    return raster.area_on_grid(read_polygons(path, crs=raster.source_crs), grid, name=f"the AOI {path}")


def _fingerprint(setup: Setup) -> dict[str, Any]:
    raster, job, mode = setup.raster, setup.job, setup.mode
    path = Path(raster.path)
    stat = path.stat() if path.exists() else None
    return {
        "source": os.fspath(path.absolute()) if stat else raster.path,
        "source size": stat.st_size if stat else None,
        "source time": stat.st_mtime_ns if stat else None,
        **dict(setup.identity),
        "AOI": hashlib.sha256(shapely.to_wkb(job.aoi)).hexdigest() if job.aoi is not None else None,
        "windows": job.plan.to_dict(),
        "GSD": round(raster.facts.gsd, 9),
        "coarse imagery": mode,
        "bands": list(raster.facts.bands),
        "stretch": list(raster.stretch) if raster.stretch else None,
        "score threshold": job.threshold,
        "merging": asdict(job.merge),
        "version": version("treedet"),
        "parts": PARTS,
    }
