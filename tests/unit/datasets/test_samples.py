import numpy as np
import pytest
import shapely
import torch
from factories import disks, paint

from treedet.datasets.augment import pipeline, vary
from treedet.datasets.datamodule import CrownDataModule, EpochSampler
from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import CrownWindows, Pool, collate
from treedet.datasets.views import Patch, View, look, turned, visible
from treedet.errors import ConfigError
from treedet.rasters.decoded import DecodedRaster

SIDE = 128
PLAIN = {"mosaic": 0.0, "empty": 0.0, "radiometry": "none"}


def ground(boxes, pixels, *, gsd=0.1, **more):
    array = np.array(boxes, dtype=float).reshape(-1, 4)
    return Ground("painted", DecodedRaster.of_pixels(pixels, gsd=gsd), array, np.zeros(len(array), np.int64), **more)


def painted(seed, *, size=200, count=12, radius=(6, 14), **more):
    circles = disks(np.random.default_rng(seed), width=size, height=size, count=count, radius=radius)
    boxes = np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)
    return ground(boxes, paint(circles, width=size, height=size), **more)


def windows(*grounds, seed=5, **changes):
    config = SampleConfig(**{"window_px": SIDE, **changes})
    return CrownWindows([Pool(grounds or (painted(0), painted(1)))], config=config, seed=seed)


def painted_bounds(pixels, box):
    """Bounds of what is bright in and around a box; gaps of 3 px keep other disks out."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2] - 1.2), *np.ceil(box[2:] + 1.2)))
    x0, y0 = max(x0, 0), max(y0, 0)
    rows, columns = np.nonzero(pixels[0, y0:y1, x0:x1] > 100)
    return np.array([columns.min() + x0, rows.min() + y0, columns.max() + x0 + 1, rows.max() + y0 + 1])


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


@pytest.mark.parametrize(("turn", "least"), [(0.0, 0.95), (25.0, 0.85)])
def test_boxes_stay_on_their_crowns(turn, least):
    # Radii of half pixels about whole ones: the painted disks fill their boxes exactly.
    centres = [(x, y) for x in range(40, 300, 60) for y in range(40, 300, 60)]
    boxes = np.array([[x - 20, y - 20, x + 20, y + 20] for x, y in centres], dtype=float)
    pixels = paint(np.array([[x, y, 20.2] for x, y in centres]), width=320, height=320)
    source = windows(ground(boxes, pixels), **PLAIN, turn=turn, zoom=(1.0, 1.0))
    found = []
    for i in range(12):
        image, target = source[0, i]
        boxes = target.boxes.numpy()
        whole = (boxes > 2).all(axis=1) & (boxes < SIDE - 2).all(axis=1)
        found += [overlap(painted_bounds(image.numpy(), box), box) for box in boxes[whole]]
    assert len(found) > 15
    assert min(found) > least


def test_boxes_stay_on_their_crowns_at_any_zoom():
    source = windows(painted(2, size=300, count=20, radius=(12, 20)), **PLAIN, turn=0.0, zoom=(0.8, 1.5))
    checked = 0
    for i in range(12):
        image, target = source[0, i]
        for box in target.boxes.numpy()[target.classes.numpy() >= 0]:
            if box.min() > 2 and box.max() < SIDE - 2:
                assert overlap(painted_bounds(image.numpy(), box), box) > 0.8
                checked += 1
    assert checked > 8


def test_a_window_depends_on_seed_epoch_and_number_alone():
    first = windows()[1, 3]
    source = windows()
    source[0, 0]  # what was drawn before does not matter
    again = source[1, 3]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    for other in (windows()[1, 4], windows()[2, 3], windows(seed=6)[1, 3]):
        assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_targets_lie_inside_the_window(mosaic):
    source, seen = windows(mosaic=mosaic, empty=0.0), 0
    for i in range(15):
        pixels, target = source[0, i]
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (3, SIDE, SIDE)
        assert target.boxes.shape == (len(target.classes), 4)
        assert target.known is None
        assert (target.boxes >= 0).all()
        assert (target.boxes <= SIDE).all()
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
        seen += int((target.classes >= 0).sum())
    assert seen > 30


def test_empty_windows_come_at_the_rate_asked_for():
    # Crowns in one corner of a large ground.
    boxes = [[x, 10, x + 20, 30] for x in range(10, 200, 40)]
    pixels = np.zeros((3, 800, 800), np.uint8)
    for share in (0.0, 0.3):
        source = windows(ground(boxes, pixels), **{**PLAIN, "empty": share}, turn=10.0)
        rate = np.mean([not len(source[0, i][1].boxes) for i in range(120)])
        assert rate == pytest.approx(share, abs=0.1 if share else 1e-9)


def test_ground_without_crowns_is_trained_on():
    _, target = windows(ground([], np.zeros((3, 90, 300), np.uint8)))[0, 0]
    assert target.boxes.shape == (0, 4)


def test_the_gsd_of_a_raster_sets_the_zoom():
    fine = painted(3, size=320, count=12, radius=(16, 16), gsd=0.05)
    source = windows(fine, **PLAIN, zoom=(1.0, 1.0), turn=0.0)
    sides = [b for i in range(10) for b in whole_sides(source[0, i][1])]
    assert np.median(sides) == pytest.approx(16.0, rel=0.02), "32 px at 5 cm are 16 px at 10 cm"


def whole_sides(target):
    boxes = target.boxes.numpy()
    whole = (boxes > 1).all(axis=1) & (boxes < SIDE - 1).all(axis=1)
    return (boxes[whole, 2:] - boxes[whole, :2]).mean(axis=1).tolist()


def test_the_other_side_is_never_shown_and_its_crowns_are_no_targets():
    pixels = np.full((3, 200, 200), 90, np.uint8)
    pixels[:, :, 100:] = 250  # the other side
    boxes = [[40, 40, 60, 60], [85, 90, 109, 110], [96, 150, 116, 170]]
    # Classes of their own tell the crowns apart: the second is cut by the border, the third is the other side's.
    split = Ground(
        "g",
        DecodedRaster.of_pixels(pixels, gsd=0.1),
        np.array(boxes, float),
        np.arange(3),
        blank=shapely.box(100, 0, 200, 200),
    )
    source, cut, ignored = windows(split, **PLAIN, turn=20.0, zoom=(1.0, 1.0)), [], 0
    for i in range(25):
        image, target = source[0, i]
        assert image.max() <= 91, "a blended pixel at the border is hidden too"
        assert 2 not in target.classes
        cut += whole_sides_of(target, 1)
        ignored += int((target.classes == -1).sum())
    assert ignored > 3, "what is seen of the other side's crown is neither target nor background"
    assert np.median(cut) < 24


def whole_sides_of(target, number):
    boxes = target.boxes.numpy()[target.classes.numpy() == number]
    boxes = boxes[(boxes > 1).all(axis=1) & (boxes < SIDE - 1).all(axis=1)]
    return (boxes[:, 2:] - boxes[:, :2]).min(axis=1).tolist()


def test_a_cut_crown_ends_where_it_is_no_longer_shown():
    shown = np.ones((100, 100), bool)
    shown[:, 50:] = False
    whole = np.array([[30.5, 10, 60, 30], [44, 40, 70, 60], [49, 70, 80, 90], [60, 10, 80, 30]])
    boxes, classes, _ = visible(whole, np.zeros(4, np.int64), height=100, width=100, shown=shown)
    assert boxes.tolist() == [[30.5, 10, 50, 30], [44, 40, 50, 60]], "slivers and what is hidden are gone"
    assert classes.tolist() == [0, -1], "a quarter of a crown is neither target nor background"


def test_nodata_is_black_and_hides_crowns():
    pixels = np.full((3, 150, 150), 77, np.uint8)
    valid = np.ones((150, 150), bool)
    valid[:, :60] = False
    held = DecodedRaster.of_pixels(pixels, gsd=0.1)
    held.valid = valid
    place = Ground("g", held, np.array([[20.0, 20, 40, 40], [80, 80, 110, 110]]), np.zeros(2, np.int64))
    view = View(held.grid, np.array([64.0, 64.0]), np.eye(2), SIDE, SIDE)
    patch = look(place, view)
    assert not patch.pixels[:, :60].any()
    assert patch.boxes.tolist() == [[80, 80, 110, 110]]
    assert patch.valid_share == pytest.approx(68 / 128)


def test_what_is_known_turns_with_the_pixels():
    inside = shapely.box(60, 60, 140, 200)
    pixels = np.zeros((3, 200, 200), np.uint8)
    pixels[:, 60:, 60:140] = 200  # bright exactly where known
    plot = ground([[90, 90, 110, 110]], pixels, known=inside)
    for mosaic in (0.0, 1.0):
        source = windows(plot, **{**PLAIN, "mosaic": mosaic}, zoom=(1.0, 1.0))
        for i in range(6):
            image, target = source[0, i]
            if target.known is None:
                continue
            assert target.known.shape == (SIDE, SIDE)
            assert target.known.dtype == torch.bool
            assert ((image[0] > 100) == target.known).float().mean() > 0.97


def test_windows_keep_to_the_raster_where_they_fit():
    bright = ground([[2, 2, 22, 22]], np.full((3, 200, 200), 200, np.uint8))
    source = windows(bright, **PLAIN, turn=0.0, zoom=(1.0, 1.0))
    for i in range(5):
        assert (source[0, i][0] == 200).all(), "a crown in the corner does not fill the window with nothing"


def test_a_turn_keeps_areas():
    rng = np.random.default_rng(0)
    assert all(np.linalg.det(turned(25.0, rng)) == pytest.approx(1) for _ in range(5))
    assert np.array_equal(turned(0.0, rng), np.eye(2))


def test_light_changes_pixels_and_no_box():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    patch = Patch(
        pixels, np.array([[10, 20, 40, 40]], np.float32), np.zeros(1, np.int64), None, 1.0, np.array([[2, -1]])
    )
    plain = [vary(patch, radiometry="none", equalised=False, seed=s) for s in range(8)]
    strong = [vary(patch, radiometry="strong", equalised=False, seed=s) for s in range(8)]
    assert all(np.array_equal(np.sort(p.pixels, axis=None), np.sort(pixels, axis=None)) for p in plain)
    assert sum(not np.array_equal(a.pixels, b.pixels) for a, b in zip(plain, strong, strict=True)) >= 5
    assert all(np.allclose(a.boxes, b.boxes) for a, b in zip(plain, strong, strict=True))
    assert len({tuple(p.boxes[0].round().tolist()) for p in plain}) > 2, "flips and quarter turns"


def test_contrast_is_never_equalised_twice():
    for radiometry in ("strong", "calm"):
        chance = {
            equalised: [
                t.p for t in pipeline(radiometry, equalised=equalised).transforms if type(t).__name__ == "CLAHE"
            ]
            for equalised in (True, False)
        }
        assert chance[True] == [0.0]
        assert chance[False][0] > 0


def test_the_last_epochs_are_varied_little():
    source = windows(painted(0, radius=(10, 10)), calm_from=2, mosaic=1.0, empty=0.0)
    calm = [side for i in range(12) for side in whole_sides(source[2, i][1])]
    assert 20 * 0.84 < min(calm) <= max(calm) < 20 * 1.21
    assert torch.equal(source[1, 5][0], windows(painted(0, radius=(10, 10)), mosaic=1.0, empty=0.0)[1, 5][0])


def test_loose_boxes_are_tightened():
    loose = painted(0, radius=(10, 10), tightening=(0.8, 1.0))
    sides = [s for i in range(10) for s in whole_sides(windows(loose, **PLAIN, turn=0.0, zoom=(1.0, 1.0))[0, i][1])]
    assert 15.9 < min(sides) < 18
    assert 18 < max(sides) < 20.1


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="at least one annotated raster"):
        CrownWindows([Pool([])], config=SampleConfig())
    for wrong in ({"window_px": 100}, {"zoom": (1.5, 0.5)}, {"mosaic": 2.0}, {"turn": -1.0}, {"radiometry": "wild"}):
        with pytest.raises(ConfigError):
            SampleConfig(**wrong)


def test_processes_share_an_epoch():
    sampler = EpochSampler(7)
    sampler.set_epoch(2)
    assert list(sampler) == [(2, i) for i in range(7)]
    shares = [list(EpochSampler(7, rank, 2)) for rank in (0, 1)]
    assert shares == [[(0, 0), (0, 2), (0, 4)], [(0, 1), (0, 3), (0, 5)]], "equal shares: none waits for another"


def feed(**changes):
    values = {"samples": SampleConfig(window_px=64), "batch_size": 2, "epoch_windows": 4, "workers": 0, **changes}
    return CrownDataModule([Pool([painted(0)])], **values)


def test_the_data_module_feeds_batches():
    batches = list(feed().train_dataloader())
    assert len(batches) == 2
    pixels, targets = batches[0]
    assert pixels.shape == (2, 3, 64, 64)
    assert len(targets) == 2
    assert collate([windows()[0, 0]])[0].shape == (1, 3, SIDE, SIDE)
    with pytest.raises(ConfigError, match="less than one batch"):
        feed(batch_size=5).train_dataloader()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_draw_the_same_windows():
    alone, helped = (list(feed(workers=n).train_dataloader()) for n in (0, 1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(alone, helped, strict=True))


def test_windows_take_the_look_of_coarser_imagery_and_keep_their_boxes():
    rng = np.random.default_rng(0)
    speckle = ground([[20, 20, 60, 60]], rng.integers(0, 255, (3, 200, 200), dtype=np.uint8))
    plain = windows(speckle, **PLAIN, turn=0.0, zoom=(1.0, 1.0))
    coarse = windows(speckle, **PLAIN, turn=0.0, zoom=(1.0, 1.0), resolutions=(0.4, 0.4))
    (fine, targets), (blurred, same) = plain[0, 3], coarse[0, 3]
    assert torch.equal(targets.boxes, same.boxes)
    # The variance of a mean of 16 independent pixels is a sixteenth; cubic interpolation gives little of it back.
    assert blurred.float().std() < 0.4 * fine.float().std()
    finer = windows(speckle, **PLAIN, turn=0.0, zoom=(1.0, 1.0), resolutions=(0.05, 0.1))
    assert torch.equal(finer[0, 3][0], fine)


@pytest.mark.parametrize("resolutions", [(0.5, 0.1), (0.0, 0.1), (0.1, float("inf"))])
def test_resolutions_are_checked(resolutions):
    with pytest.raises(ConfigError, match="finest first"):
        SampleConfig(resolutions=resolutions)


def test_part_of_the_windows_keeps_its_detail():
    speckle = ground([[40, 40, 80, 80]], np.random.default_rng(0).integers(0, 255, (3, 200, 200), dtype=np.uint8))
    plain = {**PLAIN, "turn": 0.0, "zoom": (1.0, 1.0)}
    source = windows(speckle, **plain, resolutions=(0.4, 0.4), coarse=0.5)
    rough = [float(source[0, i][0].float().std()) for i in range(40)]
    fine = sum(value > 60 for value in rough)
    assert 10 <= fine <= 30
    assert all(value > 60 or value < 35 for value in rough), "all or nothing"


def test_small_plots_fill_windows_by_fours():
    small = ground([[20, 20, 40, 40]], np.full((3, 60, 60), 200, np.uint8))
    config = SampleConfig(window_px=SIDE, mosaic=0.0, empty=0.0, calm_from=0, radiometry="none")
    shown = []
    for share in (None, 1.0):
        source = CrownWindows([Pool([small], mosaic=share)], config=config)
        shown.append(np.mean([float((source[0, i][0] > 0).float().mean()) for i in range(10)]))
    assert shown[1] > 2 * shown[0], "to the end of training, whatever the settings say"


def test_pools_with_a_share_of_mosaics_of_their_own_leave_the_others_as_they_are():
    config = SampleConfig(window_px=SIDE)
    plain, other = (
        CrownWindows([Pool([painted(0)], mosaic=share)], config=config) for share in (None, config.mosaic)
    )
    assert torch.equal(plain[0, 3][0], other[0, 3][0])
