"""The run folder of a training: settings, checkpoints and history, so that it can go on after being killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from treedet.core.spec import ModelSpec
from treedet.errors import OutputError, ResumeMismatchError
from treedet.training.config import TrainConfig

INDIFFERENT = {"config.workers"} | {
    f"config.trainer.{flag}"
    for flag in (
        "enable_model_summary",
        "enable_progress_bar",
        "log_every_n_steps",
        "max_time",
        "profiler",
    )
}
"""Settings that do not change what a run computes, so that it may be resumed with others."""


class RunFolder:
    """Files of one training run.

    Args:
        path: The folder; made when the run starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.last = path / "last.ckpt"
        self.best = path / "best.ckpt"
        self.history = path / "history.csv"

    def start(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Open the folder for a run with some settings, new or resumed.

        Args:
            settings: Everything the result depends on, JSON-able.
            resume: Take up what is there; a folder without a run is started afresh.

        Raises:
            OutputError: There is a run already and ``resume`` is off, or the folder can not be written.
            ResumeMismatchError: The folder holds a run with other settings; the message names the first.
        """
        wanted = json.loads(json.dumps(settings, default=str))
        if not resume:
            self.refuse()
        elif self.last.exists():
            self._compare(wanted)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            temporary = self.settings.with_name(self.settings.name + ".tmp")
            temporary.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
            temporary.replace(self.settings)
        except OSError as error:
            raise OutputError(f"{self.path} can not be written: {error.strerror or error}") from error

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run."""
        return self.settings.exists() or self.last.exists()

    def refuse(self) -> None:
        """Raise if the folder holds a run.

        Raises:
            OutputError: It does.
        """
        if self.begun:
            raise OutputError(
                f"{self.path} holds a training run already; go on with it by resume=True (--resume), or delete the "
                "folder to start anew"
            )

    def _compare(self, wanted: Mapping[str, Any]) -> None:
        try:
            found = dict(_flat(json.loads(self.settings.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise ResumeMismatchError(
                f"{self.path} has no readable settings.json; delete the folder and start anew"
            ) from error
        now = dict(_flat(wanted))
        for name in sorted(set(found) | set(now)):
            # As text, since a NaN (a threshold that was never scored) does not equal itself.
            if repr(found.get(name)) != repr(now.get(name)) and name not in INDIFFERENT:
                raise ResumeMismatchError(
                    f"can not resume {self.path}: {name} was {found.get(name)!r}, is now {now.get(name)!r}; resume "
                    "with the settings of the interrupted run, or delete the folder to start anew"
                )


def settings_of(
    config: TrainConfig, spec: ModelSpec, start: nn.Module, facts: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return everything the result of a training depends on, JSON-able.

    Args:
        config: Settings of the run.
        spec: Architecture.
        start: Module with the weights the run starts from; they are stored as a digest.
        facts: What the caller knows besides, above all a digest of the data.
    """
    return {
        "config": asdict(config),
        "spec": spec.to_dict(),
        "start": digest(start),
        "facts": dict(facts or {}),
    }


def digest(module: nn.Module) -> str:
    """Return a short SHA-256 of a module's weights and buffers, names included."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _flat(values: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and plain values; an empty mapping has none, a list is one value."""
    if not isinstance(values, Mapping):
        yield name, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{name}.{key}" if name else str(key))
