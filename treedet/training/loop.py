"""Fits a module to windows: epochs, validation, early stopping, checkpoints, and going on where a run was stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from treedet.datasets.datamodule import CrownDataModule, EpochSampler
from treedet.datasets.mixed import Canvases
from treedet.datasets.samples import Pool
from treedet.errors import ResumeMismatchError
from treedet.models.backends.eager import resolve_device, resolve_precision
from treedet.models.losses import Targets
from treedet.models.trunk import Trunk
from treedet.training.callbacks import MONITOR, Checkpoints, History, Watch, Watcher, best_epoch
from treedet.training.config import TrainConfig
from treedet.training.module import COUNTERS, CrownModule, trunk_of
from treedet.training.quiet import QuietProcesses, quiet
from treedet.training.run_folder import RunFolder, settings_of


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a training run gave.

    Attributes:
        best: Averaged weights of the epoch with the best validation F1; without validation those of the last epoch.
        last: Averaged weights of the last epoch.
        best_epoch: Epoch of ``best``, from 1.
        history: One row of figures per epoch; a row has validation figures where its epoch was validated.
        stopped: Why training ended.
        skipped_steps: Steps left out because a loss or gradient was not finite.
    """

    best: Trunk
    last: Trunk
    best_epoch: int
    history: list[dict[str, float]]
    stopped: str
    skipped_steps: int


class RunData(CrownDataModule):
    """Training windows that go on with the epoch a run is resumed at, and one placeholder for validation."""

    def train_dataloader(self) -> DataLoader[tuple[Tensor, list[Targets]]]:
        """Batches of ``(uint8 [B, 3, S, S], targets)``."""
        loader = super().train_dataloader()
        # Lightning tells the sampler too late: by then, workers draw the first windows already.
        if isinstance(loader.sampler, EpochSampler) and self.trainer is not None:
            loader.sampler.set_epoch(self.trainer.current_epoch)
        return loader

    def val_dataloader(self) -> DataLoader[int]:
        """One number: validation reads whole rasters by itself."""
        return DataLoader([0])  # type: ignore[arg-type]


def fit(
    module: CrownModule,
    pools: Sequence[Pool],
    config: TrainConfig,
    *,
    run: Path,
    logger: Logger | Sequence[Logger] | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    facts: Mapping[str, Any] | None = None,
    canvases: Canvases | None = None,
) -> FitResult:
    """Train, and return the averaged weights of the best and the last epoch.

    A run that was stopped and resumed gives, in single precision on the CPU, the weights of one that was not.

    Args:
        module: Holds the weights to start from; of no further use afterwards.
        pools: What windows are drawn from.
        config: Settings, the same that the module was made with.
        run: Folder for settings, checkpoints and ``history.csv``.
        logger: Lightning loggers.
        resume: Go on where the run in the folder was stopped; starts afresh where there is none.
        watch: Told after each step where the run stands.
        facts: JSON-able facts the result depends on and only the caller knows, such as a digest of the data; a run is
            resumed only with the same.
        canvases: Crops on canvases that are drawn besides.

    Raises:
        OutputError: The folder holds a run and ``resume`` is off, or can not be written.
        ResumeMismatchError: The folder holds a run with other settings.
        TrainingError: Losses stopped being finite.
    """
    folder = RunFolder(run.resolve())
    if getattr(rank_zero_only, "rank", 0) == 0:
        folder.start(settings_of(config, module.spec, module.trunk, facts), resume=resume)
    history = History(folder.history, epochs=config.epochs)
    checkpoint = _read(folder.last) if folder.last.exists() else None
    if checkpoint is not None and checkpoint["callbacks"][history.state_key]["stopped"] is not None:
        return _result(folder, module, history.state_key)
    with quiet():
        trainer = _trainer(module, config, history, folder, logger=logger, watch=watch)
        data = RunData(
            pools,
            samples=config.samples,
            batch_size=config.batch_size,
            epoch_windows=config.steps_per_epoch(trainer.world_size) * config.batch_size * trainer.world_size,
            workers=config.workers,
            seed=config.seed,
            canvases=canvases,
        )
        try:
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=None if checkpoint is None else str(folder.last),
                weights_only=True,
            )
        except SystemExit as ended:
            # Lightning makes an exit of its own out of Ctrl+C.
            raise KeyboardInterrupt from ended
    return _result(folder, module, history.state_key)


def _trainer(
    module: CrownModule,
    config: TrainConfig,
    history: History,
    folder: RunFolder,
    *,
    logger: Logger | Sequence[Logger] | None,
    watch: Watch | None,
) -> pl.Trainer:
    callbacks: list[Callback] = [QuietProcesses(), history, Checkpoints(folder.last, folder.best, history)]
    if watch is not None:
        callbacks.append(Watcher(watch, history))
    if module.validate is not None and config.patience:
        checks = math.ceil(config.patience / config.validate_every)
        callbacks.append(
            EarlyStopping(MONITOR, patience=checks, mode="max", check_finite=False, check_on_train_epoch_end=False)
        )
    own = {
        "max_epochs": config.epochs,
        "precision": trainer_precision(config),
        "check_val_every_n_epoch": config.validate_every,
        "limit_val_batches": 0 if module.validate is None else 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "logger": logger or False,
        "default_root_dir": str(folder.path),
    }
    defaults = {
        "accelerator": "auto",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 10,
    }
    flags = {**defaults, **config.trainer, **own}
    more = flags.pop("callbacks", None) or []
    callbacks.extend(more if isinstance(more, list) else [more])
    return pl.Trainer(**flags, callbacks=callbacks)


def trainer_precision(config: TrainConfig) -> str:
    """Return the precision Lightning is asked for; ``auto`` is bf16 where the processor computes it natively."""
    if config.precision != "auto":
        return config.precision
    device = resolve_device(trainer_device(config))
    return "bf16-mixed" if resolve_precision("auto", device) == "bf16" else "32-true"


def trainer_device(config: TrainConfig) -> str:
    """Return where Lightning is asked to train, by the name that prediction has for it."""
    wanted = str(config.trainer.get("accelerator", "auto"))
    return {"gpu": "cuda"}.get(wanted, wanted)


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ResumeMismatchError(f"{path} is damaged ({error}); delete {path.parent} and start anew") from error
    return checkpoint


def _result(folder: RunFolder, module: CrownModule, history_key: str) -> FitResult:
    """Read the result from the files, since training may have run in other processes."""
    last = _read(folder.last)
    record = last["callbacks"][history_key]
    best = best_epoch(record["rows"])
    trunk = trunk_of(last, module.spec)
    return FitResult(
        best=trunk if best is None else trunk_of(_read(folder.best), module.spec),
        last=trunk,
        best_epoch=len(record["rows"]) if best is None else best,
        history=record["rows"],
        stopped=record["stopped"] or f"stopped by the trainer after epoch {len(record['rows'])}",
        skipped_steps=last[COUNTERS]["skipped_steps"],
    )
