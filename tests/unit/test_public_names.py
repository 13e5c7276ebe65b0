"""The public names are those listed once, each with a page, and importing them costs nothing."""

import subprocess
import sys

import pytest

import treedet


def test_what_is_listed_is_there_and_documented():
    assert treedet.__all__ == sorted(treedet.__all__)
    for name in treedet.__all__:
        assert getattr(treedet, name).__doc__, name
    assert set(dir(treedet)) == set(treedet.__all__)


def test_the_table_of_homes_and_the_list_agree():
    assert set(treedet._HOME) == set(treedet.__all__)
    for name, home in treedet._HOME.items():
        assert getattr(treedet, name).__module__ == home, f"{name} is defined elsewhere than in {home}"


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        _ = treedet.Detecter


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import sys, treedet; treedet.LabelSchema()\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'lightning', 'dask', 'rasterio', 'geopandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
