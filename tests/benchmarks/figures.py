"""A measured figure, what it should be, and the tables of figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = "main_job"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: The number.
        unit: Its unit; empty for plain numbers.
        at_least: Target that the number should reach.
        at_most: Target that it should not exceed.
    """

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target in words; empty where there is none."""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"= {self.at_least:,g} {self.unit}".strip()
        parts = [f">= {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        return f"{' and '.join(parts)} {self.unit}".strip() if parts else ""

    @property
    def met(self) -> str:
        """``met`` or ``not met``; empty where there is no target."""
        if not self.target:
            return ""
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return "met" if low <= self.value <= high else "not met"

    @property
    def text(self) -> str:
        """The number with its unit."""
        number = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"
        return f"{number} {self.unit}".strip()

    def cells(self) -> list[str]:
        """Return name, number, target and whether it is met."""
        return [self.name, self.text, self.target, self.met]


def store(folder: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Merge rows into the stored result, so that each row keeps its last run, and write the table anew.

    Args:
        folder: Folder of the JSON and the Markdown.
        runs: By row, what :func:`run_record` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows = {**before, **runs}
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(markdown(rows))


def run_record(figures: Sequence[Figure], **about: Any) -> dict[str, Any]:
    """Return a row as JSON-able values: its figures, and when and on what they were measured."""
    return {**about, "figures": [asdict(figure) for figure in figures]}


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return stored rows as a Markdown page."""
    lines = ["# The main job, measured", "", *_table(["row", "figure", "measured", "target", ""], _figures(rows))]
    lines += ["", "## How", ""]
    head = ["row", "date", "commit", "side px", "load before", "machine", "versions"]
    lines += _table(head, [_about(name, row) for name, row in rows.items()])
    lines += ["", "Run again with `python tests/benchmarks/main_job.py`; rows run separately are merged.", ""]
    return "\n".join(lines)


def _figures(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [[name, *Figure(**figure).cells()] for name, row in rows.items() for figure in row["figures"]]


def _about(name: str, row: Mapping[str, Any]) -> list[str]:
    on = row["machine"]
    bf16 = "native bf16" if on["bf16_native"] else "no native bf16"
    machine = f"{on['cpu']}, {on['cores']} cores, {on['memory_gib']} GiB, {bf16}"
    versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items())
    return [name, row["date"], row["commit"], f"{row['size']:,}", f"{row['load_before']:.2f}", machine, versions]


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]
