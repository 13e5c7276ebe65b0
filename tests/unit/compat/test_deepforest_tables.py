"""Tables as DeepForest writes them, and tables of ours that it reads."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.compat.label_dicts import read_label_dict, write_label_dict
from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, OutputError
from treedet.vectors.predictions import read_predictions
from treedet.vectors.truth import on_raster, read_annotations
from treedet.vectors.writers import write_crowns

UTM = pyproj.CRS("EPSG:32632")
GRID = Grid.build(UTM, Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000), width=1000, height=800)
BOXES = np.array([[10.0, 20, 60, 70], [100, 30, 180, 90], [400, 500, 455, 580]])
LABELS = ["Alive", "Dead", "Alive"]
SCORES = [0.9, 0.4, 0.25]


def as_predicted() -> pd.DataFrame:
    """What ``predict_tile`` returns, in the order of its columns; numbers are floats."""
    table = pd.DataFrame(BOXES, columns=["xmin", "ymin", "xmax", "ymax"])
    outlines = shapely.to_wkt(shapely.box(*BOXES.T))
    return table.assign(label=LABELS, score=SCORES, image_path="stand.tif", geometry=outlines)


def test_predictions_in_a_csv(tmp_path: Path) -> None:
    as_predicted().to_csv(tmp_path / "predictions.csv", index=False)
    found = read_predictions(tmp_path / "predictions.csv")
    assert found.has_scores
    assert found.images == ("stand.tif",)
    assert list(found.table["label"]) == LABELS
    np.testing.assert_allclose(found.table["score"], SCORES)
    table = on_raster(found, GRID, image="stand.tif")
    np.testing.assert_allclose(GRID.to_pixels(table.geometry.to_numpy()), BOXES, atol=1e-6)


def test_annotations_in_a_csv_with_an_index_and_an_empty_image(tmp_path: Path) -> None:
    """An image without crowns is a row of zeros; pandas writes an index unless told not to."""
    table = as_predicted().drop(columns=["score", "geometry"])
    nothing = {"xmin": 0, "ymin": 0, "xmax": 0, "ymax": 0, "label": "Alive", "image_path": "bare.tif"}
    pd.concat([table, pd.DataFrame([nothing])]).to_csv(tmp_path / "train.csv")
    found = read_annotations(tmp_path / "train.csv")
    assert found.images == ("stand.tif", "bare.tif")
    assert list(found.table["label"]) == LABELS


def test_a_shapefile_of_predictions_on_the_map(tmp_path: Path) -> None:
    """``image_to_geo_coordinates`` moves the four columns to the map too."""
    outlines = GRID.to_map(BOXES)
    table = gpd.GeoDataFrame(as_predicted().drop(columns="geometry"), geometry=outlines, crs=UTM)
    table[["xmin", "ymin", "xmax", "ymax"]] = table.bounds.to_numpy()
    table.to_file(tmp_path / "predictions.shp")
    found = read_predictions(tmp_path / "predictions.shp")
    assert not found.in_pixels
    assert list(found.table["label"]) == LABELS
    np.testing.assert_allclose(found.table["score"], SCORES, atol=1e-6)
    np.testing.assert_allclose(GRID.to_pixels(on_raster(found, GRID).geometry.to_numpy()), BOXES, atol=1e-6)


def test_a_csv_of_ours_holds_the_columns_that_it_reads_as_boxes(tmp_path: Path) -> None:
    crowns = CrownArrays(
        boxes=BOXES,
        scores=np.array(SCORES, np.float32),
        classes=np.array([0, 1, 0]),
        cut=np.zeros(3, bool),
        edge=np.zeros(3, bool),
        attributes={},
    )
    schema = LabelSchema(("Alive", "Dead"))
    table = to_table(crowns, GRID, schema, source="stand.tif", crs=UTM, first_id=1)
    write_crowns(table, tmp_path / "ours.csv", grid_of=lambda _: GRID)
    written = pd.read_csv(tmp_path / "ours.csv")
    assert list(written.columns[:7]) == ["image_path", "xmin", "ymin", "xmax", "ymax", "label", "score"]
    # With one of these its reader would not look at the boxes.
    assert not {"geometry", "polygon"} & set(written.columns)
    np.testing.assert_allclose(written[["xmin", "ymin", "xmax", "ymax"]], BOXES)
    assert list(written["label"]) == LABELS


def test_label_dictionaries_are_written_and_read(tmp_path: Path) -> None:
    write_label_dict(tmp_path / "labels.json", LabelSchema(("Alive", "Dead")))
    assert read_label_dict(tmp_path / "labels.json") == ("Alive", "Dead")
    (tmp_path / "config.yaml").write_text("batch_size: 1\nlabel_dict:\n  Dead: 1\n  Alive: 0\n")
    assert read_label_dict(tmp_path / "config.yaml") == ("Alive", "Dead")
    with pytest.raises(OutputError, match="exists"):
        write_label_dict(tmp_path / "labels.json", LabelSchema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_dict: {Alive: 0, Dead: 2}", "0, 1, 2 and so on, found Alive: 0, Dead: 2"),
        ("label_dict: {Alive: zero}", "found Alive: zero"),
        ("label_dict:", "holds no label dictionary"),
        ("[Alive, Dead]", "holds no label dictionary"),
        ("{", "can not be read"),
    ],
)
def test_label_dictionaries_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_label_dict(tmp_path / "labels.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="can not be read"):
        read_label_dict(tmp_path / "nothing.yaml")
