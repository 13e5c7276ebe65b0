"""Fine-tuning, measured on real annotation: ``python tests/benchmarks/fine_tuning.py --data DATA``.

Each row runs ``treedet train`` and ``treedet predict`` as a user would. Rows:

- ``pasture``: 25 cm tiles and one shapefile; trained on 01 and 02, validated on 03, scored on 04, once for each seed.
- ``classes``: an overfit check with Alive and Dead as classes, from a CSV; trained and scored on the same image.
- ``readers``: a million crowns from a GeoPackage.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyproj
import shapely
import torch
from affine import Affine
from machine import commit, machine, versions

from treedet.core import crowns as crowns_table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.detection import count, scores
from treedet.models import model_file
from treedet.vectors.truth import read_annotations
from treedet.vectors.writers import write_crowns

RESULTS = Path(__file__).resolve().parent / "results" / "fine_tuning.json"


def treedet(*arguments: object) -> float:
    """Run a command and return its seconds; its last lines are shown where it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "treedet", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - started


def score(detector: Detector, plot: AnnotatedRaster) -> dict[str, float]:
    """Return recall, precision and F1 at IoU 0.4 at the model's default threshold, as a user would predict."""
    table = detector.predict(plot.path)
    with plot.open() as raster:
        found = np.asarray(shapely.bounds(raster.to_grid(table.geometry.to_numpy()))).reshape(-1, 4)
    s = scores([count(plot.boxes, found)])
    return {"recall": round(s.recall, 4), "precision": round(s.precision, 4), "F1": round(s.f1, 4)}


def pasture(data: Path, folder: Path, seeds: Sequence[int], rest: Sequence[str]) -> dict[str, Any]:
    """Fine-tune on two tiles, validate on the third, and score the fourth before and after."""
    place = data / "pasture-25cm"
    test = AnnotatedRaster(place / "tile04.tif", place / "BOXES.shp")
    before = score(load(), test)
    runs = []
    for seed in seeds:
        model = folder / f"pasture-{seed}.safetensors"
        command = ["train", place / "tile0[12].tif", place / "BOXES.shp", model]
        command += ["--validation", place / "tile03.tif", "--complete", "--seed", seed, *rest]
        seconds = treedet(*command)
        stored = load(model)
        facts = {"seed": seed, "minutes": round(seconds / 60, 1), **score(stored, test)}
        facts["validation F1"] = stored.spec.provenance["validation"]["f1"]
        facts["best epoch"] = stored.spec.provenance["best epoch"]
        print(facts, flush=True)
        runs.append(facts)
    f1 = [run["F1"] for run in runs]
    return {
        "bundled model": before,
        "runs": runs,
        "F1": {"median": median(f1), "lowest": min(f1), "highest": max(f1)},
        "options": list(rest),
    }


def classes(data: Path, folder: Path, rest: Sequence[str]) -> dict[str, Any]:
    """Overfit one image with two classes, and see whether both come back and the box head was kept."""
    place = data / "samples"
    model = folder / "classes.safetensors"
    command = ["train", place / "SOAP_061.png", place / "testfile_multi.csv", model, "--gsd", 0.1, "--complete"]
    options = ["--validation_share", 0, "--epochs", 6, "--windows_per_epoch", 200, *rest]
    seconds = treedet(*command, *options)
    head = classes_kept(model)
    plot = AnnotatedRaster(place / "SOAP_061.png", place / "testfile_multi.csv", gsd=0.1)
    found = load(model).predict(plot.path, gsd=0.1)
    return {
        "minutes": round(seconds / 60, 1),
        "annotated": {str(k): int(v) for k, v in plot.crowns["label"].value_counts().items()},
        "predicted": {str(k): int(v) for k, v in found["label"].value_counts().items()},
        **head,
    }


def classes_kept(model: Path) -> dict[str, Any]:
    """Say how the new model's heads started, by its report."""
    spec = model_file.read_spec(model)
    report = spec.provenance["transfer"]
    box = [name for name in report["kept"] if "bbox_reg" in name]
    return {"classes": list(spec.labels.classes), "box head kept": len(box) == 2, "moved": report["moved"]}


def readers(folder: Path, crowns: int) -> dict[str, Any]:
    """Write many crowns to a GeoPackage and read them as training data."""
    side = int(np.ceil(np.sqrt(crowns)))
    place = np.arange(crowns)
    corner = np.stack([place % side, place // side], axis=1) * 60.0 + 10
    none = np.zeros(crowns, bool)
    arrays = CrownArrays(
        np.concatenate([corner, corner + 40], axis=1),
        np.ones(crowns, np.float32),
        np.zeros(crowns, np.int64),
        none,
        none,
    )
    transform = Affine(0.1, 0, 4e5, 0, -0.1, 5.4e6)
    grid = Grid.build(pyproj.CRS(32632), transform, width=60 * side + 20, height=60 * side + 20)
    path = folder / "many.gpkg"
    write_crowns(crowns_table.to_table(arrays, grid, LabelSchema(), source="many.tif"), path)
    started = time.perf_counter()
    annotations = read_annotations(path)
    seconds = time.perf_counter() - started
    assert len(annotations.table) == crowns
    return {"crowns": crowns, "seconds": round(seconds, 2), "target": "under 20 s"}


def main() -> None:
    """Run rows from the command line; further options are handed to ``treedet train``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--rows", nargs="+", default=["pasture", "classes", "readers"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", action="store_true", help="keep the result beside this script")
    chosen, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        jobs = {
            "pasture": lambda: pasture(chosen.data, folder, chosen.seeds, rest),
            "classes": lambda: classes(chosen.data, folder, rest),
            "readers": lambda: readers(folder, 1_000_000),
        }
        for name in chosen.rows:
            row = {**jobs[name](), "date": datetime.now(UTC).date().isoformat(), "commit": commit()}
            row |= {"machine": machine(), "versions": versions(), "threads": torch.get_num_threads()}
            print(json.dumps({name: row}, indent=1), flush=True)
            if chosen.store:
                before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
                RESULTS.write_text(json.dumps({**before, name: row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
