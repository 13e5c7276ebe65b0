"""Training, measured: steps against a plain torchvision loop, and the share of a step spent waiting for windows.

``python tests/benchmarks/training_speed.py`` runs both at 400 px and stores the result. Both sides have the same
trunk, anchors, batch and windows in memory. torchvision pads 400 px to 416 px; ours are padded likewise, so that the
networks see the same pixels. torchvision runs in fp32, channels first, and ours as the command line trains:
channels last, bf16 where the processor computes it natively, the allocator set. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from figures import Figure, run_record
from machine import commit, machine, versions
from processes import in_process

RESULTS = Path(__file__).resolve().parent / "results"
SCRIPT = "training_worker.py"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "treedet": ("ours", {}),
    "treedet in fp32": ("ours", {"precision": "32-true"}),
    "treedet with glibc's own memory settings": ("ours", {"keep": False}),
    "torchvision": ("torchvision", {}),
    "torchvision with our memory settings": ("torchvision", {"keep": True}),
}


def speed(steps: int, rounds: int, side: int) -> list[Figure]:
    """Time steps of each kind in turn, and repeat, so that a slow moment of the machine hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for number in range(rounds):
        for name, (work, how) in KINDS.items():
            answer = in_process(work, script=SCRIPT, steps=steps, side=side, **how)
            found[name].append(answer["seconds"])
            _say(f"round {number + 1}, {name}: {answer['seconds']:.3f} s a step at {answer['side']} px")
    step = {name: median(seconds) for name, seconds in found.items()}
    theirs = step["torchvision"]
    return [
        *(Figure(f"{name}, batch of 8", seconds, "s/step") for name, seconds in step.items()),
        Figure("times as fast as torchvision", theirs / step["treedet"], at_least=2),
        Figure("times as fast as torchvision, in fp32", theirs / step["treedet in fp32"]),
        Figure(
            "times as fast as torchvision with our memory settings",
            step["torchvision with our memory settings"] / step["treedet"],
        ),
        *(
            Figure(f"{name}, round {i}", seconds, "s/step")
            for name, times in found.items()
            for i, seconds in enumerate(times, 1)
            if rounds > 1
        ),
    ]


def data_wait(steps: int, rounds: int, side: int) -> list[Figure]:
    """Measure the share of a step that training waits for the next batch, with the default of one worker."""
    answers = [in_process("wait", script=SCRIPT, steps=steps, side=side) for _ in range(rounds)]
    return [
        Figure("data wait, share of step time", 100 * median(a["share"] for a in answers), "%", at_most=10),
        Figure("data wait", median(a["waited_s"] for a in answers), "s/step"),
        Figure("step with windows drawn meanwhile", median(a["seconds"] for a in answers), "s/step"),
    ]


ROWS = {"speed": speed, "data wait": data_wait}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows, print their figures and store them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12, help="steps that count, of each kind and round")
    parser.add_argument("--rounds", type=int, default=3, help="times each kind is measured")
    parser.add_argument("--side", type=int, default=400, help="side of the windows in pixels")
    parser.add_argument("--only", choices=list(ROWS), help="one row alone; the other keeps its stored figures")
    parser.add_argument("--results", type=Path, help="folder for the JSON; without it only full runs are stored")
    asked = parser.parse_args(arguments)
    full = (asked.steps, asked.rounds, asked.side) == tuple(
        parser.get_default(name) for name in ("steps", "rounds", "side")
    )
    folder = asked.results or (RESULTS if full else None)
    about = {"commit": commit(), "machine": machine(), "versions": versions(), "side": asked.side}
    for name, row in ROWS.items():
        if asked.only not in (None, name):
            continue
        load = round(os.getloadavg()[0], 2)
        figures = row(asked.steps, asked.rounds, asked.side)
        _print(name, figures)
        if folder is not None:
            date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            _store(folder, name, run_record(figures, date=date, load_before=load, **about))
    return 0


def _store(folder: Path, name: str, record: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training_speed.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    path.write_text(json.dumps({"rows": {**rows, name: record}}, indent=1) + "\n")


def _print(row: str, figures: Sequence[Figure]) -> None:
    print(f"\n{row}")
    wide = max(len(figure.name) for figure in figures)
    for figure in figures:
        name, text, target, met = figure.cells()
        print(f"  {name:{wide}}  {text:>14}  {target:10}  {met}".rstrip(), flush=True)


def _say(line: str) -> None:
    print(f"- {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
