"""How a run over many rasters goes; read by ``--help``, so it imports next to nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from treedet.errors import ConfigError


@dataclass(frozen=True)
class RunOptions:
    """How a run over many rasters goes.

    Attributes:
        per_raster: Write one file for each raster.
        resume: Take up what an interrupted run, or one in which rasters failed, left to do.
        overwrite: Replace existing outputs.
        workers: Processes on this machine that share the work, through Dask; None works in this one.
        scheduler: Address of a Dask scheduler whose workers share the work.

    Raises:
        ConfigError: Both workers and a scheduler are given, or fewer than one worker.
    """

    per_raster: bool = False
    resume: bool = False
    overwrite: bool = False
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise ConfigError("workers and scheduler exclude each other: a scheduler has workers of its own")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, found {self.workers}")

    @property
    def shared(self) -> bool:
        """Whether other processes do the work."""
        return self.workers is not None or self.scheduler is not None


RUN_OPTIONS = tuple(field.name for field in fields(RunOptions))


@dataclass(frozen=True)
class Part:
    """One of the parts that a run is shared out into.

    Attributes:
        number: Which, from 1.
        of: How many there are.

    Raises:
        ConfigError: There is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"part {self} does not exist; accepted are 1/{self.of} to {self.of}/{self.of}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read a part as it is typed.

        Raises:
            ConfigError: It is none.

        >>> Part.parse("3/16")
        Part(number=3, of=16)
        """
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if found is None:
            raise ConfigError(f"part {text!r} can not be understood; give it as number/parts, such as 3/16")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def from_array(cls, environment: Mapping[str, str] = os.environ) -> Part | None:
        """Return the part that a task of a SLURM job array stands for, None outside of one.

        Args:
            environment: ``SLURM_ARRAY_TASK_ID`` and ``_COUNT``; ``_MIN`` and ``_STEP`` where ids begin and how they
                run on.

        >>> Part.from_array({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "0"})
        Part(number=5, of=8)
        """
        name = "SLURM_ARRAY_TASK_"
        if name + "ID" not in environment or name + "COUNT" not in environment:
            return None
        identity, count = int(environment[name + "ID"]), int(environment[name + "COUNT"])
        first, step = int(environment.get(name + "MIN", "1")), int(environment.get(name + "STEP", "1"))
        return cls((identity - first) // step + 1, count)

    def share(self, units: int) -> slice:
        """Return which of so many units are in this part; all parts together have each once.

        >>> [Part(i, 3).share(10) for i in (1, 2, 3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
        """
        return slice((self.number - 1) * units // self.of, self.number * units // self.of)
