"""Progress on the terminal."""

from __future__ import annotations

import math
from typing import NoReturn

from tqdm import tqdm

from treedet.training.callbacks import Progress


class TrainingBar:
    """Epoch, loss, validation F1 and time left, on the terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Draw the state of a run."""
        if self._bar is None:
            # Steps done before an interruption are shown as done, but do not count for the speed.
            done = max(0, progress.step - 1)
            self._bar = tqdm(
                total=progress.steps,
                initial=done,
                unit="step",
                leave=False,
                disable=None,
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
            )
        left = "" if math.isnan(progress.seconds_left) else f", {_clock(progress.seconds_left)} left"
        score = "" if math.isnan(progress.val_f1) else f", validation F1 {progress.val_f1:.3f}"
        self._bar.set_description_str(
            f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}{score}{left}", refresh=False
        )
        self._bar.update(progress.step - self._bar.n)


def _clock(seconds: float) -> str:
    """Return seconds as minutes and seconds.

    >>> _clock(75.2)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
