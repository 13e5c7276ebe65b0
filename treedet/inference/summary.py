"""What a run found and how: printed at its end, and kept in the output's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from treedet.inference.tally import ClassRow, table_lines
from treedet.inference.zone_facts import ZoneFacts


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Facts that any run has, over one raster or many.

    Attributes:
        source: Raster or rasters, as given.
        output: File or folder written; empty where a table was returned.
        crowns: Crowns kept.
        hectares: Valid ground inside the AOI.
        canopy_cover: Share of it under crowns (union of ellipses).
        cut: Crowns still cut by a window edge.
        cure_m: Widest crown to expect (``max_crown``) that would see them whole; 0 where none is as wide as the
            overlap.
        windows: Windows looked at.
        skipped: Windows without a valid pixel.
        seconds: Seconds of all machines together, writing included, those before an interruption too.
        network_s: Seconds of them in the detector.
        model_gsd: Metres per pixel the model saw.
        crs: Name of the CRS written.
        model: The model's name and digest.
        device: Kind of device.
        precision: Precision of the network.
        score_threshold: Least score.
        iou_threshold: Overlap above which two detections are one crown.
        ios_threshold: Covered share above which a cut detection belongs to another.
        aoi: AOI file, or None.
        filters: Conditions crowns were kept by.
        version: Version of the package.
        min_p: Least probability of an attribute, or None.
        classes: Crowns by class, for the label where it has several classes and for each attribute.
        cautions: What to doubt about the result.
        setting: ``treedet``, or ``original`` and the name of the tool whose windows, enlargement, suppression and
            caps were followed.
        zones: How crowns fell into zones; None where nothing was counted by them.
    """

    source: str
    output: str
    crowns: int
    hectares: float
    canopy_cover: float
    cut: int
    cure_m: float
    windows: int
    skipped: int
    seconds: float
    network_s: float
    model_gsd: float
    crs: str
    model: str
    device: str
    precision: str
    score_threshold: float
    iou_threshold: float
    ios_threshold: float
    aoi: str | None
    filters: str
    version: str
    min_p: float | None = None
    classes: Mapping[str, tuple[ClassRow, ...]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    setting: str = "treedet"
    zones: ZoneFacts | None = None

    @property
    def per_hectare(self) -> float:
        """Crowns per hectare of valid ground."""
        return self.crowns / self.hectares if self.hectares else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**asdict(self), "per_hectare": self.per_hectare}

    def lines(self) -> list[str]:
        """Return the facts as lines for a person."""
        lines = [
            f"{self.crowns:,} crowns on {self.hectares:,.2f} ha: {self.per_hectare:,.1f} per hectare, "
            f"canopy cover {self.canopy_cover:.1%}",
            *self._ground_lines(),
            f"model      {self.model}, {self.device} {self.precision}, score at least {self.score_threshold:.3g}, "
            f"one crown above IoU {self.iou_threshold:g}, cut ones above {self.ios_threshold:g} covered",
            *self._work_lines(),
        ]
        if self.setting != "treedet":
            lines.append(f"setting    {self.setting}: its windows, enlargement, suppression and caps; whole pixels")
        if self.min_p is not None:
            lines.append(f"attributes left empty below a probability of {self.min_p:g}")
        if self.filters:
            lines.append(f"kept       {self.filters}")
        if self.cut and self.cure_m:
            lines.append(
                f"cut        {self.cut:,} crowns, some as wide as the overlap; "
                f"--max_crown {self.cure_m:.0f} would see them whole"
            )
        elif self.cut:
            lines.append(f"cut        {self.cut:,} pieces at window edges that the next window did not confirm")
        for name, rows in self.classes.items():
            lines += table_lines(name, rows)
        if self.zones is not None:
            lines.append(f"zones      {self.zones.line}")
        if self.output:
            lines.append(f"written    {self.output} ({self.crs})")
        return lines

    def _ground_lines(self) -> list[str]:
        """Return what was looked at."""
        raise NotImplementedError

    def _work_lines(self) -> list[str]:
        """Return windows and time."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Summary(RunSummary):
    """Facts about a run over one raster, besides those that any run has.

    Attributes:
        megapixels: Model pixels of the raster, in millions.
        gsd: Metres per pixel of the raster.
        gsd_reason: How that is known.
        mode: ``adapt`` where imagery is resampled to the model's GSD, ``native`` where it is seen as it is.
        bands: Bands read.
        bands_reason: How they were chosen.
        stretch: Values mapped to 0 and 255, or None.
        window_px: Width and height of windows.
        overlap_px: Pixels they share.
    """

    megapixels: float
    gsd: float
    gsd_reason: str
    mode: str
    bands: tuple[int, ...]
    bands_reason: str
    stretch: tuple[float, float] | None
    window_px: tuple[int, int]
    overlap_px: int

    @property
    def megapixels_per_s(self) -> float:
        """Model pixels of the raster worked off in a second, in millions."""
        return self.megapixels / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**super().to_dict(), "megapixels_per_s": self.megapixels_per_s}

    def _ground_lines(self) -> list[str]:
        native = ", as it is (native)" if self.mode == "native" and self.setting == "treedet" else ""
        stretch = "none (8 bit)" if self.stretch is None else f"{self.stretch[0]:g} to {self.stretch[1]:g}"
        return [
            f"GSD        {self.gsd:.4g} m ({self.gsd_reason}), seen by the model at {self.model_gsd:.4g} m{native}",
            f"bands      {', '.join(map(str, self.bands))} ({self.bands_reason}), stretch {stretch}",
        ]

    def _work_lines(self) -> list[str]:
        return [
            f"windows    {self.windows:,} of {self.window_px[0]} x {self.window_px[1]} px, "
            f"overlap {self.overlap_px} px, {self.skipped:,} without imagery",
            f"time       {self.seconds:.1f} s, {self.megapixels_per_s:.1f} megapixels/s, "
            f"{self.network_s:.1f} s in the network",
        ]
