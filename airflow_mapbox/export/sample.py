"""Measure how many bytes of GeoJSON coordinates and attributes take, by the first features of a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.geometry.stages import PreparedGeometries
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.text.attributes import encode_properties
from airflow_mapbox.export.text.join import join_rows
from airflow_mapbox.export.text.positions import position_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Measure so much of the first batch. More takes longer and hardly changes the result.
_MAX_FEATURES, _MAX_POSITIONS = 1000, 1 << 13
_SEPARATOR_BYTES = len("],[")
# Fewer decimals than these are coarser than Mapbox's most precise tiles: 5 are about a metre.
_FEWEST_DECIMALS = 5


@dataclass(frozen=True)
class Sample:
    """
    The bytes of the first features of a source.

    :param features: the number of features.
    :param bytes: their size.
    :param coordinates: bytes of their coordinates.
    :param decimals: bytes that fewer decimals would save, by the number of decimals.
    :param attributes: bytes of each attribute, with its name.
    """

    features: int
    bytes: int
    coordinates: int
    decimals: Mapping[int, int]
    attributes: Mapping[str, int]


def measure(batch: Batch, prepared: PreparedGeometries, features: pa.Array, as_text: frozenset[str]) -> Sample:
    """
    Measure the features of a batch.

    :param batch: the first batch of a source.
    :param prepared: its geometries.
    :param features: the features as they are written, one string each.
    :param as_text: columns of numbers that are written as strings.
    """
    coordinates = _coordinate_bytes(prepared, prepared.decimals)
    fewer = range(prepared.decimals - 1, _FEWEST_DECIMALS - 1, -1)
    return Sample(
        features=len(features),
        bytes=max(_bytes(features), 1),
        coordinates=coordinates,
        decimals={decimals: coordinates - _coordinate_bytes(prepared, decimals) for decimals in fewer},
        attributes=_attribute_bytes(batch, len(features), as_text),
    )


def _coordinate_bytes(prepared: PreparedGeometries, decimals: int) -> int:
    """Return the bytes of all coordinates with a number of decimals, by the first positions of each kind."""
    total = 0.0
    for shapes in prepared.shapes:
        ordinates = [shapes.x, shapes.y] if shapes.z is None else [shapes.x, shapes.y, shapes.z]
        sampled = [_rounded(ordinate[:_MAX_POSITIONS], prepared.decimals - decimals) for ordinate in ordinates]
        size = _bytes(position_strings(sampled, decimals, None)) / len(sampled[0])
        total += (size + _SEPARATOR_BYTES) * len(shapes.x)
    return round(total)


def _rounded(ordinate: NDArray[np.float64], fewer: int) -> NDArray[np.float64]:
    return ordinate if not fewer else np.rint(ordinate / 10.0**fewer)


def _attribute_bytes(batch: Batch, features: int, as_text: frozenset[str]) -> dict[str, int]:
    """Return the bytes of each attribute in as many features, by the first ones."""
    first = next(batch.split(_MAX_FEATURES))
    times, comma = features / len(first), len(batch.columns) > 1
    sizes = {
        name: _bytes(join_rows(encode_properties({name: column}, as_text))) + (comma - len("{}")) * len(first)
        for name, column in first.columns.items()
    }
    return {name: round(size * times) for name, size in sizes.items()}


def _bytes(strings: pa.Array) -> int:
    return int(pc.sum(pc.binary_length(strings)).as_py() or 0)
