import numpy as np
import pytest
import torch

from treedet.datasets.crop_canvases import GAP_PX, MEAN_COLOUR, CropCanvases, Shelves, as_read, canvases
from treedet.datasets.crops import CropSet, Pictures
from treedet.datasets.sample_config import SampleConfig
from treedet.errors import ConfigError

CONFIG = SampleConfig(window_px=160, gsd=0.1, radiometry="none")
CLASSES = {"status": ("alive", "dead")}


def crop_set(sizes=None, *, gsd=0.1, dead=5, n=40, seed=0):
    """Crops of one colour each, which names them: green is their number, red tells the dead from the alive."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(15, 45, (n, 2)) if sizes is None else np.array(sizes)
    pictures = []
    for number, (height, width) in enumerate(sizes):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:] = (200 if number < dead else 20, 3 * number, 255)
        pictures.append(picture)
    values = tuple("dead" if number < dead else "alive" for number in range(len(sizes)))
    names = tuple(str(number) for number in range(len(sizes)))
    return CropSet("crops", "status", gsd, Pictures.of(pictures), values, names, names)


def build(crops=None, *, config=CONFIG, **options):
    crops = crop_set() if crops is None else crops
    return CropCanvases(crops, crops.codes(CLASSES, {}), config=config, **options)


def inside(pixels, box):
    x0, y0, x1, y1 = (int(v) for v in box)
    return pixels[:, y0:y1, x0:x1]


def apart(boxes):
    """True where no two boxes, one of them grown by the gap, meet."""
    a, b = boxes[:, None], boxes[None]
    meet = (a[..., :2] < b[..., 2:] + GAP_PX).all(-1) & (b[..., :2] < a[..., 2:] + GAP_PX).all(-1)
    return bool((meet == np.eye(len(boxes), dtype=bool)).all())


def test_an_item_is_a_canvas_with_a_box_and_a_class_for_each_crop():
    pixels, targets = build()[0, 0]
    n = len(targets.boxes)
    assert n >= 8
    assert pixels.shape == (3, 160, 160)
    assert pixels.dtype == torch.uint8
    assert targets.boxes.dtype == torch.float32
    assert targets.said.shape == (n, 1)
    assert targets.said.dtype == torch.int64
    assert targets.context.tolist() == [False] * n
    assert targets.boxes.min() >= 0
    assert targets.boxes.max() <= 160


def test_a_canvas_says_nothing_to_the_detection():
    _, targets = build()[0, 0]
    assert (targets.classes == -1).all()
    assert not targets.known.any()


def test_every_box_shows_one_crop_of_the_class_that_is_said():
    data = build()
    for index in range(20):
        pixels, targets = data[0, index]
        for box, said in zip(targets.boxes, targets.said[:, 0].tolist(), strict=True):
            seen = inside(pixels, box)
            assert (seen == seen[:, :1, :1]).all()
            assert int(seen[0, 0, 0]) == (200 if said else 20)
            assert int(seen[2, 0, 0]) == 255


def test_crops_lie_apart():
    data = build()
    assert all(apart(data[0, index][1].boxes.numpy()) for index in range(20))


def test_items_depend_on_seed_epoch_and_index_alone():
    config = SampleConfig(window_px=160, radiometry="strong", resolutions=(0.1, 0.3))
    data, again, other = build(config=config), build(config=config), build(config=config, seed=1)
    data[3, 7]
    first, second = data[0, 1], again[0, 1]
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert not torch.equal(first[0], other[0, 1][0])
    assert not torch.equal(first[0], data[1, 1][0])


@pytest.mark.parametrize(("gsd", "factor"), [(0.1, 1.0), (0.2, 0.5), (0.05, 2.0)])
def test_crops_are_shown_at_the_gsd_of_the_canvas(gsd, factor):
    config = SampleConfig(window_px=160, gsd=gsd, zoom=(1.0, 1.0), radiometry="none")
    sides = torch.cat([build(crop_set([(40, 40)] * 8), config=config)[0, i][1].boxes for i in range(20)])
    sides = (sides[:, 2:] - sides[:, :2]).numpy() / (40 * factor)
    assert 0.84 - 0.03 <= sides.min() <= 0.93
    assert 0.97 <= sides.max() <= 1.0


def test_zoom_varies_crops_one_by_one():
    config = SampleConfig(window_px=160, zoom=(0.5, 2.0), radiometry="none")
    boxes = build(crop_set([(30, 30)] * 8), config=config)[0, 0][1].boxes
    sides = boxes[:, 2] - boxes[:, 0]
    assert sides.max() > 1.3 * sides.min()


def test_training_ends_on_a_narrower_zoom():
    config = SampleConfig(window_px=320, zoom=(0.25, 4.0), radiometry="none", calm_from=5)
    data = build(crop_set([(40, 40)] * 8), config=config)
    sides = [torch.cat([(b := data[e, i][1].boxes)[:, 2] - b[:, 0] for i in range(20)]) for e in (4, 5)]
    assert sides[0].max() > 80
    assert sides[1].max() <= 48
    assert sides[1].min() >= 0.84 * 0.85 * 40 - 2


def test_oblong_crops_are_turned():
    config = SampleConfig(window_px=160, zoom=(1.0, 1.0), radiometry="none")
    boxes = torch.cat([build(crop_set([(40, 16)] * 8), config=config)[0, i][1].boxes for i in range(10)])
    upright = (boxes[:, 3] - boxes[:, 1] > boxes[:, 2] - boxes[:, 0]).double().mean()
    assert 0.3 < upright < 0.7


def test_all_eight_ways_to_lay_a_crop_occur():
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:20, :20], picture[:20, 20:] = 80, 160
    crops = CropSet("c", "status", 0.1, Pictures.of([picture]), ("dead",), ("a",), ("a",))
    data = build(crops, config=SampleConfig(window_px=64, zoom=(1.0, 1.0), radiometry="none"))
    seen = set()
    for index in range(150):
        pixels, targets = data[0, index]
        crop = inside(pixels, targets.boxes[0])[0]
        h, w = crop.shape
        corners = ((y, x) for y in (2, h - 3) for x in (2, w - 3))
        seen.add(tuple(int(crop[place]) // 70 for place in corners))
    assert len(seen) == 8


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_balance_lies_between_the_natural_share_of_a_class_and_the_same_for_all(balance, share):
    crops = crop_set([(30, 30)] * 50, dead=5)
    data = build(crops, balance=balance)
    said = torch.cat([data[0, index][1].said[:, 0] for index in range(80)])
    assert len(said) > 800
    assert abs((said == 1).double().mean() - share) < 0.05


def test_small_crops_are_not_drawn_more_often_than_large_ones_nor_less():
    sizes = [(20, 20)] * 20 + [(60, 60)] * 20
    data = build(crop_set(sizes, dead=20), config=SampleConfig(window_px=256, radiometry="none"))
    said = torch.cat([data[0, index][1].said[:, 0] for index in range(80)])
    assert abs((said == 1).double().mean() - 0.5) < 0.05


def test_a_crop_larger_than_a_canvas_is_shrunk_to_fit():
    boxes = build(crop_set([(400, 300)]))[0, 0][1].boxes
    assert len(boxes) == 1
    assert (boxes[0, 2:] - boxes[0, :2]).max() == 160


def test_what_lies_between_crops_is_drawn_anew():
    data = build()
    corners = {tuple(data[0, index][0][:, -1, -1].tolist()) for index in range(40)}
    assert MEAN_COLOUR in corners
    assert len(corners) > 20


def test_light_varies_crop_by_crop():
    config = SampleConfig(window_px=320, zoom=(1.0, 1.0), radiometry="strong")
    data = build(crop_set([(40, 40)] * 4, dead=4), config=config)
    pixels, targets = data[0, 0]
    means = {tuple(inside(pixels, box).double().mean((1, 2)).round().int().tolist()) for box in targets.boxes}
    assert len(means) > len(targets.boxes) / 2


def test_crops_without_a_code_are_never_drawn():
    crops = crop_set(n=20, dead=5)
    codes = crops.codes(CLASSES, {"status": {"alive": None}})
    data = CropCanvases(crops, codes, config=CONFIG)
    assert all((data[0, index][1].said == 1).all() for index in range(10))
    with pytest.raises(ConfigError, match="no crop has a class of the attributes to learn"):
        CropCanvases(crops, np.full_like(codes, -1), config=CONFIG)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="balance of classes must be from 0 to 1, found 2"):
        build(balance=2)
    with pytest.raises(ConfigError, match="a row for each of 40 crops, found 3"):
        CropCanvases(crop_set(), np.zeros((3, 1), np.int64), config=CONFIG)


def test_canvases_show_each_crop_once_and_as_it_is():
    crops = crop_set(n=60)
    seen = []
    for pixels, boxes, numbers in canvases(crops, gsd=0.1, side_px=128):
        assert pixels.shape == (3, 128, 128)
        assert (boxes.dtype, numbers.dtype) == (np.float32, np.int64)
        assert apart(boxes)
        for box, number in zip(boxes, numbers, strict=True):
            assert np.array_equal(inside(pixels, box).transpose(1, 2, 0), crops.pixels[int(number)])
        between = np.ones((128, 128), bool)
        for x0, y0, x1, y1 in boxes.astype(int):
            between[y0:y1, x0:x1] = False
        assert (pixels[:, between].T == MEAN_COLOUR).all()
        seen += numbers.tolist()
    assert sorted(seen) == list(range(60))


def test_canvases_are_the_same_every_time():
    first, second = (list(canvases(crop_set(), gsd=0.13, side_px=128)) for _ in range(2))
    assert all(
        np.array_equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_crops_on_canvases_are_resampled_as_rasters_are_read():
    crops = crop_set([(40, 20)])
    for gsd, size in ((0.2, (10, 20)), (0.05, (40, 80)), (0.101, (20, 40))):
        (_, boxes, _) = next(canvases(crops, gsd=gsd, side_px=128))
        assert tuple(boxes[0, 2:] - boxes[0, :2]) == size
    ramp = np.repeat(np.arange(0, 80, 2, dtype=np.uint8), 3).reshape(1, 40, 3).repeat(2, axis=0)
    assert as_read(ramp, 1, 20)[0, :, 0].tolist() == list(range(1, 80, 4))


def test_a_crop_larger_than_the_canvas_is_shrunk_and_said_once(caplog):
    caplog.set_level("INFO", logger="treedet")
    laid = list(canvases(crop_set([(300, 150), (20, 20), (128, 128), (200, 10)]), gsd=0.1, side_px=128))
    boxes = np.concatenate([boxes for _, boxes, _ in laid])[np.argsort(np.concatenate([n for _, _, n in laid]))]
    assert (boxes[:, 2:] - boxes[:, :2]).tolist() == [[64, 128], [20, 20], [128, 128], [6, 128]]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["crops: 2 crops are larger than a canvas of 128 px and are shrunk to fit"]


def test_shelves_hold_nothing_beyond_their_sides():
    shelves = Shelves(50)
    assert shelves.place(10, 51) is None
    assert shelves.place(51, 10) is None
    assert shelves.place(50, 50) == (0, 0)
    assert shelves.place(1, 1) is None
