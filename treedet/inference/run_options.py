"""How a run over many rasters goes; read by ``--help``, so it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class RunOptions:
    """How a run over many rasters goes.

    Attributes:
        per_raster: Write one file for each raster.
        resume: Take up what an interrupted run, or one in which rasters failed, left to do.
        overwrite: Replace existing outputs.
    """

    per_raster: bool = False
    resume: bool = False
    overwrite: bool = False


RUN_OPTIONS = tuple(field.name for field in fields(RunOptions))
