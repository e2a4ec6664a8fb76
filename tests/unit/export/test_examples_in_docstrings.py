"""The examples in the public docstrings of the export run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
from shapely.geometry import Point, box

from airflow_mapbox import export
from airflow_mapbox.export.geojson import GeoJSONStream
from airflow_mapbox.hooks import postgis
from airflow_mapbox.hooks.postgis import postgis_query

PARCELS = geopandas.GeoDataFrame({"id": [1, 2], "owner": ["A", "B"]}, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)])
TREES = geopandas.GeoDataFrame(geometry=[Point(0.5, 0.5), Point(0.6, 0.5)], crs=4326)


def example(documented: Any) -> str:
    """The code of the example in a docstring."""
    _, mark, code = (documented.__doc__ or "").partition("Example::\n")
    assert mark, f"{documented.__name__} has no example"
    return textwrap.dedent(code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the source of the examples, in EPSG:4326."""
    PARCELS.set_crs(4326).to_parquet(tmp_path / "parcels.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(documented: Any, **names: Any) -> dict[str, Any]:
    """Run an example with the public names of the export and further ones, and return its variables."""
    variables = {name: getattr(export, name) for name in export.__all__} | names
    exec(compile(example(documented), documented.__name__, "exec"), variables)
    return variables


def test_stream_geojson(folder: Path) -> None:
    chunks: list[bytes] = []

    stream: GeoJSONStream = run(export.stream_geojson, send=chunks.append)["stream"]

    assert stream.report.features == 2
    assert b'"owner"' in b"".join(chunks)
    assert b'"id"' not in b"".join(chunks)


@pytest.mark.parametrize("documented", [export.write_geojson, export.ExportReport], ids=lambda found: found.__name__)
def test_write_geojson_and_its_report(folder: Path, documented: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(documented)["report"]

    assert report.path == Path("parcels.geojson")
    assert (folder / "parcels.geojson").exists()
    assert "2" in capsys.readouterr().out


def test_write_mbtiles(folder: Path) -> None:
    report = run(export.write_mbtiles, trees=TREES)["report"]

    assert report.layers == ("parcels", "trees")
    assert report.maxzoom == 13


def test_write_auto(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(export.write_auto)

    assert capsys.readouterr().out.startswith(".geojson ")


@pytest.mark.parametrize("documented", [export.PostGISQuery, postgis_query], ids=lambda found: found.__name__)
def test_queries_reach_the_export(documented: Callable[..., Any]) -> None:
    """tests/system/test_postgis.py has queries of a database; here nothing reads the query."""
    exported: list[Any] = []

    run(documented, postgis_query=postgis.postgis_query, write_geojson=lambda *source: exported.append(source))

    ((query, path),) = exported
    assert (query.sql, path) == ("SELECT id, geom FROM parcels", "parcels.geojson")
