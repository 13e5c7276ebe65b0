"""What the README and the pages in docs/ promise, run."""

import re
import shutil
from pathlib import Path

import pytest

from treedet.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    pytest.param(page.parent / link, id=f"{page.name}:{link}")
    for page in PAGES
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
]
WRITTEN = {
    "README.md": {"crowns.gpkg", "crowns.parquet"},
    "fine-tuning.md": {"stand.safetensors"},
    "evaluation.md": {"report"},
    "attributes.md": set(),
    "from_deepforest.md": {"crowns.csv", "labels.json"},
    "zones.md": {"crowns.gpkg", "crowns-zones.gpkg"},
    "campaigns.md": {"crowns.gpkg"},
}
"""Files that the example of each page leaves behind."""


def test_there_are_exactly_two_set_up_commands() -> None:
    commands = re.findall(r"^python3 -m venv \.venv && .+$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert "treedet predict data/" in commands[0]
    assert " -m pytest" in commands[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_example_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page.name, "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} >= WRITTEN[page.name]


def test_options_named_in_the_pages_exist() -> None:
    known = {"--help", "--resume", "--truth"}  # the last is moved to its place before parsing
    for action in build_parser()._subcommands_action.choices.values():  # type: ignore[union-attr]
        known |= {option for a in action._actions for option in a.option_strings}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = "|".join(COMMANDS)
    blocks = re.findall(rf"^treedet (?:{commands}) .*$", text, flags=re.MULTILINE)
    pages = [path.read_text(encoding="utf-8") for path in PAGES if path.parent.name == "docs"]
    inline = re.findall(r"`(--[a-z_]+)", "\n".join(pages))
    used = set(re.findall(r"--[a-z_]+", "\n".join(blocks))) | set(inline)
    assert used
    assert used <= known, used - known


@pytest.mark.parametrize("path", LINKS)
def test_linked_files_exist(path: Path) -> None:
    assert path.exists()
