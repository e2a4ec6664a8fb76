"""From an Airflow connection, however it was got, to a client of the Uploads API."""

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
    Return the error for a connection that Airflow does not give.

    :param conn_id: its id.
    :param conn_type: that it should have.
    """
    if conn_type != CONN_TYPE:
        return ConnectionNotFoundError(
            f"Airflow finds no connection {conn_id!r}. It says the same while a secrets backend or its API server is "
            f"away.\nIf there is none, make one of type {conn_type}, or name another one (`{conn_type}_conn_id`)."
        )
    return ConnectionNotFoundError(
        f"Airflow finds no connection {conn_id!r}. It says the same while a secrets backend or its API server is "
        "away.\n"
        "If there is none, make one of type mapbox with the secret token as its password: in the UI under Admin, "
        "Connections, or with `airflow connections add`. Or name another one (`mapbox_conn_id`).\n"
        f"A Python script outside of a task finds connections in AIRFLOW_CONN_{conn_id.upper()} and the secrets "
        "backends only."
    )


@without_frames
def get_connection(conn_id: str, conn_type: str = CONN_TYPE) -> Connection:
    """
    Ask Airflow for a connection.

    :param conn_id: its id.
    :param conn_type: that it should have, for the error's text.
    :raises ConnectionNotFoundError: if Airflow does not give it.
    """
    with suppress(AirflowNotFoundException):
        return BaseHook.get_connection(conn_id)
    raise no_connection(conn_id, conn_type)


@without_frames
def check_connection(connection: Connection) -> Connection:
    """
    Refuse a connection of another type.

    :param connection: as Airflow gave it.
    :return: the same.
    :raises ConfigurationError: where it is not of type ``mapbox``.
    """
    if connection.conn_type != CONN_TYPE:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}, not mapbox.\nName a mapbox "
            "connection in `mapbox_conn_id`."
        )
    return connection


@without_frames
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


@without_frames
def client_for(conn_id: str, retry: RetryPolicy | None) -> UploadsClient:
    """
    Make a client in a task, without the rest of the hook, which a look does not need and which takes time to import.

    :param conn_id: of the connection.
    :param retry: how long one call may go on.
    :raises ConfigurationError: where the connection is missing or cannot be used.
    """
    return client_of(get_connection(conn_id), retry)


@dataclass(frozen=True)
class Access:
    """
    What is kept of a connection: nothing that shows its password.

    :param client: for the account.
    :param s3_endpoint_url: another S3 endpoint than Amazon's, as the connection names it, or None.
    """

    client: UploadsClient
    s3_endpoint_url: str | None

    def s3_endpoint(self) -> str | None:
        """
        Return the S3 endpoint, or None for Amazon's.

        :raises ConfigurationError: if it cannot be used.
        """
        named = self.s3_endpoint_url
        return check_endpoint(named, "the connection's extra s3_endpoint_url") if named else None


@without_frames
def access_by(conn_id: str, retry: RetryPolicy | None) -> Access:
    """
    Read a connection in a task.

    :param conn_id: of the connection.
    :param retry: how long one call may go on.
    :raises ConfigurationError: if the connection is missing or cannot be used.
    """
    connection = get_connection(conn_id)
    endpoint = connection.extra_dejson.get("s3_endpoint_url")
    return Access(client_of(connection, retry), str(endpoint) if endpoint else None)


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
        return host  # the client says what is wrong with it
    if not connection.port or connection.port == port:
        return host
    if port is not None:
        raise ConfigurationError(
            f"Connection {connection.conn_id!r} names two ports, {port} in its host and {connection.port} as its port: "
            "leave one of them out."
        )
    return parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
