"""What is written down while a model trains: history, checkpoints, progress."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from treedet.training.module import LOSSES, CrownModule

MONITOR = "val_f1"
FINISHED = "all epochs done"
FIRST_COLUMNS = ("epoch", "step", *LOSSES, "learning_rate")


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        epoch: Epoch in progress, from 1.
        epochs: Epochs asked for.
        step: Steps done since the start of the run.
        steps: Steps of the whole run.
        loss: Loss of the last step.
        val_f1: Validation F1 after the last epoch that was validated; NaN before the first.
        seconds_left: Estimate from the steps of this process, validation included; NaN until there is one.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_f1: float
    seconds_left: float


Watch = Callable[[Progress], None]


def best_epoch(rows: Sequence[Mapping[str, float]]) -> int | None:
    """Return the epoch with the best validation F1, the earliest of equals; None where none was validated.

    >>> best_epoch([{"epoch": 1, "val_f1": 0.4}, {"epoch": 2, "val_f1": 0.5}, {"epoch": 3, "val_f1": 0.5}])
    2
    """
    validated = [row for row in rows if math.isfinite(row.get(MONITOR, math.nan))]
    if not validated:
        return None
    return int(max(validated, key=lambda row: row[MONITOR])["epoch"])


class History(Callback):
    """One row of figures per epoch, in a CSV file that is complete after each epoch, and why training ended.

    Columns: ``epoch`` and ``step`` from 1, mean losses, ``learning_rate`` after the epoch, what validation returned,
    ``seconds`` of the epoch with its validation, and ``data_wait_share``: the share of the time for steps that was
    spent waiting for windows.

    Args:
        path: The CSV file.
        epochs: Epochs asked for.
    """

    def __init__(self, path: Path, *, epochs: int) -> None:
        self.path = path
        self.epochs = epochs
        self.rows: list[dict[str, float]] = []
        self.stopped: str | None = None
        self._epoch_began = self._step_ended = time.monotonic()
        self._waited = self._worked = 0.0
        self._step_began = self._step_ended

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        del trainer, pl_module
        self._epoch_began = self._step_ended = time.monotonic()
        self._waited = self._worked = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note how long the batch was waited for."""
        del trainer, pl_module, batch, batch_idx
        self._step_began = time.monotonic()
        self._waited += self._step_began - self._step_ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note how long the step took."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._step_ended = time.monotonic()
        self._worked += self._step_ended - self._step_began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the row of the epoch."""
        assert isinstance(pl_module, CrownModule)
        sums = trainer.strategy.reduce(pl_module.loss_sums.to(pl_module.device, torch.float32), reduce_op="sum")
        assert isinstance(sums, torch.Tensor)
        means = (sums[:-1] / sums[-1]).tolist()
        figures, pl_module.figures = pl_module.figures, {}
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                **dict(zip(pl_module.loss_names, means, strict=True)),
                "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
                **figures,
                "seconds": round(time.monotonic() - self._epoch_began, 3),
                "data_wait_share": round(self._waited / max(1e-9, self._waited + self._worked), 4),
            }
        )
        self.stopped = self._why_stopped(trainer)
        if trainer.is_global_zero:
            write_history(self.path, self.rows)

    def _why_stopped(self, trainer: pl.Trainer) -> str | None:
        early = trainer.early_stopping_callback
        if early is not None and early.wait_count >= early.patience:
            best = best_epoch(self.rows)
            return f"no better validation F1 since epoch {best}" if best else "validation never gave an F1"
        return FINISHED if trainer.current_epoch + 1 >= self.epochs else None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {"rows": self.rows, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an interrupted run."""
        self.rows = [dict(row) for row in state_dict["rows"]]
        self.stopped = state_dict["stopped"]


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows of figures as CSV; figures that a row does not have stay empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    validated = sorted(name for name in names if name.startswith("val_"))
    rest = [name for name in names if name not in FIRST_COLUMNS and name not in validated]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*FIRST_COLUMNS, *validated, *rest], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(path)


class Checkpoints(Checkpoint):
    """Saves each epoch, and the best epoch so far without its optimiser; a file is always whole.

    Lightning's own checkpoint forgets its best score when a run folder was moved, and copies rather than renames
    across file systems.

    Args:
        last: File of the last epoch.
        best: File of the epoch with the best validation F1.
        history: Says which epoch is the best.
    """

    def __init__(self, last: Path, best: Path, history: History) -> None:
        self.last = last
        self.best = best
        self.history = history

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; the best first, so that a run killed in between repeats the epoch and saves it again."""
        del pl_module
        if best_epoch(self.history.rows) == trainer.current_epoch + 1:
            self._save(trainer, self.best, weights_only=True)
        self._save(trainer, self.last, weights_only=False)

    @staticmethod
    def _save(trainer: pl.Trainer, path: Path, *, weights_only: bool) -> None:
        temporary = path.with_name(path.name + ".tmp")
        trainer.save_checkpoint(temporary, weights_only=weights_only)
        if trainer.is_global_zero:
            temporary.replace(path)
        trainer.strategy.barrier("checkpoint")


class Watcher(Callback):
    """Tells a function where the run stands, after each step and each epoch, on the first device alone.

    Args:
        watch: The function.
        history: Holds the validation scores.
    """

    def __init__(self, watch: Watch, history: History) -> None:
        self.watch = watch
        self.history = history
        self._began, self._first, self._loss = time.monotonic(), 0, math.nan

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note from where this process goes on."""
        del pl_module
        self._began, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Tell of a step."""
        del batch, batch_idx
        assert isinstance(outputs, Mapping)
        self._loss = float(outputs["loss"])
        self._tell(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of an epoch, validation included."""
        self._tell(trainer, pl_module)

    def _tell(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, CrownModule)
        done, step = trainer.global_step - self._first, trainer.global_step
        seconds = (time.monotonic() - self._began) / done if done else math.nan
        scores = [row[MONITOR] for row in self.history.rows if MONITOR in row]
        self.watch(
            Progress(
                epoch=trainer.current_epoch + 1,
                epochs=pl_module.config.epochs,
                step=step,
                steps=pl_module.steps,
                loss=self._loss,
                val_f1=scores[-1] if scores else math.nan,
                seconds_left=seconds * (pl_module.steps - step),
            )
        )
