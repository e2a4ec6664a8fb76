"""Ceilings: the largest upload that its owner allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_mapbox.billing.bill import Bill, readable
from airflow_mapbox.errors import CeilingError, OptionError
from airflow_mapbox.limits import TIER_MAXZOOM

_TIERS = tuple(TIER_MAXZOOM)


@dataclass(frozen=True)
class Ceilings:
    """
    The largest bill that an owner accepts. An upload above it fails, before it is created.

    :param max_megabytes: megabytes (1,000,000 bytes) of the sent file; None for no ceiling. Accounts opened since
        August 2024 are billed by size.
    :param max_area_km2: area in km² at the precision of the tileset; None for no ceiling. Older accounts are billed by
        area.
    :param max_tier: highest price tier: ``"free"``, ``"10m"``, ``"1m"``, ``"30cm"`` or ``"1cm"``; None for no ceiling.
    :raises OptionError: for a number that is not greater than 0, or an unknown tier.

    Example::

        Ceilings(max_megabytes=500, max_tier="1m")
    """

    max_megabytes: float | None = None
    max_area_km2: float | None = None
    max_tier: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_megabytes", self.max_megabytes), ("max_area_km2", self.max_area_km2)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise OptionError(f"`{name}` must be a number greater than 0, got {value!r}")
        if self.max_tier is not None and self.max_tier not in _TIERS:
            raise OptionError(f"`max_tier` must be one of {', '.join(_TIERS)}, got {self.max_tier!r}")

    @property
    def max_bytes(self) -> int | None:
        """The ceiling of the file's size in bytes."""
        return None if self.max_megabytes is None else int(self.max_megabytes * 1_000_000)

    def check(self, bill: Bill, description: str, *, is_final: bool) -> None:
        """
        Raise an error if a bill is above a ceiling.

        :param bill: the bill.
        :param description: the source, for the message.
        :param is_final: whether nothing more will become known. If so, a ceiling for an unknown number is an error,
            too.
        :raises CeilingError: with each ceiling on a line of its own.
        """
        exceeded, unknown = list(self._exceeded(bill)), list(self._unknown(bill) if is_final else ())
        if not exceeded and not unknown:
            return
        why = "it would be larger than its owner allows" if exceeded else "a ceiling cannot be kept"
        advice = "Send less data, or raise the ceiling." if exceeded else "Leave out the ceiling, or send a local file."
        raise CeilingError(
            "\n".join((f"No upload was created of {description}, because {why}.", *exceeded, *unknown, advice))
        )

    def _exceeded(self, bill: Bill) -> Iterator[str]:
        if self.max_bytes is not None and bill.bytes is not None and bill.bytes > self.max_bytes:
            size, ceiling = _different(bill.bytes / 1e6, self.max_bytes / 1e6)
            yield f"It has {size} MB; `max_megabytes` is {ceiling}."
        if self.max_area_km2 is not None and bill.area_km2 is not None and bill.area_km2 > self.max_area_km2:
            covered, ceiling = _different(bill.area_km2, self.max_area_km2)
            yield f"It covers {covered} km² in tier {bill.tier}; `max_area_km2` is {ceiling}."
        if (
            self.max_tier is not None
            and bill.tier is not None
            and _TIERS.index(bill.tier) > _TIERS.index(self.max_tier)
        ):
            expected = "is expected to have" if bill.maxzoom_is_expected else "has"
            yield f"It {expected} maxzoom {bill.maxzoom}, which is tier {bill.tier}; `max_tier` is {self.max_tier}."
            yield f'format="mbtiles" with export={{"tier": "{self.max_tier}"}} makes tiles of that tier.'

    def _unknown(self, bill: Bill) -> Iterator[str]:
        if self.max_bytes is not None and bill.bytes is None:
            yield "Its size is unknown, so `max_megabytes` cannot be kept."
        if self.max_area_km2 is not None and bill.area_km2 is None and bill.tier != _TIERS[0]:
            yield "Its area is unknown, so `max_area_km2` cannot be kept."
        if self.max_tier is not None and bill.tier is None:
            yield "Its maxzoom is unknown, so `max_tier` cannot be kept."


def _different(one: float, other: float) -> tuple[str, str]:
    """Return two numbers with so many digits that they differ."""
    for digits in range(6, 18):
        texts = readable(one, digits), readable(other, digits)
        if texts[0] != texts[1]:
            break
    return texts
