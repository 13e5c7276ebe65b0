import sqlite3
import xml.etree.ElementTree as ET

import pyproj
import pytest

from treedet.core import crowns
from treedet.core.labels import LabelSchema
from treedet.core.palette import NO_VALUE, class_colours
from treedet.errors import ConfigError
from treedet.vectors import qgis_style
from treedet.vectors.writers import WriteOptions, open_writer

ATTRIBUTES = {"species": ("PISY", "Pin & <Spruce>"), "status": ("alive", "dead")}


def parsed(**kwargs):
    return ET.fromstring(qgis_style.layer_style(("tree",), **{"attributes": ATTRIBUTES, **kwargs}))


@pytest.mark.parametrize(
    ("attributes", "column", "values"),
    [
        (ATTRIBUTES, "status", ["alive", "dead", ""]),
        ({"species": ("PISY", "PIAB")}, "species", ["PISY", "PIAB", ""]),
        ({"vigour": ("low", "high")}, "vigour", ["low", "high", ""]),
        ({"status": (), "vigour": ("low", "high")}, "vigour", ["low", "high", ""]),
        ({}, "label", ["tree", ""]),
    ],
)
def test_coloured_by_status_then_species_then_another_then_label(attributes, column, values):
    renderer = parsed(attributes=attributes).find("renderer-v2")
    assert renderer.get("type") == "categorizedSymbol"
    assert renderer.get("attr") == column
    categories = renderer.findall("categories/category")
    assert [c.get("value") for c in categories] == values
    assert {c.get("symbol") for c in categories} == {s.get("name") for s in renderer.findall("symbols/symbol")}


@pytest.mark.parametrize("wanted", ["species", "label"])
def test_coloured_by_what_is_wanted(wanted):
    assert parsed(colour_by=wanted).find("renderer-v2").get("attr") == wanted


def test_a_column_that_is_not_there_can_not_colour():
    with pytest.raises(ConfigError, match="can not be coloured by 'genus'; accepted are species, status, label"):
        parsed(colour_by="genus")


@pytest.mark.parametrize(("wanted", "called"), [("status", "no value, or another"), ("label", "other")])
def test_crowns_without_a_value_are_grey(wanted, called):
    renderer = parsed(colour_by=wanted).find("renderer-v2")
    last = renderer.findall("categories/category")[-1]
    assert (last.get("value"), last.get("label")) == ("", called)
    symbol = next(s for s in renderer.findall("symbols/symbol") if s.get("name") == last.get("symbol"))
    settings = {o.get("name"): o.get("value") for o in symbol.iter("Option") if o.get("name")}
    assert settings["outline_color"] == ",".join(str(int(NO_VALUE[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"


def test_crowns_are_outlines_in_the_colours_of_their_classes():
    symbols = parsed().findall("renderer-v2/symbols/symbol")
    settings = [{o.get("name"): o.get("value") for o in s.iter("Option") if o.get("name")} for s in symbols]
    assert all(s.get("type") == "fill" for s in symbols)
    assert all(s["style"] == "no" for s in settings)
    assert all(0.2 <= float(s["outline_width"]) <= 1 for s in settings)
    red, green, blue = (int(class_colours(["alive", "dead"])["alive"][i : i + 2], 16) for i in (1, 3, 5))
    assert settings[0]["outline_color"] == f"{red},{green},{blue},255"


def test_points_get_markers():
    assert {s.get("type") for s in parsed(points=True).iter("symbol")} == {"marker"}


def test_label_and_attributes_have_drop_downs():
    fields = {f.get("name"): f for f in parsed().findall("fieldConfiguration/field")}
    assert list(fields) == ["label", "species", "status"]
    choices = {
        name: [o.get("value") for o in field.iter("Option") if o.get("type") == "QString"]
        for name, field in fields.items()
    }
    assert {f.find("editWidget").get("type") for f in fields.values()} == {"ValueMap"}
    assert choices["label"] == ["tree"]
    assert choices["species"] == ["PISY", "Pin & <Spruce>", qgis_style.QGIS_NULL]


def test_a_geopackage_is_coloured_by_what_is_wanted(tmp_path):
    schema = LabelSchema(attributes=ATTRIBUTES)
    options = WriteOptions(colour_by="species")
    with open_writer(tmp_path / "a.gpkg", schema=schema, crs=None, raster_size=(9, 9), options=options) as writer:
        writer.finish()
    with sqlite3.connect(tmp_path / "a.gpkg") as connection:
        [(qml,)] = connection.execute("SELECT styleQML FROM layer_styles").fetchall()
    assert ET.fromstring(qml).find("renderer-v2").get("attr") == "species"


@pytest.mark.parametrize("shape", ["box", "point"])
def test_a_geopackage_opens_with_the_style(tmp_path, shape):
    schema = LabelSchema(attributes={"status": ("alive", "dead")})
    crs = pyproj.CRS(32633)
    options = WriteOptions(shape=shape)
    with open_writer(tmp_path / "a.gpkg", schema=schema, crs=crs, raster_size=(9, 9), options=options) as writer:
        writer.append(crowns.empty(schema, crs), None)
        writer.finish()
    with sqlite3.connect(tmp_path / "a.gpkg") as connection:
        layer, column = connection.execute("SELECT table_name, column_name FROM gpkg_geometry_columns").fetchone()
        rows = connection.execute(
            "SELECT styleQML, useAsDefault, f_table_catalog, f_table_schema FROM layer_styles "
            "WHERE f_table_name = ? AND f_geometry_column = ?",
            (layer, column),
        ).fetchall()
        kind = connection.execute("SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'").fetchone()
    [(qml, default, catalog, owner)] = rows
    assert (default, catalog, owner, kind) == (1, "", "", ("attributes",))
    assert {s.get("type") for s in ET.fromstring(qml).iter("symbol")} == {"marker" if shape == "point" else "fill"}


def test_colours_are_all_different_and_stay_the_same():
    names = [f"species {i}" for i in range(40)] + ["dead", "alive"]
    colours = class_colours(names)
    assert list(colours) == names
    assert len(set(colours.values())) == 42
    assert colours == class_colours(names)
    assert class_colours(["dead"])["dead"] == class_colours(["x", "dead"])["dead"] == colours["dead"]
