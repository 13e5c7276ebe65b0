"""A layer style for QGIS, stored in the GeoPackage so that it is applied on opening.

Crowns are outlines without fill, coloured by an attribute or the label; label and attributes get drop-down lists
for editing. The table and the QML follow what QGIS 3 itself saves with "Save as default" into the data source.
"""

from __future__ import annotations

import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from treedet.core.palette import NO_VALUE, class_colours, coloured_by

OUTLINE_MM = "0.4"
QGIS_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
"""How a value map of QGIS spells NULL."""

_TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""
_REGISTER = """
INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, description)
VALUES ('layer_styles', 'attributes', 'layer_styles', '')
"""
_INSERT = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
                          styleSLD, useAsDefault, description, owner)
VALUES ('', '', ?, ?, ?, ?, '', 1, '', '')
"""


def store(path: Path, qml: str, *, layer: str, geometry_column: str) -> None:
    """Store a style in a GeoPackage as the default of a layer.

    Args:
        path: The GeoPackage; the layer has no style yet, others may.
        qml: The style.
        layer: Name of the layer it belongs to, and of the style.
        geometry_column: Name of the layer's geometry column.

    Raises:
        sqlite3.Error: The file can not be written.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_TABLE)
        connection.execute(_REGISTER)
        connection.execute(_INSERT, (layer, geometry_column, layer, qml))


@dataclass(frozen=True)
class Outline:
    """How the crowns of a class are drawn.

    Attributes:
        colour: ``#rrggbb``.
        style: ``solid``, ``dash`` or ``dot``, as QGIS calls them.
        width_mm: Of the line.
    """

    colour: str
    style: str = "solid"
    width_mm: str = OUTLINE_MM


def outline_style(column: str, outlines: Mapping[str, Outline], *, points: bool = False) -> str:
    """Return the QML of a layer whose outlines show the values of a column.

    Args:
        column: Name of the column.
        outlines: By value, in the order of the legend.
        points: The layer holds points, not polygons.
    """
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    _renderer(root, column, outlines, points=points)
    return _document(root)


def layer_style(
    classes: tuple[str, ...],
    attributes: Mapping[str, tuple[str, ...]],
    *,
    points: bool = False,
    colour_by: str | None = None,
) -> str:
    """Return the QML of a crowns layer.

    Args:
        classes: Names that the label can have.
        attributes: Names that each attribute can have.
        points: The layer holds points, not polygons.
        colour_by: Column that colours the crowns; see :func:`treedet.core.palette.coloured_by`.

    Raises:
        ConfigError: There is no such column.
    """
    column = coloured_by([name for name, values in attributes.items() if values], colour_by)
    names = attributes.get(column, classes)
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    outlines = {name: Outline(colour) for name, colour in class_colours(names).items()}
    # QGIS has one category for NULL and for values it does not know.
    rest = "other" if column == "label" else "no value, or another"
    _renderer(root, column, outlines, points=points, rest=rest)
    fields = ET.SubElement(root, "fieldConfiguration")
    _drop_down(fields, "label", classes, nullable=False)
    for name, values in attributes.items():
        _drop_down(fields, name, values, nullable=True)
    return _document(root)


def _document(root: ET.Element) -> str:
    ET.indent(root, " ")
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + ET.tostring(root, encoding="unicode")


def _renderer(
    root: ET.Element, column: str, outlines: Mapping[str, Outline], *, points: bool, rest: str = "other"
) -> None:
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol",
        attr=column,
        enableorderby="0",
        symbollevels="0",
        forceraster="0",
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    # QGIS takes the category with an empty value for everything that has none of its own, NULL included.
    entries = [*((name, name, outline) for name, outline in outlines.items()), ("", rest, Outline(NO_VALUE))]
    for i, (value, label, outline) in enumerate(entries):
        ET.SubElement(categories, "category", render="true", symbol=str(i), value=value, label=label, type="string")
        _symbol(symbols, str(i), outline, points=points)


def _symbol(symbols: ET.Element, name: str, outline: Outline, *, points: bool) -> None:
    rgba = ",".join(str(int(outline.colour[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"
    settings = {
        "outline_color": rgba,
        "outline_style": outline.style,
        "outline_width": outline.width_mm,
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    if points:
        settings |= {"name": "circle", "size": "2", "size_unit": "MM", "color": "0,0,0,0"}
    else:
        settings |= {"style": "no", "color": "0,0,0,0"}
    symbol = ET.SubElement(
        symbols,
        "symbol",
        type="marker" if points else "fill",
        name=name,
        alpha="1",
        clip_to_extent="1",
        force_rhr="0",
    )
    kind = "SimpleMarker" if points else "SimpleFill"
    layer = ET.SubElement(symbol, "layer", {"class": kind, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in settings.items():
        ET.SubElement(options, "Option", type="QString", name=key, value=value)
    # QGIS before 3.20 reads these instead.
    for key, value in settings.items():
        ET.SubElement(layer, "prop", k=key, v=value)


def _drop_down(fields: ET.Element, name: str, values: tuple[str, ...], *, nullable: bool) -> None:
    field = ET.SubElement(fields, "field", name=name, configurationFlags="None")
    widget = ET.SubElement(field, "editWidget", type="ValueMap")
    config = ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
    choices = ET.SubElement(config, "Option", type="List", name="map")
    entries = [(value, value) for value in values] + ([("<NULL>", QGIS_NULL)] if nullable else [])
    for label, value in entries:
        choice = ET.SubElement(choices, "Option", type="Map")
        ET.SubElement(choice, "Option", type="QString", name=label, value=value)
