"""The bill and the caller's rates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mapbox.billing.bill import Bill, Savings
from airflow_mapbox.billing.rates import Rates
from airflow_mapbox.errors import OptionError

BILL = Bill(198_428_105, 12, True, "1m", 2500.0, savings=Savings(100, 5000, {6: 700, 5: 1400}, {"name": 900}))


def test_a_bill_says_both_rules_in_two_sentences() -> None:
    assert str(BILL) == (
        "Billed by size: 198 MB. For accounts from before August 2024: 2,500 km² in tier 1m by the expected maxzoom 12."
    )


def test_a_free_tier_says_so() -> None:
    assert str(Bill(10, 3, False, "free", 0.0)).endswith("tier free by the maxzoom 3, which is free of charge.")


def test_an_unknown_area_says_why() -> None:
    assert str(Bill(10, 18, False, "1cm", None, "It was not computed.")).endswith("maxzoom 18. It was not computed.")


def test_a_bill_is_json() -> None:
    stored = json.loads(json.dumps(BILL.to_json()))

    assert stored == BILL.to_json()
    assert (stored["megabytes"], stored["tier"], stored["savings"]["decimals"]) == (
        198.428105,
        "1m",
        {"6": 700, "5": 1400},
    )


def test_an_amount_by_size_and_one_by_area() -> None:
    assert BILL.amount(Rates(per_megabyte=0.5, free_megabytes=100)) == pytest.approx(49.2140525)
    assert BILL.amount(Rates.from_mapping({"per_km2": {"1m": 0.01}, "free_km2": {"1m": 500}})) == pytest.approx(20)
    assert Bill(10, 3, False, "free", 0.0).amount(Rates(per_km2={"1m": 1.0})) == 0


def test_an_unknown_quantity_has_no_amount() -> None:
    assert Bill(None).amount(Rates(per_megabyte=1)) is None
    assert Bill(5, 18, False, "1cm").amount(Rates(per_km2={"1cm": 1})) is None


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({}, "exactly one"),
        ({"per_megabyte": 1, "per_km2": {}}, "exactly one"),
        ({"per_megabyte": "1"}, "not a number"),
        ({"per_megabyte": -1}, "not a number"),
        ({"per_km2": {"5m": 1}}, "5m"),
        ({"price": 1}, "unknown"),
        ([1], "must be a mapping"),
    ],
)
def test_wrong_rates_are_refused(rates: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Rates.from_mapping(rates)


def test_a_tier_without_a_price_is_named() -> None:
    with pytest.raises(OptionError, match="tier 1m"):
        BILL.amount(Rates(per_km2={"10m": 1}))
