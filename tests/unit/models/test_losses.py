import pytest
import torch
from factories import tiny_spec

from treedet.models.anchors import anchor_boxes
from treedet.models.losses import LossConfig, Targets, detection_loss
from treedet.models.trunk import Trunk

SIDE = 64


def targets(boxes: list[list[float]], classes: list[int] | None = None) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes if classes is not None else [0] * len(boxes), dtype=torch.int64),
    )


def run(target: Targets, **changes: object) -> tuple[Trunk, torch.Tensor]:
    spec = tiny_spec(**changes)
    torch.manual_seed(0)
    trunk = Trunk(spec)
    out = trunk(torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8))
    return trunk, detection_loss(out.logits, out.deltas, anchor_boxes(spec, SIDE, SIDE), [target]).total


def test_an_image_without_crowns_trains() -> None:
    trunk, loss = run(targets([]))
    loss.backward()
    assert loss.isfinite()
    assert trunk.head.classification_head.cls_logits.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    # The box branch has nothing to learn from it, but stays in the graph.
    assert trunk.head.regression_head.bbox_reg.weight.grad is not None


def test_only_ignored_crowns_is_finite() -> None:
    _, loss = run(targets([[5, 5, 40, 40]], [-1]))
    assert loss.isfinite()


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    box = anchors[(anchors[:, 0] > 10) & (anchors[:, 2] < 50)][:1]
    target = Targets(box, torch.zeros(1, dtype=torch.int64))
    good = torch.where((anchors == box).all(1)[:, None], 12.0, -12.0)[None]
    worse = torch.full_like(good, -12.0)
    flat = torch.zeros(1, len(anchors), 4)
    low = detection_loss(good, flat, anchors, [target]).classes
    high = detection_loss(worse, flat, anchors, [target]).classes
    assert low < 0.2 * high


def test_gradients_do_not_depend_on_what_ignored_anchors_say() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    logits = torch.zeros(1, len(anchors), 1, requires_grad=True)
    detection_loss(
        logits, torch.zeros(1, len(anchors), 4), anchors, [targets([[8, 8, 56, 56]], [-1])]
    ).total.backward()
    inside = (anchors[:, :2] > 10).all(1) & (anchors[:, 2:] < 54).all(1)
    assert inside.any()
    assert logits.grad is not None
    assert (logits.grad[0, inside] == 0).all()
    assert (logits.grad[0, ~inside] != 0).any()


def test_box_weight_scales_the_box_loss() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    logits, deltas = torch.zeros(1, len(anchors), 1), torch.full((1, len(anchors), 4), 0.3)
    target = [targets([[10, 10, 40, 40]])]
    one = detection_loss(logits, deltas, anchors, target, config=LossConfig(box_weight=1.0))
    three = detection_loss(logits, deltas, anchors, target, config=LossConfig(box_weight=3.0))
    assert (three.total - one.total).item() == pytest.approx(2 * one.boxes.item(), rel=1e-5)
