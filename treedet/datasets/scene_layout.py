"""What stands where in a rendered scene: trees, buildings, roads and stones, in metres.

Everything here is drawn from the seed before a pixel exists, so the same seed describes the same ground at any GSD.
Coordinates are metres from the scene's top left corner, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Share = Callable[[Floats], Floats]
"""Points ``[N, 2]`` in metres to the probability ``[N]`` that a tree may stand there."""

BROADLEAF, CONIFER, PALM = range(3)
LEAFY, SPARSE, BROWN, BARE = range(4)
"""How a crown is clothed: in full leaf, thin leaf, dead leaf or none; the last two are dead."""

GROUNDS = ("grass", "dry_grass", "soil", "litter", "field", "sand")


@dataclass(frozen=True)
class Kind:
    """What a kind of scene is made of, where its configuration does not say otherwise.

    Attributes:
        forms: Shares of broadleaf, conifer and palm.
        cover: Range of the crowns' share of the ground (overlaps counted twice).
        diameter_m: Range of crown diameters.
        spacing: Least distance of two crowns as a share of their mean diameter.
        grounds: Ground materials to choose from.
        sun_elevation_deg: Range of sun elevations.
        rocks_per_ha: Range of stones per hectare.
        shrubs_per_ha: Range of shrubs per hectare.
    """

    forms: tuple[float, float, float]
    cover: tuple[float, float]
    diameter_m: tuple[float, float]
    spacing: float
    grounds: tuple[str, ...]
    sun_elevation_deg: tuple[float, float] = (30.0, 62.0)
    rocks_per_ha: tuple[float, float] = (0.0, 60.0)
    shrubs_per_ha: tuple[float, float] = (20.0, 200.0)


KINDS: Mapping[str, Kind] = {
    "open": Kind(
        (0.9, 0.1, 0.0), (0.08, 0.3), (3.0, 16.0), 0.95, ("dry_grass", "grass", "soil"), rocks_per_ha=(50, 900)
    ),
    "closed": Kind((0.8, 0.2, 0.0), (0.95, 1.25), (3.0, 18.0), 0.72, ("litter",)),
    "mixed": Kind((0.65, 0.35, 0.0), (0.4, 0.8), (2.5, 15.0), 0.8, ("grass", "dry_grass", "litter", "soil")),
    "conifer": Kind((0.08, 0.92, 0.0), (0.5, 1.0), (2.0, 9.0), 0.75, ("litter", "grass", "dry_grass")),
    "orchard": Kind((1.0, 0.0, 0.0), (0.2, 0.5), (2.2, 6.0), 1.05, ("grass", "soil", "dry_grass")),
    "hedgerow": Kind((0.95, 0.05, 0.0), (0.0, 0.03), (3.0, 12.0), 0.6, ("field", "grass")),
    "urban": Kind((0.75, 0.2, 0.05), (0.08, 0.22), (2.5, 12.0), 0.95, ("grass", "dry_grass", "soil")),
    "palms": Kind((0.08, 0.0, 0.92), (0.2, 0.55), (4.0, 9.5), 0.9, ("sand", "dry_grass", "grass", "soil")),
    "long_shadows": Kind((0.6, 0.4, 0.0), (0.1, 0.4), (2.5, 14.0), 0.95, ("grass", "dry_grass"), (12.0, 22.0)),
}


@dataclass(frozen=True)
class Trees:
    """Trees as parallel arrays.

    Attributes:
        xy: Float64 ``[N, 2]``, stems, metres.
        diameter: Float64 ``[N]``, crown diameters, metres.
        height: Float64 ``[N]``, tree heights, metres.
        form: Int64 ``[N]``: broadleaf, conifer or palm.
        look: Int64 ``[N]``: leafy, sparse, brown or bare.
        hue: Float64 ``[N]``, place within the palette, 0 to 1.
    """

    xy: Floats
    diameter: Floats
    height: Floats
    form: Ints
    look: Ints
    hue: Floats


@dataclass(frozen=True)
class Block:
    """A rotated rectangle on the ground: a road, a roof, a car, a lawn, a strip of soil.

    Lengths are metres, ``angle`` radians from the x axis, ``height`` that of the eaves, ``tone`` picks the colour.
    """

    material: str
    x: float
    y: float
    length: float
    width: float
    angle: float = 0.0
    height: float = 0.0
    tone: float = 0.5


@dataclass(frozen=True)
class Mounds:
    """Stones and shrubs as parallel arrays in metres: things that are round but no trees."""

    xy: Floats
    diameter: Floats
    is_rock: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """Everything that stands in a scene."""

    ground: str
    trees: Trees
    mounds: Mounds
    blocks: tuple[Block, ...]
    row_angle: float


@dataclass
class Plot:
    """A layout in the making.

    Attributes:
        rng: Source of every draw.
        kind: Defaults of the scene's kind.
        width: Scene width in metres.
        height: Scene height in metres.
        margin: Metres around the scene in which trees stand too.
        diameter_m: Range of crown diameters.
        cover: Share of the ground under crowns.
    """

    rng: np.random.Generator
    kind: Kind
    width: float
    height: float
    margin: float
    diameter_m: tuple[float, float]
    cover: float
    blocks: list[Block] = field(default_factory=list)
    xy: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    diameter: Floats = field(default_factory=lambda: np.zeros(0))
    planted: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def points(self, count: int) -> Floats:
        """Return uniform points ``[count, 2]`` over the scene and its margin."""
        low, high = -self.margin, (self.width + self.margin, self.height + self.margin)
        return self.rng.uniform((low, low), high, (count, 2))

    def diameters(self, count: int) -> Floats:
        """Return ``[count]`` crown diameters: many small, few large."""
        low, high = self.diameter_m
        return np.asarray(low + (high - low) * self.rng.beta(1.3, 2.4, count))

    def add(self, xy: Floats, diameter: Floats, *, planted: bool = False) -> None:
        """Add trees; planted ones are all of one sort."""
        self.xy = np.concatenate([self.xy, xy])
        self.diameter = np.concatenate([self.diameter, diameter])
        self.planted = np.concatenate([self.planted, np.full(len(xy), planted)])

    def clear(self) -> None:
        """Fell every tree."""
        self.xy, self.diameter, self.planted = self.xy[:0], self.diameter[:0], self.planted[:0]

    def is_free(self, xy: Floats, clearance: Floats | float) -> npt.NDArray[np.bool_]:
        """Return which points keep a distance of ``clearance`` metres from roads and roofs."""
        free = np.ones(len(xy), dtype=bool)
        for block in self.blocks:
            if block.material in ("lawn", "strip", "marking"):
                continue
            along, across = rotated(xy - (block.x, block.y), block.angle)
            outside = np.hypot(
                np.maximum(np.abs(along) - block.length / 2, 0), np.maximum(np.abs(across) - block.width / 2, 0)
            )
            free &= outside > clearance
        return free

    def scatter(self, *, cover: float, share: Share | None = None, tries: int = 14) -> None:
        """Place trees, large ones first, so that no two come closer than the kind's spacing."""
        area = (self.width + 2 * self.margin) * (self.height + 2 * self.margin)
        low, high = self.diameter_m
        mean_area = math.pi / 4 * (low + 0.35 * (high - low)) ** 2
        count = int(1.5 * cover * area / mean_area) + 1
        drawn = self.diameters(count)
        wanted = drawn[np.cumsum(math.pi / 4 * drawn**2) <= cover * area]
        for diameter in np.sort(wanted)[::-1]:
            candidates = self.points(tries)
            fits = self.is_free(candidates, 0.25 * diameter)
            if share is not None:
                fits &= self.rng.random(tries) < share(candidates)
            if len(self.xy):
                gap = np.hypot(*(candidates[:, None] - self.xy[None]).transpose(2, 0, 1))
                fits &= (gap > self.kind.spacing * (self.diameter + diameter) / 2).all(axis=1)
            if fits.any():
                self.add(candidates[fits][:1], np.array([diameter]))


def rotated(xy: Floats, angle: float) -> tuple[Floats, Floats]:
    """Return coordinates along and across a direction.

    >>> along, across = rotated(np.array([[0.0, 2.0]]), math.pi / 2)
    >>> along.round(6).tolist(), (across.round(6) + 0.0).tolist()
    ([2.0], [0.0])
    """
    cos, sin = math.cos(angle), math.sin(angle)
    return xy[..., 0] * cos + xy[..., 1] * sin, xy[..., 1] * cos - xy[..., 0] * sin
