"""The report before the first step: what training will see, what can not work and what rarely does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from treedet.core.spec import ModelSpec
from treedet.errors import TreedetWarning
from treedet.training.annotation_facts import (
    Diameters,
    RasterGroup,
    Side,
    crown_sizes,
    diameters_of,
    fitting_share,
    raster_groups,
    side_of,
)
from treedet.training.preflight_checks import cautions, counted, percent, refusal

if TYPE_CHECKING:
    from treedet.datasets.split import Part
    from treedet.training.config import TrainConfig


@dataclass(frozen=True)
class Preflight:
    """Facts of a training run, known before it starts.

    Attributes:
        rasters: All rasters, grouped by GSD and CRS.
        annotated: Crowns annotated on all of them, wherever they lie.
        classes: Classes of the model to be trained.
        train: What is trained on.
        validation: What it is validated on.
        diameters: Of the training crowns, in metres.
        gsd: Metres per pixel of the model.
        anchors_m: Smallest and largest anchor, in metres.
        fitting: Share of training crowns that an anchor fits (IoU of at least 0.5).
        overlap_m: Ground that neighbouring windows share when predicting, in metres.
        wider: Training crowns wider than ``widest_m``.
        widest_m: Widest crown the model expects.
        window_px: Side of a training window, in pixels of the model.
        drawn_empty: Share of training windows that are drawn from empty ground.
        epochs: Epochs at most.
        steps: Optimiser steps at most.
        windows: Windows drawn at most.
        decisions: What was set from the crowns, and why; a line each.
        transfer: What was initialised from what; a line each.
    """

    rasters: tuple[RasterGroup, ...]
    annotated: int
    classes: tuple[str, ...]
    train: Side
    validation: Side
    diameters: Diameters
    gsd: float
    anchors_m: tuple[float, float]
    fitting: float
    overlap_m: float
    wider: int
    widest_m: float
    window_px: int
    drawn_empty: float
    epochs: int
    steps: int
    windows: int
    decisions: tuple[str, ...]
    transfer: tuple[str, ...]

    @classmethod
    def of(
        cls,
        train: Sequence[Part],
        validation: Sequence[Part],
        *,
        spec: ModelSpec,
        config: TrainConfig,
        decisions: Sequence[str] = (),
        transfer: Sequence[str] = (),
    ) -> Preflight:
        """Gather the facts; opens no file.

        Args:
            train: What is trained on.
            validation: What it is validated on; may be empty.
            spec: The model to be trained.
            config: Settings of the run.
            decisions: Lines that say what was set from the crowns, and why.
            transfer: Lines that say what is initialised from what.
        """
        rasters = raster_groups([*train, *validation])
        window_px = config.samples.window_px
        diameters, sides = crown_sizes(train, spec.labels.classes)
        anchors = [size for level in spec.anchor_sizes_m for size in level]
        steps = config.epochs * max(1, config.windows_per_epoch // config.batch_size)
        return cls(
            rasters=rasters,
            annotated=sum(group.crowns for group in rasters),
            classes=spec.labels.classes,
            train=side_of(train, spec, window_px=window_px),
            validation=side_of(validation, spec, window_px=window_px),
            diameters=diameters_of(diameters, sides),
            gsd=spec.gsd,
            anchors_m=(min(anchors), max(anchors)),
            fitting=fitting_share(sides, spec),
            overlap_m=spec.overlap_px() * spec.gsd,
            wider=int((diameters > spec.crown_range_m[1]).sum()),
            widest_m=spec.crown_range_m[1],
            window_px=window_px,
            drawn_empty=config.samples.empty,
            epochs=config.epochs,
            steps=steps,
            windows=steps * config.batch_size,
            decisions=tuple(decisions),
            transfer=tuple(transfer),
        )

    @property
    def median_px(self) -> float:
        """Median crown diameter in pixels of the model; NaN without crowns."""
        return self.diameters.median / self.gsd

    @property
    def outside(self) -> int:
        """Crowns on the rasters that are on neither side of the split, as they lie outside the AOI."""
        sides = (self.train, self.validation)
        return self.annotated - sum(side.total + sum(side.others.values()) for side in sides)

    @property
    def window_m(self) -> float:
        """Side of a training window in metres."""
        return self.window_px * self.gsd

    def lines(self) -> list[str]:
        """Return the report, a line for each fact, the name of the fact first."""
        rows = [("raster", _raster_text(group)) for group in self.rasters]
        rows.append(("train", _side_text(self.train)))
        rows.append(("validation", _side_text(self.validation) if self.validation.parts else "none"))
        if outside := self.outside:
            rows.append(("left out", f"{outside} crowns outside the AOI"))
        if self.train.total:
            found = self.diameters
            rows.append(
                (
                    "diameters",
                    f"{found.smallest:.1f} m smallest, {found.median:.1f} m median ({self.median_px:.0f} px), "
                    f"{found.p95:.1f} m 95th percentile, {found.widest:.1f} m widest",
                )
            )
        low, high = self.anchors_m
        rows.append(("anchors", f"{low:.1f} to {high:.1f} m; {percent(self.fitting)} of the training crowns fit one"))
        wider = f"{self.wider} training crowns are wider" if self.wider else "no training crown is wider"
        rows.append(("overlap", f"{self.overlap_m:.1f} m, for crowns up to {self.widest_m:.1f} m; {wider}"))
        rows.append(
            (
                "windows",
                f"{self.window_px} px at {self.gsd:.3g} m = {self.window_m:.0f} m; "
                f"{percent(self.train.empty_share)} of the training ground is empty, "
                f"{percent(self.drawn_empty)} of windows are drawn there",
            )
        )
        rows.append(("steps", f"{self.steps} at most: {self.windows} windows in {self.epochs} epochs"))
        rows += [("set", text) for text in self.decisions]
        rows += [("start", text) for text in self.transfer]
        return _aligned(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain JSON-able values, with the cautions as text; NaN becomes None."""
        values: dict[str, Any] = {**asdict(self), "cautions": [str(caution) for caution in self.cautions()]}
        return {name: _plain(value) for name, value in values.items()}

    def check(self) -> None:
        """Refuse what can not work, and warn about what rarely does.

        Raises:
            CrownsError: There is no crown, or none on known ground.
            ConfigError: A class has no training crown, or crowns are too small for the model's GSD.
        """
        reason = refusal(self)
        if reason is not None:
            raise reason
        for caution in self.cautions():
            warnings.warn(caution, stacklevel=2)

    def cautions(self) -> list[TreedetWarning]:
        """Return what rarely works in this run, what weighs most first."""
        return cautions(self)


def _raster_text(group: RasterGroup) -> str:
    many = len(group.files)
    what = group.files[0] if many == 1 else f"{many} rasters"
    return f"{what}: {group.hectares:.2f} ha at {group.gsd:g} m, {group.crs}, {group.crowns} crowns"


def _side_text(side: Side) -> str:
    text = f"{side.total} crowns ({counted(side.crowns)}) on {side.hectares:.2f} ha"
    return f"{text}; passed over: {counted(side.others)}" if side.others else text


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return ``name  text`` lines with the texts in one column; a name that repeats is written once.

    >>> _aligned([("set", "gsd 0.1"), ("set", "classes tree"), ("steps", "10")])
    ['set    gsd 0.1', '       classes tree', 'steps  10']
    """
    wide = max((len(name) for name, _ in rows), default=0)
    before = ["", *(name for name, _ in rows)]
    return [
        f"{'' if name == last else name:<{wide}}  {text}" for (name, text), last in zip(rows, before, strict=False)
    ]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
