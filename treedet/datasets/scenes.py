"""Renders labelled forest scenes: photographs of woods that never were, with the true box of every crown.

Used for sample data, tests and pre-training. The layout is drawn in metres before a pixel exists, so one seed
describes the same ground at any GSD. Truth is every tree of which at least a quarter is seen from above; roofs, green
roofs, cars, stones, shrubs and lawns are there to be mistaken for trees and are not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from affine import Affine

from treedet.core import boxes as box_arrays
from treedet.core.grid import Grid
from treedet.datasets.scene_arrange import lay_out
from treedet.datasets.scene_canvas import Canvas
from treedet.datasets.scene_crowns import Crown, paint_crowns
from treedet.datasets.scene_ground import paint_ground
from treedet.datasets.scene_layout import BROWN, GROUNDS, KINDS, Kind, Layout, Plot
from treedet.datasets.scene_light import Camera, develop, illuminate, sun_direction
from treedet.errors import ConfigError

FORMS = ("broadleaf", "conifer", "palm")
"""Names of the values of :attr:`Scene.form`."""
STATUSES = ("alive", "dead")
"""Names of the values of :attr:`Scene.status`."""
SCENE_KINDS = tuple(KINDS)
"""Names of the kinds of scene."""

MIN_VISIBLE = 0.25
_SHADOW_MARGIN_M = 8.0
_COARSE_GSD = 0.15


@dataclass(frozen=True)
class SceneConfig:
    """What a scene shows and how large it is; None leaves a choice to the kind and the seed.

    Attributes:
        kind: One of :data:`SCENE_KINDS`.
        gsd: Metres per pixel.
        width_px: Columns.
        height_px: Rows.
        sun_azimuth_deg: Direction of the sun, clockwise from north (up).
        sun_elevation_deg: Height of the sun above the horizon, 5 to 90.
        cover: Area of all crowns over the area of the ground; overlaps count twice. 0 is a scene
            without trees; otherwise rows and hedges are planted besides.
        diameter_m: Least and largest crown diameter.
        dead_share: Probability that a tree is dead.
        ground: Ground material, one of ``grass, dry_grass, soil, litter, field, sand``.
        autumn: Share of broadleaves in autumn colours.
        camera: Exposure, haze, blur, noise and compression.
    """

    kind: str = "mixed"
    gsd: float = 0.1
    width_px: int = 416
    height_px: int = 416
    sun_azimuth_deg: float | None = None
    sun_elevation_deg: float | None = None
    cover: float | None = None
    diameter_m: tuple[float, float] | None = None
    dead_share: float = 0.08
    ground: str | None = None
    autumn: float = 0.0
    camera: Camera = field(default_factory=Camera)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"scene kind {self.kind!r} is not known; choose one of {', '.join(KINDS)}")
        if self.ground is not None and self.ground not in GROUNDS:
            raise ConfigError(f"scene ground {self.ground!r} is not known; choose one of {', '.join(GROUNDS)}")
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"gsd must be a positive number of metres per pixel, found {self.gsd}")
        if self.width_px < 1 or self.height_px < 1:
            raise ConfigError(f"a scene has at least 1 x 1 pixels, found {self.width_px} x {self.height_px}")
        if self.sun_elevation_deg is not None and not 5 <= self.sun_elevation_deg <= 90:
            raise ConfigError(f"sun_elevation_deg must be 5 to 90, found {self.sun_elevation_deg}")
        if self.cover is not None and not 0 <= self.cover <= 2:
            raise ConfigError(f"cover must be 0 (no crowns) to 2, found {self.cover}")
        if self.diameter_m is not None and not 1.5 <= self.diameter_m[0] <= self.diameter_m[1] <= 60:
            raise ConfigError(
                f"diameter_m must be least and largest crown diameter within 1.5 to 60 m, found {self.diameter_m}"
            )
        for name in ("dead_share", "autumn"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be 0 to 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Scene:
    """A rendered scene and its truth.

    Attributes:
        pixels: Uint8 ``[3, H, W]``, RGB.
        boxes: Float64 ``[N, 4]``, pixels, ``(xmin, ymin, xmax, ymax)``: bounds of each crown, hidden parts included,
            clipped to the scene; within a pixel of the foliage.
        status: Int64 ``[N]``, index into :data:`STATUSES`.
        form: Int64 ``[N]``, index into :data:`FORMS`.
        crown: Int32 ``[H, W]``, the row of ``boxes`` seen at each pixel, or -1.
        grid: The scene's grid, without a CRS.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    form: npt.NDArray[np.int64]
    crown: npt.NDArray[np.int32]
    grid: Grid


def render_scene(config: SceneConfig, *, seed: int) -> Scene:
    """Render a scene; the same configuration and seed give the same bytes.

    Args:
        config: What the scene shows. The same seed with another ``gsd`` and as many metres shows the same ground.
        seed: Seed of the layout, the textures and the noise.
    """
    kind = KINDS[config.kind]
    # Coarse pixels are averages of finer ones: leaves, rims and shadows blend as they do in a lens.
    finer = 1 if config.gsd < _COARSE_GSD else 2
    canvas = Canvas.blank(
        width_m=config.width_px * config.gsd,
        height_m=config.height_px * config.gsd,
        gsd=config.gsd / finer,
        margin_m=_SHADOW_MARGIN_M,
    )
    rng = np.random.default_rng((seed, 0))
    sun = _sun(config, kind, rng)
    layout = _layout(config, kind, rng)
    paint_ground(canvas, layout, seed)
    shadow = (float(-sun[0] / sun[2]), float(-sun[1] / sun[2]))
    crowns = paint_crowns(canvas, layout.trees, seed=seed, shadow=shadow, autumn=config.autumn)
    light = canvas.crop(illuminate(canvas, sun, sky=config.camera.sky))
    if finer > 1:
        size = (config.width_px, config.height_px)
        light = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    pixels = develop(light, config.camera, np.random.default_rng((seed, 6)))
    return _with_truth(config, pixels, canvas.crop(canvas.owner), crowns, layout)


def random_config(
    rng: np.random.Generator, *, gsd: float = 0.1, width_px: int = 416, height_px: int = 416
) -> SceneConfig:
    """Return a scene of any kind, season, light and camera, for pre-training.

    Args:
        rng: Source of every choice.
        gsd: Metres per pixel.
        width_px: Columns.
        height_px: Rows.
    """
    weights = {
        "open": 3,
        "closed": 3,
        "mixed": 4,
        "conifer": 3,
        "orchard": 1.5,
        "hedgerow": 1.5,
        "urban": 2,
        "palms": 1,
    }
    names = list(KINDS)
    share = np.array([weights.get(name, 1.5) for name in names])
    kind = str(rng.choice(names, p=share / share.sum()))
    low, high = KINDS[kind].diameter_m
    if rng.random() < 0.15 and kind not in ("conifer", "palms", "orchard"):
        high = float(rng.uniform(high, 40.0))
    stretch = float(rng.uniform(0.75, 1.0))
    return SceneConfig(
        kind=kind,
        gsd=gsd,
        width_px=width_px,
        height_px=height_px,
        sun_azimuth_deg=float(rng.uniform(0, 360)),
        cover=0.0 if rng.random() < 0.02 else None,
        diameter_m=(max(2.0, low * stretch), high * stretch),
        dead_share=float(rng.choice([0.0, rng.uniform(0, 0.2), rng.uniform(0.2, 0.8)], p=[0.25, 0.55, 0.2])),
        autumn=float(rng.uniform(0.1, 1.0)) if rng.random() < 0.12 else 0.0,
        camera=Camera.random(rng),
    )


def _sun(config: SceneConfig, kind: Kind, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    azimuth, elevation = rng.uniform(100, 260), rng.uniform(*kind.sun_elevation_deg)
    return sun_direction(
        azimuth if config.sun_azimuth_deg is None else config.sun_azimuth_deg,
        elevation if config.sun_elevation_deg is None else config.sun_elevation_deg,
    )


def _layout(config: SceneConfig, kind: Kind, rng: np.random.Generator) -> Layout:
    diameter = kind.diameter_m if config.diameter_m is None else config.diameter_m
    cover = float(rng.uniform(*kind.cover))
    plot = Plot(
        rng=rng,
        kind=kind,
        width=config.width_px * config.gsd,
        height=config.height_px * config.gsd,
        margin=max(_SHADOW_MARGIN_M, 0.6 * diameter[1]),
        diameter_m=diameter,
        cover=cover if config.cover is None else config.cover,
    )
    return lay_out(plot, kind=config.kind, dead_share=config.dead_share, ground=config.ground)


def _with_truth(
    config: SceneConfig,
    pixels: npt.NDArray[np.uint8],
    owner: npt.NDArray[np.int32],
    crowns: list[Crown],
    layout: Layout,
) -> Scene:
    """Keep the crowns of which enough is seen, and number the owner map by them."""
    count = len(crowns)
    seen = np.bincount(owner[owner >= 0].ravel(), minlength=count)
    painted = np.array([crown.painted_px for crown in crowns], dtype=np.int64)
    keep = (seen >= MIN_VISIBLE * painted) & (seen > 0)
    bounds = np.array([crown.bounds for crown in crowns], dtype=np.float64).reshape(-1, 4)[keep]
    number = np.full(count + 1, -1, np.int32)
    number[:-1][keep] = np.arange(int(keep.sum()), dtype=np.int32)
    finer = owner.shape[1] // config.width_px
    grid = Grid.build(None, Affine.identity(), width=config.width_px, height=config.height_px, gsd=config.gsd)
    return Scene(
        pixels=pixels,
        boxes=np.asarray(
            box_arrays.clip(bounds / config.gsd, width=config.width_px, height=config.height_px), dtype=np.float64
        ),
        status=(layout.trees.look[keep] >= BROWN).astype(np.int64),
        form=layout.trees.form[keep].astype(np.int64),
        crown=number[owner[::finer, ::finer]],
        grid=grid,
    )
