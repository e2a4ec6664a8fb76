"""The memory of a process, read from Linux's /proc."""

from __future__ import annotations

from pathlib import Path


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
