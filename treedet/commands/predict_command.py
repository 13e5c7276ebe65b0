"""``treedet predict``: progress, the run, the look sheet, the summary."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from treedet.commands.bars import PredictBar
from treedet.display.look import LookSheet
from treedet.inference.detector import load as load_detector
from treedet.inference.options import PredictOptions
from treedet.inference.summary import Summary
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_run import check_zones
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import Precision
from treedet.vectors.crowns_writer import refuse_existing
from treedet.vectors.writers import check_target


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
    resume: bool,
    overwrite: bool,
    look: bool,
    zoning: ZoneOptions | None = None,
) -> Summary:
    """Predict to a file, showing progress, and print the summary.

    Raises:
        TreedetError: Something the user can mend.
    """
    picture = Path(output).with_name(Path(output).stem + "-look.png")
    # Before the model is loaded, which takes a while.
    check_target(output, overwrite=overwrite, partition=options.partition)
    check_zones(zoning, output, overwrite=overwrite)
    if look and not overwrite:
        refuse_existing(picture)
    keep_memory()
    detector = load_detector(load.model, device=load.device, precision=load.precision)
    sheet = LookSheet(detector.spec.labels, colour_by=options.colour_by, min_p=options.min_p) if look else None
    with PredictBar() as bar:
        summary = detector.predict_to_file(
            raster,
            output,
            options,
            resume=resume,
            overwrite=overwrite,
            zoning=zoning,
            watch=bar.show,
            observer=sheet,
        )
    for line in summary.lines():
        sys.stdout.write(line + "\n")
    if sheet is not None:
        sheet.save(picture, title=f"{Path(raster).name}: {summary.crowns:,} crowns")
        sys.stdout.write(f"look       {picture}\n")
    return summary
