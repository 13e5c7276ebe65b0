"""What a run over many rasters found, how, and what it could not read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from treedet.errors import OutputError
from treedet.inference.summary import RunSummary

SHOWN = 5
"""Failures that are listed one by one on the terminal; all are in the file."""


@dataclass(frozen=True, kw_only=True)
class CampaignSummary(RunSummary):
    """Facts about a run over many rasters, besides those that any run has.

    Attributes:
        rasters: Files read.
        grounds: Pieces of ground they are.
        outside: Files that the AOI does not touch.
        gsds: Finest and coarsest metres per pixel.
        native: Pieces of ground that were seen as they are, without resampling.
        stretches: Values mapped to 0 and 255 by data type.
        overlap_m: What neighbouring windows share, in metres.
        failures: Why a file could not be read, or not all of it, by path.
        listed: The file that lists them.
    """

    rasters: int
    grounds: int
    outside: int
    gsds: tuple[float, float]
    native: int
    stretches: Mapping[str, tuple[float, float]]
    overlap_m: float
    failures: Mapping[str, str] = field(default_factory=dict)
    listed: str = ""

    def lines(self) -> list[str]:
        """Return the facts as lines for a person, what could not be read at the end."""
        return [*super().lines(), *self.failure_lines()]

    def _ground_lines(self) -> list[str]:
        fine, coarse = self.gsds
        gsd = f"{fine:.4g} m" if coarse <= 1.001 * fine else f"{fine:.4g} to {coarse:.4g} m"
        native = f", {self.native:,} pieces of ground as they are (native)" if self.native else ""
        beside = f", {self.outside:,} outside the AOI" if self.outside else ""
        stretches = ", ".join(f"{kind} {low:g} to {high:g}" for kind, (low, high) in self.stretches.items())
        return [
            f"rasters    {self.rasters:,} as {self.grounds:,} pieces of ground{beside}",
            f"GSD        {gsd}, seen by the model at {self.model_gsd:.4g} m{native}",
            f"stretch    {stretches or 'none (8 bit)'}",
        ]

    def _work_lines(self) -> list[str]:
        return [
            f"windows    {self.windows:,}, overlap {self.overlap_m:.1f} m, {self.skipped:,} without imagery",
            f"time       {self.seconds:.1f} s, {self.network_s:.1f} s in the network",
        ]

    def failure_lines(self) -> list[str]:
        """Return what could not be read as lines; none where all went well."""
        if not self.failures:
            return []
        some = list(self.failures.items())[:SHOWN]
        lines = [f"failed     {len(self.failures):,} rasters could not be read, or not all of them:"]
        lines += [f"  {reason if path in reason else f'{path}: {reason}'}" for path, reason in some]
        left = len(self.failures) - len(some)
        lines += [f"  and {left:,} more"] if left else []
        return [*lines, f"listed     {self.listed}; --resume takes up what is missing"]


def failures_path(output: Path, *, per_raster: bool) -> Path:
    """Return where failures are listed: beside the output, or in the folder of the files of each raster.

    >>> failures_path(Path("city/crowns.gpkg"), per_raster=False).name
    'crowns-failures.csv'
    >>> failures_path(Path("city.csv"), per_raster=True).as_posix()
    'city/failures.csv'
    """
    if per_raster:
        return output.with_suffix("") / "failures.csv"
    # A partitioned output is a folder too, and holds crowns alone.
    return output.with_name(f"{output.stem}-failures.csv")


def write_failures(path: Path, failures: Mapping[str, str]) -> None:
    """Write the list of failures, or delete an old one where there are none.

    Args:
        path: The list.
        failures: Reasons by path.

    Raises:
        OutputError: The list can not be written.
    """
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
