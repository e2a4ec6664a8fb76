"""Published tilesets over HTTP: with a token as Mapbox serves them, without one on the emulator's own pages."""

from __future__ import annotations

from typing import Any

import mapbox_vector_tile
import pytest
import requests

from tests.emulator.conftest import Account, points


@pytest.fixture(scope="module")
def published(shared: Account) -> Account:
    shared.upload(points((0.5, 0.5)), name="<b>Town</b> & country")
    return shared


def get(account: Account, path: str, **params: Any) -> requests.Response:
    return requests.get(account.emulator.url + path, params=params, timeout=10)


class TestAsMapboxServesThem:
    def test_tilejson_describes_the_tileset(self, published: Account) -> None:
        answer = get(published, "/v4/acme.places.json", access_token=published.emulator.token)

        assert answer.status_code == 200
        described = answer.json()
        assert described["id"] == "acme.places"
        assert described["name"] == "<b>Town</b> & country"
        assert (described["minzoom"], described["maxzoom"]) == (0, 0)
        assert described["vector_layers"][0]["fields"] == {"number": "Number"}
        tile = requests.get(described["tiles"][0].format(z=0, x=0, y=0), timeout=10)
        assert len(mapbox_vector_tile.decode(tile.content)) == 1

    @pytest.mark.parametrize("suffix", ["mvt", "vector.pbf"])
    def test_a_tile_is_gzipped_and_typed(self, published: Account, suffix: str) -> None:
        answer = get(published, f"/v4/acme.places/0/0/0.{suffix}", access_token=published.emulator.token)

        assert answer.status_code == 200
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"] == "application/vnd.mapbox-vector-tile"
        [layer] = mapbox_vector_tile.decode(answer.content).values()
        assert layer["features"][0]["properties"] == {"number": 0}

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/v4/acme.places/9/9/9.mvt", "Tile not found"),
            ("/v4/acme.places/0/1/0.mvt", "Tile not found"),
            ("/v4/acme.places/99/0/0.mvt", "Tile not found"),
            ("/v4/acme.places/0/0/0.png", "Tile not found"),
            ("/v4/acme.places/x/0/0.mvt", "Tile not found"),
            ("/v4/acme.places/9999999999/0/0.mvt", "Tile not found"),
            ("/v4/acme.nowhere.json", "Tileset does not exist"),
            ("/v4/acme.nowhere/0/0/0.mvt", "Tileset does not exist"),
        ],
    )
    def test_a_missing_tileset_is_a_404_in_json(self, published: Account, path: str, message: str) -> None:
        answer = get(published, path, access_token=published.emulator.token)

        assert (answer.status_code, answer.json()) == (404, {"message": message})

    @pytest.mark.parametrize("path", ["/v4/acme.places.json", "/v4/acme.places/0/0/0.mvt"])
    def test_a_token_of_the_account_is_needed(self, published: Account, path: str) -> None:
        emulator = published.emulator

        assert get(published, path).status_code == 401
        assert get(published, path, access_token=emulator.token + "x").status_code == 404
        assert get(published, path, access_token=emulator.create_token(account="other")).status_code == 404
        assert get(published, path, access_token=emulator.create_token(scopes=[])).status_code == 200


class TestOpenPages:
    def test_the_first_page_lists_uploads_and_tilesets(self, published: Account) -> None:
        published.upload(b"nonsense", "broken")

        page = get(published, "/")

        assert page.headers["Content-Type"].startswith("text/html")
        assert 'href="/tilesets/acme.places"' in page.text
        assert "Unknown filetype" in page.text
        assert published.emulator.token not in page.text

    def test_a_tilesets_page_says_what_it_holds(self, published: Account) -> None:
        page = get(published, "/tilesets/acme.places").text

        for told in ("acme.places", "number", "Number", "0 to 0"):
            assert told in page

    @pytest.mark.parametrize("path", ["/", "/tilesets/acme.places"])
    def test_names_are_shown_and_not_obeyed(self, published: Account, path: str) -> None:
        page = get(published, path).text

        assert "&lt;b&gt;Town&lt;/b&gt; &amp; country" in page
        assert "<b>Town" not in page

    def test_tiles_are_counted_by_zoom(self, published: Account) -> None:
        assert published.tileset().json()["tile_counts"] == {"0": 1}

    def test_a_tile_needs_no_token(self, published: Account) -> None:
        answer = get(published, "/tilesets/acme.places/0/0/0.pbf")

        assert len(mapbox_vector_tile.decode(answer.content)) == 1

    @pytest.mark.parametrize("path", ["/tilesets/x", "/tilesets/x.json", "/tilesets/x/0/0/0.pbf", "/tilesets/a.b"])
    def test_no_tileset_no_page(self, published: Account, path: str) -> None:
        answer = get(published, path)

        assert (answer.status_code, answer.json()) == (404, {"message": "Tileset does not exist"})


class TestAssets:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("maplibre-gl.js", "text/javascript"),
            ("maplibre-gl.css", "text/css"),
            ("map.js", "text/javascript"),
            ("live.js", "text/javascript"),
            ("countries.geojson", "application/geo+json"),
        ],
    )
    def test_the_pages_load_nothing_from_other_machines(self, published: Account, name: str, kind: str) -> None:
        answer = get(published, f"/static/{name}")

        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert len(answer.content) > 100

    @pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "ipywidget.js", ""])
    def test_nothing_else_is_served(self, published: Account, name: str) -> None:
        answer = get(published, f"/static/{name}")

        assert answer.status_code == 404
        assert answer.json() == {"message": "Not Found"}
