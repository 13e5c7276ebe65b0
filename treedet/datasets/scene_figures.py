"""Single crowns over their own patch of pixels: outline in metres, relief and colour of each form of tree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from treedet.datasets.scene_canvas import Canvas, Image, Patch, linear, sample_foliage
from treedet.datasets.scene_layout import BARE, BROADLEAF, BROWN, CONIFER, PALM, SPARSE, Floats

_BEARINGS = np.linspace(0, 2 * math.pi, 721)
_GREENS = {
    BROADLEAF: linear((84, 98, 62), (102, 114, 72), (76, 92, 64), (116, 120, 86), (104, 106, 86), (124, 124, 78)),
    CONIFER: linear((62, 76, 60), (72, 86, 66), (84, 96, 74), (80, 94, 86)),
    PALM: linear((104, 120, 74), (122, 132, 88), (116, 124, 84)),
}
_AUTUMN = linear((168, 140, 70), (162, 122, 62), (176, 154, 80), (134, 110, 62))
_THIN = linear((128, 126, 106), (112, 116, 90), (136, 132, 114))
_BROWN = linear((132, 106, 84), (146, 106, 80), (146, 132, 114), (150, 146, 140))
_BARE = linear((186, 180, 170), (158, 150, 140))


@dataclass(frozen=True)
class Figure:
    """A crown over its patch.

    Attributes:
        outline: Float64 ``[M, 2]``, metres from the stem; its bounds are the crown's box.
        mask: Bool ``[K, K]``.
        rise: Float32 ``[K, K]``, metres above the ground.
        colour: Float32 ``[K, K, 3]``, linear reflectance.
        shadow: Bool ``[K, K]``, what throws a thin shadow, for crowns that one can see through.
    """

    outline: Floats
    mask: npt.NDArray[np.bool_]
    rise: Image
    colour: Image
    shadow: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Tree:
    """One tree: the fields of :class:`Trees`, and its own source of draws."""

    x: float
    y: float
    diameter: float
    height: float
    form: int
    look: int
    hue: float
    rng: np.random.Generator


def draw_crown(canvas: Canvas, patch: Patch, tree: Tree, *, autumn: float) -> Figure:
    """Draw a tree's crown as its form and look ask for.

    Args:
        canvas: Gives the GSD.
        patch: Pixels around the stem; the figure covers all of it, also beyond the canvas.
        tree: What to draw.
        autumn: Probability that a broadleaf is in autumn colours.
    """
    if tree.form == PALM:
        return _palm(canvas, patch, tree)
    if tree.look == BARE:
        return _bare(canvas, patch, tree)
    return _conifer(canvas, patch, tree) if tree.form == CONIFER else _broadleaf(canvas, patch, tree, autumn)


def is_see_through(tree: Tree) -> bool:
    """Return whether a tree throws the thin shadow of its twigs or fronds instead of a solid one."""
    return tree.form == PALM or tree.look == BARE


def _outline(radius: Floats) -> Floats:
    return np.stack([radius * np.cos(_BEARINGS), radius * np.sin(_BEARINGS)], axis=-1)


def _harmonics(rng: np.random.Generator, orders: Floats, amplitude: Floats) -> Floats:
    """Return a periodic curve over the bearings: cosines of the given orders and random phases."""
    phase = rng.uniform(0, 2 * math.pi, len(orders))
    size = amplitude * rng.normal(0, 1, len(orders))
    return np.asarray((size[:, None] * np.cos(orders[:, None] * _BEARINGS + phase[:, None])).sum(axis=0))


def _polar(patch: Patch, radius: Floats) -> tuple[Image, Image, Image]:
    """Return distance, bearing and distance relative to the outline, over the patch."""
    distance = np.hypot(patch.u, patch.v)
    bearing = np.arctan2(patch.v, patch.u) % np.float32(2 * math.pi)
    reach = radius.astype(np.float32)[np.rint(bearing * (720 / (2 * math.pi))).astype(np.int32)]
    return distance, bearing, distance / reach


def _texture(canvas: Canvas, patch: Patch, tree: Tree, scale: float) -> Image:
    turn, across, down = tree.rng.uniform(0, 1, 3)
    return sample_foliage(canvas, patch, turn=6.28 * turn, scale=scale, offset=(32 * across, 32 * down))


def _pick(palette: Image, hue: float, rng: np.random.Generator) -> Image:
    """Return a colour between neighbours in a palette, a little off in brightness."""
    place = hue * (len(palette) - 1.001)
    low = int(place)
    colour = palette[low] + (place - low) * (palette[low + 1] - palette[low])
    return np.asarray(colour * rng.uniform(0.8, 1.2), dtype=np.float32)


def _broadleaf(canvas: Canvas, patch: Patch, tree: Tree, autumn: float) -> Figure:
    """Draw a dome of rounded leaf clumps with a lobed outline; gaps where the foliage is thin."""
    rng = tree.rng
    rough = rng.uniform(0.07, 0.15)
    lobes, rim = np.arange(2.0, 6.0), np.arange(6.0, 40.0)
    shape = 1 + _harmonics(rng, lobes, rough / lobes**0.8)
    radius = tree.diameter / 2 * np.clip(shape + _harmonics(rng, rim, 0.8 * rough / rim**0.75), 0.6, 1.35)
    is_autumn = rng.random() < autumn
    _, _, rho = _polar(patch, radius)
    # The dome follows the lobes alone: a rim drawn inward to the stem would look like a fan.
    _, _, inner = _polar(patch, tree.diameter / 2 * np.clip(shape, 0.6, 1.35))
    texture = _texture(canvas, patch, tree, float(np.clip(0.7 + tree.diameter / 25, 0.75, 1.2)))
    relief = texture[..., 0]
    dome = np.sqrt(np.clip(1.1 - inner**2.2, 0.01, 1))
    depth = min(0.7 * tree.height, 0.7 * tree.diameter)
    rise = tree.height - depth * (1 - dome) + (0.7 + 0.09 * tree.diameter) * (relief - 0.5)
    openness = {SPARSE: rng.uniform(0.4, 0.6), BROWN: rng.uniform(0.3, 0.5)}.get(tree.look, rng.uniform(0.03, 0.25))
    # Thin at the rim first: twigs there have nothing behind them.
    mask = (rho < 1) & ((relief > openness * (0.5 + 0.8 * rho**4)) | (rho < 0.15))
    palette = {SPARSE: _THIN, BROWN: _BROWN}.get(tree.look, _AUTUMN if is_autumn else _GREENS[BROADLEAF])
    colour = _pick(palette, tree.hue, rng) * (0.4 + 1.1 * texture[..., 1:])
    return Figure(_outline(radius), mask, np.maximum(rise, 0.3).astype(np.float32), colour)


def _conifer(canvas: Canvas, patch: Patch, tree: Tree) -> Figure:
    """Draw a cone of radial branches with a toothed outline and a bright leader."""
    rng = tree.rng
    teeth = float(rng.integers(11, 21))
    lobes, fine = np.arange(2.0, 8.0), np.arange(8.0, 32.0)
    wobble = _harmonics(rng, lobes, 0.05 / lobes**0.5) + _harmonics(rng, fine, np.full(24, 0.022))
    radius = tree.diameter / 2 * np.clip(1 + wobble, 0.65, 1.3)
    distance, bearing, rho = _polar(patch, radius)
    texture = _texture(canvas, patch, tree, 0.75)
    relief, tone = texture[..., 0], texture[..., 1]
    twist = rng.uniform(0, 2 * math.pi) + 1.1 * np.sin(distance * 2.3 + rng.uniform(0, 6)) + 3.5 * relief
    branches = np.cos(teeth * bearing + twist)
    depth = 0.8 * tree.height
    cone = 2 * distance / tree.diameter
    rise = tree.height - depth * cone**0.9 + (0.05 + 0.02 * tree.diameter) * branches * cone + 1.0 * (relief - 0.5)
    openness = 0.35 if tree.look == BROWN else 0.2
    mask = (rho < 1) & ((relief > openness * rho) | (rho < 0.3))
    palette = _BROWN if tree.look == BROWN else _GREENS[CONIFER]
    light = 0.5 + 0.9 * tone + 0.1 * branches
    colour = _pick(palette, tree.hue, rng) * light[..., None]
    return Figure(_outline(radius), mask, np.maximum(rise, 0.3).astype(np.float32), colour)


def _palm(canvas: Canvas, patch: Patch, tree: Tree) -> Figure:
    """Draw a rosette of arched fronds, older ones lower and yellower."""
    rng = tree.rng
    count = int(rng.integers(11, 19))
    bearing = np.arange(count) * 2.39996 + rng.normal(0, 0.12, count)
    length = tree.diameter / 2 * rng.uniform(0.78, 1.05, count)
    bend = rng.normal(0, 0.25, count)
    palette = _BROWN if tree.look == BROWN else _GREENS[PALM]
    base = _pick(palette, tree.hue, rng)
    shape = patch.shape
    rise = np.zeros(shape, np.float32)
    colour = np.zeros((*shape, 3), np.float32)
    along = np.linspace(0, 1, 25)
    half = 0.12 * np.sin(math.pi * along**0.7) ** 0.8
    origin = np.array([patch.u[0, 0], patch.v[0, 0]])
    outlines = []
    for frond in range(count):
        turn = bearing[frond] + bend[frond] * along**2
        spine = length[frond] * along[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        normal = np.stack([-np.sin(turn), np.cos(turn)], axis=-1)
        side = (half * length[frond])[:, None] * normal
        blade = np.concatenate([spine + side, (spine - side)[::-1]])
        outlines.append(blade)
        level = tree.height - 1.2 * (count - frond) / count
        # Both halves of a blade hang from its rib, so one side is lit and the other is not.
        for flank, light in ((spine + side, 1.2), (spine - side, 0.6)):
            leaf = _filled(shape, np.concatenate([spine, flank[::-1]]), origin, canvas.gsd)
            rise[leaf] = level - 0.22 * (np.hypot(patch.u, patch.v)[leaf] / length[frond]) ** 2 * tree.diameter
            colour[leaf] = base * np.float32(light * (0.45 + 0.65 * frond / count))
    texture = _texture(canvas, patch, tree, 0.3)
    colour *= 0.7 + 0.6 * texture[..., 1:]
    mask = rise > 0
    rise += mask * (0.25 * texture[..., 0])
    return Figure(np.concatenate(outlines), mask, rise, colour, shadow=mask)


def _filled(shape: tuple[int, int], ring: Floats, origin: Floats, gsd: float) -> npt.NDArray[np.bool_]:
    """Return which pixels of a patch lie in a ring given in metres."""
    canvas = np.zeros(shape, np.uint8)
    points = np.rint((ring - origin) / gsd * 16).astype(np.int32)
    cv2.fillPoly(canvas, [points], 1, shift=4)
    return canvas > 0


def _bare(canvas: Canvas, patch: Patch, tree: Tree) -> Figure:
    """Draw a skeleton: limbs from the stem, forked twice, thinner each time."""
    rng = tree.rng
    paths, widths = _limbs(rng, tree.diameter / 2, narrow=tree.form == CONIFER)
    origin = np.array([patch.u[0, 0], patch.v[0, 0]])
    drawn = np.zeros(patch.shape, np.uint8)
    for path, width in zip(paths, widths, strict=True):
        points = np.rint((path - origin) / canvas.gsd * 16).astype(np.int32)
        cv2.polylines(drawn, [points], False, 1, thickness=max(1, round(width / canvas.gsd)), shift=4)
    mask = drawn > 0
    distance = np.hypot(patch.u, patch.v)
    rise = tree.height * (0.95 - 0.4 * distance / tree.diameter)
    texture = _texture(canvas, patch, tree, 0.4)
    colour = _pick(_BARE, tree.hue, rng) * (0.65 + 0.6 * texture[..., 1:])
    # Twigs throw their own thin shadow: as a wall from twig to ground they would shade like a full crown.
    return Figure(np.concatenate(paths), mask, rise.astype(np.float32), colour, shadow=mask)


def _limbs(rng: np.random.Generator, reach: float, *, narrow: bool) -> tuple[list[Floats], list[float]]:
    """Return wavy paths ``[M, 2]`` in metres from the stem, and the width of each."""
    count = int(rng.integers(10, 16) if narrow else rng.integers(6, 10))
    paths: list[Floats] = []
    widths: list[float] = []
    pending = [
        (np.zeros(2), 2 * math.pi * i / count + rng.normal(0, 0.25), reach * rng.uniform(0.8, 1.0), 0)
        for i in range(count)
    ]
    forks = (2, 0) if narrow else (4, 2)
    while pending:
        start, bearing, length, depth = pending.pop()
        along = np.linspace(0, 1, 7)
        turn = bearing + np.cumsum(rng.normal(0, 0.13, 7))
        steps = length / 6 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        path = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps[1:], axis=0)])
        # No twig leaves the crown's reach.
        path /= np.maximum(np.hypot(*path.T) / (1.04 * reach), 1)[:, None]
        paths.append(path)
        widths.append(float(np.clip(0.032 * reach, 0.1, 0.24)) * 0.55**depth)
        if depth == 2:
            continue
        for _ in range(forks[depth]):
            at = int(rng.integers(2, 6))
            side = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.9)
            rest = length * (1.05 - along[at]) * rng.uniform(0.45, 0.8)
            pending.append((path[at], turn[at] + side, rest, depth + 1))
    return paths, widths
