"""Memory that one slice leaves to the next: pages that the system gives anew take as long as what is done with them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_LARGEST_MAPPED = (32 << 20) - (64 << 10)  # with its header just below glibc's DEFAULT_MMAP_THRESHOLD_MAX

# The C library's, for texts of a slice: Arrow's own pool gives much of what is freed back to the system.
KEPT_MEMORY = pa.system_memory_pool()


def keep_freed_memory() -> None:
    """
    Have the C library keep what is freed for the next slice.

    glibc gives the memory of a slice's arrays back to the system when the slice is done, and each page of the next
    one's is then new: of long lines that took a third of the time. Once a mapped block of up to 32 MiB has been freed,
    it keeps twice as much (mallopt(3), "dynamic mmap threshold"); untouched, this one costs nothing. Other C libraries
    take no notice.
    """
    np.empty(_LARGEST_MAPPED, np.uint8)
