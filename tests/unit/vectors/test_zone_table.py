import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from factories import UTM

from treedet.errors import OutputError
from treedet.vectors.zone_table import SUFFIXES, write_zones

TABLE = gpd.GeoDataFrame(
    {"zone_id": ["A", "B"], "crowns": [3, 0], "per_ha": [300.0, np.nan], "s_alive": [2 / 3, np.nan]},
    geometry=[
        shapely.box(500_000, 5_400_000, 500_010, 5_400_010),
        shapely.MultiPolygon([shapely.box(500_020, 5_400_000, 500_030, 5_400_010)]),
    ],
    crs=UTM,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_rows_back(tmp_path, suffix):
    path = tmp_path / f"zones{suffix}"
    write_zones(TABLE, path)
    if suffix == ".csv":
        found = pd.read_csv(path)
    else:
        found = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
        assert found.crs.to_epsg() == (4326 if suffix == ".geojson" else 32632)
        moved = found.geometry.to_crs(UTM).reset_index(drop=True)
        order = found["zone_id"].argsort()
        assert (moved[order].reset_index(drop=True).intersection(TABLE.geometry).area > 99).all()
    found = found.sort_values("zone_id", ignore_index=True)
    assert found["zone_id"].tolist() == ["A", "B"]
    assert found["crowns"].tolist() == [3, 0]
    np.testing.assert_allclose(found["s_alive"], TABLE["s_alive"], rtol=1e-5)
    expected = {".shp", ".shx", ".dbf", ".prj", ".cpg"} if suffix == ".shp" else {suffix}
    assert {entry.suffix for entry in tmp_path.iterdir()} == expected


def test_an_existing_file_is_replaced_on_request_alone(tmp_path):
    path = tmp_path / "zones.csv"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"exists already; .*--overwrite"):
        write_zones(TABLE, path)
    assert path.read_text() == "mine"
    write_zones(TABLE, path, overwrite=True)
    assert len(pd.read_csv(path)) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("zones.json", "accepted are .gpkg"),
        ("gone/zones.gpkg", "there is no folder"),
        (".", "suffix '' names no format"),
    ],
)
def test_what_can_not_be_written_is_said(tmp_path, name, says):
    with pytest.raises(OutputError, match=says):
        write_zones(TABLE, tmp_path / name)


def test_a_shapefile_keeps_names_whole_or_refuses(tmp_path):
    with pytest.raises(OutputError, match="cuts column names at 10 characters, found s_Pinus sylvestris"):
        write_zones(TABLE.rename(columns={"s_alive": "s_Pinus sylvestris"}), tmp_path / "zones.shp")


@pytest.mark.filterwarnings("ignore:.*without a CRS")
def test_pixels_have_no_crs(tmp_path):
    write_zones(TABLE.set_crs(None, allow_override=True), tmp_path / "zones.gpkg")
    assert gpd.read_file(tmp_path / "zones.gpkg").crs is None or "ndefined" in str(
        gpd.read_file(tmp_path / "zones.gpkg").crs
    )
