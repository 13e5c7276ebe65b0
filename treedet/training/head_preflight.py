"""The report before heads alone are trained: what is known of how many crowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from treedet.core.spec import ModelSpec
from treedet.datasets.crops import CropSet
from treedet.datasets.split import Part, Split
from treedet.errors import ConfigError
from treedet.training.config import TrainConfig
from treedet.training.head_plan import HeadPlan


@dataclass(frozen=True)
class HeadPreflight:
    """Facts of a training that leaves the detection as it is.

    Attributes:
        train: Training crowns by class, for each attribute that learns.
        validation: Crowns held out by class, likewise.
        rasters: Rasters trained on, and held out.
        crops: Crops trained on, and held out.
        windows: Windows drawn at most.
        epochs: Epochs at most.
        gsd: Metres per pixel of the model.
        decisions: What was decided; a line each.
    """

    train: Mapping[str, Mapping[str, int]]
    validation: Mapping[str, Mapping[str, int]]
    rasters: tuple[int, int]
    crops: tuple[int, int]
    windows: int
    epochs: int
    gsd: float
    decisions: tuple[str, ...]

    @classmethod
    def of(
        cls,
        split: Split,
        heads: HeadPlan,
        *,
        spec: ModelSpec,
        config: TrainConfig,
        crops: tuple[CropSet | None, CropSet | None],
        decisions: Sequence[str],
    ) -> HeadPreflight:
        """Gather the facts; opens no file.

        Args:
            split: Ground to train and to validate on.
            heads: Attributes.
            spec: The model to be trained.
            config: Settings.
            crops: Crops to train and to validate on.
            decisions: Lines that say what was decided, and why.
        """
        return cls(
            train={name: dict(zip(heads.schema[name], counts, strict=True)) for name, counts in heads.counts.items()},
            validation=_counts(split.validation, crops[1], heads),
            rasters=(_rasters(split.train), _rasters(split.validation)),
            crops=(len(crops[0] or ()), len(crops[1] or ())),
            windows=config.steps_per_epoch() * config.batch_size * config.epochs,
            epochs=config.epochs,
            gsd=spec.gsd,
            decisions=(*heads.lines, *decisions),
        )

    @property
    def validated(self) -> int:
        """Labels held out."""
        return sum(sum(counts.values()) for counts in self.validation.values())

    def lines(self) -> list[str]:
        """Return the report, a line for each fact."""
        rows = [f"rasters     {self.rasters[0]} to train on, {self.rasters[1]} held out"]
        if any(self.crops):
            rows.append(f"crops       {self.crops[0]} to train on, {self.crops[1]} held out")
        for name, counts in self.train.items():
            rows.append(f"{name:<11} {_counted(counts)}; held out: {_counted(self.validation.get(name, {}))}")
        rows.append(f"windows     {self.windows} in {self.epochs} epochs, at {self.gsd:.3g} m")
        return [*rows, *(f"set         {line}" for line in self.decisions)]

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return asdict(self)

    def check(self) -> None:
        """Refuse what can not work.

        Raises:
            ConfigError: No attribute has labels.
        """
        if not self.train:
            raise ConfigError(
                "freeze='trunk' leaves nothing to train: the annotation has no attribute with labels of two classes; "
                "name its column with columns= (--columns.species SP_CODE), or take freeze='backbone' or 'none'"
            )


def _rasters(parts: Sequence[Part]) -> int:
    return len({part.plot.path for part in parts})


def _counts(parts: Sequence[Part], crops: CropSet | None, heads: HeadPlan) -> dict[str, dict[str, int]]:
    codes = [heads.said(part.plot)[part.mine] for part in parts]
    if crops is not None:
        codes.append(crops.codes(heads.schema, heads.renaming))
    every = np.concatenate([np.zeros((0, len(heads.schema)), np.int64), *codes])
    found = {}
    for column, (name, classes) in enumerate(heads.schema.items()):
        if name in heads.counts:
            seen = every[:, column]
            numbers = np.bincount(seen[seen >= 0], minlength=len(classes)).tolist()
            found[name] = dict(zip(classes, numbers, strict=True))
    return found


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
