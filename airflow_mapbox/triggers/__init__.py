"""What waits for uploads in the triggerer."""

from __future__ import annotations
