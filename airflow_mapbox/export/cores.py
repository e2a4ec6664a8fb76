"""The number of processor cores that this process may use."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """
    Return how many cores the process may use: by its affinity, and by the quota that a container gives it.

    :param cgroups: where the file systems of cgroups are mounted.
    :param membership: the file that names the cgroups of the process (cgroups(7), "/proc files").
    :return: at least 1; a part of a core counts as one.
    """
    if sys.version_info >= (3, 13):
        allowed = os.process_cpu_count() or 1
    else:
        allowed = len(os.sched_getaffinity(0))
    quota = min(_quotas(cgroups, membership), default=math.inf)
    return max(1, min(allowed, math.ceil(min(quota, allowed))))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the quota of each cgroup of the process, in cores. An outer quota applies to inner cgroups too."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts, read = (cgroups, cgroups / "unified"), _unified_quota
        elif "cpu" in controllers.split(","):
            mounts, read = (cgroups / controllers, cgroups / "cpu"), _old_quota
        else:
            continue
        for mount in mounts:
            inner = mount / path.lstrip("/")
            # In a container the root may be the container's own cgroup, while the path is that of the host.
            for folder in (inner, *inner.parents):
                if folder.is_relative_to(mount) and (quota := read(folder)) is not None:
                    yield quota


def _unified_quota(folder: Path) -> float | None:
    """Read the quota of cgroups version 2: ``max 100000`` or ``150000 100000``, microseconds of each period."""
    return _ratio(*_text(folder / "cpu.max").split())


def _old_quota(folder: Path) -> float | None:
    """Read the quota of cgroups version 1, in which -1 means no quota."""
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str = "", period: str = "") -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
