import json
import logging
import sqlite3
from typing import ClassVar

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.core import crowns
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import CrownsError, CrsMismatchError, DegenerateCrownError, MissingColumnError
from treedet.vectors.annotations import read_boxes, read_crowns, read_metadata, read_polygons
from treedet.vectors.writers import write_crowns

UTM = pyproj.CRS.from_epsg(32633)
LOCAL = (
    'ENGCRS["{name}",EDATUM["Unknown"],CS[Cartesian,2],'
    'AXIS["easting",east,ORDER[1]],AXIS["northing",north,ORDER[2]],LENGTHUNIT["{unit}",{metres}]]'
)
PLOT = shapely.box(500_000, 5_200_000, 500_100, 5_200_100)


def local(name, unit="metre", metres=1):
    return pyproj.CRS.from_wkt(LOCAL.format(name=name, unit=unit, metres=metres))


def save(path, geometries, crs=UTM, **columns):
    gpd.GeoDataFrame(columns, geometry=geometries, crs=crs).to_file(
        path, **({"layer": "a"} if "gpkg" in path.name else {})
    )
    return path


def some_crowns(n=3):
    schema = LabelSchema(attributes={"status": ("alive", "dead")})
    grid = Grid.build(UTM, Affine(0.1, 0, 5e5, 0, -0.1, 5.2e6), width=900, height=900)
    arrays = CrownArrays(
        boxes=np.arange(4.0 * n).reshape(n, 4) * [1, 1, 2, 2] + [0, 0, 9, 9],
        scores=np.full(n, 0.5, np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.zeros(n, bool),
        edge=np.ones(n, bool),
        attributes={"status": np.tile(np.array([[0.8, 0.2]], np.float32), (n, 1))},
    )
    return crowns.to_table(arrays, grid, schema, source="a.tif")


class TestCsv:
    def read(self, tmp_path, text, encoding="utf-8"):
        path = tmp_path / "boxes.csv"
        path.write_bytes(text.encode(encoding))
        return read_boxes(path)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_as_deepforest_writes_it(self, tmp_path, encoding, end):
        rows = ("a.tif,1,2,3.5,4,Kiefer ö,0.5,7.5", "a.tif,0,0,9,9,Tree,0.25,")
        text = "\n".join(["image_path,xmin,ymin,xmax,ymax,label,score,höhe", *rows, ""])
        found = self.read(tmp_path, text.replace("\n", end), encoding)
        assert found.images == ("a.tif",)
        assert found.boxes[["xmin", "ymin", "xmax", "ymax"]].to_numpy().tolist() == [[1, 2, 3.5, 4], [0, 0, 9, 9]]
        assert found.boxes["label"].tolist() == ["Kiefer ö", "Tree"]
        assert found.boxes["score"].tolist() == [0.5, 0.25]
        assert found.boxes["höhe"].iloc[0] == 7.5
        assert np.isnan(found.boxes["höhe"].iloc[1])

    def test_as_a_german_spreadsheet_writes_it(self, tmp_path):
        text = "image_path;xmin;ymin;xmax;ymax;label;height\na.tif;1,5;2,25;3,5;4;Tree;12,5\nb.tif;1;2;3;4;Tree;1\n"
        found = self.read(tmp_path, text, "utf-8-sig")
        assert found.boxes.iloc[0, 1:5].tolist() == [1.5, 2.25, 3.5, 4]
        assert found.boxes["height"].tolist() == [12.5, 1]

    @pytest.mark.parametrize(
        "row", ["b.tif,0,0,0,0,Tree", "b.tif,,,,,", "b.tif,0.0,0.0,0.0,0.0,", "b.tif,nan,nan,nan,nan,"]
    )
    def test_an_image_without_crowns_is_kept(self, tmp_path, row):
        found = self.read(tmp_path, f"image_path,xmin,ymin,xmax,ymax,label\na.tif,1,2,3,4,Tree\n{row}\n")
        assert found.images == ("a.tif", "b.tif")
        assert found.boxes["image_path"].tolist() == ["a.tif"]

    def test_only_a_header(self, tmp_path):
        found = self.read(tmp_path, "image_path,xmin,ymin,xmax,ymax,label\n")
        assert (len(found.boxes), found.images) == (0, ())
        assert found.boxes["xmin"].dtype == "float64"

    def test_names_that_look_like_numbers_or_nothing_stay_text(self, tmp_path):
        found = self.read(
            tmp_path, "image_path,xmin,ymin,xmax,ymax,label,plot\n007,1,2,3,4,NA,x1\n007,1,2,3,4,12,x2\n"
        )
        assert found.images == ("007",)
        assert found.boxes["label"].tolist() == ["NA", "12"]

    def test_headers_in_other_case(self, tmp_path):
        found = self.read(tmp_path, "Image_Path, XMIN,YMIN,XMAX,YMAX,Label\na.tif,1,2,3,4,Tree\n")
        assert found.boxes["ymax"].tolist() == [4]

    def test_outlines_instead_of_boxes(self, tmp_path):
        text = 'image_path,geometry,label\na.tif,"POLYGON ((1 1, 5 2, 3 8, 1 1))",Tree\nb.tif,,\n'
        found = self.read(tmp_path, text)
        assert found.boxes.iloc[0, 1:5].tolist() == [1, 1, 5, 8]
        assert found.images == ("a.tif", "b.tif")

    def test_no_label_is_said(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="treedet"):
            found = self.read(tmp_path, "image_path,xmin,ymin,xmax,ymax\na.tif,1,2,3,4\n")
        assert found.boxes["label"].tolist() == ["tree"]
        assert "no column 'label'" in caplog.text

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("image_path,xmin,ymin,xmax,label\na.tif,1,2,3,Tree\n", MissingColumnError, "'ymax'"),
            ("file,xmin,ymin,xmax,ymax,label\na.tif,1,2,3,4,Tree\n", MissingColumnError, "'image_path'"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,3,4,T\na,5,2,3,4,T\n", DegenerateCrownError, "line 3"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,3,4,T\na,1,2,1,4,T\n", DegenerateCrownError, "line 3"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,x,4,T\n", DegenerateCrownError, "line 2.*xmax.*'x'"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,,4,T\n", DegenerateCrownError, "line 2"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,inf,4,T\n", DegenerateCrownError, "line 2"),
            ("image_path,xmin,ymin,xmax,ymax,label\na,1,2,3,4,\n", CrownsError, "line 2.*label"),
            ("image_path,polygon,label\na,POLY,T\n", CrownsError, "line 2.*WKT"),
            ("", CrownsError, "is empty"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, tmp_path, text, error, message):
        with pytest.raises(error, match=message):
            self.read(tmp_path, text)


VOC = """<annotation>{head}<size><width>9</width></size>
<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"""
LABELIMG = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>"
RECTLABEL = "<xmax>30.0</xmax><ymax>40.0</ymax><xmin>1.0</xmin><ymin>2.0</ymin>"


class TestVoc:
    @pytest.mark.parametrize("box", [LABELIMG, RECTLABEL])
    @pytest.mark.parametrize(
        ("head", "image"),
        [
            ("<filename>a.png</filename><path>/home/x/b.png</path>", "a.png"),
            (r"<path>C:\x\b.png</path>", "b.png"),
            ("", "plot"),
        ],
    )
    def test_dialects(self, tmp_path, box, head, image):
        (tmp_path / "plot.xml").write_text(VOC.format(head=head, name="Tree", box=box))
        found = read_boxes(tmp_path / "plot.xml")
        assert found.boxes.iloc[0].tolist() == [image, 1, 2, 30, 40, "Tree"]

    def test_a_folder_keeps_equal_names_apart_and_empty_images(self, tmp_path):
        head = "<filename>a.png</filename>"
        for place in ("x", "y"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "a.xml").write_text(VOC.format(head=head, name="Tree", box=LABELIMG))
        (tmp_path / "none.xml").write_text("<annotation><filename>none.png</filename></annotation>")
        (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset/>")
        found = read_boxes(tmp_path)
        assert found.images == ("none.png", "x/a.png", "y/a.png")
        assert found.boxes["image_path"].tolist() == ["x/a.png", "y/a.png"]

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("<annotation>", CrownsError, "well-formed"),
            ("<html/>", CrownsError, "<html>"),
            ("<annotation><object><name>T</name></object></annotation>", CrownsError, "object 1.*bndbox"),
            (VOC.format(head="", name="T", box="<xmin>1</xmin>"), CrownsError, "object 1"),
            (VOC.format(head="", name="T", box=LABELIMG.replace("30", "1")), DegenerateCrownError, "object 1"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, text, error, message):
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(error, match=message):
            read_boxes(tmp_path / "a.xml")

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(CrownsError, match=r"no Pascal VOC"):
            read_boxes(tmp_path)


class TestCoco:
    DATA: ClassVar = {
        "images": [{"id": 2, "file_name": "b.tif"}, {"id": 1, "file_name": "a.tif"}],
        "categories": [{"id": 5, "name": "tree"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 5, "bbox": [1.5, 2, 10, 20], "iscrowd": 0, "score": 0.5},
            {"id": 2, "image_id": 2, "category_id": 5, "segmentation": [[1, 1, 5, 2, 3, 8], [0, 4, 1, 4, 1, 5]]},
            {"id": 3, "image_id": 1, "category_id": 5, "bbox": [0, 0, 99, 99], "iscrowd": 1},
        ],
    }

    def read(self, tmp_path, data):
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_boxes(tmp_path / "a.json")

    def test_boxes_polygons_and_crowds(self, tmp_path):
        found = self.read(tmp_path, self.DATA)
        assert found.images == ("b.tif", "a.tif")
        assert found.boxes.iloc[:, 1:5].to_numpy().tolist() == [[1.5, 2, 11.5, 22], [0, 1, 5, 8]]
        assert found.boxes["label"].tolist() == ["tree", "tree"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": []}, "not COCO"),
            ({"categories": [{"id": 4, "name": "x"}]}, "not COCO.*5"),
            (
                {"annotations": [{"id": 7, "image_id": 2, "category_id": 5, "segmentation": {"counts": ""}}]},
                "7.*bbox",
            ),
            ({"annotations": [{"id": 7, "image_id": 2, "category_id": 5, "bbox": [1, 1, 0, 4]}]}, "no area"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, change, message):
        with pytest.raises(CrownsError, match=message):
            self.read(tmp_path, self.DATA | change)

    def test_other_json_is_refused(self, tmp_path):
        with pytest.raises(CrownsError, match="not COCO"):
            self.read(tmp_path, [1, 2])


def test_boxes_of_unknown_files(tmp_path):
    with pytest.raises(CrownsError, match="there is no"):
        read_boxes(tmp_path / "a.csv")
    (tmp_path / "a.doc").touch()
    with pytest.raises(CrownsError, match=r"\.csv"):
        read_boxes(tmp_path / "a.doc")


class TestPolygons:
    @pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson", ".fgb", ".parquet"])
    def test_any_format_in_any_crs(self, tmp_path, suffix):
        path = tmp_path / f"aoi{suffix}"
        table = gpd.GeoDataFrame(geometry=[PLOT], crs=UTM).to_crs(4326).assign(name="a")
        table.to_parquet(path) if suffix == ".parquet" else table.to_file(path)
        found = read_polygons(path, crs=UTM)
        assert isinstance(found, shapely.MultiPolygon)
        assert shapely.hausdorff_distance(found, PLOT) < 1e-3

    def test_union_of_overlapping_and_invalid_polygons(self, tmp_path):
        bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
        path = save(tmp_path / "a.gpkg", [shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2), None, bow_tie])
        found = read_polygons(path, crs=UTM)
        assert found.is_valid
        assert found.area == 6

    def test_collections_and_heights(self, tmp_path):
        high = shapely.force_3d(shapely.box(0, 0, 1, 1), 7)
        mixed = shapely.GeometryCollection([high, shapely.LineString([(0, 0), (9, 9)])])
        found = read_polygons(save(tmp_path / "a.geojson", [mixed], crs=pyproj.CRS(4326)), crs=pyproj.CRS(4326))
        assert not found.has_z
        assert found.area == 1

    def test_the_first_layer_with_polygons(self, tmp_path):
        path = tmp_path / "a.gpkg"
        gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM).to_file(path, layer="points")
        gpd.GeoDataFrame(geometry=[PLOT], crs=UTM).to_file(path, layer="plots", mode="a")
        assert read_polygons(path, crs=UTM).equals(PLOT)

    def test_no_crs_is_taken_as_the_rasters_and_said(self, tmp_path, caplog):
        table = gpd.GeoDataFrame({"a": [1]}, geometry=[PLOT])
        with pytest.warns(UserWarning, match="crs"):
            table.to_file(tmp_path / "a.shp")
        with caplog.at_level(logging.INFO, logger="treedet"):
            assert read_polygons(tmp_path / "a.shp", crs=UTM).equals(PLOT)
        assert "no CRS" in caplog.text

    def test_a_local_crs_of_the_same_name_is_taken_as_it_is(self, tmp_path, caplog):
        path = save(tmp_path / "a.gpkg", [PLOT], crs=UTM)
        with caplog.at_level(logging.INFO, logger="treedet"):
            assert read_polygons(path, crs=local("WGS 84 / UTM zone 33N")).equals(PLOT)
        assert "no transformation" in caplog.text

    @pytest.mark.parametrize("crs", [local("Quarry"), local("WGS 84 / UTM zone 33N", "foot", 0.3048)])
    def test_another_local_crs_is_refused(self, tmp_path, crs):
        with pytest.raises(CrsMismatchError, match="UTM zone 33N"):
            read_polygons(save(tmp_path / "a.gpkg", [PLOT]), crs=crs)

    def test_heights_in_the_crs_do_not_matter(self, tmp_path):
        assert read_polygons(save(tmp_path / "a.gpkg", [PLOT]), crs=pyproj.CRS("EPSG:32633+5773")).equals(PLOT)

    def test_what_is_no_area_is_refused(self, tmp_path):
        with pytest.raises(CrownsError, match=r"found Point"):
            read_polygons(save(tmp_path / "a.gpkg", [shapely.Point(0, 0)]), crs=UTM)
        with pytest.raises(CrownsError, match="there is no file"):
            read_polygons(tmp_path / "none.shp", crs=UTM)
        (tmp_path / "bad.gpkg").write_text("nothing")
        with pytest.raises(CrownsError, match=r"can not read .*bad\.gpkg"):
            read_polygons(tmp_path / "bad.gpkg", crs=UTM)


class TestCrowns:
    def test_edits_made_in_a_gis_are_kept(self, tmp_path, caplog):
        path = tmp_path / "a.gpkg"
        write_crowns(some_crowns(), path)
        with sqlite3.connect(path) as connection:
            # The index triggers need functions that only GDAL brings.
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f'DROP TRIGGER "{name}"')
            connection.execute("UPDATE crowns SET status = 'dying' WHERE crown_id = 2")
            connection.execute(
                "INSERT INTO crowns (geometry, label) SELECT geometry, 'tree' FROM crowns WHERE fid = 1"
            )
        with caplog.at_level(logging.INFO, logger="treedet"):
            found = read_crowns(path)
        assert found["status"].astype(object).tolist()[:3] == ["alive", "dying", "alive"]
        assert list(found["status"].cat.categories) == ["alive", "dead", "dying"]
        assert found["crown_id"].tolist() == [1, 2, 3, 4]
        assert not found["cut"].any()
        assert "numbered from 4" in caplog.text

    def test_a_grid_brings_its_crs(self, tmp_path):
        write_crowns(some_crowns(), tmp_path / "a.gpkg")
        target = pyproj.CRS(32632)
        grid = Grid.build(target, Affine(1, 0, 0, 0, -1, 0), width=9, height=9, gsd=1)
        found = read_crowns(tmp_path / "a.gpkg", grid=grid)
        assert found.crs == target
        assert found.geometry.geom_equals_exact(some_crowns().to_crs(target).geometry, 1e-6).all()

    def test_missing_column_is_named(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [PLOT], label=["tree"])
        with pytest.raises(MissingColumnError, match=r"a\.gpkg lacks column 'crown_id'"):
            read_crowns(path)

    def test_values_of_another_kind_are_named(self, tmp_path):
        table = some_crowns().astype({"score": object})
        table["score"] = "high"
        table.to_file(tmp_path / "a.gpkg", layer="crowns")
        with pytest.raises(CrownsError, match="'score'"):
            read_crowns(tmp_path / "a.gpkg")

    def test_metadata_of_other_files_is_empty(self, tmp_path):
        assert read_metadata(save(tmp_path / "a.gpkg", [PLOT])) == {}
        assert read_metadata(save(tmp_path / "a.geojson", [PLOT])) == {}

    def test_broken_metadata_is_named(self, tmp_path):
        write_crowns(some_crowns(), tmp_path / "a.fgb")
        (tmp_path / "a.fgb.meta.json").write_text("{")
        with pytest.raises(CrownsError, match="not JSON"):
            read_crowns(tmp_path / "a.fgb")

    def test_a_crowns_layer_among_others_is_found(self, tmp_path):
        save(tmp_path / "a.gpkg", [PLOT])
        other = tmp_path / "b.gpkg"
        write_crowns(some_crowns(), other)
        table = pyogrio.read_dataframe(other, layer="crowns")
        pyogrio.write_dataframe(table, tmp_path / "a.gpkg", layer="crowns", append=True)
        assert len(read_crowns(tmp_path / "a.gpkg")) == 3
