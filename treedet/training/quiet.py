"""Keeps Lightning's own chatter out of a run: one line says what a run has to say, and treedet says it."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import Callback

_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning_utilities", "lightning")
_MODULES = r"(pytorch_lightning|lightning_fabric|lightning_utilities)\b"
_MESSAGES = (
    r".*GPU available but not used",
    r".*does not have many workers",
    r".*was configured without a .* loop",
    r".*Checkpoint directory .* exists and is not empty",
    r".*Starting from v1\.9\.0, `tensorboardX`",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r".*torch\.distributed\._sharded_tensor",
    r".*barrier\(\): using the device under current context",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's hints and advice; its errors, and all warnings of others, come through."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        _hush()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class QuietProcesses(Callback):
    """Silences the processes that Lightning starts anew, which know nothing of their parent's filters."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Silence this process, if it is one of them."""
        del trainer, pl_module, stage
        if multiprocessing.parent_process() is not None:
            _hush()


def _hush() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", module=_MODULES)
    for message in _MESSAGES:
        warnings.filterwarnings("ignore", message=message)
