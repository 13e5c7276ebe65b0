"""One measurement in a process of its own, so that none inherits the memory, caches or threads of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CORES = 2


class WorkerError(RuntimeError):
    """A measurement failed; the message holds what its process said."""


def in_process(
    work: str,
    *,
    python: Path | str = sys.executable,
    script: str = "worker.py",
    env: dict[str, str] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Run one measurement on :data:`CORES` cores and return what it found.

    Args:
        work: Name of the measurement, known to the script.
        python: Interpreter.
        script: File in this folder; gets the name, the arguments as JSON and the path to write its answer to.
        env: Additional environment variables.
        arguments: Arguments of the measurement, JSON-able.

    Raises:
        WorkerError: The process failed.
    """
    with tempfile.TemporaryDirectory(prefix="treedet-worker-") as folder:
        answer = Path(folder) / "answer.json"
        command = [str(python), str(HERE / script), work, json.dumps(arguments), str(answer)]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(CORES), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_on_few_cores,
        )
        if done.returncode or not answer.exists():
            raise WorkerError(f"{work} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def _on_few_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
