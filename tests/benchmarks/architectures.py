"""What an architecture finds and costs: ``python tests/benchmarks/architectures.py --data DATA --run RUN --store``.

Trains several from random weights, alike but for the architecture, and sets F1 on the held-out images at the best
threshold against the network's time for a hectare. Far fewer steps than the bundled model had, so the figures compare
architectures and say little else. Runs are resumable; evaluation sets are not looked at.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import commit, machine

from treedet.core.spec import ModelSpec
from treedet.display.evaluation import BLUE, chart, dress
from treedet.display.figures import save_figure
from treedet.errors import DetectionCapWarning
from treedet.inference.detector import Detector
from treedet.metrics.operating_points import choose_points
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import EagerBackend
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.training.bundled import STAGES, Stage, held_out_predictions, train
from treedet.training.plan import for_resolutions

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[2] / "docs" / "architectures.png"
EPOCHS = 4
GROUND_M = 38.4
"""Side of a training window on the ground, the same for all."""

ARCHITECTURES = {
    "ResNet-18, P2 to P5 (bundled)": ModelSpec(),
    "ResNet-18, P3 to P5, 96 channels, 0.13 m": ModelSpec(
        levels=(3, 4, 5),
        fpn_channels=96,
        head_convs=1,
        gsd=0.13,
        anchor_sizes_m=((1.8, 2.5, 3.5), (4.6, 6.0, 8.1), (10.2, 14.0, 20.3)),
    ),
    "ResNet-34, P2 to P5": ModelSpec(backbone="resnet34"),
}


def stage_for(spec: ModelSpec, epochs: int) -> Stage:
    """Return the last stage of the bundled model's training, cut short and from random weights."""
    stage = STAGES["long"]
    samples = replace(
        stage.config.samples, gsd=spec.gsd, window_px=32 * round(GROUND_M / spec.gsd / 32), calm_from=epochs - 1
    )
    return replace(stage, config=replace(stage.config, epochs=epochs, warmup_steps=100, samples=samples))


def seconds_per_hectare(trunk: Trunk, spec: ModelSpec, *, runs: int = 5) -> float:
    """Return the median time of the network for a hectare, in windows as wide as the model's largest."""
    backend = EagerBackend(trunk.eval())
    pixels = np.random.default_rng(0).integers(0, 255, (1, 3, spec.window_px, spec.window_px), dtype=np.uint8)
    backend.trunk(pixels)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        backend.trunk(pixels)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / ((spec.window_px * spec.gsd) ** 2 / 1e4)


def measure(data: Path, run: Path, spec: ModelSpec, epochs: int) -> dict[str, Any]:
    """Train one architecture, and return what it finds and costs."""
    stage = stage_for(spec, epochs)
    spec = for_resolutions(spec, stage.config)
    result = train(data, run, stage=stage, spec=spec)
    detector = Detector(NetworkDetector(EagerBackend(result.best), spec), trunk=result.best)
    point = choose_points(held_out_predictions(data, detector))["balanced"]
    return {
        "parameters": sum(value.numel() for value in result.best.parameters()),
        "steps": int(result.history[-1]["step"]),
        "recall": round(point.recall, 3),
        "precision": round(point.precision, 3),
        "F1": round(point.f1, 3),
        "ms_per_hectare": round(1e3 * seconds_per_hectare(result.best, spec)),
    }


def draw(path: Path, rows: Mapping[str, Mapping[str, Any]], steps: int) -> None:
    """Draw F1 against the time for a hectare."""
    figure, (axes,) = chart(6.4, 4.0, title=f"Architectures after {steps:,} steps from random weights")
    for name, row in rows.items():
        axes.scatter(row["ms_per_hectare"], row["F1"], color=BLUE, s=30)
        axes.annotate(name, (row["ms_per_hectare"], row["F1"]), xytext=(6, 6), textcoords="offset points", fontsize=8)
    dress(axes, x="network, ms per hectare on two cores", y="F1 at IoU 0.4, held-out images")
    axes.set_xlim(0, 1.6 * max(row["ms_per_hectare"] for row in rows.values()))
    axes.margins(y=0.3)
    save_figure(figure, path)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of 100 steps")
    parser.add_argument("--store", action="store_true", help="keep figures and plot in the repository")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Scores down to nearly none are looked at, where a cap leaves out nothing that counts.
    warnings.simplefilter("ignore", DetectionCapWarning)
    torch.set_num_threads(2)
    keep_memory()
    rows = {}
    for number, (name, spec) in enumerate(ARCHITECTURES.items()):
        rows[name] = measure(chosen.data, chosen.run / str(number), spec, chosen.epochs)
        print(name, rows[name], flush=True)
    if chosen.store:
        facts = {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), "machine": machine(), "rows": rows}
        (RESULTS / "architectures.json").write_text(json.dumps(facts, indent=1) + "\n")
        draw(PICTURE, rows, max(row["steps"] for row in rows.values()))


if __name__ == "__main__":
    main()
