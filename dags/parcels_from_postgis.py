"""
Publish the result of a PostGIS query. Rows are read through a server-side cursor and exported while they are sent.

It needs the extra `airflow-provider-mapbox[postgis]` and the connection `postgres_default`, whose database has a table
`parcels` with a geometry column. Any reference system is transformed to longitude and latitude.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import dag, task

from airflow_mapbox.sensors.uploads import UploadCompleteSensor

if TYPE_CHECKING:
    from airflow_mapbox.export import PostGISQuery


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def parcels_from_postgis() -> None:
    @task.mapbox_upload(tileset="parcels", name="Parcels", max_megabytes=500)
    def parcels() -> PostGISQuery:
        from airflow_mapbox.hooks.postgis import postgis_query

        return postgis_query(
            "SELECT id, owner, geom FROM parcels WHERE area_m2 > %(smallest)s ORDER BY id",
            postgres_conn_id="postgres_default",
            parameters={"smallest": 100},
        )

    upload = parcels()
    UploadCompleteSensor(task_id="wait", upload_id=upload)


parcels_from_postgis()
