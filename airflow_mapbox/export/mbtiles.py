"""Geodata as vector tiles: an MBTiles file that Mapbox takes, for what is more than GeoJSON may have."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from airflow_mapbox.errors import ExportError, OptionError
from airflow_mapbox.export.atomic_file import link_target, publish, temporary_name
from airflow_mapbox.export.errors import EmptyExportError, NoSpaceError, TilerError, TooLargeError
from airflow_mapbox.export.geojson import GeoJSONStream, stream_geojson
from airflow_mapbox.export.options import MBTILES_LIMIT_BYTES, GeoJSONKeywords, Tier
from airflow_mapbox.export.readers import ExportSource
from airflow_mapbox.export.report import ExportReport
from airflow_mapbox.export.tiles.tippecanoe import tile
from airflow_mapbox.export.tiles.vectortile import distinct_features
from airflow_mapbox.limits import MBTILES_BYTES, METADATA_BYTES, TIER_MAXZOOM, TILE_BYTES
from airflow_mapbox.sources.temporary import scratch_folder

log = logging.getLogger(__name__)


# Of a source layer: a source, or one with the keywords that it is read by.
LayerSource: TypeAlias = "ExportSource | tuple[ExportSource, GeoJSONKeywords]"

_EXTENT = 4096  # units along a tile's edge, tippecanoe's --full-detail=12
# Control characters, and what has no form in UTF-8.
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What tippecanoe writes of its command line, with paths of this machine in it.
_LOCAL = ("generator_options", "generator")
_SPARE = 256 << 20  # bytes that are left free in temporary space
# Of a source's bytes, what tippecanoe's temporary files had at least for each (docs/export.md, "Vector tiles").
_LEAST = 1 / 16
_SELECTIONS = ("layer", "where", "columns", "bbox")
_LOOK = 64 << 20  # bytes between two looks at it


@dataclass(frozen=True)
class TilesetReport(ExportReport):
    """
    What an export to vector tiles did.

    :param layers: the source layers.
    :param minzoom: of the tiles.
    :param maxzoom: of the tiles.
    :param tier: the price tier of that maxzoom.
    :param tiles: how many there are.
    :param largest_tile: bytes of the largest one.
    :param geojson_bytes: what went into tippecanoe.
    :param incomplete: geometries that are missing in tiles of the maxzoom, being smaller than the tiles' unit, or too
        many in one tile.
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
        """Give the report as JSON types, small enough to travel between tasks."""
        own = ("minzoom", "maxzoom", "tier", "tiles", "largest_tile", "geojson_bytes", "incomplete")
        return super().to_json() | {"layers": list(self.layers)} | {name: getattr(self, name) for name in own}


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
    Write geodata as vector tiles with tippecanoe, which reads the features as they are made: no file between.

    The file appears under its name when it is whole, or not at all.

    :param source: as :func:`~airflow_mapbox.export.stream_geojson` takes it, or one for each source layer by name;
        there also a pair of one and the keywords that are its own, ``("city.gpkg", {"layer": "roads"})``.
    :param path: the file to write; folders above it are made, and a file of that name is replaced.
    :param name: of the tileset, and of the layer where there is one; the file's name without its ending otherwise.
    :param minzoom: of the tiles, 0 to 22.
    :param maxzoom: of the tiles, 0 to 22; guessed from how close features are unless it or the tier is given.
    :param tier: a price tier, whose highest zoom is the maxzoom, or the most that a given ``maxzoom`` may be. It is no
        guess below that: an area costs the same at each zoom of a tier, and coordinates are finest at the highest.
    :param temporary_directory: a folder that is there, for tippecanoe, which needs about the size of the features as
        GeoJSON in it.
    :param keywords: those of :func:`~airflow_mapbox.export.stream_geojson`, for each source that has not the same one
        of its own; ``limit_bytes`` is none by default.
    :return: what was done, also logged in one line.
    :raises TilerError: where tippecanoe or the temporary directory is missing, or tippecanoe failed; also where counts
        differ.
    :raises NoSpaceError: where there is too little temporary space.
    :raises TooLargeError: where Mapbox takes no MBTiles so large.
    :raises ExportError: as :func:`~airflow_mapbox.export.stream_geojson` does; of several layers the message names the
        one.
    :raises ValueError: for zooms or a tier that there are not, and for a layer's name that no style could use.
    """
    target = Path(path)
    given = dict(source) if isinstance(source, Mapping) else {name or target.stem: source}
    keywords.setdefault("limit_bytes", MBTILES_LIMIT_BYTES)
    layers = {layer: _with_keywords(one, keywords) for layer, one in given.items()}
    features = Features({layer: stream_geojson(one, **chosen) for layer, (one, chosen) in layers.items()})
    with features:
        return tile_features(
            features,
            target,
            name=name or target.stem,
            zooms=chosen_zooms(minzoom, maxzoom, tier),
            temporary=temporary_folder(temporary_directory),
            size=sum(_size(one) for one, _ in layers.values()),
            selected=any(chosen.get(choice) is not None for _, chosen in layers.values() for choice in _SELECTIONS),
        )


def _with_keywords(given: LayerSource, common: GeoJSONKeywords) -> tuple[ExportSource, GeoJSONKeywords]:
    """Give a source, and how it is read. A tuple may also be one of frames."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        source, own = given
        return source, {**common, **own}
    return given, common


def _check_names(layers: Iterable[object]) -> None:
    """Refuse what is no name of a source layer: tippecanoe takes an empty one for none, and ends one at a NUL."""
    names = list(layers)
    if not names:
        raise OptionError("source={}: name at least one layer.")
    for name in names:
        if not isinstance(name, str) or not name.strip() or _NOT_IN_NAMES.search(name):
            raise OptionError(
                f"A source layer called {name!r}: its name is what styles find it by, a text of visible characters."
            )


def chosen_zooms(minzoom: int, maxzoom: int | None, tier: Tier | None) -> tuple[int, int | None]:
    """
    Check zooms.

    :param minzoom: of the tiles.
    :param maxzoom: of the tiles, or None.
    :param tier: whose highest zoom is the maxzoom, or the most that a given one may be; or None.
    :raises ValueError: for a choice that there is not.
    """
    if tier is not None and tier not in TIER_MAXZOOM:
        raise OptionError(f"tier={tier!r}: it is {' or '.join(map(repr, TIER_MAXZOOM))}.")
    ceiling = 22 if tier is None else TIER_MAXZOOM[tier]
    highest = maxzoom if maxzoom is not None or tier is None else ceiling
    for name, zoom in (("minzoom", minzoom), ("maxzoom", highest)):
        if zoom is not None and not 0 <= zoom <= ceiling:
            raise OptionError(f"{name}={zoom}: zooms are from 0 to {ceiling}" + (f" in tier {tier}." if tier else "."))
    if highest is not None and minzoom > highest:
        raise OptionError(f"minzoom={minzoom} is above the maxzoom, {highest}.")
    return minzoom, highest


def temporary_folder(directory: str | PathLike[str] | None) -> Path | None:
    """
    Find a folder for temporary files. One that is missing is not made: it may be a disk that is not mounted.

    :param directory: the folder, or None for the system's.
    :return: its absolute path, or None.
    :raises TilerError: where it is no folder that can be written to.
    """
    if directory is None:
        return None
    folder = Path(directory).absolute()
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise TilerError(
            f"temporary_directory={str(directory)!r}: {folder} is no folder on this machine that can be written to. "
            "Correct it, or make it first."
        )
    return folder


class Features:
    """
    The features of layers, line by line: an iterator of bytes that closes its streams.

    :param layers: streams by source layer.
    :raises ValueError: for a name that no style could use, and where there is no layer.
    """

    def __init__(self, layers: Mapping[str, GeoJSONStream]) -> None:
        _check_names(layers)
        self.layers = layers
        self.bytes = 0

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.layers.values():
            stream.close()

    def __iter__(self) -> Iterator[bytes]:
        for layer, stream in self.layers.items():
            # tippecanoe's own member of a feature, which names its layer.
            extra = b'"tippecanoe":%s,' % json.dumps({"layer": layer}).encode() if len(self.layers) > 1 else b""
            try:
                for piece in stream.lines(extra):
                    self.bytes += len(piece)
                    yield piece
            except ExportError as error:
                if extra:
                    error.args = (f"Source layer {layer!r}: {error}",)
                raise

    def reports(self) -> list[ExportReport]:
        """Give what was done, layer by layer; at the end."""
        return [stream.report for stream in self.layers.values()]


def tile_features(
    features: Features,
    target: Path,
    *,
    name: str,
    zooms: tuple[int, int | None],
    temporary: Path | None,
    size: int,
    selected: bool = False,
) -> TilesetReport:
    """
    Tile what a stream of features gives, and check the result by Mapbox's rules.

    :param features: of all layers.
    :param target: the file; relative to the folder that this process is in now.
    :param name: of the tileset.
    :param zooms: the lowest, and the highest or None.
    :param temporary: as :func:`temporary_folder` gives it.
    :param size: bytes of the sources, as far as they are known.
    :param selected: whether only some of that is read.
    """
    place = link_target(target.absolute())
    with temporary_name(place) as part, scratch_folder(temporary) as folder:
        space = _Space(folder)
        space.begin(size, selected=selected)
        read = tile(
            space.watched(features),
            part,
            layer=next(iter(features.layers)),
            minzoom=zooms[0],
            maxzoom=zooms[1],
            temporary=folder,
        )
        # tippecanoe makes a feature of each member of a collection.
        written = sum(report.geometries for report in features.reports())
        if read != written:
            raise TilerError(f"tippecanoe read {read:,} of {written:,} geometries: its output was deleted.")
        try:
            report = _report(features, part, target, name, guessed=zooms[1] is None)
        except sqlite3.OperationalError as error:
            if "disk is full" not in str(error):
                raise
            raise NoSpaceError(f"There was no space left in {place.parent} for the tileset ({error}).") from None
        _sync(part)
        publish(part, place)
    log.info("Exported %s", report)
    return report


class _Space:
    """Temporary space, of which nobody knows how much tippecanoe will need: what is watched is what is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, size: int, *, selected: bool) -> None:
        """Refuse at once what cannot fit, and warn of what may not."""
        self.check(0 if selected else int(size * _LEAST))
        free = shutil.disk_usage(self._folder).free
        if free < size + _SPARE:
            log.warning(
                "Tiling may need more temporary space than the %s bytes of %s: name a folder with more of it with "
                "temporary_directory= if it stops for that",
                f"{free:,}",
                self._folder.parent,
            )

    def check(self, wanted: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < wanted + _SPARE:
            raise NoSpaceError(
                f"Tiling needs at least {wanted + _SPARE:,} bytes of temporary space, and {self._folder.parent} has "
                f"{free:,}.\nName a folder with more of it with temporary_directory=."
            )

    def watched(self, pieces: Iterator[bytes] | Features) -> Iterator[bytes]:
        since = 0
        for piece in pieces:
            since += len(piece)
            if since >= _LOOK:
                self.check(0)
                since = 0
            yield piece


def _size(source: object) -> int:
    """Give the bytes of a file on this machine or of a frame; 0 of what is made on demand."""
    with contextlib.suppress(TypeError, ValueError, OSError):
        return Path(source).stat().st_size  # type: ignore[arg-type]
    memory = getattr(source, "memory_usage", None)
    return int(memory(index=False).sum()) if memory is not None else 0


def _report(features: Features, part: Path, target: Path, name: str, *, guessed: bool) -> TilesetReport:
    reports = features.reports()
    geometries = sum(report.geometries for report in reports)
    with contextlib.closing(sqlite3.connect(part)) as db:
        metadata = dict(db.execute("SELECT name, value FROM metadata"))
        tiles, largest = db.execute("SELECT count(*), max(length(tile_data)) FROM tiles").fetchone()
        _clean(db, name)
        _check(db, tiles, largest)
        maxzoom = int(metadata["maxzoom"])
        incomplete = geometries - _there(db, maxzoom, geometries)
    size = part.stat().st_size
    if size > MBTILES_BYTES:
        raise TooLargeError(
            f"The tileset has {size:,} bytes; Mapbox takes MBTiles of at most {MBTILES_BYTES:,}.\n"
            "Lower the maxzoom, or write fewer attributes."
        )
    notes = [_guessed(maxzoom)] if guessed else []
    if incomplete:
        notes.append(_missing(incomplete, maxzoom, metadata))
    first = reports[0]
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    boxes = [report.bounds for report in reports]
    accuracies = [report.accuracy for report in reports]
    return TilesetReport(
        path=target,
        bytes=size,
        sha256=digest,
        features_read=sum(report.features_read for report in reports),
        features=sum(report.features for report in reports),
        geometries=geometries,
        dropped=_summed([report.dropped for report in reports]),
        changed=_summed([report.changed for report in reports]),
        crs_from=tuple(dict.fromkeys(crs for report in reports for crs in report.crs_from)),
        crs_to=first.crs_to,
        accuracy=None if None in accuracies else max(accuracy for accuracy in accuracies if accuracy is not None),
        edge_error=max(report.edge_error for report in reports),
        bounds=(
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        ),
        notes=(*dict.fromkeys(note for report in reports for note in report.notes), *notes),
        layers=tuple(features.layers),
        minzoom=int(metadata["minzoom"]),
        maxzoom=maxzoom,
        tier=next(tier for tier, highest in TIER_MAXZOOM.items() if maxzoom <= highest),
        tiles=tiles,
        largest_tile=largest,
        geojson_bytes=features.bytes,
        incomplete=incomplete,
    )


def _there(db: sqlite3.Connection, zoom: int, geometries: int) -> int:
    """Count the geometries that are in the tiles of a zoom."""
    rows = db.execute("SELECT tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
    return distinct_features((data for (data,) in rows), geometries)


def _guessed(zoom: int) -> str:
    return (
        f"The maxzoom is a guess, {zoom}, from how close features are; coordinates are rounded to a tile's unit there "
        f"({_unit(zoom)}). A higher maxzoom= or tier= gives finer ones."
    )


def _unit(zoom: int) -> str:
    """Say how long a unit of the tiles of a zoom is, where it is longest."""
    metres = 2 * math.pi * 6_378_137 / 2**zoom / _EXTENT
    return f"{metres:,.0f} m at the equator" if metres >= 10 else f"{metres:.2g} m at the equator"


def _missing(count: int, zoom: int, metadata: Mapping[str, str]) -> str:
    """Say why features are not in the tiles of a zoom, and what to do."""
    thinned = any(level.get("dropped_as_needed") for level in json.loads(metadata.get("strategies", "[]"))[-1:])
    why = [f"are smaller there than a tile's unit ({_unit(zoom)})"]
    if thinned:
        why.append(f"would have made tiles of over {TILE_BYTES:,} bytes")
    advice = "raise maxzoom=" + (", or write fewer attributes." if thinned else ".")
    return f"{count:,} geometries are missing in tiles of zoom {zoom}, since they {' or '.join(why)}: {advice}"


def _summed(counts: list[Mapping[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for each in counts for key in each)
    return {key: sum(each.get(key, 0) for each in counts) for key in keys}


def _clean(db: sqlite3.Connection, name: str) -> None:
    with db:
        # A deleted row's bytes would stay in the file.
        db.execute("PRAGMA secure_delete = ON")
        db.executemany("DELETE FROM metadata WHERE name = ?", [(local,) for local in _LOCAL])
        db.execute("UPDATE metadata SET value = ? WHERE name IN ('name', 'description')", (name,))


def _check(db: sqlite3.Connection, tiles: int, largest: int | None) -> None:
    if not tiles:
        raise EmptyExportError("No tile came of the features.\nMapbox refuses an empty tileset: check maxzoom=.")
    if largest is not None and largest > TILE_BYTES:
        raise TilerError(f"A tile has {largest:,} bytes; Mapbox takes at most {TILE_BYTES:,}.\nWrite fewer attributes.")
    size = sum(len(str(part).encode()) for row in db.execute("SELECT name, value FROM metadata") for part in row)
    if size > METADATA_BYTES:
        raise TilerError(
            f"The names of attributes and layers make {size:,} bytes of metadata; Mapbox takes at most "
            f"{METADATA_BYTES:,}.\nChoose fewer with columns=."
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
