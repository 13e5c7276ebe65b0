"""By which classes annotated and predicted crowns are compared."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.datasets.pairing import some
from treedet.errors import TreedetWarning

log = logging.getLogger("treedet")


@dataclass(frozen=True)
class Classes:
    """The classes that annotated and predicted crowns are compared by.

    Attributes:
        names: Names of the classes; a single one stands for all crowns, which are compared without classes.
        predicted: Names on the predicting side, in the order of its class numbers.
        said: What has to be known about the comparison, in words.
    """

    names: tuple[str, ...]
    predicted: tuple[str, ...]
    said: tuple[str, ...] = ()

    def codes(self, labels: Iterable[str]) -> npt.NDArray[np.int64] | None:
        """Return the class of each crown as a position in ``names``, int64 ``[N]``; None without classes.

        Args:
            labels: ``[N]`` names of either side.

        >>> Classes(("alive", "dead"), ("alive", "dead")).codes(["Dead", "alive"]).tolist()
        [1, 0]
        """
        if len(self.names) == 1:
            return None
        position = {name.casefold(): i for i, name in enumerate(self.names)}
        codes, found = pd.factorize(pd.Series(list(labels), dtype=object))
        of_name = np.array([position[str(name).casefold()] for name in found], dtype=np.int64)
        return of_name[codes] if len(codes) else np.zeros(0, np.int64)


def common(truth_names: Iterable[str], predicted_names: Iterable[str]) -> Classes:
    """Return the classes that two sides are compared by; names are compared without case.

    Where a side has a single class, or no name is on both sides, crowns are compared without classes. A class that
    only one side has stays: its crowns are all missed, or all false alarms.

    Args:
        truth_names: Classes of the annotated crowns.
        predicted_names: Classes a model can say, in the order of its class numbers; or those in a file.

    Warns:
        TreedetWarning: Both sides have several classes, and some are on one side only.

    >>> common(["Dead", "Alive"], ["alive", "dead"]).names, common(["tree"], ["tree"]).names
    (('alive', 'dead'), ('tree',))
    """
    predicted = tuple(str(name) for name in predicted_names)
    ours, theirs = by_casefold(truth_names), by_casefold(predicted)
    if not ours or not theirs:
        return Classes(tuple((ours or theirs).values()) or ("tree",), predicted)
    if len(ours) == 1 or len(theirs) == 1:
        single = theirs if len(theirs) == 1 else ours
        said: tuple[str, ...] = ()
        if set(ours) != set(theirs):
            said = (
                f"crowns are compared without classes: the truth has {some(list(ours.values()))}, the prediction "
                f"{some(list(theirs.values()))}",
            )
            log.info("%s", said[0])
        return Classes(tuple(single.values()), predicted, said)
    names = {**theirs, **{key: name for key, name in ours.items() if key not in theirs}}
    missing = [name for key, name in ours.items() if key not in theirs]
    extra = [name for key, name in theirs.items() if key not in ours]
    if not missing and not extra:
        return Classes(tuple(names.values()), predicted)
    apart = len(names) == len(ours) + len(theirs)
    line = _one_sided(missing, extra, apart=apart)
    warnings.warn(line, TreedetWarning, stacklevel=2)
    return Classes(("tree",) if apart else tuple(names.values()), predicted, (line,))


def by_casefold(names: Iterable[str]) -> dict[str, str]:
    """Return the first spelling of each name by the name without case."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(str(name).casefold(), str(name))
    return found


def _one_sided(missing: Sequence[str], extra: Sequence[str], *, apart: bool) -> str:
    sides = (missing, "truth"), (extra, "prediction")
    only = [f"{some(names)} only in the {side}" for names, side in sides if names]
    then = (
        "no class is on both sides, so crowns are compared without classes"
        if apart
        else "their crowns count as missed, or as false alarms"
    )
    return (
        f"classes differ, {' and '.join(only)}; {then}: name them alike (case does not matter), or state the column "
        "of the class with columns={'label': ...} (--columns.label)"
    )
