"""What readers of pixel boxes share: rows as a file states them, before anything is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

BOX = ["xmin", "ymin", "xmax", "ymax"]
DEFAULT_LABEL = "tree"


@dataclass(frozen=True, eq=False)
class BoxRows:
    """Boxes as a file states them, those without area included.

    Attributes:
        boxes: ``image_path``, ``xmin``, ``ymin``, ``xmax``, ``ymax`` (float64), ``label``, then whatever else the
            file says. The index counts rows from 1; rows that only name an image are left out of the table.
        images: Names of all images in the order of the file, those without a crown included.
        place: How messages call the row of an index, such as ``a.csv, line 3``.
        sizes: Width and height in pixels of the images that the file tells them for.
        normalised: Coordinates are fractions of an image's width and height, not pixels.
        notices: What was assumed or left out.
    """

    boxes: pd.DataFrame
    images: tuple[str, ...]
    place: Callable[[int], str]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    normalised: bool = False
    notices: tuple[str, ...] = ()

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """Float64 ``[N, 4]``, ``(xmin, ymin, xmax, ymax)``."""
        return self.boxes[BOX].to_numpy(dtype=np.float64).reshape(-1, 4)


def without_area(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which boxes ``[N, 4]`` have no area or are not numbers.

    >>> without_area(np.array([[0.0, 0, 1, 1], [2, 0, 1, 1], [0, 0, np.nan, 1]])).tolist()
    [False, True, True]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(~(np.isfinite(boxes).all(axis=1) & (sides > 0).all(axis=1)), dtype=bool)


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without byte order mark, or in the code page of western Europe."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What spreadsheets in western Europe and America write when not asked for UTF-8.
        return data.decode("cp1252", errors="replace")


def frame(
    images: Iterable[str],
    boxes: npt.NDArray[np.float64],
    labels: Iterable[str],
    others: Mapping[str, pd.Series[Any]] | None = None,
    *,
    rows: npt.NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Return the table of :class:`BoxRows` with its agreed dtypes; ``rows`` are its index, else 1 to N."""
    values = {"image_path": pd.Series(list(images), dtype="str")}
    values |= {name: pd.Series(side, dtype="float64") for name, side in zip(BOX, boxes.T, strict=True)}
    values["label"] = pd.Series(list(labels), dtype="str").str.strip()
    values |= {name: column.reset_index(drop=True) for name, column in (others or {}).items()}
    table = pd.DataFrame(values)
    return table.set_axis(pd.Index(np.arange(1, len(table) + 1) if rows is None else rows), axis=0)
