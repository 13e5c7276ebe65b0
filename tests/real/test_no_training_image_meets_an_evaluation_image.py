"""The rules of what may be trained on what, checked on the real files."""

from pathlib import Path

import numpy as np
import rasterio

from treedet.datasets.sources import SOURCES, place_of
from treedet.vectors.annotations import read_boxes

EVALUATION = ("neon-benchmark/valid", "neon-plots/eval", "neon-plots/partial", "samples/OSBS_029.csv")


def files_of(data: Path, annotations: str) -> list[Path]:
    path = data / annotations
    path = path if path.suffix else path / "annotations.csv"
    return [path.parent / name for name in read_boxes(path).images]


def bounds_of(path: Path) -> tuple[str, tuple[float, ...]] | None:
    if path.suffix != ".tif":
        return None
    with rasterio.open(path) as dataset:
        return (dataset.crs.to_string(), tuple(dataset.bounds)) if dataset.crs else None


def test_places_by_name_are_apart(shared_data: Path) -> None:
    trained = {place_of(str(f)): f for source in SOURCES for f in files_of(shared_data, source.annotations)}
    for part in EVALUATION:
        for path in files_of(shared_data, part):
            if path.suffix == ".tif" and "_" in path.stem and "idtrees" not in str(path):
                clash = trained.get(place_of(str(path)))
                # Plot numbers of the species competition are its own: those are told apart by their bounds.
                assert clash is None or "idtrees" in str(clash), (path, clash)
            else:
                assert place_of(str(path)) not in trained, path


def test_places_by_bounds_are_apart(shared_data: Path) -> None:
    train = [b for s in SOURCES for f in files_of(shared_data, s.annotations) if (b := bounds_of(f))]
    held = [(f, b) for part in EVALUATION for f in files_of(shared_data, part) if (b := bounds_of(f))]
    assert len(train) > 50
    assert len(held) > 30
    for path, (crs, box) in held:
        others = np.array([b for c, b in train if c == crs]).reshape(-1, 4)
        apart = (
            (others[:, 0] >= box[2]) | (others[:, 2] <= box[0]) | (others[:, 1] >= box[3]) | (others[:, 3] <= box[1])
        )
        assert apart.all(), path
