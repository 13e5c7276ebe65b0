import numpy as np
import pytest
from matplotlib.image import imread

from treedet.display.confusion import confusion


def picture(path, counts, names, **more):
    confusion(path, np.array(counts), names, attribute="status", **more)
    return imread(path)[..., :3]


@pytest.mark.parametrize("classes", [2, 6, 20, 45])
def test_it_is_a_picture_for_few_and_for_many_classes(tmp_path, classes):
    counts = np.random.default_rng(0).integers(0, 50, (classes + 1, classes + 2))
    counts[-1, -1] = 0
    found = picture(tmp_path / "c.png", counts, [f"$Species_{i}" * 3 for i in range(classes)])
    assert 300 < found.shape[0] < 3000
    assert 300 < found.shape[1] < 3000


def test_boxes_that_were_given_have_neither_missed_nor_spurious_crowns(tmp_path):
    given = picture(tmp_path / "a.png", [[9, 1, 0, 0], [1, 9, 0, 0], [0, 0, 0, 0]], ["alive", "dead"])
    found = picture(tmp_path / "b.png", [[9, 1, 0, 4], [1, 9, 0, 4], [3, 3, 0, 0]], ["alive", "dead"])
    assert found.shape[0] > given.shape[0]
    assert found.shape[1] > given.shape[1]
    # Cells of classes are in colour; missed and spurious crowns are grey.
    assert coloured(found) < coloured(given)


def coloured(pixels):
    return float((np.ptp(pixels, axis=2) > 0.1).mean())


def test_a_class_without_a_crown_in_the_truth_has_cells_without_a_share(tmp_path):
    picture(tmp_path / "a.png", [[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], ["alive", "dead"])


def test_without_crowns_the_picture_says_so(tmp_path):
    assert coloured(picture(tmp_path / "a.png", np.zeros((3, 4), int), ["alive", "dead"])) == 0
