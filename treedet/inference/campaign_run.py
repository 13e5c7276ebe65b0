"""A run over one raster or many: what is looked for, with what, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from treedet.inference.options import PredictOptions
from treedet.inference.run_options import RunOptions
from treedet.inference.zone_options import ZoneOptions
from treedet.models.base import WindowDetector


@dataclass(frozen=True, eq=False)
class Run:
    """A run over one raster or many.

    Attributes:
        model: Finds crowns in windows.
        name: The model's name.
        source: The raster or rasters, as given.
        output: File or folder of the crowns.
        options: What to look for.
        how: How the run goes.
        zoning: By which zones crowns are counted; None for none.
        load: Returns the same model in another process; None where none can.
    """

    model: WindowDetector
    name: str
    source: str
    output: Path
    options: PredictOptions
    how: RunOptions
    zoning: ZoneOptions | None = None
    load: Callable[[], WindowDetector] | None = None
