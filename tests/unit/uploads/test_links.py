"""The pages of a tileset and of an upload: which address, at which API."""

from __future__ import annotations

import pytest

from airflow_mapbox.security.endpoints import API_URL
from airflow_mapbox.uploads.links import tileset_page, upload_page


def test_at_mapbox_a_tileset_has_a_page_in_the_console() -> None:
    assert tileset_page("acme.parcels", API_URL) == "https://console.mapbox.com/studio/tilesets/acme.parcels/"


def test_at_mapbox_an_upload_has_no_page() -> None:
    assert upload_page("cifzrlur163cyuikrm5gm9yyv", API_URL) == ""


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8787", "https://mapbox.example/api", "https://notmapbox.com"])
def test_at_another_host_both_are_pages_of_the_emulator(base_url: str) -> None:
    assert tileset_page("acme.parcels", base_url) == f"{base_url}/tilesets/acme.parcels"
    assert upload_page("cifzrlur163cyuikrm5gm9yyv", base_url) == f"{base_url}/#cifzrlur163cyuikrm5gm9yyv"


@pytest.mark.parametrize(
    "base_url",
    ["https://user:c4n4ry@mapbox.example", "https://c4n4ry@mapbox.example", "https://mapbox.example/?key=c4n4ry"],
)
def test_an_address_with_a_secret_is_no_link(base_url: str) -> None:
    assert tileset_page("acme.parcels", base_url) == ""
    assert upload_page("cifzrlur163cyuikrm5gm9yyv", base_url) == ""


def test_a_servers_odd_ids_cannot_leave_the_path() -> None:
    assert tileset_page("a/../b?c", "http://127.0.0.1:1") == "http://127.0.0.1:1/tilesets/a%2F..%2Fb%3Fc"
    assert tileset_page("a/../b", API_URL) == "https://console.mapbox.com/studio/tilesets/a%2F..%2Fb/"
