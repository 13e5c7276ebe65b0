"""What a user may ask of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from treedet.core.original import Setting
from treedet.errors import ConfigError


@dataclass(frozen=True)
class PredictOptions:
    """What to look for, where, and what to keep.

    Attributes:
        gsd: Ground metres per pixel of the raster, overriding what the file says; needed where it has no CRS.
        bands: Bands for red, green and blue, counted from 1; by default chosen by colour interpretation.
        stretch: Values that become 0 and 255 in rasters of more than 8 bits; default 1st to 99th percentile.
        aoi: Vector file with the polygons in which crowns are wanted.
        exclude: Vector file with polygons, such as buildings, in which crowns are dropped: those whose centre lies in
            one.
        score_threshold: A number from 0 to 1, or one of the model's operating points.
        coarse: How imagery coarser than the model's GSD is read: adapt resamples to it, native does not, auto follows
            what was better on validation.
        setting: treedet runs every model alike; original runs an imported one as the tool it comes from does (its
            windows, enlargement, suppression and caps), to compare results box for box.
        max_crown: Widest crown expected in metres; sets how much neighbouring windows overlap.
        where: Keep only crowns for which this holds, such as "score > 0.5 and diameter_m < 20" or "status == 'dead'";
            a crown without a value is neither equal nor unequal to anything, status.isna() finds it.
        min_diameter: Keep only crowns of at least this diameter in metres.
        min_p: Least probability of an attribute, from 0 to 1: below it the attribute is left empty, and its
            probability stays. It changes no crown.
        probabilities: Add the probability of every class of every attribute, in columns p_CLASS.
        shape: Geometry written: box, ellipse or point.
        partition: Write a folder of GeoParquet files, one for each raster (source) or each square kilometre (cell).
        colour_by: What colours the look sheet and the style in a GeoPackage: an attribute, or label; by default
            status, else species, else any other attribute.
        batch_size: Windows given to the network at once; by default 1 on a CPU and 4 on a GPU.
        readers: Background threads that read.
    """

    gsd: float | None = None
    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None
    aoi: str | None = None
    exclude: str | None = None
    score_threshold: float | str | None = None
    coarse: Literal["auto", "adapt", "native"] = "auto"
    setting: Setting = "treedet"
    max_crown: float | None = None
    where: str | None = None
    min_diameter: float | None = None
    min_p: float | None = None
    probabilities: bool = False
    shape: Literal["box", "ellipse", "point"] = "box"
    partition: Literal["source", "cell"] | None = None
    colour_by: str | None = None
    batch_size: int | None = None
    readers: int = 2

    def __post_init__(self) -> None:
        if self.shape not in ("box", "ellipse", "point"):
            raise ConfigError(f"shape {self.shape!r} is unknown; accepted are box, ellipse, point")
        if self.partition not in (None, "source", "cell"):
            raise ConfigError(f"partition {self.partition!r} is unknown; accepted are source, cell")
        if self.coarse not in ("auto", "adapt", "native"):
            raise ConfigError(f"coarse {self.coarse!r} is unknown; accepted are auto, adapt, native")
        if self.setting not in ("treedet", "original"):
            raise ConfigError(f"setting {self.setting!r} is unknown; accepted are treedet, original")
        if self.setting == "original" and (self.max_crown is not None or self.coarse != "auto"):
            name = "coarse" if self.max_crown is None else "max_crown"
            raise ConfigError(
                f"{name}={getattr(self, name)} decides what setting 'original' takes from the other tool; leave "
                "one of them out"
            )
        for name in ("gsd", "max_crown", "min_diameter"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number of metres, found {value}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be a probability from 0 to 1, found {self.min_p}")
        for name in ("batch_size", "readers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, found {value}")

    def but(self, changes: dict[str, Any]) -> PredictOptions:
        """Return the options with some changed.

        Raises:
            ConfigError: A name is unknown.

        >>> PredictOptions().but({"gsd": 0.1}).gsd
        0.1
        """
        known = [f.name for f in fields(self)]
        if unknown := [name for name in changes if name not in known]:
            raise ConfigError(f"option {unknown[0]!r} is unknown; accepted are {', '.join(known)}")
        return replace(self, **changes)
