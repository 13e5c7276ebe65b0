"""Memory allocator settings that make PyTorch faster on Linux."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h; not exported anywhere Python could read them.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEEP = 2**31 - 1


def keep_memory() -> None:
    """Let glibc keep the memory of large tensors instead of returning it after each operation.

    Otherwise each window faults in hundreds of megabytes anew. Process-wide, so for a program's start and never on
    import; does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEEP)
