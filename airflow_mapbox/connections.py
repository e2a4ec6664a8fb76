"""From an Airflow connection, however it was got, to a client of the Uploads API."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mapbox.uploads.address import API_URL
from airflow_mapbox.uploads.client import TIMEOUT, UploadsClient
from airflow_mapbox.uploads.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mapbox.uploads.throttle import RetryPolicy

CONN_TYPE = "mapbox"


def no_connection(conn_id: str) -> ConfigurationError:
    """
    Make the error of a connection that is not there.

    :param conn_id: its id.
    """
    return ConfigurationError(
        f"There is no connection {conn_id!r}. Make one of type mapbox with the secret token as its password, in the UI "
        "under Admin, Connections or with `airflow connections add`, or name another (`mapbox_conn_id`, on the command "
        f"line -c). A Python script outside of a task finds connections in AIRFLOW_CONN_{conn_id.upper()} and the "
        "secrets backends only."
    )


def check_connection(connection: Connection) -> Connection:
    """
    Refuse a connection of another type.

    :param connection: as Airflow gave it.
    :return: the same.
    :raises ConfigurationError: where it is not of type ``mapbox``.
    """
    if connection.conn_type != CONN_TYPE:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}, not mapbox. Name a mapbox "
            "connection in `mapbox_conn_id`."
        )
    return connection


def client_of(
    connection: Connection, retry: RetryPolicy | None, *, timeout: tuple[float, float, float] | None = None
) -> UploadsClient:
    """
    Make the client that a connection describes; nothing is sent, and Airflow is not asked for anything.

    :param connection: of type ``mapbox``.
    :param retry: how long one call may go on.
    :param timeout: seconds to wait for a connection, for the next bytes, and for a whole answer; the client's own where
        it is None.
    :raises ConfigurationError: where it is of another type, has no token, or has an address that cannot be used.
    """
    check_connection(connection)
    if not connection.password:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} has no password: put the secret Mapbox token there."
        )
    return UploadsClient(
        connection.password,
        connection.login or None,
        base_url=_base_url(connection),
        retry=retry,
        timeout=timeout or TIMEOUT,
    )


def client_for(conn_id: str, retry: RetryPolicy | None) -> UploadsClient:
    """
    Make a client in a task, without the rest of the hook, which a look does not need and which takes time to import.

    :param conn_id: of the connection.
    :param retry: how long one call may go on.
    :raises ConfigurationError: where the connection is missing or cannot be used.
    """
    with suppress(AirflowNotFoundException):
        return client_of(BaseHook.get_connection(conn_id), retry)
    raise no_connection(conn_id)


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if not host:
        return API_URL
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    return f"{host}:{connection.port}" if connection.port else host
