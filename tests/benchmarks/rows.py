"""The rows of the main job: each measures one promise and returns its figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import imagery
import merging
import numpy as np
from figures import Figure
from peer import deepforest_python, deepforest_run
from processes import in_process

from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.labels import LabelSchema
from treedet.rasters.write import WriteOptions
from treedet.vectors.writers import SUFFIXES, open_writer

FULL_SIZE = 4000
"""Side in pixels, at 0.10 m, of the raster that targets are stated for."""
PART = 100_000
"""Crowns handed to a writer at a time."""
LAYOUTS = {
    "tiled JPEG": imagery.TILED_JPEG,
    "tiled DEFLATE": imagery.TILED_DEFLATE,
    "striped LZW": imagery.STRIPED_LZW,
}


@dataclass
class Bench:
    """What rows share.

    Attributes:
        size: Side in pixels at 0.10 m; everything else scales with it.
        cache: Folder of DeepForest's environment.
        rounds: How often DeepForest is timed, each time between two runs of treedet.
        say: Tells how far it is.
        runs: Runs of treedet as the command line does them, once timed.
    """

    size: int
    cache: Path
    rounds: int
    say: Callable[[str], None]
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def million(self) -> int:
        """A million at full size; fewer on smaller ground."""
        return max(1000, round(1e6 * (self.size / FULL_SIZE) ** 2))


def speed(bench: Bench) -> list[Figure]:
    """Time the bundled model from file to file, and DeepForest's ``predict_tile`` on the same raster."""
    single: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    peer: list[dict[str, Any]] = []
    bench.runs.clear()

    with _raster(bench, 0.1, imagery.TILED_DEFLATE) as raster:
        deepforest_python(bench.cache)  # made before any clock runs
        for number in range(bench.rounds + 1):
            bench.runs.append(_predict(bench, raster))
            single.append(_predict(bench, raster, precision="fp32"))
            plain.append(_predict(bench, raster, keep=False))
            if number < bench.rounds:
                peer.append(deepforest_run(raster, bench.cache))
                bench.say(f"DeepForest {peer[-1]['wall_s']:.1f} s")
    ours, fp32, theirs = _wall(bench.runs), _wall(single), _wall(peer)
    return [
        Figure("treedet", ours, "s"),
        Figure("treedet in fp32", fp32, "s"),
        Figure("treedet with glibc's own memory settings", _wall(plain), "s"),
        Figure("DeepForest 2.1 predict_tile", theirs, "s"),
        Figure("times as fast as DeepForest", theirs / ours, at_least=15),
        Figure("times as fast as DeepForest, in fp32", theirs / fp32, at_least=8),
        # Tells a busy machine from a slow program: on two free cores it is at most twice the time.
        Figure("treedet, processor time", median(run["cpu_s"] for run in bench.runs), "s"),
        Figure("DeepForest, processor time", median(run["cpu_s"] for run in peer), "s"),
        Figure("crowns found by treedet", bench.runs[-1]["crowns"]),
        Figure("crowns found by DeepForest with random weights", peer[-1]["crowns"]),
        *_each("treedet", bench.runs),
        *_each("treedet in fp32", single),
        *_each("treedet with glibc's own memory settings", plain),
        *_each("DeepForest", peer),
    ]


def outside(bench: Bench) -> list[Figure]:
    """Measure the share of a run that is not spent in the network; uses the runs of ``speed`` where it ran."""
    if not bench.runs:
        with _raster(bench, 0.1, imagery.TILED_DEFLATE) as raster:
            bench.runs.extend(_predict(bench, raster) for _ in range(bench.rounds + 1))
    shares = [100 * (1 - run["network_s"] / run["wall_s"]) for run in bench.runs]
    return [
        Figure("time outside the network", median(shares), "%", at_most=5),
        *(Figure(f"time outside the network, run {i}", share, "%") for i, share in enumerate(shares, 1)),
    ]


def fine(bench: Bench) -> list[Figure]:
    """Time the same ground at 2.5 cm without overviews: reading alone, the network alone, and both together."""
    figures, network_s = [], 0.0
    for layout, options in LAYOUTS.items():
        with _raster(bench, 0.025, options) as raster:
            if not network_s:
                network_s = in_process("network", raster=str(raster))["wall_s"]
                figures.append(Figure("network alone", network_s, "s"))
            read_s = in_process("read", raster=str(raster))["wall_s"]
            total_s = _predict(bench, raster)["wall_s"]
        longer = max(read_s, network_s)
        figures += [
            Figure(f"{layout}: reading alone", read_s, "s"),
            Figure(f"{layout}: total", total_s, "s"),
            Figure(f"{layout}: total over the longer of both", total_s / longer, at_most=1.5),
        ]
    return figures


def memory(bench: Bench) -> list[Figure]:
    """Measure the peak of memory above the level after loading, for rasters of very different size."""
    small, large = (bench.size, bench.size), 10 * bench.size
    tiled = _peaks(bench, "tiled", imagery.TILED_DEFLATE, [small, (large, large)])
    striped = _peaks(bench, "striped", imagery.STRIPED_DEFLATE, [small, (large, large // 4)])
    return tiled + striped


def merging_row(bench: Bench) -> list[Figure]:
    """Time the merging of detections, at once and row by row, in open and closed canopy."""
    figures = []
    sizes = [bench.million // 10, bench.million // 5, bench.million]
    for canopy in merging.CANOPIES:
        per_box = []
        for size in sizes:
            found = merging.measure(size, canopy)
            per_box.append(found["rows_s"] / found["boxes"])
            limit = 5.0 if size == bench.million else None
            name = f"{canopy} canopy, {size:,} boxes"
            figures.append(Figure(f"{name} at once", found["at_once_s"], "s", at_most=limit))
            figures.append(Figure(f"{name} row by row", found["rows_s"], "s", at_most=limit))
            bench.say(f"{name}: {found['at_once_s']:.2f} s, {found['rows_s']:.2f} s")
        # n log n over a factor of ten is 1.2; quadratic would be 10.
        growth = per_box[-1] / per_box[0]
        figures.append(Figure(f"{canopy} canopy, time per box, most over fewest boxes", growth, at_most=1.5))
    return figures


def writers(bench: Bench) -> list[Figure]:
    """Time writing crowns to each format, and building the table that is written."""
    schema = LabelSchema()
    started = time.perf_counter()
    parts = list(_tables(bench.million, schema))
    count = f"{bench.million:,} crowns"
    figures = [Figure(f"{count}: building the table", time.perf_counter() - started, "s")]
    side = 40 * (int(bench.million**0.5) + 1)
    with tempfile.TemporaryDirectory(prefix="treedet-benchmark-") as folder:
        for suffix in SUFFIXES:
            path = Path(folder) / f"crowns{suffix}"
            started = time.perf_counter()
            with open_writer(path, schema=schema, crs=parts[0][0].crs, raster_size=(side, side)) as writer:
                for table, boxes in parts:
                    writer.append(table, boxes)
                writer.finish({})
            figures.append(Figure(f"{count} to {suffix}", time.perf_counter() - started, "s"))
            bench.say(f"{suffix} {figures[-1].text}")
            for file in Path(folder).iterdir():
                file.unlink()
    return figures


ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    "speed": speed,
    "outside": outside,
    "fine": fine,
    "memory": memory,
    "merging": merging_row,
    "writers": writers,
}


@contextmanager
def _raster(bench: Bench, gsd: float, options: WriteOptions) -> Iterator[Path]:
    """Write woodland of the benchmark's ground at a GSD, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="treedet-benchmark-") as folder:
        side = round(bench.size * 0.1 / gsd)
        bench.say(f"writing {side:,} x {side:,} px, {options.compression}")
        yield imagery.write_forest(Path(folder) / "wood.tif", side, gsd, options)


def _predict(bench: Bench, raster: Path, **how: Any) -> dict[str, Any]:
    found = in_process("predict", raster=str(raster), output=str(raster.with_suffix(".gpkg")), **how)
    bench.say(f"treedet {found['precision']} {found['wall_s']:.2f} s, {found['network_s']:.2f} s in the network")
    return found


def _wall(runs: list[dict[str, Any]]) -> float:
    return float(median(run["wall_s"] for run in runs))


def _each(name: str, runs: list[dict[str, Any]]) -> list[Figure]:
    """Return the single runs behind a median, where there are several."""
    return [Figure(f"{name}, run {i}", run["wall_s"], "s") for i, run in enumerate(runs, 1) if len(runs) > 1]


def _peaks(bench: Bench, name: str, options: WriteOptions, sizes: list[tuple[int, int]]) -> list[Figure]:
    figures, above = [], []
    for width, height in sizes:
        with tempfile.TemporaryDirectory(prefix="treedet-benchmark-") as folder:
            raster, tile = Path(folder) / "disks.tif", min(bench.size // 2, 500)
            bench.say(f"writing {width:,} x {height:,} px, {name}")
            painted = imagery.write_disks(raster, width=width, height=height, tile=tile, options=options)
            found = in_process("memory", raster=str(raster), output=str(raster.with_suffix(".gpkg")))
        above.append(found["above_mib"])
        what = f"{name}, {width:,} x {height:,} px"
        figures.append(Figure(f"{what}: peak above the level after loading", found["above_mib"], "MiB"))
        figures.append(
            Figure(f"{what}: crowns found", found["crowns"], at_least=float(painted), at_most=float(painted))
        )
        figures.append(Figure(f"{what}: time", found["wall_s"], "s"))
        bench.say(f"{what}: {figures[-3].text}, {found['crowns']:,} of {painted:,} disks")
    return [*figures, Figure(f"{name}: peak of the largest over the smallest", above[-1] / above[0], at_most=1.2)]


def _tables(count: int, schema: LabelSchema) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield crowns on a lattice in parts, as tables and as pixel boxes."""
    rng = np.random.default_rng(0)
    across = int(count**0.5) + 1
    where = imagery.grid(40 * across, 40 * across, 0.1)
    for first in range(0, count, PART):
        number = np.arange(first, min(count, first + PART))
        centre = np.stack([number % across, number // across], axis=1) * 40 + 20
        half = rng.uniform(8, 19, (len(number), 2))
        crowns = CrownArrays(
            boxes=np.concatenate([centre - half, centre + half], axis=1),
            scores=rng.random(len(number)).astype(np.float32),
            classes=np.zeros(len(number), np.int64),
            cut=np.zeros(len(number), bool),
            edge=np.zeros(len(number), bool),
        )
        yield to_table(crowns, where, schema, source="wood.tif", first_id=first + 1), crowns.boxes
