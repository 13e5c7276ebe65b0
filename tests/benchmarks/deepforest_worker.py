"""Times DeepForest's ``predict_tile``; runs in DeepForest's own environment and imports nothing of treedet.

The weights are random, since they cost as much time as trained ones: the architecture, the hidden resize to 800 px
and the settings are DeepForest's defaults.
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
from torchvision.models import WeightsEnum
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


if __name__ == "__main__":
    work, arguments, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps({"predict_tile": predict_tile}[work](**json.loads(arguments))))
