"""The tilesets of an account, after they were made."""

from __future__ import annotations
