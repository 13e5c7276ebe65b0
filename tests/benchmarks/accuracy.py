"""Scores of a model on annotated imagery: ``python tests/benchmarks/accuracy.py --data DATA``.

Prints a table, stores it beside this file, and writes the predictions as CSV so that any other scorer can check it.
Evaluation sets are looked at to report, never to choose: thresholds are stored in the model file.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.detection import RasterCount, Scores, count, scores
from treedet.metrics.matching import match_boxes
from treedet.training.validation import predicted_boxes
from treedet.vectors.annotations import read_boxes

RESULTS = Path(__file__).parent / "results"
BOX = ["xmin", "ymin", "xmax", "ymax"]
PLOT_GSD = 0.1
DIAMETERS_M = (0, 2, 3, 4, 5, 6, 8, 10, 100)
"""Edges of classes of crown diameter."""


@dataclass(frozen=True)
class TestSet:
    """Annotated images that no training run has seen."""

    name: str
    annotations: str
    gsd: float | None = None
    only: str = ""
    complete: bool = True


SETS = (
    TestSet("NEON benchmark, valid", "neon-benchmark/valid/annotations.csv", 0.096),
    TestSet("SJER plots, 2018", "neon-plots/eval/annotations.csv", only="SJER/"),
    TestSet("SJER plots, 2017", "neon-plots/eval/annotations.csv", only="SJER_2017/"),
    TestSet("HARV plots, partial labels", "neon-plots/partial/annotations.csv", complete=False),
    TestSet("OSBS_029", "samples/OSBS_029.csv"),
)


def evaluate(detector: Detector, data: Path, test: TestSet) -> tuple[list[RasterCount], pd.DataFrame, pd.DataFrame]:
    """Return counts per image, the predictions as a table in pixels, and the diameter and fate of each crown."""
    path = data / test.annotations
    annotations = read_boxes(path)
    counts, rows, fates = [], [], []
    for name in (n for n in annotations.images if n.startswith(test.only)):
        truth = annotations.boxes[annotations.boxes["image_path"] == name][BOX].to_numpy(float)
        boxes, score = predicted_boxes(detector, path.parent / name, gsd=test.gsd)
        counts.append(count(truth, boxes))
        diameter = (truth[:, 2:] - truth[:, :2]).mean(axis=1) * (test.gsd or PLOT_GSD)
        found = np.zeros(len(truth), bool)
        found[match_boxes(truth, boxes)[0]] = True
        fates.append(pd.DataFrame({"diameter_m": diameter, "found": found}))
        rows.append(pd.DataFrame(boxes, columns=BOX).assign(image_path=name, score=score, label="Tree"))
    return counts, pd.concat(rows), pd.concat(fates)


def by_diameter(fates: pd.DataFrame) -> list[dict[str, object]]:
    """Return crowns and recall by classes of diameter, all rasters pooled."""
    groups = fates.groupby(pd.cut(fates["diameter_m"], DIAMETERS_M, right=False), observed=True)["found"]
    table = groups.agg(["size", "mean"])
    return [
        {"from_m": int(kind.left), "to_m": int(kind.right), "crowns": int(size), "recall": round(float(mean), 3)}
        for kind, size, mean in table.itertuples()
    ]


def interval(counts: list[RasterCount], *, draws: int = 1000) -> tuple[float, float]:
    """Return the 95 % interval of F1 by bootstrap over rasters."""
    rng = np.random.default_rng(0)
    f1 = [scores([counts[i] for i in rng.integers(len(counts), size=len(counts))]).f1 for _ in range(draws)]
    return float(np.quantile(f1, 0.025)), float(np.quantile(f1, 0.975))


def row(name: str, counts: list[RasterCount]) -> dict[str, object]:
    """Return the figures of one set."""
    s: Scores = scores(counts)
    low, high = interval(counts)
    return {
        "set": name,
        "images": len(counts),
        "crowns": sum(c.truth for c in counts),
        "predicted": sum(c.predicted for c in counts),
        "recall": round(s.recall, 3),
        "precision": round(s.precision, 3),
        "F1": round(s.f1, 3),
        "F1 95 %": f"{low:.3f} to {high:.3f}",
        "micro recall": round(s.micro_recall, 3),
        "micro precision": round(s.micro_precision, 3),
        "micro F1": round(s.micro_f1, 3),
    }


def main() -> None:
    """Score a model from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--model", type=Path, help="model file; the bundled one by default")
    parser.add_argument("--predictions", type=Path, help="folder for the predictions as CSV")
    parser.add_argument("--store", action="store_true", help="keep the table beside this script")
    chosen = parser.parse_args()
    detector = load(chosen.model)
    rows, fates = [], []
    for test in SETS:
        counts, table, fate = evaluate(detector, chosen.data, test)
        fates += [fate] if test.complete else []
        rows.append(row(test.name, counts))
        print(rows[-1], flush=True)
        if chosen.predictions is not None:
            chosen.predictions.mkdir(parents=True, exist_ok=True)
            table.to_csv(chosen.predictions / f"{test.name.replace(' ', '-').replace(',', '')}.csv", index=False)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    sizes = by_diameter(pd.concat(fates))
    print(pd.DataFrame(sizes).to_string(index=False))
    if chosen.store:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit.strip(),
            "machine": platform.machine(),
            "model": dict(detector.model.identity),
            "threshold": detector.spec.threshold(),
            "rows": rows,
            "by diameter, complete sets": sizes,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "accuracy.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
