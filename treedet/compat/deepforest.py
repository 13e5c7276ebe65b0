"""DeepForest's weights as a model of ours.

DeepForest runs torchvision's ``retinanet_resnet50_fpn``: windows of 400 px at 0.1 m, which torchvision enlarges to
800, so that the network itself sees 0.05 m per pixel. As a model of ours it is given imagery of that GSD, and nothing
is enlarged behind anybody's back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from treedet.compat.label_dicts import names_in_order, read_label_dict
from treedet.compat.options import ImportOptions
from treedet.compat.retinanet_tensors import TensorReport, check_against, class_count, network_tensors
from treedet.compat.weight_files import Json, WeightFile, read_weights
from treedet.core.labels import LabelSchema
from treedet.core.original import OriginalSetting
from treedet.core.spec import DEFAULT_POINT, ModelSpec, OperatingPoint
from treedet.errors import ConfigError, SpecMismatchError
from treedet.models import model_file

ANCHOR_BASES_PX = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
SCORE_THRESHOLD = 0.1
OVERLAP_SHARE = 0.05
TREE = "Tree"
"""The class of files that name none, as DeepForest writes it."""
SMALLEST_CROWN, WIDEST_CROWN = 10, 160
"""Pixels of the imagery trained on: 1 m and 16 m at 0.1 m per pixel."""
FINEST, COARSEST = 0.2, 2.0
"""Imagery expected, as multiples of the GSD of the imagery trained on."""
WINDOW_PX = 1280
"""Smaller than our own models': a ResNet-50 takes about 2 kB of memory for each pixel it sees."""


@dataclass(frozen=True)
class Imported:
    """Weights of another tool as a model of ours.

    Attributes:
        spec: What the model is and how it is used.
        tensors: Float32 weights by parameter name.
        report: What became of every tensor of the file.
        notes: What was assumed, in words.
    """

    spec: ModelSpec
    tensors: Mapping[str, Tensor]
    report: TensorReport
    notes: tuple[str, ...]

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a file that :func:`treedet.load` reads.

        Raises:
            OutputError: The file exists or can not be written.
        """
        model_file.save(path, self.spec, self.tensors, overwrite=overwrite)


def import_deepforest(path: str | Path, options: ImportOptions | None = None) -> Imported:
    """Read weights of DeepForest.

    Args:
        path: A hub folder (``config.json`` and ``model.safetensors``), a Lightning ``.ckpt``, a ``.pt`` of weights.
        options: What the file may not say.

    Raises:
        ModelFileError: The file is missing, damaged, no RetinaNet with a ResNet-50, or holds more than weights.
        SpecMismatchError: Tensors are missing, superfluous or of another shape, or the number of classes disagrees
            with their names.
        ConfigError: The classes have no names.
    """
    options = options or ImportOptions()
    found = read_weights(path)
    source = str(path)
    tensors, report = network_tensors(found.tensors, source)
    classes = class_count(tensors, 3 * len(ANCHOR_RATIOS), source)
    labels, notes = _labels(found, classes, options, source)
    original = _original(found.config, options, source)
    threshold = options.score_threshold
    if threshold is None:
        threshold = _share(_with_older(found.config), "score_thresh", SCORE_THRESHOLD, source)
    provenance = {
        "start": f"imported from DeepForest ({found.kind} {found.path.name})",
        "file": model_file.digest(found.path),
        "tensors": report.to_dict(),
    }
    spec = replace(deepforest_spec(labels, original, options.gsd, threshold), provenance=provenance)
    check_against(spec, tensors, source)
    return Imported(spec, tensors, report, notes)


def deepforest_spec(labels: tuple[str, ...], original: OriginalSetting, gsd: float, threshold: float) -> ModelSpec:
    """Return the spec of DeepForest's network.

    Args:
        labels: Class names in the order of their numbers.
        original: How DeepForest runs it.
        gsd: Metres per pixel of the imagery trained on.
        threshold: Score at and above which a detection counts.
    """
    seen = gsd / original.enlargement
    sizes = tuple(tuple(int(base * 2 ** (third / 3)) * seen for third in range(3)) for base in ANCHOR_BASES_PX)
    return ModelSpec(
        backbone="resnet50",
        levels=(3, 4, 5, 6, 7),
        fpn_channels=256,
        head_convs=4,
        pyramid_norm=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        gsd=seen,
        gsd_range=(FINEST * gsd, COARSEST * gsd),
        window_px=WINDOW_PX,
        crown_range_m=(SMALLEST_CROWN * gsd, WIDEST_CROWN * gsd),
        anchor_sizes_m=sizes,
        anchor_ratios=ANCHOR_RATIOS,
        anchor_rounding=True,
        labels=LabelSchema(labels),
        operating_points={DEFAULT_POINT: OperatingPoint(threshold=threshold)},
        iou_threshold=original.iou_within,
        precision="fp32",
        original=original,
    )


def _with_older(config: Json) -> Json:
    """Return settings with the score threshold where DeepForest has it since 2.0."""
    before = config.get("retinanet")
    return {**before, **config} if isinstance(before, Mapping) else config


def _original(config: Json, options: ImportOptions, source: str) -> OriginalSetting:
    patch = options.patch_size or _count(config, "patch_size", 400, source)
    return OriginalSetting(
        patch_px=patch,
        overlap_px=math.floor(patch * _share(config, "patch_overlap", OVERLAP_SHARE, source)),
        iou_within=_share(config, "nms_thresh", OriginalSetting.iou_within, source),
        candidates=_count(config, "topk_candidates", OriginalSetting.candidates, source),
        max_detections=_count(config, "detections_per_img", OriginalSetting.max_detections, source),
    )


def _labels(
    found: WeightFile, classes: int, options: ImportOptions, source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return class names in the order of their numbers, and what was assumed."""
    stated = found.config.get("num_classes")
    if stated is not None and stated != classes:
        raise SpecMismatchError(
            f"{source}: its settings say num_classes {stated}, its last layer scores {classes}; the two do not "
            "belong together, give the folder as DeepForest wrote it"
        )
    named = options.labels if options.label_dict is None else read_label_dict(options.label_dict)
    if named is not None:
        if len(named) != classes:
            raise ConfigError(
                f"{len(named)} classes are named ({', '.join(named)}), {source} has {classes}; name each in the "
                "order of their numbers: labels= (--labels) or label_dict= (--label_dict)"
            )
        return named, ()
    if found.labels is None:
        if classes == 1:
            return (TREE,), (
                f"the file names no class; its one class is called {TREE!r} (--labels for another name)",
            )
        raise ConfigError(
            f"{source} has {classes} classes and no names for them; give them in the order of their numbers: "
            f"labels= (--labels {','.join(f'name{n}' for n in range(classes))})"
        )
    names = names_in_order(found.labels, source)
    if len(names) != classes:
        raise SpecMismatchError(
            f"{source}: its label_dict names {len(names)} classes ({', '.join(names)}), its last layer scores "
            f"{classes}; give a name for each in the order of their numbers: labels= (--labels)"
        )
    return names, ()


def _share(config: Json, name: str, default: float, source: str) -> float:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise SpecMismatchError(f"{source}: its settings say {name} {value!r}; accepted is a number from 0 to 1")
    return float(value)


def _count(config: Json, name: str, default: int, source: str) -> int:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or value < 1:
        raise SpecMismatchError(f"{source}: its settings say {name} {value!r}; accepted is a whole number above 0")
    return value
