"""``treedet calibrate``: what is chosen on validation data, as a model file with its pictures."""

from __future__ import annotations

import sys

from treedet.commands.evaluate_command import annotated
from treedet.commands.paths import beside, model_path, quoted
from treedet.display.evaluation_scores import reliability, score_curve
from treedet.evaluation.calibrate import Calibrated, calibrate
from treedet.evaluation.config import CalibrateConfig, TruthReading
from treedet.inference.loading import load
from treedet.models.backends.allocator import keep_memory
from treedet.vectors.crowns_writer import refuse_existing


def run(
    raster: str,
    truth: str,
    output: str,
    reading: TruthReading,
    config: CalibrateConfig,
    *,
    model: str | None,
    device: str,
    overwrite: bool,
) -> Calibrated:
    """Choose thresholds, merging, temperature and the reading of coarse imagery, and write the model.

    Raises:
        TreedetError: Something the user can mend.
    """
    path = model_path(output)
    curve, diagram = beside(path, "thresholds.png"), beside(path, "reliability.png")
    if not overwrite:
        for target in (path, curve, diagram):
            refuse_existing(target)
    keep_memory()
    detector = load(model, device=device)
    plots = annotated(raster, truth, reading)
    result = calibrate(detector, plots, config=config, tell=_say)
    result.detector.save(path, overwrite=overwrite)
    score_curve(curve, result.curve, threshold=result.detector.spec.threshold())
    reliability(diagram, result.after.table)
    for line in [*result.lines(), f"look        {curve}, {diagram}", f"model       {path}"]:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"next        treedet evaluate TEST_RASTERS TRUTH report --model {quoted(str(path))}\n")
    return result


def _say(what: str) -> None:
    sys.stderr.write(f"treedet: trying {what}\n")
