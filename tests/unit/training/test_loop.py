"""Whole runs of a tiny network: what they write, when they end, and that a stopped one goes on exactly."""

import csv
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from factories import disks, paint, tiny_spec
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset, Sampler

from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool, collate
from treedet.errors import OutputError, ResumeMismatchError, TrainingError
from treedet.models.loss_config import LossConfig
from treedet.models.losses import Targets, detection_loss
from treedet.rasters.decoded import DecodedRaster
from treedet.training import loop, module
from treedet.training.callbacks import best_epoch, write_history
from treedet.training.config import TrainConfig
from treedet.training.loop import RunData, fit, trainer_precision
from treedet.training.module import CrownModule

SIDE = 64


class Windows(Dataset):
    """Painted disks that depend on seed, epoch and index alone; some windows are bad."""

    def __init__(self, seed, bad=()):
        self.seed, self.bad, self.drawn = seed, set(bad), []

    def __getitem__(self, key):
        epoch, index = key
        self.drawn.append(key)
        rng = np.random.default_rng((self.seed, epoch, index))
        circles = disks(rng, width=SIDE, height=SIDE, count=2, radius=(8, 14))
        boxes = np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)
        if key in self.bad:
            boxes = boxes * np.nan
        pixels = torch.from_numpy(paint(circles, width=SIDE, height=SIDE))
        return pixels, Targets(torch.from_numpy(boxes.astype(np.float32)), torch.zeros(len(boxes), dtype=torch.int64))


def poisoned(logits, deltas, anchors, targets, *, config=None):
    """The loss, not finite where a window is bad; the forward pass is done by then, as in earnest."""
    loss = detection_loss(logits, deltas, anchors, targets, config=config)
    bad = any(target.boxes.isnan().any() for target in targets)
    return replace(loss, total=loss.total * math.nan) if bad else loss


class Epochs(Sampler):
    def __init__(self, windows):
        self.windows, self.epoch = windows, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([(self.epoch, i) for i in range(self.windows)])

    def __len__(self):
        return self.windows


class Data(pl.LightningDataModule):
    bad = ()
    made: ClassVar[list] = []

    def __init__(self, pools, *, samples, batch_size, epoch_windows, workers, seed, canvases):
        assert canvases is None
        super().__init__()
        self.windows = Windows(seed, self.bad)
        self.batch_size, self.epoch_windows = batch_size, epoch_windows
        self.made.append(self.windows)

    def train_dataloader(self):
        return DataLoader(
            self.windows, batch_size=self.batch_size, sampler=Epochs(self.epoch_windows), collate_fn=collate
        )

    def val_dataloader(self):
        return DataLoader([0])


class StoppedError(Exception):
    """Stands for whatever kills a run."""


class StopAt(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 0:
            raise StoppedError


@pytest.fixture(autouse=True)
def painted(monkeypatch):
    monkeypatch.setattr(loop, "RunData", Data)
    monkeypatch.setattr(module, "detection_loss", poisoned)
    monkeypatch.setattr(Data, "bad", ())
    monkeypatch.setattr(Data, "made", [])


def config(**changes):
    values = {
        "epochs": 4,
        "windows_per_epoch": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "precision": "32-true",
        "workers": 0,
        "samples": SampleConfig(window_px=SIDE),
        "trainer": {"accelerator": "cpu"},
    }
    return TrainConfig(**{**values, **changes})


class Scores:
    """Scores by call, as a validation would give them; remembers whom it judged."""

    def __init__(self, *scores, seen=0):
        self.scores, self.seen = scores, []
        self.start = seen

    def __call__(self, trunk):
        assert not trunk.training
        score = self.scores[self.start + len(self.seen)]
        self.seen.append({k: v.clone() for k, v in trunk.state_dict().items()})
        return {"val_f1": score, "val_precision": score, "val_recall": 1.0}


def train(run, settings, *, validate=None, **more):
    fitted = CrownModule(tiny_spec(), settings, validate=validate)
    return fit(fitted, [], settings, run=run, **more)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def steady(history):
    return [{k: v for k, v in row.items() if k not in ("seconds", "data_wait_share")} for row in history]


def contents(run):
    found = torch.load(run / "last.ckpt", weights_only=True)
    tensors = {**found["state_dict"]}
    for number, state in found["optimizer_states"][0]["state"].items():
        tensors.update({f"{number}.{name}": value for name, value in state.items()})
    return tensors, found["lr_schedulers"], [v for k, v in found["callbacks"].items() if k.startswith("Early")]


def test_a_run_stopped_between_epochs_and_resumed_equals_one_that_was_not(tmp_path, monkeypatch):
    scores = (0.2, 0.6, 0.5, 0.4)
    whole = train(tmp_path / "whole", config(), validate=Scores(*scores))
    with monkeypatch.context() as m:
        m.setattr(loop, "_trainer", stopping(loop._trainer, 2))
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", config(), validate=Scores(*scores))
    kept = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 4, "stopped in the midst of the third epoch"
    resumed = train(tmp_path / "parts", config(), validate=Scores(*scores, seen=2), resume=True)
    for (name, a), (other, b) in zip(
        contents(tmp_path / "whole")[0].items(), contents(tmp_path / "parts")[0].items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b), name
    assert contents(tmp_path / "whole")[1:] == contents(tmp_path / "parts")[1:]
    assert same(whole.best, resumed.best)
    assert same(whole.last, resumed.last)
    assert steady(whole.history) == steady(resumed.history)
    assert (resumed.best_epoch, resumed.stopped) == (2, "all epochs done")


def test_windows_of_a_resumed_epoch_are_those_of_that_epoch_although_workers_run_ahead(tmp_path):
    ground = Ground(
        name="painted",
        pixels=DecodedRaster.of_pixels(paint(np.array([[40.0, 40, 12]]), width=96, height=96), gsd=0.1),
        boxes=np.array([[28.0, 28, 52, 52]]),
        classes=np.zeros(1, np.int64),
    )
    data = RunData(
        [Pool([ground])], samples=SampleConfig(window_px=SIDE), batch_size=2, epoch_windows=4, workers=0, seed=0
    )
    data.trainer = SimpleNamespace(current_epoch=3, global_rank=0, world_size=1)
    loader = data.train_dataloader()
    assert list(loader.sampler) == [(3, 0), (3, 1), (3, 2), (3, 3)]


def stopping(make, epoch):
    def made(*args, **kwargs):
        trainer = make(*args, **kwargs)
        trainer.callbacks.insert(0, StopAt(epoch))
        return trainer

    return made


def test_a_run_killed_after_its_best_was_saved_repeats_that_epoch(tmp_path, monkeypatch):
    scores = (0.2, 0.6, 0.5)
    whole = train(tmp_path / "whole", config(epochs=3), validate=Scores(*scores))
    save = loop.Checkpoints._save

    def killed(trainer, path, *, weights_only):
        save(trainer, path, weights_only=weights_only)
        if trainer.current_epoch == 1 and path.name == "best.ckpt":
            raise StoppedError

    with monkeypatch.context() as m:
        m.setattr(loop.Checkpoints, "_save", staticmethod(killed))
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", config(epochs=3), validate=Scores(*scores))
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "parts", moved)
    resumed = train(moved, config(epochs=3), validate=Scores(*scores, seen=1), resume=True)
    assert resumed.best_epoch == 2, "the best is remembered although the folder was moved"
    assert same(whole.best, resumed.best)
    assert same(whole.last, resumed.last)


def test_validation_judges_the_averaged_weights_and_the_best_are_kept(tmp_path):
    validate = Scores(0.3, 0.5, 0.5)
    result = train(tmp_path / "run", config(epochs=3), validate=validate)
    assert result.best_epoch == 2
    for name, value in result.best.state_dict().items():
        assert torch.equal(value, validate.seen[1][name]), name
    live = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    weight = "backbone.body.conv1.weight"
    assert torch.equal(validate.seen[2][weight], result.last.state_dict()[weight])
    assert not torch.equal(validate.seen[2][weight], live[f"trunk.{weight}"])


def test_training_stops_when_validation_gets_no_better(tmp_path):
    settings = config(epochs=9, patience=2)
    result = train(tmp_path / "run", settings, validate=Scores(0.2, 0.6, 0.5, 0.6, 0.9))
    assert len(result.history) == 4
    assert result.stopped == "no better validation F1 since epoch 2"
    assert result.best_epoch == 2
    again = train(tmp_path / "run", settings, validate=Scores(), resume=True)
    assert len(again.history) == 4, "a run that came to its end does not go on"
    assert same(again.best, result.best)


def test_patience_counts_epochs_also_where_few_are_validated(tmp_path):
    settings = config(epochs=9, patience=4, validate_every=2)
    result = train(tmp_path / "run", settings, validate=Scores(0.6, 0.5, 0.5, 0.5))
    assert [row["epoch"] for row in result.history if "val_f1" in row] == [2, 4, 6]
    assert len(result.history) == 6


def test_without_validation_the_last_weights_win(tmp_path):
    result = train(tmp_path / "run", config(epochs=2))
    assert same(result.best, result.last)
    assert (result.best_epoch, result.stopped, result.skipped_steps) == (2, "all epochs done", 0)
    assert not (tmp_path / "run" / "best.ckpt").exists()


def test_history_has_one_row_per_epoch(tmp_path):
    settings = config(epochs=3, validate_every=2)
    result = train(tmp_path / "run", settings, validate=Scores(0.25))
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert [row["val_f1"] for row in rows] == ["", "0.25", ""]
    for row in result.history:
        assert row["loss"] == pytest.approx(row["loss_class"] + 2 * row["loss_box"], rel=1e-4)
        assert 0 <= row["data_wait_share"] <= 1
        assert row["seconds"] > 0
    assert result.history[-1]["learning_rate"] < 1e-6, "the cosine has come to its end"
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_every_epoch_draws_other_windows(tmp_path):
    train(tmp_path / "run", config(epochs=2))
    (windows,) = Data.made
    assert sorted(windows.drawn) == [(epoch, index) for epoch in range(2) for index in range(4)]


def test_progress_is_told(tmp_path):
    seen = []
    train(tmp_path / "run", config(epochs=2), validate=Scores(0.3, 0.4), watch=seen.append)
    assert [p.step for p in seen] == [1, 2, 2, 3, 4, 4]
    assert [p.epoch for p in seen] == [1, 1, 1, 2, 2, 2]
    assert {(p.steps, p.epochs) for p in seen} == {(4, 2)}
    assert math.isnan(seen[0].val_f1)
    assert [p.val_f1 for p in seen[2:]] == [0.3, 0.3, 0.3, 0.4]
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left > 0
    assert all(math.isfinite(p.loss) for p in seen)


def test_loggers_receive_losses_and_scores(tmp_path):
    logger = CSVLogger(tmp_path / "logs")
    settings = config(epochs=2, trainer={"accelerator": "cpu", "log_every_n_steps": 1})
    train(tmp_path / "run", settings, validate=Scores(0.3, 0.4), logger=logger)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["loss"]) for row in rows) == 4
    assert [float(row["val_f1"]) for row in rows if row["val_f1"]] == pytest.approx([0.3, 0.4])


def test_lightning_keeps_quiet_and_the_loggers_get_their_levels_back(tmp_path, capfd, caplog):
    level = logging.getLogger("pytorch_lightning").level
    train(tmp_path / "run", config(epochs=1))
    assert [record for record in caplog.records if record.name != "treedet"] == []
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert logging.getLogger("pytorch_lightning").level == level


# --- steps that are not finite


def test_a_bad_step_is_skipped_and_counted(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    monkeypatch.setattr(Data, "bad", ((1, 0),))
    result = train(tmp_path / "run", config(epochs=3))
    assert result.skipped_steps == 1
    assert all(torch.isfinite(v).all() for v in result.last.state_dict().values())
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert "step 3" in caplog.text
    assert "skipped" in caplog.text
    assert int(contents(tmp_path / "run")[0]["averaged.updates"]) == 5


def test_a_run_of_nothing_but_bad_steps_moves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Data, "bad", ((0, 0), (0, 2)))
    settings = config(epochs=1)
    before = CrownModule(tiny_spec(), settings)
    result = train(tmp_path / "run", settings)
    assert result.skipped_steps == 2
    assert same(result.last, before.trunk)
    live = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in before.trunk.state_dict().items():
        assert torch.equal(live[f"trunk.{name}"], value), name


def test_training_is_given_up_when_losses_stay_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(Data, "bad", tuple((epoch, i) for epoch in (1, 2, 3) for i in range(4)))
    with pytest.raises(
        TrainingError, match=r"3 steps in a row up to step 5; last finite loss \d.*learning rate"
    ) as e:
        train(tmp_path / "run", config(bad_steps=3))
    assert "--learning_rate" in str(e.value)
    assert "\n" not in str(e.value)


def test_bad_steps_that_are_not_in_a_row_do_not_end_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Data, "bad", ((0, 0), (1, 0), (2, 0)))
    assert train(tmp_path / "run", config(epochs=3, bad_steps=2)).skipped_steps == 3


# --- the run folder


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    with pytest.raises(OutputError, match=r"resume.*delete"):
        train(tmp_path / "run", config(epochs=1))


def test_resume_without_a_run_starts_afresh(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training-windows.png").touch()
    assert len(train(tmp_path / "run", config(epochs=1), resume=True).history) == 1


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        ({"learning_rate": 2e-3}, {"data": "a"}, r"config\.learning_rate was 0\.001, is now 0\.002"),
        ({"loss": LossConfig(gamma=1.0)}, {"data": "a"}, r"config\.loss\.gamma was 2\.0, is now 1\.0"),
        ({}, {"data": "b"}, r"facts\.data was 'a', is now 'b'"),
        ({"seed": 1}, {"data": "a"}, r"config\.seed was 0, is now 1"),
    ],
)
def test_resume_with_other_settings_names_the_first(tmp_path, changes, facts, message):
    train(tmp_path / "run", config(epochs=1), facts={"data": "a"})
    with pytest.raises(ResumeMismatchError, match=message):
        train(tmp_path / "run", config(epochs=1, **changes), facts=facts, resume=True)


def test_resume_from_other_weights_is_refused(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    other = CrownModule(tiny_spec(), config(epochs=1))
    with torch.no_grad():
        other.trunk.head.regression_head.bbox_reg.bias += 1
    with pytest.raises(ResumeMismatchError, match="start was"):
        fit(other, [], config(epochs=1), run=tmp_path / "run", resume=True)


def test_resume_takes_other_workers_and_flags_that_change_nothing(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    settings = config(epochs=1, workers=2, trainer={"accelerator": "cpu", "log_every_n_steps": 3})
    assert len(train(tmp_path / "run", settings, resume=True).history) == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ResumeMismatchError, match=r"last\.ckpt is damaged"):
        train(tmp_path / "run", config(epochs=1), resume=True)


# --- small parts


def test_the_precision_follows_the_device():
    assert trainer_precision(config(precision="bf16-mixed")) == "bf16-mixed"
    assert trainer_precision(config(precision="auto")) in ("32-true", "bf16-mixed")


def test_the_best_epoch_is_the_first_of_equals():
    assert best_epoch([{"epoch": 1}, {"epoch": 2, "val_f1": math.nan}]) is None
    assert best_epoch([{"epoch": 1, "val_f1": math.nan}, {"epoch": 2, "val_f1": 0.0}]) == 2


def test_history_is_written_whole(tmp_path):
    write_history(tmp_path / "h.csv", [{"epoch": 1, "seconds": 2.0}, {"epoch": 2, "val_f1": 0.5, "seconds": 1.0}])
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[0].split(",") == [
        "epoch",
        "step",
        "loss",
        "loss_class",
        "loss_box",
        "learning_rate",
        "val_f1",
        "seconds",
    ]
    assert lines[1:] == ["1,,,,,,,2.0", "2,,,,,,0.5,1.0"]


# --- two processes

SCRIPT = '''
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
sys.path[:0] = sys.argv[2:]
import pytorch_lightning as pl
import torch
from factories import tiny_spec
from treedet.training import loop
from treedet.training import module as trained
from treedet.training.loop import fit
from treedet.training.module import CrownModule
from test_loop import Data, collate, config, poisoned

trained.detection_loss = poisoned
run = Path(sys.argv[1])


class Shared(Data):
    """Each process draws its share of the windows; one of them is bad in one process alone."""

    bad = ((1, 1),)

    def train_dataloader(self):
        rank, world = self.trainer.global_rank, self.trainer.world_size
        loader = super().train_dataloader()
        class Share(type(loader.sampler)):
            def __iter__(self):
                return iter([key for key in super().__iter__() if key[1] % world == rank])
            def __len__(self):
                return self.windows // world
        sampler = Share(self.epoch_windows)
        return torch.utils.data.DataLoader(
            self.windows, batch_size=self.batch_size, sampler=sampler, collate_fn=collate
        )


class Report(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        tensors = [*pl_module.trunk.parameters(), *pl_module.averaged.trunk.parameters()]
        report = {
            "drawn": trainer.datamodule.windows.drawn,
            "sums": [float(t.detach().double().sum()) for t in tensors],
            "skipped": pl_module.skipped_steps,
            "validated": VALIDATED,
            "world": trainer.world_size,
        }
        (run.parent / f"rank{trainer.global_rank}.json").write_text(json.dumps(report))


VALIDATED = []


def validate(trunk):
    VALIDATED.append(1)
    return {"val_f1": 0.5}


if __name__ == "__main__":
    loop.RunData = Shared
    settings = config(
        epochs=2,
        windows_per_epoch=8,
        trainer={"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork", "callbacks": [Report()]},
    )
    result = fit(CrownModule(tiny_spec(), settings, validate=validate), [], settings, run=run)
    print(json.dumps([len(result.history), result.skipped_steps, result.stopped]))
'''


def test_two_processes_share_the_windows_and_end_with_the_same_weights(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    here = Path(__file__).resolve()
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), str(here.parent), str(here.parents[2])],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2, 1, "all epochs done"]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["world"] == 2
    assert first["sums"] == second["sums"]
    drawn = sorted(map(tuple, first["drawn"] + second["drawn"]))
    assert drawn == [(epoch, index) for epoch in range(2) for index in range(8)]
    assert first["skipped"] == second["skipped"] == 1, "bad in one process, skipped in both"
    assert (len(first["validated"]), len(second["validated"])) == (2, 0)
