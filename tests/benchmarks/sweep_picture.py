"""Draws sweeps of several data sets side by side, one line for each way of reading, or for each model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from treedet.display.evaluation import BLUE, VERMILION, chart, dress
from treedet.display.figures import save_figure

STYLES = ((BLUE, "-", "o"), (VERMILION, "--", "s"))


def sweep_lines(path: Path, tables: Mapping[str, pd.DataFrame], *, title: str) -> None:
    """Draw F1 by GSD with its interval, a panel for each data set.

    Args:
        path: PNG to write.
        tables: By data set: ``line``, ``gsd``, ``f1``, ``f1_low`` and ``f1_high``.
        title: Above everything.
    """
    figure, panels = chart(3.6 * len(tables), 3.6, title=title, count=len(tables))
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        # Imagery as it is stands for every way of reading it.
        first = table.iloc[0]
        for (line, own), (colour, dashes, marker) in zip(table.groupby("line", sort=False), STYLES, strict=False):
            whole = own if line == first["line"] or "mode" not in own else pd.concat([table.iloc[:1], own])
            rows = whole.drop_duplicates("gsd").sort_values("gsd")
            axes.plot(
                rows["gsd"], rows["f1"], color=colour, linestyle=dashes, marker=marker, markersize=4, label=line
            )
            axes.fill_between(rows["gsd"], rows["f1_low"], rows["f1_high"], color=colour, alpha=0.15, linewidth=0)
        dress(axes, x="GSD, metres per pixel", y="F1 at IoU 0.4")
        axes.set_title(name, fontsize=10)
        axes.set_ylim(0, 0.9)
        axes.set_xticks(np.round(sorted(set(table["gsd"].round(2))), 2))
    panels[0].legend(fontsize=9, loc="best")
    save_figure(figure, path)
