import math

import numpy as np
import pytest
import torch
from factories import tiny_spec
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from treedet.core.spec import ModelSpec
from treedet.models.anchors import BACKGROUND, IGNORED, RUN, anchor_boxes, decode, encode, match, match_windows


def test_sizes_are_metres_on_the_ground() -> None:
    at_10cm = anchor_boxes(ModelSpec(), 64, 64)
    at_20cm = anchor_boxes(ModelSpec(gsd=0.2), 64, 64)
    side_10 = (at_10cm[0, 2] - at_10cm[0, 0]).item()
    assert side_10 == pytest.approx(16.0)
    assert (at_20cm[0, 2] - at_20cm[0, 0]).item() == pytest.approx(side_10 / 2)


def test_order_and_place_equal_torchvisions() -> None:
    sizes = ((16.0, 20.0, 25.0), (32.0, 40.0, 51.0))
    spec = tiny_spec(
        levels=(3, 4),
        anchor_sizes_m=tuple(tuple(s * 0.1 for s in level) for level in sizes),
        anchor_ratios=(0.5, 1.0, 2.0),
    )
    maps = [torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 4, 6)]
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    theirs = AnchorGenerator(sizes=sizes, aspect_ratios=((0.5, 1.0, 2.0),) * 2)(images, maps)[0]
    ours = anchor_boxes(spec, 64, 96)
    assert ours.shape == theirs.shape
    # torchvision rounds its anchors to whole pixels, so sides may differ by up to half a pixel each way.
    assert (ours - theirs).abs().max() <= 0.5 + 1e-4


def test_decode_undoes_encode() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (50, 2))
    boxes = torch.tensor(np.concatenate([corner, corner + rng.uniform(5, 60, (50, 2))], axis=1), dtype=torch.float32)
    anchors = boxes.roll(1, dims=0)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-4)


def test_a_wild_offset_can_not_overflow() -> None:
    anchors = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), anchors)
    assert box.isfinite().all()
    assert (box[0, 2] - box[0, 0]).item() == pytest.approx(16 * math.exp(math.log(1000 / 16)), rel=1e-4)


def test_every_crown_gets_an_anchor() -> None:
    anchors = anchor_boxes(ModelSpec(), 128, 128)
    boxes = torch.tensor([[10.0, 10.0, 21.0, 40.0], [60.0, 60.0, 120.0, 118.0]])
    matched = match(anchors, boxes, torch.zeros(2, dtype=torch.bool))
    assert set(matched.unique().tolist()) >= {0, 1, BACKGROUND}


def test_ignored_crowns_are_neither_target_nor_background() -> None:
    anchors = anchor_boxes(ModelSpec(), 128, 128)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0], [70.0, 70.0, 120.0, 120.0]])
    matched = match(anchors, boxes, torch.tensor([True, False]))
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    small = (anchors[:, 2] - anchors[:, 0]) < 30
    within = (centre > 30).all(1) & (centre < 40).all(1) & small
    assert (matched[within] == IGNORED).all()
    assert 0 not in matched
    assert (matched == 1).any()


def test_no_crowns_is_all_background() -> None:
    anchors = anchor_boxes(tiny_spec(), 64, 64)
    matched = match(anchors, torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool))
    assert (matched == BACKGROUND).all()


def plain_match(
    anchors: torch.Tensor,
    boxes: torch.Tensor,
    ignored: torch.Tensor,
    foreground: float = 0.5,
    background: float = 0.4,
) -> torch.Tensor:
    """Return what ``match`` promises, by looking at every pair of a crown and an anchor."""
    matched = torch.full((len(anchors),), BACKGROUND)
    low = torch.maximum(boxes[:, None, :2], anchors[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], anchors[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    size = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    iou = shared / ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] + size[None] - shared)
    index = (~ignored).nonzero()[:, 0]
    if len(index):
        best, which = iou[index].max(dim=0)
        matched[best >= background] = IGNORED
        matched[best >= foreground] = index[which[best >= foreground]]
        for crown in index.tolist():
            top = iou[crown].max()
            matched[(iou[crown] >= top - 1e-6) & (top > 0.05)] = crown
    if ignored.any():
        covered = (shared[ignored] > 0.5 * size).any(dim=0)
        matched[covered & (matched == BACKGROUND)] = IGNORED
    return matched


def crowns(rng: np.random.Generator, count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes that reach beyond a window, some ignored; the smallest fall between the anchors."""
    centre, half = rng.uniform(0, side, (count, 2)), rng.uniform(1, 45, (count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(rng.random(count) < 0.2)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_matching_equals_looking_at_every_pair(count: int) -> None:
    # 160 px: 6,375 anchors are no whole number of runs, so the last run is filled up.
    anchors = anchor_boxes(ModelSpec(), 160, 160)
    assert len(anchors) % RUN
    boxes, ignored = crowns(np.random.default_rng(count), count, 160)
    assert torch.equal(match(anchors, boxes, ignored), plain_match(anchors, boxes, ignored))


def test_windows_matched_together_equal_windows_matched_alone() -> None:
    anchors = anchor_boxes(ModelSpec(), 128, 128)
    rng = np.random.default_rng(1)
    alone = [crowns(rng, count, 128) for count in (5, 0, 12)]
    boxes, ignored = (torch.cat([window[i] for window in alone]) for i in (0, 1))
    window = torch.tensor([0] * 5 + [2] * 12)
    together = match_windows(anchors, boxes, ignored, window, windows=3)
    for row, first, (b, i) in zip(together, (0, 5, 5), alone, strict=True):
        one = match(anchors, b, i)
        assert torch.equal(row, torch.where(one >= 0, one + first, one))


def test_of_equal_crowns_the_first_holds_what_overlaps_and_the_last_what_fits_best() -> None:
    anchors = anchor_boxes(ModelSpec(), 64, 64)
    boxes = torch.tensor([[16.0, 16.0, 48.0, 48.0]] * 2)
    matched = match(anchors, boxes, torch.zeros(2, dtype=torch.bool))
    assert {0, 1} <= set(matched.tolist()), "neither is left without an anchor"
