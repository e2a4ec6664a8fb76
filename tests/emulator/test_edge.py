"""The cache before Mapbox's TileJSON and tiles, and who may read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.edge import EdgeCache
from tests.emulator.conftest import Account, Clock, points

TILE = "/v4/acme.places/0/0/0.mvt"
TILEJSON = "/v4/acme.places.json"
ONE, TWO = points((0.5, 0.5)), points((0.5, 0.5), (40.0, 40.0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, settings: EmulatorSettings, clock: Clock) -> Iterator[Callable[..., Account]]:
    running: list[Emulator] = []

    def start(**changes: Any) -> Account:
        values = {**vars(settings), **changes}
        running.append(Emulator(tmp_path / "emulator", settings=EmulatorSettings(**values), clock=clock).start())
        return Account(running[-1])

    yield start
    for emulator in running:
        emulator.stop()


def get(account: Account, path: str, *, token: str | None = None) -> requests.Response:
    params = {"access_token": token or account.emulator.token}
    return account.session.get(account.emulator.url + path, params=params, timeout=30)


def features(response: requests.Response) -> int:
    assert response.status_code == 200, response.text
    return sum(len(layer["features"]) for layer in mapbox_vector_tile.decode(response.content).values())


def change(account: Account, **changes: Any) -> None:
    url, params = f"{account.emulator.url}/tilesets/v1/acme.places", {"access_token": account.emulator.token}
    assert account.session.patch(url, params=params, json=changes, timeout=30).status_code == 204


class TestCache:
    def test_replaced_tileset_shows_its_old_self_for_five_minutes(
        self, start: Callable[..., Account], clock: Clock
    ) -> None:
        acme = start()
        acme.upload(ONE)
        old = get(acme, TILEJSON).json()
        assert features(get(acme, TILE)) == 1
        clock.now += 100
        acme.upload(TWO, name="Two")

        clock.now += 199.9
        assert get(acme, TILEJSON).json() == old
        assert features(get(acme, TILE)) == 1
        # The emulator's own pages show the newest.
        assert acme.tileset().json()["name"] == "Two"
        assert "Two" in acme.session.get(f"{acme.emulator.url}/", timeout=30).text

        clock.now += 0.1
        new = get(acme, TILEJSON).json()
        assert (new["name"], new["modified"] - old["modified"]) == ("Two", 100_000)
        assert features(get(acme, TILE)) == 2

    def test_each_url_is_cached_from_its_own_first_request(self, start: Callable[..., Account], clock: Clock) -> None:
        acme = start()
        acme.upload(ONE)
        get(acme, TILEJSON)
        clock.now += 200
        assert features(get(acme, TILE)) == 1
        acme.upload(TWO, name="Two")
        clock.now += 150

        assert get(acme, TILEJSON).json()["name"] == "Two"
        assert features(get(acme, TILE)) == 1

    def test_deleted_tileset_is_served_until_the_cache_expires(
        self, start: Callable[..., Account], clock: Clock
    ) -> None:
        acme = start()
        acme.upload(ONE)
        get(acme, TILEJSON)
        get(acme, TILE)
        url, params = f"{acme.emulator.url}/tilesets/v1/acme.places", {"access_token": acme.emulator.token}
        assert acme.session.delete(url, params=params, timeout=30).status_code == 200

        assert get(acme, TILEJSON).status_code == get(acme, TILE).status_code == 200
        assert acme.tileset().status_code == 404
        clock.now += 300
        assert get(acme, TILEJSON).status_code == get(acme, TILE).status_code == 404

    def test_refusals_are_not_cached(self, start: Callable[..., Account]) -> None:
        acme = start()
        assert get(acme, TILEJSON).status_code == get(acme, TILE).status_code == 404
        acme.upload(ONE)
        assert get(acme, TILEJSON, token=acme.emulator.create_token(account="other")).status_code == 404

        assert get(acme, TILEJSON).status_code == get(acme, TILE).status_code == 200

    def test_cached_response_is_no_way_around_the_token(self, start: Callable[..., Account]) -> None:
        acme = start()
        acme.upload(ONE)
        for path in (TILEJSON, TILE):
            get(acme, path)

            assert get(acme, path, token="nonsense").status_code == 401
            assert get(acme, path, token=acme.emulator.create_token(account="other")).status_code == 404
            assert get(acme, path, token=acme.emulator.create_token(scopes=["tilesets:list"])).status_code == 403

    def test_tiles_of_cached_tilejson_carry_the_callers_token(self, start: Callable[..., Account]) -> None:
        acme = start()
        acme.upload(ONE)
        get(acme, TILEJSON)
        other = acme.emulator.create_token()

        assert other in get(acme, TILEJSON, token=other).json()["tiles"][0]

    @pytest.mark.parametrize(
        ("seconds", "header"), [(300, "max-age=43200,s-maxage=300"), (60, "max-age=43200,s-maxage=60"), (0, "no-cache")]
    )
    def test_header_says_how_long(self, start: Callable[..., Account], seconds: float, header: str) -> None:
        acme = start(cache_seconds=seconds)
        acme.upload(ONE)

        for path in (TILEJSON, TILE):
            assert get(acme, path).headers["Cache-Control"] == header

    def test_cache_can_be_off(self, start: Callable[..., Account]) -> None:
        acme = start(cache_seconds=0)
        acme.upload(ONE)
        get(acme, TILEJSON)
        get(acme, TILE)
        acme.upload(TWO, name="Two")

        assert get(acme, TILEJSON).json()["name"] == "Two"
        assert features(get(acme, TILE)) == 2

    def test_oldest_responses_are_dropped_for_memory(self, clock: Clock) -> None:
        cache = EdgeCache(seconds=300, clock=clock, max_bytes=100)
        cache.put("a", b"a", size=40)
        cache.put("b", b"b", size=40)
        cache.put("a", b"A", size=60)
        assert (cache.get("a"), cache.get("b")) == (b"A", b"b")

        cache.put("c", b"c", size=30)
        assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"A", None, b"c")

        cache.put("huge", b"", size=101)
        assert cache.get("huge") is None

    def test_clock_that_was_set_back_empties_the_cache(self, clock: Clock) -> None:
        cache = EdgeCache(seconds=300, clock=clock)
        cache.put("a", b"a", size=1)
        clock.now -= 1

        assert cache.get("a") is None


class TestVisibility:
    @pytest.mark.parametrize("path", [TILEJSON, TILE])
    def test_public_tileset_is_read_with_any_valid_token(self, start: Callable[..., Account], path: str) -> None:
        acme = start()
        acme.upload(ONE)
        change(acme, private=False)
        create = acme.emulator.create_token

        for token in (
            create(account="other", usage="pk", scopes=[]),
            create(account="other"),
            create(usage="pk", scopes=["styles:read"]),
        ):
            assert get(acme, path, token=token).status_code == 200
        assert get(acme, path, token="nonsense").status_code == 401
        assert get(acme, path, token=create(account="other", state="TokenExpired")).status_code == 401
        assert requests.get(acme.emulator.url + path, timeout=30).status_code == 401

    def test_tilejson_tells_the_visibility_after_the_cache(self, start: Callable[..., Account], clock: Clock) -> None:
        acme = start()
        acme.upload(ONE)
        assert get(acme, TILEJSON).json()["private"] is True
        change(acme, private=False)

        assert get(acme, TILEJSON).json()["private"] is True
        clock.now += 300
        assert get(acme, TILEJSON).json()["private"] is False

    def test_tilejson_has_the_size_of_the_list(self, start: Callable[..., Account]) -> None:
        acme = start()
        acme.upload(ONE)
        url, params = f"{acme.emulator.url}/tilesets/v1/acme", {"access_token": acme.emulator.token}

        [tileset] = acme.session.get(url, params=params, timeout=30).json()

        assert get(acme, TILEJSON).json()["filesize"] == tileset["filesize"] > 1000
