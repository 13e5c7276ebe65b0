"""How a forester's table of stems is read and matched, apart from the readers, so that a command line needs none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from treedet.errors import ConfigError


@dataclass(frozen=True)
class FieldOptions:
    """How stems are read and matched to crowns.

    Attributes:
        columns: Columns of the table by our names: plot, tree, x, y, lon, lat, plot_x, plot_y, azimuth, distance,
            dbh, height. Other names are attributes, such as species: SP_CODE.
        values: What values of an attribute are called as classes, such as status: {Live: alive, Dead: dead}.
        crs: CRS of x and y, and of plot centres; by default that of the crowns.
        plots: CSV of plot centres with plot, x and y (or lon and lat), for stems told by azimuth and distance.
        max_distance: Metres from a stem to the centre of its crown; by default the crown's radius and one metre.
        max_shift: Metres that a plot may be moved, as one, to where its stems agree with crowns; 0 moves none.
        drop: Take values that a map of values does not name as missing, instead of stopping.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    crs: str | None = None
    plots: str | None = None
    max_distance: float | None = None
    max_shift: float = 5.0
    drop: bool = False

    def __post_init__(self) -> None:
        if self.max_distance is not None and not (math.isfinite(self.max_distance) and self.max_distance > 0):
            raise ConfigError(
                f"max_distance must be a positive number of metres, found {self.max_distance}; or leave it out"
            )
        if not (math.isfinite(self.max_shift) and self.max_shift >= 0):
            raise ConfigError(f"max_shift must be metres, 0 or more, found {self.max_shift}")
