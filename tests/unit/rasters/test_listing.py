"""What a user means by a file, a folder, a glob or a list."""

from pathlib import Path

import pytest

from treedet.errors import UnreadableRasterError
from treedet.rasters.listing import list_rasters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.tif", "a.PNG", "notes.md", ".hidden.tif", "deep/c.tif", "deep/er/d.jp2"):
        path = tmp_path / "tiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tiles"


def names(paths: list[str], folder: Path) -> list[str]:
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_the_rasters_in_it(folder: Path) -> None:
    assert names(list_rasters(folder), folder) == ["a.PNG", "b.tif"]


def test_a_folder_of_folders_stands_for_all_below_it(folder: Path) -> None:
    for name in ("a.PNG", "b.tif"):
        (folder / name).unlink()
    assert names(list_rasters(folder), folder) == ["deep/c.tif", "deep/er/d.jp2"]


def test_globs_lists_and_sequences(folder: Path) -> None:
    assert names(list_rasters(str(folder / "**" / "*.tif")), folder) == ["b.tif", "deep/c.tif"]
    (folder / "some.txt").write_text("# wanted\ndeep/c.tif\n\nb.tif\n", encoding="utf-8-sig")
    assert names(list_rasters(folder / "some.txt"), folder) == ["deep/c.tif", "b.tif"]
    twice = [folder / "b.tif", str(folder / "*.tif"), folder / "some.txt"]
    assert names(list_rasters(twice), folder) == ["b.tif", "deep/c.tif"]
    assert list_rasters("https://example.org/a.tif") == ["https://example.org/a.tif"]


@pytest.mark.parametrize("given", ["empty", "*.tif", [], "none.txt"])
def test_nothing_found_is_one_error(tmp_path: Path, given: str | list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UnreadableRasterError):
        list_rasters(str(tmp_path / given) if isinstance(given, str) else given)


def test_a_list_in_another_encoding_is_said(folder: Path) -> None:
    (folder / "list.txt").write_text("b.tif\n", encoding="utf-16")
    with pytest.raises(UnreadableRasterError, match="save it as UTF-8"):
        list_rasters(folder / "list.txt")


def test_pictures_that_treedet_draws_are_no_rasters(folder: Path) -> None:
    for name in ("a-look.png", "oak-validation.png", "stand-validation.png", "stand-confusion-status.png"):
        (folder / name).touch()
    (folder / "stand.safetensors").touch()
    assert names(list_rasters(folder), folder) == ["a.PNG", "b.tif", "oak-validation.png"]
