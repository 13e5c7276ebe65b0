"""Detection of two classes, from windows to detections, on painted disks of two colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from factories import disks, tiny_spec

from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.models.anchors import anchor_boxes
from treedet.models.backends.eager import EagerBackend
from treedet.models.losses import Targets, detection_loss
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk

SIDE = 128
COLOURS = np.array([[40, 200, 40], [220, 60, 60]], np.uint8)


def two_classes() -> ModelSpec:
    return tiny_spec(
        fpn_channels=32, anchor_sizes_m=((1.6, 2.4), (3.2, 4.5)), labels=LabelSchema(classes=("tree", "bird"))
    )


def painted() -> tuple[torch.Tensor, Targets]:
    circles = disks(np.random.default_rng(4), width=SIDE, height=SIDE, count=8, radius=(9, 16))
    kinds = np.arange(len(circles)) % 2
    canvas = np.zeros((3, SIDE, SIDE), np.uint8)
    yy, xx = np.mgrid[:SIDE, :SIDE] + 0.5
    for (x, y, r), kind in zip(circles, kinds, strict=True):
        canvas[:, (xx - x) ** 2 + (yy - y) ** 2 <= r * r] = COLOURS[kind][:, None]
    boxes = np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)
    return torch.from_numpy(canvas)[None], Targets(
        torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(kinds)
    )


def test_both_classes_are_learned_and_predicted() -> None:
    spec = two_classes()
    torch.manual_seed(0)
    trunk = Trunk(spec)
    pixels, target = painted()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    optimizer = torch.optim.AdamW(trunk.parameters(), 2e-3)
    for _ in range(80):
        out = trunk(pixels)
        loss = detection_loss(out.logits, out.deltas, anchors, [target]).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for _ in range(30):  # let the running statistics follow
            trunk(pixels)
    detector = NetworkDetector(EagerBackend(trunk, device="cpu", precision="fp32"), spec)
    found = detector.detect(pixels.numpy(), sides=[0], threshold=0.3, merge=MergeConfig())[0]
    truth = target.boxes.numpy()
    assert len(found) == len(truth), "one detection for each disk, whatever its class"
    distance = np.abs(found.boxes[:, None] - truth[None]).max(axis=2)
    assert distance.min(axis=1).max() < 5
    assert found.classes.tolist() == target.classes.numpy()[distance.argmin(axis=1)].tolist()


def test_two_classes_on_one_crown_are_one_detection_unless_told() -> None:
    spec = replace(two_classes(), max_detections=5000)
    pixels, _ = painted()
    torch.manual_seed(0)
    trunk = Trunk(spec)
    with torch.no_grad():
        # Both classes are sure of every anchor, so every place is found twice.
        trunk.head.classification_head.cls_logits.weight.zero_()
        trunk.head.classification_head.cls_logits.bias.fill_(3.0)
    detector = NetworkDetector(EagerBackend(trunk, device="cpu", precision="fp32"), spec)
    one, both = (
        detector.detect(pixels.numpy(), sides=[0], threshold=0.5, merge=MergeConfig(per_class=each))[0]
        for each in (False, True)
    )
    assert len(both) == 2 * len(one) > 0
    assert sorted(set(both.classes.tolist())) == [0, 1]
