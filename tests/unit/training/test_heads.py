"""Training what is said about crowns: what learns, what stays, and what the model file says afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import make_raster, tiny_spec

from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.labels import LabelSchema
from treedet.core.spec import HeadFacts, OperatingPoint
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.crops import read_crops
from treedet.datasets.sample_config import SampleConfig
from treedet.errors import ConfigError, ResumeMismatchError
from treedet.inference.detector import Detector
from treedet.models.backends.eager import EagerBackend
from treedet.models.network import NetworkDetector
from treedet.rasters.raster import Raster
from treedet.training.config import TrainConfig
from treedet.training.fine_tune import fine_tune
from treedet.training.head_plan import HeadRecipe
from treedet.training.module import random_trunk
from treedet.training.plan import make_plan
from treedet.training.recipe import Recipe

COLOURS = {"alive": (40, 160, 40), "dead": (170, 170, 170)}
QUICK = TrainConfig(
    epochs=1,
    windows_per_epoch=8,
    batch_size=4,
    workers=0,
    precision="32-true",
    warmup_steps=1,
    learning_rate=5e-3,
    freeze="trunk",
    samples=SampleConfig(window_px=96, radiometry="none", empty=0.0, mosaic=0.0, turn=0.0),
)
LONGER = replace(QUICK, epochs=4)
"""Enough to tell green from grey."""


def squares(tmp_path, *, labels=("alive", "dead"), known=1.0, name="stand", attribute="status"):
    """A raster of green and grey squares whose status is known, and their table."""
    rng = np.random.default_rng(4)
    side, cell = 600, 60
    pixels = np.full((3, side, side), 90, np.uint8)
    corners = np.array([(x, y) for y in range(15, side - 45, cell) for x in range(15, side - 45, cell)])
    codes = rng.integers(0, 2, len(corners))
    for (x, y), code in zip(corners, codes, strict=True):
        colour = list(COLOURS.values())[code]
        pixels[:, y : y + 30, x : x + 30] = np.array(colour)[:, None, None] + rng.integers(-9, 9, (3, 30, 30))
    path = make_raster(tmp_path / f"{name}.tif", pixels)
    boxes = np.concatenate([corners, corners + 30], axis=1).astype(float)
    n = len(boxes)
    crowns = CrownArrays(
        boxes,
        np.ones(n, np.float32),
        np.zeros(n, np.int64),
        np.zeros(n, bool),
        np.zeros(n, bool),
        {attribute: np.eye(2, dtype=np.float32)[codes]},
    )
    with Raster.open(str(path)) as raster:
        table = to_table(crowns, raster.grid, LabelSchema(attributes={attribute: labels}), source=str(path))
    hidden = rng.random(n) >= known
    table.loc[hidden, attribute] = None
    return AnnotatedRaster(path, table)


def starting(attributes=None, **changes) -> Detector:
    spec = tiny_spec(
        labels=LabelSchema(attributes=attributes or {}),
        operating_points={"balanced": OperatingPoint(0.41, 0.6, 0.7, 0.65), "count": OperatingPoint(0.2)},
        temperature=0.6,
        **changes,
    )
    trunk = random_trunk(spec, 3).eval()
    return Detector(NetworkDetector(EagerBackend(trunk), spec), name="start", trunk=trunk)


def test_heads_alone_learn_and_the_detection_stays_bit_by_bit(tmp_path):
    start = starting()
    result = fine_tune(start, [squares(tmp_path)], config=LONGER)
    before, after = start.trunk.state_dict(), result.detector.trunk.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    spec = result.detector.spec
    assert spec.operating_points == start.spec.operating_points
    assert spec.temperature == 0.6
    assert (spec.gsd, spec.anchor_sizes_m) == (start.spec.gsd, start.spec.anchor_sizes_m)
    assert spec.labels.attributes == {"status": ("alive", "dead")}
    known, said = result.said.of("status")
    assert (said.argmax(axis=1) == known).mean() > 0.95
    assert sum(spec.heads["status"].counts.values()) + len(known) == 81
    assert result.history[-1]["val_status_accuracy"] > 0.95


def test_given_crowns_are_described_and_found_ones_say_the_same_kind_of_thing(tmp_path):
    plot = squares(tmp_path)
    result = fine_tune(starting(), [plot], config=LONGER, recipe=Recipe(validation_share=0.0))
    bare = plot.crowns.drop(columns=["status", "status_p"])
    said = result.detector.describe(plot.path, bare)
    assert (said["status"].astype(str) == plot.crowns["status"].astype(str)).mean() > 0.95
    assert said["status_p"].between(0.5, 1).all()
    assert list(said.index) == list(bare.index)
    sure = result.detector.describe(plot.path, bare, min_p=1.0)
    assert sure["status"].isna().all()
    assert {"status", "status_p"} <= set(result.detector.predict(plot.path).columns)


def test_a_detector_without_heads_can_not_describe(tmp_path):
    plot = squares(tmp_path)
    with pytest.raises(ConfigError, match="says nothing about crowns besides their class"):
        starting().describe(plot.path, plot.crowns)


def test_only_the_head_with_labels_learns(tmp_path):
    attributes = {"species": ("PISY", "PIAB"), "status": ("alive", "dead")}
    start = starting(attributes, heads={"species": HeadFacts({"PISY": 7, "PIAB": 9}, 2.0)})
    result = fine_tune(start, [squares(tmp_path)], config=QUICK)
    before, after = start.trunk.state_dict(), result.detector.trunk.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(name.startswith("attributes.status.") for name in changed)
    assert result.detector.spec.heads["species"] == HeadFacts({"PISY": 7, "PIAB": 9}, 2.0)


def test_crowns_without_a_label_are_passed_over(tmp_path):
    plan = make_plan(starting(), [squares(tmp_path, known=0.4)], config=QUICK, recipe=Recipe(validation_share=0.0))
    total = sum(plan.heads.counts["status"])
    assert 20 < total < 60
    assert (plan.heads.said(plan.split.train[0].plot) >= 0).sum() == total


def test_detection_and_heads_learn_together(tmp_path):
    start = starting()
    config = replace(QUICK, freeze="none")
    result = fine_tune(start, [squares(tmp_path)], config=config, recipe=Recipe("complete"))
    changed = {
        name
        for name, tensor in start.trunk.state_dict().items()
        if not torch.equal(result.detector.trunk.state_dict()[name], tensor)
    }
    assert any(name.startswith("backbone.") for name in changed)
    assert {"loss_class", "loss_box", "loss_attributes"} <= set(result.history[0])
    assert result.history[0]["loss_box"] > 0
    assert result.history[0]["loss_attributes"] > 0
    assert {"val_f1", "val_status_f1"} <= set(result.history[0])


def test_a_head_without_labels_here_is_kept_with_its_body_and_left_out_without(tmp_path):
    plot = squares(tmp_path, attribute="status")
    start = starting({"species": ("PISY", "PIAB")})
    kept = make_plan(start, [plot], config=replace(QUICK, freeze="backbone"), recipe=Recipe("complete"))
    assert list(kept.heads.schema) == ["species", "status"]
    assert list(kept.heads.counts) == ["status"]
    gone = make_plan(start, [plot], config=replace(QUICK, freeze="none"), recipe=Recipe("complete"))
    assert list(gone.heads.schema) == ["status"]
    assert any("species is not carried over" in line for line in gone.heads.lines)


def test_heads_alone_do_not_ask_whether_the_annotation_is_complete(tmp_path, monkeypatch):
    def asked(*_):
        raise AssertionError("asked")

    monkeypatch.setattr("treedet.training.plan.check_annotation", asked)
    make_plan(starting(), [squares(tmp_path)], config=QUICK)


def test_a_stopped_run_of_heads_goes_on_to_the_same_weights(tmp_path):
    plot, config = squares(tmp_path), replace(QUICK, epochs=2)
    straight = fine_tune(starting(), [plot], config=config, run=tmp_path / "straight")

    class Stop(Exception):  # noqa: N818 - not an error
        pass

    def stop(progress):
        if progress.step == 3:
            raise Stop

    with pytest.raises(Stop):
        fine_tune(starting(), [plot], config=config, run=tmp_path / "stopped", watch=stop)
    resumed = fine_tune(starting(), [plot], config=config, run=tmp_path / "stopped", resume=True)
    for name, tensor in straight.detector.trunk.state_dict().items():
        assert torch.equal(resumed.detector.trunk.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (HeadRecipe({"genus": ()}), "attribute 'genus' is in no annotation"),
        (HeadRecipe({"status": ("living", "dead")}), "'alive'.* not among its classes"),
        (HeadRecipe(min_crowns=1000), "leaves nothing to train"),
    ],
)
def test_what_can_not_be_learned_is_refused_in_one_line(tmp_path, recipe, message):
    with pytest.raises((ConfigError, ValueError), match=message) as error:
        make_plan(starting(), [squares(tmp_path)], config=QUICK, recipe=Recipe(heads=recipe))
    assert "\n" not in str(error.value)


def crops(tmp_path):
    from PIL import Image  # noqa: PLC0415

    rng = np.random.default_rng(1)
    for label, colour in COLOURS.items():
        (tmp_path / "crops" / label).mkdir(parents=True)
        for number in range(24):
            picture = np.clip(np.array(colour) + rng.integers(-20, 20, (30, 34, 3)), 0, 255).astype(np.uint8)
            name = f"2018_ABBY_2_5540{number:02d}_5062000_image_1.png"
            Image.fromarray(picture).save(tmp_path / "crops" / label / name)
    return read_crops(tmp_path / "crops", attribute="status", gsd=0.1)


def test_crops_alone_train_a_head(tmp_path):
    start = starting()
    result = fine_tune(start, [], config=LONGER, recipe=Recipe(crops=crops(tmp_path)))
    assert all(
        torch.equal(result.detector.trunk.state_dict()[name], tensor)
        for name, tensor in start.trunk.state_dict().items()
    )
    known, said = result.said.of("status")
    assert len(known) == 10  # a fifth of the places, both crops of each
    assert (said.argmax(axis=1) == known).all()


def test_crops_alone_teach_no_detection(tmp_path):
    with pytest.raises(ConfigError, match="crops show no ground, so they teach heads alone"):
        make_plan(starting(), [], config=replace(QUICK, freeze="none"), recipe=Recipe(crops=crops(tmp_path)))


def test_labels_move_by_name_to_a_detector_with_others():
    start = starting({"status": ("alive", "dead")})
    other = start.with_labels(LabelSchema(attributes={"status": ("dead", "alive"), "species": ("A", "B")}))
    before, after = start.trunk.state_dict(), other.trunk.state_dict()
    assert torch.equal(after["attributes.status.logits.bias"], before["attributes.status.logits.bias"].flip(0))
    assert all(torch.equal(after[n], t) for n, t in before.items() if n.startswith(("backbone", "head")))
    assert other.spec.labels.attributes["species"] == ("A", "B")


def test_a_run_is_not_resumed_with_other_labels(tmp_path):
    plot = squares(tmp_path)
    fine_tune(starting(), [plot], config=QUICK, run=tmp_path / "run")
    changed = plot.crowns.assign(
        status=plot.crowns["status"].cat.rename_categories({"alive": "dead", "dead": "alive"})
    )
    other = AnnotatedRaster(plot.path, changed)
    with pytest.raises(ResumeMismatchError, match="data was"):
        fine_tune(starting(), [other], config=QUICK, run=tmp_path / "run", resume=True)


def test_what_would_change_the_detection_is_refused_where_it_stays(tmp_path):
    for changes in ({"model_gsd": 0.2}, {"max_crown": 30.0}):
        with pytest.raises(ConfigError, match="would change how crowns are found"):
            make_plan(starting(), [squares(tmp_path)], config=QUICK, recipe=Recipe(**changes))
