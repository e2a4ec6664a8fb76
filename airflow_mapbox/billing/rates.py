"""The caller's own rates, for either rule of Mapbox's pricing: no price is built in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from airflow_mapbox.billing.zooms import TIER_AREA_ZOOM
from airflow_mapbox.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Rates:
    """
    What an account pays for processing: a price per megabyte, or a price per km² in each tier.

    :param per_megabyte: the price of a megabyte (accounts opened since 2024-08-01).
    :param per_km2: the price of a km² by tier (older accounts). The free tier costs nothing.
    :param free_megabytes: megabytes that cost nothing, such as the rest of the account's monthly allowance.
    :param free_km2: km² that cost nothing, by tier.
    :param currency: the currency, for messages.
    :raises OptionError: unless exactly one of ``per_megabyte`` and ``per_km2`` is set, or for an invalid value.

    Example::

        rates = Rates.from_mapping({"per_km2": {"10m": 0.001, "1m": 0.01}, "currency": "USD"})
        print(rates.amount(tier="1m", area_km2=2500.0))
    """

    per_megabyte: float | None = None
    per_km2: Mapping[str, float] | None = None
    free_megabytes: float = 0.0
    free_km2: Mapping[str, float] | None = None
    currency: str = ""

    def __post_init__(self) -> None:
        if (self.per_megabyte is None) == (self.per_km2 is None):
            raise OptionError("Rates need exactly one of per_megabyte and per_km2: an account pays by one of them.")
        if self.per_megabyte is not None:
            _check_price("per_megabyte", self.per_megabyte)
        _check_price("free_megabytes", self.free_megabytes)
        for name in ("per_km2", "free_km2"):
            by_tier = getattr(self, name)
            if by_tier is not None:
                _check_tiers(name, by_tier)
        if not isinstance(self.currency, str):
            raise OptionError(f"currency={self.currency!r} of the rates is not a string.")

    @classmethod
    def from_mapping(cls, rates: Mapping[str, Any]) -> Rates:
        """
        Read rates from a mapping, such as decoded JSON.

        :param rates: the fields by name.
        :raises OptionError: for an unknown field, and the errors of :class:`Rates`.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(rates, Mapping):
            raise OptionError(f"Rates must be a mapping with {', '.join(names)}, got {type(rates).__name__}.")
        unknown = [str(name) for name in rates if name not in names]
        if unknown:
            raise OptionError(f"Rates have {', '.join(unknown)}, which is unknown. The names are {', '.join(names)}.")
        return cls(**rates)

    def amount(
        self, *, megabytes: float | None = None, tier: str | None = None, area_km2: float | None = None
    ) -> float | None:
        """
        Return the amount for processing, in the currency of the rates.

        :param megabytes: the size of the file.
        :param tier: the price tier.
        :param area_km2: the area at the tier's zoom.
        :return: the amount; None if the size or the area that it depends on is unknown.
        :raises OptionError: if the rates have no price for the tier.
        """
        if self.per_megabyte is not None:
            return None if megabytes is None else max(megabytes - self.free_megabytes, 0.0) * self.per_megabyte
        if tier is None:
            return None
        if TIER_AREA_ZOOM.get(tier, 0) is None:
            return 0.0
        if area_km2 is None:
            return None
        prices = self.per_km2 or {}
        if tier not in prices:
            raise OptionError(
                f"The rates have no price per km² for tier {tier}. They have {', '.join(prices) or 'none'}."
            )
        return max(area_km2 - (self.free_km2 or {}).get(tier, 0.0), 0.0) * prices[tier]


def _check_price(name: str, value: object) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise OptionError(f"{name}={value!r} of the rates is not a number from 0.")


def _check_tiers(name: str, by_tier: object) -> None:
    if not isinstance(by_tier, Mapping):
        raise OptionError(f"{name}={by_tier!r} of the rates is not a mapping from tiers to numbers.")
    for tier, value in by_tier.items():
        if tier not in TIER_AREA_ZOOM:
            raise OptionError(f"{name} of the rates names tier {tier!r}, which is not {', '.join(TIER_AREA_ZOOM)}.")
        _check_price(f"{name}[{tier!r}]", value)
