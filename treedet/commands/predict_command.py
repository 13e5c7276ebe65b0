"""``treedet predict``: progress, the run, the look sheet, the summary."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from treedet.commands.bars import PredictBar
from treedet.display.look import LookSheet
from treedet.errors import ConfigError
from treedet.inference.campaign_parts import PartSummary, merge_parts, predict_part
from treedet.inference.campaign_run import Run
from treedet.inference.campaign_summary import CampaignSummary
from treedet.inference.loading import load as load_detector
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import Part, RunOptions
from treedet.inference.summary import Summary
from treedet.inference.zone_grounds import check_zones_of_many
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_run import check_zones
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import Precision
from treedet.rasters.listing import names_many
from treedet.vectors.crowns_writer import refuse_existing
from treedet.vectors.writers import check_target

log = logging.getLogger("treedet")

SOME_FAILED = 3
"""Exit code of a run in which rasters could not be read."""


@dataclass(frozen=True)
class Loading:
    """Which model, on what.

    Attributes:
        model: Model file; None for the bundled one.
        device: ``auto`` or the kind of device.
        precision: ``auto``, ``fp32`` or ``bf16``.
    """

    model: str | None
    device: str
    precision: Precision


def run(
    raster: str,
    output: str,
    options: PredictOptions,
    *,
    load: Loading,
    how: RunOptions,
    look: bool,
    zoning: ZoneOptions | None = None,
    part: str | None = None,
) -> int:
    """Predict to a file, showing progress, and print the summary.

    Returns:
        The exit code: 0, or 3 where some of many rasters could not be read.

    Raises:
        TreedetError: Something the user can mend.
    """
    many = how.shared or names_many(raster)
    if how.per_raster and not many:
        raise ConfigError(f"--per_raster is for many rasters, {raster} is one; leave it out")
    if part is not None and how.shared:
        raise ConfigError("--part does a part of a run by itself; leave out --workers and --scheduler")
    share = None if how.shared else _share(part, many=many)
    target = Path(output)
    picture = target.with_name(target.stem + "-look.png")
    # Before the model is loaded, which takes a while. Of a run that is taken up, outputs may be there.
    replacing = how.overwrite or (many and how.resume and target.with_name(target.name + ".parts").exists())
    if share is not None:
        return _run_part(raster, target, options, load=load, how=how, part=share, zoning=zoning)
    if not how.per_raster:
        check_target(target, overwrite=replacing, partition=options.partition)
    if many:
        check_zones_of_many(zoning, target, per_raster=how.per_raster, overwrite=replacing)
    else:
        check_zones(zoning, target, overwrite=how.overwrite)
    if look and not replacing:
        refuse_existing(picture)
    keep_memory()
    detector = load_detector(load.model, device=load.device, precision=load.precision)
    sheet = LookSheet(detector.spec.labels, colour_by=options.colour_by, min_p=options.min_p) if look else None
    summary: Summary | CampaignSummary
    with PredictBar() as bar:
        if many:
            summary = detector.predict_many(
                raster, target, options, how=how, zoning=zoning, watch=bar.show, observer=sheet
            )
        else:
            summary = detector.predict_to_file(
                raster,
                target,
                options,
                resume=how.resume,
                overwrite=how.overwrite,
                zoning=zoning,
                watch=bar.show,
                observer=sheet,
            )
    _tell(summary)
    if sheet is not None:
        what = f"{summary.rasters:,} rasters" if isinstance(summary, CampaignSummary) else Path(raster).name
        sheet.save(picture, title=f"{what}: {summary.crowns:,} crowns")
        sys.stdout.write(f"look       {picture}\n")
    return SOME_FAILED if isinstance(summary, CampaignSummary) and summary.failures else 0


def merge(run_folder: str, output: str, *, overwrite: bool) -> int:
    """Gather the parts of a run, print the summary, and return the exit code.

    Raises:
        TreedetError: Something the user can mend.
    """
    summary = merge_parts(run_folder, output, overwrite=overwrite)
    _tell(summary)
    return SOME_FAILED if summary.failures else 0


def _share(part: str | None, *, many: bool) -> Part | None:
    """Return the part of the run that is asked for, by option or by a job array; None for the whole."""
    if part is not None:
        if not many:
            raise ConfigError("--part is for many rasters; give a folder, a quoted glob or a .txt list")
        share = Part.parse(part)
        return None if share.of == 1 else share
    share_of_array = Part.from_array() if many else None
    if share_of_array is not None:
        log.info("part %s is done, as the SLURM job array says; --part 1/1 does everything", share_of_array)
    return share_of_array


def _run_part(
    raster: str,
    target: Path,
    options: PredictOptions,
    *,
    load: Loading,
    how: RunOptions,
    part: Part,
    zoning: ZoneOptions | None,
) -> int:
    keep_memory()
    detector = load_detector(load.model, device=load.device, precision=load.precision)
    with PredictBar() as bar:
        run = Run(detector.model, detector.name, raster, target, options, how, zoning=zoning)
        summary = predict_part(run, raster, part, watch=bar.show)
    _tell(summary)
    return SOME_FAILED if summary.failures else 0


def _tell(summary: Summary | CampaignSummary | PartSummary) -> None:
    for line in summary.lines():
        sys.stdout.write(line + "\n")
