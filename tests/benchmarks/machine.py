"""What a figure was measured on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import rasterio
import torch

from treedet.models.backends.eager import resolve_precision

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "rasterio", "pyogrio", "geopandas", "numpy", "scipy")


def machine() -> dict[str, str | int | bool]:
    """Return the processor, its cores and memory, and whether it computes bf16 natively."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(pages * page / 2**30),
        "bf16_native": resolve_precision("auto", torch.device("cpu")) == "bf16",
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, GDAL and the packages that time is spent in."""
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "gdal": rasterio.__gdal_version__}


def commit() -> str:
    """Return the commit of the working tree, with ``-dirty`` where it differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{head}-dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
