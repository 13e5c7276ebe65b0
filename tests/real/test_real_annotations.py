from pathlib import Path

import pandas as pd
import pytest

from treedet.vectors.annotations import read_boxes, read_polygons

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")


@pytest.mark.parametrize(
    ("name", "crowns", "images"),
    [
        ("neon-benchmark/train/annotations.csv", 7671, 302),
        ("neon-benchmark/valid/annotations.csv", 2810, None),
        ("neon-plots/train/annotations.csv", 110, 31),
        ("neon-plots/eval/annotations.csv", 247, 37),
        ("samples/OSBS_029.csv", 61, 1),
        ("samples/2019_YELL_2_541000_4977000_image_crop.xml", 279, 1),
        ("samples/SOAP_061.xml", 37, 1),
        ("species-idtrees/annotations.csv", 1113, 79),
        ("samples/coco_sample_file.json", 6, 2),
    ],
)
def test_every_annotated_box_is_read(name, crowns, images):
    found = read_boxes(DATA / name)
    assert len(found.boxes) == crowns
    assert images is None or len(found.images) == images
    assert (found.boxes["xmax"] > found.boxes["xmin"]).all()


def test_voc_and_csv_of_the_same_crowns_agree():
    voc, table = (
        read_boxes(DATA / "samples/SOAP_061.xml").boxes,
        read_boxes(DATA / "samples/testfile_multi.csv").boxes,
    )
    key = ["xmin", "ymin", "xmax", "ymax"]
    pd.testing.assert_frame_equal(
        voc.sort_values(key, ignore_index=True), table.sort_values(key, ignore_index=True)[voc.columns]
    )


def test_a_shapefile_with_a_row_without_geometry():
    found = read_polygons(DATA / "pasture-25cm/BOXES.shp", crs=None)
    assert found.is_valid
    assert found.area > 10_000
