"""What the README promises, run."""

import re
import shutil
from pathlib import Path

import pytest

from treedet.cli import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_exactly_two_set_up_commands() -> None:
    commands = re.findall(r"^python3 -m venv \.venv && .+$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "treedet predict data/" in commands[0]
    assert commands[1].endswith("-m pytest")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "crowns.gpkg").exists()
    assert (tmp_path / "crowns.parquet").exists()


def test_options_named_in_the_readme_exist() -> None:
    known = set()
    for action in build_parser()._subcommands_action.choices.values():  # type: ignore[union-attr]
        known |= {option for a in action._actions for option in a.option_strings}
    blocks = "\n".join(re.findall(r"^treedet (?:predict|inspect) .*$", README, flags=re.MULTILINE))
    used = set(re.findall(r"--[a-z_]+", blocks))
    assert used
    assert used <= known | {"--resume"}, used - known


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_linked_files_exist(path: str) -> None:
    assert (ROOT / path).exists()
