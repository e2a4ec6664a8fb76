"""What a caller may choose about an export."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Literal, get_args, get_type_hints

from airflow_mapbox.errors import OptionError
from airflow_mapbox.export.geometry.options import GeometryOptions

DEFAULT_DECIMALS = 7  # about a centimetre; RFC 7946, section 11.2, advises six to seven
_MOST_DECIMALS = 15


@dataclass(frozen=True)
class Options:
    """
    What a caller may choose.

    :param decimals: kept of each coordinate, 0 to 15.
    :param z: whether heights are kept or dropped.
    :param on_invalid: what becomes of geometries that are invalid: repaired, left out, or an error.
    :param beyond_mercator: what becomes of what lies beyond ±85.0511 degrees of latitude, where Mapbox's map ends.
    :param antimeridian: whether edges that span more than 180 degrees of longitude are read as crossing ±180 and cut
        there (RFC 7946, section 3.1.9), or kept as wide as they are written.
    :param max_segment: metres; longer edges in a projected reference system get vertices between, since straight
        there is curved in longitude, latitude.
    :param accuracy_warning: metres; a transformation that may be further off is warned of.
    :param write_bbox: whether features and the collection get a ``bbox`` member (RFC 7946, section 5).
    :param as_text: columns of numbers to write as text, such as ids longer than 2^53.
    """

    decimals: int = DEFAULT_DECIMALS
    z: Literal["keep", "drop"] = "keep"
    on_invalid: Literal["fix", "drop", "error"] = "fix"
    beyond_mercator: Literal["clip", "error"] = "clip"
    antimeridian: Literal["cut", "keep"] = "cut"
    max_segment: float | None = None
    accuracy_warning: float = 5.0
    write_bbox: bool = False
    as_text: Collection[str] = ()

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, choices = getattr(self, field.name), get_args(hints[field.name])
            if isinstance(field.default, str) and not (isinstance(value, str) and value in choices):
                known = " or ".join(repr(choice) for choice in choices)
                raise OptionError(f"{field.name}={value!r}: it is {known}.")
        if not (is_whole(self.decimals) and 0 <= self.decimals <= _MOST_DECIMALS):
            raise OptionError(f"decimals={self.decimals!r}: it is a whole number from 0 to {_MOST_DECIMALS}.")
        if self.max_segment is not None and not (is_number(self.max_segment) and self.max_segment > 0):
            raise OptionError(f"max_segment={self.max_segment!r}: it is a length in metres.")
        if not (is_number(self.accuracy_warning) and self.accuracy_warning >= 0):
            raise OptionError(f"accuracy_warning={self.accuracy_warning!r}: it is a distance in metres.")
        if self.write_bbox not in (True, False):
            raise OptionError(f"write_bbox={self.write_bbox!r}: it is True or False.")
        object.__setattr__(self, "as_text", names_of("as_text", self.as_text))

    @property
    def geometry(self) -> GeometryOptions:
        """The options that the stages of geometry depend on."""
        return GeometryOptions(
            self.decimals, self.z, self.on_invalid, self.beyond_mercator, self.antimeridian, self.max_segment
        )


def is_string(value: object) -> bool:
    """Say whether a value is a string."""
    return isinstance(value, str)


def is_whole(value: object) -> bool:
    """Say whether a value is a whole number; True and False are none, though Python counts with them."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Say whether a value is a finite number, of Python or numpy."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def names_of(parameter: str, given: object) -> tuple[str, ...]:
    """
    Read names of columns in any form that holds several.

    :param parameter: that has them.
    :param given: such as a list, a set or an index of pandas.
    :raises TypeError: for what is not several strings.
    """
    names = () if isinstance(given, str | bytes) or not isinstance(given, Iterable) else tuple(given)
    if not all(isinstance(name, str) for name in names) or not isinstance(given, Iterable) or isinstance(given, str):
        raise TypeError(f"{parameter}={given!r}: give a list of column names.")
    return names
