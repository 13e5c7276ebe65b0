"""Individual tree crowns from aerial imagery: any GeoTIFF, any size, any resolution.

>>> import treedet
>>> treedet.LabelSchema().classes
('tree',)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treedet.core.labels import LabelSchema
    from treedet.core.spec import ModelSpec
    from treedet.errors import TreedetError, TreedetWarning
    from treedet.inference.detector import Detector, load
    from treedet.inference.options import PredictOptions
    from treedet.inference.summary import Summary
    from treedet.rasters.raster import Raster
    from treedet.vectors.annotations import read_crowns
    from treedet.vectors.writers import write_crowns

_HOME = {
    "Detector": "treedet.inference.detector",
    "LabelSchema": "treedet.core.labels",
    "ModelSpec": "treedet.core.spec",
    "PredictOptions": "treedet.inference.options",
    "Raster": "treedet.rasters.raster",
    "Summary": "treedet.inference.summary",
    "TreedetError": "treedet.errors",
    "TreedetWarning": "treedet.errors",
    "load": "treedet.inference.detector",
    "read_crowns": "treedet.vectors.annotations",
    "write_crowns": "treedet.vectors.writers",
}

__all__ = [
    "Detector",
    "LabelSchema",
    "ModelSpec",
    "PredictOptions",
    "Raster",
    "Summary",
    "TreedetError",
    "TreedetWarning",
    "load",
    "read_crowns",
    "write_crowns",
]


def __getattr__(name: str) -> object:
    # Resolved on first use, so that `import treedet` takes no torch.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'treedet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
