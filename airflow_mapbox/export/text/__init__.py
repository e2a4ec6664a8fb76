"""Write attributes, numbers and positions as JSON text, a batch at a time."""

from __future__ import annotations
