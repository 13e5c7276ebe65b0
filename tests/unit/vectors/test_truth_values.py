import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from treedet.datasets.tables import annotations_of
from treedet.errors import ConfigError, CrownsError, MissingColumnError
from treedet.vectors.truth import TruthOptions, read_annotations
from treedet.vectors.truth_values import UNKNOWN, mapped, value_maps

STATUS = {
    "Live": "alive",
    "Live, insect damaged": "alive",
    "Standing dead": "dead",
    "Dead, broken bole": "dead",
    "Downed": None,
}


def crowns(n, **columns):
    shapes = shapely.box(np.arange(n) * 10.0, 0, np.arange(n) * 10.0 + 5, 5)
    return gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32633")


def read(table, *, tmp_path=None, **options):
    if tmp_path is None:
        return annotations_of(table, TruthOptions(**options))
    table.to_file(tmp_path / "a.gpkg")
    return read_annotations(tmp_path / "a.gpkg", TruthOptions(**options))


def said(annotations, name):
    return [None if pd.isna(value) else value for value in annotations.table[name]]


@pytest.mark.parametrize("as_file", [False, True])
def test_values_become_classes_and_null_a_missing_label(tmp_path, as_file):
    table = crowns(6, status=["Live", " Live, insect damaged ", "Dead, broken bole", "Downed", "UNKNOWN", None])
    found = read(table, tmp_path=tmp_path if as_file else None, values={"status": STATUS})
    assert said(found, "status") == ["alive", "alive", "dead", None, None, None]
    assert found.table["status_p"].fillna(0).tolist() == [1, 1, 1, 0, 0, 0]
    assert len(found.table) == 6


def test_values_are_mapped_in_a_csv_of_boxes(tmp_path):
    (tmp_path / "a.csv").write_text("image_path,xmin,ymin,xmax,ymax,COND\na.tif,0,0,5,5,1\na.tif,9,0,15,5,2\n")
    options = TruthOptions(columns={"status": "COND"}, values={"status": {1: "alive", 2: "dead"}})
    assert said(read_annotations(tmp_path / "a.csv", options), "status") == ["alive", "dead"]


def test_without_a_map_values_are_taken_as_they_are():
    assert said(read(crowns(2, status=["Live", "Downed"])), "status") == ["Live", "Downed"]


def test_numbers_are_mapped_as_text_whatever_type_the_column_has():
    for codes in ([1, 2, 2], [1.0, 2.0, np.nan], ["1", "2", ""]):
        found = read(crowns(3, COND=codes), columns={"status": "COND"}, values={"status": {1: "alive", "2": "dead"}})
        assert said(found, "status")[:2] == ["alive", "dead"]


def test_a_class_stands_for_itself_and_case_is_passed_over_where_that_says_one_thing():
    found = read(crowns(4, status=["alive", "LIVE", "Dead", "standing DEAD"]), values={"status": STATUS})
    assert said(found, "status") == ["alive", "alive", "dead", "dead"]


def test_case_counts_where_without_it_two_classes_are_meant():
    mapping = {"L": "live", "l": "lying"}
    assert said(read(crowns(2, status=["L", "l"]), values={"status": mapping}), "status") == ["live", "lying"]
    words = np.array(["DEAD", "dead"], dtype=object)
    found = mapped(words, {"dead": "gone", "x": "Dead"}, missing=UNKNOWN)
    assert found.strange.tolist() == [True, False]


def test_a_value_the_map_does_not_name_is_an_error_in_one_line():
    with pytest.raises(CrownsError) as error:
        read(crowns(4, status=["Live", "Snag", "Snag", "Live"]), values={"status": STATUS})
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "'status' says 'Snag' in rows 2, 3",
        "accepted are 'Live'",
        'values: {status: {"Snag": alive}}',
        "null",
    ):
        assert part in message


def test_drop_makes_it_a_missing_label_and_says_so():
    found = read(crowns(3, status=["Live", "Snag", "Standing dead"]), values={"status": STATUS}, drop=True)
    assert said(found, "status") == ["alive", None, "dead"]
    assert len(found.table) == 3
    assert any("'Snag' in row 2" in notice and "left out" in notice for notice in found.notices)


def test_keys_that_never_occur_are_one_notice():
    found = read(crowns(2, status=["Live", "Standing dead"]), values={"status": STATUS})
    unused = [notice for notice in found.notices if "never says" in notice]
    assert len(unused) == 1
    assert "'Live, insect damaged', 'Dead, broken bole', 'Downed'" in unused[0]


def test_an_explicit_key_goes_before_what_counts_as_unknown():
    found = read(crowns(2, status=["Unknown", "x"]), values={"status": {"Unknown": "other", "x": "y"}})
    assert said(found, "status") == ["other", "y"]


def test_a_map_finds_the_column_of_its_own_name():
    found = read(crowns(2, Vigour=["1", "2"]), values={"vigour": {"1": "good", "2": "poor"}})
    assert said(found, "vigour") == ["good", "poor"]


def test_a_map_for_an_attribute_without_a_column_is_an_error():
    with pytest.raises(MissingColumnError, match=r"no column for vigour.*it has \['status'\].*--columns.vigour"):
        read(crowns(1, status=["Live"]), values={"vigour": {"1": "good"}})
    with pytest.raises(MissingColumnError, match="no column for label"):
        read(crowns(1, status=["Live"]), values={"label": {"Tree": "tree"}})


def test_a_class_mapped_to_null_leaves_the_row_out():
    table = crowns(3, label=["Tree", "Shrub", "tree"])
    found = read(table, values={"label": {"Tree": "tree", "Shrub": None}})
    assert said(found, "label") == ["tree", "tree"]
    assert any("row 2 left out by values" in notice for notice in found.notices)
    with pytest.raises(CrownsError, match="'label' says 'Shrub' in row 2"):
        read(table, values={"label": {"Tree": "tree"}})
    assert len(read(table, values={"label": {"Tree": "tree"}}, drop=True).table) == 2


def test_what_a_run_stored_is_mapped_too(tmp_path):
    table = read(crowns(2, status=["Live", "Standing dead"])).table
    assert said(read(table, values={"status": STATUS}), "status") == ["alive", "dead"]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"status": {}}, "status must map values of the file to classes"),
        ({"status": "Live"}, "status must map values of the file to classes, found 'Live'"),
        ({"status": {"1": "alive", 1: "dead"}}, "status says both alive and dead of '1'"),
        ({"status": {True: "alive"}}, "put the value in quotes"),
        ({"status": {"a": ["b"]}}, r"can not hold \['b'\]"),
        ({"diameter": {"1": "a"}}, "diameter is a number"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(values, what):
    with pytest.raises(ConfigError, match=what):
        TruthOptions(values=values)


def test_words_for_unknown_are_no_class():
    assert value_maps({"status": {"a": "Unknown", "b": "", "c": None, "d": "e"}})["status"] == {
        "a": None,
        "b": None,
        "c": None,
        "d": "e",
    }


@pytest.mark.parametrize(
    ("columns", "values"), [({"Kind": "A", "kind": "B"}, {}), ({"Kind": "A"}, {"kind": {"x": "y"}})]
)
def test_two_attributes_with_the_same_name_are_refused(columns, values):
    with pytest.raises(ConfigError, match=r"two attributes have the same name, 'Kind' and 'kind'.*rename one"):
        read(crowns(1, A=["x"], B=["x"]), columns=columns, values=values)


def test_a_column_found_by_its_name_never_doubles_an_attribute_asked_for():
    found = read(crowns(1, status=["a"], COND=["b"]), columns={"Status": "COND"})
    assert [c for c in found.table.columns if c.lower() == "status"] == ["Status"]


@pytest.mark.parametrize("name", ["score", "Score", "geometry", "source", "kind_p", "two words", "Label"])
def test_a_name_reserved_by_the_table_is_refused(name):
    with pytest.raises(ConfigError, match="can not be an attribute; accepted are"):
        read(crowns(1, A=["x"]), columns={name: "A"})
    with pytest.raises(ConfigError, match="can not be an attribute; accepted are"):
        read(crowns(1, A=["x"]), values={name: {"x": "y"}})
