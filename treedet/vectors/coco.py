"""COCO detection JSON (https://cocodataset.org/#format-data): boxes in pixels, ids from 1."""

from __future__ import annotations

import json
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core.boxes import area, corners
from treedet.errors import OutputError
from treedet.vectors.columns import extras
from treedet.vectors.crowns_writer import CrownsWriter, Target
from treedet.vectors.json_text import ItemsFile, arrays, records
from treedet.vectors.shapes import ellipse_corners

DECIMALS = 4
"""Of a pixel: far below what a detector means."""


class CocoWriter(CrownsWriter):
    """Streams annotations; images and categories follow them, which the order of a JSON object allows.

    The columns of a crown that COCO has no name for go into ``attributes``; a segmentation is the box or, for
    ellipses, their 32 corners.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._items = ItemsFile(self.file, '{"annotations":[')
        self._images: dict[str, int] = {}
        self._categories = {name: i for i, name in enumerate(target.layout.classes, start=1)}

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        if boxes_px is None:
            raise OutputError(
                f"can not write {self.target.path}: COCO holds boxes in pixels, and crowns on a map do not know "
                "those of their raster; give grid_of=, or write .gpkg"
            )
        sources, labels = table["source"].astype("category"), table["label"].astype(str)
        for name in sources.cat.categories:
            self._images.setdefault(str(name), len(self._images) + 1)
        for name in labels.unique():
            self._categories.setdefault(name, len(self._categories) + 1)
        plain = pd.DataFrame(
            {
                "id": np.arange(self.rows + 1, self.rows + 1 + len(table)),
                "image_id": sources.astype(str).map(self._images).to_numpy(),
                "category_id": labels.map(self._categories).to_numpy(),
                "score": table["score"].to_numpy(),
                "area": area(boxes_px),
                "iscrowd": 0,
            }
        )
        layout = self.target.layout
        others = [name for name in layout.dtypes if name not in ("label", "score", "source")]
        sides = np.column_stack([boxes_px[:, :2], boxes_px[:, 2:] - boxes_px[:, :2]])
        opened = np.array([text[:-1] for text in records(plain)], dtype=object)
        self._items.extend(
            opened
            + ',"bbox":'
            + arrays(sides, decimals=DECIMALS)
            + ',"segmentation":'
            + self._segmentation(boxes_px)
            + ',"attributes":'
            + records(table[[*others, *extras(table, layout)]])
            + "}"
        )

    def _segmentation(self, boxes_px: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
        shape = self.target.options.shape
        if shape == "point":
            return np.full(len(boxes_px), "[]", dtype=object)
        xy = np.asarray(corners(boxes_px), dtype=np.float64)
        points = ellipse_corners(xy) if shape == "ellipse" else xy
        return np.asarray(
            "[" + arrays(points.reshape(len(xy), 2 * points.shape[1]), decimals=DECIMALS) + "]", dtype=object
        )

    def _finish(self, metadata: str) -> bool:
        source = json.loads(metadata).get("source")
        if not self._images and isinstance(source, str):
            self._images[source] = 1
        tail = {
            "images": [self._image(name, number) for name, number in self._images.items()],
            "categories": [{"id": i, "name": name, "supercategory": "tree"} for name, i in self._categories.items()],
            "info": {"description": "tree crowns"},
        }
        self._items.end("\n]," + json.dumps(tail, ensure_ascii=False)[1:] + "\n")
        return False

    def _image(self, name: str, number: int) -> dict[str, Any]:
        sizes = self.target.image_sizes
        size = sizes if isinstance(sizes, tuple) else (sizes or {}).get(name)
        return {"id": number, "file_name": name} | ({} if size is None else {"width": size[0], "height": size[1]})

    def _close(self) -> None:
        self._items.close()
