"""The sheet a scene is painted on: height, colour and owner of every pixel, and noise laid out in metres."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Image = npt.NDArray[np.float32]
Sheet = TypeVar("Sheet", Image, npt.NDArray[np.int32])

TILE_M = 32.0
_TILE_PX = 512
_LEAD_M = 12.0  # more than any margin


@dataclass
class Canvas:
    """Height, colour and owner per pixel of a scene with a margin around it.

    Attributes:
        gsd: Metres per pixel.
        margin_px: Pixels around the scene, in which things stand that throw their shadow into it.
        height: Float32 ``[H, W]``, metres above the ground of what is seen from above.
        solid: Float32 ``[H, W]``, the same without bare twigs: what throws a shadow and has a surface to shade.
        colour: Float32 ``[H, W, 3]``, linear reflectance, RGB.
        owner: Int32 ``[H, W]``, the tree seen there, or -1.
        gloom: Float32 ``[H, W]``, 0 to 1, the thin shadow of bare branches.
    """

    gsd: float
    margin_px: int
    height: Image
    solid: Image
    colour: Image
    owner: npt.NDArray[np.int32] = field(repr=False)
    gloom: Image = field(repr=False)

    @classmethod
    def blank(cls, *, width_m: float, height_m: float, gsd: float, margin_m: float) -> Canvas:
        """Return an empty canvas for a scene of so many metres."""
        margin = math.ceil(margin_m / gsd)
        shape = (round(height_m / gsd) + 2 * margin, round(width_m / gsd) + 2 * margin)
        return cls(
            gsd=gsd,
            margin_px=margin,
            height=np.zeros(shape, np.float32),
            solid=np.zeros(shape, np.float32),
            colour=np.zeros((*shape, 3), np.float32),
            owner=np.full(shape, -1, np.int32),
            gloom=np.zeros(shape, np.float32),
        )

    def patch(self, x: float, y: float, reach: float) -> Patch:
        """Return the square of pixels within ``reach`` metres of a point; it may leave the canvas."""
        column, row = x / self.gsd + self.margin_px, y / self.gsd + self.margin_px
        half = reach / self.gsd + 1
        left, top = math.floor(column - half), math.floor(row - half)
        size = math.ceil(2 * half) + 1
        u = ((np.arange(left, left + size) + 0.5 - column) * self.gsd).astype(np.float32)
        v = ((np.arange(top, top + size) + 0.5 - row) * self.gsd).astype(np.float32)
        rows, columns = self.height.shape
        inside = (
            slice(min(max(top, 0), rows), max(min(top + size, rows), 0)),
            slice(min(max(left, 0), columns), max(min(left + size, columns), 0)),
        )
        local = (
            slice(inside[0].start - top, inside[0].stop - top),
            slice(inside[1].start - left, inside[1].stop - left),
        )
        return Patch(u[None, :], v[:, None], inside, local)

    def crop(self, image: Sheet) -> Sheet:
        """Return an image of the canvas's size without the margin."""
        m = self.margin_px
        return image[m : image.shape[0] - m, m : image.shape[1] - m]


@dataclass(frozen=True)
class Patch:
    """A square of pixels around a point.

    Attributes:
        u: Float32 ``[1, K]``, metres right of the point, of the pixel centres.
        v: Float32 ``[K, 1]``, metres below the point.
        inside: Slices of the canvas that the patch covers.
        local: The same pixels as slices of the patch; empty for a patch beside the canvas.
    """

    u: Image
    v: Image
    inside: tuple[slice, slice]
    local: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole patch."""
        return self.v.shape[0], self.u.shape[1]

    @property
    def is_outside(self) -> bool:
        """True where the patch does not meet the canvas."""
        return any(part.stop <= part.start for part in self.local)


def fractal_noise(canvas: Canvas, seed: tuple[int, ...], cells_m: tuple[float, ...]) -> Image:
    """Return smooth noise of about zero mean and unit variance, the same at every GSD.

    Value noise on lattices whose cells are counted in metres; octaves finer than a pixel average to nothing.

    Args:
        canvas: Gives size and GSD.
        seed: Names the field.
        cells_m: Cell sizes of the octaves in metres; each weighs as the square root of its size.
    """
    rows, columns = canvas.height.shape
    margin_m = canvas.margin_px * canvas.gsd
    total = np.zeros((rows, columns), np.float32)
    for octave, cell in enumerate(cells_m):
        if cell < 0.7 * canvas.gsd:
            continue
        # Coarse octaves are smooth: they are made on a coarser sheet and enlarged.
        step = max(1, int(cell / canvas.gsd / 6))
        shape = (-(-rows // step), -(-columns // step))
        scale = canvas.gsd * step / cell
        # The lattice is anchored on the scene's corner and counted outwards, whatever the margin's rounding.
        lead = math.ceil(_LEAD_M / cell) + 2
        lattice = _lattice((*seed, octave), cell, lead, canvas)
        shift = lead - margin_m / cell + scale / 2
        to_lattice = np.array([[scale, 0, shift], [0, scale, shift]])
        layer = cv2.warpAffine(
            lattice,
            to_lattice,
            (shape[1], shape[0]),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        if step > 1:
            layer = cv2.resize(layer, (shape[1] * step, shape[0] * step), interpolation=cv2.INTER_LINEAR)
        total += np.float32(1.4 * math.sqrt(cell / sum(cells_m))) * layer[:rows, :columns]
    return total


def _lattice(seed: tuple[int, ...], cell: float, lead: int, canvas: Canvas) -> Image:
    """Return random lattice values that depend on nothing but the seed and the extent in metres."""
    rows, columns = (
        math.ceil(round((side - 2 * canvas.margin_px) * canvas.gsd / cell, 6)) + 2 * lead + 2
        for side in canvas.height.shape
    )
    values = np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(values)


@lru_cache(maxsize=8)
def foliage_tile(gsd: float) -> Image:
    """Return a periodic texture of leaf clumps, ``TILE_M`` metres wide, for an image of a given GSD.

    Four generations of rounded clumps (2.2, 0.9, 0.4 and 0.2 m; cellular noise after Worley 1996, *A cellular texture
    basis function*) summed to a relief, and a tone that differs from clump to clump.

    Args:
        gsd: Metres per pixel.

    Returns:
        Float32 ``[K, K, 2]``: relief and tone, each 0 to 1.
    """
    tile = _fine_foliage_tile()
    size = max(16, round(TILE_M / gsd))
    if size >= _TILE_PX:
        return tile
    return np.asarray(cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)


@lru_cache(maxsize=1)
def _fine_foliage_tile() -> Image:
    rng = np.random.default_rng(1996)
    centres = (np.arange(_TILE_PX) + 0.5) * TILE_M / _TILE_PX
    pixels = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    relief, tone = np.zeros(len(pixels)), np.zeros(len(pixels))
    for cell, weight, contrast in ((2.2, 0.34, 0.15), (0.9, 0.3, 0.25), (0.4, 0.22, 0.3), (0.2, 0.14, 0.3)):
        seeds = rng.uniform(0, TILE_M, (int((TILE_M / cell) ** 2), 2))
        lift, shade = rng.uniform(0.5, 1.0, (2, len(seeds)))
        distance, nearest = cKDTree(seeds, boxsize=np.full(2, TILE_M)).query(pixels)
        relief += weight * lift[nearest] * np.clip(1 - (distance / cell) ** 2, 0, None)
        tone += contrast * shade[nearest]
    tile = np.stack([_stretched(relief), _stretched(tone)], axis=-1)
    return tile.reshape(_TILE_PX, _TILE_PX, 2).astype(np.float32)


def _stretched(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the values scaled so that their 1st and 99th percentile become 0 and 1."""
    low, high = np.percentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / (high - low), 0, 1))


def sample_foliage(canvas: Canvas, patch: Patch, *, turn: float, scale: float, offset: tuple[float, float]) -> Image:
    """Return the foliage texture over a patch, turned, scaled and shifted.

    Returns:
        Float32 ``[K, K, 2]``: relief and tone.
    """
    tile = foliage_tile(canvas.gsd)
    to_px = np.float32(tile.shape[0] / TILE_M)
    cos, sin = np.float32(math.cos(turn) / scale), np.float32(math.sin(turn) / scale)
    across = (patch.u * cos - patch.v * sin + np.float32(offset[0])) * to_px
    down = (patch.u * sin + patch.v * cos + np.float32(offset[1])) * to_px
    return np.asarray(cv2.remap(tile, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def linear(*srgb: tuple[int, int, int]) -> Image:
    """Return display colours (0 to 255, sRGB) as linear reflectances ``[N, 3]``.

    >>> linear((255, 255, 255)).tolist()
    [[1.0, 1.0, 1.0]]
    """
    return ((np.array(srgb, dtype=np.float32) / 255) ** 2.2).astype(np.float32)
