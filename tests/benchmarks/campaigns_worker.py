"""Measures a run over many small files; started in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector


class _Timed(BlobDetector):
    """Knows how long it took, on the clock and on the processor."""

    clock = processor = 0.0

    def detect(self, *args: Any, **how: Any) -> Any:
        before = time.perf_counter(), time.thread_time()
        found = super().detect(*args, **how)
        self.clock += time.perf_counter() - before[0]
        self.processor += time.thread_time() - before[1]
        return found


def run_files(folder: str) -> dict[str, float]:
    """Predict a folder in this process and return milliseconds a file and memory in MiB."""
    model = _Timed()
    tiles = Path(folder) / "tiles"
    count = len(list(tiles.iterdir()))
    before = _resident_mib()
    wall, processor = time.perf_counter(), time.process_time()
    summary = Detector(model).predict_many(tiles, Path(folder) / "crowns.gpkg")
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "files": count,
        "grounds": summary.grounds,
        "crowns": summary.crowns,
        "overhead_ms": 1e3 * (wall - model.clock) / count,
        "overhead_cpu_ms": 1e3 * (processor - model.processor) / count,
        "memory_before_mib": before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    work, arguments, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps({"run_files": run_files}[work](**json.loads(arguments))))
