"""Renders the sample data of the project: ``python -m treedet.datasets.sample data/``.

A raster of one hectare or so with some of everything, the boxes of its crowns, an AOI, and a page that says so.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from affine import Affine

from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.datasets.scene_light import Camera
from treedet.datasets.scenes import STATUSES, Scene, SceneConfig, render_scene
from treedet.errors import OutputError
from treedet.rasters.write import RasterWriter, WriteOptions
from treedet.vectors.writers import write_area, write_crowns

SAMPLE_SEED = 41
SAMPLE_CONFIG = SceneConfig(
    kind="mixed",
    gsd=0.1,
    width_px=1000,
    height_px=800,
    sun_azimuth_deg=150.0,
    sun_elevation_deg=42.0,
    cover=0.5,
    dead_share=0.12,
    ground="grass",
    camera=Camera(noise=1.5),
)
_ORIGIN = (500_000.0, 5_400_000.0)
_EPSG = 32632
_AOI_INSET_M = 6.0

_log = logging.getLogger("treedet")

_README = """# Sample data

| file | what it is |
|---|---|
| `sample.tif` | RGB raster, {width} x {height} pixels at {gsd:g} m, EPSG:{epsg}, tiled |
| `sample_crowns.gpkg` | layer `crowns`: the true boxes of {count} crowns, with their `status` ({dead} dead) |
| `sample_aoi.gpkg` | layer `aoi`: one polygon, {inset:g} m inside the raster |

Nothing here was photographed. The scene is rendered by `treedet.datasets.scenes`, so its truth is exact and nobody
else's licence applies: it is part of treedet and under the same licence. A crown is in the truth when at least a
quarter of it is seen from above; roofs, cars, stones and shrubs are not.

The files are made, pixel for pixel, by

    python -m treedet.datasets.sample data/ --overwrite

Real imagery is harder than this. Use it to try the commands and to see the formats, not to judge a model.
"""


def sample_grid(config: SceneConfig = SAMPLE_CONFIG) -> Grid:
    """Return where the sample lies: UTM zone 32 north, square pixels of ``config.gsd`` map units."""
    transform = Affine(config.gsd, 0.0, _ORIGIN[0], 0.0, -config.gsd, _ORIGIN[1])
    crs = pyproj.CRS.from_epsg(_EPSG)
    return Grid.build(crs, transform, width=config.width_px, height=config.height_px)


def write_sample(
    folder: str | Path, *, config: SceneConfig = SAMPLE_CONFIG, seed: int = SAMPLE_SEED, overwrite: bool = False
) -> Scene:
    """Render the sample and write its four files into a folder, which is made if it is not there.

    Args:
        folder: Where ``sample.tif``, ``sample_crowns.gpkg``, ``sample_aoi.gpkg`` and ``README.md`` go.
        config: What the scene shows.
        seed: Seed of the scene.
        overwrite: Replace files that exist.

    Returns:
        The scene, with its grid on the map.

    Raises:
        OutputError: A file exists and ``overwrite`` is False.
    """
    target = Path(folder)
    paths = [target / name for name in ("sample.tif", "sample_crowns.gpkg", "sample_aoi.gpkg", "README.md")]
    present = [path.name for path in paths if path.exists()]
    if present and not overwrite:
        raise OutputError(f"{target} holds {', '.join(present)}; name another folder, or ask for overwrite")
    target.mkdir(parents=True, exist_ok=True)
    scene = replace(render_scene(config, seed=seed), grid=sample_grid(config))
    options = WriteOptions(block_px=256, compression="jpeg", jpeg_quality=90)
    with RasterWriter(paths[0], scene.grid, options=options, overwrite=overwrite) as writer:
        writer.write(scene.pixels)
    write_crowns(scene_table(scene, source=paths[0].name), paths[1], overwrite=overwrite)
    write_area(_aoi(scene.grid), paths[2], crs=scene.grid.crs, overwrite=overwrite)
    page = _README.format(
        width=config.width_px,
        height=config.height_px,
        gsd=config.gsd,
        epsg=_EPSG,
        count=len(scene.boxes),
        dead=int(scene.status.sum()),
        inset=_AOI_INSET_M,
    )
    paths[3].write_text(page, encoding="utf-8")
    _log.info("wrote a sample of %d crowns to %s", len(scene.boxes), target)
    return scene


def scene_table(scene: Scene, *, source: str) -> gpd.GeoDataFrame:
    """Return a scene's truth as a crowns table with the attribute ``status``; ``source`` names its raster."""
    boxes, grid = scene.boxes.astype(np.float64), scene.grid
    room = np.concatenate([boxes[:, :2], (grid.width, grid.height) - boxes[:, 2:]], axis=1)
    crowns = CrownArrays(
        boxes=boxes,
        scores=np.ones(len(boxes), np.float32),
        classes=np.zeros(len(boxes), np.int64),
        cut=np.zeros(len(boxes), bool),
        edge=np.asarray(room.min(axis=1, initial=np.inf) <= 1),
        attributes={"status": np.eye(len(STATUSES), dtype=np.float32)[scene.status]},
    )
    return to_table(crowns, grid, LabelSchema(attributes={"status": STATUSES}), source=source)


def _aoi(grid: Grid) -> shapely.Polygon:
    left, bottom, right, top = shapely.union_all(grid.to_map(np.array([grid.full_window.box], dtype=float))).bounds
    inset = _AOI_INSET_M
    return shapely.box(left + inset, bottom + inset, right - inset, top - inset)


if __name__ == "__main__":
    write_sample(sys.argv[1] if len(sys.argv) > 1 else "data", overwrite="--overwrite" in sys.argv[2:])
