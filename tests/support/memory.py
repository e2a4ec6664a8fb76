"""The memory of a process, read from Linux's /proc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def peak_memory(process: int | str) -> int:
    """
    Return a process's peak memory in bytes; 0 if there is no such process.

    ``ru_maxrss`` would include the memory of the process that started it.

    :param process: the process's id, or ``"self"``.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def peak_of(call: Callable[[], T]) -> tuple[T, int]:
    """
    Return what a call returns, and the bytes by which this process's peak memory rose above what it had before.

    :param call: the call.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at the present memory
    before = peak_memory("self")
    result = call()
    return result, peak_memory("self") - before
