from __future__ import annotations

import torch
from factories import tiny_spec

from treedet.core.labels import LabelSchema
from treedet.models.build import build, weights_of
from treedet.models.transfer import transfer
from treedet.models.trunk import Trunk

OLD = tiny_spec(labels=LabelSchema(attributes={"status": ("alive", "dead"), "species": ("PISY", "PIAB")}))


def weights(spec):
    torch.manual_seed(2)
    return weights_of(Trunk(spec))


def moved(attributes, **changes):
    new = tiny_spec(labels=LabelSchema(attributes=attributes), **changes)
    found, report = transfer(weights(OLD), OLD, new)
    build(new, found)
    return found, report


def test_a_head_with_the_same_classes_is_kept_bit_by_bit():
    start = weights(OLD)
    found, report = moved(dict(OLD.labels.attributes))
    assert all(torch.equal(found[name], start[name]) for name in start)
    assert report.initialised == report.dropped == ()


def test_rows_move_by_name_whatever_their_order_and_case():
    start = weights(OLD)
    found, report = moved({"status": ("Dead", "unsure", "Alive")})
    for part in ("weight", "bias"):
        rows, before = found[f"attributes.status.logits.{part}"], start[f"attributes.status.logits.{part}"]
        assert torch.equal(rows[0], before[1])
        assert torch.equal(rows[2], before[0])
    assert torch.equal(found["attributes.status.conv.0.weight"], start["attributes.status.conv.0.weight"])
    assert "attribute status: Dead, Alive kept, unsure initialised" in report.notes
    assert report.dropped == ("attribute species",)


def test_a_new_attribute_starts_afresh_and_a_vanished_one_is_dropped():
    _, report = moved({"status": ("alive", "dead"), "genus": ("Pinus", "Picea")})
    assert report.initialised == ("attribute genus",)
    assert report.dropped == ("attribute species",)


def test_heads_mean_nothing_behind_another_body():
    found, report = moved(dict(OLD.labels.attributes), backbone="resnet34")
    assert {"attribute status", "attribute species"} <= set(report.initialised)
    start = weights(OLD)
    name = "attributes.status.conv.0.weight"
    assert not torch.equal(found[name], start[name])
