"""Sets of annotated rasters, trained on together, each in its own way; apart from torch, for a command line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePath

from treedet.errors import ConfigError


@dataclass(frozen=True)
class AnnotationSet:
    """Annotated rasters that are alike, and how they are trained on beside other sets.

    Attributes:
        rasters: A file, folder, glob or list, relative to the folder of the sets.
        crowns: Their annotation, relative to the same folder.
        gsd: Ground metres per pixel of the rasters, overriding what the files say.
        weight: Share of training windows drawn from the set, relative to the others.
        mosaic: Share of its windows put together from four, to the end of training; 1 for plots smaller than half a
            window. None for that of the run.
        equalised: Its contrast was equalised already, so it never is again.
        tightening: Range of factors on the sides of boxes about their centres, drawn anew for each window; below 1
            where annotators drew loosely.
        place: Regular expression for the file names of rasters: those with the same groups (without groups, the same
            match) show the same place, and never lie on both sides of the split for validation. Rasters that
            overlap on the ground are one place anyway.

    Raises:
        ConfigError: A value is out of its range, or ``place`` is not a regular expression.
    """

    rasters: str
    crowns: str
    gsd: float | None = None
    weight: float = 1.0
    mosaic: float | None = None
    equalised: bool = False
    tightening: tuple[float, float] = (1.0, 1.0)
    place: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ConfigError(f"the weight of {self.rasters} must be a number above 0, found {self.weight}")
        if self.mosaic is not None and not 0 <= self.mosaic <= 1:
            raise ConfigError(f"mosaic of {self.rasters} must be a share of 0 to 1, found {self.mosaic}")
        if not 0 < self.tightening[0] <= self.tightening[1] < math.inf:
            raise ConfigError(
                f"tightening of {self.rasters} must be two factors above 0, smallest first; found {self.tightening}"
            )
        try:
            re.compile(self.place or "")
        except re.error as error:
            raise ConfigError(f"place of {self.rasters} is not a regular expression: {error}") from None

    def place_of(self, name: str) -> str:
        r"""Return the key of the place that a raster's name tells; the name itself where it tells none.

        Args:
            name: Path of the raster.

        >>> plots = AnnotationSet("plots", "plots.csv", place=r"([A-Z]{4})_(\d+)")
        >>> plots.place_of("SJER_2018/SJER_012.tif"), plots.place_of("SJER_2019/SJER_012.tif")
        ('SJER_012', 'SJER_012')
        >>> plots.place_of("orchard.tif")
        'orchard.tif'
        """
        found = re.search(self.place, PurePath(name).name) if self.place else None
        if found is None:
            return name
        return "_".join(group for group in found.groups() if group) or found.group()
