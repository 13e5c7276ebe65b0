"""Pictures of an evaluation by resolution: scores by GSD, recall by crown diameter and GSD, the smallest crown found.

Tables are those of :class:`treedet.evaluation.report.Report`. Every function leaves one PNG, also of an empty table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.display.figures import new_figure, save_figure, say_empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, BLUE, VERMILION, GREEN, GREY = "#000000", "#0072b2", "#d55e00", "#009e73", "#767676"
"""Of Okabe and Ito (2008), *Color Universal Design*, and a grey that is readable on white."""
SHARP_DPI = 144
TO = "\N{EN DASH}"
FEW = 10
"""Crowns below which a share is mostly chance; it is drawn paler, with its number."""

MODES = {"adapt": (BLUE, "-", "o"), "native": (VERMILION, "--", "s"), "band-limit": (GREEN, ":", "^")}
"""Colour, dashes and marker of each way to read coarse imagery."""
OTHER_MODE = (BLACK, "-.", "D")


def chart(width: float, height: float, *, title: str, count: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` panels side by side, sharp enough for a page.

    Args:
        width: Inches of all panels together.
        height: Inches.
        title: Line above everything.
        count: Panels.
    """
    figure = new_figure(width, height, title=title)
    figure.set_dpi(SHARP_DPI)
    return figure, [figure.add_subplot(1, count, position + 1) for position in range(count)]


def dress(axes: Axes, *, x: str, y: str) -> None:
    """Give a panel its labels and a quiet grid."""
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def empty(path: Path, *, title: str, what: str) -> None:
    """Write a picture that says why there is nothing to see."""
    figure = new_figure(6, 3, title=title)
    say_empty(figure, what)
    save_figure(figure, path)


def sweep(path: Path, table: pd.DataFrame, *, model_gsd: float | None = None, score: str = "f1") -> None:
    """Draw a score and the count's bias by GSD, a line for each mode, the score with the band of its interval.

    Args:
        path: PNG to write; replaced where it exists.
        table: Columns ``gsd`` and the score; drawn where they are there: ``mode``, ``<score>_low``,
            ``<score>_high``, ``count_bias_rel`` and ``upsampled``.
        model_gsd: The model's GSD in metres, marked.
        score: Column of the score.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Scores by resolution"
    rows = _by_gsd(table, score)
    if not len(rows):
        empty(path, title=title, what="no scores by GSD")
        return
    biased = "count_bias_rel" in rows and bool(rows["count_bias_rel"].notna().any())
    figure, panels = chart(9.6 if biased else 6.4, 4.0, title=title, count=2 if biased else 1)
    for mode, line in _modes(rows):
        _line(panels[0], line, score, mode)
        if {f"{score}_low", f"{score}_high"} <= set(line):
            panels[0].fill_between(
                line["gsd"],
                line[f"{score}_low"],
                line[f"{score}_high"],
                color=style_of(mode)[0],
                alpha=0.15,
                linewidth=0,
            )
        if biased:
            _line(panels[1], line.assign(percent=100 * line["count_bias_rel"]), "percent", mode)
    banded = ", band: 95 % interval over rasters" if f"{score}_low" in rows else ""
    dress(panels[0], x="GSD, metres per pixel (log)", y=f"{'F1' if score == 'f1' else score}{banded}")
    panels[0].set_ylim(0, 1)
    if biased:
        panels[1].axhline(0, color=GREY, linewidth=1)
        dress(panels[1], x="GSD, metres per pixel (log)", y="count: % too many or, below 0, too few")
    for axes in panels:
        _gsd_axis(axes, rows["gsd"].to_numpy(dtype=float), model_gsd)
    panels[0].legend(fontsize=9, loc="best", framealpha=0.85)
    save_figure(figure, path)


def smallest(path: Path, table: pd.DataFrame, *, model_gsd: float | None = None) -> None:
    """Draw the diameter from which on half of the crowns are found, by GSD.

    Args:
        path: PNG to write; replaced where it exists.
        table: Columns ``gsd``, ``smallest_m`` in metres, and ``mode`` where there is one.
        model_gsd: The model's GSD in metres, marked.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Smallest crowns of which half are found"
    rows = _by_gsd(table, "smallest_m")
    if not len(rows):
        empty(path, title=title, what="too few crowns, or never half of them found")
        return
    figure, (axes,) = chart(6.4, 4.0, title=title)
    for mode, line in _modes(rows):
        _line(axes, line, "smallest_m", mode)
    dress(axes, x="GSD, metres per pixel (log)", y="crown diameter, m")
    axes.set_ylim(bottom=0)
    _gsd_axis(axes, rows["gsd"].to_numpy(dtype=float), model_gsd)
    axes.legend(fontsize=9, loc="best", framealpha=0.85)
    save_figure(figure, path)


def heat_map(path: Path, by_size: pd.DataFrame) -> None:
    """Draw recall by crown diameter and GSD, a panel for each mode; the number stands in the cell.

    Diameters without a crown at one GSD are grey; with fewer than ten, their number is written too.

    Args:
        path: PNG to write; replaced where it exists.
        by_size: Columns ``gsd``, ``low_m``, ``high_m``, ``truth``, ``recall``, and ``mode`` where there is one.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Recall by crown diameter and resolution"
    rows = by_size[by_size["gsd"].notna()] if len(by_size) else by_size
    rows = rows[rows["truth"].groupby([rows["low_m"], rows["high_m"]]).transform("max") > 0] if len(rows) else rows
    if not len(rows):
        empty(path, title=title, what="no crowns")
        return
    modes = list(_modes(rows))
    sizes = rows[["low_m", "high_m"]].drop_duplicates().sort_values("low_m")
    columns = [part["gsd"].nunique() for _, part in modes]
    figure, _ = chart(max(4.8, 0.8 * sum(columns) + 2.0), 1.6 + 0.48 * len(sizes), title=title, count=0)
    panels = figure.subplots(1, len(modes), width_ratios=columns, squeeze=False)[0]
    for axes, (mode, part) in zip(panels, modes, strict=True):
        cells = part.drop_duplicates(["gsd", "low_m"]).set_index(["low_m", "gsd"])
        recall, truth = (cells[column].unstack().reindex(sizes["low_m"]) for column in ("recall", "truth"))
        _cells(axes, recall.to_numpy(dtype=float), truth.to_numpy(dtype=float))
        axes.set_xticks(range(recall.shape[1]), [f"{gsd:.2g}" for gsd in recall.columns], fontsize=9)
        axes.set_yticks(range(len(sizes)), [""] * len(sizes))
        axes.set_title(mode if len(modes) > 1 else "", fontsize=10)
        axes.set_xlabel("GSD, m per pixel", fontsize=10)
    most = rows.groupby("low_m")["truth"].max().sort_index()
    names = [size_name(low, high) for low, high in sizes.itertuples(index=False)]
    told = [f"{name}  (n = {n:.0f})" for name, n in zip(names, most, strict=True)]
    panels[0].set_yticks(range(len(sizes)), told, fontsize=9)
    panels[0].set_ylabel("crown diameter, m", fontsize=10)
    save_figure(figure, path)


def _cells(axes: Axes, recall: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> None:
    """Fill a panel with cells ``[sizes, gsds]``, the smallest crowns at the bottom."""
    from matplotlib import colormaps  # noqa: PLC0415

    colours = colormaps["cividis"].with_extremes(bad="#d4d4d4")
    axes.imshow(np.ma.masked_invalid(recall), cmap=colours, vmin=0, vmax=1, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(recall):
        n = truth[row, column]
        known = np.isfinite(value) and n > 0
        text = f"{100 * value:.0f} %" if known else "none"
        if known and n < FEW:
            text += f"\nof {n:.0f}"
        dark = known and value < 0.55
        size = 9 if known and n >= FEW else 7
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    axes.set_xticks(np.arange(recall.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(recall.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def size_name(low: float, high: float) -> str:
    """Return how a range of diameters in metres is called.

    >>> size_name(2.0, 4.0), size_name(20.0, float("inf"))
    ('2–4', 'over 20')
    """
    return f"{low:g}{TO}{high:g}" if np.isfinite(high) else f"over {low:g}"


def style_of(mode: str) -> tuple[str, str, str]:
    """Return colour, dashes and marker of a mode."""
    return MODES.get(mode, OTHER_MODE)


def _by_gsd(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows that have both a GSD and a value."""
    if not {"gsd", column} <= set(table.columns):
        return table.iloc[:0]
    return table[table["gsd"].notna() & table[column].notna()]


def _modes(rows: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    """Return the rows of each mode by rising GSD, in the order of the table."""
    if "mode" not in rows:
        return [("as it is", rows.sort_values("gsd"))]
    order = list(dict.fromkeys(rows["mode"].astype(str)))
    return [(mode, rows[rows["mode"].astype(str) == mode].sort_values("gsd")) for mode in order]


def _line(axes: Axes, line: pd.DataFrame, column: str, mode: str) -> None:
    colour, dashes, marker = style_of(mode)
    drawn: dict[str, Any] = {"color": colour, "marker": marker}
    axes.plot(line["gsd"], line[column], linestyle=dashes, markersize=5, linewidth=1.8, label=mode, **drawn)
    if "upsampled" in line and (raised := line[line["upsampled"].astype(bool)]).size:
        hollow: dict[str, Any] = {
            "linestyle": "none",
            "markerfacecolor": "white",
            "markersize": 8,
            "label": "upsampled",
        }
        axes.plot(raised["gsd"], raised[column], **drawn, **hollow)


def _gsd_axis(axes: Axes, gsds: npt.NDArray[np.float64], model_gsd: float | None) -> None:
    """Make the x axis logarithmic, with ticks at the GSDs that leave room for each other, and mark the model's."""
    from matplotlib.ticker import NullFormatter, NullLocator  # noqa: PLC0415

    axes.set_xscale("log")
    every = np.unique(gsds)
    shown: list[float] = []
    for gsd in every:
        if not shown or np.log(gsd / shown[-1]) > 0.06 * max(np.log(every[-1] / every[0]), 0.5):
            shown.append(float(gsd))
    axes.set_xticks(shown, [f"{gsd:.2g}" for gsd in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = float(every[0]), float(every[-1])
    if model_gsd is not None:
        axes.axvline(model_gsd, color=GREY, linewidth=1, linestyle="-.", label=f"the model's GSD, {model_gsd:.2g} m")
        low, high = min(low, model_gsd), max(high, model_gsd)
    axes.set_xlim(low / 1.12, high * 1.12)
