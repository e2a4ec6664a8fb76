"""Prepare data of each format for the tiler, and refuse it with Mapbox's message if it is invalid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mapbox.emulator.csvfile import read_csv
from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.features import NO_FEATURES, WIDE_EDGES, Feature, FeatureStats, Layer, write_features
from airflow_mapbox.emulator.geojson import read_geojson
from airflow_mapbox.emulator.mbtilescheck import check_mbtiles
from airflow_mapbox.emulator.sniff import Formats, sniff

Tick = Callable[[], None]
# GDAL's modules are imported inside functions, because loading GDAL would double the emulator's start time.


@dataclass(frozen=True)
class PreparedData:
    """Valid data: layers for the tiler, an image, or a finished MBTiles file.

    :param size: size in bytes, from which the maxzoom is computed.
    :param kept_layer: the source layer's name that later uploads to the tileset keep; None if the data has layer names.
    """

    size: int
    layers: list[Layer] = field(default_factory=list)
    stats: FeatureStats = NO_FEATURES
    mbtiles: Path | None = None
    image: Path | None = None
    kept_layer: str | None = None


def prepare(path: Path, work: Path, *, layer: str, tick: Tick, staged: bool) -> PreparedData:
    """Check data and prepare it for tiling.

    :param path: the data; not changed.
    :param work: a folder for intermediate files.
    :param layer: the source layer's name for formats without layer names.
    :param tick: called regularly; raises to abort the work.
    :param staged: whether the data is a staged file; otherwise it is a dataset, which is always GeoJSON.
    :raises DataError: with Mapbox's message.
    """
    data_format = sniff(path) if staged else Formats.GEOJSON
    return READERS[data_format](path, work, layer, tick)


def _geojson(path: Path, work: Path, layer: str, tick: Tick) -> PreparedData:
    return _write_single_layer(path, work, layer, read_geojson(path), FailureMessage.GEOJSON_EMPTY, tick)


def _csv(path: Path, work: Path, layer: str, tick: Tick) -> PreparedData:
    return _write_single_layer(path, work, layer, read_csv(path), FailureMessage.CSV_EMPTY, tick)


def _shapefile(path: Path, work: Path, _layer: str, tick: Tick) -> PreparedData:
    from airflow_mapbox.emulator.ogr import read_layer, unpack_shapefile

    shapefile = unpack_shapefile(path, work)
    layers = {shapefile.name: read_layer(shapefile.file, None)}
    return _write_layers(shapefile.size, work, layers, FailureMessage.TILESET_EMPTY, tick)


def _kml(path: Path, work: Path, _layer: str, tick: Tick) -> PreparedData:
    from airflow_mapbox.emulator.ogr import kml_layers, read_layer

    file = _link_with_suffix(path, work, ".kml")
    layers = {name: read_layer(file, name) for name in kml_layers(file)}
    return _write_layers(path.stat().st_size, work, layers, FailureMessage.KML_EMPTY, tick)


def _gpx(path: Path, work: Path, _layer: str, tick: Tick) -> PreparedData:
    from airflow_mapbox.emulator.ogr import gpx_layers, read_layer

    file = _link_with_suffix(path, work, ".gpx")
    layers = {name: read_layer(file, name) for name in gpx_layers(file)}
    return _write_layers(path.stat().st_size, work, layers, FailureMessage.GPX_EMPTY, tick)


def _mbtiles(path: Path, work: Path, _layer: str, tick: Tick) -> PreparedData:
    check_mbtiles(path, tick=tick)
    # A hard link, so that up to 25 GB are published without a copy.
    link = work / "tiles.mbtiles"
    link.hardlink_to(path)
    return PreparedData(path.stat().st_size, mbtiles=link)


def _tiff(path: Path, _work: Path, _layer: str, _tick: Tick) -> PreparedData:
    return PreparedData(path.stat().st_size, image=path)


def _unknown(_path: Path, _work: Path, _layer: str, _tick: Tick) -> PreparedData:
    raise DataError(FailureMessage.UNKNOWN_FILETYPE)


READERS: dict[Formats, Callable[[Path, Path, str, Tick], PreparedData]] = {
    Formats.GEOJSON: _geojson,
    Formats.CSV: _csv,
    Formats.SHAPEFILE: _shapefile,
    Formats.KML: _kml,
    Formats.GPX: _gpx,
    Formats.MBTILES: _mbtiles,
    Formats.TIFF: _tiff,
    Formats.TOPOJSON: _unknown,
    Formats.TILEJSON: _unknown,
}


def _write_single_layer(
    path: Path, work: Path, layer: str, features: Iterable[Feature], empty: FailureMessage, tick: Tick
) -> PreparedData:
    written = Layer(layer, work / "features.geojsonl")
    stats = write_features(features, written.file, tick=tick)
    if not stats.features:
        raise DataError(empty)
    return PreparedData(path.stat().st_size, [written], stats, kept_layer=layer)


def _write_layers(
    size: int, work: Path, layers: Mapping[str, Iterable[Feature]], empty: FailureMessage, tick: Tick
) -> PreparedData:
    written = []
    total = NO_FEATURES
    for number, (name, features) in enumerate(layers.items()):
        layer = Layer(name, work / f"features-{number}.geojsonl")
        stats = write_features(features, layer.file, edges=WIDE_EDGES, tick=tick)
        if stats.features:
            written.append(layer)
            total = total.merge(stats)
    if not written:
        raise DataError(empty)
    return PreparedData(size, written, total)


def _link_with_suffix(path: Path, work: Path, suffix: str) -> Path:
    """Return a link to the data with a suffix by which GDAL detects the format."""
    link = work / f"data{suffix}"
    link.symlink_to(path)
    return link
