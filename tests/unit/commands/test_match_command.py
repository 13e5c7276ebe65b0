import subprocess
import sys

import pandas as pd
import pytest
from field_stands import stand

from treedet.cli import main
from treedet.vectors.annotations import read_crowns
from treedet.vectors.writers import write_crowns

OUTPUTS = ["out-match.png", "out-plots.csv", "out-records.csv", "out.gpkg"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forest = stand(plots=2)
    write_crowns(forest.crowns, "crowns.gpkg")
    forest.field.to_csv("field.csv", index=False)
    return forest


COMMAND = [
    "match",
    "crowns.gpkg",
    "field.csv",
    "out.gpkg",
    "--columns.species",
    "SP_CODE",
    "--columns.status",
    "COND",
]


def outputs(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "out")))


def test_the_command_writes_crowns_records_plots_and_a_picture(files, tmp_path, capsys):
    assert main(COMMAND) == 0
    said = capsys.readouterr().out
    assert outputs(tmp_path) == OUTPUTS
    crowns = read_crowns("out.gpkg")
    records, plots = pd.read_csv("out-records.csv"), pd.read_csv("out-plots.csv")
    matched = int((records["fate"] == "matched").sum())
    assert len(crowns) == len(files.crowns)
    assert len(records) == len(files.field)
    assert crowns["status_p"].sum() == matched
    assert plots["matched"].sum() == matched
    assert f"{matched} matched" in said
    assert "overtopped by another tree" in said
    assert "no crown within 1 m" in said
    assert "2 of 2 plots moved" in said
    assert "treedet train ORTHO.tif out.gpkg model.safetensors --freeze trunk" in said


def test_what_is_there_stays_unless_it_may_be_replaced(files, tmp_path, capsys):
    (tmp_path / "out-plots.csv").write_text("mine")
    assert main(COMMAND) == 2
    assert "out-plots.csv exists already" in capsys.readouterr().err
    assert (tmp_path / "out-plots.csv").read_text() == "mine"
    assert outputs(tmp_path) == ["out-plots.csv"]
    assert main([*COMMAND, "--overwrite"]) == 0
    assert outputs(tmp_path) == OUTPUTS


def test_values_come_from_a_config_file(files, tmp_path):
    (tmp_path / "c.yaml").write_text(
        'columns: {status: COND}\nvalues: {status: {"Live": alive, "Standing dead": dead}}'
    )
    assert main(["match", "--config", "c.yaml", "crowns.gpkg", "field.csv", "out.gpkg"]) == 0
    assert set(read_crowns("out.gpkg")["status"].dropna()) == {"alive", "dead"}


def test_no_input_is_replaced(files, capsys):
    assert main(["match", "crowns.gpkg", "field.csv", "crowns.gpkg", "--overwrite"]) == 2
    assert "crowns.gpkg is read and would be replaced" in capsys.readouterr().err


def test_nothing_is_left_of_what_could_not_be_matched(files, tmp_path, capsys):
    (tmp_path / "field.csv").write_text("dbh\n3\n")
    assert main(COMMAND[:4]) == 2
    assert "does not tell where stems are" in capsys.readouterr().err
    assert outputs(tmp_path) == []


def test_help_loads_no_torch():
    script = (
        "import sys\nfrom treedet.cli import main\n"
        "try:\n    main(['match', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'geopandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--columns" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"
