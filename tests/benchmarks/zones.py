"""Time and memory of counting crowns by zones, one thread, from a file of crowns to the table.

Run with ``python tests/benchmarks/zones.py [crowns] [zones]``; prints JSON. There are 100 crowns of 2 to 12 metres on
a hectare; zones are stands with 24 corners that overlap their neighbours a little, in another CRS than the crowns.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from machine import commit, machine, versions

from treedet.core import crowns as crowns_table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.inference.summarise import summarise
from treedet.inference.zone_options import ZoneOptions
from treedet.vectors.writers import write_crowns

UTM = "EPSG:32632"
CORNER = (500_000.0, 5_400_000.0)
LABELS = LabelSchema(attributes={"status": ("alive", "dead"), "species": ("PISY", "PIAB", "BEPE", "QURO")})


def forest(n, side_m):
    """Return a table of ``n`` crowns on a square."""
    rng = np.random.default_rng(0)
    grid = Grid.build(
        gpd.GeoSeries([], crs=UTM).crs,
        Affine(0.1, 0, CORNER[0], 0, -0.1, CORNER[1]),
        width=round(side_m / 0.1),
        height=round(side_m / 0.1),
    )
    centre, size = rng.uniform(0, grid.width, (n, 2)), rng.uniform(20, 120, (n, 2))
    # As prediction writes them: from top to bottom.
    centre = centre[np.argsort(centre[:, 1] // 500, kind="stable")]
    crowns = CrownArrays(
        boxes=np.concatenate([centre - size / 2, centre + size / 2], axis=1),
        scores=rng.random(n).astype(np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
        attributes={
            name: rng.dirichlet(np.ones(len(k)), n).astype(np.float32) for name, k in LABELS.attributes.items()
        },
    )
    return crowns_table.to_table(crowns, grid, LABELS, source="ortho.tif")


def stands(n, side_m):
    """Return ``n`` polygons with 24 corners on the same square, in longitude and latitude."""
    rng = np.random.default_rng(1)
    per_side = int(np.ceil(np.sqrt(n)))
    cell = side_m / per_side
    row, column = np.divmod(np.arange(n), per_side)
    centre = np.stack([column + 0.5, -row - 0.5], axis=1) * cell + np.array(CORNER)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = cell * rng.uniform(0.4, 0.6, (n, 24))
    corners = centre[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    table = gpd.GeoDataFrame({"stand": np.arange(n)}, geometry=shapely.polygons(corners), crs=UTM)
    return table.to_crs(4326)


def measure(crowns, zones):
    side_m = np.sqrt(crowns / 100 * 1e4)
    with tempfile.TemporaryDirectory() as folder:
        table = forest(crowns, side_m)
        stands(zones, side_m).to_parquet(Path(folder) / "zones.parquet")
        rows = {}
        for suffix in (".parquet", ".gpkg"):
            path = Path(folder) / f"crowns{suffix}"
            write_crowns(table, path)
            rows[suffix] = str(path)
        del table
        options = ZoneOptions(zones=str(Path(folder) / "zones.parquet"), zone_id="stand")
        # In processes of their own: making the crowns has taken the memory here already.
        return [_in_process(path, options) for path in rows.values()]


def _in_process(path, options):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_timed, path, options).result()


def _timed(path, options):
    before_mib = _peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    found = summarise(path, options)
    return {
        "crowns": Path(path).suffix,
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "inside": found.facts.inside,
        "in_several": found.facts.several,
        "cover": round(float(found.table["cover"].mean()), 4),
        "peak_above_mib": _peak_mib() - before_mib,
    }


def _peak_mib():
    """Return the most memory this process had, in MiB; what getrusage says is that of its parent too."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    crowns, zones = (*map(int, sys.argv[1:]), *(1_000_000, 10_000)[len(sys.argv) - 1 :])
    about = {"commit": commit(), "machine": machine(), "versions": versions(), "crowns": crowns, "zones": zones}
    sys.stdout.write(json.dumps({**about, "rows": measure(crowns, zones)}, indent=1) + "\n")
