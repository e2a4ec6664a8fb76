"""Each format on its way to the tiler: what Mapbox would refuse is refused, the rest is features or finished tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mapbox.emulator.csvfile import read_csv
from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.features import NOTHING, Feature, Layer, Measured, write_features
from airflow_mapbox.emulator.geojson import read_geojson
from airflow_mapbox.emulator.mbtilescheck import check_mbtiles
from airflow_mapbox.emulator.sniff import Formats, sniff

Tick = Callable[[], None]
# GDAL and what comes with it is imported with the first file that needs it: it would double the time of the start.


@dataclass(frozen=True)
class Prepared:
    """Data that passed: layers for the tiler, an image to be cut, or an MBTiles file that is tiles already.

    :param size: bytes that the maxzoom is picked by.
    :param kept_layer: the source layer a later upload to the same tileset keeps, where the data names none itself.
    """

    size: int
    layers: list[Layer] = field(default_factory=list)
    measured: Measured = NOTHING
    mbtiles: Path | None = None
    image: Path | None = None
    kept_layer: str | None = None


def prepare(path: Path, work: Path, *, layer: str, tick: Tick, staged: bool) -> Prepared:
    """Check data and make it ready to be tiled.

    :param path: the data; left as it is.
    :param work: a folder for what is made of it.
    :param layer: the source layer's name for formats that have none of their own.
    :param tick: called now and then; raises where the work is to be given up.
    :param staged: whether it was staged, and is not a dataset, which is GeoJSON always.
    :raises DataError: with Mapbox's message.
    """
    found = sniff(path) if staged else Formats.GEOJSON
    return READERS[found](path, work, layer, tick)


def _geojson(path: Path, work: Path, layer: str, tick: Tick) -> Prepared:
    return _unnamed(path, work, layer, read_geojson(path), Failed.GEOJSON_EMPTY, tick)


def _csv(path: Path, work: Path, layer: str, tick: Tick) -> Prepared:
    return _unnamed(path, work, layer, read_csv(path), Failed.CSV_EMPTY, tick)


def _shapefile(path: Path, work: Path, _layer: str, tick: Tick) -> Prepared:
    from airflow_mapbox.emulator.ogr import read_layer, unpack_shapefile

    shapefile = unpack_shapefile(path, work)
    layers = {shapefile.name: read_layer(shapefile.file, None)}
    return _named(shapefile.size, work, layers, Failed.TILESET_EMPTY, tick)


def _kml(path: Path, work: Path, _layer: str, tick: Tick) -> Prepared:
    from airflow_mapbox.emulator.ogr import kml_layers, read_layer

    file = _with_suffix(path, work, ".kml")
    layers = {name: read_layer(file, name) for name in kml_layers(file)}
    return _named(path.stat().st_size, work, layers, Failed.KML_EMPTY, tick)


def _gpx(path: Path, work: Path, _layer: str, tick: Tick) -> Prepared:
    from airflow_mapbox.emulator.ogr import gpx_layers, read_layer

    file = _with_suffix(path, work, ".gpx")
    layers = {name: read_layer(file, name) for name in gpx_layers(file)}
    return _named(path.stat().st_size, work, layers, Failed.GPX_EMPTY, tick)


def _mbtiles(path: Path, work: Path, _layer: str, tick: Tick) -> Prepared:
    check_mbtiles(path, tick=tick)
    # A second name for the same bytes: up to 25 GB are published without being copied.
    linked = work / "tiles.mbtiles"
    linked.hardlink_to(path)
    return Prepared(path.stat().st_size, mbtiles=linked)


def _tiff(path: Path, _work: Path, _layer: str, _tick: Tick) -> Prepared:
    return Prepared(path.stat().st_size, image=path)


def _unknown(_path: Path, _work: Path, _layer: str, _tick: Tick) -> Prepared:
    raise DataError(Failed.UNKNOWN_FILETYPE)


READERS: dict[Formats, Callable[[Path, Path, str, Tick], Prepared]] = {
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


def _unnamed(path: Path, work: Path, layer: str, features: Iterable[Feature], empty: Failed, tick: Tick) -> Prepared:
    made = Layer(layer, work / "features.geojsonl")
    measured = write_features(features, made.file, tick=tick)
    if not measured.features:
        raise DataError(empty)
    return Prepared(path.stat().st_size, [made], measured, kept_layer=layer)


def _named(size: int, work: Path, layers: Mapping[str, Iterable[Feature]], empty: Failed, tick: Tick) -> Prepared:
    made = []
    measured = NOTHING
    for number, (name, features) in enumerate(layers.items()):
        layer = Layer(name, work / f"features-{number}.geojsonl")
        found = write_features(features, layer.file, tick=tick)
        if found.features:
            made.append(layer)
            measured = measured.joined(found)
    if not made:
        raise DataError(empty)
    return Prepared(size, made, measured)


def _with_suffix(path: Path, work: Path, suffix: str) -> Path:
    """Return the data under a name by which GDAL knows its format."""
    named = work / f"data{suffix}"
    named.symlink_to(path)
    return named
