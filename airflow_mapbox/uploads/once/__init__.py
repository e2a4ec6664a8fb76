"""Create exactly one upload for each intended upload, also after a crash."""

from __future__ import annotations
