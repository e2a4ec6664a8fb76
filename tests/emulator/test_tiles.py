"""Published tilesets over HTTP: Mapbox's endpoints with a token, and the emulator's own pages without a token."""

from __future__ import annotations

from typing import Any

import mapbox_vector_tile
import pytest
import requests

from tests.emulator.conftest import Account, points

PATHS = ["/v4/acme.places.json", "/v4/acme.places/0/0/0.mvt"]


@pytest.fixture(scope="module")
def published(shared: Account) -> Account:
    shared.upload(points((0.5, 0.5)), name="<b>Town</b> & country")
    return shared


def get(account: Account, path: str, **params: Any) -> requests.Response:
    return requests.get(account.emulator.url + path, params=params, timeout=10)


class TestMapboxEndpoints:
    def test_tilejson_describes_the_tileset(self, published: Account) -> None:
        response = get(published, "/v4/acme.places.json", access_token=published.emulator.token)

        assert response.status_code == 200
        tilejson = response.json()
        assert tilejson["id"] == "acme.places"
        assert tilejson["name"] == "<b>Town</b> & country"
        assert (tilejson["minzoom"], tilejson["maxzoom"]) == (0, 0)
        assert tilejson["vector_layers"][0]["fields"] == {"number": "Number"}
        tile = requests.get(tilejson["tiles"][0].format(z=0, x=0, y=0), timeout=10)
        assert len(mapbox_vector_tile.decode(tile.content)) == 1

    @pytest.mark.parametrize("suffix", ["mvt", "vector.pbf"])
    def test_tile_is_gzipped_and_has_its_media_type(self, published: Account, suffix: str) -> None:
        response = get(published, f"/v4/acme.places/0/0/0.{suffix}", access_token=published.emulator.token)

        assert response.status_code == 200
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Content-Type"] == "application/vnd.mapbox-vector-tile"
        [layer] = mapbox_vector_tile.decode(response.content).values()
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
    def test_missing_tile_or_tileset_is_404_in_json(self, published: Account, path: str, message: str) -> None:
        response = get(published, path, access_token=published.emulator.token)

        assert (response.status_code, response.json()) == (404, {"message": message})

    @pytest.mark.parametrize("path", PATHS)
    def test_private_tileset_needs_a_token_of_the_account_with_the_scope(self, published: Account, path: str) -> None:
        emulator = published.emulator

        def refusal(token: str) -> tuple[int, str]:
            response = get(published, path, access_token=token)
            return response.status_code, response.json()["message"]

        assert refusal("") == (401, "Not Authorized - No Token")
        assert refusal("nonsense") == (401, "Not Authorized - Invalid Token")
        assert refusal(emulator.token + "x") == (401, "Not Authorized - Invalid Token")
        assert refusal(emulator.create_token(state="TokenRevoked")) == (401, "Not Authorized - Invalid Token")
        assert refusal(emulator.create_token(account="other")) == (404, "Tileset does not exist")
        assert refusal(emulator.create_token(scopes=["tilesets:list"])) == (
            403,
            "This endpoint requires a token with tilesets:read scope",
        )
        token = emulator.create_token(scopes=["tilesets:read"])
        assert get(published, path, access_token=token).status_code == 200


class TestOpenPages:
    def test_home_page_lists_uploads_and_tilesets(self, published: Account) -> None:
        published.upload(b"nonsense", "broken")

        page = get(published, "/")

        assert page.headers["Content-Type"].startswith("text/html")
        assert 'href="/tilesets/acme.places"' in page.text
        assert "Unknown filetype" in page.text
        assert published.emulator.token not in page.text

    def test_page_of_a_tileset_shows_its_content(self, published: Account) -> None:
        page = get(published, "/tilesets/acme.places").text

        for content in ("acme.places", "number", "Number", "0 to 0"):
            assert content in page

    @pytest.mark.parametrize("path", ["/", "/tilesets/acme.places"])
    def test_names_are_escaped(self, published: Account, path: str) -> None:
        page = get(published, path).text

        assert "&lt;b&gt;Town&lt;/b&gt; &amp; country" in page
        assert "<b>Town" not in page

    def test_tiles_are_counted_by_zoom(self, published: Account) -> None:
        assert published.tileset().json()["tile_counts"] == {"0": 1}

    def test_tile_of_the_open_pages_needs_no_token(self, published: Account) -> None:
        response = get(published, "/tilesets/acme.places/0/0/0.pbf")

        assert len(mapbox_vector_tile.decode(response.content)) == 1

    @pytest.mark.parametrize("path", ["/tilesets/x", "/tilesets/x.json", "/tilesets/x/0/0/0.pbf", "/tilesets/a.b"])
    def test_missing_tileset_has_no_page(self, published: Account, path: str) -> None:
        response = get(published, path)

        assert (response.status_code, response.json()) == (404, {"message": "Tileset does not exist"})


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
    def test_assets_of_the_pages_are_served_from_this_machine(self, published: Account, name: str, kind: str) -> None:
        response = get(published, f"/static/{name}")

        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith(kind)
        assert len(response.content) > 100

    @pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "ipywidget.js", ""])
    def test_other_files_are_not_served(self, published: Account, name: str) -> None:
        response = get(published, f"/static/{name}")

        assert response.status_code == 404
        assert response.json() == {"message": "Not Found"}
