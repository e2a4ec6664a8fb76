"""Make a client of the Uploads API from an Airflow connection."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mapbox.errors import ConfigurationError, ConnectionNotFoundError, without_frames
from airflow_mapbox.security.endpoints import API_URL, check_endpoint
from airflow_mapbox.uploads.client import TIMEOUT, UploadsClient

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mapbox.http.retry import RetryPolicy

CONN_TYPE = "mapbox"


def no_connection(conn_id: str, conn_type: str = CONN_TYPE) -> ConnectionNotFoundError:
    """
    Return the error for a missing connection.

    :param conn_id: the connection's id.
    :param conn_type: its type.
    """
    if conn_type != CONN_TYPE:
        return ConnectionNotFoundError(
            f"Airflow finds no connection {conn_id!r}. It reports the same if a secrets backend or its API server does "
            f"not reply.\nIf it is missing, make one of type {conn_type}, or name another (`{conn_type}_conn_id`)."
        )
    return ConnectionNotFoundError(
        f"Airflow finds no connection {conn_id!r}. It reports the same if a secrets backend or its API server does "
        "not reply.\n"
        "If it is missing, make one of type mapbox with the secret token as its password: in the UI under Admin, "
        "Connections, or with `airflow connections add`. Or name another (`mapbox_conn_id`).\n"
        f"A Python script outside of a task finds connections only in AIRFLOW_CONN_{conn_id.upper()} and in secrets "
        "backends."
    )


@without_frames
def get_connection(conn_id: str, conn_type: str = CONN_TYPE) -> Connection:
    """
    Return an Airflow connection.

    :param conn_id: the connection's id.
    :param conn_type: its type, for the error's message.
    :raises ConnectionNotFoundError: if Airflow does not find it.
    """
    with suppress(AirflowNotFoundException):
        return BaseHook.get_connection(conn_id)
    raise no_connection(conn_id, conn_type)


@without_frames
def check_connection(connection: Connection) -> Connection:
    """
    Refuse a connection of another type.

    :param connection: the connection.
    :return: the same connection.
    :raises ConfigurationError: if its type is not ``mapbox``.
    """
    if connection.conn_type != CONN_TYPE:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} has type {connection.conn_type!r}, not mapbox.\nName a mapbox "
            "connection in `mapbox_conn_id`."
        )
    return connection


@without_frames
def client_of(
    connection: Connection, retry: RetryPolicy | None, *, timeout: tuple[float, float, float] | None = None
) -> UploadsClient:
    """
    Return the client of a connection. It sends no request, and reads nothing else from Airflow.

    :param connection: the connection.
    :param retry: how long one call may take.
    :param timeout: seconds to connect, for the next bytes, and for the whole reply; None for the client's defaults.
    :raises ConfigurationError: if it has another type, no token, or an address that cannot be used.
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


@without_frames
def client_for(conn_id: str, retry: RetryPolicy | None) -> UploadsClient:
    """
    Return a client in a task, without the hook: a poll does not need the hook, which takes time to import.

    :param conn_id: the connection's id.
    :param retry: how long one call may take.
    :raises ConfigurationError: if the connection is missing or cannot be used.
    """
    return client_of(get_connection(conn_id), retry)


@dataclass(frozen=True)
class Access:
    """
    The values of a connection that the hook keeps. None of them shows the password.

    :param client: client of the account.
    :param s3_endpoint_url: URL of another S3 server than Amazon's, or None.
    """

    client: UploadsClient
    s3_endpoint_url: str | None

    def s3_endpoint(self) -> str | None:
        """
        Return the URL of the S3 server; None for Amazon's.

        :raises ConfigurationError: if it cannot be used.
        """
        url = self.s3_endpoint_url
        return check_endpoint(url, "the connection's extra s3_endpoint_url") if url else None


@without_frames
def access_by(conn_id: str, retry: RetryPolicy | None) -> Access:
    """
    Return the values of a connection in a task.

    :param conn_id: the connection's id.
    :param retry: how long one call may take.
    :raises ConfigurationError: if the connection is missing or cannot be used.
    """
    connection = get_connection(conn_id)
    endpoint = connection.extra_dejson.get("s3_endpoint_url")
    return Access(client_of(connection, retry), str(endpoint) if endpoint else None)


def base_url_of(conn_id: str) -> str | None:
    """
    Return the base URL of a connection for the links of a task that fails; None if there is none to use.

    :param conn_id: the connection's id.
    """
    try:
        return check_endpoint(_base_url(check_connection(get_connection(conn_id))), "the connection")
    except Exception:
        return None  # the task has an error of its own to report


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if not host:
        return API_URL
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    try:
        parts = urlsplit(host)
        port = parts.port
    except ValueError:
        return host  # the client raises the error
    if not connection.port or connection.port == port:
        return host
    if port is not None:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} has two ports, {port} in its host and {connection.port} as its port: "
            "remove one of them."
        )
    return parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
