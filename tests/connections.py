"""The Airflow connection to an emulator, as every test that needs one makes it."""

from __future__ import annotations

import json
from typing import Any

from airflow_mapbox.emulator import Emulator


def connection(emulator: Emulator, **changes: Any) -> str:
    """Give the connection as JSON, with changes; None leaves a field out."""
    fields = json.loads(emulator.airflow_connection()) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None})
