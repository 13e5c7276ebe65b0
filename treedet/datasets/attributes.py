"""Which attributes annotation has, with which classes, and the class of each crown as a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import ConfigError, CrownsError

OTHER = "other"
SHOWN = 8
"""Names that a message lists."""

Schema = Mapping[str, tuple[str, ...]]
Renaming = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True)
class AttributeSchema:
    """Attributes that can be learned.

    Attributes:
        classes: Class names by attribute.
        renaming: What each name in the annotation becomes, by attribute; None where it is left out.
        lines: What was decided, in words.
    """

    classes: Schema
    renaming: Renaming
    lines: tuple[str, ...]


def attribute_counts(table: gpd.GeoDataFrame) -> dict[str, Counter[str]]:
    """Return how many crowns of a table have each value, for each attribute: any ``x`` beside an ``x_p``.

    Args:
        table: Crowns table; a missing value is not counted.
    """
    names = [str(name) for name in table.columns if f"{name}_p" in table.columns]
    return {name: Counter(table[name].dropna().astype(str).tolist()) for name in names}


def attribute_schema(
    counts: Mapping[str, Counter[str]],
    *,
    known: Schema,
    wanted: Schema | None = None,
    min_crowns: int = 1,
    rare: Literal["other", "out"] = "out",
) -> AttributeSchema:
    """Decide which attributes can be learned, and their classes.

    Classes that the starting model knows come first, in its order and spelling (names are compared without case);
    further ones by name. A class with fewer than ``min_crowns`` crowns is rare: merged into ``other``, or left out.

    Args:
        counts: Crowns of each value, by attribute.
        known: Classes of the starting model's attributes.
        wanted: Attributes asked for with their classes, or without for those found; None takes all that can be
            learned.
        min_crowns: Crowns that a class needs.
        rare: What becomes of rare classes.

    Raises:
        ConfigError: An attribute asked for is in no file, all empty, or has one class only.
        CrownsError: A value is not among the classes asked for.

    >>> found = attribute_schema({"species": Counter(PISY=40, piab=30, BEPE=2)}, known={"species": ("PIAB",)},
    ...                          min_crowns=5)
    >>> found.classes["species"], found.renaming["species"]["BEPE"]
    (('PIAB', 'PISY'), None)
    """
    if wanted is not None and (absent := [name for name in wanted if name not in counts]):
        has = ", ".join(counts) or "none"
        raise ConfigError(
            f"attribute {absent[0]!r} is in no annotation, which has {has}; name its column with columns= "
            f"(--columns.{absent[0]} SP_CODE)"
        )
    classes, renaming, lines = {}, {}, []
    order = [*(name for name in known if name in counts), *sorted(set(counts) - set(known))]
    for name in order if wanted is None else [name for name in order if name in wanted]:
        told = tuple((wanted or {}).get(name, ()))
        one = _Names(name, counts[name], told or known.get(name, ()), only=bool(told))
        names = one.classes(min_crowns, rare)
        lines += one.lines(min_crowns, rare)
        if len(names) >= 2:
            classes[name], renaming[name] = names, one.renaming(min_crowns, rare)
        elif wanted is not None:
            raise ConfigError(f"attribute {name!r} can not be learned: {one.lacking(names)}")
        else:
            lines.append(f"attribute {name} is not learned: {one.lacking(names)}")
    return AttributeSchema(classes, renaming, tuple(lines))


@dataclass(frozen=True)
class _Names:
    """The values of one attribute.

    Attributes:
        attribute: Its name.
        counts: Crowns of each value.
        first: Classes that come first.
        only: No other class is accepted.
    """

    attribute: str
    counts: Counter[str]
    first: tuple[str, ...]
    only: bool

    def spelled(self) -> dict[str, str]:
        """Return the class that each value is, with the spelling of known classes."""
        spelling = {name.casefold(): name for name in self.first}
        for value in sorted(self.counts):
            spelling.setdefault(value.casefold(), value)
        found = {value: spelling[value.casefold()] for value in self.counts}
        if self.only and (strange := sorted(set(found.values()) - set(self.first))):
            raise CrownsError(
                f"attribute {self.attribute!r}: {self.counts[strange[0]]} crowns are {strange[0]!r}, which is not "
                f"among its classes {list(self.first)}; say with values= which it is, or null to leave it out "
                f'(--values \'{{"{self.attribute}": {{"{strange[0]}": "{self.first[0]}"}}}}\')'
            )
        return found

    def totals(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for value, name in self.spelled().items():
            total[name] += self.counts[value]
        return total

    def rare(self, least: int) -> list[str]:
        return sorted(name for name, count in self.totals().items() if count < least)

    def has_other(self, least: int, rare: str) -> bool:
        total = self.totals()
        return rare == "other" and sum(total[n] for n in self.rare(least)) + total[OTHER] >= max(1, least)

    def classes(self, least: int, rare: str) -> tuple[str, ...]:
        total, gone = self.totals(), set(self.rare(least))
        # Classes asked for stay in the schema, seen or not; those of the starting model if one of them is seen.
        first = [name for name in self.first if self.only or name in total]
        kept = [name for name in dict.fromkeys([*first, *sorted(total)]) if name not in gone and name != OTHER]
        return (
            (*kept, OTHER) if self.has_other(least, rare) or (OTHER in total and OTHER not in gone) else tuple(kept)
        )

    def renaming(self, least: int, rare: str) -> dict[str, str | None]:
        gone = set(self.rare(least))
        instead = OTHER if self.has_other(least, rare) else None
        return {value: instead if name in gone else name for value, name in self.spelled().items()}

    def lines(self, least: int, rare: str) -> list[str]:
        gone, total = self.rare(least), self.totals()
        if not gone:
            return []
        listed = ", ".join(f"{name} ({total[name]})" for name in gone[:SHOWN])
        more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
        became = f"merged into {OTHER!r}" if self.has_other(least, rare) else "left out"
        return [f"attribute {self.attribute}: classes of fewer than {least} crowns are {became}: {listed}{more}"]

    def lacking(self, names: tuple[str, ...]) -> str:
        if not self.counts:
            return "its column is empty; fill it in, or name another with columns="
        only = f"only {names[0]!r}" if names else "no class"
        return (
            f"{only} has crowns enough; two classes are needed: label more crowns, or lower min_crowns (--min_crowns)"
        )


def attribute_codes(table: gpd.GeoDataFrame, schema: Schema, renaming: Renaming) -> npt.NDArray[np.int64]:
    """Return the class of each attribute of crowns.

    Args:
        table: Crowns table.
        schema: Classes by attribute.
        renaming: What names become, where they are not classes as they are.

    Returns:
        Int64 ``[N, A]``, columns in the order of the schema; -1 where nothing is known.
    """
    codes = np.full((len(table), len(schema)), -1, np.int64)
    for column, (name, classes) in enumerate(schema.items()):
        if name in table.columns:
            codes[:, column] = codes_of(table[name], classes, renaming.get(name, {}))
    return codes


def codes_of(
    values: pd.Series[str], classes: tuple[str, ...], renaming: Mapping[str, str | None]
) -> npt.NDArray[np.int64]:
    """Return values as numbers of classes, int64 ``[N]``; -1 where missing, left out or no class.

    >>> codes_of(pd.Series(["dead", "Alive", None, "gone"]), ("alive", "dead"), {"Alive": "alive"}).tolist()
    [1, 0, -1, -1]
    """
    number, found = pd.factorize(values.astype(object))
    place = {name: row for row, name in enumerate(classes)}
    of_value = [place.get(str(renaming.get(str(value), str(value))), -1) for value in found]
    return np.array([*of_value, -1], np.int64)[number]
