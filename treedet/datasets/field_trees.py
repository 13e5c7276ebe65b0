"""A forester's table of stems brought to mapped crowns: each crown learns what was noted of its tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy.spatial import cKDTree

from treedet.core.crowns import DTYPES
from treedet.datasets.field_crowns import Ground, mapped_crowns
from treedet.errors import CrownsError, CrsMismatchError
from treedet.metrics.plot_shift import PlotShift, find_shift
from treedet.metrics.stem_matching import (
    AMBIGUOUS,
    FATES,
    MATCHED,
    REACH_M,
    UNMATCHED,
    StemMatching,
    match_stems,
)
from treedet.vectors.columns import Layout
from treedet.vectors.crs import bring_to
from treedet.vectors.field_options import FieldOptions
from treedet.vectors.field_table import FieldTable, read_field

logger = logging.getLogger("treedet")

Floats = npt.NDArray[np.float64]
NO_PLACE = "no coordinates"


@dataclass(frozen=True, eq=False)
class FieldScene:
    """What was matched, in metres on the ground, for pictures.

    Attributes:
        boxes: Float64 ``[M, 4]``, the crowns.
        stems: Float64 ``[N, 2]``, the stems after the shift of their plot; NaN where they are nowhere.
        crown: Int64 ``[N]``, position of the crown of a matched stem, best crown of an ambiguous one, else -1.
        fate: Object ``[N]``: matched, ambiguous or unmatched.
        reason: Object ``[N]`` of text: why a stem is not matched.
        plot: Int64 ``[N]``, row of each stem's plot in the table of plots.
    """

    boxes: Floats
    stems: Floats
    crown: npt.NDArray[np.int64]
    fate: npt.NDArray[np.object_]
    reason: npt.NDArray[np.object_]
    plot: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FieldMatch:
    """Stems of the field and crowns of the map, brought together.

    Attributes:
        crowns: All crowns, with columns ``x`` and ``x_p`` (1 where known, else null) of each attribute ``x``.
        records: One row per row of the field table, as it was, with its ``fate`` (matched, ambiguous or unmatched),
            ``reason``, ``crown_id``, ``distance_m``, and its place after the shift in the crowns' CRS, ``shifted_x``
            and ``shifted_y``.
        plots: One row per plot: stems by fate, its shift to the east and the north, and the agreement of stems and
            crowns (0 to 1) before and after, or why it was not shifted.
        attributes: Names of classes by attribute.
        scene: The same in metres.
    """

    crowns: gpd.GeoDataFrame
    records: pd.DataFrame
    plots: pd.DataFrame
    attributes: Mapping[str, tuple[str, ...]]
    scene: FieldScene

    def lines(self) -> list[str]:
        """Return the result in a few lines: stems by fate, by reason, and the shifts of plots."""
        fates = self.plots[list(FATES)].sum()
        said = ", ".join(f"{fates[fate]} {fate}" for fate in FATES)
        lines = [f"stems       {len(self.records)}: {said}"]
        groups = _group(pd.Series(self.scene.reason, dtype="str"))
        lines += [f"  {count:>8}  {reason}" for reason, count in groups.value_counts().items() if reason]
        moved = self.plots[self.plots["reason"] == ""]
        if len(moved):
            metres = np.hypot(*moved[["shift_x_m", "shift_y_m"]].to_numpy().T)
            lines.append(
                f"shifts      {len(moved)} of {len(self.plots)} plots moved, by {np.median(metres):.1f} m (median), "
                f"at most {metres.max():.1f} m"
            )
        lines += [
            f"  {count:>8}  plots not moved: {reason}"
            for reason, count in self.plots["reason"].value_counts().items()
            if reason
        ]
        for name in self.attributes:
            known = self.crowns[name].value_counts()
            lines.append(
                f"{name:<11} {int(known.sum())} crowns: " + ", ".join(f"{n} {c}" for c, n in known.items() if n)
            )
        return lines


def _group(reasons: pd.Series[str]) -> pd.Series[str]:
    """Return reasons without the names of trees and crowns."""
    return reasons.str.replace(r"^(overtopped by|not told from) .*", r"\1 another tree", regex=True).str.replace(
        r"^crowns .* fit about as well$", "two crowns fit about as well", regex=True
    )


def match_field(
    crowns: str | os.PathLike[str] | gpd.GeoDataFrame,
    field: str | os.PathLike[str],
    options: FieldOptions | None = None,
) -> FieldMatch:
    """Join the stems of a field table to mapped crowns, one to one.

    Plots are moved first, each as one, where that clearly makes stems and crowns agree
    (:func:`treedet.metrics.plot_shift.find_shift`). Then the larger trees choose their crowns before the smaller ones
    (:func:`treedet.metrics.stem_matching.match_stems`); only matched stems say anything about a crown.

    Args:
        crowns: A file of crowns on a map, or a table in memory.
        field: CSV with one row per stem; see :func:`treedet.vectors.field_table.read_field`.
        options: Columns, values, CRS, plots and distances.

    Returns:
        The crowns with their attributes, every record with its fate, and the plots with their shifts.

    Raises:
        CrownsError: A file can not be used.
        CrsMismatchError: No stem is within reach of a crown, or nothing leads from CRS to CRS.
        ConfigError: An option makes no sense.
    """
    options = options or FieldOptions()
    table = mapped_crowns(crowns)
    stems = read_field(field, options, crs=table.crs)
    ground = Ground.around(table)
    boxes = ground.boxes(table)
    said = _placed(stems, ground)
    codes, names = pd.factorize(stems.plots, sort=True)
    _check_reach(said, boxes, stems, options)
    shifts = _shifts(said, boxes, codes, len(names), sizes=stems.sizes, options=options)
    places = said + np.array([[shift.dx, shift.dy] for shift in shifts])[codes]
    found = match_stems(places, boxes, sizes=stems.sizes, max_distance=options.max_distance)
    for notice in stems.notices:
        logger.info("%s", notice)
    reasons = _reasons(found, stems, table, places, options)
    records = _records(stems, found, reasons, table, ground.to_crs(places))
    return FieldMatch(
        _labelled(table, stems, found),
        records,
        _plots(names, codes, found, shifts),
        {name: _classes(words) for name, words in stems.attributes.items()},
        FieldScene(boxes, places, found.crown, found.fate, reasons, codes),
    )


def _placed(stems: FieldTable, ground: Ground) -> Floats:
    """Return where stems are said to be, float64 ``[N, 2]`` in metres."""
    known = np.isfinite(stems.xy).all(axis=1)
    xy = np.full(stems.xy.shape, np.nan)
    if known.any():
        points = bring_to(
            np.asarray(shapely.points(stems.xy[known]), dtype=object),
            stems.crs,
            ground.crs,
            where=stems.path,
            other="the crowns",
        )
        xy[known] = shapely.get_coordinates(points)
    return ground.to_metres(xy) + stems.offset_m


def _check_reach(said: Floats, boxes: Floats, stems: FieldTable, options: FieldOptions) -> None:
    """Raise an error if no stem can have a crown, wherever its plot is moved."""
    somewhere = np.isfinite(said).all(axis=1)
    if not somewhere.any():
        raise CrownsError(
            f"{stems.path}: no stem of {len(stems)} has coordinates that can be placed on the map of crowns; check "
            "its columns, and its CRS (--crs EPSG:...)"
        )
    near = (boxes[:, 2:] - boxes[:, :2]).mean(axis=1).max() / 2 + REACH_M
    reach = options.max_shift + (near if options.max_distance is None else options.max_distance)
    distance = float(cKDTree((boxes[:, :2] + boxes[:, 2:]) / 2).query(said[somewhere])[0].min())
    if distance > reach:
        words = f"{distance:.1f} m" if distance < 1e4 else f"{distance / 1e3:.0f} km"
        raise CrsMismatchError(
            f"{stems.path}: no stem is within reach of a crown, the nearest is {words} from one; state the CRS of "
            "the table with --crs EPSG:..., or are x and y swapped (--columns.x NORTHING --columns.y EASTING)?"
        )


def _shifts(
    said: Floats, boxes: Floats, codes: npt.NDArray[np.int64], count: int, *, sizes: Floats, options: FieldOptions
) -> list[PlotShift]:
    tree = cKDTree((boxes[:, :2] + boxes[:, 2:]) / 2)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=count))[:-1])
    return [find_shift(said[mine], boxes, tree=tree, max_shift=options.max_shift, sizes=sizes[mine]) for mine in rows]


def _reasons(
    found: StemMatching, stems: FieldTable, table: gpd.GeoDataFrame, places: Floats, options: FieldOptions
) -> npt.NDArray[np.object_]:
    """Return why a stem has no crown, object ``[N]`` of text; empty for matched ones."""
    ids = table["crown_id"].to_numpy().astype(str).astype(object)
    reach = REACH_M if options.max_distance is None else options.max_distance
    reasons = np.where(found.fate == MATCHED, "", f"no crown within {reach:g} m").astype(object)
    reasons[(found.fate == UNMATCHED) & ~np.isfinite(places).all(axis=1)] = NO_PLACE
    rival = found.rival_stem >= 0
    over, like = rival & (found.fate == UNMATCHED), rival & (found.fate == AMBIGUOUS)
    reasons[over] = "overtopped by " + stems.names[found.rival_stem[over]]
    reasons[like] = "not told from " + stems.names[found.rival_stem[like]]
    two = (found.fate == AMBIGUOUS) & ~rival
    reasons[two] = "crowns " + ids[found.crown[two]] + " and " + ids[found.rival_crown[two]] + " fit about as well"
    return reasons


def _records(
    stems: FieldTable,
    found: StemMatching,
    reasons: npt.NDArray[np.object_],
    table: gpd.GeoDataFrame,
    xy: Floats,
) -> pd.DataFrame:
    ids = pd.array(table["crown_id"].to_numpy()[found.crown], dtype="Int64")
    ids[~found.matched] = pd.NA
    columns = {
        "fate": found.fate,
        "reason": reasons,
        "crown_id": ids,
        "distance_m": np.where(found.matched, found.distance_m, np.nan).round(3),
        "shifted_x": xy[:, 0],
        "shifted_y": xy[:, 1],
    }
    # What the file has of the same name stays as it was.
    taken = {name.casefold() for name in stems.rows.columns}
    ours = {f"{name}_match" if name in taken else name: values for name, values in columns.items()}
    return pd.concat([stems.rows, pd.DataFrame(ours, index=stems.rows.index)], axis=1)


def _plots(
    names: npt.NDArray[np.object_], codes: npt.NDArray[np.int64], found: StemMatching, shifts: list[PlotShift]
) -> pd.DataFrame:
    count = len(names)
    by_fate = {fate: np.bincount(codes[found.fate == fate], minlength=count) for fate in FATES}
    return pd.DataFrame(
        {
            "plot": names,
            "stems": np.bincount(codes, minlength=count),
            **by_fate,
            "shift_x_m": [round(shift.dx, 2) for shift in shifts],
            "shift_y_m": [round(shift.dy, 2) for shift in shifts],
            "agreement_before": [round(shift.before, 3) for shift in shifts],
            "agreement_after": [round(shift.after, 3) for shift in shifts],
            "reason": [shift.reason for shift in shifts],
        }
    )


def _classes(words: npt.NDArray[np.object_]) -> tuple[str, ...]:
    return tuple(sorted({str(word) for word in words[~pd.isna(words)]}))


def _labelled(table: gpd.GeoDataFrame, stems: FieldTable, found: StemMatching) -> gpd.GeoDataFrame:
    """Return all crowns with what is known of their trees, and nothing that a model said of them."""
    before = Layout.of_table(table).attributes
    if lost := [name for name in before if name not in stems.attributes]:
        logger.info("%s of the crowns left out: it was not measured in the field", ", ".join(lost))
    # In a table that trains heads every value counts as truth, so no value of a model may stay.
    gone = {column for name in before for column in (name, f"{name}_p", *(f"p_{value}" for value in before[name]))}
    table = table.drop(columns=[column for column in table.columns if column in gone])
    matched = np.flatnonzero(found.matched)
    values: dict[str, object] = {}
    for name, words in stems.attributes.items():
        told = np.full(len(table), None, dtype=object)
        told[found.crown[matched]] = words[matched]
        values[name] = pd.Categorical(told, categories=list(_classes(words)))
        values[f"{name}_p"] = np.where(pd.isna(told), np.nan, 1.0).astype(np.float32)
    first = ["geometry", *list(DTYPES)[:3]]
    rest = [name for name in table.columns if name not in (*first, *values)]
    return table.assign(**values)[[*first, *values, *rest]]
