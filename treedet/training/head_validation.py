"""What heads say about crowns that were held out, given their boxes: what the best epoch is chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from treedet.core.spec import HeadFacts, ModelSpec
from treedet.datasets.crop_canvases import canvases
from treedet.datasets.crops import CropSet
from treedet.datasets.split import Part
from treedet.inference.describe import describe_boxes
from treedet.metrics.attributes import AttributeScores, attribute_scores
from treedet.metrics.calibration import fit_softmax
from treedet.models.backends.eager import EagerBackend, Precision
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.training.head_plan import HeadPlan

CANVAS_PX = 512
LEAST_LABELS = 30
"""With fewer labels held out a temperature would be chance."""


@dataclass(frozen=True, eq=False)
class SaidCrowns:
    """Crowns of which something is known, and what heads say about them.

    Attributes:
        schema: Classes of each attribute.
        known: Int64 ``[N, A]``, columns in the order of ``schema``; -1 where nothing is known.
        probabilities: Float32 ``[N, K]`` by attribute.
    """

    schema: Mapping[str, tuple[str, ...]]
    known: npt.NDArray[np.int64]
    probabilities: Mapping[str, npt.NDArray[np.float32]]

    def of(self, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return class ``[M]`` and probabilities ``[M, K]`` of the crowns whose attribute is known."""
        column = self.known[:, list(self.schema).index(name)]
        return column[column >= 0], self.probabilities[name][column >= 0]

    def scores(self, name: str) -> AttributeScores:
        """Compare what is said about an attribute with what is known."""
        known, probabilities = self.of(name)
        return attribute_scores(
            known,
            probabilities.argmax(axis=1),
            self.schema[name],
            probabilities=probabilities.max(axis=1, initial=0.0),
        )

    @classmethod
    def concat(cls, schema: Mapping[str, tuple[str, ...]], parts: Sequence[SaidCrowns]) -> SaidCrowns:
        """Return crowns of several places one after the other."""
        nothing = np.zeros((0, len(schema)), np.int64)
        return cls(
            schema,
            np.concatenate([nothing, *(part.known for part in parts)]),
            {
                name: np.concatenate(
                    [np.zeros((0, len(classes)), np.float32), *(part.probabilities[name] for part in parts)]
                )
                for name, classes in schema.items()
            },
        )


@dataclass(frozen=True, eq=False)
class HeadValidator:
    """Asks the heads of a trunk about crowns that were held out.

    Attributes:
        parts: Held-out ground.
        crops: Held-out crops; None for none.
        heads: Attributes, and which of them learn.
        spec: Architecture, GSD and labels of the trunk.
        device: Where to predict.
        precision: Of the prediction.
    """

    parts: Sequence[Part]
    crops: CropSet | None
    heads: HeadPlan
    spec: ModelSpec
    device: str = "auto"
    precision: Precision = "auto"

    @classmethod
    def of(
        cls, parts: Sequence[Part], crops: CropSet | None, heads: HeadPlan, spec: ModelSpec, *, device: str = "auto"
    ) -> HeadValidator | None:
        """Return a validator; None where nothing is known of any crown held out."""
        known = any((heads.said(part.plot)[part.mine] >= 0).any() for part in parts) or bool(crops)
        return cls(parts, crops, heads, spec, device) if known else None

    def say(self, trunk: Trunk) -> SaidCrowns:
        """Return what the heads say about every crown held out of which something is known."""
        model = NetworkDetector(EagerBackend(trunk, device=self.device, precision=self.precision), self.spec)
        said = [self._of_part(model, part) for part in self.parts]
        if self.crops is not None:
            said.append(say_crops(model, self.crops, self.heads))
        return SaidCrowns.concat(self.heads.schema, said)

    def _of_part(self, model: NetworkDetector, part: Part) -> SaidCrowns:
        known = self.heads.said(part.plot)
        rows = np.flatnonzero(part.mine & (known >= 0).any(axis=1))
        with part.plot.open() as raster:
            return SaidCrowns(self.heads.schema, known[rows], describe_boxes(raster, model, part.plot.boxes[rows]))

    def __call__(self, trunk: Trunk) -> dict[str, float]:
        """Return macro F1 and accuracy of each attribute that learns, and the mean of the former as ``val_f1``."""
        return head_scores(self.say(trunk), tuple(self.heads.counts))


def head_scores(said: SaidCrowns, names: Sequence[str]) -> dict[str, float]:
    """Return ``val_NAME_f1`` (macro), ``val_NAME_accuracy``, and the mean of the former as ``val_f1``."""
    found: dict[str, float] = {}
    macro = []
    for name in names:
        if not len(said.of(name)[0]):
            continue
        scores = said.scores(name)
        found |= {f"val_{name}_f1": scores.matched.macro.f1, f"val_{name}_accuracy": scores.accuracy}
        macro.append(scores.matched.macro.f1)
    return {"val_f1": float(np.mean(macro)) if macro else float("nan"), **found}


def calibrated_heads(
    spec: ModelSpec,
    said: SaidCrowns,
    names: Sequence[str],
    *,
    priors: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, HeadFacts]:
    """Return what a model file says about heads, with their calibration fitted on crowns held out.

    Args:
        spec: Of the model that was asked; its heads have a temperature of 1.
        said: What it said.
        names: Heads to calibrate, those with at least ``LEAST_LABELS`` labels held out.
        priors: Share of each class where probabilities shall hold, by attribute; by default that of the crowns held
            out.
    """
    found = dict(spec.heads)
    for name in names:
        known, probabilities = said.of(name)
        if len(known) >= LEAST_LABELS:
            prior = (priors or {}).get(name)
            shares = None if prior is None else [prior[one] for one in said.schema[name]]
            temperature, offsets = fit_softmax(probabilities, known, prior=shares)
            by_class = {} if prior is None else dict(zip(said.schema[name], offsets.tolist(), strict=True))
            found[name] = replace(found[name], temperature=temperature, offsets=by_class)
    return found


def say_crops(model: NetworkDetector, crops: CropSet, heads: HeadPlan) -> SaidCrowns:
    """Return what a model says about crops, each whole crop taken as a crown without surroundings."""
    known = crops.codes(heads.schema, heads.renaming)
    said = {name: np.zeros((len(crops), len(k)), np.float32) for name, k in heads.schema.items()}
    for pixels, boxes, numbers in canvases(crops, gsd=model.spec.gsd, side_px=CANVAS_PX):
        for name, values in model.say(pixels[None], [boxes], alone=True)[0].items():
            said[name][numbers] = values
    return SaidCrowns(heads.schema, known, said)
