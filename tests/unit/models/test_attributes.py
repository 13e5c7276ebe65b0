"""Heads behind detection: they change nothing before them, nor each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import tiny_spec

from treedet.core.labels import LabelSchema
from treedet.core.spec import HeadFacts, ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.models import model_file
from treedet.models.attributes import AttributeHead, probabilities
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import build, weights_of
from treedet.models.network import NetworkDetector
from treedet.models.pooling import CELLS, CONTEXT_CELLS, around, pool_crowns
from treedet.models.trunk import Trunk

STATUS = {"status": ("alive", "dead")}
SPECIES = {"species": ("PISY", "PIAB", "BEPE")}


def with_attributes(attributes: dict[str, tuple[str, ...]]) -> ModelSpec:
    return tiny_spec(labels=LabelSchema(attributes=attributes))


def trunk_of(spec: ModelSpec) -> Trunk:
    torch.manual_seed(3)
    trunk = Trunk(spec)
    # Class biases that let some windows have a few dozen detections.
    torch.nn.init.constant_(trunk.head.classification_head.cls_logits.bias, -1.0)
    torch.nn.init.normal_(trunk.head.classification_head.cls_logits.weight, std=0.1)
    return trunk.eval()


def pixels(count: int = 2, side: int = 128) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, (count, 3, side, side), dtype=np.uint8)


def detect(trunk: Trunk, spec: ModelSpec, images: np.ndarray, precision: str = "fp32"):
    model = NetworkDetector(EagerBackend(trunk, device="cpu", precision=precision), spec)
    return model.detect(images, sides=[0] * len(images), threshold=0.4, merge=MergeConfig())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detection_is_bit_equal_with_and_without_heads(precision):
    plain = tiny_spec()
    start = trunk_of(plain)
    shared = start.state_dict()
    found = detect(start, plain, pixels(), precision)
    assert all(len(one) > 10 for one in found)
    for attributes in (STATUS, {**STATUS, **SPECIES}):
        spec = with_attributes(attributes)
        trunk = trunk_of(spec)
        trunk.load_state_dict({**trunk.state_dict(), **shared})
        for a, b in zip(found, detect(trunk, spec, pixels(), precision), strict=True):
            np.testing.assert_array_equal(a.boxes, b.boxes)
            np.testing.assert_array_equal(a.scores, b.scores)
            assert {name: values.shape for name, values in b.attributes.items()} == {
                name: (len(b), len(classes)) for name, classes in attributes.items()
            }


def test_one_head_says_the_same_whatever_others_there_are():
    both, one = with_attributes({**STATUS, **SPECIES}), with_attributes(STATUS)
    trunk = trunk_of(both)
    alone = trunk_of(one)
    alone.load_state_dict({k: v for k, v in trunk.state_dict().items() if k in alone.state_dict()})
    before = detect(trunk, both, pixels())
    with torch.no_grad():
        for parameter in trunk.attributes["species"].parameters():
            parameter.add_(1.0)
    for a, b, c in zip(before, detect(trunk, both, pixels()), detect(alone, one, pixels()), strict=True):
        np.testing.assert_array_equal(a.attributes["status"], b.attributes["status"])
        np.testing.assert_array_equal(a.attributes["status"], c.attributes["status"])
        assert not np.array_equal(a.attributes["species"], b.attributes["species"])


def test_a_batch_of_two_says_what_two_batches_of_one_say():
    spec = with_attributes(STATUS)
    trunk = trunk_of(spec)
    together = detect(trunk, spec, pixels())
    for number, one in enumerate(together):
        alone = detect(trunk, spec, pixels()[number : number + 1])[0]
        np.testing.assert_allclose(one.attributes["status"], alone.attributes["status"], atol=1e-5)


def test_probabilities_add_up_and_follow_the_temperature():
    spec = with_attributes(SPECIES)
    logits = {"species": torch.tensor([[2.0, 0.0, -1.0]])}
    plain = probabilities(logits, spec)["species"]
    mild = probabilities(logits, replace(spec, heads={"species": HeadFacts(temperature=4.0)}))["species"]
    torch.testing.assert_close(plain, torch.softmax(logits["species"], dim=1))
    torch.testing.assert_close(mild, torch.softmax(logits["species"] / 4, dim=1))


def test_a_window_without_detections_gives_empty_probabilities():
    spec = with_attributes(SPECIES)
    model = NetworkDetector(EagerBackend(trunk_of(spec), device="cpu", precision="fp32"), spec)
    found = model.detect(pixels(1), sides=[0], threshold=1.0, merge=MergeConfig())[0]
    assert len(found) == 0
    assert found.attributes["species"].shape == (0, 3)
    assert model.say(pixels(1), [np.zeros((0, 4))])[0]["species"].shape == (0, 3)


def test_given_boxes_are_answered_in_their_order_and_window():
    spec = with_attributes(STATUS)
    model = NetworkDetector(EagerBackend(trunk_of(spec), device="cpu", precision="fp32"), spec)
    boxes = [np.array([[10.0, 10, 40, 40], [60, 60, 90, 100]]), np.array([[5.0, 20, 50, 70]])]
    found = model.say(pixels(), boxes)
    turned = model.say(pixels()[::-1].copy(), [boxes[1], boxes[0][::-1]])
    np.testing.assert_allclose(found[0]["status"], turned[1]["status"][::-1], atol=1e-5)
    np.testing.assert_allclose(found[1]["status"], turned[0]["status"], atol=1e-5)


def test_a_saved_model_says_the_same(tmp_path):
    spec = replace(with_attributes(STATUS), heads={"status": HeadFacts({"alive": 9, "dead": 2}, 1.5)})
    trunk = trunk_of(spec)
    model_file.save(tmp_path / "m.safetensors", spec, weights_of(trunk))
    read, tensors = model_file.load(tmp_path / "m.safetensors")
    assert read.heads["status"] == HeadFacts({"alive": 9, "dead": 2}, 1.5)
    again = build(read, tensors)
    model_file.save(tmp_path / "n.safetensors", read, weights_of(again))
    third = build(*model_file.load(tmp_path / "n.safetensors"))
    for a, b in zip(detect(again, read, pixels()), detect(third, read, pixels()), strict=True):
        np.testing.assert_array_equal(a.attributes["status"], b.attributes["status"])


def test_pooling_reads_a_ramp_where_the_box_is():
    """A map whose value at index i is the pixel i * stride it stands for gives the centre of each cell back."""
    for stride in (4, 8):
        ramp = torch.arange(64.0)[None, :] * stride
        maps = [torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T])[None]]
        box = torch.tensor([[60.0, 80.0, 100.0, 110.0]])
        pooled, seen = pool_crowns(maps, [stride], box, torch.zeros(1, dtype=torch.int64), size=(512, 512))
        wide = around(box)[0]
        x = wide[0] + (torch.arange(CELLS) + 0.5) / CELLS * (wide[2] - wide[0])
        y = wide[1] + (torch.arange(CELLS) + 0.5) / CELLS * (wide[3] - wide[1])
        torch.testing.assert_close(pooled[0, 0], x.expand(CELLS, CELLS), atol=1e-3, rtol=0)
        torch.testing.assert_close(pooled[0, 1], y[:, None].expand(CELLS, CELLS), atol=1e-3, rtol=0)
        assert seen.all()


def test_cells_beyond_the_window_are_not_seen():
    maps = [torch.zeros(1, 1, 32, 32)]
    _, seen = pool_crowns(
        maps, [4], torch.tensor([[0.0, 20.0, 50.0, 70.0]]), torch.zeros(1, dtype=torch.int64), size=(128, 128)
    )
    assert not seen[0, :, :CONTEXT_CELLS].any()
    assert seen[0, :, CONTEXT_CELLS:].all()


def test_hidden_surroundings_do_not_count():
    torch.manual_seed(0)
    head = AttributeHead([4], 2).eval()
    inside = torch.rand(1, 4, 64, 64)
    elsewhere = inside.clone()
    # A value of the map further than one from the crown is never blended into it.
    elsewhere[..., :14], elsewhere[..., 36:] = 9.0, -9.0
    box, window = torch.tensor([[64.0, 64.0, 136.0, 136.0]]), torch.zeros(1, dtype=torch.int64)

    def say(values, shown):
        return head([values], [4], box, window, size=(256, 256), context=torch.tensor([shown]))

    assert torch.equal(say(inside, False), say(elsewhere, False))
    assert not torch.equal(say(inside, True), say(elsewhere, True))
