"""A RetinaNet with a ResNet-50 as DeepForest builds it, trained on rendered orchards until it finds their trees.

``python tests/benchmarks/rendered_retinanet.py`` trains it, resumable, and writes a hub folder to the cache, which
``deepforest_parity.py --trained`` runs in DeepForest and in treedet. Random weights show whether two programs compute
the same; what rounding and seams do to crowns shows only in weights that find crowns.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from treedet.compat.deepforest import deepforest_spec
from treedet.core.boxes import area, intersection
from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec
from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool
from treedet.datasets.scenes import Scene, SceneConfig, render_scene
from treedet.metrics.matching import match_boxes
from treedet.models.backends.allocator import keep_memory
from treedet.models.trunk import Trunk
from treedet.rasters.decoded import DecodedRaster
from treedet.training.config import TrainConfig
from treedet.training.loop import fit
from treedet.training.module import CrownModule

CACHE = Path.home() / ".cache" / "treedet-benchmarks"
GSD, SIDE_PX, SCENES = 0.1, 416, 80
DIAMETER_M = (2.5, 6.0)
EPOCHS = 4
LEAST_RECALL = 0.9
FOUND = 0.4
"""IoU from which a rendered crown counts as found."""
TWIN = 0.7
"""Share of the smaller box from which a crown counts as one of a rendered crown."""


def orchard(seed: int, *, side_px: int = SIDE_PX) -> Scene:
    """Render trees that stand apart, so that every further crown on one of them is a twin."""
    config = SceneConfig(
        kind="orchard", gsd=GSD, width_px=side_px, height_px=side_px, diameter_m=DIAMETER_M, dead_share=0.0
    )
    return render_scene(config, seed=seed)


def figures_on(scene: Scene, boxes: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Say how many rendered crowns are found, and how many crowns are twins.

    A twin is a crown beyond the first that shares more than 0.7 of the smaller box with one and the same rendered
    crown; a crown counts for the rendered crown it has the highest IoU with.

    Args:
        scene: What was rendered.
        boxes: Float ``[N, 4]``, crowns in its pixels.
    """
    matched, _ = match_boxes(scene.boxes, boxes, iou_threshold=FOUND)
    shape = len(scene.boxes), len(boxes)
    i, j = (number.ravel() for number in np.indices(shape))
    shared, one, other = intersection(scene.boxes[i], boxes[j]), area(scene.boxes[i]), area(boxes[j])
    fits = shared > TWIN * np.minimum(one, other)
    iou = np.where(fits, shared / (one + other - shared), 0.0).reshape(shape)
    best = iou.argmax(axis=0)[iou.any(axis=0)]
    count = np.bincount(best, minlength=len(scene.boxes))
    return {
        "rendered": len(scene.boxes),
        "crown_recall": round(len(matched) / len(scene.boxes), 4),
        "crown_precision": round(len(matched) / max(1, len(boxes)), 4),
        "twins": int(np.maximum(count - 1, 0).sum()),
    }


def _pool() -> Pool:
    grounds = []
    for seed in range(SCENES):
        scene = orchard(seed)
        pixels = DecodedRaster.of_pixels(scene.pixels, gsd=GSD)
        grounds.append(Ground(f"orchard-{seed}", pixels, scene.boxes, np.zeros(len(scene.boxes), np.int64)))
    return Pool(grounds)


def _trunk(spec: ModelSpec) -> Trunk:
    """Return random weights that signals pass through: the towers' usual ones are made for a trained body."""
    torch.manual_seed(0)
    trunk = Trunk(spec)
    for tower in (trunk.head.classification_head.conv, trunk.head.regression_head.conv):
        for conv in (module for module in tower.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return trunk


def hub_folder(cache: Path, *, epochs: int = EPOCHS) -> Path:
    """Return the hub folder of the trained network, trained if need be; a stopped run is taken up.

    Args:
        cache: Folder for the run and its result.
        epochs: Of 100 steps of 8 windows.
    """
    folder = cache / f"rendered-retinanet-{epochs}"
    hub = folder / "hub"
    if (hub / "config.json").exists():
        return hub
    keep_memory()
    spec = deepforest_spec(("Tree",), OriginalSetting(), GSD, 0.1)
    windows = SampleConfig(
        window_px=256, gsd=GSD / 2, zoom=(0.9, 1.1), turn=0.0, mosaic=0.0, radiometry="calm", calm_from=epochs - 1
    )
    config = TrainConfig(
        epochs=epochs, windows_per_epoch=800, learning_rate=4e-4, warmup_steps=100, ema_decay=0.98, samples=windows
    )
    result = fit(CrownModule(spec, config, trunk=_trunk(spec)), [_pool()], config, run=folder / "run", resume=True)
    hub.mkdir(exist_ok=True)
    tensors = {
        k: v.contiguous() for k, v in result.best.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    save_file(tensors, hub / "model.safetensors")
    settings = {"num_classes": 1, "nms_thresh": 0.05, "score_thresh": 0.1, "label_dict": {"Tree": 0}}
    (hub / "config.json").write_text(json.dumps(settings))
    return hub


def main() -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for the run and the weights")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of 100 steps")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(hub_folder(asked.cache, epochs=asked.epochs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
