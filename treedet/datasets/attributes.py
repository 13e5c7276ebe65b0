"""Which attributes annotation has, with which classes, and the class of each crown as a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import ConfigError, CrownsError
from treedet.vectors.truth_values import hint, shown

OTHER = "other"
"""The class that rare ones are merged into."""

Counts = Mapping[str, Counter[str]]
Schema = Mapping[str, tuple[str, ...]]
Renaming = Mapping[str, Mapping[str, str | None]]
Rare = Literal["other", "out"]


@dataclass(frozen=True)
class AttributeSchema:
    """Attributes that can be learned.

    Attributes:
        classes: Class names by attribute.
        renaming: What each value of the annotation becomes, by attribute; None where it is left out.
        lines: What was decided, in words.
    """

    classes: Schema
    renaming: Renaming
    lines: tuple[str, ...]

    def counts(self, counts: Counts) -> dict[str, dict[str, int]]:
        """Return crowns by class, in the order of the schema, from crowns by value."""
        found = {name: dict.fromkeys(classes, 0) for name, classes in self.classes.items()}
        for name, seen in found.items():
            for value, number in counts.get(name, Counter()).items():
                if (target := self.renaming[name].get(value, value)) in seen and target is not None:
                    seen[target] += number
        return found


def attribute_counts(table: pd.DataFrame) -> dict[str, Counter[str]]:
    """Return how many crowns of a table have each value, for each attribute: any ``x`` beside an ``x_p``.

    Args:
        table: Crowns table; a missing value is not counted, and a column without any value has no counts.

    >>> attribute_counts(pd.DataFrame({"status": ["dead", None], "status_p": [1.0, None], "cut": [False, False]}))
    {'status': Counter({'dead': 1})}
    """
    names = [str(name) for name in table.columns if f"{name}_p" in table.columns]
    found = {name: table[name].dropna().astype(str).value_counts() for name in names}
    return {name: Counter({str(v): int(n) for v, n in seen.items() if n}) for name, seen in found.items()}


def added(several: Iterable[Counts]) -> dict[str, Counter[str]]:
    """Return the counts of several tables together.

    >>> added([{"status": Counter(dead=1)}, {"status": Counter(dead=2)}, {"species": Counter()}])
    {'status': Counter({'dead': 3}), 'species': Counter()}
    """
    total: dict[str, Counter[str]] = {}
    for counts in several:
        for name, seen in counts.items():
            total.setdefault(name, Counter()).update(seen)
    return total


def attribute_schema(
    counts: Counts,
    *,
    known: Schema,
    wanted: Schema | None = None,
    min_crowns: int = 1,
    rare: Rare = "out",
) -> AttributeSchema:
    """Decide which attributes can be learned, and their classes.

    Of the classes that the starting model knows, those that occur come first, in its order and spelling (names are
    compared without case); further ones follow by name. A class with fewer than ``min_crowns`` crowns is rare: merged
    into ``other``, or left out, also where ``other`` would not have as many. Classes that are stated stay, however
    rare. An attribute needs two classes that have crowns: without them it is an error where it was asked for, else
    not learned, which a line says. Attributes stand in the order of the model, then by name.

    Args:
        counts: Crowns of each value, by attribute.
        known: Classes of the starting model's attributes.
        wanted: Attributes asked for with their classes, or with none for those found; None takes all that can be
            learned.
        min_crowns: Crowns that a class needs.
        rare: What becomes of rare classes.

    Raises:
        ConfigError: An attribute asked for is in no file, all empty, or has one class only; two attributes have the
            same name; an argument makes no sense.
        CrownsError: A value is not among the classes asked for.

    >>> found = attribute_schema({"species": Counter(PISY=40, piab=30, BEPE=2)}, known={"species": ("PIAB", "LADE")},
    ...                          min_crowns=5)
    >>> found.classes["species"], found.renaming["species"]["BEPE"]
    (('PIAB', 'PISY'), None)
    """
    if min_crowns < 1 or rare not in ("other", "out"):
        raise ConfigError(
            f"min_crowns must be at least 1 and rare one of other, out; found min_crowns {min_crowns}, rare {rare!r}"
        )
    _refuse_alike([*known, *counts, *(wanted or {})])
    if wanted is not None and (absent := [name for name in wanted if name not in counts]):
        raise ConfigError(
            f"attribute {absent[0]!r} is in no annotation, which has {', '.join(sorted(counts)) or 'none'}; name its "
            f"column with columns= (--columns.{absent[0]} CODE), or do not ask for it"
        )
    classes: dict[str, tuple[str, ...]] = {}
    renaming: dict[str, dict[str, str | None]] = {}
    lines: list[str] = []
    for name in [*(name for name in known if name in counts), *sorted(set(counts) - set(known))]:
        if wanted is not None and name not in wanted:
            lines.append(f"attribute {name} is not learned: it was not asked for")
            continue
        stated = () if wanted is None else tuple(wanted[name])
        one = _decide(name, counts[name], known.get(name, ()), stated=stated, min_crowns=min_crowns, rare=rare)
        if one.lacking is None:
            classes[name], renaming[name] = one.classes, one.renaming
            lines += one.lines
        elif wanted is not None:
            raise ConfigError(f"attribute {name!r} can not be learned: {one.lacking}")
        else:
            lines += [*one.lines, f"attribute {name} is not learned: {one.lacking}"]
    return AttributeSchema(classes, renaming, tuple(lines))


def _refuse_alike(names: Iterable[str]) -> None:
    spelled: dict[str, str] = {}
    for name in names:
        if (other := spelled.setdefault(name.casefold(), name)) != name:
            raise ConfigError(
                f"two attributes have the same name, {other!r} and {name!r}: formats do not tell case apart; rename "
                f"one with columns= (--columns.{other} {name})"
            )


@dataclass(frozen=True)
class _Decided:
    """What becomes of one attribute; ``lacking`` says why it can not be learned, None where it can."""

    classes: tuple[str, ...]
    renaming: dict[str, str | None]
    lines: list[str]
    lacking: str | None


def _decide(
    name: str, counts: Counter[str], known: tuple[str, ...], *, stated: tuple[str, ...], min_crowns: int, rare: Rare
) -> _Decided:
    spelled = _spelled(counts, stated or known)
    if stated and (strange := sorted(set(spelled.values()) - set(stated))):
        raise CrownsError(_strange_message(name, strange, counts, spelled, stated))
    total: Counter[str] = Counter()
    for value, number in counts.items():
        total[spelled[value]] += number
    gone, instead, lines = ([], None, []) if stated else _rare_ones(name, total, min_crowns=min_crowns, rare=rare)
    merged = Counter({one: number for one, number in total.items() if one not in gone})
    if instead is not None and gone:
        merged[instead] += sum(total[one] for one in gone)
    classes = stated or _ordered(merged, known)
    lines += _said_of_classes(name, classes, merged, known, stated=bool(stated))
    renaming = {value: instead if one in gone else one for value, one in spelled.items()}
    return _Decided(classes, renaming, lines, _lacking(counts, merged, total, min_crowns=min_crowns))


def _spelled(counts: Counter[str], first: tuple[str, ...]) -> dict[str, str]:
    """Return the class that each value is: of the classes given the one it equals, if need be without case."""
    by_case = {one.casefold(): one for one in reversed(first)}
    return {value: value if value in first else by_case.get(value.casefold(), value) for value in counts}


def _ordered(found: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return classes in the order of the model, further ones by name, and ``other`` last."""
    first = [one for one in known if one in found]
    rest = sorted(set(found) - set(first), key=lambda one: (one == OTHER, one))
    return (*first, *rest)


def _rare_ones(
    name: str, total: Counter[str], *, min_crowns: int, rare: Rare
) -> tuple[list[str], str | None, list[str]]:
    """Return the classes that are too rare, what they become (None: left out), and lines that say so."""
    gone = sorted(one for one, number in total.items() if number < min_crowns)
    if not gone:
        return [], None, []
    reached = sum(total[one] for one in {*gone, OTHER})
    instead = OTHER if rare == "other" and reached >= min_crowns else None
    became = "left out" if instead is None else f"merged into {OTHER!r}, which has {reached}"
    if rare == "other" and instead is None:
        became += f", since together they are {reached} only"
    listed = ", ".join(f"{one} {total[one]}" for one in gone[:8])
    more = f" and {len(gone) - 8} more" if len(gone) > 8 else ""
    return (
        gone,
        instead,
        [f"attribute {name}: classes of fewer than {min_crowns} crowns are {became}: {listed}{more}"],
    )


def _said_of_classes(
    name: str, classes: tuple[str, ...], merged: Counter[str], known: tuple[str, ...], *, stated: bool
) -> list[str]:
    lines = []
    if stated and (unseen := [one for one in classes if not merged[one]]):
        lines.append(f"attribute {name}: no crown is {shown(unseen)}, so it is not learned")
    kept = set(classes) & set(known)
    if not stated and kept and (unseen := [one for one in known if one not in classes]):
        lines.append(f"attribute {name}: classes of the starting model that are no longer classes: {shown(unseen)}")
    folded = Counter(one.casefold() for one in classes)
    if alike := sorted(one for one in classes if folded[one.casefold()] > 1):
        lines.append(f"attribute {name}: {shown(alike)} differ in case alone; bring them together with values=")
    return lines


def _lacking(counts: Counter[str], merged: Counter[str], total: Counter[str], *, min_crowns: int) -> str | None:
    seen = sorted(one for one, number in merged.items() if number)
    if len(seen) >= 2:
        return None
    if not counts.total():
        return "its column is all empty; fill it in, or name another with columns="
    if len(total) == 1:
        only = next(iter(total))
        return f"all its {total.total()} crowns with a label are {only!r}; label crowns of another class too"
    only = f"only {seen[0]!r} has" if seen else "no class has"
    return f"{only} {min_crowns} crowns or more; label more crowns, or lower min_crowns (--min_crowns)"


def _strange_message(
    name: str, strange: list[str], counts: Counter[str], spelled: Mapping[str, str], stated: tuple[str, ...]
) -> str:
    number = sum(number for value, number in counts.items() if spelled[value] in strange)
    return (
        f"attribute {name!r}: {number} crowns are {shown(strange)}, not among its classes; accepted are "
        f"{shown(stated)}: add a class, or say what they are with values= "
        f"({hint(name, strange[0], {'': stated[0]})}, or null to leave them out)"
    )


def attribute_codes(
    table: pd.DataFrame, classes: Schema, renaming: Renaming, *, strict: bool = False
) -> npt.NDArray[np.int64]:
    """Return the class of each attribute of crowns.

    Args:
        table: Crowns table; an attribute without a column is known of no crown.
        classes: Classes by attribute.
        renaming: What values become, where they are not classes as they are.
        strict: Refuse a value that is neither renamed nor a class; by default it counts as missing.

    Returns:
        Int64 ``[N, A]``, columns in the order of the schema; -1 where nothing is known.

    Raises:
        CrownsError: ``strict``, and there is such a value.

    >>> table = pd.DataFrame({"status": ["Dead", None, "gone"]})
    >>> attribute_codes(table, {"status": ("alive", "dead")}, {"status": {"Dead": "dead"}}).tolist()
    [[1], [-1], [-1]]
    """
    codes = np.full((len(table), len(classes)), -1, np.int64)
    for column, (name, names) in enumerate(classes.items()):
        if name in table.columns:
            values = table[name].astype(object).to_numpy()
            codes[:, column] = codes_of(values, names, renaming.get(name, {}), name=name if strict else None)
    return codes


def codes_of(
    values: npt.NDArray[np.object_],
    classes: tuple[str, ...],
    renaming: Mapping[str, str | None],
    *,
    name: str | None = None,
) -> npt.NDArray[np.int64]:
    """Return values as numbers of classes, int64 ``[N]``; -1 where missing or left out.

    Args:
        values: Object ``[N]``.
        classes: Class names.
        renaming: What values become, where they are not classes as they are.
        name: The attribute, if a value that is neither renamed nor a class is an error; else it counts as missing.

    Raises:
        CrownsError: There is such a value.

    >>> values = np.array(["dead", "Alive", None, "gone"], dtype=object)
    >>> codes_of(values, ("alive", "dead"), {"Alive": "alive"}).tolist()
    [1, 0, -1, -1]
    """
    numbers, distinct = pd.factorize(values)
    place: dict[str | None, int] = {one: row for row, one in enumerate(classes)}
    found = [str(value) for value in distinct]
    if name is not None and (strange := [v for v in found if v not in renaming and v not in place]):
        wrong = int(np.isin(numbers, [found.index(value) for value in strange]).sum())
        raise CrownsError(
            _strange_message(name, strange, Counter({strange[0]: wrong}), {strange[0]: strange[0]}, classes)
        )
    of_value = [place.get(renaming.get(value, value), -1) for value in found]
    return np.array([*of_value, -1], np.int64)[numbers]
