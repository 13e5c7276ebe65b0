"""The data of a fine-tuning: what windows are drawn from, and a digest that tells one set of data from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from treedet.core.spec import ModelSpec
from treedet.datasets.annotation_set import AnnotationSet
from treedet.datasets.crops import CropSet
from treedet.datasets.ground import Ground, ground_of
from treedet.datasets.samples import Pool
from treedet.datasets.scene_pool import scene_pool
from treedet.datasets.split import Part, Split
from treedet.rasters.fingerprint import known_by
from treedet.training.config import TrainConfig
from treedet.training.head_plan import HeadPlan
from treedet.training.recipe import Recipe

SAMPLED_BYTES = 2**20


def pools_of(
    parts: Sequence[Part], heads: HeadPlan, spec: ModelSpec, config: TrainConfig, recipe: Recipe, *, labelled: bool
) -> tuple[Pool, ...]:
    """Return what windows are drawn from: a pool for each set, and one of rendered scenes where they are asked for.

    With ``labelled`` only ground with a crown of which something is known.
    """
    said = [heads.said(part.plot) for part in parts]
    chosen = [
        (part, rows) for part, rows in zip(parts, said, strict=True) if not labelled or (rows[part.mine] >= 0).any()
    ]
    if not chosen:
        return ()
    share = recipe.memory_mb / len(chosen)
    pools: dict[AnnotationSet | None, list[Ground]] = {}
    for part, rows in chosen:
        ground = ground_of(
            part,
            spec.labels.classes,
            finest_gsd=config.samples.finest_gsd,
            memory_mb=share,
            said=rows if heads.schema else None,
        )
        pools.setdefault(part.plot.origin, []).append(ground)
    found = [
        Pool(grounds) if origin is None else Pool(grounds, weight=origin.weight, mosaic=origin.mosaic)
        for origin, grounds in pools.items()
    ]
    if recipe.scenes and not labelled:
        found.append(scene_pool(recipe.scenes, gsd=spec.gsd, weight=recipe.scenes_weight, seed=config.seed))
    return tuple(found)


def data_digest(parts: Sequence[Part], heads: HeadPlan, crops: CropSet | None = None) -> str:
    """Return a SHA-256 of all that is learned from.

    Sizes and a sample of the bytes of each raster; all boxes, classes, attributes and areas; files and classes of
    crops.
    """
    total = hashlib.sha256()
    if crops is not None:
        total.update("\n".join([crops.attribute, str(crops.gsd), *crops.names, *crops.values]).encode())
    for part in parts:
        path = Path(part.plot.path)
        if path.is_file():
            total.update(str(path.stat().st_size).encode())
            with path.open("rb") as file:
                total.update(file.read(SAMPLED_BYTES))
        total.update(np.ascontiguousarray(part.plot.boxes).tobytes())
        total.update("\n".join(str(name) for name in part.plot.labels).encode())
        total.update(heads.said(part.plot).tobytes())
        total.update(np.ascontiguousarray(part.mine).tobytes())
        total.update(np.ascontiguousarray(part.plot.ignored).tobytes())
        total.update(shapely.to_wkb(part.area) if part.area is not None else b"whole")
        if part.plot.origin is not None:
            total.update(repr(part.plot.origin).encode())
    return total.hexdigest()


def data_facts(split: Split, heads: HeadPlan, recipe: Recipe) -> dict[str, Any]:
    """Return what is learned from, JSON-able."""
    facts: dict[str, Any] = {
        "data": data_digest([*split.train, *split.validation], heads, recipe.crops),
    }
    if recipe.scenes:
        facts["scenes"] = f"{recipe.scenes}, weight {recipe.scenes_weight:g}"
    if recipe.crops is not None:
        facts["crops"] = f"{recipe.crops.path}: {len(recipe.crops)}"
    return facts


def rasters_met(split: Split, recipe: Recipe, start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rasters that the new model has met, by their use: those of the starting model among them."""
    before = {} if recipe.from_scratch else start
    found: dict[str, Any] = {
        use: known_by((part.plot.path for part in parts), before.get(use))
        for use, parts in (("rasters", split.train), ("validation rasters", split.validation))
    }
    if calibrated := before.get("calibration rasters"):
        found["calibration rasters"] = calibrated
    return found
