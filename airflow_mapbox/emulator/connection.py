"""The Airflow connection to an emulator."""

from __future__ import annotations

from typing import Any


def airflow_connection(*, url: str, s3_url: str, account: str, token: str) -> dict[str, Any]:
    """
    Return the fields of an Airflow connection, as in Airflow's JSON format of connections.

    :param url: the API's URL.
    :param s3_url: the staging bucket's endpoint.
    :param account: the emulator's account.
    :param token: a secret token of that account.
    """
    return {
        "conn_type": "mapbox",
        "login": account,
        "password": token,
        "host": url,
        # The port is in the URL. But Airflow's connection test refuses stored connections without a port, until
        # apache/airflow#73298 is released.
        "port": 0,
        "extra": {"s3_endpoint_url": s3_url},
    }
