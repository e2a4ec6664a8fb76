"""The probe of the tilesets' scopes: what each reply means, and that nothing is changed."""

from __future__ import annotations

import re

import pytest

from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.scopes import describe_scopes, probe_scopes
from tests.unit.support import Reply, ScriptedServer
from tests.unit.tilesets.support import TILESET, tilejson, tileset_json


def refused(scope: str) -> Reply:
    return Reply(403, {"message": f"This endpoint requires a token with {scope} scope"})


def test_all_scopes_are_checked_with_three_requests_that_change_nothing(
    server: ScriptedServer, tilesets: TilesetsClient
) -> None:
    server.script(Reply(json=[tileset_json()]), Reply(json=tilejson()), Reply(404, {"message": "Not Found"}))

    states = probe_scopes(tilesets)

    assert states == {"tilesets:list": True, "tilesets:read": True, "tilesets:write": True}
    listed, read, write = server.requests
    assert listed.query["limit"] == "10"
    assert (read.method, read.path) == ("GET", f"/v4/{TILESET}.json")
    # The only request that could change anything has a random name, which no tileset has.
    assert write.method == "DELETE"
    assert re.fullmatch(r"/tilesets/v1/orion\.connection-test-[0-9a-f]{16}", write.path)


def test_each_missing_scope_is_told_with_what_it_is_for(server: ScriptedServer, tilesets: TilesetsClient) -> None:
    server.script(Reply(json=[tileset_json()]), refused("tilesets:read"), refused("tilesets:write"))

    text = describe_scopes(probe_scopes(tilesets))

    assert "tilesets:list works" in text
    assert "tilesets:read is missing: needed to verify tilesets" in text
    assert "tilesets:write is missing: needed to delete tilesets" in text
    assert "uploads do not need these" in text


@pytest.mark.parametrize("reply", [refused("tilesets:list"), Reply(404, {"message": "Not Found"}), Reply(401)])
def test_without_the_list_the_reading_is_unknown(
    server: ScriptedServer, tilesets: TilesetsClient, reply: Reply
) -> None:
    server.script(reply, refused("tilesets:write"))

    assert probe_scopes(tilesets) == {"tilesets:list": False, "tilesets:read": None, "tilesets:write": False}


def test_a_tileset_that_is_not_ready_is_not_read(server: ScriptedServer, tilesets: TilesetsClient) -> None:
    server.script(Reply(json=[tileset_json(status="pending")]), Reply(204))

    assert probe_scopes(tilesets)["tilesets:read"] is None


@pytest.mark.parametrize("reply", [Reply(500), Reply(fault="drop"), Reply(429), Reply(body=b"<html>")])
def test_what_does_not_tell_is_unknown_and_no_error(
    server: ScriptedServer, tilesets: TilesetsClient, reply: Reply
) -> None:
    server.script(reply, reply)

    states = probe_scopes(tilesets.with_one_try())

    assert states["tilesets:list"] is None
    assert "tilesets:list is unknown" in describe_scopes(states)
