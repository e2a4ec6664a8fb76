"""The emulator's own HTML pages: the list of uploads and tilesets, and a page for each tileset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from airflow_mapbox.emulator.figures import precision
from airflow_mapbox.emulator.mbtiles import TilesetFacts
from airflow_mapbox.emulator.store import timestamp
from airflow_mapbox.emulator.tilesets import Tileset

# Under the control endpoint, which other machines cannot reach.
DELETE_PATH = "/_emulator/tilesets/{}/delete"

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%;margin:0 0 2rem}"
    "th,td{border-bottom:1px solid #d0d7de;padding:.35rem .6rem;text-align:left;vertical-align:top}"
    "code{font-family:ui-monospace,monospace}progress{width:8rem}.error{color:#b42318}"
    "#map{height:30rem;border:1px solid #d0d7de;border-radius:4px}"
    "#beside{display:grid;grid-template-columns:1fr 20rem;gap:1rem;margin-bottom:2rem}"
    "#beside aside{max-height:30rem;overflow:auto;font-size:13px}#layers label{display:block}"
    ".swatch{display:inline-block;width:.8em;height:.8em;margin:0 .4em;border-radius:2px}"
)


def page(title: str, body: str, *, head: str = "", foot: str = "") -> str:
    """Return a complete HTML page.

    :param title: plain text.
    :param body: HTML; the part that ``live.js`` refreshes.
    :param head: HTML of styles and scripts to load first.
    :param foot: HTML of scripts to load last.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>"
        f"{head}<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><main>{body}</main>{foot}</body></html>"
    )


def home_page(
    account: str, uploads: Sequence[Mapping[str, object]], tilesets: Sequence[Tileset], *, may_delete: bool
) -> str:
    """Return the page with the lists of tilesets and uploads.

    :param uploads: upload objects of the API, newest first.
    :param may_delete: show a button that deletes, for each tileset.
    """
    published = {tileset.id for tileset in tilesets}
    return page(
        f"Mapbox Uploads emulator: {account}",
        "<h2>Tilesets</h2>"
        + _table(
            ("tileset", "name", "visibility", "bytes", "modified", ""),
            (
                (
                    _tileset_link(tileset.id),
                    escape(tileset.name),
                    tileset.visibility,
                    f"{tileset.filesize:,}",
                    escape(timestamp(tileset.modified)),
                    _delete_button(tileset.id) if may_delete else "",
                )
                for tileset in tilesets
            ),
        )
        + "<h2>Uploads</h2>"
        + _table(
            ("upload", "tileset", "name", "created", "state"),
            (
                (
                    f'<code id="{escape(str(upload["id"]))}">{escape(str(upload["id"]))}</code>',
                    _tileset_link(str(upload["tileset"]))
                    if upload["tileset"] in published
                    else escape(str(upload["tileset"])),
                    escape(str(upload["name"] or "")),
                    escape(str(upload["created"])),
                    _state(upload),
                )
                for upload in uploads
            ),
        ),
        foot='<script type="module" src="/static/live.js"></script>',
    )


def tileset_page(tileset: Tileset, facts: TilesetFacts, *, may_delete: bool) -> str:
    """Return a tileset's page, with a map of its tiles.

    :param may_delete: show a button that deletes the tileset.
    """
    about = _table(
        ("", ""),
        (
            ("name", escape(tileset.name)),
            ("description", escape(tileset.description)),
            ("visibility", tileset.visibility),
            ("created", escape(timestamp(tileset.created))),
            ("modified", escape(timestamp(tileset.modified))),
            ("format", escape(facts.format)),
            ("bounds", escape(", ".join(f"{number:g}" for number in facts.bounds))),
            ("zooms", f"{facts.minzoom} to {facts.maxzoom}"),
            ("features", _feature_count(facts)),
            ("tiles", f"{sum(facts.tiles.values()):,}, {tileset.filesize:,} bytes"),
            ("price tier", price_tier(facts.maxzoom, is_tiff=facts.is_tiff)),
            ("TileJSON", f'<a href="/tilesets/{escape(tileset.id)}.json">/tilesets/{escape(tileset.id)}.json</a>'),
        ),
    )
    zooms = _table(("zoom", "tiles"), ((str(zoom), str(count)) for zoom, count in facts.tiles.items()))
    layers = _table(
        ("layer", "features", "field", "type"),
        (
            (
                escape(str(layer.get("id", ""))),
                _count(facts, str(layer.get("id", ""))),
                escape(str(name)),
                escape(str(kind)),
            )
            for layer in facts.vector_layers
            for name, kind in (_fields(layer) or {"": ""}).items()
        ),
    )
    button = _delete_button(tileset.id) if may_delete else ""
    return page(
        tileset.id,
        f'<p><a href="/">All tilesets</a></p>{_map(tileset.id)}{about}{button}'
        f"<h2>Tiles</h2>{zooms}<h2>Layers</h2>{layers}",
        head='<link rel="stylesheet" href="/static/maplibre-gl.css">',
        foot=MAP_SCRIPTS,
    )


MAP_SCRIPTS = '<script src="/static/maplibre-gl.js"></script><script type="module" src="/static/map.js"></script>'


def price_tier(maxzoom: int, *, is_tiff: bool) -> str:
    """Return the precision that Mapbox bills for a tileset.

    :param is_tiff: whether the tileset was made from a TIFF.
    """
    return re.sub(r"(?<=\d)(?=c?m)", " ", precision(maxzoom, is_tiff=is_tiff))


def _feature_count(facts: TilesetFacts) -> str:
    if facts.features is not None:
        return f"{sum(facts.features.values()):,}"
    return "not counted in the file" if facts.format == "pbf" else "none: an image"


def _count(facts: TilesetFacts, layer: str) -> str:
    return f"{facts.features[layer]:,}" if facts.features is not None and layer in facts.features else ""


def _map(tileset_id: str) -> str:
    return (
        f'<div id="beside"><div id="map" data-tilejson="/tilesets/{escape(tileset_id)}.json"></div>'
        '<aside><p>Zoom <span id="zoom"></span></p><div id="layers"></div><table id="attributes"></table></aside></div>'
    )


def _fields(layer: Mapping[str, object]) -> Mapping[object, object]:
    fields = layer.get("fields")
    return fields if isinstance(fields, dict) else {}


def _tileset_link(tileset_id: str) -> str:
    return f'<a href="/tilesets/{escape(tileset_id)}">{escape(tileset_id)}</a>'


def _delete_button(tileset_id: str) -> str:
    return (
        f'<form method="post" action="{DELETE_PATH.format(escape(tileset_id))}"'
        " onsubmit=\"return confirm('Delete this tileset and its tiles?')\"><button>Delete</button></form>"
    )


def _state(upload: Mapping[str, object]) -> str:
    if upload["error"] is not None:
        return f'<span class="error">{escape(str(upload["error"]))}</span>'
    if upload["complete"]:
        return "complete"
    share = float(str(upload["progress"]))
    return f'<progress value="{share:.2f}"></progress> {share:.0%}'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return "<p>None yet.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
