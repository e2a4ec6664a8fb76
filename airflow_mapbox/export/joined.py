"""Join MBTiles files that several workers have made of one layer or of several."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_mapbox.billing.zooms import tier_of
from airflow_mapbox.errors import OptionError, UnreadableSourceError
from airflow_mapbox.export.atomic_file import link_target, publish, temporary_name
from airflow_mapbox.export.errors import NoSpaceError, TilerError
from airflow_mapbox.export.mbtiles import check_limits, check_size, sync_file
from airflow_mapbox.export.tiles.vectortile import merge_tiles
from airflow_mapbox.limits import TILE_BYTES

log = logging.getLogger(__name__)

# The tables and the view that tippecanoe makes: tiles of equal content are stored once.
_SCHEMA = """
CREATE TABLE metadata (name text, value text);
CREATE UNIQUE INDEX name ON metadata (name);
CREATE TABLE map (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_id BLOB);
CREATE TABLE images (zoom_level INTEGER, tile_data BLOB, tile_id BLOB);
CREATE UNIQUE INDEX images_id ON images (zoom_level, tile_id);
CREATE VIEW tiles AS SELECT map.zoom_level AS zoom_level, map.tile_column AS tile_column, map.tile_row AS tile_row,
    images.tile_data AS tile_data FROM map JOIN images ON images.tile_id = map.tile_id
    AND images.zoom_level = map.zoom_level;
"""
# Made at the end, which is faster.
_INDEX = "CREATE UNIQUE INDEX map_index ON map (zoom_level, tile_column, tile_row)"
_TILES = "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles ORDER BY zoom_level, tile_column, tile_row"
# The file is discarded after a failure, and synced before it gets its name.
_PRAGMAS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"

# Zoom, column, row, number of the part, content.
_Tile = tuple[int, int, int, int, bytes]


@dataclass(frozen=True)
class JoinReport:
    """
    The report of a joined tileset. Give it as the source of an upload to pass on the file's path and its bounds.

    :param path: the file.
    :param bytes: its size.
    :param sha256: its SHA-256 in hexadecimal.
    :param parts: number of joined files.
    :param layers: names of the source layers.
    :param minzoom: lowest zoom of the tiles.
    :param maxzoom: highest zoom of the tiles.
    :param tier: the price tier of that maxzoom (Mapbox pricing, "Tilesets").
    :param tiles: number of tiles.
    :param merged: number of tiles with features of several parts.
    :param largest_tile: bytes of the largest tile.
    :param bounds: west, south, east, north in degrees.
    """

    path: Path
    bytes: int
    sha256: str
    parts: int
    layers: tuple[str, ...]
    minzoom: int
    maxzoom: int
    tier: str
    tiles: int
    merged: int
    largest_tile: int
    bounds: tuple[float, float, float, float]

    def __str__(self) -> str:
        return (
            f"{self.parts:,} parts joined, {self.tiles:,} tiles of zoom {self.minzoom} to {self.maxzoom} "
            f"(tier {self.tier}), {self.merged:,} of them with features of several parts; "
            f"{self.bytes:,} bytes in {self.path}, SHA-256 {self.sha256}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types, small enough for an XCom."""
        return asdict(self) | {"path": str(self.path), "layers": list(self.layers), "bounds": list(self.bounds)}


def join_mbtiles(
    parts: Iterable[str | PathLike[str]], path: str | PathLike[str], *, name: str | None = None
) -> JoinReport:
    """
    Join vector tiles of several files into one tileset: a layer that is in several of them has the features of all.

    Nothing is dropped or simplified. Tiles that only one part has are copied. The file is complete or absent.

    :param parts: MBTiles files of the same minzoom and maxzoom, as :func:`~airflow_mapbox.export.write_mbtiles` makes
        them with ``minzoom=``, ``maxzoom=`` and the same ``name=``.
    :param path: the file. Missing folders above it are made, and an existing file is replaced.
    :param name: the name of the tileset; None takes the file's name without its extension.
    :return: the report, which is also logged in one line.
    :raises ValueError: if there are no parts.
    :raises UnreadableSourceError: if a part is missing or is not MBTiles.
    :raises TilerError: if parts have different zooms, or a joined tile is larger than Mapbox accepts.
    :raises EmptyExportError: if the parts have no tile.
    :raises NoSpaceError: if the disk is full.
    :raises TooLargeError: if the file is larger than Mapbox accepts as MBTiles.

    Example::

        for number, rows in enumerate(("west.parquet", "east.parquet")):
            write_mbtiles(rows, f"part-{number}.mbtiles", name="parcels", minzoom=8, maxzoom=13)
        report = join_mbtiles(["part-0.mbtiles", "part-1.mbtiles"], "parcels.mbtiles")
        print(report.tiles, report.merged)
    """
    target = Path(path)
    file = link_target(target.absolute())
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_Part(Path(part))) for part in parts]
        if not opened:
            raise OptionError("join_mbtiles got no parts: name at least one file.")
        metadata = _join_metadata(opened, name or target.stem)
        with temporary_name(file) as unfinished:
            try:
                count, merged, largest = _write(unfinished, opened, metadata)
            except sqlite3.OperationalError as error:
                if "disk is full" not in str(error):
                    raise
                raise NoSpaceError(f"There was no space left in {file.parent} for the tileset ({error}).") from None
            check_size(unfinished)
            sync_file(unfinished)
            report = _report(unfinished, target, opened, metadata, (count, merged, largest))
            publish(unfinished, file)
    log.info("%s", report)
    return report


class _Layer(msgspec.Struct):
    """The description of a layer in TileJSON 3.0, section 3.3."""

    id: str
    fields: dict[str, str] = {}  # msgspec copies it
    description: str | None = None
    minzoom: int | None = None
    maxzoom: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class _Layers(msgspec.Struct):
    """The row `json` of the metadata of MBTiles."""

    vector_layers: list[_Layer]


class _Part:
    """
    A file to join, opened for reading.

    :param path: the file.
    :raises UnreadableSourceError: if it is missing or is not MBTiles of vector tiles.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UnreadableSourceError(
                f"The part {path} does not exist on this machine.\nWrite all parts to a folder that all workers share."
            )
        self._db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            self.metadata: dict[str, str] = dict(self._db.execute("SELECT name, value FROM metadata"))
            self.zooms = int(self.metadata["minzoom"]), int(self.metadata["maxzoom"])
            west, south, east, north = map(float, self.metadata["bounds"].split(","))
            self.layers = msgspec.json.decode(self.metadata["json"], type=_Layers).vector_layers
        except (sqlite3.Error, msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
            self._db.close()
            raise self._unreadable(error) from None
        self.bounds = west, south, east, north

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def tiles(self, number: int) -> Iterator[_Tile]:
        """
        Yield the tiles in the order of their zoom, column and row.

        :param number: the number of this part.
        """
        try:
            for zoom, column, row, data in self._db.execute(_TILES):
                yield zoom, column, row, number, data
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> UnreadableSourceError:
        return UnreadableSourceError(
            f"The part {self.path} is not MBTiles of vector tiles ({type(error).__name__}: {error}).\n"
            "Make it with write_mbtiles."
        )


def _join_metadata(parts: list[_Part], name: str) -> dict[str, str]:
    """Return the metadata of the joined tileset."""
    first = parts[0]
    for part in parts:
        if part.zooms != first.zooms:
            raise TilerError(
                f"{part.path} has zooms {part.zooms[0]} to {part.zooms[1]}, {first.path} has {first.zooms[0]} to "
                f"{first.zooms[1]}: features of one would be missing at some zooms.\n"
                "Make all parts with the same minzoom= and maxzoom=."
            )
    west, south, east, north = zip(*(part.bounds for part in parts), strict=True)
    bounds = min(west), min(south), max(east), max(north)
    return {
        "name": name,
        "description": name,
        "version": "2",
        "minzoom": str(first.zooms[0]),
        "maxzoom": str(first.zooms[1]),
        "bounds": ",".join(map(str, bounds)),
        "type": "overlay",
        "format": "pbf",
        "json": json.dumps({"vector_layers": _join_layers(parts)}, separators=(",", ":")),
    }


def _join_layers(parts: list[_Part]) -> list[dict[str, Any]]:
    """Return the description of each layer, with the attributes of all parts."""
    joined: dict[str, _Layer] = {}
    for part in parts:
        for layer in part.layers:
            known = joined.setdefault(layer.id, msgspec.structs.replace(layer, fields={}))
            for field, kind in layer.fields.items():
                # tippecanoe's word for an attribute with several types.
                known.fields[field] = kind if known.fields.get(field, kind) == kind else "Mixed"
            known.minzoom = min(_known(known.minzoom, layer.minzoom), default=None)
            known.maxzoom = max(_known(known.maxzoom, layer.maxzoom), default=None)
    return [layer.to_json() for layer in joined.values()]


def _known(*zooms: int | None) -> list[int]:
    return [zoom for zoom in zooms if zoom is not None]


def _write(file: Path, parts: list[_Part], metadata: dict[str, str]) -> tuple[int, int, int]:
    """Write the tileset, and return the number of tiles, the number of merged tiles, and the bytes of the largest."""
    count = merged = largest = 0
    # Private until it gets its name.
    file.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.executescript(_PRAGMAS + _SCHEMA)
        db.execute("BEGIN")
        db.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
        tiles = heapq.merge(*(part.tiles(number) for number, part in enumerate(parts)))
        for address, same in itertools.groupby(tiles, itemgetter(0, 1, 2)):
            data, sources = _join_tile(list(same), parts)
            tile_id = hashlib.blake2b(data, digest_size=16).digest()  # short, because it is stored three times
            db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (address[0], data, tile_id))
            db.execute("INSERT INTO map VALUES (?, ?, ?, ?)", (*address, tile_id))
            count, merged, largest = count + 1, merged + (sources > 1), max(largest, len(data))
        db.execute(_INDEX)
        db.execute("COMMIT")
        check_limits(db, count, largest)
    return count, merged, largest


def _join_tile(tiles: list[_Tile], parts: list[_Part]) -> tuple[bytes, int]:
    """Return the content of a tile, and the number of parts that it comes from."""
    if len(tiles) == 1:
        return tiles[0][4], 1
    zoom, column, row = tiles[0][:3]
    address = f"{zoom}/{column}/{(1 << zoom) - 1 - row}"  # MBTiles counts rows from the south
    try:
        data = merge_tiles(tile[4] for tile in tiles)
    except (OSError, EOFError, zlib.error, IndexError, KeyError) as error:
        paths = ", ".join(str(parts[tile[3]].path) for tile in tiles)
        raise UnreadableSourceError(
            f"Tile {address} of {paths} cannot be read ({type(error).__name__}: {error}).\nMake the parts again."
        ) from None
    if len(data) > TILE_BYTES:
        raise TilerError(
            f"Tile {address} of {len(tiles)} joined parts has {len(data):,} bytes; Mapbox accepts at most "
            f"{TILE_BYTES:,}.\nMake all parts with a higher minzoom= than {zoom}, or with fewer "
            "attributes, or let each part cover an area of its own."
        )
    return data, len(tiles)


def _report(
    file: Path, target: Path, parts: list[_Part], metadata: dict[str, str], counts: tuple[int, int, int]
) -> JoinReport:
    """
    Build the report.

    :param file: the file, under its temporary name.
    :param target: its final name.
    """
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    minzoom, maxzoom = parts[0].zooms
    west, south, east, north = map(float, metadata["bounds"].split(","))
    layers = tuple(layer["id"] for layer in json.loads(metadata["json"])["vector_layers"])
    return JoinReport(
        path=target,
        bytes=file.stat().st_size,
        sha256=sha256,
        parts=len(parts),
        layers=layers,
        minzoom=minzoom,
        maxzoom=maxzoom,
        tier=tier_of(maxzoom),
        tiles=counts[0],
        merged=counts[1],
        largest_tile=counts[2],
        bounds=(west, south, east, north),
    )
