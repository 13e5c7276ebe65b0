"""All that a set of weights needs in order to be used, as one plain value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from treedet.core.grid import SAME_GSD
from treedet.core.labels import LabelSchema
from treedet.core.original import OriginalSetting
from treedet.errors import ConfigError, SpecMismatchError

DEFAULT_POINT = "balanced"
"""Operating point used where nobody asks for another."""

Reading = Literal["adapt", "native"]
"""How imagery reaches the network: resampled to the model's GSD, or with its pixels as they are."""


CHOICE_HOLDS = 1.6
"""Ratio of GSDs up to which what was better at one is followed at another."""


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold chosen on validation data, with what it gave there.

    Attributes:
        threshold: Score at and above which a detection counts.
        precision: Share of detections that were crowns.
        recall: Share of crowns that were detected.
        f1: Harmonic mean of both.
    """

    threshold: float
    precision: float = math.nan
    recall: float = math.nan
    f1: float = math.nan


@dataclass(frozen=True)
class ResolutionChoice:
    """Which reading of coarse imagery was better on validation data of one GSD.

    Attributes:
        gsd: Ground sample distance of the imagery in metres per pixel.
        mode: The better one: ``adapt`` resamples to the model's GSD, ``native`` leaves the pixels as they are.
        adapt_f1: F1 of ``adapt`` there.
        native_f1: F1 of ``native`` there.

    Raises:
        ConfigError: The GSD is not positive, or the mode is unknown.
    """

    gsd: float
    mode: str
    adapt_f1: float
    native_f1: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"the gsd of a resolution choice must be a positive number of metres, found {self.gsd}")
        if self.mode not in ("adapt", "native"):
            raise ConfigError(f"the mode at {self.gsd:g} m can not be {self.mode!r}; accepted are adapt, native")


@dataclass(frozen=True)
class HeadFacts:
    """What is known about the head of an attribute.

    Attributes:
        counts: Training crowns by class name, in the order of the schema.
        temperature: Divides the head's logits before the softmax (calibration, Guo et al. 2017).
        offsets: Added to the logits of a class after that, by its name; 0 where none is named. Makes probabilities
            hold where classes are as frequent as in use rather than in training (Saerens et al. 2002).

    Raises:
        ConfigError: The temperature is not a positive number.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    temperature: float = 1.0
    offsets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"the temperature of a head must be a positive number, found {self.temperature}")
        if wrong := [name for name, offset in self.offsets.items() if not math.isfinite(offset)]:
            raise ConfigError(f"offsets of a head must be numbers, found {self.offsets[wrong[0]]} for {wrong[0]!r}")


@dataclass(frozen=True)
class ModelSpec:
    """Architecture, ground scale, labels and thresholds of a model; JSON-able, stored in the model file.

    Attributes:
        backbone: Name of the torchvision ResNet that is the body.
        levels: Pyramid levels; level ``l`` has a stride of ``2 ** l`` pixels.
        fpn_channels: Channels of the pyramid and of the head.
        head_convs: 3x3 convolutions in each branch of the head.
        pyramid_norm: Batch normalisation after the convolutions of the pyramid (torchvision's has none).
        bands: Bands the network expects.
        mean: Mean per band, on a scale of 0 to 1.
        std: Standard deviation per band, on the same scale.
        gsd: Ground sample distance the network sees, in metres per pixel.
        gsd_range: Coarsest and finest imagery the model is trained for, as (finest, coarsest) metres per pixel.
        crown_range_m: Smallest and widest crown diameter expected, in metres; the widest sets the overlap.
        window_px: Largest side of a window in pixels.
        anchor_sizes_m: Side lengths of the anchors of each level, in metres on the ground.
        anchor_ratios: Height over width of the anchors.
        anchor_rounding: Edges of the anchors lie on whole pixels around their centre, as in torchvision.
        labels: Classes and attributes.
        operating_points: Score thresholds by name, with the scores they gave on validation.
        iou_threshold: Overlap (intersection over union) above which two detections are one crown.
        ios_threshold: Covered share above which a cut detection belongs to another crown.
        cut_margin_px: A box this close to a window's inner edge is cut by it.
        max_detections: Cap on detections per 400 x 400 px of window; adapts to the window, warns when hit.
        temperature: Divides the logits before the sigmoid (calibration, Guo et al. 2017).
        resolutions: The better reading of imagery coarser than ``gsd``, by the GSDs that were tried.
        heads: What is known about the head of each attribute, by its name.
        precision: Precision that weights are stored in, and run in where nobody asks for another: ``auto`` stores
            halves and runs in bf16 where the device computes it natively, ``fp32`` keeps every bit.
        original: How the tool that the weights were imported from runs them; None for models of our own.
        provenance: Free text facts: initialisation, data, licence, commit, scores.
    """

    backbone: str = "resnet18"
    levels: tuple[int, ...] = (2, 3, 4, 5)
    fpn_channels: int = 128
    head_convs: int = 2
    pyramid_norm: bool = True
    bands: int = 3
    mean: tuple[float, ...] = (0.45, 0.45, 0.40)
    std: tuple[float, ...] = (0.22, 0.21, 0.20)
    gsd: float = 0.1
    gsd_range: tuple[float, float] = (0.02, 0.3)
    crown_range_m: tuple[float, float] = (1.5, 20.0)
    window_px: int = 1536
    anchor_sizes_m: tuple[tuple[float, ...], ...] = (
        (1.6, 2.0, 2.5),
        (3.2, 4.0, 5.1),
        (6.4, 8.1, 10.2),
        (12.8, 16.1, 20.3),
    )
    anchor_ratios: tuple[float, ...] = (1.0,)
    anchor_rounding: bool = False
    labels: LabelSchema = field(default_factory=LabelSchema)
    operating_points: Mapping[str, OperatingPoint] = field(
        default_factory=lambda: {DEFAULT_POINT: OperatingPoint(threshold=0.3)}
    )
    iou_threshold: float = 0.4
    ios_threshold: float = 0.6
    cut_margin_px: float = 2.0
    max_detections: int = 500
    temperature: float = 1.0
    resolutions: tuple[ResolutionChoice, ...] = ()
    heads: Mapping[str, HeadFacts] = field(default_factory=dict)
    precision: Literal["auto", "fp32"] = "auto"
    original: OriginalSetting | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.levels or len(self.anchor_sizes_m) != len(self.levels):
            raise ConfigError(
                f"a model needs anchor sizes for each pyramid level, found {len(self.anchor_sizes_m)} for "
                f"levels {list(self.levels)}"
            )
        if len(self.mean) != self.bands or len(self.std) != self.bands:
            raise ConfigError(f"mean and std need one value for each of {self.bands} bands")
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"the model's gsd must be positive, found {self.gsd}")
        if DEFAULT_POINT not in self.operating_points:
            raise ConfigError(f"operating points need {DEFAULT_POINT!r}, found {sorted(self.operating_points)}")
        if self.precision not in ("auto", "fp32"):
            raise ConfigError(f"the model's precision can not be {self.precision!r}; accepted are auto, fp32")
        if strange := sorted(set(self.heads) - set(self.labels.attributes)):
            raise ConfigError(
                f"heads must belong to attributes of the labels, {sorted(self.labels.attributes)}, found {strange}"
            )

    @property
    def stride(self) -> int:
        """Largest stride of the pyramid in pixels; windows are padded to a multiple of it."""
        return int(2 ** max(self.levels))

    @property
    def anchors_per_location(self) -> int:
        """Anchors at each place of each level."""
        return len(self.anchor_sizes_m[0]) * len(self.anchor_ratios)

    def overlap_px(self, max_crown_m: float | None = None) -> int:
        """Pixels that neighbouring windows share, so that the widest crown is whole in one of them.

        Args:
            max_crown_m: Widest crown expected in metres; the model's own range if None.

        >>> ModelSpec().overlap_px(15.0)
        156
        """
        widest = self.crown_range_m[1] if max_crown_m is None else max_crown_m
        if not (math.isfinite(widest) and widest > 0):
            raise ConfigError(f"the widest crown must be a positive number of metres, found {widest}")
        return math.ceil(widest / self.gsd - 1e-9) + math.ceil(2 * self.cut_margin_px) + 2

    def threshold(self, wanted: float | str | None = None) -> float:
        """Return a score threshold from a number, the name of an operating point, or the default.

        Raises:
            ConfigError: The number is outside 0 to 1, or the name is unknown.

        >>> ModelSpec().threshold("balanced"), ModelSpec().threshold(0.5)
        (0.3, 0.5)
        """
        if wanted is None:
            wanted = DEFAULT_POINT
        if isinstance(wanted, str) and wanted in self.operating_points:
            return self.operating_points[wanted].threshold
        try:
            value = float(wanted)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ConfigError(
                f"score threshold {wanted!r} is not usable: give a number from 0 to 1, or one of the model's "
                f"operating points: {', '.join(sorted(self.operating_points))}"
            )
        return value

    def is_coarse(self, gsd: float) -> bool:
        """Tell whether imagery is so much coarser than the model's GSD (over 2 %) that it can be read in two ways.

        >>> ModelSpec(gsd=0.1).is_coarse(0.101), ModelSpec(gsd=0.1).is_coarse(0.15)
        (False, True)
        """
        return gsd > self.gsd * (1 + SAME_GSD)

    def choice_at(self, gsd: float) -> ResolutionChoice | None:
        """Return the stored choice that holds for imagery of a GSD: the nearest one on a log scale.

        None where nothing is stored for a GSD near this one, and for imagery that is not coarser than the model's
        GSD: finer imagery is always resampled.
        """
        if not self.resolutions or not self.is_coarse(gsd):
            return None
        nearest = min(self.resolutions, key=lambda choice: abs(math.log(choice.gsd / gsd)))
        return nearest if abs(math.log(nearest.gsd / gsd)) <= math.log(CHOICE_HOLDS) else None

    def mode_at(self, gsd: float) -> Reading:
        """Return how imagery of a GSD is read best, as far as is known; ``adapt`` where nothing is.

        >>> choices = (ResolutionChoice(0.2, "adapt", 0.62, 0.55), ResolutionChoice(0.5, "native", 0.31, 0.33))
        >>> spec = ModelSpec(gsd=0.1, resolutions=choices)
        >>> [spec.mode_at(gsd) for gsd in (0.05, 0.1, 0.25, 0.4)]
        ['adapt', 'adapt', 'adapt', 'native']
        """
        choice = self.choice_at(gsd)
        return "native" if choice is not None and choice.mode == "native" else "adapt"

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON-able values."""
        return {**asdict(self), "labels": self.labels.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Build a spec from what :meth:`to_dict` returned.

        Raises:
            SpecMismatchError: A key is unknown, so a later version wrote it.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SpecMismatchError(f"the model's spec has unknown entries {unknown}; install a newer treedet")
        plain = dict(values)
        if "labels" in plain:
            plain["labels"] = LabelSchema.from_dict(plain["labels"])
        if "operating_points" in plain:
            plain["operating_points"] = {k: OperatingPoint(**v) for k, v in plain["operating_points"].items()}
        if "resolutions" in plain:
            plain["resolutions"] = tuple(ResolutionChoice(**choice) for choice in plain["resolutions"])
        if "heads" in plain:
            plain["heads"] = {k: HeadFacts(**v) for k, v in plain["heads"].items()}
        if plain.get("original") is not None:
            plain["original"] = OriginalSetting(**plain["original"])
        if "anchor_sizes_m" in plain:
            plain["anchor_sizes_m"] = tuple(tuple(level) for level in plain["anchor_sizes_m"])
        for name in ("levels", "mean", "std", "gsd_range", "crown_range_m", "anchor_ratios"):
            if name in plain:
                plain[name] = tuple(plain[name])
        return cls(**plain)
