"""The main job, measured: speed, reading, memory, merging and writing, with the targets beside the figures.

``python tests/benchmarks/main_job.py`` runs everything at full size and stores the result; ``--only speed,memory``
runs some rows, and merges them into it. Run it on a quiet machine. DeepForest is installed into a cache folder the
first time it is needed, which takes the network; the measurements do not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import Figure, run_record, store
from machine import commit, machine, versions
from rows import FULL_SIZE, ROWS, Bench

RESULTS = Path(__file__).resolve().parent / "results"
CACHE = Path.home() / ".cache" / "treedet-benchmarks"
BUSY = 0.5
"""Load of the machine before a row above which figures are not to be trusted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run rows, print their figures and store them."""
    asked = _parse(arguments)
    bench = Bench(asked.size, asked.cache, asked.rounds, say=_say)
    results = asked.results or (RESULTS if asked.size == FULL_SIZE else None)
    about = {"commit": commit(), "machine": machine(), "versions": versions(), "size": asked.size}
    for name in asked.only:
        load = os.getloadavg()[0]
        if load > BUSY:
            _say(f"the machine is busy (load {load:.1f}); figures will be worse than they are")
        started = time.perf_counter()
        figures = ROWS[name](bench)
        record: dict[str, Any] = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "load_before": round(load, 2),
            "seconds": round(time.perf_counter() - started, 1),
            **about,
        }
        _print(name, figures)
        if results is not None:
            # After each row, so that an interruption loses no more than one.
            store(results, {name: run_record(figures, **record)})
    if results is None:
        _say(f"not stored, since targets are stated for --size {FULL_SIZE}; --results FOLDER stores it all the same")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=_rows, default=list(ROWS), help=f"rows to run, of {','.join(ROWS)}")
    parser.add_argument("--size", type=_size, default=FULL_SIZE, help="side in pixels at 0.10 m; the rest scales")
    parser.add_argument("--rounds", type=int, default=1, help="runs of DeepForest, between runs of treedet")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for DeepForest's environment")
    parser.add_argument("--results", type=Path, help="folder for the JSON and the table")
    return parser.parse_args(arguments)


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"row {unknown[0]!r} is unknown; choose from {', '.join(ROWS)}")
    return names


def _size(text: str) -> int:
    size = int(text)
    if size < 64 or size % (1000 if size > 1000 else 2):
        raise argparse.ArgumentTypeError(f"{size}: give an even number of 64 to 1000 px, or a multiple of 1000")
    return size


def _print(row: str, figures: Sequence[Figure]) -> None:
    print(f"\n{row}")
    wide = max(len(figure.name) for figure in figures)
    for figure in figures:
        name, text, target, met = figure.cells()
        print(f"  {name:{wide}}  {text:>12}  {target:16}  {met}".rstrip(), flush=True)


def _say(line: str) -> None:
    print(f"- {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
