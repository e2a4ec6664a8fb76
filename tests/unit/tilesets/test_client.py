"""The client of the tilesets against a server that follows a script."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from airflow_mapbox.errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidRequestError,
    InvalidTilesetError,
    MissingScopeError,
    NotFoundError,
    OptionError,
    ServerError,
    TokenRejectedError,
)
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.errors import NotUpdatableError, TilesetActiveError
from tests.unit.conftest import MakeClient
from tests.unit.support import ACCOUNT, FakeTime, Reply, ScriptedServer, all_text_of, make_token
from tests.unit.tilesets.support import TILESET, tilejson, tileset_json

LIST_PATH = f"/tilesets/v1/{ACCOUNT}"


def page(*names: str, next: str | None = None, **changed: Any) -> Reply:
    headers = {} if next is None else {"Link": f'<{next}>; rel="next"'}
    return Reply(json=[tileset_json(id=f"{ACCOUNT}.{name}", **changed) for name in names], headers=headers)


class TestList:
    def test_pages_are_followed_and_requested_when_they_are_needed(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        server.script(page("a", "b", next=f"{server.url}{LIST_PATH}?start=b&limit=500"), page("c"))

        reading = tilesets.list_tilesets(type="vector", visibility="private", sortby="modified")

        assert [tileset.own_name for tileset in itertools.islice(reading, 2)] == ["a", "b"]
        assert len(server.requests) == 1
        assert [tileset.own_name for tileset in reading] == ["c"]
        first, second = (dict(request.query) for request in server.requests)
        del first["access_token"], second["access_token"]
        assert first == {"type": "vector", "visibility": "private", "sortby": "modified", "limit": "500"}
        assert second == {"start": "b", "limit": "500"}

    def test_a_limit_bounds_the_page_and_the_whole(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(page("a", "b", "c", next=f"{server.url}{LIST_PATH}?start=c"))

        assert len(list(tilesets.list_tilesets(limit=2))) == 2
        assert server.requests[0].query["limit"] == "2"

    def test_a_limit_of_0_sends_nothing(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        assert list(tilesets.list_tilesets(limit=0)) == []
        assert server.requests == []

    @pytest.mark.parametrize("match", ["earthquakes-*", f"{ACCOUNT}.earthquakes-*", "earthquakes-0[12]"])
    def test_match_is_a_shell_pattern_for_the_name_and_reads_whole_pages(
        self, server: ScriptedServer, tilesets: TilesetsClient, match: str
    ) -> None:
        server.script(page("old", "earthquakes-01", "Earthquakes-03", "earthquakes-02", "my-earthquakes-01"))

        found = [tileset.own_name for tileset in tilesets.list_tilesets(match=match, limit=2)]

        assert found == ["earthquakes-01", "earthquakes-02"]
        assert server.requests[0].query["limit"] == "500"

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"type": "Vector"}, '`type` must be "vector" or "raster"'),
            ({"visibility": "secret"}, '`visibility` must be "public" or "private"'),
            ({"sortby": "name"}, '`sortby` must be "created" or "modified"'),
            ({"limit": -1}, "`limit` must be 0 or greater"),
            ({"match": ""}, "Give a pattern"),
            ({"match": "vega.earth*"}, "no tileset of account 'orion'"),
            ({"match": "a\nb"}, "Give a pattern"),
        ],
    )
    def test_an_unknown_option_is_refused_at_once_and_sends_nothing(
        self, server: ScriptedServer, tilesets: TilesetsClient, options: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(OptionError, match=told):
            tilesets.list_tilesets(**options)
        assert server.requests == []

    def test_tilesets_that_were_not_asked_for_are_left_out(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        server.script(
            Reply(
                json=[
                    tileset_json(id=f"{ACCOUNT}.a", visibility="public"),
                    tileset_json(id=f"{ACCOUNT}.b", type="raster"),
                    tileset_json(id=f"{ACCOUNT}.c", type=None),
                    tileset_json(id=f"{ACCOUNT}.d"),
                ]
            )
        )

        found = tilesets.list_tilesets(type="vector", visibility="private")

        assert [tileset.own_name for tileset in found] == ["c", "d"]

    def test_an_unreadable_item_is_skipped_with_a_warning(
        self, server: ScriptedServer, tilesets: TilesetsClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.script(Reply(json=[{"name": "no id"}, tileset_json()]))

        with caplog.at_level("WARNING", logger="airflow_mapbox"):
            assert [tileset.id for tileset in tilesets.list_tilesets()] == [TILESET]
        assert "'id'" in caplog.text

    def test_pages_in_a_circle_and_on_other_hosts_are_refused(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        circle = f"{server.url}{LIST_PATH}?start=a"
        server.script(page("a", next=circle), page("a", next=circle))
        with pytest.raises(InvalidAnswerError, match="links to an earlier page"):
            list(tilesets.list_tilesets())

        server.script(page("a", next="https://elsewhere.example/"))
        with pytest.raises(InvalidAnswerError, match=r"on another host, elsewhere\.example"):
            list(tilesets.list_tilesets())

    def test_an_object_instead_of_an_array_is_refused(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(json={"tilesets": []}))
        with pytest.raises(InvalidAnswerError, match="array of tilesets"):
            list(tilesets.list_tilesets())


class TestGet:
    def test_the_list_is_read_until_the_tileset_is_found(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        next_page = f"{server.url}{LIST_PATH}?start=b"
        server.script(page("a", "b", next=next_page), page("harbours", "c", next=f"{next_page}c"))

        assert tilesets.get_tileset("harbours").id == TILESET
        assert len(server.requests) == 2

    def test_a_tileset_that_is_not_in_the_list_is_not_found(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        server.script(page("a"))
        with pytest.raises(NotFoundError, match=f"shows no tileset {TILESET}"):
            tilesets.get_tileset(TILESET)


class TestUpdate:
    def test_only_what_changes_is_sent(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(204))

        tilesets.update_tileset("harbours", private=False, description="")

        (request,) = server.requests
        assert (request.method, request.path) == ("PATCH", f"/tilesets/v1/{TILESET}")
        assert request.json == {"private": False, "description": ""}

    def test_name_and_attribution_are_sent(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(200, json={}))
        attribution = [{"text": "© Orion", "link": "https://orion.example"}]

        tilesets.update_tileset("harbours", name="Ports", attribution=attribution)

        assert server.requests[0].json == {"name": "Ports", "attribution": attribution}

    @pytest.mark.parametrize("status", [400, 403, 404, 422])
    def test_a_tileset_of_the_uploads_api_that_cannot_be_changed_has_its_own_error(
        self, server: ScriptedServer, tilesets: TilesetsClient, status: int
    ) -> None:
        message = f"Unable to perform action. {TILESET} was not created with the /tilesets/v1 endpoint."
        server.script(Reply(status, {"message": message}))

        with pytest.raises(NotUpdatableError, match="Mapbox Studio") as caught:
            tilesets.update_tileset("harbours", private=True)

        assert (caught.value.status, caught.value.message) == (status, message)
        assert not caught.value.retryable
        assert len(server.requests) == 1

    def test_another_refusal_of_a_change_says_that_uploads_may_be_the_reason(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        server.script(Reply(422, {"message": "Forbidden property"}))
        with pytest.raises(InvalidRequestError, match="that the Uploads API made"):
            tilesets.update_tileset("harbours", private=True)

    def test_nothing_to_change_sends_nothing(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        with pytest.raises(OptionError, match="Nothing to change"):
            tilesets.update_tileset("harbours")
        with pytest.raises(InvalidTilesetError, match="display name"):
            tilesets.update_tileset("harbours", name="n" * 65)
        assert server.requests == []


class TestDelete:
    @pytest.mark.parametrize("reply", [Reply(200), Reply(204), Reply(202, json={"ok": True}), Reply(200, body=b"ok")])
    def test_each_2xx_is_a_success(self, server: ScriptedServer, tilesets: TilesetsClient, reply: Reply) -> None:
        server.script(reply)

        assert tilesets.delete_tileset("harbours") is True
        assert (server.requests[0].method, server.requests[0].path) == ("DELETE", f"/tilesets/v1/{TILESET}")

    def test_a_tileset_that_is_gone_already_is_done(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(404, {"message": "Not Found"}))

        assert tilesets.delete_tileset("harbours") is False

    @pytest.mark.parametrize("loss", [Reply(fault="drop"), Reply(200, fault="reset"), Reply(503)])
    def test_a_404_after_a_lost_reply_is_this_deletion(
        self, server: ScriptedServer, tilesets: TilesetsClient, loss: Reply
    ) -> None:
        server.script(loss, Reply(404, {"message": "Not Found"}))

        assert tilesets.delete_tileset("harbours") is True

    @pytest.mark.parametrize(
        ("status", "message"),
        [(409, "Conflict"), (409, "Resource is locked and cannot be modified"), (400, "Resource is locked")],
    )
    def test_a_tileset_in_processing_has_its_own_error(
        self, server: ScriptedServer, tilesets: TilesetsClient, status: int, message: str
    ) -> None:
        server.script(Reply(status, {"message": message}))
        with pytest.raises(TilesetActiveError, match="Wait until it has ended") as caught:
            tilesets.delete_tileset("harbours")
        assert caught.value.retryable

    def test_a_404_says_nothing_if_the_token_belongs_to_another_account(
        self, server: ScriptedServer, make_client: MakeClient
    ) -> None:
        server.script(Reply(404, {"message": "Not Found"}))
        vega = TilesetsClient.sharing(make_client(username="vega"))

        with pytest.raises(NotFoundError, match="Correct the login"):
            vega.delete_tileset("harbours")


FOREIGN: list[Callable[[TilesetsClient, str], object]] = [
    lambda client, tileset: client.delete_tileset(tileset),
    lambda client, tileset: client.update_tileset(tileset, private=True),
    lambda client, tileset: client.get_tileset(tileset),
]


@pytest.mark.parametrize("call", FOREIGN, ids=["delete", "update", "get"])
@pytest.mark.parametrize(
    "tileset", ["vega.harbours", "", ".", "orion.", ".x", "a/b", "..", "orion.a.b", "a\n", "a" * 33]
)
def test_a_tileset_that_is_not_the_accounts_is_refused_before_a_request(
    server: ScriptedServer, tilesets: TilesetsClient, call: Callable[[TilesetsClient, str], object], tileset: str
) -> None:
    with pytest.raises(InvalidTilesetError):
        call(tilesets, tileset)
    assert server.requests == []


CALLS: list[tuple[Callable[[TilesetsClient], object], str]] = [
    (lambda client: list(client.list_tilesets()), "tilesets:list"),
    (lambda client: client.update_tileset("harbours", private=True), "tilesets:write"),
    (lambda client: client.delete_tileset("harbours"), "tilesets:write"),
    (lambda client: client.get_tilejson("harbours"), "tilesets:read"),
    (lambda client: client.get_tile("harbours", 0, 0, 0), "tilesets:read"),
]


@pytest.mark.parametrize(("call", "scope"), CALLS, ids=["list", "update", "delete", "tilejson", "tile"])
class TestRefusals:
    def test_a_missing_scope_is_named_with_what_to_do(
        self,
        server: ScriptedServer,
        tilesets: TilesetsClient,
        fake_time: FakeTime,
        call: Callable[[TilesetsClient], object],
        scope: str,
    ) -> None:
        server.script(Reply(403, {"message": f"This endpoint requires a token with {scope} scope"}))

        with pytest.raises(MissingScopeError, match=f"lacks the scope {scope}: add it to the token") as caught:
            call(tilesets)

        assert isinstance(caught.value, TokenRejectedError)
        assert not fake_time.slept

    def test_an_invalid_token_is_named(
        self, server: ScriptedServer, tilesets: TilesetsClient, call: Callable[[TilesetsClient], object], scope: str
    ) -> None:
        server.script(Reply(401, {"message": "Not Authorized - Invalid Token"}))
        with pytest.raises(TokenRejectedError, match="mistyped or revoked"):
            call(tilesets)

    def test_the_token_is_in_no_error(
        self,
        server: ScriptedServer,
        tilesets: TilesetsClient,
        token: str,
        call: Callable[[TilesetsClient], object],
        scope: str,
    ) -> None:
        server.script(Reply(422, {"message": f"bad start in ?access_token={token}"}))
        with pytest.raises(InvalidRequestError) as caught:
            call(tilesets)
        assert token not in all_text_of(caught.value)

    def test_faults_are_retried_and_rate_limits_waited_out(
        self,
        server: ScriptedServer,
        tilesets: TilesetsClient,
        fake_time: FakeTime,
        call: Callable[[TilesetsClient], object],
        scope: str,
    ) -> None:
        server.script(
            Reply(502),
            Reply(429, {"message": "Too Many Requests"}, headers={"X-Rate-Limit-Interval": "60"}),
            Reply(fault="drop"),
            *[Reply(503)] * 3,
        )
        with pytest.raises(ServerError):
            call(tilesets)
        assert len(fake_time.slept) == 5
        assert 60 <= max(fake_time.slept) <= 66


class TestTiles:
    def test_tilejson_is_asked_for_with_secure_urls(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(json=tilejson()))

        assert tilesets.get_tilejson("harbours").vector_layers[0].id == "harbours"
        (request,) = server.requests
        assert request.path == f"/v4/{TILESET}.json"
        assert request.query.keys() == {"secure", "access_token"}

    def test_tilejson_of_another_account_can_be_read(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(json=tilejson()))

        tilesets.get_tilejson("mapbox.mapbox-streets-v8")

        assert server.requests[0].path == "/v4/mapbox.mapbox-streets-v8.json"

    def test_tilejson_that_is_not_found_is_an_error(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(404, {"message": "Tileset does not exist"}))
        with pytest.raises(NotFoundError):
            tilesets.get_tilejson("harbours")

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(body=b"tile"),
            Reply(body=gzip.compress(b"tile")),
            Reply(body=gzip.compress(b"tile"), headers={"Content-Encoding": "gzip"}),
        ],
        ids=["plain", "stored gzip", "content encoding"],
    )
    def test_a_tile_is_returned_decompressed(
        self, server: ScriptedServer, tilesets: TilesetsClient, reply: Reply
    ) -> None:
        server.script(reply)

        assert tilesets.get_tile("harbours", 3, 4, 7) == b"tile"
        assert server.requests[0].path == f"/v4/{TILESET}/3/4/7.mvt"

    @pytest.mark.parametrize("reply", [Reply(404, {"message": "Tile not found"}), Reply(200), Reply(204)])
    def test_a_missing_tile_is_none(self, server: ScriptedServer, tilesets: TilesetsClient, reply: Reply) -> None:
        server.script(reply)
        assert tilesets.get_tile("harbours", 0, 0, 0) is None

    def test_a_tile_of_a_tileset_that_does_not_exist_is_an_error(
        self, server: ScriptedServer, tilesets: TilesetsClient
    ) -> None:
        server.script(Reply(404, {"message": "Tileset does not exist"}))
        with pytest.raises(NotFoundError):
            tilesets.get_tile("harbours", 0, 0, 0)

    def test_half_a_tile_is_an_error(self, server: ScriptedServer, tilesets: TilesetsClient) -> None:
        server.script(Reply(body=gzip.compress(b"tile" * 9)[:-6]))
        with pytest.raises(InvalidAnswerError, match="whole gzip stream"):
            tilesets.get_tile("harbours", 0, 0, 0)

    @pytest.mark.parametrize("address", [(-1, 0, 0), (0, 1, 0), (2, 0, 4), (2, -1, 0), (31, 0, 0)])
    def test_a_tile_that_no_zoom_has_is_refused_before_a_request(
        self, server: ScriptedServer, tilesets: TilesetsClient, address: tuple[int, int, int]
    ) -> None:
        with pytest.raises(OptionError, match="There is no tile"):
            tilesets.get_tile("harbours", *address)
        assert server.requests == []


class TestSettings:
    def test_a_public_token_is_refused_with_the_scopes(self) -> None:
        with pytest.raises(ConfigurationError, match="tilesets:list, tilesets:write and tilesets:read"):
            TilesetsClient(make_token(kind="pk"))

    def test_it_can_be_made_with_a_token_alone(self, server: ScriptedServer, token: str) -> None:
        server.script(page("a"))
        with TilesetsClient(token, base_url=server.url) as client:
            assert client.username == ACCOUNT
            assert [tileset.own_name for tileset in client.list_tilesets()] == ["a"]
        assert token not in repr(client)

    def test_a_shared_client_knows_the_servers_clock_and_not_the_other_apis_rate_limit(
        self, server: ScriptedServer, make_client: MakeClient
    ) -> None:
        uploads = make_client()
        limits = {"X-Rate-Limit-Interval": "60", "X-Rate-Limit-Limit": "60", "Date": "Tue, 14 Nov 2023 22:13:20 GMT"}
        server.script(Reply(json=[], headers=limits))
        list(uploads.list_uploads())
        assert uploads.seconds_per_request == 1

        shared = TilesetsClient.sharing(uploads)

        assert shared.knows_server_time
        assert shared.seconds_per_request is None
