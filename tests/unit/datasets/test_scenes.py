import cv2
import numpy as np
import pytest

from treedet.datasets import scenes
from treedet.datasets.scene_canvas import Canvas, fractal_noise
from treedet.datasets.scene_crowns import paint_crowns
from treedet.datasets.scene_layout import BARE, BROADLEAF, BROWN, CONIFER, LEAFY, PALM, SPARSE, Trees
from treedet.datasets.scene_light import Camera, illuminate, sun_direction
from treedet.datasets.scenes import SceneConfig, random_config, render_scene
from treedet.errors import ConfigError

SIDE = 200


def small(**settings):
    return SceneConfig(**{"width_px": SIDE, "height_px": SIDE, "gsd": 0.1, **settings})


def one_tree(form, look, *, diameter=9.0):
    return Trees(
        xy=np.array([[10.0, 10.0]]),
        diameter=np.array([diameter]),
        height=np.array([12.0]),
        form=np.array([form]),
        look=np.array([look]),
        hue=np.array([0.4]),
    )


def test_the_same_seed_gives_the_same_bytes():
    first, again = (render_scene(small(), seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    other = render_scene(small(), seed=6)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("kind", scenes.SCENE_KINDS)
def test_every_kind_renders_a_scene_that_keeps_its_contract(kind):
    scene = render_scene(small(kind=kind, width_px=240), seed=3)
    count = len(scene.boxes)
    assert count > 0
    assert scene.pixels.shape == (3, SIDE, 240)
    assert scene.pixels.dtype == np.uint8
    assert scene.pixels.std() > 8
    assert scene.boxes.dtype == np.float64
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
    assert (scene.boxes >= 0).all()
    assert (scene.boxes <= (240, SIDE, 240, SIDE)).all()
    assert scene.status.shape == scene.form.shape == (count,)
    assert set(scene.status) <= {0, 1}
    assert scene.grid.gsd == pytest.approx(0.1)
    assert (scene.grid.width, scene.grid.height) == (240, SIDE)


@pytest.mark.parametrize("kind", ["mixed", "closed", "palms", "conifer"])
def test_each_crown_is_seen_inside_its_box_and_nowhere_else(kind):
    scene = render_scene(small(kind=kind, dead_share=0.3), seed=8)
    for index, (xmin, ymin, xmax, ymax) in enumerate(scene.boxes):
        rows, columns = np.nonzero(scene.crown == index)
        assert len(rows) > 0
        assert columns.min() >= xmin - 1
        assert columns.max() + 1 <= xmax + 1
        assert rows.min() >= ymin - 1
        assert rows.max() + 1 <= ymax + 1
    assert scene.crown.max() == len(scene.boxes) - 1


@pytest.mark.parametrize("gsd", [0.05, 0.1, 0.2])
@pytest.mark.parametrize(
    ("form", "look"),
    [
        (BROADLEAF, LEAFY),
        (BROADLEAF, SPARSE),
        (BROADLEAF, BROWN),
        (BROADLEAF, BARE),
        (CONIFER, LEAFY),
        (CONIFER, BARE),
        (PALM, LEAFY),
    ],
)
def test_boxes_are_tight_to_the_outline(form, look, gsd):
    canvas = Canvas.blank(width_m=20, height_m=20, gsd=gsd, margin_m=2)
    (crown,) = paint_crowns(canvas, one_tree(form, look), seed=1, shadow=(0.5, 0.5), autumn=0.0)
    rows, columns = np.nonzero(canvas.crop(canvas.owner) == 0)
    painted = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(painted - np.array(crown.bounds) / gsd).max() <= 1 + 1e-4
    assert crown.painted_px == len(rows)


def test_status_says_what_was_painted():
    alive = render_scene(small(kind="orchard", dead_share=0.0), seed=2)
    dead = render_scene(small(kind="orchard", dead_share=1.0), seed=2)
    assert len(alive.boxes) > 5
    assert not alive.status.any()
    assert dead.status.all()
    green = [s.pixels[1].astype(float) - s.pixels[0] for s in (alive, dead)]
    assert green[0][alive.crown >= 0].mean() > green[1][dead.crown >= 0].mean() + 3


def test_crowns_differ_from_the_ground_around_them():
    scene = render_scene(small(kind="open", cover=0.25, dead_share=0.0, ground="sand"), seed=4)
    grey = scene.pixels.mean(axis=0)
    assert grey[scene.crown >= 0].mean() < grey[scene.crown < 0].mean() - 20


def test_one_seed_is_one_ground_at_any_gsd():
    fine = render_scene(small(kind="mixed", gsd=0.1, width_px=400, height_px=400), seed=11)
    coarse = render_scene(small(kind="mixed", gsd=0.2, width_px=200, height_px=200), seed=11)
    fine_m, coarse_m = fine.boxes * 0.1, coarse.boxes * 0.2
    distance = np.abs(fine_m[:, None] - coarse_m[None]).max(axis=2)
    agree = (distance.min(axis=1) < 0.2).sum()
    # Crowns that are about a quarter visible may be in one truth and not in the other.
    assert len(fine_m) > 10
    assert agree >= 0.9 * max(len(fine_m), len(coarse_m))
    shrunk = cv2.resize(fine.pixels.transpose(1, 2, 0), (200, 200), interpolation=cv2.INTER_AREA)
    likeness = np.corrcoef(shrunk.mean(axis=2).ravel(), coarse.pixels.mean(axis=0).ravel())[0, 1]
    assert likeness > 0.85


def test_noise_stays_on_the_ground_when_the_gsd_changes():
    cells = (8.0, 2.0)
    fine, coarse = (
        canvas.crop(fractal_noise(canvas, (1, 2), cells))
        for canvas in (Canvas.blank(width_m=24, height_m=18, gsd=g, margin_m=5) for g in (0.1, 0.3))
    )
    shrunk = cv2.resize(fine, coarse.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - coarse).mean() < 0.06
    assert 0.3 < fine.std() < 2


def test_a_scene_without_trees_has_an_empty_truth():
    for kind in ("open", "orchard", "hedgerow"):
        scene = render_scene(small(kind=kind, cover=0.0), seed=1)
        assert scene.boxes.shape == (0, 4)
        assert scene.status.shape == (0,)
        assert (scene.crown == -1).all()


def test_hidden_crowns_are_left_out_and_hidden_parts_are_in_the_box():
    scene = render_scene(small(kind="closed", width_px=400, height_px=400), seed=9)
    seen = np.bincount(scene.crown[scene.crown >= 0], minlength=len(scene.boxes))
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    assert (seen > 0).all()
    # Touching crowns overlap: some boxes must hold far more than is seen of their crown.
    assert (seen / sides.prod(axis=1)).min() < 0.5


@pytest.mark.parametrize("look", [LEAFY, BARE])
@pytest.mark.parametrize(
    ("azimuth", "dark", "lit"), [(90, "west", "east"), (180, "north", "south"), (0, "south", "north")]
)
def test_shadows_fall_away_from_the_sun(look, azimuth, dark, lit):
    canvas = Canvas.blank(width_m=20, height_m=20, gsd=0.1, margin_m=8)
    canvas.colour[:] = 0.3
    sun = sun_direction(azimuth, 45.0)
    shadow = (-sun[0] / sun[2], -sun[1] / sun[2])
    paint_crowns(canvas, one_tree(BROADLEAF, look, diameter=6.0), seed=1, shadow=shadow, autumn=0.0)
    grey = canvas.crop(illuminate(canvas, sun, sky=0.2)[..., 1].copy())
    # Strips of open ground beyond the crown's rim, 6 to 9 m from the stem.
    strips = {
        "north": grey[10:40, 85:115],
        "south": grey[160:190, 85:115],
        "west": grey[85:115, 10:40],
        "east": grey[85:115, 160:190],
    }
    assert strips[dark].mean() < 0.97 * strips[lit].mean()
    assert strips[dark].min() < 0.6 * strips[lit].min()


def test_random_configs_are_valid_varied_and_repeatable():
    configs = [random_config(np.random.default_rng(seed), gsd=0.2, width_px=64, height_px=96) for seed in range(60)]
    assert configs == [
        random_config(np.random.default_rng(seed), gsd=0.2, width_px=64, height_px=96) for seed in range(60)
    ]
    assert {config.kind for config in configs} == set(scenes.SCENE_KINDS)
    for seed in range(0, 60, 6):
        scene = render_scene(configs[seed], seed=seed)
        assert scene.pixels.shape == (3, 96, 64)


def test_a_scene_smaller_than_a_crown_renders():
    scene = render_scene(small(kind="closed", width_px=7, height_px=5, diameter_m=(12, 20)), seed=1)
    assert scene.pixels.shape == (3, 5, 7)
    assert scene.crown.shape == (5, 7)


def test_jpeg_and_noise_change_pixels_but_not_truth():
    clean = render_scene(small(camera=Camera(noise=0)), seed=1)
    rough = render_scene(small(camera=Camera(noise=5, jpeg_quality=40)), seed=1)
    np.testing.assert_array_equal(clean.boxes, rough.boxes)
    difference = np.abs(clean.pixels.astype(int) - rough.pixels)
    assert 1 < difference.mean() < 20


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "jungle"}, "jungle.*choose one of"),
        ({"gsd": 0.0}, "gsd"),
        ({"gsd": float("nan")}, "gsd"),
        ({"width_px": 0}, "0 x 200"),
        ({"sun_elevation_deg": 0.0}, "sun_elevation_deg"),
        ({"cover": -0.1}, "cover"),
        ({"diameter_m": (8.0, 3.0)}, "diameter_m"),
        ({"dead_share": 1.2}, "dead_share"),
        ({"ground": "lava"}, "lava"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        small(**settings)


def test_cameras_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="haze"):
        Camera(haze=1.0)
    with pytest.raises(ConfigError, match="jpeg_quality"):
        Camera(jpeg_quality=0)
