"""A query of PostGIS through an Airflow connection, as the source of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_mapbox.errors import without_frames
from airflow_mapbox.tasks.connection import get_connection
from airflow_mapbox.tasks.lineage import report_tables

if TYPE_CHECKING:
    import psycopg

    from airflow_mapbox.export import PostGISQuery

# The items of a connection's extra that psycopg knows. The others are for other clients.
_EXTRA = ("sslmode", "sslcert", "sslkey", "sslrootcert", "connect_timeout", "application_name", "options", "service")


def postgis_query(
    sql: str,
    *,
    postgres_conn_id: str = "postgres_default",
    geometry: str | None = None,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
) -> PostGISQuery:
    """
    Return a query as the source of an export. Its connection is read when the export starts.

    :param sql: a SELECT with a column of type geometry or geography.
    :param postgres_conn_id: a connection of type ``postgres``.
    :param geometry: the geometry column, if there are several.
    :param parameters: values for the query's placeholders.

    Example::

        write_geojson(postgis_query("SELECT id, geom FROM parcels"), "parcels.geojson")
    """
    from airflow_mapbox.export import PostGISQuery

    return PostGISQuery(sql, lambda: _connect(postgres_conn_id, sql), geometry=geometry, parameters=parameters)


@without_frames
def _connect(conn_id: str, sql: str) -> psycopg.Connection[Any]:
    import psycopg

    connection = get_connection(conn_id, "postgres")
    report_tables(BaseHook(), sql, host=connection.host, port=connection.port, database=connection.schema)
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
    # psycopg's own error contains the connection's parameters.
    raise psycopg.OperationalError(failure)
