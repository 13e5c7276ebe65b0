"""What a user may ask of an evaluation and of a calibration, apart from torch, so that a command line needs none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from treedet.errors import ConfigError

Mode = Literal["adapt", "native", "band-limit"]
MODES: tuple[Mode, ...] = ("adapt", "native", "band-limit")


@dataclass(frozen=True)
class TruthReading:
    """How rasters and their truth are read.

    Attributes:
        aoi: Vector file with the polygons inside which the truth is complete.
        columns: Columns of the truth by our names, such as label: SP_CODE.
        values: Classes of the values in these columns, such as status: {Live: alive, Downed: null}; null is a
            missing label, and of label leaves the row out. By default values are classes as they are.
        crs: CRS of the truth, overriding what its file says.
        diameter: Crown diameter in metres for truth in points; without it points are matched as stems.
        drop: Leave out rows of the truth that can not be used, instead of stopping.
        gsd: Ground metres per pixel of the rasters, overriding what the files say; needed where they have no CRS.
        bands: Bands for red, green and blue, counted from 1; by default chosen by colour interpretation.
    """

    aoi: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    crs: str | None = None
    diameter: float | None = None
    drop: bool = False
    gsd: float | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _demand_positive(self, ("gsd", "diameter"))


@dataclass(frozen=True)
class EvaluateConfig:
    """How crowns are matched and counted, and at which resolutions.

    Attributes:
        gsds: Metres per pixel of coarser imagery to simulate, besides the imagery as it is.
        modes: How simulated imagery is read: adapt (at the model's GSD), native (as it is) or band-limit (its
            detail at the raster's own pixel size).
        upsample: Allow GSDs finer than the raster's, which only enlarge its pixels.
        score_threshold: A number from 0 to 1, or one of the model's operating points.
        iou_threshold: Overlap above which a predicted crown is an annotated one.
        max_distance: Metres from a crown's centre within which a stem may be its own, besides those inside the crown.
        draws: Samples of rasters that intervals are taken from (bootstrap).
        seed: Seed of these samples.
    """

    gsds: tuple[float, ...] = ()
    modes: tuple[Mode, ...] = ("adapt",)
    upsample: bool = False
    score_threshold: float | str | None = None
    iou_threshold: float = 0.4
    max_distance: float | None = None
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _demand_gsds(self.gsds)
        if not self.modes or (unknown := [mode for mode in self.modes if mode not in MODES]):
            found = unknown[0] if self.modes else "none"
            raise ConfigError(f"modes can not be {found!r}; accepted are {', '.join(MODES)}")
        _demand_iou(self.iou_threshold)
        if self.draws < 1:
            raise ConfigError(f"draws must be at least 1, found {self.draws}")
        _demand_positive(self, ("max_distance",))

    def but(self, changes: Mapping[str, Any]) -> EvaluateConfig:
        """Return the settings with some changed.

        Raises:
            ConfigError: A name is unknown.

        >>> EvaluateConfig().but({"gsds": [0.2]}).gsds
        (0.2,)
        """
        known = [f.name for f in fields(self)]
        if unknown := [name for name in changes if name not in known]:
            raise ConfigError(f"option {unknown[0]!r} is unknown; accepted are {', '.join(known)}")
        plain: dict[str, Any] = {
            name: tuple(value) if name in ("gsds", "modes") else value for name, value in changes.items()
        }
        return replace(self, **plain)


@dataclass(frozen=True)
class CalibrateConfig:
    """What is chosen on validation data.

    Attributes:
        gsds: Metres per pixel of coarser imagery at which adapt and native are compared; those that are
            not coarser than a raster and the model are left out.
        merge_ious: Merge thresholds tried: overlap above which two detections are one crown.
        keep_temperature: Leave the temperature of the scores as it is.
        iou_threshold: Overlap above which a predicted crown is an annotated one.
    """

    gsds: tuple[float, ...] = (0.15, 0.2, 0.3, 0.5)
    merge_ious: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6)
    keep_temperature: bool = False
    iou_threshold: float = 0.4

    def __post_init__(self) -> None:
        _demand_gsds(self.gsds)
        if not all(0 < value < 1 for value in self.merge_ious):
            raise ConfigError(f"merge_ious must lie between 0 and 1, found {list(self.merge_ious)}")
        _demand_iou(self.iou_threshold)


def _demand_iou(iou_threshold: float) -> None:
    if not 0 < iou_threshold < 1:
        raise ConfigError(f"iou_threshold must be above 0 and below 1, found {iou_threshold}")


def _demand_gsds(gsds: Sequence[float]) -> None:
    if wrong := [gsd for gsd in gsds if not (math.isfinite(gsd) and gsd > 0)]:
        raise ConfigError(f"gsds must be positive numbers of metres per pixel, found {wrong[0]}")


def _demand_positive(options: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be a positive number of metres, found {value}")
