from pathlib import Path

import numpy as np
import pytest
from factories import make_raster

from treedet.datasets.sources import (
    EVALUATION_ONLY,
    SOURCES,
    AnnotatedImage,
    Source,
    load_source,
    place_of,
    scale_boxes,
    split_by_place,
)
from treedet.errors import ConfigError


def image(name: str, *, side: int = 100, boxes: list[list[float]] | None = None) -> AnnotatedImage:
    array = np.array(boxes or [], np.float32).reshape(-1, 4)
    return AnnotatedImage(
        name=name,
        place=place_of(name),
        pixels=np.zeros((3, side, side), np.uint8),
        boxes=array,
        classes=np.zeros(len(array), np.int64),
        gsd=0.1,
        source="test",
    )


def test_a_set_is_read_with_its_empty_images(tmp_path: Path) -> None:
    for name in ("A_001.tif", "A_002.tif"):
        make_raster(tmp_path / name, np.full((3, 40, 50), 7, np.uint8))
    (tmp_path / "annotations.csv").write_text(
        "image_path,xmin,ymin,xmax,ymax,label\nA_001.tif,10,10,30,20,Tree\nA_002.tif,0,0,0,0,Tree\n"
    )
    images = load_source(tmp_path, Source("set", "annotations.csv", tightening=0.5))
    assert [(i.name, len(i.boxes)) for i in images] == [("A_001.tif", 1), ("A_002.tif", 0)]
    np.testing.assert_allclose(images[0].boxes, [[15, 12.5, 25, 17.5]])
    assert images[0].gsd == pytest.approx(0.1, rel=1e-3)
    assert images[0].pixels.shape == (3, 40, 50)


@pytest.mark.parametrize("part", EVALUATION_ONLY)
def test_evaluation_sets_are_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(ConfigError, match="evaluation only"):
        load_source(tmp_path, Source("bad", f"{part}/annotations.csv"))


def test_no_source_of_the_bundled_model_is_an_evaluation_set() -> None:
    assert not [s for s in SOURCES if any(part in s.annotations for part in EVALUATION_ONLY)]


def test_two_years_of_a_plot_are_one_place() -> None:
    assert place_of("SJER/SJER_002.tif") == place_of("SJER_2017/SJER_002.tif")
    assert place_of("ABBY_006_2018.jpg") == place_of("ABBY_006_2019.jpg")
    assert place_of("2018_SJER_3_252000_4104000_image_628.jpg") == place_of("2019_SJER_4_252000_4104000_image_1.jpg")


def test_no_place_is_on_both_sides_of_a_split() -> None:
    images = [image(f"SITE_{i % 10:03d}_{2017 + i // 10}.jpg") for i in range(30)]
    train, held = split_by_place(images, share=0.2, seed=1)
    assert len(train) + len(held) == 30
    assert len(held) == 6
    assert not {i.place for i in train} & {i.place for i in held}


def test_one_place_alone_is_never_split() -> None:
    images = [image("YELL.png")]
    assert split_by_place(images, share=0.5, seed=0) == (images, [])


def test_scaling_boxes_keeps_centres() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 6, 8]], np.float32)
    scaled = scale_boxes(boxes, 0.8)
    np.testing.assert_allclose((scaled[:, :2] + scaled[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2)
    np.testing.assert_allclose(scaled[:, 2:] - scaled[:, :2], 0.8 * (boxes[:, 2:] - boxes[:, :2]), rtol=1e-5)


def test_no_set_of_the_recipe_is_an_evaluation_set() -> None:
    recipe = (Path(__file__).parents[3] / "configs/train/crowns.yaml").read_text()
    assert not [part for part in EVALUATION_ONLY if part in recipe]
