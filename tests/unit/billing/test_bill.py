"""The bill and the caller's rates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mapbox.billing.bill import Bill, Savings, readable
from airflow_mapbox.billing.ceilings import Ceilings
from airflow_mapbox.billing.rates import Rates
from airflow_mapbox.errors import CeilingError, OptionError

BILL = Bill(198_428_105, 12, True, "1m", 2500.0, savings=Savings(100, 5000, {6: 700, 5: 1400}, {"name": 900}))


def test_a_bill_says_both_rules_in_two_sentences() -> None:
    assert str(BILL) == (
        "Billed by size: 198 MB. For accounts from before August 2024: 2,500 km² in tier 1m by the expected maxzoom 12."
    )


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [
        (0, 6, "0"),
        (0.0246, 3, "0.0246"),
        (0.00012345, 3, "0.000123"),
        (198.428, 3, "198"),
        (999.9996, 3, "1,000"),
        (1_234.5, 6, "1,234.5"),
        (1_008_840.3, 6, "1,008,840"),
        (510_000_000, 6, "510,000,000"),
        (5e8, 6, "500,000,000"),
    ],
)
def test_a_number_in_a_sentence_has_no_exponent(number: float, digits: int, text: str) -> None:
    assert readable(number, digits) == text


def test_a_bill_of_a_continent_has_no_exponent() -> None:
    said = str(Bill(999_999_999, 10, True, "10m", 24_709_000.7))

    assert "1,000 MB" in said
    assert "24,709,001 km²" in said


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


def test_a_ceiling_that_is_exceeded_by_a_byte_shows_numbers_that_differ() -> None:
    with pytest.raises(CeilingError, match=r"It has 100\.000001 MB; `max_megabytes` is 100\."):
        Ceilings(max_megabytes=100).check(Bill(100_000_001), "a.geojson", is_final=True)
