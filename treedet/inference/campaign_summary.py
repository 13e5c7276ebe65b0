"""What a run over many rasters found, how, and what it could not read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from treedet.errors import OutputError
from treedet.inference.tally import ClassRow, table_lines

SHOWN = 5
"""Failures that are listed one by one on the terminal; all are in the file."""


@dataclass(frozen=True)
class CampaignSummary:
    """Facts about one run over many rasters.

    Attributes:
        source: The rasters, as given.
        output: File or folder written.
        rasters: Files read.
        grounds: Pieces of ground they are.
        outside: Files that the AOI does not touch.
        crowns: Crowns kept.
        hectares: Valid ground inside the AOI.
        canopy_cover: Share of it under crowns (union of ellipses).
        cut: Crowns still cut by a window edge.
        cure_m: Widest crown to expect (``max_crown``) that would see them whole; 0 where none is as wide as the
            overlap.
        windows: Windows looked at.
        skipped: Windows without a valid pixel.
        seconds: Seconds spent on windows by all machines together, and on writing.
        network_s: Seconds of them in the detector.
        gsds: Finest and coarsest metres per pixel.
        model_gsd: Metres per pixel the model saw, where imagery is resampled.
        native: Pieces of ground that were seen as they are, without resampling.
        stretches: Values mapped to 0 and 255 by data type.
        crs: Name of the CRS written.
        model: The model's name and digest.
        device: Kind of device.
        precision: Precision of the network.
        score_threshold: Least score.
        iou_threshold: Overlap above which two detections are one crown.
        ios_threshold: Covered share above which a cut detection belongs to another.
        overlap_m: What neighbouring windows share, in metres.
        aoi: AOI file, or None.
        filters: Conditions crowns were kept by.
        version: Version of the package.
        min_p: Least probability of an attribute, or None.
        failures: Why a file could not be read, or not all of it, by path.
        classes: Crowns by class, for the label where it has several classes and for each attribute.
        cautions: What to doubt about the result.
    """

    source: str
    output: str
    rasters: int
    grounds: int
    outside: int
    crowns: int
    hectares: float
    canopy_cover: float
    cut: int
    cure_m: float
    windows: int
    skipped: int
    seconds: float
    network_s: float
    gsds: tuple[float, float]
    model_gsd: float
    native: int
    stretches: Mapping[str, tuple[float, float]]
    crs: str
    model: str
    device: str
    precision: str
    score_threshold: float
    iou_threshold: float
    ios_threshold: float
    overlap_m: float
    aoi: str | None
    filters: str
    version: str
    min_p: float | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, tuple[ClassRow, ...]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()

    @property
    def per_hectare(self) -> float:
        """Crowns per hectare of valid ground."""
        return self.crowns / self.hectares if self.hectares else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**asdict(self), "per_hectare": self.per_hectare}

    def lines(self) -> list[str]:
        """Return the facts as lines for a person."""
        fine, coarse = self.gsds
        gsd = f"{fine:.4g} m" if coarse <= 1.001 * fine else f"{fine:.4g} to {coarse:.4g} m"
        native = f", {self.native:,} pieces of ground as they are (native)" if self.native else ""
        beside = f", {self.outside:,} outside the AOI" if self.outside else ""
        stretches = ", ".join(f"{kind} {low:g} to {high:g}" for kind, (low, high) in self.stretches.items())
        lines = [
            f"{self.crowns:,} crowns on {self.hectares:,.2f} ha: {self.per_hectare:,.1f} per hectare, "
            f"canopy cover {self.canopy_cover:.1%}",
            f"rasters    {self.rasters:,} as {self.grounds:,} pieces of ground{beside}",
            f"GSD        {gsd}, seen by the model at {self.model_gsd:.4g} m{native}",
            f"stretch    {stretches or 'none (8 bit)'}",
            f"model      {self.model}, {self.device} {self.precision}, score at least {self.score_threshold:.3g}, "
            f"one crown above IoU {self.iou_threshold:g}, cut ones above {self.ios_threshold:g} covered",
            f"windows    {self.windows:,}, overlap {self.overlap_m:.1f} m, {self.skipped:,} without imagery",
            f"time       {self.seconds:.1f} s, {self.network_s:.1f} s in the network",
        ]
        if self.min_p is not None:
            lines.append(f"attributes left empty below a probability of {self.min_p:g}")
        if self.filters:
            lines.append(f"kept       {self.filters}")
        if self.cut:
            cure = f", some as wide as the overlap; --max_crown {self.cure_m:.0f} would see them whole"
            lines.append(f"cut        {self.cut:,} crowns{cure if self.cure_m else ' that no other window saw'}")
        for name, rows in self.classes.items():
            lines += table_lines(name, rows)
        lines.append(f"written    {self.output} ({self.crs})")
        return lines + self.failure_lines()

    def failure_lines(self) -> list[str]:
        """Return what could not be read as lines; none where all went well."""
        if not self.failures:
            return []
        some = list(self.failures.items())[:SHOWN]
        lines = [f"failed     {len(self.failures):,} rasters could not be read, or not all of them:"]
        lines += [f"  {reason if path in reason else f'{path}: {reason}'}" for path, reason in some]
        left = len(self.failures) - len(some)
        lines += [f"  and {left:,} more"] if left else []
        return [*lines, f"listed     {failures_path(Path(self.output))}; --resume takes up what is missing"]


def failures_path(output: Path) -> Path:
    """Return where failures are listed: beside the output file, or in the output folder.

    >>> failures_path(Path("city/crowns.gpkg")).name
    'crowns-failures.csv'
    """
    return output.with_name(f"{output.stem}-failures.csv") if output.suffix else output / "failures.csv"


def write_failures(output: Path, failures: Mapping[str, str]) -> None:
    """Write the list of failures, or delete an old one where there are none.

    Args:
        output: File or folder of the crowns.
        failures: Reasons by path.

    Raises:
        OutputError: The list can not be written.
    """
    path = failures_path(output)
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["path", "reason"])
    rows.writerows(failures.items())
    temporary = path.with_name(f".{path.name}.part")
    try:
        if not failures:
            path.unlink(missing_ok=True)
            return
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"can not write {path}: {error.strerror or error}") from error
