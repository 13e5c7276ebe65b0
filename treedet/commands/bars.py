"""Progress on the terminal."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    # For types alone: predicting must not load what training needs.
    from treedet.evaluation.predicted import Standing
    from treedet.inference.pipeline import Progress as PredictProgress
    from treedet.training.callbacks import Progress as TrainProgress


class _Bar:
    """A bar that appears with the first step, and is gone at the end."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _at(self, done: int, total: int, **look: Any) -> tqdm[NoReturn]:  # noqa: ANN401 - what tqdm takes
        if self._bar is None:
            # Steps done before an interruption are shown as done, but do not count for the speed. Where standard
            # error is no terminal, a bar would only litter a log.
            self._bar = tqdm(total=total, initial=max(0, done - 1), leave=False, disable=None, **look)
        return self._bar


class PredictBar(_Bar):
    """Windows per second, crowns so far and time left, on the terminal."""

    def __enter__(self) -> PredictBar:
        return self

    def show(self, progress: PredictProgress) -> None:
        """Draw the state of a run."""
        bar = self._at(progress.windows, progress.total, unit="window")
        bar.set_postfix_str(f"{progress.crowns:,} crowns", refresh=False)
        bar.update(progress.windows - bar.n)


class TrainingBar(_Bar):
    """Epoch, loss, validation F1 and time left; a line for each epoch where standard error is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._last: TrainProgress | None = None

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._log()

    def show(self, progress: TrainProgress) -> None:
        """Draw the state of a run."""
        if self._last is not None and self._last.epoch != progress.epoch:
            self._log()
        self._last = progress
        bar = self._at(progress.step, progress.steps, bar_format="{percentage:3.0f}%|{bar}| {desc}")
        bar.set_description_str(_words(progress), refresh=False)
        bar.update(progress.step - bar.n)

    def _log(self) -> None:
        """Write how an epoch ended, for those who follow a log."""
        if self._last is not None and not sys.stderr.isatty():
            sys.stderr.write(f"treedet: {_words(self._last)}\n")
            sys.stderr.flush()


class EvaluationBar(_Bar):
    """Rasters evaluated, on the terminal."""

    def __enter__(self) -> EvaluationBar:
        return self

    def show(self, standing: Standing) -> None:
        """Draw the state of an evaluation."""
        bar = self._at(1, standing.total, bar_format="{percentage:3.0f}%|{bar}| {postfix}")
        bar.set_postfix_str(f"raster {min(standing.done + 1, standing.total)} of {standing.total}", refresh=False)
        bar.update(standing.done + standing.share - bar.n)


def _words(progress: TrainProgress) -> str:
    left = "" if math.isnan(progress.seconds_left) else f", {_clock(progress.seconds_left)} left"
    score = "" if math.isnan(progress.val_f1) else f", validation F1 {progress.val_f1:.3f}"
    return f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}{score}{left}"


def _clock(seconds: float) -> str:
    """Return seconds as minutes and seconds.

    >>> _clock(75.2)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
