"""The names of sources in lineage, what hooks report, and a package that needs no OpenLineage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, BaseHook, ObjectStoragePath
from airflow.sdk.lineage import HookLineageCollector

from airflow_mapbox.exceptions import MapboxFailError
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.tasks.lineage import (
    Lineage,
    dataset_name,
    report_tables,
    report_to_collector,
    save_inputs,
    saved_inputs,
    source_uri,
)
from airflow_mapbox.uploads.models import Upload
from tests.unit.support import ACCOUNT, FakeStore, make_token, upload_json


@pytest.mark.parametrize(
    ("source", "uri", "name"),
    [
        ("/data/x.geojson", "file:///data/x.geojson", ("file", "/data/x.geojson")),
        (Path("/data/x.parquet"), "file:///data/x.parquet", ("file", "/data/x.parquet")),
        ("file:///data/x.geojson", "file:///data/x.geojson", ("file", "/data/x.geojson")),
        ("/data/a #1?.geojson", "file:///data/a #1?.geojson", ("file", "/data/a #1?.geojson")),
        ({"path": "/data/x.geojson", "features": 3}, "file:///data/x.geojson", ("file", "/data/x.geojson")),
        ("s3://my_conn@bucket/a/x.geojson", "s3://bucket/a/x.geojson", ("s3://bucket", "a/x.geojson")),
        (ObjectStoragePath("s3://bucket/x", conn_id="my_conn"), "s3://bucket/x", ("s3://bucket", "x")),
        ("https://data.example/x.kml?page=2", "https://data.example/x.kml", ("https://data.example", "x.kml")),
        ("mapbox://datasets/acme/cj5e1", "mapbox://datasets/acme/cj5e1", ("mapbox://datasets", "acme/cj5e1")),
    ],
)
def test_a_source_has_the_name_that_openlineage_gives_it(source: Any, uri: str, name: tuple[str, str]) -> None:
    assert source_uri(source) == uri
    assert dataset_name(uri) == name


@pytest.mark.parametrize("source", [lambda: None, iter([b""]), {"features": 1}, None, 7])
def test_a_source_that_is_no_file_has_none(source: Any) -> None:
    assert source_uri(source) is None


class Unreadable(os.PathLike[str]):
    """A path whose text cannot be made."""

    def __fspath__(self) -> str:
        raise RuntimeError("no path")

    __str__ = __fspath__


@pytest.mark.parametrize("source", ["https://[x/a", "s3://[x/a", "file://[x/a", Unreadable()])
def test_a_source_that_is_not_valid_is_left_to_the_hook(source: Any) -> None:
    assert source_uri(source) is None


@pytest.mark.parametrize("format", [None, "geojson"])
@pytest.mark.parametrize("source", ["https://[x/a", "file://[x/a"])
def test_a_url_that_is_not_valid_fails_the_task_and_says_what_to_do(
    source: str, format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"conn_type": "mapbox", "host": "http://127.0.0.1:9", "login": ACCOUNT, "password": make_token()}
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", json.dumps(described))
    task = StageAndCreateUploadOperator(task_id="upload", source=source, tileset="x", format=format)

    with pytest.raises(MapboxFailError, match=r"(?s)is not a valid (URL|web address).*its host and port"):
        task.execute({})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "source",
    ["https://user:c4n4ry@data.example/x?token=c4n4ry#c4n4ry", "s3://key:c4n4ry@bucket/x?X-Amz-Signature=c4n4ry"],
)
def test_a_secret_in_a_source_is_in_no_name(source: str) -> None:
    assert "c4n4ry" not in str(source_uri(source))


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.providers.common.compat.lineage.hook.get_hook_lineage_collector", lambda: collector)
    return collector


def test_a_hook_reports_the_source_and_the_tileset(collector: HookLineageCollector) -> None:
    hook = MapboxUploadsHook()

    report_to_collector(hook, "s3://my_conn@bucket/x.geojson", "acme.parcels")

    lineage = collector.collected_assets
    assert [item.asset.uri for item in lineage.inputs] == ["s3://bucket/x.geojson"]
    assert [item.asset for item in lineage.outputs] == [Asset("mapbox://tilesets/acme.parcels")]
    assert lineage.outputs[0].context is hook


def test_a_uri_that_its_provider_refuses_does_not_end_the_upload(collector: HookLineageCollector) -> None:
    report_to_collector(MapboxUploadsHook(), "s3:///no-bucket", "acme.parcels")

    assert not collector.collected_assets.inputs


def test_what_other_hooks_read_is_an_input_too_and_once(collector: HookLineageCollector) -> None:
    for _ in range(2):
        collector.add_input_asset(context=MapboxUploadsHook(), uri="file:///data/x.csv")
    collector.add_input_asset(context=MapboxUploadsHook(), uri="s3://bucket/y.csv")

    lineage = Lineage(source="file:///data/x.csv", tileset="acme.parcels").to_openlineage()

    assert {(item.namespace, item.name) for item in lineage.inputs} == {
        ("file", "/data/x.csv"),
        ("s3://bucket", "y.csv"),
    }
    assert len(lineage.inputs) == 2


def test_what_a_function_read_is_still_known_in_the_process_that_ends_the_wait(
    collector: HookLineageCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: Any = {"ti": SimpleNamespace(max_tries=0), "task_state_store": FakeStore()}
    collector.add_input_asset(context=MapboxUploadsHook(), uri="s3://bucket/y.csv")
    save_inputs(context)
    monkeypatch.setattr("airflow.providers.common.compat.lineage.hook.get_hook_lineage_collector", HookLineageCollector)

    lineage = Lineage(tileset="acme.parcels", hook_inputs=saved_inputs(context)).to_openlineage()

    assert [(item.namespace, item.name) for item in lineage.inputs] == [("s3://bucket", "y.csv")]


def test_a_task_whose_hooks_have_read_nothing_stores_nothing(collector: HookLineageCollector) -> None:
    store = FakeStore()
    context: Any = {"ti": SimpleNamespace(max_tries=0), "task_state_store": store}

    save_inputs(context)

    assert store.kept == {}
    assert saved_inputs(context) == []


def test_the_tables_of_a_query_are_inputs(collector: HookLineageCollector) -> None:
    sql = "SELECT p.id, p.geom FROM parcels p JOIN city.owners o ON o.id = %(owner)s AND o.name <> %s"
    server = {"host": "db.example", "port": None, "database": "gis"}

    report_tables(BaseHook(), sql, **server)

    lineage = Lineage(tileset="acme.parcels").to_openlineage()
    names = {(item.namespace, item.name) for item in lineage.inputs}
    assert names == {("postgres://db.example:5432", f"gis.{table}") for table in ("public.parcels", "city.owners")}


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM ONLY parcels", {"public.parcels"}),
        ("SELECT * FROM only (city.parcels) p, ONLY b", {"city.parcels", "public.b"}),
        ("SELECT * FROM parcels FETCH FIRST 5 ROWS ONLY", {"public.parcels"}),
        ("SELECT * FROM generate_series(1, 3) g JOIN parcels ON true", {"public.parcels"}),
        ("SELECT * FROM parcels, LATERAL public.ST_Dump (geom)", {"public.parcels"}),
        ("SELECT * FROM /* remote */ dblink('a', 'SELECT 1') AS t(a int)", set()),
        ("SELECT count(*) FROM parcels AS p (a, b) JOIN owners USING (id)", {"public.parcels", "public.owners"}),
        ('SELECT * FROM "a/b"', set()),
    ],
)
def test_only_tables_are_inputs(collector: HookLineageCollector, sql: str, tables: set[str]) -> None:
    report_tables(BaseHook(), sql, host="db.example", port=None, database="gis")

    names = {item.name for item in Lineage().to_openlineage().inputs}
    assert names == {f"gis.{table}" for table in tables}


@pytest.mark.parametrize(
    ("host", "namespaces"),
    [
        (None, {"postgres://localhost:5432"}),
        ("db.example", {"postgres://db.example:5432"}),
        ("::1", {"postgres://[::1]:5432"}),
        ("/var/run/postgresql", set()),
        ("h1,h2", set()),
        ("@abstract", set()),
    ],
)
def test_a_server_without_a_single_host_has_no_namespace(
    collector: HookLineageCollector, host: str | None, namespaces: set[str]
) -> None:
    report_tables(BaseHook(), "SELECT * FROM parcels", host=host, port=None, database="gis")

    assert {item.namespace for item in Lineage().to_openlineage().inputs} == namespaces


@pytest.mark.parametrize("path", ["/data/a#1.geojson", "/data/a?1 50%.geojson"])
def test_a_path_with_a_mark_of_urls_is_one_input(collector: HookLineageCollector, path: str) -> None:
    report_to_collector(MapboxUploadsHook(), path, "acme.parcels")

    lineage = Lineage(source=source_uri(path), tileset="acme.parcels").to_openlineage()

    assert [item.name for item in lineage.inputs] == [path]


def test_a_uri_that_airflow_refuses_does_not_take_the_others_away(collector: HookLineageCollector) -> None:
    inputs = ["s3:///no-bucket", "airflow://reserved/x", "s3://bucket/y.csv"]

    lineage = Lineage(tileset="acme.parcels", hook_inputs=inputs).to_openlineage()

    assert [item.name for item in lineage.inputs] == ["y.csv"]
    assert [item.name for item in lineage.outputs] == ["acme.parcels"]


def test_facts_without_a_bill_leave_the_rest(collector: HookLineageCollector) -> None:
    upload = Upload.from_json(upload_json())

    lineage = Lineage(tileset=upload.tileset, upload=upload, facts={"bytes": 9, "bill": None}).to_openlineage()

    assert lineage.outputs[0].facets["mapbox_upload"].bytes == 9


def test_a_query_that_the_parser_cannot_read_reports_nothing(collector: HookLineageCollector) -> None:
    report_tables(BaseHook(), "SELEC nonsense", host=None, port=None, database=None)

    assert not collector.collected_assets.inputs


def test_the_advice_on_savings_is_in_no_facet(collector: HookLineageCollector) -> None:
    facts = {"bytes": 9, "bill": {"megabytes": 0.1, "savings": {"attributes": {"a_column": 1}}}}
    upload = Upload.from_json(upload_json())

    (output,) = Lineage(tileset=upload.tileset, upload=upload, facts=facts).to_openlineage().outputs

    assert output.facets["mapbox_upload"].bill == {"megabytes": 0.1}


WITHOUT_OPENLINEAGE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        # Airflow itself reads the metadata of every installed provider.
        ours = name.startswith("airflow.providers.openlineage.") and not name.endswith(".get_provider_info")
        if name.partition(".")[0] == "openlineage" or ours:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import airflow_mapbox.decorators.uploads, airflow_mapbox.sensors.uploads
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.tasks.lineage import report_tables, report_to_collector
report_to_collector(MapboxUploadsHook(), "/data/x.geojson", "acme.parcels")
report_tables(MapboxUploadsHook(), "SELECT 1 FROM x", host=None, port=None, database=None)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "openlineage"))
"""


@pytest.mark.slow
def test_the_package_works_without_the_openlineage_provider() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENLINEAGE], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
