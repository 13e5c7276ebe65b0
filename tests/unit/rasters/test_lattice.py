"""Which files lie on one pixel grid and touch."""

import numpy as np
import pyproj
import pytest
from affine import Affine

from treedet.core.grid import Grid
from treedet.rasters.lattice import clusters, meeting, same_crs, touching

UTM = pyproj.CRS(32632)


def grid(x, y, *, size=(100, 80), gsd=0.1, crs=UTM, rotation=0.0):
    transform = Affine.translation(500_000 + x, 5_400_000 - y) @ Affine.rotation(rotation) @ Affine.scale(gsd, -gsd)
    return Grid.build(crs, transform, width=size[0], height=size[1])


def files(grids):
    return [cluster.files.tolist() for cluster in clusters(grids)]


def test_files_that_abut_overlap_or_meet_at_a_corner_are_one_piece():
    grids = [grid(0, 0), grid(10, 0), grid(15, 5), grid(25, 13), grid(40, 0)]
    found = clusters(grids)
    assert [cluster.files.tolist() for cluster in found] == [[0, 1, 2, 3], [4]]
    assert found[0].corners.tolist() == [[0, 0], [0, 100], [50, 150], [130, 250]]


@pytest.mark.parametrize(
    "other",
    [
        grid(10, 0, crs=pyproj.CRS(32633)),
        grid(10, 0, gsd=0.101),
        grid(10.03, 0),
        grid(9.95, 0),
        grid(10, 0, rotation=1.0),
    ],
    ids=["CRS", "size of pixels", "gap", "half a pixel off", "rotated"],
)
def test_other_grids_are_other_pieces(other):
    assert files([grid(0, 0), other]) == [[0], [1]]


def test_rounding_in_a_file_does_not_matter():
    noisy = [grid(10 * i + 1e-7 * (i % 3 - 1), 0, gsd=0.1 * (1 + 1e-9)) for i in range(30)]
    assert files(noisy) == [list(range(30))]
    assert clusters(noisy)[0].corners[:, 1].tolist() == [100 * i for i in range(30)]


def test_rotated_files_on_one_grid():
    first = grid(0, 0, rotation=30)
    x, y = first.transform @ (100, 0)
    t = first.transform
    second = Grid.build(UTM, Affine(t.a, t.b, x, t.d, t.e, y), width=9, height=9)
    assert files([first, second]) == [[0, 1]]


def test_files_without_a_place_belong_to_nothing():
    nowhere = Grid.build(None, Affine.identity(), width=10, height=10, gsd=0.1)
    assert files([nowhere, nowhere, grid(0, 0)]) == [[0], [1], [2]]


def test_one_crs_in_other_words():
    assert same_crs([UTM, pyproj.CRS(UTM.to_wkt()), pyproj.CRS(32633)]).tolist() == [0, 0, 1]
    assert same_crs([None, UTM, None])[[0, 2]].tolist() == [-1, -3]


def test_touching_and_meeting():
    corners, sizes = np.array([(0, 0), (10, 0), (20, 20), (0, 11)]), np.array([(10, 10)] * 4)
    assert touching(corners, sizes).tolist() == [0, 0, 1, 2]
    i, j = meeting(corners, corners + sizes)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1)]
