"""Addresses of the pages that show a tileset or an upload to a person."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

_MAPBOX = "mapbox.com"
# Mapbox's console, as of 2026. Older links begin with https://studio.mapbox.com/tilesets.
_CONSOLE = "https://console.mapbox.com/studio/tilesets"


def tileset_page(tileset: str, base_url: str) -> str:
    """
    Return the address of a tileset's page: in Mapbox's console, or on the emulator.

    :param tileset: ``account.name``.
    :param base_url: base URL of the API, as the client of the connection has it. Every host except Mapbox's own is
        taken for an emulator.
    :return: the address; empty if it would contain a user or a password.
    """
    if _is_mapbox(base_url):
        return f"{_CONSOLE}/{quote(tileset, safe='')}/"
    return _on_emulator(base_url, f"/tilesets/{quote(tileset, safe='')}")


def upload_page(upload_id: str, base_url: str) -> str:
    """
    Return the address of the page that shows the state of an upload. Only the emulator has one.

    :param upload_id: the upload.
    :param base_url: base URL of the API; see :func:`tileset_page`.
    :return: the address; empty at Mapbox, whose console has no page for one upload.
    """
    return "" if _is_mapbox(base_url) else _on_emulator(base_url, f"/#{quote(upload_id, safe='')}")


def _is_mapbox(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host == _MAPBOX or host.endswith(f".{_MAPBOX}")


def _on_emulator(base_url: str, path: str) -> str:
    parts = urlsplit(base_url)
    # The client refuses such a base URL. A link is shown to every user of Airflow, so it does not rely on that.
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        return ""
    return f"{base_url.rstrip('/')}{path}"
