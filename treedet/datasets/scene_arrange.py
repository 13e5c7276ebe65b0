"""Fills a plot after the manner of its kind: woods, orchards, hedges, streets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from treedet.datasets.scene_layout import (
    BARE,
    BROADLEAF,
    BROWN,
    CONIFER,
    LEAFY,
    PALM,
    SPARSE,
    Block,
    Floats,
    Layout,
    Mounds,
    Plot,
    Share,
    Trees,
    rotated,
)


def lay_out(plot: Plot, *, kind: str, dead_share: float, ground: str | None) -> Layout:
    """Fill a plot after the manner of its kind and return what stands there."""
    row_angle = float(plot.rng.uniform(0, math.pi))
    _ARRANGE.get(kind, _arrange_forest)(plot, row_angle)
    if plot.cover == 0:
        plot.clear()
    mounds = _mounds(plot)
    chosen = ground or str(plot.rng.choice(plot.kind.grounds))
    return Layout(chosen, _trees(plot, dead_share), mounds, tuple(plot.blocks), row_angle)


def _trees(plot: Plot, dead_share: float) -> Trees:
    rng, count = plot.rng, len(plot.xy)
    form = rng.choice(3, count, p=plot.kind.forms)
    form = np.where(plot.planted, PALM if plot.kind.forms[PALM] > 0.5 else BROADLEAF, form)
    dead = rng.random(count) < dead_share
    # One stand is mostly of one leaf density: the season and the species are shared.
    sparse = np.where(plot.planted, rng.random(), rng.random(count)) < rng.choice(
        [0.05, 0.3, 0.8], p=[0.65, 0.2, 0.15]
    )
    bare = rng.random(count) < np.array([0.65, 0.35, 0.0])[form]
    look = np.where(dead, np.where(bare, BARE, BROWN), np.where(sparse & (form == BROADLEAF), SPARSE, LEAFY))
    # Conifers are slender: what would be a wide crown is a tall tree.
    diameter = np.where(form == CONIFER, np.minimum(plot.diameter, 2 + 0.55 * (plot.diameter - 2)), plot.diameter)
    slender = np.array([0.75, 2.3, 1.1])[form]
    height = (2.5 + slender * diameter) * rng.uniform(0.8, 1.2, count)
    spread = np.where(plot.planted, 0.04, 0.22)
    hue = np.clip(rng.normal(rng.uniform(0.1, 0.9), spread), 0, 1)
    return Trees(plot.xy, diameter, np.minimum(height, 38.0), form, look, hue)


def _mounds(plot: Plot) -> Mounds:
    rng = plot.rng
    hectares = (plot.width + 2 * plot.margin) * (plot.height + 2 * plot.margin) / 1e4
    rocks = rng.poisson(rng.uniform(*plot.kind.rocks_per_ha) * hectares)
    shrubs = rng.poisson(rng.uniform(*plot.kind.shrubs_per_ha) * hectares)
    # Half of them gather in outcrops and thickets.
    xy = plot.points(rocks + shrubs)
    centres = plot.points(max(1, len(xy) // 25))
    gathered = rng.random(len(xy)) < 0.6
    near = centres[rng.integers(0, len(centres), len(xy))] + rng.normal(0, 4.0, xy.shape)
    xy = np.where(gathered[:, None], near, xy)
    is_rock = np.arange(len(xy)) < rocks
    spread = rng.lognormal(np.where(is_rock, -0.4, -0.1), np.where(is_rock, 0.8, 0.3))
    diameter = np.clip(spread, 0.3, np.where(is_rock, 6.0, 1.5))
    free = plot.is_free(xy, diameter / 2 + 0.3)
    return Mounds(xy[free], diameter[free], is_rock[free])


def _arrange_forest(plot: Plot, row_angle: float) -> None:
    """Plant closed, conifer and long-shadow stands: crowns all over, with an occasional glade."""
    del row_angle
    plot.scatter(cover=plot.cover, share=_patchy(plot, floor=0.55))


def _arrange_open(plot: Plot, row_angle: float) -> None:
    """Plant single trees and groups; a track now and then."""
    if plot.rng.random() < 0.25:
        _road(plot, row_angle, width=plot.rng.uniform(2.2, 3.5), material="track")
    plot.scatter(cover=plot.cover, share=_patchy(plot, floor=0.1))


def _arrange_orchard(plot: Plot, row_angle: float) -> None:
    """Plant rows of one size over the whole scene, with a few gaps."""
    reach = math.hypot(plot.width, plot.height) / 2 + plot.margin
    centre = np.array([plot.width / 2, plot.height / 2])
    _rows(plot, centre, length=2 * reach, depth=2 * reach, angle=row_angle)


def _arrange_hedgerow(plot: Plot, row_angle: float) -> None:
    """Plant lines of trees between fields, and a solitary tree here and there."""
    for turn in range(int(plot.rng.integers(1, 4))):
        _hedge(plot, row_angle + turn % 2 * math.pi / 2)
    if plot.rng.random() < 0.4:
        _road(plot, row_angle, width=plot.rng.uniform(3.0, 5.0), material="track")
    plot.scatter(cover=plot.cover)


def _arrange_urban(plot: Plot, row_angle: float) -> None:
    """Lay out streets with houses, cars and street trees, gardens behind."""
    rng = plot.rng
    roads = [
        _road(plot, row_angle + turn * math.pi / 2, width=rng.uniform(5.0, 8.5), material="asphalt")
        for turn in range(int(rng.integers(1, 3)))
    ]
    for road in roads:
        _cars(plot, road)
        if rng.random() < 0.7:
            _street_trees(plot, road)
    _houses(plot, row_angle, per_ha=rng.uniform(10, 26))
    for x, y in plot.points(int(rng.integers(1, 8))):
        size = rng.uniform(4, 16, 2)
        plot.blocks.insert(0, Block("lawn", x, y, size[0], size[1], row_angle, tone=rng.random()))
    plot.scatter(cover=plot.cover)


def _arrange_palms(plot: Plot, row_angle: float) -> None:
    """Plant a plantation in rows, or palms as they come."""
    if plot.rng.random() < 0.5:
        _arrange_orchard(plot, row_angle)
    else:
        plot.scatter(cover=plot.cover, share=_patchy(plot, floor=0.3))


def _arrange_mixed(plot: Plot, row_angle: float) -> None:
    """Lay out some of everything: a road with a hedge, a house or two, an orchard, woodland and open ground.

    Small scenes, under 60 m, take some of it by chance; larger ones take it all.
    """
    rng = plot.rng
    small = min(plot.width, plot.height) < 60

    def takes(chance: float) -> bool:
        return not small or rng.random() < chance

    road = None
    if takes(0.35):
        road = _road(plot, row_angle, width=rng.uniform(3.5, 6.5), material="asphalt")
        _cars(plot, road)
        _hedge(plot, row_angle, beside=road)
    if takes(0.25):
        _orchard_beside(plot, road, row_angle)
    if takes(0.3):
        _houses(plot, row_angle, per_ha=rng.uniform(4, 9))
    plot.scatter(cover=plot.cover, share=_patchy(plot, floor=0.04, sharp=5.0))


def _orchard_beside(plot: Plot, road: Block | None, angle: float) -> None:
    """Plant a small orchard, on the wider side of the road where there is one."""
    rng = plot.rng
    depth = rng.uniform(15, 24)
    length = 1.4 * depth
    middle = np.array([plot.width, plot.height]) / 2
    centre = rng.uniform(0.25, 0.75, 2) * (plot.width, plot.height)
    if road is not None:
        along, across = rotated(middle - (road.x, road.y), road.angle)
        side = math.copysign(road.width / 2 + depth / 2 + 6, float(across))
        centre = _along(road, np.array([float(along) + rng.uniform(-0.2, 0.2) * plot.width]), side)[0]
    _rows(plot, centre, length=length, depth=depth, angle=angle, largest_m=4.5)
    # Keeps the wood out of the orchard; painted as mown grass.
    plot.blocks.append(Block("mown", centre[0], centre[1], length + 5, depth + 5, angle, 0.0, rng.random()))


_ARRANGE: Mapping[str, Callable[[Plot, float], None]] = {
    "open": _arrange_open,
    "orchard": _arrange_orchard,
    "hedgerow": _arrange_hedgerow,
    "urban": _arrange_urban,
    "palms": _arrange_palms,
    "mixed": _arrange_mixed,
}


def _patchy(plot: Plot, *, floor: float, sharp: float = 2.5) -> Share:
    """Return a smooth random field: where woodland is, and where glades are."""
    waves = plot.rng.normal(0, 2 * math.pi / 45, (5, 2))
    phase = plot.rng.uniform(0, 2 * math.pi, 5)

    def share(xy: Floats) -> Floats:
        level = np.cos(xy @ waves.T + phase).sum(axis=1)
        return np.asarray(floor + (1 - floor) / (1 + np.exp(-sharp * (level + 0.4))))

    return share


def _road(plot: Plot, angle: float, *, width: float, material: str) -> Block:
    x, y = plot.rng.uniform(0.15, 0.85, 2) * (plot.width, plot.height)
    length = 2 * (math.hypot(plot.width, plot.height) + plot.margin)
    road = Block(material, x, y, length, width, angle, tone=plot.rng.random())
    plot.blocks.append(road)
    if material == "asphalt" and plot.rng.random() < 0.6:
        plot.blocks.append(Block("marking", x, y, length, 0.15, angle))
    return road


def _along(block: Block, at: Floats, offset: Floats | float) -> Floats:
    """Return points ``[N, 2]`` at distances along a block's axis and beside it."""
    cos, sin = math.cos(block.angle), math.sin(block.angle)
    beside = np.broadcast_to(offset, at.shape)
    return np.stack([block.x + at * cos - beside * sin, block.y + at * sin + beside * cos], axis=-1)


def _inside(plot: Plot, xy: Floats) -> npt.NDArray[np.bool_]:
    low, high = -plot.margin, np.array([plot.width + plot.margin, plot.height + plot.margin])
    return np.asarray(((xy > low) & (xy < high)).all(axis=1))


def _cars(plot: Plot, road: Block) -> None:
    count = plot.rng.poisson(road.length / 45)
    at = plot.rng.uniform(-road.length / 2, road.length / 2, count)
    side = plot.rng.choice([-1.0, 1.0], count)
    xy = _along(road, at, side * road.width / 4)
    for x, y in xy[_inside(plot, xy)]:
        tone = float(plot.rng.random())
        plot.blocks.append(Block("car", x, y, 4.4, 1.8, road.angle, height=1.45, tone=tone))


def _street_trees(plot: Plot, road: Block) -> None:
    diameter = float(plot.diameters(1)[0])
    at = np.arange(-road.length / 2, road.length / 2, diameter * plot.rng.uniform(1.1, 2.5))
    xy = _along(road, at, road.width / 2 + plot.rng.uniform(1.0, 2.0))
    xy = xy[_inside(plot, xy) & (plot.rng.random(len(at)) < 0.85)]
    xy = xy[plot.is_free(xy, 0.4)]
    plot.add(xy, diameter * plot.rng.uniform(0.75, 1.15, len(xy)))


def _hedge(plot: Plot, angle: float, *, beside: Block | None = None) -> None:
    rng = plot.rng
    if beside is None:
        centre = rng.uniform(0.1, 0.9, 2) * (plot.width, plot.height)
        length = 2 * (math.hypot(plot.width, plot.height) + plot.margin)
        line, offset = Block("strip", centre[0], centre[1], length, 1.0, angle), 0.0
    else:
        line, offset = beside, beside.width / 2 + 2.5
    mean = float(np.clip(rng.uniform(*plot.diameter_m), 3.0, 7.0))
    at = np.arange(-line.length / 2, line.length / 2, mean * rng.uniform(0.75, 0.95))
    at = at + rng.normal(0, 0.1 * mean, len(at))
    xy = _along(line, at, offset + rng.normal(0, 0.4, len(at)))
    present = _inside(plot, xy) & (rng.random(len(at)) < 0.92)
    plot.add(xy[present], np.clip(mean * rng.uniform(0.7, 1.35, int(present.sum())), 2.0, None))
    if beside is None:
        plot.blocks.insert(0, Block("strip", line.x, line.y, line.length, mean * 1.1, angle, tone=rng.random()))


def _rows(plot: Plot, centre: Floats, *, length: float, depth: float, angle: float, largest_m: float = 9.0) -> None:
    """Plant rows of nearly equal trees in a rectangle."""
    rng = plot.rng
    diameter = float(np.clip(rng.uniform(*plot.diameter_m), 2.2, largest_m))
    step, row_step = diameter * rng.uniform(1.02, 1.35), diameter * rng.uniform(1.25, 2.0)
    along = np.arange(-length / 2, length / 2, step)
    across = np.arange(-depth / 2, depth / 2, row_step)
    grid = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
    grid = grid + rng.normal(0, 0.05 * diameter, grid.shape)
    cos, sin = math.cos(angle), math.sin(angle)
    xy = centre + grid @ np.array([[cos, sin], [-sin, cos]])
    sizes = diameter * rng.uniform(0.8, 1.12, len(xy))
    keep = _inside(plot, xy) & (rng.random(len(xy)) < 0.94) & plot.is_free(xy, sizes * 0.3)
    plot.add(xy[keep], sizes[keep], planted=True)
    for offset in across:
        x, y = centre + np.array([-sin, cos]) * offset
        plot.blocks.append(Block("strip", x, y, length, 0.6 * diameter, angle, tone=0.4))


def _houses(plot: Plot, angle: float, *, per_ha: float) -> None:
    hectares = (plot.width + 2 * plot.margin) * (plot.height + 2 * plot.margin) / 1e4
    placed: list[Block] = []
    for x, y in plot.points(3 + int(per_ha * hectares * 2)):
        if len(placed) >= per_ha * hectares:
            break
        length, width = plot.rng.uniform(8, 18), plot.rng.uniform(6, 11)
        here = np.array([[x, y]])
        reach = math.hypot(length, width) / 2
        if not plot.is_free(here, reach)[0]:
            continue
        if len(plot.xy) and (np.hypot(*(plot.xy - here).T) < reach).any():
            continue
        turned = angle + plot.rng.choice([0.0, math.pi / 2]) + plot.rng.normal(0, 0.03)
        kind = str(plot.rng.choice(["gable", "flat", "green_roof"], p=[0.65, 0.2, 0.15]))
        roof = Block(kind, x, y, length, width, turned, height=plot.rng.uniform(3, 7), tone=plot.rng.random())
        placed.append(roof)
        plot.blocks.append(roof)
