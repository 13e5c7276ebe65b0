from dataclasses import replace

import pytest
import torch
from factories import tiny_spec
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from treedet.errors import ConfigError
from treedet.models.anchors import IGNORED, anchor_boxes, decode, match
from treedet.models.loss_config import LossConfig
from treedet.models.losses import Targets, detection_loss
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


def test_ground_where_nothing_is_known_is_no_background() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    known = torch.ones(SIDE, SIDE, dtype=torch.bool)
    known[:, SIDE // 2 :] = False
    logits = torch.zeros(1, len(anchors), 1, requires_grad=True)
    detection_loss(
        logits, torch.zeros(1, len(anchors), 4), anchors, [replace(targets([]), known=known)]
    ).total.backward()
    assert logits.grad is not None
    unknown = (anchors[:, 0] + anchors[:, 2]) / 2 >= SIDE / 2
    assert unknown.any()
    assert not unknown.all()
    assert (logits.grad[0, unknown] == 0).all()
    assert (logits.grad[0, ~unknown] != 0).all()


def test_a_crown_on_unknown_ground_is_still_learned() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    target = targets([[20, 20, 50, 50]])
    dark = replace(target, known=torch.zeros(SIDE, SIDE, dtype=torch.bool))
    logits = torch.zeros(1, len(anchors), 1, requires_grad=True)
    loss = detection_loss(logits, torch.zeros(1, len(anchors), 4), anchors, [dark])
    loss.total.backward()
    matched = match(anchors, target.boxes, target.classes < 0)
    assert logits.grad is not None
    assert torch.equal(logits.grad[0, :, 0] != 0, matched >= 0)
    assert loss.boxes > 0


def test_each_window_has_ground_of_its_own() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, SIDE, SIDE)
    dark = replace(targets([]), known=torch.zeros(SIDE, SIDE, dtype=torch.bool))
    logits = torch.zeros(3, len(anchors), 1, requires_grad=True)
    detection_loss(
        logits, torch.zeros(3, len(anchors), 4), anchors, [targets([]), dark, targets([])]
    ).total.backward()
    assert logits.grad is not None
    assert [bool((row != 0).any()) for row in logits.grad] == [True, False, True]


def plain_loss(
    logits: torch.Tensor, deltas: torch.Tensor, anchors: torch.Tensor, batch: list[Targets]
) -> torch.Tensor:
    """Return the loss by going through the windows one by one."""
    total, positives = torch.zeros(()), 0
    for logit, delta, target in zip(logits, deltas, batch, strict=True):
        matched = match(anchors, target.boxes, target.classes < 0)
        positive = matched >= 0
        positives += int(positive.sum())
        wanted = torch.zeros_like(logit)
        wanted[positive, target.classes[matched[positive]]] = 1
        focal = sigmoid_focal_loss(logit, wanted)
        total = total + focal[matched != IGNORED].sum()
        predicted = decode(delta[positive], anchors[positive])
        total = total + 2 * generalized_box_iou_loss(predicted, target.boxes[matched[positive]], reduction="sum")
    return total / max(1, positives)


def test_a_batch_costs_what_its_windows_cost_one_by_one() -> None:
    anchors = anchor_boxes(tiny_spec(), SIDE, SIDE)
    torch.manual_seed(0)
    batch = [
        targets([[5, 5, 30, 28], [20, 20, 50, 60], [40, 2, 62, 20]], [0, 1, -1]),
        targets([]),
        targets([[8, 10, 40, 44]], [1]),
    ]
    logits = torch.randn(3, len(anchors), 2, requires_grad=True)
    deltas = (0.1 * torch.randn(3, len(anchors), 4)).requires_grad_()
    ours = detection_loss(logits, deltas, anchors, batch).total
    plain = plain_loss(logits, deltas, anchors, batch)
    torch.testing.assert_close(ours, plain)
    for one, other in zip(
        torch.autograd.grad(ours, (logits, deltas)), torch.autograd.grad(plain, (logits, deltas)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_targets_move_whole() -> None:
    moved = targets([[1, 2, 3, 4]]).to("cpu")
    assert moved.known is None
    known = torch.ones(4, 4, dtype=torch.bool)
    there = replace(targets([[1, 2, 3, 4]]), known=known).to("meta")
    assert there.known is not None
    assert {there.boxes.device.type, there.classes.device.type, there.known.device.type} == {"meta"}


def test_windows_and_targets_must_be_as_many() -> None:
    anchors = anchor_boxes(tiny_spec(), SIDE, SIDE)
    with pytest.raises(ValueError, match="2 windows has 1 targets"):
        detection_loss(torch.zeros(2, len(anchors), 1), torch.zeros(2, len(anchors), 4), anchors, [targets([])])


def test_windows_count_alike_where_that_is_asked_for() -> None:
    anchors = anchor_boxes(tiny_spec(), SIDE, SIDE)
    torch.manual_seed(0)
    crowded = targets([[4 + 20 * x, 4 + 20 * y, 20 + 20 * x, 20 + 20 * y] for x in range(3) for y in range(3)])
    lonely = targets([[8, 10, 40, 44]])
    logits, deltas = torch.randn(2, len(anchors), 1), 0.1 * torch.randn(2, len(anchors), 4)

    def share(evenness: float) -> float:
        """Share of the lonely window's gradient."""
        free = logits.clone().requires_grad_()
        loss = detection_loss(free, deltas, anchors, [crowded, lonely], config=LossConfig(evenness=evenness))
        gradient = torch.autograd.grad(loss.total, free)[0].abs().sum(dim=(1, 2))
        return float(gradient[1] / gradient.sum())

    assert share(0.0) < share(0.5) < share(1.0)
    alone = [
        float(detection_loss(logits[1:], deltas[1:], anchors, [lonely], config=LossConfig(evenness=evenness)).total)
        for evenness in (0.0, 1.0)
    ]
    assert alone[0] == pytest.approx(alone[1]), "a single window has nothing to be even with"


def test_a_batch_without_crowns_is_finite_however_even() -> None:
    anchors = anchor_boxes(tiny_spec(), SIDE, SIDE)
    logits = torch.zeros(2, len(anchors), 1)
    nothing = [targets([]), targets([])]
    deltas = torch.zeros(2, len(anchors), 4)
    even = detection_loss(logits, deltas, anchors, nothing, config=LossConfig(evenness=1.0)).total
    assert float(even) == pytest.approx(float(detection_loss(logits, deltas, anchors, nothing).total))


@pytest.mark.parametrize("evenness", [-0.1, 1.5])
def test_evenness_is_a_share(evenness: float) -> None:
    with pytest.raises(ConfigError, match="evenness must be from 0 to 1"):
        LossConfig(evenness=evenness)
