"""Tilesets that a test adds without an upload, folders of older versions, and the button that deletes a tileset."""

from __future__ import annotations

import datetime
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.emulator.conftest import TOWNS, Account, Clock
from tests.emulator.test_guard import send

BUTTON = re.compile(r'<form method="post" action="(/_emulator/tilesets/acme\.\w+/delete)"')


def tilesets(account: Account) -> dict[str, dict[str, Any]]:
    url, params = f"{account.emulator.url}/tilesets/v1/acme", {"access_token": account.emulator.token, "limit": 500}
    return {item["id"]: item for item in account.session.get(url, params=params, timeout=30).json()}


class TestPython:
    def test_tileset_has_the_given_fields(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings, clock=Clock()) as emulator:
            acme = Account(emulator)
            emulator.add_tileset(
                "acme.old",
                created=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
                modified="2021-01-02T01:00:00+01:00",
                visibility="public",
                filesize=5_000_000,
                type="raster",
                name="Old",
                description="Long ago",
                status="invalid",
                created_by_client="studio",
            )
            emulator.add_tileset("acme.new")

            assert tilesets(acme)["acme.old"] == {
                "type": "raster",
                "center": [0, 0, 0],
                "created": "2020-01-02T00:00:00.000Z",
                "description": "Long ago",
                "filesize": 5_000_000,
                "id": "acme.old",
                "modified": "2021-01-02T00:00:00.000Z",
                "name": "Old",
                "visibility": "public",
                "status": "invalid",
                "tileset_precisions": {"free": 0},
                "created_by_client": "studio",
                "cu": 0.6,
            }
            new = tilesets(acme)["acme.new"]
            assert (new["created"], new["modified"]) == ("2023-11-14T22:13:20.000Z",) * 2
            assert (new["visibility"], new["name"], new["status"]) == ("private", "new", "available")

    def test_it_has_one_small_tile_and_a_page(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.vector")
        acme.emulator.add_tileset("acme.image", type="raster")

        def get(path: str) -> requests.Response:
            params = {"access_token": acme.emulator.token}
            response = acme.session.get(acme.emulator.url + path, params=params, timeout=30)
            assert response.status_code == 200, response.text
            return response

        tile = mapbox_vector_tile.decode(get("/v4/acme.vector/0/0/0.mvt").content)
        assert tile["sample"]["features"][0]["geometry"] == {"type": "Point", "coordinates": [2048, 2048]}
        assert [layer["id"] for layer in get("/v4/acme.vector.json").json()["vector_layers"]] == ["sample"]
        assert get("/v4/acme.image.json").json()["format"] == "png"
        assert get("/v4/acme.image/0/0/0.png").headers["Content-Type"] == "image/png"
        for name in ("vector", "image"):
            assert name in get(f"/tilesets/acme.{name}").text

    def test_added_tileset_can_be_replaced_by_an_upload_and_the_reverse(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.places", created=1.0)
        acme.emulator.add_tileset("acme.other")
        acme.upload(TOWNS)
        assert tilesets(acme)["acme.places"]["created"] == "1970-01-01T00:00:01.000Z"
        assert acme.tileset().json()["vector_layers"][0]["id"] == "places"

        acme.emulator.add_tileset("acme.places", filesize=9)

        assert tilesets(acme)["acme.places"]["filesize"] == 9
        assert acme.tileset().json()["vector_layers"][0]["id"] == "sample"
        assert not (acme.emulator.folder / "tilesets" / "acme.places.mbtiles").exists()

    def test_deleting_one_keeps_the_shared_tile_of_the_others(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.places")
        acme.emulator.add_tileset("acme.gone")
        url, params = f"{acme.emulator.url}/tilesets/v1/acme.gone", {"access_token": acme.emulator.token}

        assert acme.session.delete(url, params=params, timeout=30).status_code == 200

        assert acme.tileset().status_code == 200

    def test_four_hundred_are_added_in_little_time(self, acme: Account) -> None:
        before = time.process_time()
        for number in range(400):
            acme.emulator.add_tileset(f"acme.t{number}", created=float(number))

        assert time.process_time() - before < 5
        assert len(tilesets(acme)) == 400

    @pytest.mark.parametrize(
        ("tileset", "fields", "error"),
        [
            ("x", {}, "account.name"),
            ("other.x", {}, "account 'acme'"),
            ("acme.x\n", {}, "account.name"),
            ("acme.../x", {}, "account.name"),
            (None, {}, "account.name"),
            ("acme.x", {"visibility": "secret"}, "visibility .* public, private"),
            ("acme.x", {"type": "rasterarray"}, "type .* vector, raster"),
            ("acme.x", {"status": ["available"]}, "status"),
            ("acme.x", {"filesize": -1}, "filesize"),
            ("acme.x", {"filesize": 1.5}, "filesize"),
            ("acme.x", {"filesize": True}, "filesize"),
            ("acme.x", {"created": "yesterday"}, "yesterday"),
            ("acme.x", {"created": "2026-01-01"}, "time zone"),
            ("acme.x", {"created": datetime.datetime(2026, 1, 1)}, "time zone"),
            ("acme.x", {"created": float("nan")}, "created"),
            ("acme.x", {"modified": -1}, "modified"),
            ("acme.x", {"modified": True}, "modified"),
            ("acme.x", {"name": 7}, "name"),
            ("acme.x", {"description": None}, "description"),
            ("acme.x", {"size": 7}, "size"),
        ],
    )
    def test_invalid_field_is_refused_with_its_name(
        self, shared: Account, tileset: Any, fields: dict[str, Any], error: str
    ) -> None:
        with pytest.raises((ValueError, TypeError), match=error):
            shared.emulator.add_tileset(tileset, **fields)
        assert "acme.x" not in tilesets(shared)


class TestControlEndpoint:
    def test_one_or_many_can_be_added(self, acme: Account) -> None:
        url = f"{acme.emulator.url}/_emulator/tilesets"
        one = {"id": "acme.one", "created": "2026-01-01T00:00:00Z", "filesize": 5}

        assert acme.session.post(url, json=one, timeout=30).status_code == 204
        many = [{"id": f"acme.t{number}", "visibility": "public"} for number in range(3)]
        assert acme.session.post(url, json=many, timeout=30).status_code == 204

        assert sorted(tilesets(acme)) == ["acme.one", "acme.t0", "acme.t1", "acme.t2"]
        assert tilesets(acme)["acme.one"]["filesize"] == 5

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"7",
            b"{}",
            b"[[]]",
            b'{"id": "x"}',
            b'{"id": "acme.x", "size": 1}',
            b'{"id": "acme.x", "account": "other"}',
            b'{"id": "acme.x", "tileset": "acme.y"}',
            b'{"id": "acme.x", "created": "x"}',
            b'{"id": "acme.x", "created": 1e400}',
            b'{"id": "acme.x", "filesize": 1e400}',
            b'{"id": "acme.x", "filesize": ' + b"9" * 100 + b"}",
            b'{"id": "acme.x", "name": "\\ud800"}',
        ],
    )
    def test_invalid_tileset_is_refused_with_a_message(self, shared: Account, body: bytes) -> None:
        response = shared.session.post(f"{shared.emulator.url}/_emulator/tilesets", data=body, timeout=30)

        assert response.status_code == 422, response.text
        assert list(response.json()) == ["message"]
        assert "acme.x" not in tilesets(shared)


class TestDeleteButton:
    @pytest.mark.parametrize("page", ["/", "/tilesets/acme.places"])
    def test_button_deletes_the_tileset_and_leads_to_the_list(self, acme: Account, page: str) -> None:
        acme.upload(TOWNS)
        html = acme.session.get(acme.emulator.url + page, timeout=30).text
        [action] = BUTTON.findall(html)

        response = acme.session.post(acme.emulator.url + action, timeout=30, headers={"Origin": acme.emulator.url})

        assert (response.url, response.status_code) == (f"{acme.emulator.url}/", 200)
        assert not BUTTON.findall(response.text)
        assert tilesets(acme) == {}
        assert acme.session.post(acme.emulator.url + action, timeout=30).status_code == 404

    def test_pages_show_visibility_and_size(self, acme: Account) -> None:
        acme.emulator.add_tileset("acme.open", visibility="public", filesize=12_345)
        acme.emulator.add_tileset("acme.closed", filesize=678, description="<i>Not</i> & open")

        home = acme.session.get(f"{acme.emulator.url}/", timeout=30).text
        for cell in ("public", "private", "12,345", "678"):
            assert f"<td>{cell}</td>" in home
        page = acme.session.get(f"{acme.emulator.url}/tilesets/acme.closed", timeout=30).text
        for content in ("private", "678 bytes", "&lt;i&gt;Not&lt;/i&gt; &amp; open"):
            assert content in page

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"host": "evil.example"},
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/_emulator/tilesets/acme.kept/delete"),
            ("DELETE", "/tilesets/v1/acme.kept"),
            ("PATCH", "/tilesets/v1/acme.kept"),
        ],
    )
    def test_foreign_page_cannot_delete(self, shared: Account, method: str, path: str, headers: dict[str, str]) -> None:
        shared.emulator.add_tileset("acme.kept")

        assert send(shared.emulator.url, path, method=method, body=b"", **headers)[0] == 403
        assert "acme.kept" in tilesets(shared)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_link_does_not_delete(self, shared: Account, method: str) -> None:
        shared.emulator.add_tileset("acme.kept")

        assert send(shared.emulator.url, "/_emulator/tilesets/acme.kept/delete", method=method)[0] == 404
        assert "acme.kept" in tilesets(shared)


def test_folder_of_an_older_version_is_completed(tmp_path: Path, settings: EmulatorSettings) -> None:
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        acme.upload(TOWNS)
        before = tilesets(acme)["acme.places"]
    with closing(sqlite3.connect(tmp_path / "emulator.sqlite3")) as db, db:
        db.executescript(
            "CREATE TABLE old AS SELECT id, owner, name, layer, created, modified FROM tilesets; DROP TABLE tilesets;"
            "DROP TABLE deleted_tilesets; CREATE TABLE tilesets (id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT"
            " NOT NULL, layer TEXT, created REAL NOT NULL, modified REAL NOT NULL);"
            "INSERT INTO tilesets SELECT * FROM old;"
            "INSERT INTO tilesets VALUES ('acme.lost', 'acme', 'lost', NULL, 1, 1)"
        )

    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        after = tilesets(acme)
        assert after["acme.places"] == before
        assert (after["acme.lost"]["filesize"], after["acme.lost"]["type"]) == (0, "vector")
        assert acme.upload(TOWNS)["complete"]
