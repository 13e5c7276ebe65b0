from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from factories import tiny_spec

from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError, NothingTransferredError
from treedet.models.build import build, weights_of
from treedet.models.transfer import BOX_LAYER, CLASS_LAYER, fresh_rows, transfer
from treedet.models.trunk import Trunk

ANCHORS = 2


def with_classes(*names: str, **changes: object) -> ModelSpec:
    return tiny_spec(labels=LabelSchema(names), **changes)


def weights(spec: ModelSpec, seed: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    found = weights_of(Trunk(spec))
    # Biases that differ from row to row, so that a row out of place is seen.
    bias = found[CLASS_LAYER + "bias"]
    found[CLASS_LAYER + "bias"] = torch.arange(len(bias), dtype=torch.float32)
    return found


def rows(tensors: dict[str, torch.Tensor], name: str, spec: ModelSpec, part: str = "weight") -> torch.Tensor:
    """Return what a class says: a row per anchor, read as the trunk reads its channels."""
    layer = tensors[CLASS_LAYER + part]
    k = len(spec.labels.classes)
    return layer[[anchor * k + spec.labels.classes.index(name) for anchor in range(ANCHORS)]]


def test_the_same_model_is_kept_bit_by_bit() -> None:
    spec = with_classes("tree", "bird")
    start = weights(spec)
    found, report = transfer(start, spec, spec)
    assert set(found) == set(start)
    assert all(torch.equal(found[name], start[name]) for name in start)
    assert report.initialised == report.dropped == report.notes == ()
    assert report.moved == {"tree": "tree", "bird": "bird"}
    assert not fresh_rows(report, spec).any()


def test_class_rows_move_by_name_and_the_box_head_stays() -> None:
    old, new = with_classes("tree", "bird", "car"), with_classes("bird", "bush", "tree")
    start = weights(old)
    found, report = transfer(start, old, new, seed=1)
    for name in ("tree", "bird"):
        for part in ("weight", "bias"):
            assert torch.equal(rows(found, name, new, part), rows(start, name, old, part))
    fresh = rows(found, "bush", new)
    assert 0.005 < fresh.std() < 0.02
    assert rows(found, "bush", new, "bias").tolist() == pytest.approx([-math.log(99)] * ANCHORS)
    assert all(torch.equal(found[n], start[n]) for n in start if not n.startswith(CLASS_LAYER))
    assert any(name.startswith(BOX_LAYER) for name in report.kept)
    assert (report.initialised, report.dropped) == (("class bush",), ("class car",))
    assert fresh_rows(report, new).tolist() == [False, True, False] * ANCHORS


def test_predictions_of_a_moved_class_are_bit_equal() -> None:
    old, new = with_classes("tree"), with_classes("bird", "tree")
    start = weights(old)
    found, _ = transfer(start, old, new)
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before, after = build(old, start)(pixels), build(new, found)(pixels)
    assert torch.equal(after.deltas, before.deltas)
    torch.testing.assert_close(after.logits[..., 1], before.logits[..., 0], rtol=1e-5, atol=1e-5)


def test_a_new_class_starts_as_a_copy_of_the_one_it_comes_from() -> None:
    old, new = with_classes("tree", "bird"), with_classes("tree", "spruce", "pine")
    start = weights(old)
    found, report = transfer(start, old, new, comes_from={"Spruce": "TREE"})
    assert torch.equal(rows(found, "spruce", new), rows(start, "tree", old))
    assert torch.equal(rows(found, "tree", new), rows(start, "tree", old))
    assert report.moved == {"tree": "tree", "spruce": "tree"}
    assert "class spruce: starts as a copy of tree" in report.lines()
    # The copy has to learn as well: only what was known under its own name is done.
    assert fresh_rows(report, new).tolist() == [False, True, True] * ANCHORS


def test_classes_without_any_known_name_start_as_the_only_class_there_was() -> None:
    old, new = with_classes("tree"), with_classes("alive", "dead")
    start = weights(old)
    found, report = transfer(start, old, new)
    for name in new.labels.classes:
        assert torch.equal(rows(found, name, new, "bias"), rows(start, "tree", old, "bias"))
    assert "alive, dead: copied from tree, the only class of the starting model" in report.lines()
    assert fresh_rows(report, new).all()


def test_without_a_known_name_and_several_classes_nothing_is_guessed() -> None:
    old, new = with_classes("tree", "bird"), with_classes("alive", "dead")
    _, report = transfer(weights(old), old, new)
    assert report.moved == {}
    assert report.initialised == ("class alive", "class dead")
    assert report.dropped == ("class tree", "class bird")


def test_names_that_differ_in_case_are_one_class_and_it_is_said() -> None:
    old, new = with_classes("tree"), with_classes("Tree", "bird")
    start = weights(old)
    found, report = transfer(start, old, new)
    assert torch.equal(rows(found, "Tree", new), rows(start, "tree", old))
    assert any("differ in case alone" in line for line in report.lines())
    assert fresh_rows(report, new).tolist() == [False, True] * ANCHORS


@pytest.mark.parametrize("comes_from", [{"oak": "tree"}, {"spruce": "shrub"}])
def test_a_mapping_that_names_no_class_is_refused(comes_from: dict[str, str]) -> None:
    old, new = with_classes("tree"), with_classes("spruce")
    with pytest.raises(ConfigError, match=r"oak.*spruce|shrub.*tree"):
        transfer(weights(old), old, new, comes_from=comes_from)


def test_more_bands_give_grey_the_same_response() -> None:
    old = tiny_spec()
    new = tiny_spec(bands=5, mean=(0.4,) * 5, std=(0.2,) * 5)
    start = weights(old)
    found, report = transfer(start, old, new)
    before, after = start["backbone.body.conv1.weight"], found["backbone.body.conv1.weight"]
    torch.testing.assert_close(after.sum(dim=1), before.sum(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[:, :3] * 5 / 3, before)
    assert any("3 bands kept, 2 started as their mean" in line for line in report.lines())
    build(new, found)


def test_fewer_bands_keep_the_first() -> None:
    old = tiny_spec(bands=4, mean=(0.4,) * 4, std=(0.2,) * 4)
    start = weights(old)
    found, report = transfer(start, old, tiny_spec())
    assert torch.equal(found["backbone.body.conv1.weight"], start["backbone.body.conv1.weight"][:, :3])
    assert any("the first 3 of 4 bands" in line for line in report.lines())


def test_another_number_of_anchors_starts_both_heads_last_layers_afresh() -> None:
    old, new = tiny_spec(), tiny_spec(anchor_sizes_m=((1.6, 2.4, 3.2), (6.4, 8.0, 10.0)))
    found, report = transfer(weights(old), old, new)
    assert {"class tree", CLASS_LAYER + "weight", CLASS_LAYER + "bias", BOX_LAYER + "weight"} <= set(
        report.initialised
    )
    assert report.moved == {}
    assert fresh_rows(report, new).all()
    build(new, found)


def test_as_many_rows_by_chance_are_not_the_same_rows() -> None:
    # Two anchors times three classes, and three anchors times two.
    old = with_classes("a", "b", "c")
    new = with_classes("a", "b", anchor_sizes_m=((1.6, 2.4, 3.2), (6.4, 8.0, 10.0)))
    assert transfer(weights(old), old, new)[1].moved == {}


def test_the_pyramid_is_kept_by_level() -> None:
    old, new = tiny_spec(), tiny_spec(levels=(2, 3, 4), anchor_sizes_m=((1.0, 1.3), (1.6, 3.2), (6.4, 10.0)))
    start = weights(old)
    found, report = transfer(start, old, new)
    assert torch.equal(found["backbone.fpn.inner_blocks.1.0.weight"], start["backbone.fpn.inner_blocks.0.0.weight"])
    assert "backbone.fpn.inner_blocks.0.0.weight" in report.initialised


def test_anchors_that_change_in_pixels_are_said() -> None:
    old = tiny_spec()
    assert any("anchors" in n for n in transfer(weights(old), old, replace(old, gsd=0.2))[1].notes)
    scaled = replace(old, gsd=0.2, anchor_sizes_m=tuple(tuple(2 * s for s in level) for level in old.anchor_sizes_m))
    assert transfer(weights(old), old, scaled)[1].notes == ()


def test_nothing_that_fits_is_an_error() -> None:
    old, new = tiny_spec(), tiny_spec(fpn_channels=32, backbone="resnet50")
    with pytest.raises(NothingTransferredError, match="resnet18, 16 channels"):
        transfer(weights(old), old, new)


def test_fresh_values_follow_the_seed_and_leave_the_generator_alone() -> None:
    old, new = with_classes("tree"), with_classes("tree", "bird")
    start = weights(old)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    one, two, other = (transfer(start, old, new, seed=s)[0] for s in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(rows(one, "bird", new), rows(two, "bird", new))
    assert not torch.equal(rows(one, "bird", new), rows(other, "bird", new))


def test_stored_half_precision_becomes_single() -> None:
    spec = tiny_spec()
    half = {name: tensor.half() for name, tensor in weights(spec).items()}
    found, _ = transfer(half, spec, spec)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert torch.equal(found[BOX_LAYER + "weight"], half[BOX_LAYER + "weight"].float())
