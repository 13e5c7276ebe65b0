from pathlib import Path

import numpy as np
import pytest
import torch
from factories import disks, make_raster, paint, tiny_spec

from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.datasets import sources
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool
from treedet.datasets.sources import Source
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend
from treedet.models.losses import Targets, detection_loss
from treedet.models.network import NetworkDetector
from treedet.training import bundled
from treedet.training.config import TrainConfig
from treedet.training.module import CrownModule

SIDE = 128


def painted_batch() -> tuple[torch.Tensor, list[Targets], np.ndarray]:
    circles = disks(np.random.default_rng(4), width=SIDE, height=SIDE, count=6, radius=(9, 16))
    boxes = np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)
    pixels = torch.from_numpy(paint(circles, width=SIDE, height=SIDE))[None]
    target = Targets(torch.from_numpy(boxes.astype(np.float32)), torch.zeros(len(boxes), dtype=torch.int64))
    return pixels, [target], boxes


def test_a_few_crowns_are_learned_by_heart() -> None:
    spec = tiny_spec(fpn_channels=32, anchor_sizes_m=((1.6, 2.4), (3.2, 4.5)))
    module = CrownModule(spec, TrainConfig(samples=SampleConfig(window_px=SIDE)))
    pixels, targets, boxes = painted_batch()
    optimizer = torch.optim.AdamW(module.trunk.parameters(), 2e-3)
    for _ in range(70):
        out = module.trunk(pixels)
        loss = detection_loss(out.logits, out.deltas, module.get_buffer("anchors"), targets)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    with torch.no_grad():
        for _ in range(30):  # let the running statistics follow
            module.trunk(pixels)
    detector = NetworkDetector(EagerBackend(module.trunk, device="cpu", precision="fp32"), spec)
    found = detector.detect(pixels.numpy(), sides=[0], threshold=0.3, merge=MergeConfig())[0]
    assert len(found) == len(boxes)
    distance = np.abs(found.boxes[:, None] - boxes[None]).max(axis=2).min(axis=1)
    assert distance.max() < 5


def test_the_recipe_trains_resumes_and_writes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = ["image_path,xmin,ymin,xmax,ymax,label"]
    for i in range(4):
        circles = disks(np.random.default_rng(i), width=160, height=160, count=5, radius=(8, 14))
        name = f"SITE_{i:03d}.tif"
        make_raster(data / name, paint(circles, width=160, height=160))
        rows += [f"{name},{x - r:.1f},{y - r:.1f},{x + r:.1f},{y + r:.1f},Tree" for x, y, r in circles]
    (data / "annotations.csv").write_text("\n".join(rows))
    monkeypatch.setattr(bundled, "SOURCES", (Source("painted", "annotations.csv"),))
    # Rendering takes longer than all the rest.
    monkeypatch.setattr(bundled, "scene_pool", lambda count, *, gsd, weight, seed: Pool([ground], weight=weight))
    ground = bundled._ground(sources.load_source(data, bundled.SOURCES[0])[0])
    spec = tiny_spec()
    config = TrainConfig(
        epochs=2,
        windows_per_epoch=2,
        batch_size=2,
        warmup_steps=1,
        precision="32-true",
        workers=0,
        samples=SampleConfig(window_px=SIDE),
    )
    stage = bundled.Stage(config, scenes=1)
    first = bundled.train(data, tmp_path / "run", stage=stage, spec=spec)
    again = bundled.train(data, tmp_path / "run", stage=stage, spec=spec)
    assert [row["step"] for row in first.history] == [1, 2]
    assert again.history == first.history, "taken up, not started anew"
    bundled.export(data, first, tmp_path / "m.safetensors", spec=spec, provenance={"seed": "0"})
    stored, _ = model_file.load(tmp_path / "m.safetensors")
    assert stored.provenance["steps"] == 2
    assert set(stored.operating_points) == {"balanced", "count", "precise", "complete"}


def test_the_default_network_is_the_bundled_one() -> None:
    assert ModelSpec().levels == (2, 3, 4, 5)
    assert CrownModule(ModelSpec(), TrainConfig()).trunk.head.classification_head.classes == 1
