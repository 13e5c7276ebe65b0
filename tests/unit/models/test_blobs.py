import numpy as np
from factories import disks, paint, tiny_spec

from treedet.core.labels import LabelSchema
from treedet.core.suppression import MergeConfig
from treedet.models.blobs import BlobDetector


def test_every_painted_disk_is_found_exactly() -> None:
    circles = disks(np.random.default_rng(1), width=200, height=160, count=20, radius=(3, 12))
    pixels = paint(circles, width=200, height=160)
    found = BlobDetector(tiny_spec()).detect(pixels[None], sides=[0], threshold=0.5, merge=MergeConfig())[0]
    expected = set()
    for circle in circles:
        rows, columns = np.nonzero(paint(circle[None], width=200, height=160)[0])
        expected.add((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert {tuple(box) for box in found.boxes.astype(int).tolist()} == expected
    assert len(found) == len(circles)


def test_nothing_painted_is_nothing_found() -> None:
    schema = LabelSchema(attributes={"status": ("alive", "dead")})
    found = BlobDetector(tiny_spec(labels=schema)).detect(
        np.zeros((1, 3, 64, 64), np.uint8), sides=[0], threshold=0.5, merge=MergeConfig()
    )[0]
    assert len(found) == 0
    assert found.attributes["status"].shape == (0, 2)


def test_the_second_band_says_the_attribute() -> None:
    schema = LabelSchema(attributes={"status": ("alive", "dead")})
    pixels = np.zeros((1, 3, 64, 64), np.uint8)
    pixels[0, 0, 5:15, 5:15] = 200
    pixels[0, 0, 30:50, 30:50] = 250
    pixels[0, 1, 30:50, 30:50] = 250
    found = BlobDetector(tiny_spec(labels=schema)).detect(pixels, sides=[0], threshold=0.5, merge=MergeConfig())[0]
    said = {tuple(box): p.argmax() for box, p in zip(found.boxes.tolist(), found.attributes["status"], strict=True)}
    assert said == {(5.0, 5.0, 15.0, 15.0): 0, (30.0, 30.0, 50.0, 50.0): 1}
