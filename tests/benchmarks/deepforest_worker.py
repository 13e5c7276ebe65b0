"""Runs DeepForest's ``predict_tile`` in DeepForest's own environment; imports nothing of treedet.

Where it is timed alone the weights are random, since they cost as much time as trained ones: the architecture, the
hidden resize to 800 px and the settings are DeepForest's defaults.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from deepforest import main as deepforest
from torch import Tensor
from torchvision.models import WeightsEnum, resnet50
from torchvision.models.detection import retinanet_resnet50_fpn


def random_weights(*_: object, **__: object) -> Mapping[str, Tensor]:
    """Stand in for the download of torchvision's weights, so that layers are frozen just as with them."""
    torch.manual_seed(0)
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None).state_dict()


def predict_tile(raster: str) -> dict[str, Any]:
    """Time a prediction, loading of the model excluded."""
    WeightsEnum.get_state_dict = random_weights
    model = deepforest.deepforest(
        config_args={
            "model": {"name": None},
            "num_classes": 1,
            "label_dict": {"Tree": 0},
            "accelerator": "cpu",
        }
    )
    started, cpu = time.perf_counter(), time.process_time()
    boxes = model.predict_tile(path=raster, patch_size=400, patch_overlap=0.05)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "crowns": 0 if boxes is None else len(boxes),
        "torch": torch.__version__,
    }


def random_body(*_: object, **__: object) -> Mapping[str, Tensor]:
    """Stand in for the download of the body's weights, which those of the hub folder replace."""
    return resnet50(weights=None).state_dict()


def predict_weights(raster: str, weights: str, checkpoint: str) -> dict[str, Any]:
    """Find the crowns of a raster with the weights of a hub folder, and write them as a Lightning checkpoint too.

    Returns:
        Boxes in pixels with their scores and labels, the detections of each window, and the seconds it took.
    """
    WeightsEnum.get_state_dict = random_body
    model = deepforest.deepforest(config_args={"model": {"name": weights}, "accelerator": "cpu"})
    model.trainer.strategy.connect(model)
    model.save_model(checkpoint)
    counts: list[int] = []
    step = model.predict_step
    model.predict_step = lambda *given: _counted(step(*given), counts)
    started = time.perf_counter()
    found = model.predict_tile(path=raster, patch_size=400, patch_overlap=0.05)
    wall = time.perf_counter() - started
    columns = ["xmin", "ymin", "xmax", "ymax", "score"]
    return {
        "wall_s": wall,
        "boxes": [] if found is None else found[columns].astype(float).to_numpy().tolist(),
        "labels": [] if found is None else found["label"].tolist(),
        "windows": counts,
        "config": {name: model.config[name] for name in ("nms_thresh", "score_thresh")},
        "torch": torch.__version__,
    }


def _counted(predictions: list[dict[str, Tensor]], counts: list[int]) -> list[dict[str, Tensor]]:
    counts += [len(one["boxes"]) for one in predictions]
    return predictions


WORK = {"predict_tile": predict_tile, "predict_weights": predict_weights}

if __name__ == "__main__":
    work, arguments, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(WORK[work](**json.loads(arguments))))
