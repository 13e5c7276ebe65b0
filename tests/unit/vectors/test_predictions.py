import json
import logging

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from treedet.errors import CrownsError, DegenerateCrownError, MissingColumnError
from treedet.vectors.predictions import read_predictions
from treedet.vectors.truth import TruthOptions, read_annotations

HEAD = "image_path,xmin,ymin,xmax,ymax,label"


def csv(tmp_path, column, values):
    rows = [f"a.tif,{10 * i},0,{10 * i + 5},5,Tree,{value}" for i, value in enumerate(values)]
    path = tmp_path / "found.csv"
    path.write_text("\n".join([f"{HEAD},{column}", *rows]))
    return path


@pytest.mark.parametrize("name", ["score", "Score", "Confidence_score", "CONFIDENCE", "prob"])
def test_scores_are_kept_by_any_common_name(tmp_path, name):
    found = read_predictions(csv(tmp_path, name, [0.9, 0.25]))
    assert found.has_scores
    assert found.table["score"].tolist() == [np.float32(0.9), np.float32(0.25)]
    assert found.table["score"].dtype == np.float32


def test_a_column_asked_for_goes_before_a_common_name(tmp_path):
    path = tmp_path / "found.gpkg"
    table = gpd.GeoDataFrame({"score": [0.1], "p_tree": [0.7]}, geometry=[shapely.box(0, 0, 5, 5)], crs=32633)
    pyogrio.write_dataframe(table, path)
    assert read_predictions(path, TruthOptions(columns={"score": "p_tree"})).table["score"].iloc[0] == np.float32(0.7)
    with pytest.raises(MissingColumnError, match="'sure', asked for as score"):
        read_predictions(path, TruthOptions(columns={"score": "sure"}))


def test_annotations_stay_certain(tmp_path):
    truth = read_annotations(csv(tmp_path, "score", [0.9, 0.2]))
    assert not truth.has_scores
    assert truth.table["score"].tolist() == [1, 1]


def test_percent_is_refused(tmp_path):
    with pytest.raises(CrownsError, match="go up to 93, as percent do"):
        read_predictions(csv(tmp_path, "score", [93, 0.5]))


@pytest.mark.parametrize(("value", "told"), [("", "found nothing"), ("-0.5", "'-0.5'"), ("high", "'high'")])
def test_a_score_that_is_none(tmp_path, value, told):
    with pytest.raises(DegenerateCrownError, match=rf"1 scores in 'score' .* line 3; .*{told}"):
        read_predictions(csv(tmp_path, "score", [0.5, value]))


def test_without_scores_it_says_what_is_not_defined(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="treedet"):
        found = read_predictions(csv(tmp_path, "height", [3, 4]))
    assert not found.has_scores
    assert found.table["score"].tolist() == [1, 1]
    assert "average precision and calibration are not defined" in caplog.text


def test_a_crown_said_twice_is_a_false_alarm_not_a_slip(tmp_path):
    path = tmp_path / "found.csv"
    path.write_text(f"{HEAD},score\n" + "a.tif,0,0,5,5,Tree,0.9\n" * 2)
    assert len(read_predictions(path).table) == 2
    assert len(read_annotations(path).table) == 1


def test_a_file_without_crowns_says_that_none_were_found(tmp_path):
    table = gpd.GeoDataFrame({"score": np.zeros(0)}, geometry=gpd.GeoSeries([], crs=32633))
    pyogrio.write_dataframe(table, tmp_path / "none.gpkg", geometry_type="Polygon")
    found = read_predictions(tmp_path / "none.gpkg")
    assert len(found.table) == 0
    assert found.table.crs.to_epsg() == 32633
    (tmp_path / "none.csv").write_text(f"{HEAD},score\n")
    found = read_predictions(tmp_path / "none.csv")
    assert (len(found.table), found.in_pixels) == (0, True)


def test_coco_and_yolo_keep_their_confidence(tmp_path):
    coco = {
        "images": [{"id": 1, "file_name": "a.tif", "width": 100, "height": 50}],
        "categories": [{"id": 1, "name": "tree"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.25}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert read_predictions(tmp_path / "coco.json").table["score"].tolist() == [0.25]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1 0.75\n0 0.2 0.2 0.1 0.1 0.5\n")
    (tmp_path / "labels" / "b.txt").write_text("")
    found = read_predictions(tmp_path / "labels")
    assert found.has_scores
    assert found.table["score"].tolist() == [0.75, 0.5]
    assert found.images == ("a", "b")


def test_yolo_truth_without_confidence_has_no_scores(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert not read_predictions(tmp_path / "a.txt").has_scores


def said_in(tmp_path, column, values):
    rows = [f"a.tif,{10 * i},0,{10 * i + 5},5,Tree,0.5,dead,{value}" for i, value in enumerate(values)]
    path = tmp_path / "found.csv"
    path.write_text("\n".join([f"{HEAD},score,status,{column}", *rows]))
    return path


def test_what_is_said_keeps_its_probability(tmp_path):
    found = read_predictions(said_in(tmp_path, "status_p", [0.9, "", 0.25])).table
    assert found["status"].tolist() == ["dead"] * 3
    np.testing.assert_equal(found["status_p"].to_numpy(), np.array([0.9, np.nan, 0.25], np.float32))


def test_what_is_said_without_a_probability_is_not_certain(tmp_path):
    assert read_predictions(said_in(tmp_path, "height", [3, 4])).table["status_p"].isna().all()


def test_a_renamed_attribute_has_the_probability_of_its_own_column(tmp_path):
    path = said_in(tmp_path, "status_p", [0.9])
    found = read_predictions(path, TruthOptions(columns={"vigour": "status"})).table
    assert found["vigour_p"].tolist() == [np.float32(0.9)]


def test_a_probability_that_is_none(tmp_path):
    with pytest.raises(
        DegenerateCrownError, match=r"1 probabilities in 'status_p' are not from 0 to 1, .*; found 90"
    ):
        read_predictions(said_in(tmp_path, "status_p", [0.9, 90]))
