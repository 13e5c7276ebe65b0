"""Fixtures for all tests: no network, fixed seeds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

# Workers side by side (pytest -n) share the cores, and so do the processes that tests start.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid sockets other than Unix ones and loopback."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "localhost", "::1"):  # type: ignore[index]
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Make unseeded draws repeatable."""
    np.random.seed(0)  # noqa: NPY002 - the legacy generator is the global one


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real imagery; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real imagery is not there ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def sample() -> Path:
    """Folder with the rendered sample."""
    return Path(__file__).resolve().parents[1] / "data"
