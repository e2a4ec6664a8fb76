"""Tasks that make uploads."""

from __future__ import annotations
