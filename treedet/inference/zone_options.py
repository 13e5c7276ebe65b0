"""By which zones crowns are counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from treedet.errors import ConfigError


@dataclass(frozen=True)
class ZoneOptions:
    """Where crowns are counted: in polygons of a file, or in the cells of a grid.

    Attributes:
        zones: Vector file with polygons such as stands; a second table counts the crowns of each.
        zone_id: Column of it with the names of zones; by default they are numbered.
        grid: Side in metres of square cells that crowns are counted in, instead of zones.
    """

    zones: str | None = None
    zone_id: str | None = None
    grid: float | None = None

    def __post_init__(self) -> None:
        if self.zones is not None and self.grid is not None:
            raise ConfigError(
                "zones and grid (--zones, --grid) exclude each other; give one, and count by the other afterwards "
                "(treedet summarise)"
            )
        if self.zone_id is not None and self.zones is None:
            raise ConfigError(
                f"zone_id {self.zone_id!r} names a column of zones; give their file with zones= (--zones)"
            )
        if self.grid is not None and not (math.isfinite(self.grid) and self.grid > 0):
            raise ConfigError(f"grid must be the side of a cell in metres, a positive number, found {self.grid}")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to count by."""
        return self.zones is not None or self.grid is not None
