"""A forester's table of stems: where each stands, how large it is, and what was noted of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.errors import ConfigError, CrownsError, CrsMismatchError, DegenerateCrownError, MissingColumnError
from treedet.vectors.box_rows import DEFAULT_LABEL
from treedet.vectors.csv_boxes import numbers, text_table
from treedet.vectors.field_options import FieldOptions
from treedet.vectors.geojson import WGS84
from treedet.vectors.layers import existing
from treedet.vectors.truth import TruthOptions
from treedet.vectors.truth_columns import (
    CLASS_NAMES,
    DIAMETER_NAMES,
    absent,
    check_attributes,
    texts,
    what_columns_say,
)
from treedet.vectors.truth_rows import Rows, listed

Floats = npt.NDArray[np.float64]

ROLES: Mapping[str, tuple[str, ...]] = {
    "plot": ("plot", "plot_id", "plotid", "plot_no", "plot_name"),
    "tree": ("tree_id", "treeid", "tree", "tree_no", "stem", "stem_id", "stemid", "individualid", "tag", "id"),
    "x": ("x", "easting", "utm_x", "x_utm", "x_coord"),
    "y": ("y", "northing", "utm_y", "y_utm", "y_coord"),
    "lon": ("lon", "longitude", "long", "lng"),
    "lat": ("lat", "latitude"),
    "plot_x": ("plot_x", "plotx", "center_x", "centre_x", "plot_easting"),
    "plot_y": ("plot_y", "ploty", "center_y", "centre_y", "plot_northing"),
    "azimuth": ("azimuth", "az", "azimuth_deg", "stemazimuth", "bearing"),
    "distance": ("distance", "dist", "distance_m", "dist_m", "stemdistance"),
    "dbh": ("dbh", "dbh_cm", "stemdiameter", "dbh_mm", "dbh_in"),
    "height": ("height", "ht", "height_m", "ht_m", "tree_height", "stemheight"),
}
"""Common names of columns, in lower case, by what they hold; the first that is there is taken."""
NO_ATTRIBUTES = ("label", "diameter")
"""Keys that mean something for annotated crowns and nothing for stems."""
CONSTANT = "\0label"
"""Column that stands for the class, which stems have none of."""


@dataclass(frozen=True, eq=False)
class FieldTable:
    """Stems, one per row of the file.

    Attributes:
        path: The file, as given.
        rows: All columns as text, as they are in the file.
        names: Object ``[N]``: what each stem is called, its row where it has no name.
        plots: Object ``[N]``: name of its plot; all the same where there are none.
        xy: Float64 ``[N, 2]``: the stem, or the centre it was measured from, in ``crs``; NaN where nothing is said.
        crs: CRS of ``xy``; None where neither file nor crowns have one.
        offset_m: Float64 ``[N, 2]``: metres to the east and to the north from there to the stem.
        sizes: Float64 ``[N]``; NaN where unknown.
        attributes: Object ``[N]`` of class names by attribute; None where unknown.
        notices: What was recognised and assumed.
    """

    path: str
    rows: pd.DataFrame
    names: npt.NDArray[np.object_]
    plots: npt.NDArray[np.object_]
    xy: Floats
    crs: pyproj.CRS | None
    offset_m: Floats
    sizes: Floats
    attributes: Mapping[str, npt.NDArray[np.object_]]
    notices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_field(
    path: str | os.PathLike[str], options: FieldOptions | None = None, *, crs: pyproj.CRS | None = None
) -> FieldTable:
    """Read a table of stems from a CSV.

    Stems stand at ``x`` and ``y``, at ``lon`` and ``lat``, or at an azimuth (degrees clockwise from north) and a
    distance (metres) from the centre of their plot, which is in the same row (``plot_x``, ``plot_y``) or in a table
    of plots. Where both are there, azimuth and distance from a known centre win.

    Args:
        path: Columns apart by commas, semicolons or tabs, their names in the first line.
        options: Names of columns, values, CRS, and the table of plots.
        crs: That of the crowns.

    Raises:
        CrownsError: The table is empty, a plot has no centre, or a value has no class.
        MissingColumnError: A column asked for, or all coordinates, are absent.
        DegenerateCrownError: A number is none, or out of its range.
        CrsMismatchError: Longitude and latitude, while the crowns have no CRS.
        ConfigError: An option makes no sense.
    """
    options = options or FieldOptions()
    _check_names(options)
    file = existing(Path(path))
    table = text_table(file)
    if not len(table):
        raise CrownsError(f"{path} holds no stem; give the table with one row per stem")
    known = TruthOptions(crs=options.crs).known_crs or crs
    found = _roles(table, options.columns, file)
    notices: list[str] = []
    xy, offset, known = _places(table, found, options, file, crs=known, notices=notices)
    if known is not None and crs is None:
        raise CrsMismatchError(
            f"{path}: stems are in {known.name!r} and the crowns have no CRS; give crowns with a CRS, or stems in "
            "the coordinates of the crowns as x and y"
        )
    sizes = np.full(len(table), np.nan)
    for role in ("height", "dbh"):
        if role in found:
            # Read even where it is not used: what is no number shows that the column is another.
            values = numbers(table[found[role]], file)
            sizes = values if np.isfinite(values).any() else sizes
    count = [str(number) for number in range(1, len(table) + 1)]
    names = texts(table[found["tree"]], missing=("",)) if "tree" in found else np.full(len(table), None, object)
    names = np.where(pd.isna(names), np.array([f"row {n}" for n in count], object), names)
    plots = np.full(len(table), "", dtype=object)
    if "plot" in found:
        plots = table[found["plot"]].str.strip().to_numpy(object)
    attributes = _attributes(table, found, options, str(path), notices)
    return FieldTable(str(path), table, names, plots, xy, known, offset, sizes, attributes, tuple(notices))


def _check_names(options: FieldOptions) -> None:
    """Refuse names that no attribute of a stem may have."""
    asked = [name for name in options.columns if name not in ROLES]
    for name in (*asked, *options.values):
        if name in (*NO_ATTRIBUTES, *ROLES):
            raise ConfigError(
                f"columns: {name!r} can not be an attribute of a stem; accepted are {', '.join(ROLES)} as columns, "
                "and as attributes plain words such as species that are no column of the crowns table"
            )
    check_attributes([*asked, *options.values])


def _roles(table: pd.DataFrame, columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the column of each role that the table has."""
    lower = {str(name).lower(): str(name) for name in reversed(table.columns)}
    asked = {role: name for role, name in columns.items() if role in ROLES}
    for role, name in asked.items():
        if name not in table.columns:
            raise absent(name, role, table, str(path))
    taken = set(columns.values())
    found = dict(asked)
    for role, names in ROLES.items():
        theirs = next((lower[name] for name in names if name in lower and lower[name] not in taken), None)
        if role not in found and theirs is not None:
            found[role] = theirs
    return found


def _places(
    table: pd.DataFrame,
    found: Mapping[str, str],
    options: FieldOptions,
    path: Path,
    *,
    crs: pyproj.CRS | None,
    notices: list[str],
) -> tuple[Floats, Floats, pyproj.CRS | None]:
    """Return where stems or the centres of their plots are, offsets in metres, and the CRS."""
    nothing = np.zeros((len(table), 2))
    polar = {"azimuth", "distance"} <= set(found)
    centred = options.plots is not None or {"plot_x", "plot_y"} <= set(found)
    if options.plots is not None and not polar:
        raise MissingColumnError(
            f"{path} has no azimuth and distance, which --plots needs; it has {list(table.columns)}: name them with "
            "--columns.azimuth and --columns.distance, or leave --plots out"
        )
    if polar and centred:
        offset = _offsets(table, found, path)
        if options.plots is not None:
            xy, crs = _of_plots(table, found, Path(options.plots), path, crs=crs)
        else:
            xy = _pair(table, found, ("plot_x", "plot_y"), path)
        notices.append(f"{path}: stems stand where {found['azimuth']!r} and {found['distance']!r} say")
        return xy, offset, crs
    if {"x", "y"} <= set(found):
        return _pair(table, found, ("x", "y"), path), nothing, crs
    if {"lon", "lat"} <= set(found):
        return _lonlat(table, found, path), nothing, WGS84
    if polar:
        raise MissingColumnError(
            f"{path} tells azimuth and distance, and no centre of a plot; give plot_x and plot_y in it "
            "(--columns.plot_x E --columns.plot_y N), or a table of centres with --plots plots.csv"
        )
    raise MissingColumnError(
        f"{path} does not tell where stems are; it has {list(table.columns)}, accepted are x and y, lon and lat, or "
        "azimuth and distance from a plot: name them with --columns.x E --columns.y N (or .lon, .azimuth ...)"
    )


def _pair(table: pd.DataFrame, found: Mapping[str, str], names: tuple[str, str], path: Path) -> Floats:
    return np.column_stack([numbers(table[found[name]], path) for name in names])


def _lonlat(table: pd.DataFrame, found: Mapping[str, str], path: Path) -> Floats:
    xy = _pair(table, found, ("lon", "lat"), path)
    wrong = (np.abs(xy) > [360, 90]).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"{path}, line {row + 2}: longitude {xy[row, 0]:g} and latitude {xy[row, 1]:g} are on no map; are they "
            "swapped, or metres? Name columns with --columns.lon, --columns.lat, --columns.x, --columns.y"
        )
    return xy


def _offsets(table: pd.DataFrame, found: Mapping[str, str], path: Path) -> Floats:
    """Return metres to the east and to the north, float64 ``[N, 2]``."""
    azimuth, distance = (numbers(table[found[name]], path) for name in ("azimuth", "distance"))
    for values, wrong, what in (
        (azimuth, (azimuth < 0) | (azimuth > 360), "an azimuth from 0 to 360 degrees, clockwise from north"),
        (distance, distance < 0, "a distance in metres that is not negative"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            name = found["azimuth" if values is azimuth else "distance"]
            raise DegenerateCrownError(
                f"{path}, line {row + 2}: {name} is {values[row]:g}, accepted is {what} ({wrong.sum()} such rows); "
                f"correct it, or name another column with --columns.{'azimuth' if values is azimuth else 'distance'}"
            )
    # At the centre itself no azimuth is needed.
    angle = np.radians(np.where(distance == 0, 0.0, azimuth))
    return np.column_stack([distance * np.sin(angle), distance * np.cos(angle)])


def _of_plots(
    table: pd.DataFrame, found: Mapping[str, str], plots: Path, path: Path, *, crs: pyproj.CRS | None
) -> tuple[Floats, pyproj.CRS | None]:
    """Return the centre of the plot of each stem, float64 ``[N, 2]``, and the CRS."""
    centres = text_table(existing(plots))
    theirs = _roles(centres, {}, plots)
    theirs |= {"xy"[i]: theirs[name] for i, name in enumerate(("plot_x", "plot_y")) if name in theirs}
    if "plot" not in found or "plot" not in theirs:
        lacking = path if "plot" not in found else plots
        raise MissingColumnError(f"{lacking} has no column of plots; call it plot, or name it with --columns.plot")
    if {"x", "y"} <= set(theirs):
        xy = _pair(centres, theirs, ("x", "y"), plots)
    elif {"lon", "lat"} <= set(theirs):
        xy, crs = _lonlat(centres, theirs, plots), WGS84
    else:
        raise MissingColumnError(
            f"{plots} tells no centres; it has {list(centres.columns)}, accepted are plot with x and y, or lon and "
            "lat"
        )
    names = centres[theirs["plot"]].str.strip()
    if names.duplicated().any():
        raise CrownsError(f"{plots} has plot {names[names.duplicated()].iloc[0]!r} twice; keep one centre of each")
    place = pd.Index(names).get_indexer(pd.Index(table[found["plot"]].str.strip()))
    lost = (place < 0) | ~np.isfinite(xy[place]).all(axis=1)
    if lost.any():
        name = table[found["plot"]][lost].iloc[0]
        rows = listed((np.flatnonzero(lost) + 1).tolist())
        raise CrownsError(
            f"{path}: plot {name!r} has no centre in {plots} ({rows}); add it there, or leave its stems out"
        )
    return xy[place], crs


def _attributes(
    table: pd.DataFrame, found: Mapping[str, str], options: FieldOptions, path: str, notices: list[str]
) -> Mapping[str, npt.NDArray[np.object_]]:
    """Return what was noted of stems, read as the columns of annotations are."""
    asked = {name: theirs for name, theirs in options.columns.items() if name not in ROLES}
    values = TruthOptions(values=options.values).values
    used = {*found.values()} | {n for n in table.columns if n.lower() in (*CLASS_NAMES, *DIAMETER_NAMES)}
    rest = table.drop(columns=[name for name in used if name not in asked.values()])
    rest[CONSTANT] = DEFAULT_LABEL
    rest.index = pd.RangeIndex(1, len(rest) + 1)
    rows = Rows(path, rest, np.full(len(rest), shapely.Point(), dtype=object))
    said = what_columns_say(rows, {**asked, "label": CONSTANT}, values, drop=options.drop)
    notices.extend(said.notices)
    empty = [name for name, words in said.attributes.items() if pd.isna(words).all()]
    notices.extend(f"{path}: {name} is known of no stem" for name in empty)
    if not said.attributes:
        notices.append(f"{path}: no attribute was found; name one, such as --columns.species SP_CODE")
    return said.attributes
