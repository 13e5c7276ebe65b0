from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from treedet.errors import ConfigError
from treedet.models.attribute_loss import (
    EFFECTIVE_BETA,
    attribute_loss,
    describe,
    detections_of_crowns,
    jittered,
)
from treedet.models.loss_config import HeadConfig
from treedet.models.losses import Targets
from treedet.models.trunk import TrunkOutput

PLAIN = HeadConfig(smoothing=0.0)


def test_crowns_without_a_label_do_not_count():
    logits = {"status": torch.tensor([[2.0, 0.0], [5.0, -5.0], [0.0, 1.0]]), "species": torch.randn(3, 4)}
    said = torch.tensor([[0, -1], [-1, -1], [1, 2]])
    found = attribute_loss(logits, said, [(5, 5), (1, 1, 1, 1)], config=PLAIN)
    status = cross_entropy(logits["status"][[0, 2]], torch.tensor([0, 1]))
    species = cross_entropy(logits["species"][[2]], torch.tensor([2]))
    torch.testing.assert_close(found, (status + species) / 2)


def test_a_batch_without_labels_gives_a_zero_that_is_connected():
    logits = {"status": torch.randn(3, 2, requires_grad=True)}
    found = attribute_loss(logits, torch.full((3, 1), -1), [(1, 1)])
    found.backward()
    assert found.item() == 0
    assert logits["status"].grad is not None
    assert not logits["status"].grad.any()


def test_logit_adjustment_adds_the_log_of_the_shares():
    logits, said = torch.randn(4, 2), torch.tensor([[0], [0], [1], [0]])
    found = attribute_loss({"s": logits}, said, [(90, 10)], config=HeadConfig(smoothing=0, balance="logits"))
    prior = torch.tensor([0.9, 0.1]).log()
    torch.testing.assert_close(found, cross_entropy(logits + prior, said[:, 0]))
    half = HeadConfig(smoothing=0, balance="logits", strength=0.5)
    torch.testing.assert_close(
        attribute_loss({"s": logits}, said, [(90, 10)], config=half), cross_entropy(logits + prior / 2, said[:, 0])
    )


def test_effective_numbers_weigh_rare_classes_more():
    logits, said = torch.randn(3, 2), torch.tensor([[0], [1], [0]])
    found = attribute_loss({"s": logits}, said, [(1000, 10)], config=HeadConfig(smoothing=0, balance="effective"))
    weights = torch.tensor([(1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**n) for n in (1000, 10)])
    torch.testing.assert_close(found, cross_entropy(logits, said[:, 0], weight=weights / weights.mean()))
    assert weights[1] > 10 * weights[0]


def test_a_class_without_crowns_gives_a_finite_loss():
    for balance in ("logits", "effective"):
        found = attribute_loss(
            {"s": torch.randn(2, 3)}, torch.tensor([[0], [1]]), [(5, 5, 0)], config=HeadConfig(balance=balance)
        )
        assert torch.isfinite(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "even"}, "balance 'even' is unknown; accepted are none, logits, effective"),
        ({"smoothing": 1.5}, "smoothing must be from 0 to 1"),
        ({"jitter": 0.9}, "jitter must be from 0 to 0.5"),
        ({"hide_context": -1}, "hide_context must be from 0 to 1"),
        ({"weight": float("nan")}, "weight must be a number of 0 or more"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        HeadConfig(**changes)


def test_jitter_moves_each_side_by_no_more_than_its_share():
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0]]).repeat(500, 1)
    moved = jittered(boxes, 0.1) - boxes
    assert moved[:, [0, 2]].abs().max() <= 4.0
    assert moved[:, [1, 3]].abs().max() <= 2.0
    assert moved.abs().max() > 3.5
    assert torch.equal(jittered(boxes, 0.0), boxes)


def output(boxes, scores, anchors):
    """A trunk's answer that moves each anchor to a box."""
    size = anchors[:, 2:] - anchors[:, :2]
    wanted = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - (anchors[:, :2] + anchors[:, 2:]) / 2
    deltas = torch.cat([centre / size, (wanted / size).log()], dim=1)
    return TrunkOutput([], scores[None, :, None], deltas[None], [])


def test_each_crown_takes_its_best_detection():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 12, 12], [50, 50, 60, 60], [90, 90, 95, 95]])
    boxes = torch.tensor([[0.0, 0, 10, 11], [0, 0, 10, 10], [52, 50, 62, 60], [90, 90, 95, 95]])
    found = output(boxes, torch.tensor([3.0, 1.0, -2.0, 9.0]), anchors)
    crowns = torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 10], [200, 200, 220, 220]])
    detected, crown = detections_of_crowns(crowns, found, anchors, 0)
    assert crown.tolist() == [0, 1]
    torch.testing.assert_close(detected, boxes[[2, 0]])


def test_labels_go_with_annotated_boxes_and_with_detections():
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    found = output(torch.tensor([[0.0, 0, 10, 9]]), torch.tensor([2.0]), anchors)
    target = Targets(
        torch.tensor([[0.0, 0, 10, 10], [40, 40, 60, 60], [70, 70, 80, 80]]),
        torch.zeros(3, dtype=torch.int64),
        said=torch.tensor([[1, -1], [-1, 2], [-1, -1]]),
    )
    chosen = describe([target], found=found, anchors=anchors, config=HeadConfig(jitter=0.0, hide_context=0.0))
    torch.testing.assert_close(chosen.boxes[0], torch.tensor([[0.0, 0, 10, 10], [40, 40, 60, 60], [0, 0, 10, 9]]))
    assert chosen.said.tolist() == [[1, -1], [-1, 2], [1, -1]]
    assert chosen.context.all()


def test_crops_on_a_canvas_never_show_surroundings():
    target = Targets(
        torch.tensor([[0.0, 0, 10, 10]]),
        torch.tensor([-1]),
        said=torch.tensor([[1]]),
        context=torch.tensor([False]),
    )
    chosen = describe([target], found=None, anchors=torch.zeros(1, 4), config=HeadConfig(hide_context=0.0))
    assert not chosen.context.any()
    assert chosen.said.tolist() == [[1]]


def test_windows_without_labels_give_no_boxes():
    nothing = Targets(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), said=torch.full((2, 1), -1))
    chosen = describe([nothing, nothing], found=None, anchors=torch.zeros(1, 4), config=HeadConfig())
    assert [len(boxes) for boxes in chosen.boxes] == [0, 0]
    assert chosen.said.shape == (0, 1)
