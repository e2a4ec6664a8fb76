"""Reuse the memory of one batch for the next. New pages from the system take as long as the work on them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

# With its header, just below glibc's DEFAULT_MMAP_THRESHOLD_MAX.
_LARGEST_MAPPED_BYTES = (32 << 20) - (64 << 10)

# The C library's pool, for the strings of a batch. Arrow's own pool returns much of the freed memory to the system.
KEPT_MEMORY = pa.system_memory_pool()


def keep_freed_memory() -> None:
    """
    Make the C library keep freed memory for the next batch.

    By default glibc returns the memory of a batch's arrays to the system, so each page of the next batch is new. With
    long lines that took a third of the time. Once a mapped block of up to 32 MiB has been freed, glibc keeps twice as
    much (mallopt(3), "dynamic mmap threshold"). This block is never touched, so it costs nothing. Other C libraries
    ignore it.
    """
    np.empty(_LARGEST_MAPPED_BYTES, np.uint8)
