"""Conditions on crowns, such as ``status == 'dead' and status_p > 0.8``, answered for each row of a table.

A crown without a value is treated as SQL does: it is neither equal nor unequal to anything, in a list or outside of
it, and ``not`` does not change that. It is kept where the rest of the condition decides, as in
``status == 'dead' or score > 0.9``, and found by ``status.isna()``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import ConfigError

if TYPE_CHECKING:
    Series = pd.Series[Any]
else:
    Series = pd.Series


REFUSALS = (
    *(ValueError, TypeError, SyntaxError, KeyError, AttributeError, NameError),
    # pandas' word for Python it does not evaluate; a division by zero
    *(NotImplementedError, ArithmeticError),
)
"""What a condition that can not be used raises."""


class _Names(Series):
    """A column of names that knows which there are, and for which "unknown" is an answer."""

    def __eq__(self, other: object) -> Series:  # type: ignore[override]
        return self._answer(other, super().__eq__)

    def __ne__(self, other: object) -> Series:  # type: ignore[override]
        return self._answer(other, super().__ne__)

    def isin(self, values: object) -> Series:
        """Tell which names are in a list."""
        return self._answer(values, super().isin)

    __hash__ = None

    def _answer(self, other: object, asked: Callable[[Any], Series]) -> Series:
        if not isinstance(other, pd.Series):
            self._refuse_unknown(other)
        return asked(other).astype("boolean").mask(self.isna())

    def _refuse_unknown(self, other: object) -> None:
        """Raise for what the column can never be: silently, it would keep nothing, or everything."""
        names = [str(name) for name in self.cat.categories]
        values = list(other) if isinstance(other, list | tuple | set | np.ndarray) else [other]
        if unknown := [value for value in values if value not in names]:
            value = str(unknown[0]) if isinstance(unknown[0], str) else unknown[0]
            raise ConfigError(
                f"{self.name} is never {value!r}; accepted are {', '.join(map(repr, names))}, and {self.name}.isna() "
                "for crowns without a value"
            )


def holds(where: str, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return for which rows a condition holds, bool ``[N]``.

    Args:
        where: The condition, in the language of :func:`pandas.eval`.
        table: Crowns; columns of categories are names, and compared with those alone that they can hold.

    Raises:
        ConfigError: The condition can not be understood, is not true or false for each row, or compares a column of
            names with what it never is.

    >>> status = pd.Categorical(["alive", "dead", None], categories=["alive", "dead"])
    >>> table = pd.DataFrame({"status": status, "status_p": [0.9, 0.8, 0.6]})
    >>> [holds(where, table).tolist() for where in ("status != 'alive'", "status_p < 0.7 or status == 'dead'")]
    [[False, True, False], [False, True, True]]
    """
    columns = {
        str(name): _Names(table[name]) if isinstance(table[name].dtype, pd.CategoricalDtype) else table[name]
        for name in table.columns
        if name != "geometry"
    }
    try:
        answer = pd.eval(where, engine="python", resolvers=[columns], local_dict={}, global_dict={})
        if not (isinstance(answer, pd.Series) and answer.dtype in ("bool", "boolean")):
            raise ValueError("it gives something else than true or false")
    except ConfigError as error:
        raise ConfigError(f"condition {where!r} can not be used: {error}") from error
    except (*REFUSALS, re.error) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"condition {where!r} can not be used: {reason}; it must be true or false for each crown, "
            f"with the columns {', '.join(columns)}"
        ) from error
    return answer.fillna(False).to_numpy(dtype=bool)
