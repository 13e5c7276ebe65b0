"""The same weights in DeepForest and in treedet: are the crowns the same, and how long does each take?

Run with ``python tests/benchmarks/deepforest_parity.py``. Weights are random, their last layers set so that windows
hold 50 to 300 detections; they travel as a hub folder to DeepForest 2.1, which runs ``predict_tile`` in an
environment of its own, writes them as a Lightning checkpoint, and that is imported. ``--trained`` takes weights that
find the trees of rendered orchards (:mod:`rendered_retinanet`) and a rendered raster instead, and counts twins.
``--size`` takes a smaller raster and then writes nothing unless ``--results`` says where.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from machine import ROOT, commit, machine, versions
from peer import OFFLINE, deepforest_python
from processes import in_process
from rasterio.transform import from_origin
from rendered_retinanet import LEAST_RECALL, figures_on, hub_folder, orchard
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(ROOT / "tests"))
from retinanets import busy_retinanet, noise_window

from treedet.compat.deepforest import import_deepforest
from treedet.compat.difference import difference
from treedet.datasets.scenes import Scene

CACHE = Path.home() / ".cache" / "treedet-benchmarks"
RESULTS = Path(__file__).parent / "results"
FULL = 2000
PER_WINDOW = (50, 300)
TRAINED_SEED = 920_000
"""Of a raster that no training window came from."""
RUNS = {
    "original fp32": ("original", "auto"),
    "original bf16": ("original", "bf16"),
    "treedet fp32": ("treedet", "auto"),
}
"""Setting and precision of the runs of ours."""


@dataclass(frozen=True)
class Inputs:
    """What both programs are given.

    Attributes:
        raster: GeoTIFF.
        hub: Weights, as DeepForest publishes them.
        scene: What the raster shows, where it was rendered.
    """

    raster: Path
    hub: Path
    scene: Scene | None = None


def random_inputs(folder: Path, size: int) -> Inputs:
    """Write a raster of ``size`` pixels a side and, as a hub folder, weights that find something in it."""
    pixels = noise_window(size, blobs=round(size / 400))
    raster = _write_raster(folder, pixels)
    hub = folder / "hub"
    hub.mkdir()
    network = busy_retinanet(np.ascontiguousarray(pixels[:, :400, :400]))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, hub / "model.safetensors")
    config = {"num_classes": 1, "nms_thresh": 0.05, "score_thresh": 0.1, "label_dict": {"Tree": 0}}
    (hub / "config.json").write_text(json.dumps(config))
    return Inputs(raster, hub)


def trained_inputs(folder: Path, size: int, cache: Path) -> Inputs:
    """Write a rendered raster of ``size`` pixels a side; weights that find its trees are trained once."""
    scene = orchard(TRAINED_SEED, side_px=size)
    return Inputs(_write_raster(folder, scene.pixels), hub_folder(cache), scene)


def _write_raster(folder: Path, pixels: np.ndarray) -> Path:
    _, height, width = pixels.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(folder / "raster.tif", "w", transform=from_origin(5e5, 5.4e6, 0.1, 0.1), **profile) as file:
        file.write(pixels)
    return folder / "raster.tif"


def agreement(theirs: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    """Say how many boxes ``[N, 5]`` with scores are the same within a pixel, and how far the others are off."""
    if not len(theirs) or not len(ours):
        return {"same_within_1_px": 0, "largest_px": None, "largest_score": None}
    apart = np.abs(theirs[:, None, :4] - ours[None, :, :4]).max(axis=2)
    i, j = linear_sum_assignment(np.minimum(apart, 100))
    close = apart[i, j] <= 1
    return {
        "same_within_1_px": int(close.sum()),
        "identical": int((apart[i, j] == 0).sum()),
        "largest_px": float(apart[i, j][close].max(initial=0)),
        "largest_score": float(np.abs(theirs[i, 4] - ours[j, 4])[close].max(initial=0)),
    }


def measure(folder: Path, given: Inputs, cache: Path, asked: tuple[str, ...]) -> dict[str, Any]:
    """Run DeepForest, then what is asked for, and return the figures."""
    raster, checkpoint = given.raster, folder / "weights.ckpt"
    theirs = in_process(
        "predict_weights",
        python=deepforest_python(cache),
        script="deepforest_worker.py",
        env=OFFLINE,
        raster=str(raster),
        weights=str(given.hub),
        checkpoint=str(checkpoint),
    )
    low, high = PER_WINDOW
    if given.scene is None and not low <= min(theirs["windows"]) <= max(theirs["windows"]) <= high:
        raise SystemExit(f"windows hold {theirs['windows']} detections, {low} to {high} were wanted")
    boxes = np.array(theirs["boxes"])
    # Boxes that its network draws beside the window are clipped to lines; a table of crowns holds none.
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, without_area = boxes[solid], int(np.count_nonzero(~solid))
    imported = import_deepforest(checkpoint)
    imported.save(folder / "imported.safetensors")
    figures: dict[str, Any] = {
        "report": imported.report.lines(),
        "deepforest": {k: v for k, v in theirs.items() if k not in ("boxes", "labels")}
        | {"crowns": len(boxes), "without_area": without_area},
    }
    runs: dict[str, np.ndarray] = {}
    for name in asked:
        setting, precision = RUNS[name]
        found = in_process(
            "imported",
            raster=str(raster),
            model=str(folder / "imported.safetensors"),
            setting=setting,
            precision=precision,
        )
        runs[name] = np.array(found.pop("boxes")).reshape(-1, 5)
        figures[name] = found | {"times_as_fast": round(theirs["wall_s"] / found["wall_s"], 2)}
    for name, found in runs.items():
        figures[name] |= agreement(boxes, found) | {"difference": vars(difference(boxes[:, :4], found[:, :4]))}
    if given.scene is not None:
        for name, found in {"deepforest": boxes, **runs}.items():
            figures[name] |= figures_on(given.scene, found[:, :4])
        if figures["deepforest"]["crown_recall"] < LEAST_RECALL:
            raise SystemExit(
                f"weights find {figures['deepforest']['crown_recall']:.0%} of the rendered trees; train longer"
            )
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trained", action="store_true", help="weights and a raster with rendered trees")
    parser.add_argument("--size", type=int, default=FULL, help="pixels a side of the raster")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for DeepForest's environment")
    parser.add_argument("--results", type=Path, help="folder to write the result to")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="which runs of ours")
    asked = parser.parse_args(arguments)
    before = round(os.getloadavg()[0], 2)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="treedet-parity-") as name:
        folder = Path(name)
        given = (
            trained_inputs(folder, asked.size, asked.cache) if asked.trained else random_inputs(folder, asked.size)
        )
        figures = measure(folder, given, asked.cache, tuple(asked.runs))
    answer = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "load_before": before,
        "size": asked.size,
        "seconds": round(time.perf_counter() - started),
        "figures": figures,
    }
    text = json.dumps(answer, indent=1)
    print(text)
    target = asked.results or (RESULTS if asked.size == FULL else None)
    if target is not None:
        kind = "deepforest_trained" if asked.trained else "deepforest_parity"
        (target / f"{kind}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
