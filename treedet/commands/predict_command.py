"""``treedet predict``: progress, the run, the look sheet, the summary."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from treedet.display.look import LookSheet
from treedet.inference.detector import load as load_detector
from treedet.inference.options import PredictOptions
from treedet.inference.pipeline import Progress
from treedet.inference.summary import Summary
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
) -> Summary:
    """Predict to a file, showing progress, and print the summary.

    Raises:
        TreedetError: Something the user can mend.
    """
    picture = Path(output).with_name(Path(output).stem + "-look.png")
    # Before the model is loaded, which takes a while.
    check_target(output, overwrite=overwrite)
    if look and not overwrite:
        refuse_existing(picture)
    keep_memory()
    detector = load_detector(load.model, device=load.device, precision=load.precision)
    sheet = LookSheet(detector.spec.labels) if look else None
    with _Bar() as bar:
        summary = detector.predict_to_file(
            raster,
            output,
            options,
            resume=resume,
            overwrite=overwrite,
            watch=bar.show,
            observer=sheet,
        )
    for line in summary.lines():
        sys.stdout.write(line + "\n")
    if sheet is not None:
        sheet.save(picture, title=f"{Path(raster).name}: {summary.crowns:,} crowns")
        sys.stdout.write(f"look       {picture}\n")
    return summary


class _Bar:
    """Windows per second, crowns so far and time left, on the terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Draw the state of a run."""
        if self._bar is None:
            # Rows done before an interruption are shown as done, but do not count for the speed.
            done = max(0, progress.windows - 1)
            # Where standard error is no terminal, a bar would only litter a log.
            self._bar = tqdm(total=progress.total, initial=done, unit="window", leave=False, disable=None)
        self._bar.set_postfix_str(f"{progress.crowns:,} crowns", refresh=False)
        self._bar.update(progress.windows - self._bar.n)
