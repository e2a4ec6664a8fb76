"""One view of the bytes to read: a local file, a URL, an object in a store, a stream or an iterator."""

from __future__ import annotations
