"""``treedet inspect``: facts about a raster, a model file or a crowns file."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from treedet.commands.origin import origin_lines
from treedet.core.spec import HeadFacts, ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.inference.detector import Detector
from treedet.inference.loading import bundled_model, load
from treedet.inference.setup import reading, tiling
from treedet.models import model_file
from treedet.rasters.raster import Raster
from treedet.rasters.tiling import plan_tiles
from treedet.vectors.annotations import read_crowns
from treedet.vectors.layers import is_parquet
from treedet.vectors.writers import SUFFIXES

PROBE_PX = 512
VALUES = 8
"""Values of a column that are counted one by one."""


def describe(file: str, *, gsd: float | None, model: str | None) -> list[str]:
    """Return lines about a file, chosen by its suffix.

    Args:
        file: A raster, a model file or a crowns file.
        gsd: Ground metres per pixel of the raster, where it does not say.
        model: Model the time is estimated for.

    Raises:
        TreedetError: The file can not be read.
    """
    suffix = Path(file).suffix.lower()
    if suffix == ".safetensors":
        return describe_model(file)
    if suffix in SUFFIXES or is_parquet(Path(file)):
        return describe_crowns(file)
    return describe_raster(file, gsd=gsd, model=model)


def describe_raster(file: str, *, gsd: float | None, model: str | None) -> list[str]:
    """Return size, CRS, true GSD, layout, valid share, bands, estimated time and the next command."""
    path = Path(model) if model else bundled_model()
    with Raster.open(file, gsd=gsd) as raster:
        facts, grid = raster.facts, raster.grid
        share = raster.valid_share()
    spec = model_file.read_spec(path)
    stretch = "none (8 bit)" if facts.stretch is None else f"{facts.stretch[0]:g} to {facts.stretch[1]:g}"
    overviews = ", ".join(f"1:{f}" for f in facts.overviews) or "none"
    lines = [
        f"raster     {file} ({facts.driver})",
        f"size       {facts.width:,} x {facts.height:,} px, {facts.count} bands of {facts.dtype}, "
        f"{grid.hectares:,.2f} ha",
        f"CRS        {facts.crs}",
        f"GSD        {facts.gsd:.4g} m ({facts.gsd_reason})",
        f"layout     {facts.layout}, blocks of {facts.block_shape[1]} x {facts.block_shape[0]} px, "
        f"compression {facts.compression or 'none'}, overviews {overviews}",
        f"valid      {share:.0%} ({facts.mask})",
        f"bands      {', '.join(map(str, facts.bands))} ({facts.bands_reason})",
        f"stretch    {stretch}",
    ]
    finest, coarsest = spec.gsd_range
    if not finest <= grid.gsd <= coarsest:
        lines.append(f"warning    the model is trained for {finest:g} to {coarsest:g} m; expect poor results")
    detector = load(path)
    seen = grid if reading(grid, spec) == "native" else grid.at_gsd(spec.gsd)
    plan = plan_tiles(seen, tiling(spec, None))
    pixels = plan.n_windows * plan.width * plan.height * share
    lines.append(
        f"time       about {_duration(pixels * _seconds_per_pixel(detector))} here: {plan.n_windows:,} windows of "
        f"{plan.width} x {plan.height} px at {seen.gsd:.3g} m"
    )
    wanted = f" --gsd {gsd:g}" if gsd is not None else ""
    name = f'"{file}"' if " " in file else file
    lines.append(f"next       treedet predict {name} crowns.gpkg{wanted}")
    return lines


def _seconds_per_pixel(detector: Detector) -> float:
    """Time the model on noise, after a first run that only warms up."""
    noise = np.random.default_rng(0).integers(0, 255, (1, detector.spec.bands, PROBE_PX, PROBE_PX), dtype=np.uint8)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        detector.model.detect(noise, sides=[0], threshold=0.9, merge=MergeConfig())
        seconds = time.perf_counter() - started
    return seconds / PROBE_PX**2


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe_model(file: str) -> list[str]:
    """Return what a model sees, says and was made of."""
    spec: ModelSpec = model_file.read_spec(file)
    lines = [
        f"model      {file} ({Path(file).stat().st_size / 1e6:.1f} MB)",
        f"network    RetinaNet, {spec.backbone}, levels P{min(spec.levels)} to P{max(spec.levels)}, "
        f"{spec.fpn_channels} channels, {spec.head_convs} head convolutions, {spec.anchors_per_location} anchors",
        f"sees       {spec.bands} bands at {spec.gsd:g} m per pixel; imagery of {spec.gsd_range[0]:g} to "
        f"{spec.gsd_range[1]:g} m",
        f"crowns     {spec.crown_range_m[0]:g} to {spec.crown_range_m[1]:g} m wide",
        f"classes    {', '.join(spec.labels.classes)}",
    ]
    lines += [f"attribute  {_attribute(name, spec)}" for name in spec.labels.attributes]
    for name, point in spec.operating_points.items():
        scores = f" (precision {point.precision:.2f}, recall {point.recall:.2f}, F1 {point.f1:.2f} on validation)"
        lines.append(f"threshold  {name} = {point.threshold:.3g}{'' if math.isnan(point.f1) else scores}")
    if spec.original is not None:
        lines.append(
            f"setting    --setting original runs it as {spec.original.tool} does: windows of "
            f"{spec.original.patch_px} px enlarged to {spec.original.short_side_px}"
        )
    if spec.precision != "auto":
        lines.append(f"precision  {spec.precision} where nobody asks for another")
    if spec.temperature != 1:
        lines.append(f"scores     calibrated: temperature {spec.temperature:.3g}")
    for choice in spec.resolutions:
        how = f"resampled to {spec.gsd:g} m" if choice.mode == "adapt" else "as it is"
        lines.append(
            f"coarse     imagery of about {choice.gsd:g} m is read {how} ({choice.mode}): F1 {choice.adapt_f1:.3f} "
            f"resampled, {choice.native_f1:.3f} as it is, on validation"
        )
    return [*lines, *origin_lines(spec.provenance)]


def _attribute(name: str, spec: ModelSpec) -> str:
    """Return the classes of an attribute, each with its training crowns where they are known."""
    values, facts = spec.labels.attributes[name], spec.heads.get(name, HeadFacts())
    counted = [f"{value} {facts.counts[value]:,}" if value in facts.counts else value for value in values]
    known = " training crowns" if facts.counts else ""
    scaled = f"; temperature {facts.temperature:.3g}" if facts.temperature != 1 else ""
    return f"{name}: {', '.join(counted)}{known}{scaled}"


def _values(column: pd.Series[Any]) -> str:
    """Return how often each value of a column is there, the most frequent first, then crowns without one."""
    counts = column.value_counts()
    texts = [f"{name} {count:,}" for name, count in counts[counts > 0].items()]
    more = [f"{len(texts) - VALUES} more"] if len(texts) > VALUES else []
    missing = [f"no value {column.isna().sum():,}"] if column.isna().any() else []
    return ", ".join([*texts[:VALUES], *more, *missing])


def describe_crowns(file: str) -> list[str]:
    """Return number, CRS, extent, columns, sizes, and how often each label and value of an attribute is there."""
    table = read_crowns(file)
    bounds = ", ".join(f"{v:.6g}" for v in table.total_bounds) if len(table) else "empty"
    crs = table.crs.name if table.crs is not None else "none: pixel coordinates"
    lines = [
        f"crowns     {file}: {len(table):,}",
        f"CRS        {crs}",
        f"extent     {bounds}",
        f"columns    {', '.join(table.columns)}",
    ]
    if len(table):
        low, middle, high = (float(table["diameter_m"].quantile(q)) for q in (0.05, 0.5, 0.95))
        lines.append(f"diameter   {middle:.1f} m (5 % below {low:.1f}, 5 % above {high:.1f})")
        lines.append(f"score      {float(table['score'].min()):.2f} to {float(table['score'].max()):.2f}")
        attributes = [name for name in table.columns if f"{name}_p" in table.columns]
        lines += [f"{name:<10} {_values(table[name])}" for name in ("label", *attributes)]
    return lines
