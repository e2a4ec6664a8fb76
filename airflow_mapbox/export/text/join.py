"""Text of many rows, as the pieces that it is made up of."""

from __future__ import annotations

from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.text.memory import KEPT_MEMORY

# A text that stands in every row, or an array of one text a row.
Pieces: TypeAlias = "list[pa.Array | str]"


def joined(pieces: Pieces) -> pa.Array:
    """
    Put the pieces of each row together, in one copy: the fewer there are, the less time it takes.

    :param pieces: in order, arrays of the same length; at least one array.
    :return: one text a row; null where a piece is null.
    """
    merged: Pieces = []
    for piece in pieces:
        if merged and isinstance(piece, str) and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    return pc.binary_join_element_wise(*merged, "", memory_pool=KEPT_MEMORY)


def taken(pieces: Pieces, rows: pa.Array) -> Pieces:
    """
    Choose rows.

    :param pieces: of a text a row.
    :param rows: indices.
    """
    return [piece if isinstance(piece, str) else piece.take(rows) for piece in pieces]
