"""Puts crowns on the canvas of a rendered scene: what hides what, and the shadows that twigs and fronds throw."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from treedet.datasets.scene_canvas import Canvas, Patch
from treedet.datasets.scene_figures import Figure, Tree, draw_crown, is_see_through
from treedet.datasets.scene_layout import Trees


@dataclass(frozen=True)
class Crown:
    """What was painted of a crown.

    Attributes:
        bounds: ``(xmin, ymin, xmax, ymax)`` of its outline in metres of the scene, within a pixel of its paint.
        painted_px: Pixels that belong to it, hidden ones and those beyond the canvas included; 0 for a crown wholly
            beyond the canvas.
    """

    bounds: tuple[float, float, float, float]
    painted_px: int


def paint_crowns(
    canvas: Canvas, trees: Trees, *, seed: int, shadow: tuple[float, float], autumn: float
) -> list[Crown]:
    """Paint all trees; where crowns meet, the higher surface is seen.

    Args:
        canvas: Painted in place.
        trees: What stands where.
        seed: Seed of the scene.
        shadow: Metres that the shadow of a point one metre up is thrown right and down.
        autumn: Share of broadleaves in autumn colours.

    Returns:
        One crown per tree, in the order of ``trees``.
    """
    crowns = []
    for index in range(len(trees.xy)):
        tree = Tree(
            x=float(trees.xy[index, 0]),
            y=float(trees.xy[index, 1]),
            diameter=float(trees.diameter[index]),
            height=float(trees.height[index]),
            form=int(trees.form[index]),
            look=int(trees.look[index]),
            hue=float(trees.hue[index]),
            rng=np.random.default_rng((seed, 5, index)),
        )
        patch = canvas.patch(tree.x, tree.y, 0.72 * tree.diameter)
        if patch.is_outside and not is_see_through(tree):
            crowns.append(Crown((tree.x, tree.y, tree.x, tree.y), 0))
            continue
        figure = draw_crown(canvas, patch, tree, autumn=autumn)
        crowns.append(Crown(_bounds(canvas, patch, figure, tree), int(figure.mask.sum())))
        if not patch.is_outside:
            _lay_down(canvas, patch, figure, index)
        if figure.shadow is not None:
            _cast(canvas, figure.shadow, tree, shadow)
    return crowns


def _bounds(canvas: Canvas, patch: Patch, figure: Figure, tree: Tree) -> tuple[float, float, float, float]:
    """Return the bounds of the outline, or of the painted pixels on sides where these end over a pixel away from it.

    Thin foliage does not reach its outline everywhere, and a box is what one would draw around what there is to see.
    """
    outline = np.concatenate([figure.outline.min(axis=0), figure.outline.max(axis=0)])
    columns, rows = np.nonzero(figure.mask.any(axis=0))[0], np.nonzero(figure.mask.any(axis=1))[0]
    if len(columns):
        half = canvas.gsd / 2
        low = (patch.u[0, columns[0]] - half, patch.v[rows[0], 0] - half)
        high = (patch.u[0, columns[-1]] + half, patch.v[rows[-1], 0] + half)
        painted = np.array([*low, *high], dtype=np.float64)
        outline = np.where(np.abs(outline - painted) > canvas.gsd, painted, outline)
    xmin, ymin, xmax, ymax = (outline + np.array([tree.x, tree.y] * 2)).tolist()
    return xmin, ymin, xmax, ymax


def _lay_down(canvas: Canvas, patch: Patch, figure: Figure, index: int) -> None:
    inside, local = patch.inside, patch.local
    seen = figure.mask[local] & (figure.rise[local] > canvas.height[inside])
    canvas.owner[inside][seen] = index
    canvas.height[inside][seen] = figure.rise[local][seen]
    canvas.colour[inside][seen] = figure.colour[local][seen]
    if figure.shadow is None:
        canvas.solid[inside][seen] = figure.rise[local][seen]


def _cast(canvas: Canvas, figure: npt.NDArray[np.bool_], tree: Tree, shadow: tuple[float, float]) -> None:
    """Throw the shadow of a figure of twigs, held level at three quarters of the tree's height."""
    lift = 0.75 * tree.height
    patch = canvas.patch(tree.x + lift * shadow[0], tree.y + lift * shadow[1], 0.72 * tree.diameter)
    if patch.is_outside:
        return
    size = (patch.shape[1], patch.shape[0])
    soft = cv2.resize(figure.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.5, 0.12 / canvas.gsd))
    target = canvas.gloom[patch.inside]
    np.maximum(target, 0.9 * soft[patch.local], out=target)
    _cast_stem(canvas, tree, shadow)


def _cast_stem(canvas: Canvas, tree: Tree, shadow: tuple[float, float]) -> None:
    ends = [
        round((at + lift * slope) / canvas.gsd * 16 + canvas.margin_px * 16)
        for lift in (0.0, 0.75 * tree.height)
        for at, slope in ((tree.x, shadow[0]), (tree.y, shadow[1]))
    ]
    width = max(1, round(0.03 * tree.diameter / canvas.gsd))
    # OpenCV draws in place and clips to the image.
    cv2.line(
        canvas.gloom, (ends[0], ends[1]), (ends[2], ends[3]), 0.75, thickness=width, lineType=cv2.LINE_AA, shift=4
    )
