"""Crowns counted by class, part by part, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treedet.core.crown_arrays import CrownArrays, said
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema

SHOWN = 12
"""Rows of a table that are printed; rarer classes are summed up."""

DEAD_SHARE = 0.5
"""Share of dead crowns above which imagery is doubted. Standing dead trees are a few per cent of a living forest, and
a raster in which most crowns are dead is a burn, a flood or the core of an outbreak, or imagery without leaves."""
DEAD_LEAST = 50
"""Crowns with a status from which a share is taken seriously: its standard error is then 7 per cent at most."""


@dataclass(frozen=True)
class ClassRow:
    """What was found of one class.

    Attributes:
        name: The class; None for crowns without a value.
        crowns: Number of crowns.
        share: Share of all crowns, those without a value included.
        crown_m2: Sum of their crown areas (``crown_m2``) in square metres.
        per_hectare: Crowns per hectare of valid ground.
    """

    name: str | None
    crowns: int
    share: float
    crown_m2: float
    per_hectare: float


class ClassTally:
    """Counts crowns by the label, where it has several classes, and by each attribute.

    Args:
        schema: Names of classes and attributes.
        grid: The model grid that boxes are on.
        min_p: Least probability of an attribute; see :func:`treedet.core.crown_arrays.said`.
    """

    def __init__(self, schema: LabelSchema, grid: Grid, *, min_p: float | None = None) -> None:
        self._classes = dict(schema.attributes)
        if len(schema.classes) > 1:
            self._classes = {"label": schema.classes, **self._classes}
        self._m2 = math.pi / 4 * grid.gsd_x * grid.gsd_y
        self._min_p = min_p
        # By column: crowns and square metres, those without a value first.
        self._sums = {name: np.zeros((2, 1 + len(classes))) for name, classes in self._classes.items()}

    def add(self, crowns: CrownArrays) -> None:
        """Count crowns of the grid."""
        sides = crowns.boxes[:, 2:] - crowns.boxes[:, :2]
        m2 = sides.prod(axis=1) * self._m2
        for name, sums in self._sums.items():
            codes = crowns.classes if name == "label" else said(crowns.attributes[name], min_p=self._min_p)
            for row, weights in enumerate((None, m2)):
                sums[row] += np.bincount(codes + 1, weights, minlength=sums.shape[1])

    def join(self, other: ClassTally) -> None:
        """Add what another tally of the same classes counted, on whatever grid."""
        for name, sums in other._sums.items():
            self._sums[name] += sums

    def tables(self, hectares: float) -> dict[str, tuple[ClassRow, ...]]:
        """Return the rows for ``label`` and each attribute: all classes in their order, then crowns without a value.

        Args:
            hectares: Valid ground.
        """
        tables = {}
        for name, classes in self._classes.items():
            total = max(self._sums[name][0].sum(), 1.0)
            missing, *known = [
                ClassRow(
                    name=value,
                    crowns=int(crowns),
                    share=float(crowns / total),
                    crown_m2=float(m2),
                    per_hectare=float(crowns / hectares) if hectares else 0.0,
                )
                for value, (crowns, m2) in zip((None, *classes), self._sums[name].T, strict=True)
            ]
            tables[name] = (*known, *([] if name == "label" else [missing]))
        return tables

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to doubt: an implausible share of dead crowns; empty where there is nothing."""
        statuses = self._classes.get("status", ())
        if "dead" not in statuses:
            return ()
        known = self._sums["status"][0, 1:]
        share = known[statuses.index("dead")] / max(known.sum(), 1)
        if known.sum() < DEAD_LEAST or share <= DEAD_SHARE:
            return ()
        caution = (
            f"{share:.0%} of {known.sum():,.0f} crowns with a status are said to be dead, more than is plausible: "
            "leaf-off imagery, burnt or flooded ground? Look at some of them on the imagery before using status, or "
            "fine-tune on crowns of it (treedet train)"
        )
        return (caution,)


def table_lines(title: str, rows: Sequence[ClassRow]) -> list[str]:
    r"""Return rows as aligned lines below a line of headings: the most frequent first, then the rest.

    Args:
        title: What the classes are said of: ``label`` or an attribute.
        rows: What was found of each class.

    >>> rows = [ClassRow("alive", 900, 0.9, 8100.0, 450.0), ClassRow("dead", 100, 0.1, 650.0, 50.0)]
    >>> print("\n".join(table_lines("status", rows)))
    status         crowns  share   crown m2    per ha
      alive           900  90.0%      8,100     450.0
      dead            100  10.0%        650      50.0
    """
    named = sorted((row for row in rows if row.name is not None), key=lambda row: -row.crowns)
    shown, rest = (named, []) if len(named) <= SHOWN else (named[: SHOWN - 1], named[SHOWN - 1 :])
    entries = [(str(row.name), row) for row in shown]
    if rest:
        entries.append((f"{len(rest)} others", _sum(rest)))
    entries += [("no value", row) for row in rows if row.name is None and row.crowns]
    width = max(12, *(len(name) + 2 for name, _ in entries))
    lines = [f"{title:<{width}} {'crowns':>8} {'share':>6} {'crown m2':>10} {'per ha':>9}"]
    return lines + [
        f"{'  ' + name:<{width}} {row.crowns:>8,} {row.share:>6.1%} {row.crown_m2:>10,.0f} {row.per_hectare:>9,.1f}"
        for name, row in entries
    ]


def _sum(rows: Sequence[ClassRow]) -> ClassRow:
    return ClassRow(
        name=None,
        crowns=sum(row.crowns for row in rows),
        share=sum(row.share for row in rows),
        crown_m2=sum(row.crown_m2 for row in rows),
        per_hectare=sum(row.per_hectare for row in rows),
    )
