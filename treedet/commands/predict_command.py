"""``treedet predict``: progress, the run, the look sheet, the summary."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from treedet.commands.bars import PredictBar
from treedet.commands.paths import quoted
from treedet.display.look import LookSheet
from treedet.errors import ConfigError
from treedet.inference.campaign_summary import CampaignSummary
from treedet.inference.detector import load as load_detector
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import RunOptions
from treedet.inference.summary import Summary
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_run import check_zones
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import Precision
from treedet.rasters.listing import names_many
from treedet.vectors.crowns_writer import refuse_existing
from treedet.vectors.writers import check_target

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
) -> int:
    """Predict to a file, showing progress, and print the summary.

    Returns:
        The exit code: 0, or 3 where some of many rasters could not be read.

    Raises:
        TreedetError: Something the user can mend.
    """
    many = names_many(raster)
    if how.per_raster and not many:
        raise ConfigError(f"--per_raster is for many rasters, {raster} is one; leave it out")
    if many and zoning is not None and zoning.wanted:
        raise ConfigError(
            "--zones and --grid count the crowns of one raster as it is read; of many, count them afterwards: "
            f"treedet summarise {quoted(output)} TABLE"
        )
    target = Path(output)
    picture = target.with_name(target.stem + "-look.png")
    # Before the model is loaded, which takes a while. Of a run that is taken up, outputs may be there.
    replacing = how.overwrite or (many and how.resume and target.with_name(target.name + ".parts").exists())
    if not how.per_raster:
        check_target(target, overwrite=replacing, partition=options.partition)
    check_zones(zoning, target, overwrite=how.overwrite)
    if look and not replacing:
        refuse_existing(picture)
    keep_memory()
    detector = load_detector(load.model, device=load.device, precision=load.precision)
    sheet = LookSheet(detector.spec.labels, colour_by=options.colour_by, min_p=options.min_p) if look else None
    summary: Summary | CampaignSummary
    with PredictBar() as bar:
        if many:
            summary = detector.predict_many(raster, target, options, how=how, watch=bar.show, observer=sheet)
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
    for line in summary.lines():
        sys.stdout.write(line + "\n")
    if sheet is not None:
        sheet.save(picture, title=f"{Path(raster).name}: {summary.crowns:,} crowns")
        sys.stdout.write(f"look       {picture}\n")
    return SOME_FAILED if isinstance(summary, CampaignSummary) and summary.failures else 0
