"""Individual tree crowns from aerial imagery: any GeoTIFF, any size, any resolution.

>>> import treedet
>>> treedet.LabelSchema().classes
('tree',)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treedet.compat.deepforest import Imported, import_deepforest
    from treedet.compat.options import ImportOptions
    from treedet.core.labels import LabelSchema
    from treedet.core.spec import ModelSpec
    from treedet.datasets.annotated import AnnotatedRaster, pair
    from treedet.datasets.field_trees import FieldMatch, match_field
    from treedet.errors import TreedetError, TreedetWarning
    from treedet.evaluation.calibrate import Calibrated, calibrate
    from treedet.evaluation.compare import Comparison, compare
    from treedet.evaluation.config import CalibrateConfig, EvaluateConfig
    from treedet.evaluation.crown_files import paired_files
    from treedet.evaluation.evaluate import evaluate, evaluate_crowns
    from treedet.evaluation.report import Report
    from treedet.inference.detector import Detector
    from treedet.inference.loading import load
    from treedet.inference.options import PredictOptions
    from treedet.inference.summarise import Summarised, summarise
    from treedet.inference.summary import Summary
    from treedet.inference.zone_options import ZoneOptions
    from treedet.rasters.raster import Raster
    from treedet.training.config import TrainConfig
    from treedet.training.fine_tune import FineTuned, fine_tune
    from treedet.training.recipe import Recipe
    from treedet.vectors.annotations import read_crowns
    from treedet.vectors.field_options import FieldOptions
    from treedet.vectors.truth import TruthOptions
    from treedet.vectors.writers import write_crowns

_HOME = {
    "AnnotatedRaster": "treedet.datasets.annotated",
    "CalibrateConfig": "treedet.evaluation.config",
    "Calibrated": "treedet.evaluation.calibrate",
    "Comparison": "treedet.evaluation.compare",
    "Detector": "treedet.inference.detector",
    "EvaluateConfig": "treedet.evaluation.config",
    "FieldMatch": "treedet.datasets.field_trees",
    "FieldOptions": "treedet.vectors.field_options",
    "FineTuned": "treedet.training.fine_tune",
    "ImportOptions": "treedet.compat.options",
    "Imported": "treedet.compat.deepforest",
    "LabelSchema": "treedet.core.labels",
    "ModelSpec": "treedet.core.spec",
    "PredictOptions": "treedet.inference.options",
    "Raster": "treedet.rasters.raster",
    "Recipe": "treedet.training.recipe",
    "Report": "treedet.evaluation.report",
    "Summarised": "treedet.inference.summarise",
    "Summary": "treedet.inference.summary",
    "TrainConfig": "treedet.training.config",
    "TreedetError": "treedet.errors",
    "TreedetWarning": "treedet.errors",
    "TruthOptions": "treedet.vectors.truth",
    "ZoneOptions": "treedet.inference.zone_options",
    "calibrate": "treedet.evaluation.calibrate",
    "compare": "treedet.evaluation.compare",
    "evaluate": "treedet.evaluation.evaluate",
    "evaluate_crowns": "treedet.evaluation.evaluate",
    "fine_tune": "treedet.training.fine_tune",
    "import_deepforest": "treedet.compat.deepforest",
    "load": "treedet.inference.loading",
    "match_field": "treedet.datasets.field_trees",
    "pair": "treedet.datasets.annotated",
    "paired_files": "treedet.evaluation.crown_files",
    "read_crowns": "treedet.vectors.annotations",
    "summarise": "treedet.inference.summarise",
    "write_crowns": "treedet.vectors.writers",
}

__all__ = [
    "AnnotatedRaster",
    "CalibrateConfig",
    "Calibrated",
    "Comparison",
    "Detector",
    "EvaluateConfig",
    "FieldMatch",
    "FieldOptions",
    "FineTuned",
    "ImportOptions",
    "Imported",
    "LabelSchema",
    "ModelSpec",
    "PredictOptions",
    "Raster",
    "Recipe",
    "Report",
    "Summarised",
    "Summary",
    "TrainConfig",
    "TreedetError",
    "TreedetWarning",
    "TruthOptions",
    "ZoneOptions",
    "calibrate",
    "compare",
    "evaluate",
    "evaluate_crowns",
    "fine_tune",
    "import_deepforest",
    "load",
    "match_field",
    "pair",
    "paired_files",
    "read_crowns",
    "summarise",
    "write_crowns",
]


def __getattr__(name: str) -> object:
    # Resolved on first use, so that `import treedet` takes no torch.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'treedet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
