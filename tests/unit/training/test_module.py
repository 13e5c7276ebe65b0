"""What learns, what stays, and how fast; without a trainer where one is not needed."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from factories import tiny_spec
from torch.utils.data import DataLoader

from treedet.core.labels import LabelSchema
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import collate
from treedet.errors import ConfigError
from treedet.models.build import build, weights_of
from treedet.models.losses import Targets
from treedet.models.trunk import Trunk
from treedet.training.averaging import AveragedTrunk
from treedet.training.config import TrainConfig
from treedet.training.module import CrownModule, trunk_of

SIDE = 64


def config(**changes):
    values = {
        "epochs": 1,
        "windows_per_epoch": 6,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "samples": SampleConfig(window_px=SIDE),
    }
    return TrainConfig(**{**values, **changes})


def windows():
    rng = np.random.default_rng(3)
    boxes = torch.tensor([[10.0, 12.0, 34.0, 36.0], [30.0, 30.0, 60.0, 58.0]])
    return [
        (
            torch.from_numpy(rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)),
            Targets(boxes, torch.tensor([0, i % 2])),
        )
        for i in range(6)
    ]


def run(module):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and missing loops
        trainer.fit(module, DataLoader(windows(), batch_size=2, collate_fn=collate))
    return module


def spec():
    return tiny_spec(labels=LabelSchema(classes=("tree", "bird")))


def copied(trunk):
    return {name: value.clone() for name, value in trunk.state_dict().items()}


def changed(before, trunk):
    return {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_frozen_backbone_stays_to_the_last_bit(optimizer):
    module = CrownModule(spec(), config(freeze="backbone", optimizer=optimizer))
    before = copied(module.trunk)
    run(module)
    for trunk in (module.trunk, module.averaged.trunk):
        names = changed(before, trunk)
        assert not [name for name in names if name.startswith("backbone.body.")]
        assert any(name.startswith("backbone.fpn.") and name.endswith("running_mean") for name in names)
        assert any(name.startswith("head.regression_head.") for name in names)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_frozen_trunk_trains_fresh_class_rows_alone(optimizer):
    rows = torch.tensor([False, True] * (spec().anchors_per_location))
    module = CrownModule(spec(), config(freeze="trunk", optimizer=optimizer), fresh_rows=rows)
    before = copied(module.trunk)
    run(module)
    layer = "head.classification_head.cls_logits"
    for trunk in (module.trunk, module.averaged.trunk):
        assert changed(before, trunk) == {f"{layer}.weight", f"{layer}.bias"}
        for name in (f"{layer}.weight", f"{layer}.bias"):
            now, old = trunk.state_dict()[name], before[name]
            assert torch.equal(now[~rows], old[~rows])
            assert not torch.equal(now[rows], old[rows])


@pytest.mark.parametrize("rows", [None, torch.zeros(4, dtype=torch.bool)])
def test_a_frozen_trunk_without_fresh_rows_has_nothing_to_train(rows):
    with pytest.raises(ConfigError, match=r"nothing to train.*freeze='backbone'"):
        CrownModule(spec(), config(freeze="trunk"), fresh_rows=rows)


def test_fresh_rows_must_fit_the_class_layer():
    with pytest.raises(ConfigError, match=r"must hold 4 values.*found \[3\]"):
        CrownModule(spec(), config(freeze="trunk"), fresh_rows=torch.ones(3, dtype=torch.bool))


def test_a_trunk_from_a_model_file_trains_its_normalisation():
    start = build(spec(), weights_of(Trunk(spec())))
    assert not start.training
    module = CrownModule(spec(), config(), trunk=start)
    assert module.trunk.backbone.body["bn1"].training
    assert not module.averaged.trunk.backbone.body["bn1"].training
    before = copied(module.trunk)
    run(module)
    assert "backbone.body.bn1.running_mean" in changed(before, module.trunk)


def test_random_weights_follow_the_seed():
    first, same, other = (CrownModule(spec(), config(seed=seed)).trunk for seed in (0, 0, 1))
    assert not changed(copied(first), same)
    assert changed(copied(first), other)


def test_biases_and_normalisation_do_not_decay():
    module = CrownModule(spec(), config(weight_decay=0.1))
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim <= 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(module.trunk.parameters()))


def test_the_rate_rises_then_falls():
    module = CrownModule(tiny_spec(), config(epochs=10, windows_per_epoch=20, batch_size=2, warmup_steps=10))
    rates = [module.rate(step) for step in range(101)]
    assert module.steps == 100
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] == 0


def test_a_run_shorter_than_its_warm_up_is_not_rushed():
    module = CrownModule(tiny_spec(), config(epochs=1, windows_per_epoch=8, batch_size=2, warmup_steps=500))
    assert [module.rate(step) for step in range(4)] == pytest.approx([0.002, 0.004, 0.006, 0.008])


def test_the_average_lets_go_of_its_start_at_once_then_settles():
    trunk = Trunk(tiny_spec())
    average = AveragedTrunk(trunk, decay=0.5)
    bias = "head.regression_head.bbox_reg.bias"
    with torch.no_grad():
        trunk.get_parameter(bias).add_(1.0)
    expected = 0.0
    for kept in (0.1, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5):
        average.update(trunk)
        expected = kept * expected + (1 - kept)
        assert average.trunk.get_parameter(bias)[0].item() == pytest.approx(expected, abs=1e-6)


def test_no_averaging_follows_the_trunk_exactly():
    trunk = Trunk(tiny_spec())
    average = AveragedTrunk(trunk, decay=0.0)
    with torch.no_grad():
        for value in [*trunk.parameters(), *trunk.buffers()]:
            value.add_(1)
    average.update(trunk)
    assert not changed(copied(trunk), average.trunk)


def test_a_checkpoint_gives_both_kinds_of_weights():
    module = run(CrownModule(spec(), config()))
    checkpoint = {"state_dict": module.state_dict()}
    assert not changed(copied(module.averaged.trunk), trunk_of(checkpoint, spec()))
    assert not changed(copied(module.trunk), trunk_of(checkpoint, spec(), averaged=False))
