"""Proxies and authorities of the environment: one rule for the API, for https sources and for S3."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.sources.resolve import open_source
from airflow_mapbox.uploads.errors import MapboxError
from tests.connections import connection
from tests.unit.proxies import Proxy, SocksProxy

VARIABLES = (
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"),
    *("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"),
)


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def secure(
    tmp_path: Path, make_settings: Callable[..., EmulatorSettings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=make_settings(), tls=True) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield running


@pytest.fixture
def geojson(tmp_path: Path) -> Path:
    path = tmp_path / "point.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    return path


def hashed_folder(authority: Path, folder: Path) -> Path:
    """A folder of authorities as OpenSSL reads it: each under the hash of its name."""
    digest = subprocess.run(
        ["openssl", "x509", "-noout", "-hash", "-in", authority], check=True, capture_output=True, text=True
    )
    folder.mkdir()
    shutil.copy(authority, folder / f"{digest.stdout.strip()}.0")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"REQUESTS_CA_BUNDLE": "file"},
        {"CURL_CA_BUNDLE": "file"},
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "file"},
        {"REQUESTS_CA_BUNDLE": "file", "CURL_CA_BUNDLE": "missing"},
        {"REQUESTS_CA_BUNDLE": "file", "AWS_CA_BUNDLE": "missing", "SSL_CERT_FILE": "missing"},
        {"REQUESTS_CA_BUNDLE": "folder"},
        {"CURL_CA_BUNDLE": "folder"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_api_sources_and_s3_trust_the_same_authorities(
    secure: Emulator, geojson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        if value == "folder":
            value = str(hashed_folder(secure.ca_file, tmp_path / "authorities"))
        paths = {"file": str(secure.ca_file), "missing": str(tmp_path / "none")}
        monkeypatch.setenv(name, paths.get(value, value))

    upload = MapboxUploadsHook().upload(geojson, "points")

    assert upload.tileset.endswith(".points")
    # The emulator's page is no geodata, and a file on the web all the same.
    assert open_source(f"{secure.url}/").head(5)


@pytest.mark.parametrize("variables", [{"SSL_CERT_FILE": "file"}, {"AWS_CA_BUNDLE": "file"}, {}], ids=str)
def test_api_sources_and_s3_distrust_the_same_authorities(
    secure: Emulator, geojson: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in variables:
        monkeypatch.setenv(name, str(secure.ca_file))

    with pytest.raises(MapboxError, match="certificate"):
        MapboxUploadsHook(retry=RetryPolicy(attempts=1)).upload(geojson, "points")
    with pytest.raises(MapboxError, match="SSLError"):
        open_source(f"{secure.url}/")
    assert secure.requests == []


@pytest.fixture(params=[Proxy, SocksProxy], ids=["http", "socks"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    proxy = request.param()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_api_sources_and_s3_use_the_same_proxy(
    secure: Emulator, geojson: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
    monkeypatch.setenv(name, f"{proxy.scheme}://{proxy.address}")

    MapboxUploadsHook().upload(geojson, "points")
    with open_source(f"{secure.url}/") as source:
        assert source.head(5)

    said = "\n".join(proxy.heads)
    for url in (secure.url, secure.s3_url):
        assert f"127.0.0.1:{urlsplit(url).port}" in said
    assert secure.token not in said


@pytest.mark.slow
@pytest.mark.parametrize("bypassed", ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8,127.0.0.0/16", "*"])
def test_api_sources_and_s3_bypass_the_proxy_for_the_same_hosts(
    secure: Emulator, geojson: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, bypassed: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
    monkeypatch.setenv("ALL_PROXY", f"{proxy.scheme}://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", bypassed)

    MapboxUploadsHook().upload(geojson, "points")
    with open_source(f"{secure.url}/") as source:
        assert source.head(5)

    assert proxy.heads == []
