"""What a model, or a file, says about crowns is compared with what is known of them."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from factories import UTM, make_raster, paint, tiny_spec

from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import CrownsError
from treedet.evaluation.attribute_tables import matrix_of
from treedet.evaluation.attributes import Attributes, common_attributes
from treedet.evaluation.compare import compare
from treedet.evaluation.crown_files import paired_files
from treedet.evaluation.evaluate import evaluate, evaluate_crowns
from treedet.evaluation.page_attributes import class_table
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster
from treedet.vectors.truth import TruthOptions

SIDE = 300
XY = np.array([(x, y) for y in (40, 110, 180, 250) for x in (40, 110, 180, 250)], float)
"""Sixteen places, of which the first twelve are painted; the truth has all but the first two."""
CIRCLES = np.column_stack([XY, np.full(16, 14.0)])
BOXES = np.concatenate([XY - 14, XY + 14], axis=1)
PAINTED, TRUE = slice(0, 12), slice(2, 16)
SAID = ["dead", "alive"] + ["alive"] * 7 + ["dead"] * 3
KNOWN = ["Alive"] * 6 + ["dead"] * 2 + [None, "dead"] + ["alive"] * 3 + ["dead"]
"""Found: six alive said alive, a dead said alive, one said dead, one unknown, one said dead; missed: three alive, a
dead; spurious: one said dead, one said alive."""
EXPECTED = [[6, 0, 0, 3], [1, 2, 0, 1], [1, 1, 0, 0]]
STATUS = LabelSchema(attributes={"status": ("alive", "dead")})


def blobs(schema=STATUS):
    return Detector(BlobDetector(tiny_spec(labels=schema)), name="blobs")


@pytest.fixture
def raster(tmp_path):
    pixels = paint(CIRCLES[PAINTED], width=SIDE, height=SIDE)
    for (x, y, r), said in zip(CIRCLES[PAINTED].astype(int), SAID, strict=True):
        pixels[1, y - r : y + r, x - r : x + r] = 250 if said == "dead" else 10
    return make_raster(tmp_path / "stand.tif", pixels)


def shapes(raster, boxes):
    with Raster.open(raster) as opened:
        return opened.native_grid.to_map(boxes)


def annotated(raster, rows=TRUE, **columns):
    table = gpd.GeoDataFrame(columns, geometry=shapes(raster, BOXES[rows]), crs=UTM)
    return AnnotatedRaster(raster, table, columns={name: name for name in columns if not name.endswith("_p")})


@pytest.fixture
def report(raster):
    return evaluate(blobs(), [annotated(raster, status=KNOWN)])


def test_found_missed_and_spurious_crowns_are_told_apart(report):
    names, counts = matrix_of(report.confusion)
    assert names == ("alive", "dead")
    assert counts.tolist() == EXPECTED
    row = report.by_attribute.iloc[0]
    assert (row.attribute, row.truth, row.unknown, row.matched) == ("status", 13, 1, 9)
    assert (row.missed, row.spurious, row.unsaid) == (4, 2, 0)
    assert row.accuracy == pytest.approx(8 / 9)
    assert (row.majority, row.majority_accuracy) == ("alive", 6 / 9)


def test_a_class_has_a_row_on_all_and_on_matched_crowns(report):
    rows = report.attributes.set_index(["scope", "row", "value"])
    dead, found = rows.loc[("all", "class", "dead")], rows.loc[("matched", "class", "dead")]
    assert (dead.truth, dead.predicted, dead.right) == (4, 3, 2)
    assert (dead.precision, dead.recall) == (2 / 3, 2 / 4)
    assert (found.precision, found.recall) == (1, 2 / 3)
    macro = report.attributes[report.attributes["row"] == "macro"].set_index("scope")["f1"]
    assert macro["all"] == pytest.approx((12 / (9 + 8) + 4 / 7) / 2)
    assert macro["matched"] == pytest.approx((12 / 13 + 4 / 5) / 2)


def test_each_attribute_has_a_line(report):
    line = next(line for line in report.lines() if line.startswith("status"))
    assert line == (
        "status      accuracy 0.889 on 9 matched crowns (always alive: 0.667); on all macro F1 0.639, dead recall "
        "0.500, dead precision 0.667"
    )
    assert any("status is known of 13 of 14 annotated crowns" in note for note in report.notes)


def test_each_resolution_is_compared(raster):
    report = evaluate(blobs(), [annotated(raster, status=KNOWN)], gsds=[0.2])
    assert report.by_attribute["gsd"].round(2).tolist() == [0.1, 0.2]
    assert report.by_attribute["matched"].tolist() == [9, 9]
    for table in (report.attributes, report.confusion, report.attribute_reliability):
        assert table["gsd"].nunique() == 2


def test_the_folder_holds_tables_pictures_and_a_section(report, tmp_path):
    report.save(tmp_path / "report")
    folder = tmp_path / "report"
    for name in ("by_attribute", "attributes", "confusion", "attribute_reliability"):
        pd.testing.assert_frame_equal(pd.read_csv(folder / f"{name}.csv"), getattr(report, name), check_dtype=False)
    assert {"confusion_status.png", "reliability_status.png"} <= {p.name for p in (folder / "figures").iterdir()}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What is said about crowns" in page
    assert "Of 13 crowns with a known value 9 were found; of these 89 % are said right." in page
    assert "missed, spurious, unsaid" in page
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert told["tables"]["by_attribute"][0]["majority"] == "alive"
    report.save(folder, overwrite=True)  # its own files are no hindrance


def test_outcomes_carry_what_is_true_and_what_is_said(report, tmp_path):
    report.save(tmp_path / "report")
    found = pyogrio.read_dataframe(tmp_path / "report" / "outcomes.gpkg", layer="outcomes")
    counts = found.groupby(["outcome", "truth_status", "predicted_status"], dropna=False).size()
    assert counts["hit", "Alive", "alive"] == 6
    assert counts["hit", "dead", "alive"] == 1
    assert counts["miss"].sum() == 4
    assert found.loc[found["outcome"] == "miss", "predicted_status"].isna().all()
    assert sorted(found.loc[found["outcome"] == "false alarm", "predicted_status"]) == ["alive", "dead"]


def test_reports_with_attributes_are_compared_with_ones_without(report, raster, tmp_path):
    report.save(tmp_path / "a")
    evaluate(blobs(LabelSchema()), [annotated(raster)]).save(tmp_path / "b")
    assert compare(tmp_path / "a", tmp_path / "b").table["f1_difference"].tolist() == [0]


def test_a_report_without_attributes_says_nothing_of_them(raster, tmp_path):
    report = evaluate(blobs(LabelSchema()), [annotated(raster)])
    assert report.by_attribute.empty
    report.save(tmp_path / "r")
    assert not (tmp_path / "r" / "confusion.csv").exists()
    assert "What is said about crowns" not in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "predicted_status" not in pyogrio.read_dataframe(tmp_path / "r" / "outcomes.gpkg", layer="outcomes")


def test_a_class_that_the_model_can_not_say_is_never_right_unless_asked_for(raster):
    known = ["leaning" if name == "dead" else name for name in KNOWN]
    plot = annotated(raster, status=known)
    report = evaluate(blobs(), [plot])
    names, counts = matrix_of(report.confusion)
    assert names == ("alive", "dead", "leaning")
    assert counts[2].tolist() == [1, 2, 0, 0, 1]
    assert any("status: leaning in the truth can not be predicted, only alive, dead" in n for n in report.notes)
    with pytest.raises(
        CrownsError,
        match=r"truth has 'leaning', which the model can not say; it says alive, dead: .*--values\.status",
    ):
        evaluate(blobs(), [plot], asked={"status"})


def test_an_attribute_that_is_all_empty_is_noted(raster):
    report = evaluate(blobs(), [annotated(raster, status=[None] * 14)])
    assert report.by_attribute.empty
    assert any("status is predicted, but known of no annotated crown" in note for note in report.notes)


def test_an_attribute_on_one_side_only_is_noted(raster):
    report = evaluate(blobs(), [annotated(raster, vigour=["high"] * 14)])
    assert report.by_attribute.empty
    assert any("vigour is in the truth alone (high)" in note for note in report.notes)
    assert any("status is predicted, but the truth has no column of it" in note for note in report.notes)


def test_one_class_only(raster, tmp_path):
    report = evaluate(blobs(), [annotated(raster, status=["alive"] * 14)])
    row = report.by_attribute.iloc[0]
    assert (row.majority, row.majority_accuracy) == ("alive", 1)
    assert row.accuracy == 7 / 10
    report.save(tmp_path / "r")


def test_no_matched_crowns(raster, tmp_path):
    # Only crowns that are not painted are annotated.
    report = evaluate(blobs(), [annotated(raster, slice(12, 16), status=["alive"] * 4)])
    assert matrix_of(report.confusion)[1].tolist() == [[0, 0, 0, 4], [0, 0, 0, 0], [8, 4, 0, 0]]
    assert any(
        "none of the 4 crowns with a known value was found; on all macro F1 0.000" in n for n in report.lines()
    )
    report.save(tmp_path / "r")
    assert "none was found" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "r" / "figures" / "reliability_status.png").exists()


def test_no_predictions_at_all(tmp_path):
    path = make_raster(tmp_path / "bare.tif", np.zeros((3, SIDE, SIDE), np.uint8))
    report = evaluate(blobs(), [annotated(path, status=KNOWN)])
    assert matrix_of(report.confusion)[1].tolist() == [[0, 0, 0, 9], [0, 0, 0, 4], [0, 0, 0, 0]]
    report.save(tmp_path / "r")


def test_stems_are_not_compared(raster):
    table = gpd.GeoDataFrame({"status": KNOWN}, geometry=shapes(raster, BOXES[TRUE]), crs=UTM)
    stems = table.set_geometry(table.geometry.centroid)
    report = evaluate(blobs(), [AnnotatedRaster(raster, stems, truth=TruthOptions(points=True))])
    assert report.by_attribute.empty
    assert any("status: compared on crowns alone, and the truth is points" in note for note in report.notes)


@pytest.fixture
def files(raster, tmp_path):
    truth = gpd.GeoDataFrame({"status": KNOWN}, geometry=shapes(raster, BOXES[TRUE]), crs=UTM)
    said = [None, *SAID[1:3], None, *SAID[4:]]
    values = {"score": 0.9, "status": said, "status_p": [0.4, 0.9, 0.9, 0.5, *[0.9] * 8]}
    predicted = gpd.GeoDataFrame(values, geometry=shapes(raster, BOXES[PAINTED]), crs=UTM)
    for name, table in (("truth", truth), ("found", predicted)):
        pyogrio.write_dataframe(table, tmp_path / f"{name}.gpkg")
    return tmp_path / "found.gpkg", tmp_path / "truth.gpkg"


@pytest.mark.parametrize("on_rasters", [False, True])
def test_what_a_file_says_is_compared_and_what_it_leaves_open_is_unsaid(files, raster, on_rasters):
    paired = paired_files(*files, rasters=raster if on_rasters else None)
    report = evaluate_crowns(paired.grounds, classes=paired.classes, attributes=paired.attributes)
    assert matrix_of(report.confusion)[1].tolist() == [[5, 0, 1, 3], [1, 2, 0, 1], [1, 0, 1, 0]]
    row = report.by_attribute.iloc[0]
    assert (row.unsaid, row.accuracy) == (1, pytest.approx(7 / 9))
    # Nothing is asked of the probability of what is not said.
    assert row.ece == pytest.approx(0.9 - 7 / 8)


def test_a_file_that_says_nothing_of_the_attribute_is_noted(files, tmp_path, raster):
    bare = tmp_path / "bare.gpkg"
    pyogrio.write_dataframe(gpd.GeoDataFrame({"score": [0.5]}, geometry=shapes(raster, BOXES[2:3]), crs=UTM), bare)
    paired = paired_files(bare, files[1])
    report = evaluate_crowns(paired.grounds, classes=paired.classes, attributes=paired.attributes)
    assert report.by_attribute.empty
    assert report.notes == [
        "status is in the truth alone (Alive, alive, dead), so it is not compared: nothing predicts it"
    ]


def said(*values):
    return pd.DataFrame({"status": list(values), "status_p": np.ones(len(values))})


def test_a_table_without_the_column_knows_nothing_of_it():
    attributes = common_attributes([said("dead"), pd.DataFrame({"label": ["tree"]})], {"status": ("alive", "dead")})
    paired = attributes.paired(pd.DataFrame({"label": ["tree"]}), said("dead", "alive", None))["status"]
    assert paired.truth.tolist() == [-1]
    assert paired.predicted.tolist() == [1, 0, -1]


def test_names_on_the_predicting_side_keep_their_order():
    attributes = common_attributes([said("B", "c", None)], {"status": ("b", "a")})
    assert attributes.names == {"status": ("b", "a", "c")}
    assert attributes.predicted == {"status": ("b", "a")}
    assert Attributes().paired(said("b"), said("b")) == {}


def test_classes_stand_beside_each_other_on_all_and_on_found_crowns(report):
    table = class_table(report.attributes)
    assert table["class"].tolist() == ["alive", "dead", "mean of classes (macro)", "all pooled (micro)"]
    assert table["truth"].tolist() == [9, 4, 13, 13]
    assert table["truth_found"].tolist() == [6, 3, 9, 9]
    assert table["recall"].tolist()[:2] == [6 / 9, 2 / 4]
    assert table["recall_found"].tolist()[:2] == [1, 2 / 3]


def test_a_crown_outside_the_area_is_in_no_figure(raster, tmp_path):
    aoi = tmp_path / "aoi.gpkg"
    rows = shapely.box(500_000, 5_400_000 - 14.5, 500_000 + 30, 5_400_000)  # the first two rows of places
    gpd.GeoDataFrame(geometry=[rows], crs=UTM).to_file(aoi)
    table = gpd.GeoDataFrame({"status": KNOWN}, geometry=shapes(raster, BOXES[TRUE]), crs=UTM)
    report = evaluate(blobs(), [AnnotatedRaster(raster, table, aoi=aoi)])
    assert matrix_of(report.confusion)[1].tolist() == [[6, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
