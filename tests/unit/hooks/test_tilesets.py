"""The hook of the tilesets against the emulator, in each plausible form of undocumented behaviour."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.errors import ConfigurationError, InvalidTilesetError, MissingScopeError, NotFoundError
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.tilesets.errors import NotUpdatableError, TilesetActiveError
from airflow_mapbox.tilesets.report import tileset_table
from tests.answers import ANSWERS
from tests.connections import connection

POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.1, 50.7]}, "properties": {"a": 1}}
UPLOADS = ("uploads:read", "uploads:write", "uploads:list")


@pytest.fixture(params=ANSWERS, ids=lambda answers: f"{answers['update_refused_status']}")
def emulator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    limits = {"rate_limit": 0, "tilesets_read_limit": 0, "tilesets_write_limit": 0}
    settings = EmulatorSettings(processing_seconds=0, cache_seconds=0, **limits, **request.param)
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield running


@pytest.fixture
def hook(emulator: Emulator) -> MapboxTilesetsHook:
    return MapboxTilesetsHook()


@pytest.fixture
def geojson(tmp_path: Path) -> Path:
    path = tmp_path / "points.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [POINT] * 3}))
    return path


@pytest.mark.slow
def test_an_upload_is_listed_read_changed_and_deleted(
    emulator: Emulator, hook: MapboxTilesetsHook, geojson: Path
) -> None:
    uploads = MapboxUploadsHook()
    uploads.wait(uploads.upload(geojson, "points", "Points").id, timeout=60, poll_interval=0.05)
    identifier = f"{emulator.account}.points"

    (listed,) = hook.list_tilesets(match="po*", type="vector")
    assert (listed.id, listed.name, listed.status) == (identifier, "Points", "available")
    assert listed.filesize
    assert listed.created_at is not None
    assert (listed.cu is not None) is emulator.settings.tileset_costs
    assert hook.get_tileset("points") == listed

    tilejson = hook.get_tilejson("points")
    (layer,) = tilejson.vector_layers
    assert layer.fields.keys() == {"a"}
    assert emulator.token not in repr(tilejson)
    assert hook.get_tile("points", 0, 0, 0)
    assert hook.get_tile("points", 20, 0, 0) is None

    if emulator.settings.update_refused_status is None:
        hook.update_tileset("points", private=False, name="Shown")
        (changed,) = hook.list_tilesets(visibility="public")
        assert (changed.id, changed.name, changed.is_public) == (identifier, "Shown", True)
    else:
        with pytest.raises(NotUpdatableError) as refused:
            hook.update_tileset("points", private=False, name="Shown")
        assert refused.value.status == emulator.settings.update_refused_status

    assert hook.delete_tileset("points") is True
    assert hook.delete_tileset("points") is False
    assert list(hook.list_tilesets()) == []
    with pytest.raises(NotFoundError):
        hook.get_tileset("points")
    with pytest.raises(NotFoundError):
        hook.get_tilejson("points")


@pytest.mark.slow
def test_long_lists_are_read_page_by_page(emulator: Emulator, hook: MapboxTilesetsHook) -> None:
    for day in range(1003):
        emulator.add_tileset(f"{emulator.account}.day-{day:04}", created=1_700_000_000 + day, filesize=1000)
    before = len(emulator.requests)

    assert [tileset.own_name for tileset in hook.list_tilesets()] == [f"day-{day:04}" for day in range(1002, -1, -1)]
    assert len(emulator.requests) - before == 3
    assert hook.get_tileset("day-0502").own_name == "day-0502"
    assert len(emulator.requests) - before == 5
    assert sum(1 for _ in hook.list_tilesets(match="day-00*")) == 100
    table = tileset_table(hook.list_tilesets())
    assert table.count("\n") == 1006
    assert "1003 tilesets (0 public); 1.0 MB" in table


@pytest.mark.slow
def test_a_tileset_in_processing_is_deleted_or_says_so(
    emulator: Emulator, hook: MapboxTilesetsHook, geojson: Path
) -> None:
    emulator.add_tileset(f"{emulator.account}.points")
    emulator.faults.add("stall", where="processing", progress=0.37)
    MapboxUploadsHook().upload(geojson, "points")

    status = emulator.settings.active_delete_status
    if status is None:
        assert hook.delete_tileset("points") is True
    else:
        with pytest.raises(TilesetActiveError) as refused:
            hook.delete_tileset("points")
        assert refused.value.status == status


def test_a_tileset_of_another_account_is_refused_before_a_request(emulator: Emulator, hook: MapboxTilesetsHook) -> None:
    emulator.add_tileset(f"{emulator.account}.points")
    before = len(emulator.requests)

    with pytest.raises(InvalidTilesetError, match="belongs to account 'vega'"):
        hook.delete_tileset("vega.points")

    assert len(emulator.requests) == before
    assert hook.get_tileset("points")


def use(monkeypatch: pytest.MonkeyPatch, emulator: Emulator, *scopes: str) -> None:
    token = emulator.create_token(scopes=scopes)
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "scope"),
    [
        (lambda hook: list(hook.list_tilesets()), "tilesets:list"),
        (lambda hook: hook.delete_tileset("points"), "tilesets:write"),
        (lambda hook: hook.update_tileset("points", private=True), "tilesets:write"),
    ],
    ids=["list", "delete", "update"],
)
def test_a_missing_scope_is_named(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, call: Callable[[MapboxTilesetsHook], Any], scope: str
) -> None:
    emulator.add_tileset(f"{emulator.account}.points")
    use(monkeypatch, emulator, *UPLOADS, *({"tilesets:list", "tilesets:write", "tilesets:read"} - {scope}))

    with pytest.raises(MissingScopeError, match=f"lacks the scope {scope}"):
        call(MapboxTilesetsHook())


class TestConnectionTest:
    def test_all_scopes_work(self, emulator: Emulator, geojson: Path) -> None:
        emulator.add_tileset(f"{emulator.account}.points")
        hook = MapboxUploadsHook()
        hook.upload(geojson, "other")
        requests = len(emulator.requests)

        works, text = hook.test_connection()

        assert works
        assert "tilesets:list works; tilesets:read works; tilesets:write works" in text
        assert len(emulator.requests) - requests <= 7
        assert MapboxTilesetsHook().get_tileset("points")

    def test_scopes_that_uploads_do_not_need_never_make_it_red(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(monkeypatch, emulator, *UPLOADS)

        works, text = MapboxUploadsHook().test_connection()

        assert works
        assert "tilesets:list is missing: needed to list, verify and delete tilesets" in text
        assert "tilesets:write is missing: needed to delete tilesets" in text

    def test_a_server_without_the_tilesets_never_makes_it_red(self, emulator: Emulator) -> None:
        emulator.faults.add("status", where="api", path="/tilesets/", status=503)

        works, text = MapboxUploadsHook().test_connection()

        assert works
        assert "tilesets:list is unknown" in text


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(ConfigurationError, match="Airflow finds no connection 'mapbox_elsewhere'"):
        MapboxTilesetsHook("mapbox_elsewhere").get_conn()
