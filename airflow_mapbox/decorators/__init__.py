"""Tasks written as functions."""

from __future__ import annotations
