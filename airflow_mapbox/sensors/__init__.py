"""Tasks that wait for uploads."""

from __future__ import annotations
