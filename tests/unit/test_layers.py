"""An import points down only; who may import torch, Lightning, rasterio and GIS readers is settled by folder."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "treedet"

ROWS = [
    {"errors"},
    {"core"},
    {"rasters", "vectors", "models", "metrics"},
    {"datasets", "inference", "compat"},
    {"display"},
    {"training", "evaluation"},
    {"commands"},
    {"arguments"},
    {"command_table"},
    {"cli"},
]
"""From bottom to top; packages on one row do not import each other."""
TOP = {"__init__", "__main__"}
"""Modules that hand out the others and may import any of them."""

TORCH_ROWS = {"models", "datasets", "inference", "compat", "display", "training", "evaluation", "commands"}


def anywhere_in(*places):
    return lambda module: any(module == place or module.startswith(place + ".") for place in places)


ALLOWED = {
    "torch": anywhere_in(*TORCH_ROWS),
    "torchvision": anywhere_in("models", "training", "evaluation"),
    "safetensors": anywhere_in("models", "compat"),
    "lightning": anywhere_in("training", "datasets.datamodule"),
    "pytorch_lightning": anywhere_in("training", "datasets.datamodule"),
    "dask": anywhere_in("inference.on_dask"),
    "distributed": anywhere_in("inference.on_dask"),
    "rasterio": anywhere_in("rasters"),
    "pyogrio": anywhere_in("vectors"),
    "fiona": lambda _: False,
    "albumentations": anywhere_in("datasets.augment"),
    "jsonargparse": anywhere_in("cli", "arguments"),
}
"""Where a package may be imported."""
PLAIN_RASTERIO = {"rasterio.crs", "rasterio.transform"}
"""Values rather than files, so core may use them too."""
FILE_READERS = {"read_file", "read_parquet", "to_file", "to_parquet", "read_dataframe", "write_dataframe"}
"""Calls that read or write GIS files; only vectors makes them."""


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    name: str


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__") or "__init__", path.read_text(encoding="utf-8")


def imports_of(module, text):
    """Every import in a file, wherever it stands; ``from a import b`` counts as ``a.b``, which may be a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "treedet" if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            yield from (Import(module, node.lineno, f"{base}.{alias.name}") for alias in node.names)


def row_of(part):
    return next((number for number, names in enumerate(ROWS) if part in names), None)


def fault(found):
    """What is wrong with an import, or None."""
    own, root = found.module.split(".")[0], found.name.split(".")[0]
    if root == "treedet":
        return inner_fault(found, own)
    allowed = ALLOWED.get(root)
    plain = own == "core" and any(found.name.startswith(name) for name in PLAIN_RASTERIO)
    if allowed is not None and not allowed(found.module) and not plain:
        return f"{root} is not for {found.module}"
    return None


def inner_fault(found, own):
    parts = found.name.split(".")
    if own in TOP or len(parts) < 2:
        return None
    target = parts[1]
    if row_of(own) is None or row_of(target) is None:
        return f"{own if row_of(own) is None else target} has no row"
    if own == target:
        return None
    if row_of(target) > row_of(own):
        return f"{target} lies above {own}"
    return f"{target} is a sibling of {own}" if row_of(target) == row_of(own) else None


def faults(files):
    return [
        f"treedet/{module.replace('.', '/')}.py:{found.line}: imports {found.name}: {what}"
        for module, text in files
        for found in imports_of(module, text)
        if (what := fault(found)) is not None
    ]


def gis_calls(files):
    for module, text in files:
        if module.split(".")[0] == "vectors":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILE_READERS:
                yield f"treedet/{module.replace('.', '/')}.py:{node.lineno}: {node.func.attr} belongs in vectors"


def test_every_import_points_down():
    wrong = faults(modules())
    assert not wrong, "\n".join(wrong)


def test_gis_files_are_read_and_written_in_vectors_alone():
    wrong = list(gis_calls(modules()))
    assert not wrong, "\n".join(wrong)


def test_every_folder_has_a_row():
    parts = {module.split(".")[0] for module, _ in modules()} - TOP - {"weights"}
    assert not {part for part in parts if row_of(part) is None}


@pytest.mark.parametrize(
    ("module", "line", "what"),
    [
        ("core.grid", "from treedet.rasters.raster import Raster", "rasters lies above core"),
        ("core.grid", "import torch", "torch is not for core.grid"),
        ("core.grid", "import rasterio", "rasterio is not for core.grid"),
        ("rasters.raster", "from treedet.vectors import writers", "vectors is a sibling of rasters"),
        ("inference.pipeline", "def f():\n    from treedet.datasets.samples import x", "datasets is a sibling"),
        ("inference.pipeline", "if True:\n    import pytorch_lightning as pl", "pytorch_lightning is not for"),
        ("models.trunk", "from rasterio import open", "rasterio is not for models.trunk"),
        ("display.look", "from treedet import training", "training lies above display"),
        ("errors", "from treedet.core.grid import Grid", "core lies above errors"),
        ("news.thing", "from treedet.core.grid import Grid", "news has no row"),
        ("datasets.sources", "import pyogrio", "pyogrio is not for"),
    ],
)
def test_a_wrong_import_is_caught_with_its_line(module, line, what):
    found = faults([(module, "import numpy\n" + line)])
    assert len(found) == 1
    assert what in found[0]
    assert f"{module.replace('.', '/')}.py:{2 + line.count(chr(10))}: " in found[0]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core.grid", "from rasterio.crs import CRS"),
        ("core.grid", "from treedet.core.boxes import area"),
        ("cli", "from treedet.commands import predict_command"),
        ("datasets.datamodule", "import pytorch_lightning"),
        ("training.module", "from treedet.datasets.datamodule import CrownsData"),
    ],
)
def test_a_right_import_is_let_through(module, line):
    assert faults([(module, line)]) == []


def test_a_gis_call_is_caught():
    assert list(gis_calls([("datasets.sample", "\ntable.to_file(path)")])) == [
        "treedet/datasets/sample.py:2: to_file belongs in vectors"
    ]
