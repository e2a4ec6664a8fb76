"""Make many small objects without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """
    Switch the garbage collector off for a moment.

    It would look at each parsed position or row again and again, which takes a third of the time. Nothing that a parser
    makes refers to itself, so nothing is lost.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
