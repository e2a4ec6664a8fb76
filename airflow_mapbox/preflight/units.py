"""Numbers in the form that Mapbox's messages have them."""

from __future__ import annotations

import math

_UNITS = ("B", "kB", "MB", "GB", "TB")


def pretty_bytes(size: int) -> str:
    """
    Return a size as the npm package pretty-bytes 3 writes it: ``272629760`` becomes ``272.63 MB``.

    :param size: number of bytes.
    """
    if size < 1:
        return f"{size} B"
    exponent = min(int(math.log10(size) / 3 + 1e-12), len(_UNITS) - 1)
    return f"{round(size / 1000**exponent, 2):.15g} {_UNITS[exponent]}"
