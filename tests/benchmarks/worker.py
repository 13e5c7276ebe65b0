"""What is measured in a process of its own; started by :mod:`processes`."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from treedet.core.boxes import open_sides
from treedet.core.original import Setting
from treedet.inference.detector import Detector
from treedet.inference.loading import bundled_model, load
from treedet.inference.options import PredictOptions
from treedet.inference.setup import prepare
from treedet.models import model_file
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import Precision
from treedet.models.blobs import BlobDetector
from treedet.rasters.stream import stream_tiles


def predict(raster: str, output: str, *, precision: Precision = "auto", keep: bool = True) -> dict[str, Any]:
    """Time a prediction from file to file, loading of the model excluded.

    Args:
        raster: Raster to predict on.
        output: File to write.
        precision: Of the network.
        keep: Set the allocator as the command line does.
    """
    if keep:
        keep_memory()
    detector = load(device="cpu", precision=precision)
    started, cpu = time.perf_counter(), time.process_time()
    summary = detector.predict_to_file(raster, output, overwrite=True)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "network_s": summary.network_s,
        "crowns": summary.crowns,
        "windows": summary.windows,
        "precision": summary.precision,
    }


def read(raster: str) -> dict[str, Any]:
    """Time reading alone: all tiles of the plan that a prediction would work off."""
    model = BlobDetector(model_file.read_spec(bundled_model()))
    started = time.perf_counter()
    with prepare(raster, model, PredictOptions()) as setup:
        windows = sum(1 for _ in stream_tiles(setup.raster, setup.job.plan, config=setup.job.stream))
    return {"wall_s": time.perf_counter() - started, "windows": windows}


def network(raster: str) -> dict[str, Any]:
    """Time the detector alone, on tiles that were read before."""
    keep_memory()
    model = load(device="cpu").model
    with prepare(raster, model, PredictOptions()) as setup:
        job, grid = setup.job, setup.job.plan.grid
        tiles = [tile for _, tile in stream_tiles(setup.raster, job.plan, config=job.stream)]
    started = time.perf_counter()
    for tile in tiles:
        sides = [open_sides(tile.window.box, width=grid.width, height=grid.height)]
        model.detect(tile.pixels[None], sides=sides, threshold=job.threshold, merge=job.merge)
    return {"wall_s": time.perf_counter() - started, "windows": len(tiles)}


def memory(raster: str, output: str) -> dict[str, Any]:
    """Measure the peak of resident memory above its level before the run, blobs standing in for the network."""
    detector = Detector(BlobDetector())
    _forget_peak()
    before = _status_kib("VmRSS")
    started = time.perf_counter()
    summary = detector.predict_to_file(raster, output, overwrite=True)
    wall = time.perf_counter() - started
    return {
        "before_mib": before / 1024,
        "above_mib": (_status_kib("VmHWM") - before) / 1024,
        "crowns": summary.crowns,
        "wall_s": wall,
    }


def imported(raster: str, model: str, *, setting: Setting, precision: Precision) -> dict[str, Any]:
    """Time a prediction with imported weights, file to file, and return its boxes in pixels with their scores.

    Args:
        raster: Raster to predict on.
        model: Model file.
        setting: ``treedet``, or ``original`` for DeepForest's own windows.
        precision: Of the network.
    """
    keep_memory()
    detector = load(model, device="cpu", precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "crowns.csv"
        started = time.perf_counter()
        summary = detector.predict_to_file(raster, output, setting=setting)
        wall = time.perf_counter() - started
        rows = pd.read_csv(output)[["xmin", "ymin", "xmax", "ymax", "score"]].to_numpy()
    return {
        "wall_s": wall,
        "network_s": summary.network_s,
        "windows": summary.windows,
        "window_px": summary.window_px,
        "precision": summary.precision,
        "crowns": summary.crowns,
        "boxes": rows.tolist(),
        "peak_mib": _status_kib("VmHWM") / 1024,
    }


WORK = {function.__name__: function for function in (predict, read, network, memory, imported)}


def _forget_peak() -> None:
    """Set the peak back to the present level; where Linux does not let us, the peak since the start stays."""
    reset = Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")
    except OSError:
        return


def _status_kib(name: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0])


if __name__ == "__main__":
    work, arguments, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(WORK[work](**json.loads(arguments))))
