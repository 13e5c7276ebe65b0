import logging

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from factories import UTM
from field_stands import EAST, NORTH, OVERTOPPED, STRANGER, VISIBLE, crowns_table, stand
from pyproj import Transformer

from treedet.datasets.field_trees import match_field
from treedet.errors import CrownsError, CrsMismatchError, TreedetError
from treedet.vectors.annotations import read_crowns
from treedet.vectors.field_options import FieldOptions
from treedet.vectors.writers import write_crowns

NAMED = FieldOptions(columns={"species": "SP_CODE", "status": "COND"})


def written(table, tmp_path, name="field.csv", sep=","):
    path = tmp_path / name
    table.to_csv(path, index=False, sep=sep)
    return str(path)


@pytest.fixture(scope="module")
def forest():
    return stand()


@pytest.fixture(scope="module")
def found(forest, tmp_path_factory):
    return match_field(forest.crowns, written(forest.field, tmp_path_factory.mktemp("field")), NAMED)


def two_crowns(crs=UTM):
    boxes = [[x, NORTH, x + 4, NORTH + 4] for x in (EAST, EAST + 20)]
    return crowns_table(np.array(boxes), crs)


@pytest.mark.parametrize("seed", range(4))
def test_visible_stems_are_matched_rightly_and_overtopped_ones_take_no_crown(seed, tmp_path):
    forest = stand(seed)
    records = match_field(forest.crowns, written(forest.field, tmp_path), NAMED).records
    ids = records["crown_id"].to_numpy(dtype=np.float64, na_value=-1)
    visible = forest.kind == VISIBLE
    right = (ids == forest.crown_id) & (records["fate"] == "matched").to_numpy()
    assert right[visible].mean() >= 0.95
    assert (ids[forest.kind == OVERTOPPED] == -1).all()
    assert records["reason"][forest.kind == OVERTOPPED].str.match("overtopped by T").mean() > 0.9
    assert (records["reason"][forest.kind == STRANGER] == "no crown within 1 m").mean() > 0.8


@pytest.mark.parametrize("seed", range(4))
def test_the_shift_of_each_plot_is_found(seed, tmp_path):
    forest = stand(seed)
    plots = match_field(forest.crowns, written(forest.field, tmp_path), NAMED).plots.set_index("plot")
    assert list(plots.index) == ["P0", "P1", "P2", "P3"]
    for name, (dx, dy) in forest.shifts.items():
        # Metres on the ground and of the projection differ by less than a thousandth.
        assert np.hypot(plots["shift_x_m"][name] - dx, plots["shift_y_m"][name] - dy) < 0.5
    assert (plots["agreement_after"] > plots["agreement_before"]).all()
    assert (plots[["matched", "ambiguous", "unmatched"]].sum(axis=1) == plots["stems"]).all()


def test_every_record_comes_out_once_as_it_was(forest, found):
    pd.testing.assert_frame_equal(found.records[list(forest.field.columns)], forest.field.astype(str))
    assert found.records["fate"].isin(["matched", "ambiguous", "unmatched"]).all()
    matched = found.records["fate"] == "matched"
    assert (found.records["reason"] == "").equals(matched)
    assert found.records["crown_id"].notna().equals(matched)
    assert found.records["crown_id"].dropna().is_unique


def test_the_order_of_rows_does_not_matter(forest, found, tmp_path):
    mixed = forest.field.sample(frac=1, random_state=3)
    other = match_field(forest.crowns, written(mixed, tmp_path), NAMED)
    one = found.records.set_index("tree_id").sort_index()
    pd.testing.assert_frame_equal(other.records.set_index("tree_id").sort_index(), one)
    pd.testing.assert_frame_equal(other.plots, found.plots)


def test_crowns_say_what_their_trees_are_and_nothing_else(forest, found):
    crowns = found.crowns.set_index("crown_id")
    assert len(crowns) == len(forest.crowns)
    matched = found.records[found.records["fate"] == "matched"]
    for row in matched.itertuples():
        said = crowns.loc[row.crown_id, "species"]
        assert said == row.SP_CODE or (pd.isna(said) and row.SP_CODE == "")
    known = crowns["species"].notna()
    assert known.sum() == (matched["SP_CODE"] != "").sum()
    assert (crowns["species_p"][known] == 1).all()
    assert crowns["species_p"][~known].isna().all()
    assert crowns["status_p"].notna().sum() == len(matched)


def test_a_map_of_values_brings_them_to_classes(forest, tmp_path):
    values = {"status": {"Live": "alive", "Standing dead": "dead"}}
    options = FieldOptions(columns={"status": "COND"}, values=values)
    path = written(forest.field, tmp_path)
    assert match_field(forest.crowns, path, options).attributes["status"] == ("alive", "dead")
    with pytest.raises(CrownsError, match=r"column 'COND' says 'Standing dead' .*which values does not name"):
        match_field(forest.crowns, path, FieldOptions(columns=options.columns, values={"status": {"Live": "alive"}}))


def test_what_a_model_said_is_no_truth(tmp_path, caplog):
    crowns = two_crowns().assign(
        status=pd.Categorical(["dead", "alive"]), status_p=np.float32([0.7, 0.9]), p_dead=0.7
    )
    field = written(pd.DataFrame({"x": [EAST + 2], "y": [NORTH + 2], "species": ["PIPO"]}), tmp_path)
    with caplog.at_level(logging.INFO, "treedet"):
        table = match_field(crowns, field).crowns
    assert not {"status", "status_p", "p_dead"} & set(table.columns)
    assert "status of the crowns left out" in caplog.text
    assert table["species"].tolist()[0] == "PIPO"


def test_crowns_come_from_treedets_files_and_from_those_of_others(forest, found, tmp_path):
    field = written(forest.field, tmp_path)
    write_crowns(forest.crowns, tmp_path / "ours.gpkg")
    forest.crowns[["geometry"]].to_file(tmp_path / "theirs.geojson")
    for name in ("ours.gpkg", "theirs.geojson"):
        records = match_field(str(tmp_path / name), field, NAMED).records
        assert records["crown_id"].equals(found.records["crown_id"])


def test_what_comes_out_is_a_crowns_table_with_truth(found, tmp_path):
    write_crowns(found.crowns, tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    assert table["species"].notna().sum() == found.crowns["species"].notna().sum() > 0
    assert table["species_p"].dtype == np.float32


def polar(**more):
    """Stems in the middle of both crowns, told from the corner of the first."""
    return pd.DataFrame({"plot": ["A", "A"], "az": [45, 84.8], "dist": [8**0.5, 22.1], **more})


@pytest.mark.parametrize("sep", [",", ";"])
def test_stems_stand_where_azimuth_and_distance_say(sep, tmp_path):
    field = written(polar(plot_x=EAST, plot_y=NORTH), tmp_path, sep=sep)
    records = match_field(two_crowns(), field).records
    assert records["crown_id"].tolist() == [1, 2]
    # True north and that of the projection differ by a degree here.
    assert records["distance_m"][0] < 0.1
    assert records["shifted_x"].tolist() == pytest.approx([EAST + 2, EAST + 22], abs=0.5)


def test_centres_come_from_a_table_of_plots_too_in_degrees_too(tmp_path):
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(EAST, NORTH)
    for centres in ({"x": [EAST], "y": [NORTH]}, {"lon": [lon], "lat": [lat]}):
        plots = written(pd.DataFrame({"PlotID": ["A"], **centres}), tmp_path, "plots.csv")
        found = match_field(two_crowns(), written(polar(), tmp_path), FieldOptions(plots=plots))
        assert found.records["crown_id"].tolist() == [1, 2]


def test_longitude_and_latitude_and_another_crs_are_brought_to_the_crowns(tmp_path):
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform([EAST + 2, EAST + 22], [NORTH + 2] * 2)
    degrees = written(pd.DataFrame({"Longitude": lon, "Latitude": lat}), tmp_path)
    assert match_field(two_crowns(), degrees).records["crown_id"].tolist() == [1, 2]
    x, y = Transformer.from_crs(UTM, 3857, always_xy=True).transform([EAST + 2, EAST + 22], [NORTH + 2] * 2)
    mercator = written(pd.DataFrame({"x": x, "y": y}), tmp_path, "mercator.csv")
    assert match_field(two_crowns(), mercator, FieldOptions(crs="EPSG:3857")).records["crown_id"].tolist() == [1, 2]
    geographic = two_crowns().to_crs(4326)
    assert match_field(geographic, degrees).records["distance_m"].max() < 0.2


def test_a_stem_without_coordinates_is_told_and_no_more(tmp_path):
    field = written(pd.DataFrame({"x": [EAST + 2, None], "y": [NORTH + 2, NORTH]}), tmp_path)
    records = match_field(two_crowns(), field).records
    assert records["fate"].tolist() == ["matched", "unmatched"]
    assert records["reason"].tolist() == ["", "no coordinates"]


def test_columns_of_the_table_with_our_names_stay(tmp_path):
    field = written(pd.DataFrame({"x": [EAST + 2], "y": [NORTH + 2], "fate": ["cut down"]}), tmp_path)
    records = match_field(two_crowns(), field).records
    assert records[["fate", "fate_match"]].iloc[0].tolist() == ["cut down", "matched"]


XY = {"x": [EAST + 2], "y": [NORTH + 2]}
AROUND = {"plot": ["A"], "plot_x": [EAST], "plot_y": [NORTH]}


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"dbh": [3]}, {}, r"does not tell where stems are; it has \['dbh'\], accepted are x and y"),
        ({**AROUND, "az": [361], "dist": [3]}, {}, "line 2: az is 361, accepted is an azimuth from 0 to 360"),
        ({**AROUND, "az": [-1], "dist": [3]}, {}, "line 2: az is -1, accepted is an azimuth from 0 to 360"),
        ({**AROUND, "az": [1], "dist": [-3]}, {}, "line 2: dist is -3, accepted is a distance in metres"),
        ({"plot": ["A"], "az": [1], "dist": [3]}, {}, "no centre of a plot; give plot_x and plot_y"),
        ({"x": [NORTH], "y": [EAST]}, {}, r"no stem is within reach of a crown, .* (--crs|swapped)"),
        ({"x": [EAST + 300], "y": [NORTH]}, {}, r"the nearest is 27\d\.\d m from one; state the CRS .*--crs"),
        ({"x": [], "y": []}, {}, "holds no stem"),
        ({"x": ["", ""], "y": ["", ""]}, {}, "no stem of 2 has coordinates that can be placed"),
        (XY, {"columns": {"species": "SP"}}, "has no column 'SP', asked for as species"),
        (XY, {"columns": {"dbh": "D"}}, "has no column 'D', asked for as dbh"),
        (XY, {"columns": {"score": "x"}}, "'score' can not be an attribute"),
        (XY, {"columns": {"label": "x"}}, "'label' can not be an attribute of a stem"),
        (XY, {"values": {"dbh": {"1": "thin"}}}, "'dbh' can not be an attribute of a stem"),
        ({**XY, "dbh": ["thick"]}, {}, "line 2: dbh is 'thick', not a number"),
        ({"lon": [50.0], "lat": [190.0]}, {}, "latitude 190 are on no map; are they swapped"),
        (XY, {"crs": "EPSG:nothing"}, "names no CRS"),
        (XY, {"plots": "plots.csv"}, "has no azimuth and distance, which --plots needs"),
    ],
)
def test_bad_tables_are_told_in_one_line(table, options, message, tmp_path):
    field = written(pd.DataFrame(table), tmp_path)
    with pytest.raises(TreedetError, match=message) as caught:
        match_field(two_crowns(), field, FieldOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plots", "message"),
    [
        ({"plot": ["B"], "x": [EAST], "y": [NORTH]}, r"plot 'A' has no centre in .*plots.csv \(rows 1, 2\)"),
        ({"plot": ["A"], "x": [""], "y": [NORTH]}, r"plot 'A' has no centre"),
        ({"plot": ["A", "A"], "x": [EAST, EAST], "y": [NORTH, 1]}, "has plot 'A' twice"),
        ({"plot": ["A"]}, "tells no centres"),
        ({"x": [EAST], "y": [NORTH]}, "has no column of plots"),
    ],
)
def test_bad_tables_of_plots_are_told(plots, message, tmp_path):
    options = FieldOptions(plots=written(pd.DataFrame(plots), tmp_path, "plots.csv"))
    with pytest.raises(CrownsError, match=message):
        match_field(two_crowns(), written(polar(), tmp_path), options)


def test_degrees_need_crowns_with_a_crs(tmp_path):
    field = written(pd.DataFrame({"lon": [10.0], "lat": [50.0]}), tmp_path)
    with pytest.raises(CrsMismatchError, match="the crowns have no CRS; give crowns with a CRS"):
        match_field(two_crowns(None), field)
    plain = written(pd.DataFrame(XY), tmp_path)
    assert match_field(two_crowns(None), plain).records["fate"].tolist() == ["matched"]


def test_crowns_in_pixels_and_no_crowns_are_refused(tmp_path):
    field = written(pd.DataFrame(XY), tmp_path)
    (tmp_path / "boxes.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\na.tif,1,1,5,5,Tree\n")
    with pytest.raises(TreedetError, match="has crowns in pixels of images, and stems are on a map"):
        match_field(tmp_path / "boxes.csv", field)
    with pytest.raises(CrownsError, match="holds no crown"):
        match_field(gpd.GeoDataFrame(geometry=gpd.GeoSeries([shapely.Point()][:0]), crs=UTM), field)


@pytest.mark.parametrize("values", [{"max_distance": 0.0}, {"max_shift": -1.0}])
def test_distances_that_are_none_are_refused(values):
    with pytest.raises(TreedetError, match="must be"):
        FieldOptions(**values)
