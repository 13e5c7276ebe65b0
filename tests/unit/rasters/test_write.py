import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine

from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError, OutputError
from treedet.rasters.write import RasterWriter, WriteOptions

UTM = pyproj.CRS.from_epsg(32632)
ROTATED = Affine(0.1, 0.02, 500_000.0, 0.02, -0.1, 5_400_000.0)


def grid(width=100, height=70, transform=ROTATED, crs=UTM, gsd=None):
    return Grid.build(crs, transform, width=width, height=height, gsd=gsd)


def noise(count, height, width, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, (count, height, width)).astype(dtype)


def test_windows_land_where_they_belong_and_the_georeference_is_kept(tmp_path):
    pixels = noise(3, 70, 100)
    with RasterWriter(tmp_path / "a.tif", grid()) as writer:
        for row in range(0, 70, 32):
            for col in range(0, 100, 48):
                window = Window(row, col, min(32, 70 - row), min(48, 100 - col))
                writer.write(pixels[:, row : window.bottom, col : window.right], window)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), pixels)
        assert raster.transform.almost_equals(ROTATED)
        assert raster.crs.to_epsg() == 32632
        assert [band.name for band in raster.colorinterp] == ["red", "green", "blue"]


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("block_px", [64, None])
def test_lossless_layouts_give_back_the_pixels(tmp_path, compression, dtype, block_px):
    pixels = noise(2, 70, 100, dtype)
    options = WriteOptions(block_px=block_px, compression=compression, nodata=0)
    with RasterWriter(tmp_path / "a.tif", grid(), count=2, dtype=dtype, options=options) as writer:
        writer.write(pixels)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), pixels)
        assert raster.dtypes == (np.dtype(dtype).name,) * 2
        assert raster.nodata == 0
        assert raster.block_shapes[0][1] == (64 if block_px else 100)


def test_jpeg_is_close_and_takes_bytes_only(tmp_path):
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8) * 2, (3, 70, 100))
    jpeg = WriteOptions(block_px=64, compression="jpeg")
    with RasterWriter(tmp_path / "a.tif", grid(), options=jpeg) as writer:
        writer.write(ramp)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert np.abs(raster.read().astype(int) - ramp).max() < 12
    with pytest.raises(ConfigError, match="jpeg takes 1 or 3 bands of uint8"):
        RasterWriter(tmp_path / "b.tif", grid(), dtype=np.uint16, options=jpeg)


def test_overviews_are_built(tmp_path):
    options = WriteOptions(block_px=64, overviews=(2, 4))
    with RasterWriter(tmp_path / "a.tif", grid(400, 300), options=options) as writer:
        writer.write(noise(3, 300, 400))
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.overviews(1) == [2, 4]


def test_an_image_without_georeference_is_written_without_one(tmp_path):
    with RasterWriter(tmp_path / "a.tif", grid(transform=Affine.identity(), crs=None, gsd=0.1)) as writer:
        writer.write(noise(3, 70, 100))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        raster = rasterio.open(tmp_path / "a.tif")
    with raster:
        assert raster.crs is None
        assert raster.transform.is_identity


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        RasterWriter(path, grid())
    assert path.read_bytes() == b"mine"
    with RasterWriter(path, grid(), overwrite=True) as writer:
        writer.write(noise(3, 70, 100))
        assert path.read_bytes() == b"mine"
    with rasterio.open(path) as raster:
        assert raster.count == 3


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.tif"
    with pytest.raises(OutputError, match="exists"), RasterWriter(path, grid()) as writer:  # noqa: PT012
        writer.write(noise(3, 70, 100))
        path.write_bytes(b"mine")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert path.read_bytes() == b"mine"


def test_an_exception_leaves_nothing_behind(tmp_path):
    def interrupted():
        with RasterWriter(tmp_path / "a.tif", grid()) as writer:
            writer.write(noise(3, 70, 100))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match="folder"):
        RasterWriter(tmp_path / "nowhere" / "a.tif", grid())


@pytest.mark.parametrize(
    ("pixels", "window", "named"),
    [
        (noise(3, 8, 8), Window(0, 0, 8, 9), r"found uint8 \(3, 8, 8\)"),
        (noise(3, 8, 8, np.uint16), Window(0, 0, 8, 8), "uint16"),
        (noise(1, 8, 8), Window(0, 0, 8, 8), r"\(1, 8, 8\)"),
        (noise(3, 8, 8), Window(66, 0, 8, 8), "leaves the raster"),
        (noise(3, 8, 8), Window(0, -1, 8, 8), "leaves the raster"),
    ],
)
def test_windows_that_do_not_fit_are_refused(tmp_path, pixels, window, named):
    with RasterWriter(tmp_path / "a.tif", grid()) as writer, pytest.raises(ConfigError, match=named):
        writer.write(pixels, window)


@pytest.mark.parametrize(
    "settings", [{"block_px": 100}, {"compression": "rar"}, {"jpeg_quality": 0}, {"overviews": (1,)}]
)
def test_layouts_that_do_not_exist_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))[:8]):
        WriteOptions(**settings)


def test_a_mask_is_kept_inside_the_file_and_is_invalid_where_nothing_was_written(tmp_path):
    pixels, valid = noise(3, 64, 48), np.random.default_rng(1).random((64, 48)) > 0.3
    options = WriteOptions(block_px=32, mask=True, overviews=(2,))
    with RasterWriter(tmp_path / "a.tif", grid(), options=options) as writer:
        writer.write(pixels[:, :32], Window(0, 0, 32, 48), valid=valid[:32])
        writer.write(pixels[:, 32:], Window(32, 0, 32, 48), valid=valid[32:])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(tmp_path / "a.tif") as raster:
        mask = raster.read_masks(1) > 0
        np.testing.assert_array_equal(raster.read()[:, :64, :48], pixels)
        np.testing.assert_array_equal(mask[:64, :48], valid)
        assert not mask[64:].any()
        assert not mask[:, 48:].any()


@pytest.mark.parametrize(
    ("masked", "valid"), [(True, None), (False, np.ones((8, 8), bool)), (True, np.ones((8, 9), bool))]
)
def test_what_is_valid_is_said_exactly_where_there_is_a_mask(tmp_path, masked, valid):
    with (
        RasterWriter(tmp_path / "a.tif", grid(), options=WriteOptions(mask=masked)) as writer,
        pytest.raises(ConfigError, match="valid for"),
    ):
        writer.write(noise(3, 8, 8), Window(0, 0, 8, 8), valid=valid)
