"""Keep secrets out of everything that is shown, and send them only to servers that may have them."""

from __future__ import annotations
