import geopandas as gpd
import numpy as np
import pytest
import rasterio

from treedet.datasets.sample import SAMPLE_CONFIG, write_sample
from treedet.datasets.scenes import SceneConfig
from treedet.errors import OutputError

TINY = SceneConfig(kind="orchard", gsd=0.1, width_px=240, height_px=200)


def test_raster_crowns_and_aoi_lie_on_the_same_ground(tmp_path):
    scene = write_sample(tmp_path / "new", config=TINY, seed=1)
    with rasterio.open(tmp_path / "new" / "sample.tif") as raster:
        assert raster.crs.to_epsg() == 32632
        assert raster.shape == (200, 240)
        bounds = raster.bounds
        difference = np.abs(raster.read().astype(int) - scene.pixels)
    assert difference.mean() < 8
    crowns = gpd.read_file(tmp_path / "new" / "sample_crowns.gpkg", layer="crowns")
    assert len(crowns) == len(scene.boxes) > 0
    assert set(crowns["label"]) == {"tree"}
    assert set(crowns["status"]) <= {"alive", "dead"}
    np.testing.assert_allclose(scene.grid.to_pixels(crowns.geometry.to_numpy()), scene.boxes, atol=1e-6)
    aoi = gpd.read_file(tmp_path / "new" / "sample_aoi.gpkg", layer="aoi")
    left, bottom, right, top = aoi.total_bounds
    assert bounds.left < left < right < bounds.right
    assert bounds.bottom < bottom < top < bounds.top
    assert str(len(crowns)) in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert not list((tmp_path / "new").glob(".*"))


def test_existing_files_are_replaced_only_on_request(tmp_path):
    (tmp_path / "sample.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"sample\.tif"):
        write_sample(tmp_path, config=TINY)
    assert (tmp_path / "sample.tif").read_bytes() == b"mine"
    write_sample(tmp_path, config=TINY, overwrite=True)
    assert (tmp_path / "sample.tif").read_bytes() != b"mine"


def test_the_sample_is_at_ten_centimetres():
    assert SAMPLE_CONFIG.gsd == 0.1
