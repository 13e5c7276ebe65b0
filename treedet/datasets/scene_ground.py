"""The ground of a rendered scene and what stands on it besides trees: roads, roofs, cars, stones, shrubs."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from treedet.datasets.scene_canvas import Canvas, Image, Patch, fractal_noise, linear, sample_foliage
from treedet.datasets.scene_layout import Block, Layout, Mounds, rotated

# Per ground: two main colours, the colour of its patches, and the share of patches.
_PALETTES = {
    "grass": (linear((104, 118, 74), (126, 132, 84), (142, 130, 100)), 0.22),
    "dry_grass": (linear((136, 124, 100), (154, 142, 114), (112, 112, 80)), 0.3),
    "soil": (linear((134, 112, 92), (154, 134, 112), (112, 108, 80)), 0.22),
    "litter": (linear((84, 76, 62), (108, 96, 76), (78, 86, 58)), 0.4),
    "field": (linear((116, 128, 76), (140, 142, 92), (150, 132, 102)), 0.12),
    "sand": (linear((190, 176, 150), (172, 156, 130), (124, 122, 90)), 0.2),
}
_ROOFS = linear((158, 92, 72), (120, 82, 70), (138, 138, 142), (96, 98, 106), (184, 178, 168))
_CARS = linear((236, 236, 236), (40, 42, 46), (150, 154, 160), (140, 36, 34), (44, 66, 120))
_GREEN = linear((96, 116, 64), (120, 134, 78))
_SOIL = linear((138, 118, 96))[0]
_TRACK = linear((168, 152, 128))[0]
_ASPHALT = linear((118, 118, 122), (150, 148, 146))
_PAINT = linear((226, 226, 220))[0]
_GLASS = linear((34, 40, 50))[0]
_STONE = linear((206, 198, 184), (150, 146, 140))
_SHRUB = linear((92, 104, 66), (122, 122, 84))

Mask = npt.NDArray[np.bool_]


def paint_ground(canvas: Canvas, layout: Layout, seed: int) -> None:
    """Paint the ground, then what lies and stands on it, from low to high."""
    grain = _paint_soil(canvas, layout, seed)
    for block in layout.blocks:
        _paint_block(canvas, block, grain)
    _paint_mounds(canvas, layout.mounds, seed)
    canvas.solid[:] = canvas.height


def _paint_soil(canvas: Canvas, layout: Layout, seed: int) -> Image:
    """Fill the canvas with the ground material and return its fine grain, about 1 on average."""
    colours, patches = _PALETTES[layout.ground]
    broad = fractal_noise(canvas, (seed, 1), (16.0, 6.0, 2.4, 0.8, 0.3))
    patch = fractal_noise(canvas, (seed, 2), (28.0, 9.0, 2.5, 0.7))
    fine = fractal_noise(canvas, (seed, 3), (0.2, 0.1)) + 0.8 * fractal_noise(canvas, (seed, 7), (0.9, 0.4))
    grain = np.clip(1 + 0.17 * fine, 0.45, 1.7)
    blend = (0.5 + 0.3 * broad).clip(0, 1)
    # The quantile of a standard normal at the share of patches, closely enough.
    level = 1.1 * (1 - 2 * patches)
    spots = (2.2 * (patch - level)).clip(0, 0.9)
    drills = 1 + 0.12 * _drills(canvas, layout.row_angle, 1.6) if layout.ground == "field" else np.float32(1)
    for band in range(3):
        colour = colours[0, band] + blend * (colours[1, band] - colours[0, band])
        colour += spots * (colours[2, band] - colour)
        canvas.colour[..., band] = colour * grain * drills
    return np.asarray(grain, dtype=np.float32)


def _drills(canvas: Canvas, angle: float, spacing: float) -> Image:
    """Return the wave of seed rows, -1 to 1, ``spacing`` metres apart."""
    rows, columns = canvas.height.shape
    x = (np.arange(columns, dtype=np.float32) - canvas.margin_px + 0.5) * canvas.gsd
    y = (np.arange(rows, dtype=np.float32) - canvas.margin_px + 0.5) * canvas.gsd
    across = y[:, None] * math.cos(angle) - x[None, :] * math.sin(angle)
    return np.asarray(np.sin(across * (2 * math.pi / spacing)), dtype=np.float32)


def _paint_block(canvas: Canvas, block: Block, grain: Image) -> None:
    """Paint one rectangle within its own bounds."""
    window = _bounds(canvas, block)
    if window is None:
        return
    rows, columns = window
    x = (np.arange(columns.start, columns.stop) - canvas.margin_px + 0.5) * canvas.gsd - block.x
    y = (np.arange(rows.start, rows.stop) - canvas.margin_px + 0.5) * canvas.gsd - block.y
    xy = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    along, across = rotated(xy, block.angle)
    # Worn edges: soft for what grows or was trodden, sharp for what was built.
    ragged = 0.5 if block.material in ("lawn", "strip", "mown", "track") else 0.05
    edge = (block.width / 2 - np.abs(across)) + ragged * (grain[window] - 1) * 3
    weight = np.clip(edge / max(2 * ragged * 0.5, canvas.gsd) + 0.5, 0, 1) * (np.abs(along) < block.length / 2)
    inside = weight > 0.5
    colour, strength = _block_colour(block, along, across, grain[window])
    target = canvas.colour[window]
    target += (strength * weight)[..., None].astype(np.float32) * (colour.astype(np.float32) - target)
    if block.height:
        rise = _block_height(block, along, across)
        canvas.height[window] = np.where(inside, rise, canvas.height[window])


def _bounds(canvas: Canvas, block: Block) -> tuple[slice, slice] | None:
    cos, sin = abs(math.cos(block.angle)), abs(math.sin(block.angle))
    half_x = (block.length * cos + block.width * sin) / 2 + 1
    half_y = (block.length * sin + block.width * cos) / 2 + 1
    rows, columns = canvas.height.shape
    left, right = (round((block.x + s * half_x) / canvas.gsd) + canvas.margin_px for s in (-1, 1))
    top, bottom = (round((block.y + s * half_y) / canvas.gsd) + canvas.margin_px for s in (-1, 1))
    window = slice(max(top, 0), min(bottom, rows)), slice(max(left, 0), min(right, columns))
    return None if any(part.stop <= part.start for part in window) else window


def _block_colour(
    block: Block, along: npt.NDArray[np.float64], across: npt.NDArray[np.float64], grain: Image
) -> tuple[npt.NDArray[np.floating], float]:
    """Return a block's colour ``[H, W, 3]`` and how much it hides of the ground."""
    shade = grain[..., None]
    tone = block.tone
    opaque = {
        "lawn": 0.85,
        "mown": 0.35,
        "green_roof": 0.95,
        "strip": 0.55,
        "track": 0.8,
        "asphalt": 0.97,
        "marking": 0.8,
    }
    colour: npt.NDArray[np.floating]
    if block.material in ("lawn", "mown", "green_roof"):
        colour = (_GREEN[0] + tone * (_GREEN[1] - _GREEN[0])) * shade
    elif block.material == "strip":
        colour = (_SOIL if tone < 0.6 else _GREEN[0]) * shade
    elif block.material == "track":
        ruts = np.exp(-(((np.abs(across) - 0.75) / 0.35) ** 2))[..., None]
        colour = _TRACK * (0.75 + 0.25 * ruts) * shade
    elif block.material == "asphalt":
        colour = (_ASPHALT[0] + tone * (_ASPHALT[1] - _ASPHALT[0])) * (0.7 + 0.3 * shade)
    elif block.material == "marking":
        colour = np.where((np.mod(along, 9.0) < 4.0)[..., None], _PAINT, _ASPHALT[0])
    elif block.material == "car":
        from_mid = np.abs(along + 0.2)
        windows = (from_mid > 0.7) & (from_mid < 1.35) & (np.abs(across) < 0.72)
        colour = np.where(windows[..., None], _GLASS, _CARS[int(tone * 4.99)])
    else:
        courses = 1 + 0.07 * np.sin(along * (2 * math.pi / 0.45))[..., None]
        colour = _ROOFS[int(tone * 4.99)] * courses * (0.65 + 0.35 * shade)
    return colour, opaque.get(block.material, 1.0)


def _block_height(
    block: Block, along: npt.NDArray[np.float64], across: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if block.material == "gable":
        return block.height + (block.width / 2 - np.abs(across)) * 0.7
    if block.material == "car":
        return np.where(np.abs(along + 0.2) < 1.2, block.height, 0.65 * block.height)
    return np.full(along.shape, block.height)


def _paint_mounds(canvas: Canvas, mounds: Mounds, seed: int) -> None:
    """Paint stones and shrubs as lumps of irregular outline."""
    rng = np.random.default_rng((seed, 4))
    draws = rng.uniform(0, 1, (len(mounds.xy), 16))
    for (x, y), diameter, is_rock, draw in zip(mounds.xy, mounds.diameter, mounds.is_rock, draws, strict=True):
        if diameter < 1.2 * canvas.gsd:
            continue
        patch = canvas.patch(x, y, 0.75 * diameter)
        if patch.is_outside:
            continue
        _paint_lump(canvas, patch, float(diameter), bool(is_rock), draw)


def _paint_lump(canvas: Canvas, patch: Patch, diameter: float, is_rock: bool, draw: npt.NDArray[np.float64]) -> None:
    turn = draw[0] * math.pi
    along, across = (
        patch.u * math.cos(turn) + patch.v * math.sin(turn),
        patch.v * math.cos(turn) - patch.u * math.sin(turn),
    )
    bearing = np.arctan2(across, along)
    waves = (2, 3, 5)
    bulge = sum(0.16 / k**0.5 * np.cos(k * bearing + 6.28 * draw[k]) for k in waves)
    squeeze = 0.6 + 0.4 * draw[6]
    rho = np.hypot(along, across / squeeze) / (diameter / 2 * (1 + bulge))
    texture = sample_foliage(canvas, patch, turn=turn, scale=1.0, offset=(32 * draw[7], 32 * draw[8]))
    dome = np.sqrt(np.clip(1 - rho**2, 0, 1))
    if is_rock:
        rise = diameter * (0.25 + 0.3 * draw[9]) * np.minimum(dome * 1.3, 1.0) * (0.75 + 0.5 * texture[..., 0])
        colour = (_STONE[0] + draw[10] * (_STONE[1] - _STONE[0])) * (0.7 + 0.5 * texture[..., 1:])
    else:
        rise = diameter * 0.55 * dome * (0.5 + texture[..., 0])
        colour = (_SHRUB[0] + draw[10] * (_SHRUB[1] - _SHRUB[0])) * (0.6 + 0.7 * texture[..., 1:])
    inside, local = patch.inside, patch.local
    seen = (rho < 1)[local] & (rise[local] > canvas.height[inside])
    canvas.height[inside][seen] = rise[local][seen]
    canvas.colour[inside][seen] = colour[local][seen]
