"""Read the rates of an account from Airflow's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow.configuration import conf

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.billing.rates import Rates
from airflow_mapbox.errors import ConfigurationError, OptionError

_SECTION, _OPTION = "mapbox", "rates"


def configured_rates() -> Rates | None:
    """
    Return the rates of the option ``rates`` in Airflow's configuration section ``mapbox``, or None if it is not set.

    :raises ConfigurationError: if the option is not a JSON object of rates.
    """
    value = conf.get(_SECTION, _OPTION, fallback=None)
    if not value:
        return None
    try:
        rates = json.loads(value)
    except ValueError as error:
        raise ConfigurationError(
            f"The option {_OPTION} in the configuration section [{_SECTION}] is not JSON ({error}).\n"
            'Write it like {"per_megabyte": 0.05}.'
        ) from None
    try:
        return Rates.from_mapping(rates)
    except OptionError as error:
        raise ConfigurationError(f"The option {_OPTION} in the configuration section [{_SECTION}]: {error}") from None


def amount_of(bill: Bill, rates: Rates | None) -> dict[str, Any]:
    """
    Return the amount of a bill as JSON: ``amount`` and ``currency``. Empty without rates, or if it is unknown.

    Rates without a price for the tier are no reason against an upload: the result then has an ``amount_note``.

    :param bill: the bill.
    :param rates: the account's rates.
    """
    if rates is None:
        return {}
    try:
        amount = bill.amount(rates)
    except OptionError as error:
        return {"amount_note": str(error)}
    return {} if amount is None else {"amount": amount, "currency": rates.currency}


def describe_amount(amount: Mapping[str, Any]) -> str:
    """
    Return a sentence about an amount; empty without one.

    :param amount: the result of :func:`amount_of`.
    """
    if "amount" in amount:
        return f"{amount['amount']:,.2f} {amount['currency']}".strip() + " by your rates."
    return str(amount.get("amount_note", ""))
