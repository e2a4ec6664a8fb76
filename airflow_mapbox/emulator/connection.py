"""The Airflow connection that leads to an emulator."""

from __future__ import annotations

from typing import Any


def airflow_connection(*, url: str, s3_url: str, account: str, token: str) -> dict[str, Any]:
    """
    Return the fields of an Airflow connection, under the names that Airflow's JSON form of a connection has.

    :param url: of the API.
    :param s3_url: of the staging bucket.
    :param account: the emulator's account.
    :param token: a secret token of that account.
    """
    return {
        "conn_type": "mapbox",
        "login": account,
        "password": token,
        "host": url,
        # The port is in the URL. Airflow's connection test refuses stored connections without a port, until the release
        # that has apache/airflow#73298.
        "port": 0,
        "extra": {"s3_endpoint_url": s3_url},
    }
