"""A stand with crowns of several sizes, and the table that a forester would make of it."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from factories import UTM

from treedet.core.crowns import DTYPES

EAST, NORTH = 620_000.0, 5_600_000.0
VISIBLE, OVERTOPPED, STRANGER = "visible", "overtopped", "stranger"


@dataclass(frozen=True)
class Stand:
    """Crowns, the field table, and what is true of each of its rows."""

    crowns: gpd.GeoDataFrame
    field: pd.DataFrame
    kind: npt.NDArray[np.str_]
    crown_id: npt.NDArray[np.int64]
    shifts: dict[str, npt.NDArray[np.float64]]


def crowns_table(boxes: npt.NDArray[np.float64], crs: str | None = UTM) -> gpd.GeoDataFrame:
    """Return boxes ``[N, 4]`` as a crowns table."""
    count = len(boxes)
    size = (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)
    values = {
        "crown_id": np.arange(1, count + 1),
        "label": pd.Categorical(["tree"] * count),
        "score": np.full(count, 0.8, np.float32),
        "area_m2": (size**2).astype(np.float32),
        "crown_m2": (size**2).astype(np.float32),
        "diameter_m": size.astype(np.float32),
        "cut": np.zeros(count, bool),
        "edge": np.zeros(count, bool),
        "source": pd.Series([""] * count, dtype="str"),
    }
    assert set(values) == set(DTYPES)
    return gpd.GeoDataFrame(values, geometry=shapely.box(*boxes.T), crs=crs)[["geometry", *values]]


def stand(seed: int = 0, *, plots: int = 4, side: float = 50.0, per_plot: int = 45) -> Stand:
    """Return a seeded stand: 15 % of stems overtopped inside crowns, 5 % without crown, a shift for each plot."""
    rng = np.random.default_rng(seed)
    boxes, rows, shifts = [], [], {}
    for number in range(plots):
        corner = np.array([EAST + (number % 2) * 120, NORTH + (number // 2) * 120])
        circles = _circles(rng, per_plot, side)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 3)
        shift = length * np.array([np.cos(angle), np.sin(angle)])
        shifts[f"P{number}"] = shift
        first, count = len(boxes), len(circles)
        boxes += [[x - r, y - r, x + r, y + r] for x, y, r in circles + np.array([*corner, 0])]
        visible = circles[:, :2] + rng.normal(0, 0.12, (count, 2)) * circles[:, 2:]
        stems = [
            (p, 12 + 8 * r, VISIBLE, first + i + 1)
            for i, (p, r) in enumerate(zip(visible, circles[:, 2], strict=True))
        ]
        below = rng.choice(count, round(0.15 / 0.8 * count), replace=False)
        off = rng.uniform(-0.5, 0.5, (len(below), 2)) * circles[below, 2:]
        stems += [(p, 8.0, OVERTOPPED, -1) for p in circles[below, :2] + off]
        stems += [(p, 9.0, STRANGER, -1) for p in _gaps(rng, circles, side, round(0.05 / 0.8 * count))]
        rows += [(f"P{number}", *(place + corner - shift), *rest) for place, *rest in stems]
    order = rng.permutation(len(rows))
    table = pd.DataFrame([rows[i] for i in order], columns=["Plot", "X", "Y", "DBH", "kind", "crown"])
    kind, crown = table.pop("kind").to_numpy(), table.pop("crown").to_numpy()
    table["tree_id"] = [f"T{i}" for i in range(len(table))]
    table["SP_CODE"] = rng.choice(["PIPO", "ABCO", ""], len(table), p=[0.5, 0.4, 0.1])
    table["COND"] = rng.choice(["Live", "Standing dead"], len(table))
    return Stand(crowns_table(np.array(boxes)), table, kind, crown, shifts)


def _circles(rng: np.random.Generator, count: int, side: float) -> npt.NDArray[np.float64]:
    found: list[list[float]] = []
    for _ in range(20_000):
        if len(found) == count:
            break
        r, (x, y) = rng.uniform(1, 3.2), rng.uniform(4, side - 4, 2)
        if all(np.hypot(x - a, y - b) > r + c + 0.2 for a, b, c in found):
            found.append([x, y, r])
    return np.array(found)


def _gaps(
    rng: np.random.Generator, circles: npt.NDArray[np.float64], side: float, count: int
) -> npt.NDArray[np.float64]:
    """Return places beyond the reach of every crown."""
    places = rng.uniform(-12, side + 12, (20_000, 2))
    free = (circles[:, 2] + 1.8 < np.hypot(*(places[:, None] - circles[None, :, :2]).T).T).all(axis=1)
    return places[free][:count]
