"""JSON text for many rows at once, and a file that grows by them."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd


def records(table: pd.DataFrame, *, decimals: int = 7) -> npt.NDArray[np.object_]:
    """Return each row as the text of a JSON object; NaN and missing values are null.

    Args:
        table: Plain columns.
        decimals: Digits kept behind the point; seven is what a float32 below 1 holds.

    >>> records(pd.DataFrame({"a": [1, 2], "b": ["x", None]})).tolist()
    ['{"a":1,"b":"x"}', '{"a":2,"b":null}']
    """
    if not len(table.columns):
        return np.full(len(table), "{}", dtype=object)
    text = table.to_json(orient="records", lines=True, double_precision=decimals, date_format="iso")
    return np.array(text.splitlines(), dtype=object)


def arrays(values: npt.NDArray[np.float64], *, decimals: int) -> npt.NDArray[np.object_]:
    """Return each row of ``[N, K]`` numbers as the text of a JSON array.

    >>> arrays(np.array([[1.0, 2.5], [3.0, 4.0]]), decimals=3).tolist()
    ['[1.0,2.5]', '[3.0,4.0]']
    """
    text = pd.DataFrame(values).to_json(orient="values", double_precision=decimals)
    rows = np.array(text[2:-2].split("],["), dtype=object) if len(values) else np.zeros(0, dtype=object)
    return np.asarray("[" + rows + "]", dtype=object)


class ItemsFile:
    """A JSON file with one long array in it, appended to in parts.

    Args:
        path: The file, created at once.
        head: Text up to and including the bracket that opens the array.
    """

    def __init__(self, path: Path, head: str) -> None:
        self._out: IO[str] = path.open("w", encoding="utf-8", newline="\n")
        self._out.write(head)
        self._separator = "\n"

    def extend(self, items: npt.NDArray[np.object_]) -> None:
        """Add items, each the text of one JSON value."""
        if len(items):
            self._out.write(self._separator + ",\n".join(items.tolist()))
            self._separator = ",\n"

    def end(self, tail: str) -> None:
        """Write what follows the last item and close."""
        self._out.write(tail)
        self.close()

    def close(self) -> None:
        """Close the file; called more than once."""
        self._out.close()
