"""``treedet train``: the report and the windows before, progress, and the model, curves and mistakes after."""

from __future__ import annotations

import math
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from treedet.commands.bars import TrainingBar
from treedet.commands.paths import beside, model_path, quoted
from treedet.commands.train_inputs import annotated, recipe_of
from treedet.core.spec import DEFAULT_POINT
from treedet.display.confusion import confusion
from treedet.display.curves import curves
from treedet.display.sheets import MOST_WINDOWS, SQUARE_M, Outcome, choose_squares, hits_sheet, windows_sheet
from treedet.errors import SparseAnnotationError, TreedetWarning
from treedet.inference.loading import load
from treedet.models.backends.allocator import keep_memory
from treedet.training.callbacks import write_history
from treedet.training.config import TrainConfig
from treedet.training.fine_tune import FineTuned, fine_tune, sampled_names, sampled_windows
from treedet.training.options import TrainOptions
from treedet.training.plan import Plan
from treedet.training.run_folder import RunFolder
from treedet.vectors.crowns_writer import refuse_existing


@dataclass(frozen=True)
class Outputs:
    """Everything a training writes, named after the model file.

    Attributes:
        model: The model file.
    """

    model: Path

    def beside(self, name: str) -> Path:
        """Return the path of a file that goes with the model."""
        return beside(self.model, name)

    @property
    def windows(self) -> Path:
        """Sheet of training windows."""
        return self.beside("training-windows.png")

    @property
    def mistakes(self) -> Path:
        """Sheet of validation squares."""
        return self.beside("validation.png")

    def confusion(self, attribute: str) -> Path:
        """Return the path of a picture: what a head says about crowns held out, against what is known of them."""
        return self.beside(f"confusion-{attribute}.png")

    @property
    def curves(self) -> Path:
        """Loss and scores by epoch, drawn."""
        return self.beside("curves.png")

    @property
    def history(self) -> Path:
        """Loss and scores by epoch, as a table."""
        return self.beside("history.csv")

    @property
    def check(self) -> Path:
        """Confident detections that nobody annotated."""
        return self.beside("annotation-check.gpkg")

    @property
    def run(self) -> Path:
        """Folder of checkpoints; removed at success."""
        return self.model.with_name(f"{self.model.name}.training")

    def refuse(self) -> None:
        """Raise if something would be overwritten, the run folder aside.

        Raises:
            OutputError: A file exists.
        """
        for path in (self.model, self.windows, self.mistakes, self.curves, self.history):
            refuse_existing(path)


def run(
    raster: str,
    crowns: str,
    output: str,
    options: TrainOptions,
    config: TrainConfig,
    *,
    model: str | None,
    device: str,
    resume: bool,
    overwrite: bool,
) -> FineTuned:
    """Fine-tune a model and write it, with pictures, showing progress.

    Raises:
        TreedetError: Something the user can mend.
    """
    outputs = Outputs(model_path(output))
    folder = RunFolder(outputs.run)
    begun = folder.begun
    if not resume:
        folder.refuse()
    # What a finished run wrote is not an interrupted one's, so --resume alone does not replace it.
    if not overwrite and not (resume and begun):
        outputs.refuse()
    keep_memory()
    detector = load(model, device=device)
    plots, validation = annotated(raster, crowns, options)
    if device != "auto" and "accelerator" not in config.trainer:
        config = replace(config, trainer={"accelerator": "gpu" if device == "cuda" else device, **config.trainer})
    with _check_written(outputs), TrainingBar() as bar:
        result = fine_tune(
            detector,
            plots,
            validation=validation,
            config=config,
            recipe=recipe_of(options),
            run=outputs.run,
            resume=resume,
            watch=bar.show,
            before=lambda plan: _introduce(plan, outputs),
        )
    result.detector.save(outputs.model, overwrite=overwrite or begun)
    write_history(outputs.history, result.history)
    curves(outputs.curves, result.history, best_epoch=result.best_epoch)
    if result.predictions:
        _draw_mistakes(result, outputs.mistakes)
    if result.said is not None:
        for name in result.plan.heads.counts:
            scores = result.said.scores(name)
            confusion(outputs.confusion(name), scores.confusion, scores.names, attribute=name)
    shutil.rmtree(outputs.run, ignore_errors=True)
    for line in _closing(result, outputs):
        sys.stdout.write(line + "\n")
    _warn_of_nothing_found(result, outputs)
    return result


@contextmanager
def _check_written(outputs: Outputs) -> Iterator[None]:
    """Write what nobody annotated to a file before the user is told."""
    try:
        yield
    except SparseAnnotationError as error:
        error.check.write(outputs.check)
        raise SparseAnnotationError(f"{error}; they are in {outputs.check}", check=error.check) from None


def _introduce(plan: Plan, outputs: Outputs) -> None:
    """Print the report and draw windows, before the first step."""
    for line in plan.preflight.lines():
        sys.stdout.write(line + "\n")
    drawn = sampled_windows(plan, MOST_WINDOWS)
    windows_sheet(
        outputs.windows,
        [(pixels, boxes, classes) for pixels, boxes, classes, _ in drawn],
        sampled_names(plan),
        gsd=plan.spec.gsd,
        title=f"What training sees: {MOST_WINDOWS} windows with their crowns",
        known=[known for *_, known in drawn],
    )
    sys.stdout.write(f"look        {outputs.windows}\n")
    sys.stdout.flush()


def _draw_mistakes(result: FineTuned, path: Path) -> None:
    """Draw validation squares at the default operating point."""
    threshold = result.detector.spec.threshold()
    parts = result.plan.split.validation
    outcomes = []
    for part, prediction in zip(parts, result.predictions, strict=True):
        shown = prediction.at(threshold)
        matching = shown.matched(by_class=True)
        _, counted, _ = shown.counts(matching)
        truth_hit, predicted_hit = np.zeros(len(shown.truth), dtype=bool), np.zeros(len(shown.predicted), dtype=bool)
        truth_hit[matching.truth], predicted_hit[matching.predicted] = True, True
        grid = part.plot.grid
        metres = np.array([grid.gsd_x, grid.gsd_y] * 2)
        outcomes.append(
            Outcome(
                name=Path(part.plot.path).name,
                width=grid.width,
                height=grid.height,
                gsd=grid.gsd,
                truth=shown.truth / metres,
                predicted=shown.predicted[counted] / metres,
                truth_hit=truth_hit,
                predicted_hit=predicted_hit[counted],
            )
        )
    widest = max((float(np.quantile(p.plot.diameters_m, 0.95)) for p in parts if len(p.plot)), default=0.0)
    squares = []
    for position, window in choose_squares(outcomes, side_m=max(SQUARE_M, 4 * widest)):
        with parts[position].plot.open() as raster:
            tile = raster.read(window)
        squares.append(outcomes[position].square(window, tile.pixels))
    hits_sheet(path, squares, title=f"Validation at score {threshold:.2f}")


def _warn_of_nothing_found(result: FineTuned, outputs: Outputs) -> None:
    if not result.predictions:
        return
    crowns = sum(len(found.truth) for found in result.predictions)
    if crowns and not result.detector.spec.operating_points[DEFAULT_POINT].f1:
        warnings.warn(
            TreedetWarning(
                f"the model finds none of the {crowns} validation crowns at any score; look at {outputs.windows} "
                "whether boxes and crowns go together, then train longer (--epochs, --windows_per_epoch)"
            ),
            stacklevel=2,
        )


def _closing(result: FineTuned, outputs: Outputs) -> list[str]:
    spec = result.detector.spec
    lines = [f"ended       {result.stopped}; weights of epoch {result.best_epoch} are kept"]
    if result.at_start is not None:
        what = "F1" if result.plan.detects else "macro F1 of attributes"
        lines.append(
            f"validation  {what} {result.at_start['val_f1']:.2f} before training, {result.reached:.2f} after"
        )
    lines += _said_lines(result)
    for name, point in spec.operating_points.items():
        if not math.isnan(point.f1):
            default = " (default)" if name == DEFAULT_POINT else ""
            lines.append(
                f"{name:<10}  score {point.threshold:.2f}: on validation recall {point.recall:.2f}, precision "
                f"{point.precision:.2f}, F1 {point.f1:.2f}{default}"
            )
    pictures = [
        outputs.curves,
        *([outputs.confusion(name) for name in result.plan.heads.counts] if result.said is not None else []),
        *([outputs.mistakes] if result.predictions else []),
    ]
    lines.append(f"look        {', '.join(str(path) for path in pictures)}")
    lines.append(f"model       {outputs.model}")
    parts = result.plan.split.train
    first = quoted(parts[0].plot.path) if parts else "ortho.tif"
    lines.append(f"next        treedet predict {first} crowns.gpkg --model {quoted(str(outputs.model))}")
    return lines


def _said_lines(result: FineTuned) -> list[str]:
    """Return a line for each attribute that was trained: how often it is right, given the crowns."""
    if result.said is None:
        return []
    lines = []
    for name in result.plan.heads.counts:
        scores = result.said.scores(name)
        if total := int(scores.matched.truth.sum()):
            lines.append(
                f"{name:<11} accuracy {scores.accuracy:.2f}, macro F1 {scores.matched.macro.f1:.2f} on {total} "
                f"crowns held out, given their boxes (always {scores.majority}: {scores.majority_accuracy:.2f})"
            )
    return lines
