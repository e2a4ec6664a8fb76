"""The scheme ``mapbox`` of asset URIs, by Airflow's own classes."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset
from airflow.sdk.lineage import HookLineageCollector
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_mapbox.hooks.uploads import MapboxUploadsHook


@pytest.mark.parametrize(
    "uri",
    [
        "mapbox://tilesets/acme.parcels",
        "mapbox://tilesets/Acme-1.parcels_2018-01-31",
        "mapbox://datasets/acme/cj5e1l2",
        "mapbox://styles/mapbox/streets-v12",
    ],
)
def test_uris_of_tilesets_datasets_and_mapboxs_other_things_come_through_unchanged(uri: str) -> None:
    assert Asset(uri).uri == uri
    assert Asset(uri).name == uri


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mapbox://acme.parcels", "mapbox://tilesets/acme.parcels"),
        ("mapbox://parcels", r"mapbox://tilesets/\{account\}\.\{name\}"),
        ("mapbox://tileset/acme.parcels", r"mapbox://tilesets/\{account\}\.\{name\}"),
        ("mapbox://tilesets/parcels", r"mapbox://tilesets/\{account\}\.\{name\}"),
        ("mapbox://tilesets/acme.parcels/0", r"mapbox://tilesets/\{account\}\.\{name\}"),
        ("mapbox://tilesets/acme.{{ ds }}", r"mapbox://tilesets/\{account\}\.\{name\}"),
        ("mapbox://datasets/acme", r"mapbox://datasets/\{account\}/\{id\}"),
    ],
)
def test_another_form_is_refused_with_the_right_one(uri: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Asset(uri)


def test_a_hooks_lineage_makes_the_asset_of_a_tileset_by_its_factory() -> None:
    collector = HookLineageCollector()

    collector.add_output_asset(MapboxUploadsHook(), scheme="mapbox", asset_kwargs={"tileset": "acme.parcels"})

    (output,) = collector.collected_assets.outputs
    assert output.asset == Asset("mapbox://tilesets/acme.parcels")


def test_openlineage_knows_a_tileset_by_the_asset_uri() -> None:
    convert = ProvidersManagerTaskRuntime().asset_to_openlineage_converters["mapbox"]

    dataset = convert(asset=Asset("mapbox://tilesets/acme.parcels"), lineage_context=None)

    assert (dataset.namespace, dataset.name) == ("mapbox://tilesets", "acme.parcels")
