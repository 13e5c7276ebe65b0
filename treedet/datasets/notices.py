"""Notices that would repeat for each of many rasters, said once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _New(logging.Filter):
    """Lets a message through when it comes for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._said
        self._said.add(text)
        return new


@contextmanager
def each_once() -> Iterator[None]:
    """Let each notice of the package through once while the context lasts."""
    log = logging.getLogger("treedet")
    new = _New()
    log.addFilter(new)
    try:
        yield
    finally:
        log.removeFilter(new)
