import json
import logging

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.core import crowns
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, CrownsError, CrsMismatchError, DegenerateCrownError, MissingColumnError
from treedet.vectors.truth import TruthOptions, on_raster, read_annotations
from treedet.vectors.writers import write_crowns

UTM = pyproj.CRS.from_epsg(32633)
GRID = Grid.build(UTM, Affine(0.1, 0, 500_000, 0, -0.1, 5_200_000), width=1000, height=800)
LOCAL = (
    'ENGCRS["{}",EDATUM["Unknown"],CS[Cartesian,2],'
    'AXIS["easting",east,ORDER[1]],AXIS["northing",north,ORDER[2]],LENGTHUNIT["metre",1]]'
)
SQUARE = shapely.box(500_010, 5_199_950, 500_014, 5_199_954)
OTHER = shapely.box(500_020, 5_199_950, 500_024, 5_199_954)


def squares(n, seed=0):
    rng = np.random.default_rng(seed)
    low = np.round(rng.uniform(0, 700, (n, 2)), 2)
    return np.hstack([low, low + np.round(rng.uniform(20, 80, (n, 2)), 2)])


BOXES = squares(50)
LABELS = np.where(np.arange(50) % 3 == 0, "bird", "tree")


def as_map(crs=UTM):
    return gpd.GeoDataFrame({"label": LABELS}, geometry=GRID.to_map(BOXES), crs=UTM).to_crs(crs)


def write_map(path):
    table = as_map(4326 if path.suffix == ".geojson" else UTM)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        pyogrio.write_dataframe(table, path)
    return path


def write_boxes_csv(path, separator=",", comma=".", encoding="utf-8"):
    rows = ["image_path xmin ymin xmax ymax label".replace(" ", separator)]
    for box, label in zip(BOXES, LABELS, strict=True):
        rows.append(separator.join(["a.tif", *(f"{v:.2f}".replace(".", comma) for v in box), label]))
    path.write_text("\n".join(rows), encoding=encoding)
    return path


def write_wkt(path, *, pixels):
    shapes = shapely.box(*BOXES.T) if pixels else GRID.to_map(BOXES)
    table = pd.DataFrame({"wkt": shapely.to_wkt(shapes, rounding_precision=6), "Class": LABELS})
    (table.assign(image_path="a.tif") if pixels else table).to_csv(path, index=False)
    return path


def write_voc(folder):
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for (a, b, c, d), label in zip(BOXES, LABELS, strict=True)
    )
    folder.mkdir(exist_ok=True)
    size = "<size><width>1000</width><height>800</height></size>"
    (folder / "a.xml").write_text(f"<annotation><filename>a.tif</filename>{size}{objects}</annotation>")
    return folder


def write_coco(path):
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1 + (label == "tree"), "bbox": [x, y, x2 - x, y2 - y]}
        for i, ((x, y, x2, y2), label) in enumerate(zip(BOXES.tolist(), LABELS, strict=True))
    ]
    images = [{"id": 1, "file_name": "a.tif", "width": 1000, "height": 800}]
    categories = [{"id": 1, "name": "bird"}, {"id": 2, "name": "tree"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


def write_yolo(folder, names="names: [tree, bird]\n"):
    folder.mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(names)
    (folder / "labels").mkdir()
    (folder / "images").mkdir()
    (folder / "images" / "a.tif").touch()
    centre, side = (BOXES[:, :2] + BOXES[:, 2:]) / 2 / [1000, 800], (BOXES[:, 2:] - BOXES[:, :2]) / [1000, 800]
    rows = [
        f"{int(n == 'bird')} {x!r} {y!r} {w!r} {h!r}"
        for n, (x, y, w, h) in zip(LABELS, np.hstack([centre, side]).tolist(), strict=True)
    ]
    (folder / "labels" / "a.txt").write_text("\n".join(rows))
    return folder


def write_label_studio(path):
    def result(box, label):
        x, y, x2, y2 = box / [10, 8, 10, 8]
        value = {"x": x, "y": y, "width": x2 - x, "height": y2 - y, "rotation": 0, "rectanglelabels": [str(label)]}
        return {"type": "rectanglelabels", "original_width": 1000, "original_height": 800, "value": value}

    results = [result(box, label) for box, label in zip(BOXES, LABELS, strict=True)]
    task = {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-a.tif"}, "annotations": [{"result": results}]}
    path.write_text(json.dumps([task]))
    return path


def as_points(path):
    """Centres with as many digits as needed; sides become the mean of both."""
    centre = np.array([shape.centroid.coords[0] for shape in GRID.to_map(BOXES)])
    width = (BOXES[:, 2:] - BOXES[:, :2]).mean(axis=1) * GRID.gsd
    table = pd.DataFrame({"E": centre[:, 0], "N": centre[:, 1], "Kind": LABELS, "crown_w": width})
    table.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-8-sig")
    return path


FORMATS = {
    "shp": lambda at: write_map(at / "a.shp"),
    "gpkg": lambda at: write_map(at / "a.gpkg"),
    "geojson": lambda at: write_map(at / "a.geojson"),
    "geojson called json": lambda at: write_map(at / "a.geojson").rename(at / "a.json"),
    "parquet": lambda at: write_map(at / "a.parquet"),
    "fgb": lambda at: write_map(at / "a.fgb"),
    "csv": lambda at: write_boxes_csv(at / "a.csv"),
    "csv of a spreadsheet": lambda at: write_boxes_csv(at / "a.csv", ";", ",", "utf-8-sig"),
    "tsv": lambda at: write_boxes_csv(at / "a.tsv", "\t"),
    "wkt in pixels": lambda at: write_wkt(at / "a.csv", pixels=True),
    "wkt on the map": lambda at: write_wkt(at / "a.csv", pixels=False),
    "voc": lambda at: write_voc(at / "voc") / "a.xml",
    "voc folder": lambda at: write_voc(at / "voc"),
    "coco": lambda at: write_coco(at / "a.json"),
    "yolo": lambda at: write_yolo(at / "yolo"),
    "label studio": lambda at: write_label_studio(at / "a.json"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_crowns_in_any_format_give_the_same_table(tmp_path, name):
    annotations = read_annotations(FORMATS[name](tmp_path))
    found = on_raster(annotations, GRID)
    boxes = GRID.to_pixels(found.geometry.to_numpy())
    order, expected = np.lexsort(boxes.T), np.lexsort(BOXES.T)
    np.testing.assert_allclose(boxes[order], BOXES[expected], atol=2e-3)
    assert found["label"].astype(object).to_numpy()[order].tolist() == LABELS[expected].tolist()
    assert found.crs == UTM
    crowns.validate(found, LabelSchema(("bird", "tree")))
    sides = (BOXES[:, 2:] - BOXES[:, :2])[expected] * [GRID.gsd_x, GRID.gsd_y]
    np.testing.assert_allclose(found["diameter_m"].to_numpy()[order], sides.mean(axis=1), rtol=1e-3)
    np.testing.assert_allclose(found["area_m2"].to_numpy()[order], sides.prod(axis=1), rtol=1e-3)
    np.testing.assert_allclose(found["crown_m2"], found["area_m2"] * np.pi / 4, rtol=1e-3)
    assert (found["score"] == 1).all()
    if name != "fgb":
        assert found.index.tolist() == list(range(1, 51))
    if annotations.in_pixels:
        assert [image.split("/")[-1] for image in annotations.images] == ["a.tif"]


def test_points_with_a_column_of_diameters(tmp_path):
    columns = {"x": "E", "y": "N", "diameter": "crown_w", "label": "Kind"}
    found = on_raster(read_annotations(as_points(tmp_path / "a.csv"), TruthOptions(columns, crs="EPSG:32633")), GRID)
    boxes = GRID.to_pixels(found.geometry.to_numpy())
    np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], BOXES[:, :2] + BOXES[:, 2:], atol=1e-4)
    np.testing.assert_allclose(found["diameter_m"], (BOXES[:, 2:] - BOXES[:, :2]).mean(axis=1) * GRID.gsd, rtol=1e-5)
    assert found["label"].tolist() == LABELS.tolist()


def save(path, geometries, crs=UTM, **columns):
    table = gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)
    if crs is None:
        with pytest.warns(UserWarning, match="crs"):
            pyogrio.write_dataframe(table, path)
    else:
        pyogrio.write_dataframe(table, path)
    return path


class TestPoints:
    def test_one_diameter_for_all(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE.centroid])
        found = on_raster(read_annotations(path, TruthOptions(diameter=6)), GRID)
        assert found["diameter_m"].iloc[0] == pytest.approx(6, rel=1e-5)
        # A metre of the map is not one of the ground.
        assert found.geometry.iloc[0].bounds[2] - found.geometry.iloc[0].bounds[0] == pytest.approx(
            6 * 0.9996, rel=1e-4
        )

    def test_in_degrees(self, tmp_path):
        lon, lat = gpd.GeoSeries([SQUARE.centroid], crs=UTM).to_crs(4326).get_coordinates().iloc[0]
        (tmp_path / "a.csv").write_text(f"lon,lat\n{lon},{lat}\n")
        found = on_raster(read_annotations(tmp_path / "a.csv", TruthOptions(diameter=6)), GRID)
        assert found.geometry.iloc[0].centroid.distance(SQUARE.centroid) < 1e-3

    def test_without_a_diameter(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE.centroid])
        with pytest.raises(CrownsError, match=r"diameter=.*--diameter"):
            read_annotations(path)

    def test_gaps_in_the_column(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE.centroid, OTHER.centroid], diameter_m=[4.0, None])
        with pytest.raises(DegenerateCrownError, match=r"row 2.*--drop"):
            read_annotations(path)
        assert len(read_annotations(path, TruthOptions(drop=True)).table) == 1
        assert read_annotations(path, TruthOptions(diameter=7)).table["diameter_m"].tolist() == [4, 7]

    @pytest.mark.parametrize("diameter", [0, -1, float("nan")])
    def test_a_diameter_that_makes_no_sense(self, diameter):
        with pytest.raises(ConfigError, match="diameter"):
            TruthOptions(diameter=diameter)


class TestColumns:
    def read(self, tmp_path, columns=None, **values):
        path = save(tmp_path / "a.gpkg", [SQUARE, OTHER], **values)
        return read_annotations(path, TruthOptions(columns or {}))

    @pytest.mark.parametrize("name", ["label", "Class", "CATEGORY", "classname"])
    def test_common_names_of_the_class(self, tmp_path, name):
        found = self.read(tmp_path, **{name: ["oak", "pine"], "treeID": [3, 4], "Confidence_score": [0.1, 0.2]})
        assert found.table["label"].tolist() == ["oak", "pine"]
        assert any(repr(name) in notice for notice in found.notices) == (name != "label")
        assert found.table["score"].tolist() == [1, 1]

    def test_none_at_all(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="treedet"):
            found = self.read(tmp_path, treeID=[3, 4])
        assert found.table["label"].tolist() == ["tree", "tree"]
        assert "no class column" in found.notices[0]
        assert "no class column" in caplog.text

    def test_two_candidates(self, tmp_path):
        with pytest.raises(CrownsError, match=r"'label' and 'Class'.*columns=.*--columns.label"):
            self.read(tmp_path, label=["a", "b"], Class=["c", "d"])
        assert self.read(tmp_path, {"label": "Class"}, label=["a", "b"], Class=["c", "d"]).table["label"][2] == "d"

    def test_named_and_absent(self, tmp_path):
        with pytest.raises(MissingColumnError, match=r"'SP'.*species.*\['kind'\]"):
            self.read(tmp_path, {"species": "SP"}, kind=["a", "b"])
        with pytest.raises(MissingColumnError, match=r"'SP'.*label"):
            self.read(tmp_path, {"label": "SP"}, kind=["a", "b"])

    def test_attributes_recognised_and_asked_for(self, tmp_path):
        found = self.read(
            tmp_path, {"health": "COND"}, taxonID=["PISY", "UNKNOWN"], status=["", "dead"], COND=[1.0, 2.0]
        )
        table = found.table
        assert list(table.columns[3:10]) == [
            "score",
            "health",
            "health_p",
            "species",
            "species_p",
            "status",
            "status_p",
        ]
        assert table["health"].tolist() == ["1", "2"]
        assert table["species"].isna().tolist() == [False, True]
        assert table["species_p"].tolist()[0] == 1
        assert np.isnan(table["species_p"].tolist()[1])
        assert table["status"].isna().tolist() == [True, False]
        assert any("taxonID" in notice for notice in found.notices)

    @pytest.mark.parametrize("name", ["score", "species_p", "a b"])
    def test_an_attribute_that_can_not_be(self, tmp_path, name):
        with pytest.raises(ConfigError, match=name):
            self.read(tmp_path, {name: "kind"}, kind=["a", "b"])

    def test_a_missing_label_among_several(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE, OTHER, SQUARE.buffer(1)], Class=["oak", None, "pine"])
        with pytest.raises(CrownsError, match=r"row 2.*oak, pine"):
            read_annotations(path)
        assert read_annotations(path, TruthOptions(drop=True)).table.index.tolist() == [1, 3]

    def test_a_missing_label_where_there_is_one_class(self, tmp_path):
        found = self.read(tmp_path, Class=["oak", ""])
        assert found.table["label"].tolist() == ["oak", "oak"]
        assert any("1 rows without label" in notice for notice in found.notices)


class TestGeometries:
    def test_harmless_rows_are_dropped_and_said(self, tmp_path):
        found = read_annotations(save(tmp_path / "a.gpkg", [SQUARE, None, SQUARE, OTHER, shapely.Polygon()]))
        assert found.table.index.tolist() == [1, 4]
        assert any("rows 2, 5 without geometry" in notice for notice in found.notices)
        assert any("exact repetitions dropped, row 3" in notice for notice in found.notices)

    def test_the_same_place_under_another_label_is_no_repetition(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE, SQUARE], label=["a", "b"])
        assert len(read_annotations(path).table) == 2

    @pytest.mark.parametrize(
        "bad", ["POLYGON ((1 1, 1 5, 1 3, 1 1))", "POLYGON ((0 0, 1 NaN, 1 1, 0 0))"], ids=["flat", "nan"]
    )
    def test_degenerate_rows(self, tmp_path, bad):
        path = tmp_path / "a.parquet"
        with np.errstate(invalid="ignore"):
            shape = shapely.from_wkt(bad)
            gpd.GeoDataFrame(geometry=[SQUARE, shape, OTHER], crs=UTM).to_parquet(path)
        with pytest.raises(DegenerateCrownError, match=r"row 2;.*--drop"):
            read_annotations(path)
        found = read_annotations(path, TruthOptions(drop=True))
        assert found.table.index.tolist() == [1, 3]
        assert any("row 2 can not be used" in notice for notice in found.notices)

    def test_a_box_inside_out(self, tmp_path):
        (tmp_path / "a.csv").write_text(
            "image_path,xmin,ymin,xmax,ymax,label\na.tif,1,2,3,4,T\nb.tif,0,0,0,0,\na.tif,9,2,3,4,T\n"
        )
        with pytest.raises(DegenerateCrownError, match=r"line 4; found \[9.*xmin < xmax.*--drop"):
            read_annotations(tmp_path / "a.csv")
        found = read_annotations(tmp_path / "a.csv", TruthOptions(drop=True))
        assert (len(found.table), found.images) == (1, ("a.tif", "b.tif"))

    def test_several_parts_are_one_crown(self, tmp_path):
        two = shapely.MultiPolygon([SQUARE, shapely.box(500_012, 5_199_940, 500_013, 5_199_941)])
        found = read_annotations(save(tmp_path / "a.gpkg", [two, shapely.MultiPolygon([OTHER])]))
        assert found.table.geometry.bounds.to_numpy().tolist() == [list(two.bounds), list(OTHER.bounds)]
        assert set(found.table.geom_type) == {"Polygon"}
        assert any("several parts" in notice and "row 1" in notice for notice in found.notices)

    def test_points_among_polygons(self, tmp_path):
        path = save(tmp_path / "a.geojson", [shapely.box(1, 1, 2, 2), shapely.Point(1, 1)], crs=pyproj.CRS(4326))
        with pytest.raises(CrownsError, match=r"mixes polygons with Point: row 2.*--drop"):
            read_annotations(path)
        assert read_annotations(path, TruthOptions(drop=True)).table.index.tolist() == [1]

    @pytest.mark.parametrize("drop", [False, True])
    def test_lines(self, tmp_path, drop):
        path = save(tmp_path / "a.gpkg", [shapely.LineString([(0, 0), (1, 1)])])
        with pytest.raises(CrownsError, match=r"Linestring.*polygons, or points"):
            read_annotations(path, TruthOptions(drop=drop))

    @pytest.mark.parametrize("geometries", [[], [None]])
    def test_nothing_in_it(self, tmp_path, geometries):
        path = tmp_path / "a.parquet"
        gpd.GeoDataFrame(geometry=gpd.GeoSeries(geometries), crs=UTM).to_parquet(path)
        with pytest.raises(CrownsError, match=r"a\.parquet holds no crown"):
            read_annotations(path)


class TestFiles:
    @pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.csv", "a.json", "a.xml", "a.geojson"])
    def test_an_empty_file(self, tmp_path, name):
        (tmp_path / name).touch()
        (tmp_path / "a.shx").touch()
        with pytest.raises(CrownsError, match=name.replace(".", r"\.")):
            read_annotations(tmp_path / name)

    def test_no_index_of_a_shapefile(self, tmp_path):
        path = save(tmp_path / "a.shp", [SQUARE])
        (tmp_path / "a.shx").unlink()
        with pytest.raises(CrownsError, match=r"lacks a\.shx"):
            read_annotations(path)
        assert not (tmp_path / "a.shx").exists()

    def test_unknown_suffix_and_folder(self, tmp_path):
        (tmp_path / "a.docx").touch()
        with pytest.raises(CrownsError, match=r"\.gpkg"):
            read_annotations(tmp_path / "a.docx")
        with pytest.raises(CrownsError, match="neither Pascal VOC"):
            read_annotations(tmp_path)
        with pytest.raises(CrownsError, match="there is no file"):
            read_annotations(tmp_path / "b.gpkg")

    def test_boxes_without_the_name_of_an_image(self, tmp_path):
        (tmp_path / "a.csv").write_text("xmin,ymin,xmax,ymax\n1,2,3,4\n")
        with pytest.raises(MissingColumnError, match="image_path"):
            read_annotations(tmp_path / "a.csv")

    def test_a_table_without_coordinates(self, tmp_path):
        (tmp_path / "a.csv").write_text("image_path,label\na.tif,Tree\n")
        with pytest.raises(MissingColumnError, match="no coordinates"):
            read_annotations(tmp_path / "a.csv")

    def test_coco_with_run_lengths(self, tmp_path):
        path = write_coco(tmp_path / "a.json")
        data = json.loads(path.read_text())
        data["annotations"] = [
            {"id": 7, "image_id": 1, "category_id": 1, "segmentation": {"counts": "", "size": [1, 1]}}
        ]
        path.write_text(json.dumps(data))
        with pytest.raises(CrownsError, match=r"7.*RLE"):
            read_annotations(path)

    def test_voc_without_size_is_said(self, tmp_path):
        path = write_voc(tmp_path / "voc") / "a.xml"
        path.write_text(path.read_text().replace("<size><width>1000</width><height>800</height></size>", ""))
        found = read_annotations(path)
        assert any("no <size>" in notice for notice in found.notices)
        assert len(on_raster(found, GRID)) == 50

    @pytest.mark.parametrize("name", ["voc", "coco", "label studio"])
    def test_annotated_at_another_size(self, tmp_path, name):
        found = read_annotations(FORMATS[name](tmp_path))
        half = Grid.build(UTM, Affine(0.2, 0, 500_000, 0, -0.2, 5_200_000), width=500, height=400)
        with pytest.raises(CrownsError, match=r"1000x800.*500x400"):
            on_raster(found, half)

    def test_which_of_several_images(self, tmp_path):
        (tmp_path / "a.csv").write_text(
            "image_path,xmin,ymin,xmax,ymax,label\na.tif,1,2,3,4,T\nb.tif,5,6,7,8,T\nc.tif,0,0,0,0,\n"
        )
        found = read_annotations(tmp_path / "a.csv")
        with pytest.raises(CrownsError, match=r"3 images.*image="):
            on_raster(found, GRID)
        assert [len(on_raster(found, GRID, image=name)) for name in found.images] == [1, 1, 0]


class TestCrs:
    def test_another_crs_is_reprojected(self, tmp_path):
        as_map(32632).to_file(tmp_path / "a.gpkg")
        found = on_raster(read_annotations(tmp_path / "a.gpkg"), GRID)
        np.testing.assert_allclose(GRID.to_pixels(found.geometry.to_numpy()), BOXES, atol=1)

    def test_only_those_whose_centre_is_on_the_raster(self, tmp_path):
        on_the_rim, outside = (shapely.box(x, 5_199_950, x + 4, 5_199_954) for x in (499_999, 499_997))
        found = on_raster(read_annotations(save(tmp_path / "a.gpkg", [outside, on_the_rim, SQUARE])), GRID)
        assert found.index.tolist() == [2, 3]
        assert found.geometry.iloc[0].equals(on_the_rim)

    def test_elsewhere_is_an_empty_table(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [shapely.box(0, 0, 4, 4)], label=["tree"])
        found = on_raster(read_annotations(path), GRID)
        assert len(found) == 0
        crowns.validate(found)

    def test_the_crs_asked_for_wins(self, tmp_path):
        path = save(tmp_path / "a.gpkg", [SQUARE], crs=pyproj.CRS(32632))
        assert len(on_raster(read_annotations(path, TruthOptions(crs="EPSG:32633")), GRID)) == 1
        with pytest.raises(ConfigError, match="names no CRS"):
            read_annotations(path, TruthOptions(crs="UTM33"))

    def test_no_prj(self, tmp_path, caplog):
        path = save(tmp_path / "a.shp", [SQUARE], crs=None)
        with caplog.at_level(logging.INFO, logger="treedet"):
            assert len(on_raster(read_annotations(path), GRID)) == 1
        assert "no CRS" in caplog.text

    def test_no_prj_and_elsewhere(self, tmp_path):
        path = save(tmp_path / "a.shp", [shapely.box(10, 50, 10.1, 50.1)], crs=None)
        with pytest.raises(CrsMismatchError, match=r"\.prj.*--crs"):
            on_raster(read_annotations(path), GRID)

    def local_grid(self, name):
        crs = pyproj.CRS.from_wkt(LOCAL.format(name))
        return Grid.build(crs, GRID.transform, width=1000, height=800)

    def test_a_local_crs_is_taken_over_where_names_and_place_agree(self, tmp_path, caplog):
        found = read_annotations(save(tmp_path / "a.gpkg", [SQUARE]))
        grid = self.local_grid("WGS 84 / UTM zone 33N")
        with caplog.at_level(logging.INFO, logger="treedet"):
            table = on_raster(found, grid)
        assert table.geometry.iloc[0].equals(SQUARE)
        assert table.crs == grid.crs
        assert "no transformation" in caplog.text

    def test_a_local_crs_of_another_name_or_place(self, tmp_path):
        here = read_annotations(save(tmp_path / "a.gpkg", [SQUARE]))
        with pytest.raises(CrsMismatchError, match=r"Quarry.*--crs"):
            on_raster(here, self.local_grid("Quarry"))
        there = read_annotations(save(tmp_path / "b.gpkg", [shapely.box(0, 0, 4, 4)]))
        with pytest.raises(CrsMismatchError, match=r"do not fall on the raster.*--crs"):
            on_raster(there, self.local_grid("WGS 84 / UTM zone 33N"))


class TestEditedPredictions:
    SCHEMA = LabelSchema(attributes={"status": ("alive", "dead")})

    def predicted(self, path, schema=None):
        schema = schema or self.SCHEMA
        arrays = CrownArrays(
            boxes=BOXES[:5],
            scores=np.linspace(0.3, 0.9, 5, dtype=np.float32),
            classes=np.zeros(5, np.int64),
            cut=np.arange(5) == 1,
            edge=np.ones(5, bool),
            attributes={"status": np.tile(np.array([[0.8, 0.2]], np.float32), (5, 1))},
        )
        write_crowns(crowns.to_table(arrays, GRID, schema, source="flights/a.tif"), path)
        return path

    def edited(self, path):
        """As QGIS leaves it: one deleted, one moved and wider with stale areas, one drawn by hand."""
        table = pyogrio.read_dataframe(path, layer="crowns")
        table.loc[1, "geometry"] = GRID.to_map(BOXES[1:2] * [1, 1, 1, 1] + [0, 0, 40, 0])[0]
        drawn = gpd.GeoDataFrame(geometry=[GRID.to_map(BOXES[7:8])[0]], crs=UTM)
        table = pd.concat([table.drop(index=0), drawn], ignore_index=True)
        pyogrio.write_dataframe(table, path, layer="crowns", append=False)

    def test_attributes_a_model_said_are_noticed(self, tmp_path):
        def noticed(path):
            return any("'status' is what a model said" in notice for notice in read_annotations(path).notices)

        assert noticed(self.predicted(tmp_path / "a.gpkg"))
        table = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="crowns")
        pyogrio.write_dataframe(table.drop(columns="status_p"), tmp_path / "b.gpkg", layer="crowns")
        assert not noticed(tmp_path / "b.gpkg")

    @pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson", ".parquet", ".fgb"])
    def test_a_file_as_predicted(self, tmp_path, suffix):
        found = on_raster(read_annotations(self.predicted(tmp_path / f"a{suffix}")), GRID)
        crowns.validate(found, self.SCHEMA)
        assert (found["score"] == 1).all()
        assert (found["status_p"] == 1).all()
        assert found["status"].cat.categories[0] == "alive"

    def test_a_file_as_predicted_without_pixels_in_csv(self, tmp_path):
        found = on_raster(read_annotations(self.predicted(tmp_path / "a.csv")), GRID)
        assert len(found) == 5

    def test_edits_are_taken_and_areas_counted_anew(self, tmp_path):
        path = self.predicted(tmp_path / "a.gpkg")
        self.edited(path)
        found = on_raster(read_annotations(path), GRID)
        crowns.validate(found, self.SCHEMA)
        assert len(found) == 5
        assert found["label"].tolist() == ["tree"] * 5
        width = (BOXES[1, 2] - BOXES[1, 0] + 40) * GRID.gsd
        height = (BOXES[1, 3] - BOXES[1, 1]) * GRID.gsd
        assert found["area_m2"].iloc[0] == pytest.approx(width * height, rel=1e-4)
        assert found["status"].isna().tolist() == [False] * 4 + [True]
        assert found["crown_id"].tolist() == [2, 3, 4, 5, 6]
        assert not found["cut"].any()

    def test_a_drawn_crown_of_a_file_with_several_classes(self, tmp_path):
        schema = LabelSchema(("tree", "bird"), {"status": ("alive", "dead")})
        path = self.predicted(tmp_path / "a.parquet", schema)
        table = gpd.read_parquet(path)
        table.loc[:, "label"] = ["bird", None, "tree", "tree", "tree"]
        table.to_parquet(path)
        with pytest.raises(CrownsError, match=r"row 2.*bird, tree"):
            read_annotations(path)


def test_twenty_thousand_crowns_keep_their_order(tmp_path):
    n = 20_000
    low = np.random.default_rng(0).uniform(0, 3000, (n, 2)) + np.array([500_000, 5_190_000])
    shapes = shapely.box(*np.hstack([low, low + 4]).T)
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(tmp_path / "a.gpkg")
    wide = Grid.build(UTM, Affine(0.5, 0, 500_000, 0, -0.5, 5_194_000), width=8000, height=8000)
    found = on_raster(read_annotations(tmp_path / "a.gpkg"), wide)
    np.testing.assert_array_equal(found.geometry.bounds.to_numpy()[:, :2], low)
    assert found.index.tolist() == list(range(1, n + 1))
