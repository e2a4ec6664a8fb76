"""Run the hook's methods as ``airflow mapbox tilesets``: a table for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_mapbox.cli.running import command
from airflow_mapbox.cli.tables import print_table
from airflow_mapbox.errors import NotFoundError, OptionError, TokenRejectedError
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.models import TileJson, Tileset
from airflow_mapbox.tilesets.report import TilesetTotals, tileset_row
from airflow_mapbox.uploads.links import tileset_page

if TYPE_CHECKING:
    from argparse import Namespace


@command("tilesets list")
def list_tilesets(args: Namespace) -> None:
    """List the account's tilesets, with the totals."""
    client = _client(args)
    listed = client.list_tilesets(type=args.type, visibility=args.visibility, sortby=args.sort, match=args.match)
    old = (each for each in listed if args.older_than is None or each.is_older_than(args.older_than, _now(client)))
    tilesets = list(old if args.limit is None else islice(old, max(0, args.limit)))
    if args.json:
        print(json.dumps([_to_json(tileset, client) for tileset in tilesets]))
        return
    _print_tilesets(tilesets, client)
    print(TilesetTotals.of(tilesets))


@command("tilesets show")
def show(args: Namespace) -> None:
    """Show one tileset, with its layers and zooms."""
    client = _client(args)
    tileset = client.get_tileset(args.tileset)
    tilejson, note = _tilejson(client, tileset)
    if args.json:
        print(json.dumps(_to_json(tileset, client) | {"tilejson": None if tilejson is None else tilejson.to_json()}))
        return
    _print_tilesets([tileset], client)
    if tilejson is not None:
        print_table([{"fact": name, "value": value} for name, value in _facts(tilejson)])
    if note:
        print(note)
    print(tileset_page(tileset.id, client.base_url))


@command("tilesets delete")
def delete(args: Namespace) -> None:
    """Delete tilesets, after a confirmation."""
    client = _client(args)
    wanted = _own_ids(client, args.tilesets)
    if not args.yes and not _confirm(client, wanted, args):
        print("Nothing was deleted.")
        raise SystemExit(1)
    results: dict[str, list[str]] = {"deleted": [], "gone": []}
    with _printed_at_the_end(results, args):
        for tileset in wanted:
            was_there = client.delete_tileset(tileset)
            results["deleted" if was_there else "gone"].append(tileset)
            if not args.json:
                print(f"Deleted {tileset}." if was_there else f"{tileset} is gone already.")


@command("tilesets publish")
def publish(args: Namespace) -> None:
    """Make tilesets public."""
    _set_visibility(args, private=False)


@command("tilesets unpublish")
def unpublish(args: Namespace) -> None:
    """Make tilesets private."""
    _set_visibility(args, private=True)


def _set_visibility(args: Namespace, *, private: bool) -> None:
    client = _client(args)
    visibility = "private" if private else "public"
    results: dict[str, list[str]] = {visibility: []}
    with _printed_at_the_end(results, args):
        for tileset in _own_ids(client, args.tilesets):
            client.update_tileset(tileset, private=private)
            results[visibility].append(tileset)
            if not args.json:
                print(f"{tileset} is {visibility} now.")


def _client(args: Namespace) -> TilesetsClient:
    return MapboxTilesetsHook(args.mapbox_conn_id).get_conn()


def _own_ids(client: TilesetsClient, tilesets: Sequence[str]) -> list[str]:
    """Return the ids without repetitions. All are checked before the first is changed."""
    return list(dict.fromkeys(map(client.own_id, tilesets)))


def _confirm(client: TilesetsClient, wanted: Sequence[str], args: Namespace) -> bool:
    """Show what would be deleted, and ask."""
    if args.json or not sys.stdin.isatty():
        raise OptionError("Nothing was deleted: without a terminal, the command cannot ask.\nAdd --yes to delete.")
    missing = {tileset.lower() for tileset in wanted}
    found = []
    for tileset in client.list_tilesets():
        if tileset.id.lower() in missing:
            found.append(tileset)
            missing.discard(tileset.id.lower())
        if not missing:
            break
    for identifier in wanted:
        if identifier.lower() in missing:
            print(f"{identifier} is not in the account's list.")
    if not found:
        return False
    _print_tilesets(found, client)
    print(TilesetTotals.of(found))
    print("Maps that use them lose their data. This cannot be undone.")
    try:
        return input("Delete? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False


@contextmanager
def _printed_at_the_end(results: dict[str, list[str]], args: Namespace) -> Iterator[None]:
    """Print the results as JSON, also those from before an error."""
    try:
        yield
    finally:
        if args.json:
            print(json.dumps(results))


def _tilejson(client: TilesetsClient, tileset: Tileset) -> tuple[TileJson | None, str]:
    """Return the TileJSON, or None and why there is none."""
    try:
        return client.get_tilejson(tileset.id), ""
    except (NotFoundError, TokenRejectedError) as error:
        return None, f"Its layers and zooms cannot be read. {error}"


def _facts(tilejson: TileJson) -> list[tuple[str, str]]:
    bounds = tilejson.bounds
    facts = [
        ("zooms", f"{_or_unknown(tilejson.minzoom)} to {_or_unknown(tilejson.maxzoom)}"),
        ("bounds", "unknown" if bounds is None else ", ".join(f"{value:g}" for value in bounds)),
    ]
    for layer in tilejson.vector_layers:
        facts.append((f"layer {layer.id}", ", ".join(f"{name} ({kind})" for name, kind in layer.fields.items())))
    return facts


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _print_tilesets(tilesets: Sequence[Tileset], client: TilesetsClient) -> None:
    now = _now(client)
    print_table([tileset_row(tileset, now) for tileset in tilesets])


def _now(client: TilesetsClient) -> datetime:
    return datetime.fromtimestamp(client.server_now(), UTC)


def _to_json(tileset: Tileset, client: TilesetsClient) -> dict[str, Any]:
    return tileset.to_json() | {"tileset_url": tileset_page(tileset.id, client.base_url)}
