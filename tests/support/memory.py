"""The memory of a process, read from Linux's /proc."""

from __future__ import annotations

from pathlib import Path


def peak_memory(process: int | str) -> int:
    """Give a process's peak in bytes; ``ru_maxrss`` would count that of the process which started it as well."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
