"""What the bill of an upload depends on: its megabytes, and for older accounts its area and price tier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mapbox.billing.zooms import area_zoom

if TYPE_CHECKING:
    from airflow_mapbox.billing.rates import Rates

# Name so many attributes in a log line; to_json() has all of them.
_MAX_NAMED = 3
# Less is said in bytes: zeros behind the decimal point are hard to read.
_SMALLEST_IN_MEGABYTES = 10_000


@dataclass(frozen=True)
class Savings:
    """
    How many bytes parts of a GeoJSON file take, extrapolated from a sample of its first features.

    :param sampled_features: the number of features in the sample.
    :param coordinates: bytes of all coordinates.
    :param decimals: bytes that fewer decimals of coordinates would save, by the number of decimals.
    :param attributes: bytes that each attribute takes, with its name. Dropping the attribute would save them.
    """

    sampled_features: int
    coordinates: int
    decimals: Mapping[int, int]
    attributes: Mapping[str, int]

    def __str__(self) -> str:
        parts = [f"{count} decimals would save {_megabytes(saved)}" for count, saved in self.decimals.items()][:2]
        largest = sorted(self.attributes.items(), key=lambda item: -item[1])[:_MAX_NAMED]
        parts += [f"without attribute {name!r} it is {_megabytes(saved)} less" for name, saved in largest]
        return f"By a sample of {self.sampled_features:,} features, {'; '.join(parts)}." if parts else ""

    def to_json(self) -> dict[str, Any]:
        """Return the savings as JSON types. The keys of an object in JSON are strings."""
        return {
            "sampled_features": self.sampled_features,
            "coordinates": self.coordinates,
            "decimals": {str(decimals): saved for decimals, saved in self.decimals.items()},
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True)
class Bill:
    """
    The size, area and price tier that the bill of an upload depends on.

    Accounts opened since 2024-08-01 pay for the file's megabytes, and for compute units, which are known only later.
    Older accounts pay for the area of the tiles at the zoom of their tier. ``docs/how-to/bill.md`` has the sources.

    :param bytes: the size of the file in bytes, or None if it is unknown.
    :param maxzoom: the maxzoom of the tileset, or None if it is unknown.
    :param maxzoom_is_expected: whether Mapbox will choose the maxzoom. If so, this one is only an expectation.
    :param tier: the price tier of that maxzoom.
    :param area_km2: the area of the tiles at the tier's zoom in km², 0 for the free tier; None if it is unknown.
    :param area_note: why the area is unknown, in a whole sentence; None if it is known.
    :param mbtiles_bytes: the size of the same data as MBTiles if it was made or measured, else None.
    :param savings: what fewer decimals and attributes would save, or None if that is unknown.

    Example::

        print(report.bill)
        print(report.bill.megabytes, report.bill.tier, report.bill.area_km2)
        print(report.bill.amount(Rates(per_megabyte=0.05)))
    """

    bytes: int | None
    maxzoom: int | None = None
    maxzoom_is_expected: bool = False
    tier: str | None = None
    area_km2: float | None = None
    area_note: str | None = None
    mbtiles_bytes: int | None = None
    savings: Savings | None = None

    @classmethod
    def from_json(cls, bill: Mapping[str, Any], *, size: int) -> Bill:
        """
        Read a bill, as :meth:`to_json` returns it, without the savings.

        :param bill: the bill; empty if nothing is known.
        :param size: the size of the file in bytes, as it was sent.
        """
        names = ("maxzoom", "maxzoom_is_expected", "tier", "area_km2", "area_note", "mbtiles_bytes")
        return cls(size, **{name: bill[name] for name in names if name in bill})

    @property
    def megabytes(self) -> float | None:
        """The size in megabytes of 1,000,000 bytes. Mapbox's pricing page says MB, and does not define it."""
        return None if self.bytes is None else self.bytes / 1_000_000

    def amount(self, rates: Rates) -> float | None:
        """
        Return the amount for processing, in the currency of the rates.

        :param rates: the caller's rates. This package has no price of its own.
        :return: the amount; None if the size or the area that it depends on is unknown.
        :raises OptionError: if the rates have no price for the tier.
        """
        return rates.amount(megabytes=self.megabytes, tier=self.tier, area_km2=self.area_km2)

    def to_json(self) -> dict[str, Any]:
        """Return the bill as JSON types, small enough for an XCom."""
        return {
            "bytes": self.bytes,
            "megabytes": self.megabytes,
            "maxzoom": self.maxzoom,
            "maxzoom_is_expected": self.maxzoom_is_expected,
            "tier": self.tier,
            "area_km2": self.area_km2,
            "area_note": self.area_note,
            "mbtiles_bytes": self.mbtiles_bytes,
            "savings": None if self.savings is None else self.savings.to_json(),
        }

    def __str__(self) -> str:
        size = "an unknown number of bytes" if self.bytes is None else _megabytes(self.bytes)
        tiles = ""
        if self.mbtiles_bytes is not None and self.mbtiles_bytes != self.bytes:
            tiles = f" (as MBTiles {_megabytes(self.mbtiles_bytes)})"
        return f"Billed by size: {size}{tiles}. For accounts from before August 2024: {self._legacy()}"

    def _legacy(self) -> str:
        if self.tier is None:
            return self.area_note or "the tier is unknown."
        maxzoom = f"tier {self.tier} by the {'expected ' if self.maxzoom_is_expected else ''}maxzoom {self.maxzoom}"
        if area_zoom(self.tier) is None:
            return f"{maxzoom}, which is free of charge."
        if self.area_km2 is None:
            return f"{maxzoom}. {self.area_note or 'The area is unknown.'}"
        return f"{readable(self.area_km2)} km² in {maxzoom}."


def readable(number: float, digits: int = 6) -> str:
    """
    Return a number without an exponent, rounded to some significant digits.

    :param number: zero or a positive number.
    :param digits: how many digits are significant. Digits before the point are never rounded.
    """
    whole = len(f"{number:.0f}") if number >= 1 else 1 if number == 0 else math.floor(math.log10(number)) + 1
    text = f"{number:,.{max(digits - whole, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _megabytes(size: int) -> str:
    return f"{size:,} bytes" if size < _SMALLEST_IN_MEGABYTES else f"{readable(size / 1_000_000, 3)} MB"
