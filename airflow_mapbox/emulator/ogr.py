"""Read shapefiles, KML and GPX with GDAL, reprojected to longitude and latitude."""

from __future__ import annotations

import datetime
import decimal
import json
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.features import Feature
from airflow_mapbox.emulator.sniff import Formats, check_size
from airflow_mapbox.emulator.xmllayers import UnreadableError, check_gpx_root, kml_layer_names

KML_LAYERS = 15
BATCH_ROWS = 1000
OPEN_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
# The beginning of a .shp, in big-endian bytes.
SHAPEFILE_CODE = (9994).to_bytes(4, "big")


@dataclass(frozen=True)
class Shapefile:
    """An unpacked shapefile.

    :param size: bytes of .shp and .dbf together.
    """

    name: str
    file: Path
    size: int


def unpack_shapefile(archive: Path, work: Path) -> Shapefile:
    """Unpack the first shapefile of a zip.

    :raises DataError: if the zip has no shapefile, or the shapefile is too large, or a part is missing or invalid.
    """
    try:
        with zipfile.ZipFile(archive) as files:
            members = _shapefile_members(files)
            size = sum(members[suffix].file_size for suffix in ("shp", "dbf"))
            check_size(Formats.SHAPEFILE, size)
            for suffix, info in members.items():
                check_size(Formats.SHAPEFILE, info.file_size)
                with files.open(info) as source, (work / f"data.{suffix}").open("wb") as target:
                    shutil.copyfileobj(source, target)
            name = PurePosixPath(members["shp"].filename).name
    # zipfile raises NotImplementedError for an unknown compression, and RuntimeError for an encrypted member.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error):
        raise DataError(FailureMessage.NO_SHAPEFILE) from None
    try:
        pyproj.CRS.from_wkt((work / "data.prj").read_text(encoding="utf-8-sig", errors="replace"))
    except pyproj.exceptions.CRSError:
        raise DataError(FailureMessage.SHAPEFILE_BAD_PROJECTION) from None
    return Shapefile(name[: -len(".shp")], work / "data.shp", size)


def _shapefile_members(files: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of the archive's first shapefile by suffix; shp, dbf, shx and prj are never missing."""
    members = {
        name.lower(): info
        for info in files.infolist()
        if not (name := info.filename).startswith("__MACOSX/") and not info.is_dir()
    }
    shapefiles = sorted(name for name in members if name.endswith(".shp"))
    if not shapefiles:
        raise DataError(FailureMessage.NO_SHAPEFILE)
    stem = shapefiles[0].removesuffix(".shp")
    parts = {
        suffix: members[name]
        for suffix in ("shp", "dbf", "shx", "prj", "cpg")
        if (name := f"{stem}.{suffix}") in members
    }
    _check_header(files, parts["shp"])
    for suffix in ("dbf", "shx"):
        if suffix not in parts:
            name = PurePosixPath(f"{stem}.{suffix}").name
            raise DataError(FailureMessage.SHAPEFILE_PART_MISSING.format(name))
    if "prj" not in parts:
        raise DataError(FailureMessage.SHAPEFILE_NO_PROJECTION)
    return parts


def _check_header(files: zipfile.ZipFile, shp: zipfile.ZipInfo) -> None:
    """Mapbox detects the format of the unzipped .shp by its first bytes."""
    with files.open(shp) as stream:
        head = stream.read(33)
    if len(head) <= 32 or not head.startswith(SHAPEFILE_CODE):
        raise DataError(FailureMessage.UNKNOWN_FILETYPE)


def kml_layers(file: Path) -> list[str]:
    """Return GDAL's names of a KML file's layers.

    :raises DataError: if Mapbox refuses the layers, or GDAL cannot open the file.
    """
    check_kml_layers(file)
    return _list_layers(file, FailureMessage.KML_UNREADABLE)


def check_kml_layers(file: Path) -> None:
    """Raise DataError if a KML file has no layers, more layers than Mapbox allows, or duplicate names."""
    try:
        names = kml_layer_names(file)
    except UnreadableError:
        raise DataError(FailureMessage.KML_UNREADABLE) from None
    if not names:
        raise DataError(FailureMessage.KML_NO_LAYERS)
    if len(names) > KML_LAYERS:
        raise DataError(FailureMessage.KML_TOO_MANY_LAYERS.format(len(names), KML_LAYERS))
    duplicates = _duplicates([name or f"Layer #{number}" for number, name in enumerate(names)])
    if duplicates:
        listed = " ".join(f"{name} ({count})" for name, count in duplicates.items())
        raise DataError(FailureMessage.KML_DUPLICATE_LAYERS.format(listed))


def _duplicates(names: list[str]) -> dict[str, int]:
    """Return how often each duplicate name occurs, in the order of their second occurrences."""
    counts: Counter[str] = Counter()
    duplicates: dict[str, int] = {}
    for name in names:
        counts[name] += 1
        if counts[name] > 1:
            duplicates[name] = counts[name]
    return duplicates


def gpx_layers(file: Path) -> list[str]:
    """Return the names of a GPX file's layers: waypoints, routes, tracks, and the points of both.

    :raises DataError: if GDAL cannot open the file.
    """
    try:
        check_gpx_root(file)
    except UnreadableError:
        raise DataError(FailureMessage.GPX_UNREADABLE) from None
    return _list_layers(file, FailureMessage.GPX_UNREADABLE)


def read_layer(file: Path, layer: str | None) -> Iterator[Feature]:
    """Yield a layer's features in longitude and latitude.

    :raises DataError: if the layer cannot be read or reprojected.
    """
    try:
        crs = pyogrio.read_info(file, layer=layer)["crs"]
        transformer = (
            pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
            if crs and not pyproj.CRS(crs).equals("EPSG:4326", ignore_axis_order=True)
            else None
        )
        with pyogrio.open_arrow(file, layer=layer, batch_size=BATCH_ROWS, use_pyarrow=True) as (metadata, reader):
            column = metadata["geometry_name"] or "wkb_geometry"
            for batch in reader:
                # A track of one point is not a line for GEOS. It has no geometry then.
                values = batch.column(column).to_numpy(zero_copy_only=False)
                geometries = _transform(shapely.from_wkb(values, on_invalid="ignore"), transformer)
                rows = batch.drop_columns([column]).to_pylist()
                geometries_json = shapely.to_geojson(geometries)
                for geometry_json, properties in zip(geometries_json, rows, strict=True):
                    geometry = None if geometry_json is None else json.loads(geometry_json)
                    json_properties = {
                        name: _json_value(value) for name, value in properties.items() if name != "OGC_FID"
                    }
                    yield geometry, json_properties
    except (*OPEN_ERRORS, shapely.errors.ShapelyError, OSError) as error:
        raise DataError(FailureMessage.UNKNOWN_FILETYPE) from error
    except pyproj.exceptions.ProjError as error:
        raise DataError(FailureMessage.NO_REPROJECTION.format("The projection is not supported.")) from error


def _list_layers(file: Path, message: FailureMessage) -> list[str]:
    try:
        return [str(name) for name, _ in pyogrio.list_layers(file)]
    except OPEN_ERRORS:
        raise DataError(message) from None


def _transform(geometries: Any, transformer: pyproj.Transformer | None) -> Any:
    geometries = shapely.force_2d(geometries)
    if transformer is None:
        return geometries

    def reproject(coordinates: Any) -> Any:
        x, y = transformer.transform(coordinates[:, 0], coordinates[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError(FailureMessage.NO_REPROJECTION.format("Coordinates are outside of the projection's area."))
        return np.column_stack([x, y])

    return shapely.transform(geometries, reproject)


def _json_value(value: object) -> object:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value
