"""A folder of GeoParquet, read by those who will: geopandas, pyarrow, GDAL, DuckDB."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from geopandas.testing import assert_geodataframe_equal

from treedet.core import crowns as crowns_table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, OutputError
from treedet.vectors import geoparquet, partitions
from treedet.vectors.annotations import read_crowns, read_metadata
from treedet.vectors.crown_chunks import CrownsFile
from treedet.vectors.writers import WriteOptions, open_writer, write_crowns

LABELS = LabelSchema(attributes={"status": ("alive", "dead")})
SOURCES = ["north/a.tif", "south/a.tif", "b.tif"]


def crowns(n=3000, crs=32632, seed=0):
    """Crowns of three rasters on 3 x 2 kilometres."""
    rng = np.random.default_rng(seed)
    unit = 1e-5 if crs == 4326 else 1.0
    corner = (8.0, 50.0) if crs == 4326 else (500_000.0, 5_400_000.0)
    grid = Grid.build(
        None if crs is None else pyproj.CRS(crs),
        Affine(unit, 0, corner[0], 0, -unit, corner[1]),
        width=3000,
        height=2000,
        gsd=1.0,
    )
    centre = rng.uniform([0, 0], [3000, 2000], (n, 2))
    arrays = CrownArrays(
        boxes=np.concatenate([centre - 3, centre + 3], axis=1),
        scores=rng.random(n).astype(np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
        attributes={"status": rng.dirichlet([1, 1], n).astype(np.float32)},
    )
    table = crowns_table.to_table(arrays, grid, LABELS, source="a")
    return table.assign(source=pd.Series(np.array(SOURCES)[rng.integers(0, 3, n)], dtype="str"))


def by_id(table):
    return table.sort_values("crown_id", ignore_index=True)


@pytest.mark.parametrize("partition", ["source", "cell"])
@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_the_rows_come_back(tmp_path, partition, name):
    table = crowns()
    write_crowns(table, tmp_path / name, partition=partition, metadata={"gsd": 0.1})
    assert_geodataframe_equal(by_id(read_crowns(tmp_path / name)), table)
    assert read_metadata(tmp_path / name)["gsd"] == 0.1
    files = sorted(entry.name for entry in (tmp_path / name).iterdir())
    assert files[0] == "_metadata"
    assert len(files) == 1 + (3 if partition == "source" else 6)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_each_file_holds_one_raster_or_one_square(tmp_path):
    write_crowns(crowns(), tmp_path / "a", partition="source")
    for file in (tmp_path / "a").glob("*.parquet"):
        assert gpd.read_parquet(file)["source"].nunique() == 1
    write_crowns(crowns(), tmp_path / "b", partition="cell")
    names = {file.stem for file in (tmp_path / "b").glob("*.parquet")}
    assert names == {f"x50{i}000_y{y}" for i in range(3) for y in (5_398_000, 5_399_000)}
    for file in (tmp_path / "b").glob("*.parquet"):
        x, y = (float(part[1:]) for part in file.stem.split("_"))
        middle = gpd.read_parquet(file).centroid
        assert middle.within(shapely.box(x, y, x + 1000, y + 1000)).all()


def test_geopandas_reads_a_part_by_its_box(tmp_path):
    write_crowns(crowns(), tmp_path / "a", partition="cell")
    table = gpd.read_parquet(tmp_path / "a")
    assert table.crs.to_epsg() == 32632
    assert "bbox" not in table
    some = gpd.read_parquet(tmp_path / "a", bbox=(500_000, 5_399_500, 500_200, 5_400_000))
    assert 0 < len(some) < 0.1 * len(table)


def test_the_metadata_name_every_file_and_let_readers_skip(tmp_path):
    table = crowns()
    write_crowns(table, tmp_path / "a", partition="cell")
    footer = pq.read_metadata(tmp_path / "a" / "_metadata")
    assert footer.num_rows == len(table)
    geo = json.loads(footer.metadata[b"geo"])["columns"]["geometry"]
    np.testing.assert_allclose(geo["bbox"], table.total_bounds)
    assert geo["geometry_types"] == ["Polygon"]
    found = pyarrow.dataset.parquet_dataset(tmp_path / "a" / "_metadata")
    assert len(found.files) == 6
    near = pyarrow.dataset.field("bbox", "xmax") < 500_500
    kept = [f for f in found.get_fragments() if f.subset(near).row_groups]
    assert len(kept) == 2
    assert found.count_rows(filter=near) == (table.bounds["maxx"] < 500_500).sum()


def test_the_file_of_crowns_is_read_in_parts(tmp_path):
    table = crowns()
    write_crowns(table, tmp_path / "a", partition="source")
    file = CrownsFile.open(tmp_path / "a")
    assert file.crs.to_epsg() == 32632
    assert file.attributes == ("status",)
    assert sum(len(chunk.geometries) for chunk in file.chunks()) == len(table)


@pytest.mark.parametrize("crs", [4326, None])
def test_degrees_and_pixels_have_cells_too(tmp_path, crs):
    write_crowns(crowns(crs=crs), tmp_path / "a", partition="cell")
    files = list((tmp_path / "a").glob("*.parquet"))
    assert len(files) == (3 * 2 if crs else 1 * 1)
    assert read_crowns(tmp_path / "a").crs == (None if crs is None else pyproj.CRS(crs))


def test_few_open_files_and_little_memory_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(partitions, "OPEN_FILES", 2)
    monkeypatch.setattr(partitions, "HELD_ROWS", 100)
    monkeypatch.setattr(geoparquet, "GROUP_ROWS", 60)
    table = crowns()
    options = WriteOptions(partition="cell")
    with open_writer(tmp_path / "a", schema=LABELS, crs=table.crs, raster_size=None, options=options) as writer:
        for first in range(0, len(table), 300):
            writer.append(table.iloc[first : first + 300], None)
        writer.finish({})
    assert_geodataframe_equal(by_id(read_crowns(tmp_path / "a")), table)
    assert (tmp_path / "a" / "x500000_y5399000-2.parquet").exists()
    assert pq.read_metadata(tmp_path / "a" / "_metadata").num_rows == len(table)


@pytest.mark.parametrize("partition", ["source", "cell"])
def test_no_crowns_are_a_table_too(tmp_path, partition):
    write_crowns(crowns(0), tmp_path / "a", partition=partition)
    found = read_crowns(tmp_path / "a")
    assert len(found) == 0
    assert list(found.columns) == crowns_table.columns(LABELS)
    assert found.crs.to_epsg() == 32632


def test_an_older_folder_is_replaced_on_request_alone(tmp_path):
    write_crowns(crowns(), tmp_path / "a", partition="cell")
    with pytest.raises(OutputError, match="exists already"):
        write_crowns(crowns(5), tmp_path / "a", partition="source")
    assert len(read_crowns(tmp_path / "a")) == 3000
    write_crowns(crowns(5), tmp_path / "a", partition="source", overwrite=True)
    assert len(read_crowns(tmp_path / "a")) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_folder_with_anything_else_is_never_touched(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_crowns(crowns(5), folder, partition="cell")  # an empty one may be there
    (folder / "thesis.odt").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds other files \(thesis.odt\)"):
        write_crowns(crowns(5), folder, partition="cell", overwrite=True)
    (folder / "thesis.odt").unlink()
    (folder / "_metadata").unlink()
    with pytest.raises(OutputError, match="holds other files"):
        write_crowns(crowns(5), folder, partition="cell", overwrite=True)


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("a.gpkg", {"partition": "cell"}, OutputError, "go into a folder of GeoParquet"),
        ("gone/a", {"partition": "cell"}, OutputError, "there is no folder"),
        ("a", {}, OutputError, r"--partition source or cell"),
        ("a", {"partition": "hexagon"}, ConfigError, "accepted are source, cell"),
    ],
)
def test_what_can_not_be_written_is_said(tmp_path, name, options, error, says):
    with pytest.raises(error, match=says):
        write_crowns(crowns(5), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("Parquet" not in pyogrio.list_drivers(), reason="this GDAL has no Parquet driver")
@pytest.mark.parametrize("partition", ["source", "cell"])
def test_gdal_reads_the_folder(tmp_path, partition):
    table = crowns()
    write_crowns(table, tmp_path / "a", partition=partition)
    found = pyogrio.read_dataframe(tmp_path / "a")
    assert len(found) == len(table)
    assert found.crs.to_epsg() == 32632


@pytest.mark.parametrize("partition", ["source", "cell"])
def test_duckdb_reads_the_folder(tmp_path, partition):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    table = crowns()
    write_crowns(table, tmp_path / "a", partition=partition)
    query = f"select count(*), avg(diameter_m) from read_parquet('{tmp_path}/a/*.parquet') where bbox.xmin > 501000"
    count, diameter = duckdb.sql(query).fetchone()
    assert count == (table.bounds["minx"] > 501_000).sum()
    assert diameter == pytest.approx(6, rel=1e-3)
