"""
Publish a table of a warehouse whose geometries are well-known binary (WKB), through Airflow's common SQL interface.

It needs the connection `warehouse`, of any type whose hook is a `DbApiHook`: Snowflake, BigQuery, Redshift, Trino,
DuckDB, SQLite and others. Its database has a table `places` with the columns `name`, `visitors` and `geom`. Select the
geometry as WKB: `ST_AsBinary(geom)` in most warehouses.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, dag, task

from airflow_mapbox.sensors.uploads import UploadCompleteSensor

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

SQL = "SELECT name, visitors, geom FROM places ORDER BY name"
ROWS_IN_MEMORY = 50_000


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def places_from_warehouse() -> None:
    @task.mapbox_upload(tileset="places", name="Places")
    def places() -> Iterator[GeoDataFrame]:
        import geopandas

        hook = BaseHook.get_connection("warehouse").get_hook()
        for rows in hook.get_df_by_chunks(SQL, chunksize=ROWS_IN_MEMORY):
            # WKB has no reference system. Say which one the warehouse uses.
            geometry = geopandas.GeoSeries.from_wkb(rows.pop("geom"), crs="EPSG:4326")
            yield geopandas.GeoDataFrame(rows, geometry=geometry)

    upload = places()
    UploadCompleteSensor(task_id="wait", upload_id=upload)


places_from_warehouse()
