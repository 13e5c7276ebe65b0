"""Scores of a model on rendered scenes of each kind: ``python tests/benchmarks/scene_kinds.py --store``.

Hedgerows, orchards, palms, long shadows, green roofs (``urban``), closed canopy and others, of seeds that no training
run has used. Draws a sheet with the worst scene of each kind, to show where the model fails. Rendered scenes are no
photographs: the figures say where a model is better or worse, not how good it is on imagery.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from treedet.core.grid import Window
from treedet.datasets.scenes import SCENE_KINDS, Scene, SceneConfig, render_scene
from treedet.display.sheets import Outcome, hits_sheet
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.detection import count, scores
from treedet.metrics.matching import match_boxes
from treedet.rasters.write import RasterWriter
from treedet.training.validation import predicted_boxes

RESULTS = Path(__file__).parent / "results"
SHEET = Path(__file__).parents[2] / "docs" / "scene-kinds.png"
SCENES, SIDE_PX, FIRST_SEED = 8, 500, 910_000


def predicted(detector: Detector, scene: Scene, folder: Path) -> np.ndarray:
    """Return boxes in pixels that a user would get for a scene."""
    path = folder / "scene.tif"
    with RasterWriter(path, scene.grid, overwrite=True) as writer:
        writer.write(scene.pixels)
    return predicted_boxes(detector, path, gsd=scene.grid.gsd)[0]


def outcome(name: str, scene: Scene, boxes: np.ndarray) -> Outcome:
    """Return what was found on a scene."""
    truth = scene.boxes.astype(np.float64)
    found, right = match_boxes(truth, boxes)
    truth_hit, predicted_hit = np.zeros(len(truth), bool), np.zeros(len(boxes), bool)
    truth_hit[found], predicted_hit[right] = True, True
    return Outcome(name, SIDE_PX, SIDE_PX, scene.grid.gsd, truth, boxes, truth_hit, predicted_hit)


def main() -> None:
    """Score a model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model file; the bundled one by default")
    parser.add_argument("--store", action="store_true", help="keep table and sheet in the repository")
    chosen = parser.parse_args()
    detector = load(chosen.model)
    rows, squares = [], []
    with tempfile.TemporaryDirectory() as folder:
        for position, kind in enumerate(SCENE_KINDS):
            config = SceneConfig(kind=kind, gsd=0.1, width_px=SIDE_PX, height_px=SIDE_PX)
            counts, seen = [], []
            for index in range(SCENES):
                scene = render_scene(config, seed=FIRST_SEED + 100 * position + index)
                boxes = predicted(detector, scene, Path(folder))
                counts.append(count(scene.boxes.astype(np.float64), boxes))
                whole = outcome(kind, scene, boxes).square(Window(0, 0, SIDE_PX, SIDE_PX), scene.pixels)
                seen.append((scores(counts[-1:]).micro_f1, whole))
            squares.append(min(seen, key=lambda one: one[0])[1])
            total = scores(counts)
            rows.append(
                {
                    "kind": kind,
                    "crowns": sum(one.truth for one in counts),
                    "predicted": sum(one.predicted for one in counts),
                    "recall": round(total.micro_recall, 3),
                    "precision": round(total.micro_precision, 3),
                    "F1": round(total.micro_f1, 3),
                }
            )
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    if chosen.store:
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "model": dict(detector.model.identity),
            "threshold": detector.spec.threshold(),
            "rows": rows,
        }
        (RESULTS / "scene_kinds.json").write_text(json.dumps(facts, indent=1) + "\n")
        title = f"Rendered scenes: of {SCENES} of each kind, the one with the lowest F1"
        hits_sheet(SHEET, squares, title=title, inches=3.0)


if __name__ == "__main__":
    main()
