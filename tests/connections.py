"""The Airflow connection to an emulator, as every test that needs one makes it."""

from __future__ import annotations

import json
from typing import Any

from airflow_mapbox.emulator import Emulator


def connection(emulator: Emulator, **changes: Any) -> str:
    """Give the connection as JSON, with changes; None leaves a field out."""
    fields = {
        "conn_type": "mapbox",
        "host": emulator.url,
        "login": emulator.account,
        "password": emulator.token,
        "extra": {"s3_endpoint_url": emulator.s3_url},
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None})
