"""What the values of a column are called as classes: an explicit map, and nothing but it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import ConfigError

UNKNOWN = ("", "unknown", "null", "<null>", "none", "nan", "n/a")
"""Values of an attribute, in any case of letters, that say nothing."""
NO_LABEL = ("", "null", "<null>", "nan")
"""Values of a class column that say nothing."""
NUMBERS = ("diameter", "x", "y")
"""Columns of numbers, which no map brings to classes."""
SHOWN_VALUES = 8
"""Values that a message lists."""

ValueMap = Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class Mapped:
    """Values of a file as classes.

    Attributes:
        classes: Object ``[N]`` of class names; None where a label is missing.
        strange: Bool ``[N]``: values that the map says nothing about; ``classes`` is None there.
        nulled: Bool ``[N]``: values that the map says to leave out.
        unused: Keys of the map that no row has.
    """

    classes: npt.NDArray[np.object_]
    strange: npt.NDArray[np.bool_]
    nulled: npt.NDArray[np.bool_]
    unused: tuple[str, ...]


def value_maps(values: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[str, str | None]]:
    """Return maps of values as text without blanks around it; whole numbers lose their point.

    Args:
        values: By attribute, or ``label``, the class of each value; None or empty for a missing label.

    Raises:
        ConfigError: A map is empty or no map, holds what is no text, or says two things about one value.

    >>> value_maps({"status": {1: "alive", "2 ": "dead", "Downed": None}})
    {'status': {'1': 'alive', '2': 'dead', 'Downed': None}}
    """
    return {str(name): _value_map(str(name), mapping) for name, mapping in values.items()}


def _value_map(name: str, mapping: object) -> dict[str, str | None]:
    if name in NUMBERS:
        raise ConfigError(
            f"values: {name} is a number and has no classes; accepted are label and names of attributes"
        )
    if not isinstance(mapping, Mapping) or not mapping:
        raise ConfigError(
            f"values: {name} must map values of the file to classes, found {mapping!r}; write it as "
            f"{{{name}: {{Live: alive, Standing dead: dead, Downed: null}}}}"
        )
    found: dict[str, str | None] = {}
    for key, value in mapping.items():
        text = _text(key, name)
        said = None if value is None else _text(value, name)
        target = None if said is None or said.casefold() in missing_for(name) else said
        if found.setdefault(text, target) != target:
            raise ConfigError(
                f"values: {name} says both {found[text] or 'null'} and {target or 'null'} of {text!r}; keep one"
            )
    return found


def _text(value: object, name: str) -> str:
    if isinstance(value, bool):
        raise ConfigError(
            f"values: {name} holds {value}, as YAML reads yes, no, on and off; put the value in quotes, as it stands "
            f'in the file, such as "{"Yes" if value else "No"}"'
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise ConfigError(f"values: {name} can not hold {value!r}; accepted are text, numbers, and null for a class")
    return str(value).strip()


def missing_for(name: str) -> tuple[str, ...]:
    """Return the words that stand for a missing label in the column of an attribute, or of ``label``."""
    return NO_LABEL if name == "label" else UNKNOWN


def mapped(words: npt.NDArray[np.object_], mapping: ValueMap, *, missing: tuple[str, ...]) -> Mapped:
    """Bring the values of a column to classes.

    A value is looked up as it is written, first among the keys of the map, then among its classes, which stand for
    themselves. Only where it is neither, the case of letters is passed over, and only if all that it then equals
    says the same. Words that stand for a missing label stay so unless the map has them as keys.

    Args:
        words: Object ``[N]`` of text without blanks around it; None where nothing is said.
        mapping: As :func:`value_maps` returns them, of one column.
        missing: Words, in lower case, that stand for a missing label.

    >>> words = np.array(["Live", "DEAD", "Snag", "unknown", None], dtype=object)
    >>> found = mapped(words, {"Live": "alive", "Dead": "dead"}, missing=UNKNOWN)
    >>> found.classes.tolist(), found.strange.tolist()
    (['alive', 'dead', None, None, None], [False, False, True, False, False])
    """
    numbers, distinct = pd.factorize(words)
    exact: dict[str, str | None] = {target: target for target in mapping.values() if target is not None}
    exact |= mapping
    folded: dict[str, set[str | None]] = {}
    for text, target in exact.items():
        folded.setdefault(text.casefold(), set()).add(target)
    by_case = {text: next(iter(targets)) for text, targets in folded.items() if len(targets) == 1}
    classes: list[str | None] = []
    strange, nulled = [], []
    used: set[str] = set()
    for word in map(str, distinct):
        fold = word.casefold()
        known = word in exact or fold in by_case
        target = exact[word] if word in exact else by_case.get(fold)
        used |= {fold} if known else set()
        classes.append(target)
        strange.append(not known and fold not in missing)
        nulled.append(known and target is None)
    # A row that says nothing has number -1, which takes what stands last.
    return Mapped(
        np.array([*classes, None], dtype=object)[numbers],
        np.array([*strange, False], dtype=bool)[numbers],
        np.array([*nulled, False], dtype=bool)[numbers],
        tuple(key for key in mapping if key.casefold() not in used),
    )


def shown(names: list[str] | tuple[str, ...]) -> str:
    """Return up to eight names in quotes.

    >>> shown(["a", "b"]), shown([str(n) for n in range(10)])
    ("'a', 'b'", "'0', '1', '2', '3', '4', '5', '6', '7' and 2 more")
    """
    more = f" and {len(names) - SHOWN_VALUES} more" if len(names) > SHOWN_VALUES else ""
    return ", ".join(map(repr, names[:SHOWN_VALUES])) + more


def strange_values(words: npt.NDArray[np.object_], found: Mapped) -> list[str]:
    """Return the different values that a map says nothing about, in the order of their rows."""
    return [str(word) for word in pd.unique(words[found.strange])]


def accepted(mapping: ValueMap) -> str:
    """Return the values that a map accepts, in words."""
    return shown(list(dict.fromkeys([*mapping, *(target for target in mapping.values() if target)])))


def hint(name: str, value: str, mapping: ValueMap) -> str:
    """Return how to say what a value is, as in a config file.

    >>> hint("status", "Snag", {"Standing dead": "dead"})
    'values: {status: {"Snag": dead}}'
    """
    target = next((target for target in mapping.values() if target), "null")
    return f'values: {{{name}: {{"{value}": {target}}}}}'
