"""Overhead and memory of a run over many small files, and two workers against one.

``python tests/benchmarks/campaigns.py files`` repeats four rendered tiles of 200 to 1000 px 2,000 times, as ground of
their own and as one ground, finds their blobs, and prints milliseconds a file besides the detector's, and memory.
``... workers TILES`` predicts a folder with the bundled model in one process with two threads, in one with one
thread, in two processes with one thread each, and by two workers of Dask.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from processes import in_process

SIDES = (200, 400, 700, 1000)
FILES = 2000
COLUMNS = 50
WORKERS = (
    ("one, 2 threads", 1, 2),
    ("one, 1 thread", 1, 1),
    ("two, 1 thread each", 2, 1),
    ("Dask, 2 workers", 0, 1),
)
"""Parts, 0 for workers of Dask, and threads of each."""


def write_files(folder: Path, count: int, *, joined: bool) -> None:
    """Write tiles with painted disks: side by side with the first pixel of the next, or apart."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = [_picture(side, rng) for side in SIDES]
    step = max(SIDES) * (0.1 if joined else 0.15)
    for number in range(count):
        pixels = pictures[number % len(pictures)]
        x, y = 500_000 + number % COLUMNS * step, 5_400_000 - number // COLUMNS * step
        _, height, width = pixels.shape
        with rasterio.open(
            folder / f"{number:06}.tif",
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=3,
            dtype="uint8",
            crs="EPSG:32632",
            transform=Affine(0.1, 0, x, 0, -0.1, y),
            compress="lzw",
        ) as dataset:
            dataset.write(pixels)


def _picture(side: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = np.zeros((3, side, side), np.uint8)
    yy, xx = np.mgrid[:side, :side] + 0.5
    for x in range(40, side - 20, 80):
        for y in range(40, side - 20, 80):
            pixels[:, (xx - x) ** 2 + (yy - y) ** 2 <= rng.uniform(8, 15) ** 2] = 200
    return pixels


def measure_files(count: int) -> list[dict[str, Any]]:
    """Measure a tenth of the files and all of them, apart and joined, each in a process of its own."""
    found = []
    for joined in (False, True):
        for number in (max(1, count // 10), count):
            with tempfile.TemporaryDirectory(prefix="treedet-campaign-") as folder:
                write_files(Path(folder) / "tiles", number, joined=joined)
                found.append(
                    {"joined": joined, **in_process("run_files", script="campaigns_worker.py", folder=folder)}
                )
    return found


def measure_workers(tiles: Path) -> dict[str, float]:
    """Return seconds of one process with two threads, one with one, two with one each, and two workers of Dask."""
    seconds = {}
    for name, parts, threads in WORKERS:
        with tempfile.TemporaryDirectory(prefix="treedet-campaign-") as folder:
            output = Path(folder) / "crowns.gpkg"
            command = [sys.executable, "-m", "treedet", "predict", str(tiles), str(output), "--no_look"]
            started = time.perf_counter()
            env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            shares = [["--part", f"{i}/{parts}"] for i in range(1, parts + 1)] if parts else [["--workers", "2"]]
            if parts == 1:
                shares = [[]]
            workers = [subprocess.Popen([*command, *share], env=env, stdout=subprocess.DEVNULL) for share in shares]
            if any(worker.wait() for worker in workers):
                raise RuntimeError(f"{name}: a process failed")
            if parts > 1:
                merge = [sys.executable, "-m", "treedet", "merge", f"{output}.parts", str(output)]
                subprocess.run(merge, check=True, stdout=subprocess.DEVNULL)
            seconds[name] = time.perf_counter() - started
    return seconds


def main() -> int:
    """Measure what is asked for and print it as JSON lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["files", "workers"])
    parser.add_argument("tiles", nargs="?", type=Path, help="folder of rasters, for workers")
    parser.add_argument("--count", type=int, default=FILES)
    asked = parser.parse_args()
    found = measure_files(asked.count) if asked.what == "files" else [measure_workers(asked.tiles)]
    for figures in found:
        print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
