"""By which attributes annotated and predicted crowns are compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.datasets.pairing import some
from treedet.errors import CrownsError
from treedet.evaluation.classes import by_casefold
from treedet.metrics.paired import PairedAttribute
from treedet.vectors.columns import Layout


@dataclass(frozen=True)
class Attributes:
    """The attributes that annotated and predicted crowns are compared by.

    Attributes:
        names: Classes by attribute: those that can be predicted, then those that only the truth has.
        predicted: Classes by attribute on the predicting side, in the order of its class numbers.
        said: What has to be known about the comparison, in words.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    predicted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def paired(self, truth: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, PairedAttribute]:
        """Return what is known and said of the crowns of one ground, by attribute.

        Args:
            truth: Annotated crowns, ``[N]``; a table without the column of an attribute knows nothing of it.
            predicted: Predicted crowns, ``[M]``.
        """
        return {
            name: PairedAttribute(
                names,
                _codes(truth, name, names),
                _codes(predicted, name, names),
                _probabilities(predicted, f"{name}_p"),
            )
            for name, names in self.names.items()
        }


def common_attributes(
    truth: Iterable[pd.DataFrame],
    predicted: Mapping[str, Sequence[str]],
    *,
    asked: Collection[str] = (),
    points: bool = False,
) -> Attributes:
    """Return the attributes that two sides are compared by: those on both; classes are compared without case.

    A class that only the truth has stays, as one that is never predicted.

    Args:
        truth: Tables of annotated crowns.
        predicted: Classes by attribute that a model can say, in the order of its class numbers; or those in a file.
        asked: Attributes that somebody asked for by name: their classes have to be known.
        points: The truth is stems, of which nothing is compared.

    Raises:
        CrownsError: The truth of an attribute asked for has a class that can not be predicted.

    >>> table = pd.DataFrame({"status": ["Dead", None], "status_p": [1.0, None]})
    >>> common_attributes([table], {"status": ("alive", "dead")}).names
    {'status': ('alive', 'dead')}
    """
    known = _known(truth)
    if points:
        both = [name for name in predicted if known.get(name)]
        return Attributes(said=(f"{some(both)}: compared on crowns alone, and the truth is points",) if both else ())
    names, said = {}, []
    for name in dict.fromkeys([*predicted, *known]):
        if name not in predicted:
            if known[name]:
                said.append(
                    f"{name} is in the truth alone ({some(known[name])}), so it is not compared: nothing predicts it"
                )
        elif name not in known:
            said.append(f"{name} is predicted, but the truth has no column of it, so it is not compared")
        elif not known[name]:
            said.append(f"{name} is predicted, but known of no annotated crown, so it is not compared")
        else:
            ours, theirs = by_casefold(known[name]), by_casefold(predicted[name])
            extra = [value for key, value in ours.items() if key not in theirs]
            if extra and name in asked:
                raise CrownsError(_strange(name, extra, list(theirs.values())))
            if extra:
                said.append(
                    f"{name}: {some(extra)} in the truth can not be predicted, only {some(list(theirs.values()))}; "
                    "nothing said about these crowns is right"
                )
            names[name] = (*theirs.values(), *extra)
    return Attributes(names, {name: tuple(map(str, predicted[name])) for name in names}, tuple(said))


def said_classes(tables: Iterable[pd.DataFrame]) -> dict[str, tuple[str, ...]]:
    """Return the classes of each attribute that tables of predicted crowns name, declared ones included.

    >>> said_classes([pd.DataFrame({"status": pd.Categorical(["dead"], ["alive", "dead"]), "status_p": [0.5]})])
    {'status': ('alive', 'dead')}
    """
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        for name, classes in Layout.of_table(table).attributes.items():
            found.setdefault(name, {}).update(dict.fromkeys(classes))
    return {name: tuple(classes) for name, classes in found.items()}


def _known(tables: Iterable[pd.DataFrame]) -> dict[str, list[str]]:
    """Return the classes of each attribute that annotated crowns have, in the order of the alphabet."""
    found: dict[str, set[str]] = {}
    for table in tables:
        for name in Layout.of_table(table).attributes:
            found.setdefault(name, set()).update(str(value) for value in table[name].dropna().unique())
    return {name: sorted(values) for name, values in found.items()}


def _strange(name: str, extra: Sequence[str], accepted: Sequence[str]) -> str:
    return (
        f"{name}: the truth has {', '.join(map(repr, extra[:5]))}, which the model can not say; it says "
        f"{some(accepted)}: bring the values of the truth to these with values= (--values.{name}, such as "
        f'values: {{{name}: {{"{extra[0]}": {accepted[0]}}}}}; null leaves crowns out)'
    )


def _codes(table: pd.DataFrame, name: str, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the class of each row as a position in ``names``, -1 for none."""
    if name not in table:
        return np.full(len(table), -1, np.int64)
    position = {one.casefold(): i for i, one in enumerate(names)}
    codes, found = pd.factorize(table[name].astype(object))
    # A row that says nothing has number -1, which takes what stands last.
    of_name = np.array([*(position.get(str(one).casefold(), -1) for one in found), -1], dtype=np.int64)
    return of_name[codes]


def _probabilities(table: pd.DataFrame, column: str) -> npt.NDArray[np.float32]:
    if column not in table:
        return np.full(len(table), np.nan, np.float32)
    found: npt.NDArray[Any] = table[column].to_numpy(dtype=np.float32, na_value=np.nan)
    return found
