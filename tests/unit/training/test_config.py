import pytest

from treedet.errors import ConfigError
from treedet.training.config import TrainConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"patience": -1}, "patience must be 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"weight_decay": float("inf")}, "weight_decay must be a number of 0 or more"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1"),
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, found 'adam'"),
        ({"freeze": "head"}, "freeze must be one of none, backbone, trunk"),
        ({"precision": "16-mixed"}, "precision must be one of auto, 32-true, bf16-mixed"),
        ({"windows_per_epoch": 7}, "less than one batch of 8"),
        ({"trainer": {"max_epochs": 3}}, "'max_epochs' is settled by the training run; set epochs instead"),
        ({"trainer": {"use_distributed_sampler": True}}, "settled by the training run$"),
        ({"trainer": {"devcies": 2}}, "'devcies' is unknown; accepted are accelerator, "),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        TrainConfig(**changes)
    assert "\n" not in str(error.value)


def test_trainer_flags_pass():
    assert TrainConfig(trainer={"devices": 2, "strategy": "ddp"}).trainer["devices"] == 2


def test_an_epoch_is_shared_by_devices():
    config = TrainConfig(windows_per_epoch=100, batch_size=8)
    assert (config.steps_per_epoch(), config.steps_per_epoch(2), config.steps_per_epoch(20)) == (12, 6, 1)
