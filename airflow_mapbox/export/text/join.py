"""Join the parts of many strings, one string a row."""

from __future__ import annotations

from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.text.memory import KEPT_MEMORY

# The parts of each row's string, in order: a string that is the same in every row, or an array of one string a row.
RowParts: TypeAlias = "list[pa.Array | str]"


def join_rows(parts: RowParts) -> pa.Array:
    """
    Join the parts of each row in one copy. Fewer parts take less time, so neighbouring constants are merged first.

    :param parts: in order; arrays of the same length, and at least one array.
    :return: one string a row; null if a part is null.
    """
    merged: RowParts = []
    for part in parts:
        if merged and isinstance(part, str) and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return pc.binary_join_element_wise(*merged, "", memory_pool=KEPT_MEMORY)


def take_rows(parts: RowParts, rows: pa.Array) -> RowParts:
    """
    Choose rows.

    :param parts: of one string a row.
    :param rows: indices of the rows.
    """
    return [part if isinstance(part, str) else part.take(rows) for part in parts]
