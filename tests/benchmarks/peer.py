"""DeepForest in an environment of its own, outside the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import in_process

REQUIREMENT = "deepforest==2.1.*"
OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


def deepforest_python(cache: Path) -> Path:
    """Return the interpreter of an environment with DeepForest and this environment's torch, made if need be.

    Args:
        cache: Folder for the environment.
    """
    folder = cache / "deepforest-2.1"
    python, finished = folder / "bin" / "python", folder / ".finished"
    if finished.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    # Its time is the network's, so both must compute with the same torch.
    wanted = [REQUIREMENT, *(f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision"))]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    finished.touch()
    return python


def deepforest_run(raster: Path, cache: Path) -> dict[str, Any]:
    """Time DeepForest on a raster."""
    python = deepforest_python(cache)
    return in_process("predict_tile", python=python, script="deepforest_worker.py", env=OFFLINE, raster=str(raster))
