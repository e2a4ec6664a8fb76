"""Make and read vector tiles."""

from __future__ import annotations
