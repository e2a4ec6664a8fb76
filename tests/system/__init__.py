"""Tests that start real servers."""

from __future__ import annotations
