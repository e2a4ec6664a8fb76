"""From an Airflow connection of type ``postgres`` to a source of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import without_frames
from airflow_mapbox.tasks.connection import get_connection

if TYPE_CHECKING:
    import psycopg

    from airflow_mapbox.export import PostGISQuery

# What psycopg knows of a connection's extra; the rest is for other clients.
_EXTRA = ("sslmode", "sslcert", "sslkey", "sslrootcert", "connect_timeout", "application_name", "options", "service")


def postgis_query(
    sql: str,
    *,
    postgres_conn_id: str = "postgres_default",
    geometry: str | None = None,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
) -> PostGISQuery:
    """
    Give a query as the source of an export; the connection is looked up when the export begins.

    :param sql: a SELECT with a column of type geometry or geography.
    :param postgres_conn_id: a connection of type ``postgres``.
    :param geometry: the column to export, where there are several.
    :param parameters: for the query's placeholders.
    """
    from airflow_mapbox.export import PostGISQuery

    return PostGISQuery(sql, lambda: _connect(postgres_conn_id), geometry=geometry, parameters=parameters)


@without_frames
def _connect(conn_id: str) -> psycopg.Connection[Any]:
    import psycopg

    connection = get_connection(conn_id, "postgres")
    extra = {name: value for name, value in connection.extra_dejson.items() if name in _EXTRA}
    try:
        return psycopg.connect(
            host=connection.host,
            port=connection.port,
            user=connection.login,
            password=connection.password,
            dbname=connection.schema,
            **extra,
        )
    except psycopg.Error as error:
        failure = str(error)
    # psycopg's own error holds what it was to connect with.
    raise psycopg.OperationalError(failure)
