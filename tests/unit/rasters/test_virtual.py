"""Which VRT files stand for the files they name, and which are a raster of their own."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from factories import cut_up, make_raster, write_vrt

from treedet.rasters.listing import list_files, list_rasters, names_many
from treedet.rasters.virtual import mosaic_files

PIXELS = np.arange(3 * 40 * 60, dtype=np.uint32).astype(np.uint8).reshape(3, 40, 60)


@pytest.fixture
def tiles(tmp_path: Path) -> list[str]:
    return list(cut_up(tmp_path / "tiles", PIXELS, columns=(0, 25, 60), rows=(0, 40)))


@pytest.fixture(autouse=True)
def everything_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="treedet")


def test_a_mosaic_is_the_files_in_it(tmp_path: Path, tiles: list[str]) -> None:
    path = write_vrt(tmp_path / "mosaic.vrt", tiles)
    with rasterio.open(path) as mosaic:
        np.testing.assert_array_equal(mosaic.read(), PIXELS)
    assert mosaic_files(str(path)) == tiles == list_files(path)
    assert list_rasters(path) == [str(path)]
    assert names_many(path)


def test_a_member_that_is_gone_does_not_make_it_another(tmp_path: Path, tiles: list[str]) -> None:
    path = write_vrt(tmp_path / "mosaic.vrt", tiles)
    Path(tiles[0]).unlink()
    assert mosaic_files(str(path)) == tiles


def test_masks_and_nodata_of_files_are_in_it(tmp_path: Path) -> None:
    empty = list(cut_up(tmp_path / "nodata", PIXELS, columns=(0, 25, 60), rows=(0, 40), nodata=7))
    path = write_vrt(
        tmp_path / "nodata.vrt",
        empty,
        nodata="<NoDataValue>7</NoDataValue>",
        change=lambda s: s.replace("SimpleSource", "ComplexSource").replace("</Comp", "<NODATA>7.0</NODATA></Comp"),
    )
    assert mosaic_files(str(path)) == empty
    alpha = np.concatenate([PIXELS, np.full((1, 40, 60), 255, np.uint8)])
    clear = list(cut_up(tmp_path / "a", alpha, columns=(0, 25, 60), rows=(0, 40), photometric="RGB", alpha="yes"))
    assert mosaic_files(str(write_vrt(tmp_path / "alpha.vrt", clear))) == clear


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("</SourceBand>", "</SourceBand><ScaleRatio>2</ScaleRatio>", "it has a ScaleRatio"),
        ("</SourceBand>", "</SourceBand><LUT>0:255,255:0</LUT>", "it has a LUT"),
        ("SimpleSource", "KernelFilteredSource", "it has a KernelFilteredSource"),
        ("<SourceBand>1", "<SourceBand>2", "its bands are others"),
        ('<DstRect xOff="0"', '<DstRect xOff="0.4"', "files lie between its pixels"),
        ('<SrcRect xOff="0"', '<SrcRect xOff="1"', "it shows parts of files"),
        (" /></SimpleSource>", ' /><Resampling a="1" /></SimpleSource>', "it has a Resampling"),
        ("0_1.tif", "0_0.tif", "0_0.tif is in it twice"),
        ("<SourceProperties", "<NODATA>3</NODATA><SourceProperties", "its nodata is not that of the files"),
    ],
)
def test_what_changes_pixels_is_no_mosaic(
    tmp_path: Path, tiles: list[str], caplog: pytest.LogCaptureFixture, old: str, new: str, why: str
) -> None:
    path = write_vrt(tmp_path / "other.vrt", tiles, change=lambda source: source.replace(old, new))
    assert list_files(path) == [str(path)]
    assert len(caplog.messages) == 1
    assert "is read as one raster, not file by file: " in caplog.messages[0]
    assert why in caplog.messages[0]
    assert not names_many(path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<VRTDataset", '<VRTDataset subClass="VRTWarpedDataset"', "it is a VRTWarpedDataset"),
        ('Band dataType="Byte"', 'Band subClass="VRTDerivedRasterBand" dataType="Byte"', "a VRTDerivedRasterBand"),
        ("<ColorInterp>Red", "<ColorInterp>Gray", "its data type, colours, mask or nodata are not those"),
        ("<ColorInterp>", "<NoDataValue>0</NoDataValue><ColorInterp>", "mask or nodata are not those of its files"),
        ("<GeoTransform>500000", "<GeoTransform>500001", "its files lie elsewhere on the map"),
        ("</VRTDataset>", "", "it can not be parsed"),
    ],
)
def test_what_says_something_else_than_its_files_is_no_mosaic(
    tmp_path: Path, tiles: list[str], caplog: pytest.LogCaptureFixture, old: str, new: str, why: str
) -> None:
    path = write_vrt(tmp_path / "other.vrt", tiles)
    path.write_text(path.read_text().replace(old, new))
    assert mosaic_files(str(path)) == []
    assert why in caplog.messages[0]


def test_another_crs_is_another_place(tmp_path: Path, tiles: list[str], caplog: pytest.LogCaptureFixture) -> None:
    path = write_vrt(tmp_path / "other.vrt", tiles)
    text = path.read_text()
    srs = text[text.index("<SRS>") : text.index("</SRS>")]
    path.write_text(text.replace(srs, "<SRS>EPSG:32633"))
    assert mosaic_files(str(path)) == []
    assert "its CRS is not that of its files" in caplog.messages[0]


def test_a_band_that_is_left_out_is_no_mosaic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    four = np.concatenate([PIXELS, PIXELS[:1]])
    tiles = list(cut_up(tmp_path / "tiles", four, columns=(0, 25, 60), rows=(0, 40)))
    path = write_vrt(tmp_path / "rgb.vrt", tiles)
    text = path.read_text()
    path.write_text(text[: text.index('<VRTRasterBand dataType="Byte" band="4"')] + "</VRTDataset>")
    assert mosaic_files(str(path)) == []
    assert "it has 3 bands, its files have 4" in caplog.messages[0]


def test_a_folder_of_files_and_a_mosaic_of_them_names_each_once(
    tmp_path: Path, tiles: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    beside = make_raster(tmp_path / "beside.tif", PIXELS)
    write_vrt(tmp_path / "tiles" / "all.vrt", [*tiles, beside])
    assert list_files(tmp_path / "tiles") == [*tiles, str(tmp_path / "tiles" / ".." / "beside.tif")]
    assert "is read as the 3 files in it; 2 of them are named already, each is read once" in caplog.messages[-1]
