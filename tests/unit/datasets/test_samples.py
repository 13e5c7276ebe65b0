import numpy as np
import pytest
import torch
from factories import disks, paint

from treedet.datasets.augment import vary_geometry, vary_radiometry
from treedet.datasets.datamodule import CrownDataModule, EpochSampler
from treedet.datasets.samples import CrownWindows, Pool, SampleConfig, collate
from treedet.datasets.sources import AnnotatedImage
from treedet.errors import ConfigError

SIDE = 128


def painted(seed: int, *, size: int = 160, count: int = 12, radius: tuple[float, float] = (6, 14)) -> AnnotatedImage:
    circles = disks(np.random.default_rng(seed), width=size, height=size, count=count, radius=radius)
    boxes = np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)
    return AnnotatedImage(
        name=f"{seed}.png",
        place=str(seed),
        pixels=paint(circles, width=size, height=size),
        boxes=boxes.astype(np.float32),
        classes=np.zeros(len(boxes), np.int64),
        gsd=0.1,
        source="painted",
    )


def windows(**changes: object) -> CrownWindows:
    config = SampleConfig(**{"window_px": SIDE, **changes})  # type: ignore[arg-type]
    return CrownWindows([Pool([painted(0), painted(1)])], config=config, seed=5)


def test_boxes_stay_on_their_crowns_through_turns_and_zooms() -> None:
    image = painted(2)
    pixels = np.ascontiguousarray(image.pixels.transpose(1, 2, 0))
    checked = 0
    for seed in range(12):
        turned, boxes, classes = vary_geometry(
            pixels, image.boxes, image.classes, side=SIDE, zoom=0.8 + seed / 24, seed=seed
        )
        assert turned.shape == (SIDE, SIDE, 3)
        assert len(boxes) == len(classes)
        for xmin, ymin, xmax, ymax in boxes:
            if min(xmin, ymin) < 2 or max(xmax, ymax) > SIDE - 2:
                continue  # clipped by the window
            x0, y0, x1, y1 = int(xmin) - 2, int(ymin) - 2, int(xmax) + 3, int(ymax) + 3
            bright = turned[max(0, y0) : y1, max(0, x0) : x1, 0] > 100
            rows, columns = np.nonzero(bright)
            filled = len(rows) / ((xmax - xmin) * (ymax - ymin))
            centre_row, centre_column = rows.mean() + max(0, y0), columns.mean() + max(0, x0)
            assert abs(centre_column + 0.5 - (xmin + xmax) / 2) < 2.5
            assert abs(centre_row + 0.5 - (ymin + ymax) / 2) < 2.5
            # An ellipse fills 79 % of its box; boxes that were turned as boxes would be far emptier.
            assert 0.6 < filled < 0.95
            checked += 1
    assert checked > 40


def test_a_window_depends_on_seed_and_number_alone() -> None:
    first, again, other = windows()[3], windows()[3], windows()[4]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_targets_lie_inside_the_window(mosaic: float) -> None:
    source = windows(mosaic=mosaic)
    seen = 0
    for i in range(15):
        pixels, target = source[i]
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (3, SIDE, SIDE)
        assert target.boxes.shape == (len(target.classes), 4)
        assert (target.boxes >= 0).all()
        assert (target.boxes <= SIDE).all()
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
        seen += len(target.boxes)
    assert seen > 30


def test_an_image_without_crowns_is_a_sample() -> None:
    empty = painted(0)
    empty = AnnotatedImage(
        empty.name, empty.place, empty.pixels, empty.boxes[:0], empty.classes[:0], empty.gsd, empty.source
    )
    _, target = CrownWindows([Pool([empty])], config=SampleConfig(window_px=SIDE), seed=0)[0]
    assert target.boxes.shape == (0, 4)


def test_the_gsd_of_an_image_sets_the_zoom() -> None:
    fine = painted(3, size=320, count=12, radius=(16, 16))
    fine = AnnotatedImage(fine.name, fine.place, fine.pixels, fine.boxes, fine.classes, 0.05, fine.source)
    config = SampleConfig(window_px=SIDE, gsd=0.1, zoom=(1.0, 1.0), mosaic=0.0)
    sides = []
    for i in range(20):
        _, target = CrownWindows([Pool([fine])], config=config, seed=1)[i]
        sides.extend((target.boxes[:, 2:] - target.boxes[:, :2]).mean(1).tolist())
    assert np.median(sides) == pytest.approx(16.0, rel=0.1), "32 px at 5 cm are 16 px at 10 cm"


def test_light_changes_pixels_and_nothing_else() -> None:
    pixels = np.ascontiguousarray(painted(0).pixels.transpose(1, 2, 0))
    changed = [vary_radiometry(pixels, equalised=False, seed=seed) for seed in range(6)]
    assert all(c.shape == pixels.shape and c.dtype == np.uint8 for c in changed)
    assert sum(not np.array_equal(c, pixels) for c in changed) >= 4


def test_the_last_windows_are_varied_little() -> None:
    source = windows(calm_after=10, mosaic=1.0)
    image = painted(0)
    wild = [len(source[i][1].boxes) for i in range(10)]
    calm = [source[i][1].boxes for i in range(10, 30)]
    sides = np.concatenate([(b[:, 2:] - b[:, :2]).mean(1).numpy() for b in calm if len(b)])
    own = (image.boxes[:, 2:] - image.boxes[:, :2]).mean()
    assert np.median(sides) == pytest.approx(own, rel=0.15)
    assert sum(wild) > 0
    assert torch.equal(windows(calm_after=10, mosaic=1.0)[5][0], windows(mosaic=1.0)[5][0])


def test_no_images_is_told() -> None:
    with pytest.raises(ConfigError, match="at least one annotated image"):
        CrownWindows([Pool([])], config=SampleConfig())
    with pytest.raises(ConfigError, match="32 px"):
        SampleConfig(window_px=100)


def test_epochs_draw_new_windows() -> None:
    sampler = EpochSampler(4)
    assert list(sampler) == [0, 1, 2, 3]
    sampler.set_epoch(2)
    assert list(sampler) == [8, 9, 10, 11]


def test_the_data_module_feeds_batches() -> None:
    module = CrownDataModule(
        [Pool([painted(0)])],
        [painted(1)],
        samples=SampleConfig(window_px=SIDE),
        batch_size=2,
        epoch_windows=4,
        workers=0,
    )
    batches = list(module.train_dataloader())
    assert len(batches) == 2
    pixels, targets = batches[0]
    assert pixels.shape == (2, 3, SIDE, SIDE)
    assert len(targets) == 2
    assert [image.name for image in module.val_dataloader()] == ["1.png"]
    assert collate([windows()[0]])[0].shape == (1, 3, SIDE, SIDE)
