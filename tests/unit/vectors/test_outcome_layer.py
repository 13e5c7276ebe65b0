import sqlite3
import xml.etree.ElementTree as ET

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from treedet.errors import OutputError
from treedet.vectors.outcome_layer import OUTLINES, write_outcomes


def outcomes(*names, crs=32633, points=()):
    shapes = [shapely.Point(i, 0) if i in points else shapely.box(i, 0, i + 1, 1) for i in range(len(names))]
    values = {
        "outcome": list(names),
        "label": [None if name == "miss" else "tree" for name in names],
        "truth_label": ["tree"] * len(names),
        "score": [0.5] * len(names),
        "iou": [np.nan] * len(names),
        "distance_m": [0.1] * len(names),
        "raster": ["a.tif"] * len(names),
    }
    return gpd.GeoDataFrame(values, geometry=shapes, crs=crs)


def styles(path):
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault = 1").fetchall()
    return dict(rows)


def test_what_is_read_back_is_what_was_written(tmp_path):
    path = tmp_path / "outcomes.gpkg"
    write_outcomes(path, outcomes("hit", "hit", "miss", "false alarm", "confusion"))
    found = pyogrio.read_dataframe(path, layer="outcomes")
    assert found["outcome"].value_counts().to_dict() == {"hit": 2, "miss": 1, "false alarm": 1, "confusion": 1}
    assert found.crs.to_epsg() == 32633
    assert found["label"].isna().tolist() == [False, False, True, False, False]
    assert pyogrio.list_layers(path)[:, 0].tolist()[0] == "outcomes"
    assert [entry.name for entry in tmp_path.iterdir()] == ["outcomes.gpkg"]


def test_the_layer_opens_coloured_by_outcome_with_dashed_misses(tmp_path):
    write_outcomes(tmp_path / "o.gpkg", outcomes("hit", "miss"))
    renderer = ET.fromstring(styles(tmp_path / "o.gpkg")["outcomes"]).find("renderer-v2")
    assert renderer.get("attr") == "outcome"
    categories = {c.get("value"): c.get("symbol") for c in renderer.findall("categories/category")}
    assert list(categories) == [*OUTLINES, ""]
    symbols = {
        s.get("name"): {o.get("name"): o.get("value") for o in s.iter("Option")} for s in renderer.iter("symbol")
    }
    drawn = {value: symbols[symbol] for value, symbol in categories.items()}
    assert drawn["miss"]["outline_style"] == "dash"
    assert {drawn[name]["outline_style"] for name in ("hit", "confusion", "false alarm")} == {"solid"}
    assert len({one["outline_color"] for one in drawn.values()}) == 5


def test_missed_stems_are_a_layer_of_points_with_a_style_of_its_own(tmp_path):
    path = tmp_path / "o.gpkg"
    write_outcomes(path, outcomes("hit", "miss", "miss", points=(1, 2)))
    layers = dict(pyogrio.list_layers(path).tolist())
    assert (layers["outcomes"], layers["missed_points"]) == ("Polygon", "Point")
    assert pyogrio.read_info(path, layer="missed_points")["features"] == 2
    found = styles(path)
    assert {s.get("type") for s in ET.fromstring(found["missed_points"]).iter("symbol")} == {"marker"}
    assert {s.get("type") for s in ET.fromstring(found["outcomes"]).iter("symbol")} == {"fill"}


@pytest.mark.parametrize("table", [outcomes(), outcomes("hit", crs=None)])
def test_nothing_found_and_pixels_are_written_too(tmp_path, table):
    write_outcomes(tmp_path / "o.gpkg", table)
    found = pyogrio.read_dataframe(tmp_path / "o.gpkg", layer="outcomes")
    assert len(found) == len(table)
    assert set(found.columns) == set(table.columns)


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "o.gpkg"
    path.write_bytes(b"before")
    with pytest.raises(OutputError, match="exists already"):
        write_outcomes(path, outcomes("hit"))
    assert path.read_bytes() == b"before"
