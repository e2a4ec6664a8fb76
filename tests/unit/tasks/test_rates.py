"""The rates in Airflow's configuration."""

from __future__ import annotations

import pytest

from airflow_mapbox.errors import ConfigurationError
from airflow_mapbox.tasks.rates import configured_rates

VARIABLE = "AIRFLOW__MAPBOX__RATES"


def test_without_the_option_there_are_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    assert configured_rates() is None


def test_the_option_is_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"per_megabyte": 0.05, "currency": "USD"}')
    rates = configured_rates()

    assert rates is not None
    assert (rates.per_megabyte, rates.currency) == (0.05, "USD")


@pytest.mark.parametrize("value", ["0.05 USD", "[1]", '{"price": 1}'])
def test_a_wrong_option_names_itself(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)

    with pytest.raises(ConfigurationError, match=r"\[mapbox\]"):
        configured_rates()
