"""Export geodata as vector tiles in an MBTiles file, for more data than Mapbox accepts as GeoJSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from airflow_mapbox.billing.zooms import tier_of
from airflow_mapbox.errors import ExportError, OptionError
from airflow_mapbox.export.area_zooms import NO_AREA, AreaZooms
from airflow_mapbox.export.atomic_file import link_target, publish, temporary_name
from airflow_mapbox.export.bills import tileset_bill
from airflow_mapbox.export.errors import EmptyExportError, NoSpaceError, TilerError, TooLargeError
from airflow_mapbox.export.geojson import GeoJSONStream, stream_geojson
from airflow_mapbox.export.options import MBTILES_LIMIT_BYTES, GeoJSONKeywords, Tier
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport
from airflow_mapbox.export.tiles.space import TemporarySpace, temporary_folder
from airflow_mapbox.export.tiles.tippecanoe import tile
from airflow_mapbox.export.tiles.vectortile import distinct_features
from airflow_mapbox.limits import MBTILES_BYTES, METADATA_BYTES, TIER_MAXZOOM, TILE_BYTES
from airflow_mapbox.sources.temporary import scratch_folder

log = logging.getLogger(__name__)

# The source of a source layer, alone or with options of its own.
LayerSource: TypeAlias = "ExportSource | tuple[ExportSource, GeoJSONKeywords]"

_UNITS_PER_TILE = 4096  # along its edge: tippecanoe's --full-detail=12
_EARTH_RADIUS_METRES = 6_378_137  # of Web Mercator
# Control characters, and surrogates, which UTF-8 cannot encode.
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# tippecanoe writes its command line into these, with local paths.
_METADATA_WITH_PATHS = ("generator_options", "generator")
# Options that read only a part of a source.
_SELECTING_OPTIONS = ("layer", "where", "columns", "bbox")


@dataclass(frozen=True)
class TilesetReport(ExportReport):
    """
    The report of an export to vector tiles: an :class:`ExportReport` with further fields.

    :param layers: names of the source layers.
    :param minzoom: lowest zoom of the tiles.
    :param maxzoom: highest zoom of the tiles.
    :param tier: the price tier of that maxzoom (Mapbox pricing, "Tilesets").
    :param tiles: number of tiles.
    :param largest_tile: bytes of the largest tile.
    :param geojson_bytes: bytes of GeoJSON that tippecanoe read.
    :param incomplete: geometries that are missing in the tiles of the maxzoom. They are smaller than a tile's unit, or
        a tile had too much data.
    """

    layers: tuple[str, ...]
    minzoom: int
    maxzoom: int
    tier: str
    tiles: int
    largest_tile: int
    geojson_bytes: int
    incomplete: int

    def __str__(self) -> str:
        return f"{super().__str__()} {self.tiles:,} tiles of zoom {self.minzoom} to {self.maxzoom} (tier {self.tier})."

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types, small enough for an XCom."""
        names = ("minzoom", "maxzoom", "tier", "tiles", "largest_tile", "geojson_bytes", "incomplete")
        return super().to_json() | {"layers": list(self.layers)} | {name: getattr(self, name) for name in names}


def write_mbtiles(
    source: ExportSource | Mapping[str, LayerSource],
    path: str | PathLike[str],
    *,
    name: str | None = None,
    minzoom: int = 0,
    maxzoom: int | None = None,
    tier: Tier | None = None,
    temporary_directory: str | PathLike[str] | None = None,
    **keywords: Unpack[GeoJSONKeywords],
) -> TilesetReport:
    """
    Export geodata to vector tiles with tippecanoe, which reads the features while the export makes them.

    The file is complete or absent: it gets its name when it is written completely.

    :param source: a source as :func:`~airflow_mapbox.export.stream_geojson` takes it, or a mapping of source layers by
        name. A source in a mapping can have options of its own: ``("city.gpkg", {"layer": "roads"})``.
    :param path: the file. Missing folders above it are made, and an existing file is replaced.
    :param name: the name of the tileset. If there is only one source, also the name of its layer. None takes the file's
        name without its extension.
    :param minzoom: the lowest zoom with tiles, 0 to 22.
    :param maxzoom: the highest zoom, 0 to 22. If neither it nor ``tier`` is set, it is guessed from the distances
        between features.
    :param tier: the price tier whose highest zoom is the maxzoom, or limits a ``maxzoom`` that is set. The zooms are 5
        for ``"free"``, 10 for ``"10m"``, 13 for ``"1m"``, 16 for ``"30cm"`` and 22 for ``"1cm"`` (Mapbox pricing,
        "Tilesets"). An area costs the same at each zoom of a tier, and coordinates are most precise at the highest.
    :param temporary_directory: an existing folder for tippecanoe's temporary files, which are about as large as the
        features in GeoJSON. None takes the system's temporary folder.
    :param keywords: the options of :func:`~airflow_mapbox.export.stream_geojson`, for each source that does not have
        the same option of its own. ``limit_bytes`` is None by default.
    :return: the report, which is also logged in one line.
    :raises ValueError: for invalid zooms, an unknown tier, a layer's name that no style could use, and the errors of
        :func:`~airflow_mapbox.export.stream_geojson`.
    :raises TilerError: if tippecanoe is not installed or fails, the temporary directory is missing, or counts differ.
    :raises NoSpaceError: if there is too little temporary space.
    :raises TooLargeError: if the file is larger than Mapbox accepts as MBTiles (Uploads API, "Restrictions and
        limits").
    :raises ExportError: the errors of :func:`~airflow_mapbox.export.stream_geojson`. The message names the layer if
        there are several.

    Example::

        report = write_mbtiles({"parcels": "parcels.parquet", "trees": trees}, "city.mbtiles", tier="1m")
        print(report.maxzoom, report.tiles, report.incomplete)
    """
    target = Path(path)
    sources = dict(source) if isinstance(source, Mapping) else {name or target.stem: source}
    keywords.setdefault("limit_bytes", MBTILES_LIMIT_BYTES)
    layers = {layer: _with_options(layer_source, keywords) for layer, layer_source in sources.items()}
    streams = {layer: stream_geojson(data, **options) for layer, (data, options) in layers.items()}
    zooms = check_zooms(minzoom, maxzoom, tier)
    with Features(streams, AreaZooms.of_tileset(zooms[1])) as features:
        return tile_features(
            features,
            target,
            name=name or target.stem,
            zooms=zooms,
            temporary=temporary_folder(temporary_directory),
            source_bytes=sum(_source_bytes(data) for data, _ in layers.values()),
            selected=any(
                options.get(option) is not None for _, options in layers.values() for option in _SELECTING_OPTIONS
            ),
        )


def _with_options(layer: LayerSource, common: GeoJSONKeywords) -> tuple[ExportSource, GeoJSONKeywords]:
    """Return the source of a layer and its options. A tuple may also be an iterable of frames."""
    if isinstance(layer, tuple) and len(layer) == 2 and isinstance(layer[1], Mapping):
        source, options = layer
        return source, {**common, **options}
    return layer, common


def _check_names(layers: Iterable[object]) -> None:
    """Refuse names that cannot be those of source layers: tippecanoe ignores an empty one, and cuts one at a NUL."""
    names = list(layers)
    if not names:
        raise OptionError("source={}: name at least one layer.")
    for name in names:
        if not isinstance(name, str) or not name.strip() or _NOT_IN_NAMES.search(name):
            raise OptionError(
                f"{name!r} cannot be the name of a source layer: styles refer to it by a string of visible characters."
            )


def check_zooms(minzoom: int, maxzoom: int | None, tier: Tier | None) -> tuple[int, int | None]:
    """
    Check zooms, and return the lowest and the highest one; None if the highest is to be guessed.

    :param minzoom: the lowest zoom.
    :param maxzoom: the highest zoom, or None.
    :param tier: the tier whose highest zoom is the maxzoom, or limits a ``maxzoom`` that is set; or None.
    :raises ValueError: for an unknown tier, or a zoom that is out of range.
    """
    if tier is not None and tier not in TIER_MAXZOOM:
        raise OptionError(f"tier={tier!r} is not {' or '.join(map(repr, TIER_MAXZOOM))}.")
    ceiling = 22 if tier is None else TIER_MAXZOOM[tier]
    highest = maxzoom if maxzoom is not None or tier is None else ceiling
    for name, zoom in (("minzoom", minzoom), ("maxzoom", highest)):
        if zoom is not None and not 0 <= zoom <= ceiling:
            raise OptionError(
                f"{name}={zoom} is not from 0 to {ceiling}" + (f", the zooms of tier {tier}." if tier else ".")
            )
    if highest is not None and minzoom > highest:
        raise OptionError(f"minzoom={minzoom} is above the maxzoom, {highest}.")
    return minzoom, highest


class Features:
    """
    The features of all layers, line by line: an iterator of chunks that closes its streams.

    :param layers: streams by source layer.
    :param area_zooms: the zooms whose tiles are collected for the bill.
    :raises ValueError: for a name that no style could use, and if there is no layer.
    """

    def __init__(self, layers: Mapping[str, GeoJSONStream], area_zooms: AreaZooms = NO_AREA) -> None:
        _check_names(layers)
        self.layers = layers
        self._area_zooms = area_zooms
        self.bytes = 0

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.layers.values():
            stream.close()

    def __iter__(self) -> Iterator[bytes]:
        for layer, stream in self.layers.items():
            # tippecanoe reads the layer of a feature from this member.
            extra = b'"tippecanoe":%s,' % json.dumps({"layer": layer}).encode() if len(self.layers) > 1 else b""
            try:
                for chunk in stream.lines(extra, self._area_zooms):
                    self.bytes += len(chunk)
                    yield chunk
            except ExportError as error:
                if extra:
                    error.args = (f"Source layer {layer!r}: {error}",)
                raise

    def reports(self) -> list[ExportReport]:
        """Return the report of each layer, after the last chunk."""
        return [stream.report for stream in self.layers.values()]


def tile_features(
    features: Features,
    target: Path,
    *,
    name: str,
    zooms: tuple[int, int | None],
    temporary: Path | None,
    source_bytes: int,
    selected: bool = False,
) -> TilesetReport:
    """
    Tile features, check the result by Mapbox's rules, and publish the file.

    :param features: the features of all layers.
    :param target: the file.
    :param name: the name of the tileset.
    :param zooms: the lowest zoom, and the highest or None.
    :param temporary: an existing folder for temporary files, or None.
    :param source_bytes: size of the sources, as far as it is known.
    :param selected: whether only a part of the sources is read.
    :raises ExportError: the errors of :func:`write_mbtiles`.
    """
    file = link_target(target.absolute())
    with temporary_name(file) as unfinished, scratch_folder(temporary) as folder:
        space = TemporarySpace(folder)
        space.check_before(source_bytes, selected=selected)
        read = tile(
            space.watched(features),
            unfinished,
            layer=next(iter(features.layers)),
            minzoom=zooms[0],
            maxzoom=zooms[1],
            temporary=folder,
        )
        # tippecanoe makes a feature of each member of a collection.
        geometries = sum(report.geometries for report in features.reports())
        if read != geometries:
            raise TilerError(f"tippecanoe read {read:,} of {geometries:,} geometries: its output was deleted.")
        try:
            tiles = _check_tiles(unfinished, name, geometries)
        except sqlite3.OperationalError as error:
            if "disk is full" not in str(error):
                raise
            raise NoSpaceError(f"There was no space left in {file.parent} for the tileset ({error}).") from None
        notes = list(_notes(tiles, guessed=zooms[1] is None))
        report = _tileset_report(features, tiles, unfinished, target, notes)
        sync_file(unfinished)
        publish(unfinished, file)
    log.info("Exported %s", report)
    return report


def _source_bytes(source: object) -> int:
    """Return the size of a local file or of a frame; 0 for other sources."""
    with contextlib.suppress(TypeError, ValueError, OSError):
        return Path(source).stat().st_size  # type: ignore[arg-type]
    memory = getattr(source, "memory_usage", None)
    return int(memory(index=False).sum()) if memory is not None else 0


@dataclass(frozen=True)
class _Tiles:
    """What is in an MBTiles file, apart from the features' own report."""

    minzoom: int
    maxzoom: int
    count: int
    largest_bytes: int
    incomplete: int
    strategies: str


def _check_tiles(file: Path, name: str, geometries: int) -> _Tiles:
    """
    Remove local paths from an MBTiles file, and check it by Mapbox's rules.

    :param file: the file.
    :param name: the name of the tileset.
    :param geometries: number of geometries that tippecanoe has read.
    """
    with contextlib.closing(sqlite3.connect(file)) as db:
        metadata = dict(db.execute("SELECT name, value FROM metadata"))
        count, largest = db.execute("SELECT count(*), max(length(tile_data)) FROM tiles").fetchone()
        _clean_metadata(db, name)
        check_limits(db, count, largest)
        maxzoom = int(metadata["maxzoom"])
        incomplete = geometries - _geometries_at(db, maxzoom, geometries)
    check_size(file)
    return _Tiles(int(metadata["minzoom"]), maxzoom, count, largest, incomplete, metadata.get("strategies", "[]"))


def _tileset_report(features: Features, tiles: _Tiles, file: Path, target: Path, notes: list[str]) -> TilesetReport:
    """
    Combine the reports of all layers with what is in the tiles.

    :param file: the file, under its temporary name.
    :param target: its final name.
    :param notes: notes on the tiles.
    """
    reports = features.reports()
    size = file.stat().st_size
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    accuracies = [report.accuracy for report in reports]
    west, south, east, north = zip(*(report.bounds for report in reports), strict=True)
    return TilesetReport(
        path=target,
        bytes=size,
        sha256=sha256,
        features_read=sum(report.features_read for report in reports),
        features=sum(report.features for report in reports),
        geometries=sum(report.geometries for report in reports),
        dropped=_sum_counts([report.dropped for report in reports]),
        changed=_sum_counts([report.changed for report in reports]),
        crs_from=tuple(dict.fromkeys(crs for report in reports for crs in report.crs_from)),
        crs_to=reports[0].crs_to,
        accuracy=None if None in accuracies else max(accuracy for accuracy in accuracies if accuracy is not None),
        edge_error=max(report.edge_error for report in reports),
        bounds=(min(west), min(south), max(east), max(north)),
        fields=tuple(dict.fromkeys(name for report in reports for name in report.fields)),
        notes=(*dict.fromkeys(note for report in reports for note in report.notes), *notes),
        bill=tileset_bill([stream.cover for stream in features.layers.values()], tiles.maxzoom, size),
        layers=tuple(features.layers),
        minzoom=tiles.minzoom,
        maxzoom=tiles.maxzoom,
        tier=tier_of(tiles.maxzoom),
        tiles=tiles.count,
        largest_tile=tiles.largest_bytes,
        geojson_bytes=features.bytes,
        incomplete=tiles.incomplete,
    )


def _geometries_at(db: sqlite3.Connection, zoom: int, geometries: int) -> int:
    """Count the geometries in the tiles of a zoom."""
    rows = db.execute("SELECT tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
    return distinct_features((data for (data,) in rows), geometries)


def _notes(tiles: _Tiles, *, guessed: bool) -> Iterator[str]:
    """
    Yield notes on the tiles for the report.

    :param guessed: whether tippecanoe guessed the maxzoom.
    """
    unit = _unit_length(tiles.maxzoom)
    if guessed:
        yield (
            f"The maxzoom {tiles.maxzoom} is a guess from the distances between features. Coordinates are rounded to a "
            f"tile's unit there ({unit}). With a higher maxzoom= or tier= they are more precise."
        )
    if tiles.incomplete:
        thinned = any(level.get("dropped_as_needed") for level in json.loads(tiles.strategies)[-1:])
        reasons = [f"are smaller there than a tile's unit ({unit})"]
        if thinned:
            reasons.append(f"would have made tiles of over {TILE_BYTES:,} bytes")
        yield (
            f"{tiles.incomplete:,} geometries are missing in tiles of zoom {tiles.maxzoom}, because they "
            f"{' or '.join(reasons)}: raise maxzoom={', or write fewer attributes' if thinned else ''}."
        )


def _unit_length(zoom: int) -> str:
    """Return the length of a unit of a zoom's tiles at the equator, where it is longest."""
    metres = 2 * math.pi * _EARTH_RADIUS_METRES / 2**zoom / _UNITS_PER_TILE
    return f"{metres:,.0f} m at the equator" if metres >= 10 else f"{metres:.2g} m at the equator"


def _sum_counts(counts: list[Mapping[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for layer in counts for key in layer)
    return {key: sum(layer.get(key, 0) for layer in counts) for key in keys}


def _clean_metadata(db: sqlite3.Connection, name: str) -> None:
    """Remove local paths from the metadata, and set the name."""
    with db:
        # Otherwise the bytes of a deleted row stay in the file.
        db.execute("PRAGMA secure_delete = ON")
        db.executemany("DELETE FROM metadata WHERE name = ?", [(key,) for key in _METADATA_WITH_PATHS])
        db.execute("UPDATE metadata SET value = ? WHERE name IN ('name', 'description')", (name,))


def check_size(file: Path) -> None:
    """
    Check Mapbox's limit for the size of MBTiles.

    :param file: the file.
    :raises TooLargeError: if it is larger.
    """
    size = file.stat().st_size
    if size > MBTILES_BYTES:
        raise TooLargeError(
            f"The tileset has {size:,} bytes; Mapbox accepts MBTiles of at most {MBTILES_BYTES:,}.\n"
            "Lower the maxzoom, or write fewer attributes."
        )


def check_limits(db: sqlite3.Connection, tiles: int, largest: int | None) -> None:
    """
    Check Mapbox's limits for the content of MBTiles (docs/reference/limits.md, "Sizes").

    :param db: the file.
    :param tiles: number of tiles.
    :param largest: bytes of the largest tile.
    :raises EmptyExportError: if there is no tile.
    :raises TilerError: if a tile or the metadata is too large.
    """
    if not tiles:
        raise EmptyExportError("The features made no tile.\nMapbox refuses an empty tileset: check maxzoom=.")
    if largest is not None and largest > TILE_BYTES:
        raise TilerError(
            f"A tile has {largest:,} bytes; Mapbox accepts at most {TILE_BYTES:,}.\nWrite fewer attributes."
        )
    size = sum(len(str(part).encode()) for row in db.execute("SELECT name, value FROM metadata") for part in row)
    if size > METADATA_BYTES:
        raise TilerError(
            f"The names of attributes and layers make {size:,} bytes of metadata; Mapbox accepts at most "
            f"{METADATA_BYTES:,}.\nChoose fewer with columns=."
        )


def sync_file(path: Path) -> None:
    """
    Write a file to its disk, so that it survives a power cut.

    :param path: the file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
