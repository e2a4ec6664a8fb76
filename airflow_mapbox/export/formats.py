"""What geodata can be exported to on its way to Mapbox."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from airflow_mapbox.errors import OptionError

ExportFormat: TypeAlias = Literal["geojson", "mbtiles", "auto"]
FORMATS: tuple[ExportFormat, ...] = ("geojson", "mbtiles", "auto")
Tier: TypeAlias = Literal["free", "10m", "1m", "30cm", "1cm"]


class GeoJSONKeywords(TypedDict, total=False):
    """
    What :func:`~airflow_mapbox.export.stream_geojson` takes beside the source.

    The command line makes its options of these: the first type of a union is what it reads, the text is its help.
    """

    crs: Annotated[object, "reference system of data that does not say its own, such as EPSG:25832"]
    decimals: Annotated[int, "decimals of each coordinate (default: 7, about a centimetre)"]
    z: Annotated[Literal["keep", "drop"], "keep or drop heights"]
    on_invalid: Annotated[Literal["fix", "drop", "error"], "what to do with invalid polygons"]
    beyond_mercator: Annotated[Literal["clip", "error"], "what to do with geometries beyond ±85.0511 degrees"]
    antimeridian: Annotated[Literal["cut", "keep"], "what to do with geometries that cross ±180 degrees"]
    max_segment: Annotated[float | None, "metres: longer edges in a projected system get vertices between"]
    accuracy_warning: Annotated[float, "metres: warn of transformations that may be less accurate"]
    write_bbox: Annotated[bool, "write a bbox member for each feature"]
    as_text: Annotated[Collection[str], "columns of numbers to write as text"]
    layer: Annotated[str | int | None, "layer of a file that has several"]
    where: Annotated[str | None, "condition on attributes, in OGR's SQL"]
    columns: Annotated[Sequence[str] | None, "attributes to write (default: all)"]
    bbox: Annotated[
        tuple[float, float, float, float] | Sequence[float] | None,
        "west, south, east, north in the source's own reference system",
    ]
    x: Annotated[str | None, "column of longitudes or eastings, for CSV"]
    y: Annotated[str | None, "column of latitudes or northings, for CSV"]
    id_attribute: Annotated[str | None, "attribute to write the ids of GeoJSON features to"]
    batch_rows: Annotated[int | None, "features in a batch, at most"]
    threads: Annotated[int | None, "threads that write features (default: the cores that may be used, up to 16)"]
    limit_bytes: Annotated[int | None, "most bytes of GeoJSON (default: 1 GiB, Mapbox's limit)"]


class TileKeywords(TypedDict, total=False):
    """What :func:`~airflow_mapbox.export.write_mbtiles` and ``write_auto`` take beside these."""

    name: Annotated[str | None, "name of the layer in vector tiles (default: the tileset's)"]
    minzoom: Annotated[int, "lowest zoom of vector tiles (default: 0)"]
    maxzoom: Annotated[int | None, "highest zoom of vector tiles"]
    tier: Annotated[Tier | None, "price tier whose highest zoom is the maxzoom"]
    temporary_directory: Annotated[str | PathLike[str] | None, "folder for temporary files of vector tiles"]


TILE_KEYWORDS = tuple(TileKeywords.__annotations__)


def check_format(format: str | None, options: Mapping[str, Any] | None) -> None:
    """
    Check what somebody has chosen, before anything is read.

    :param format: of :data:`FORMATS`, or None for a source that is sent as it is.
    :param options: of the export.
    :raises ValueError: for a format or an option that there is not, and for options without a format.
    """
    if options is not None and not isinstance(options, Mapping):
        raise OptionError(
            f"export must be a mapping of keywords, got {options!r}. In a task, each value in it can be templated; a "
            "template for the whole mapping needs render_template_as_native_obj=True on the DAG."
        )
    if format is not None and format not in FORMATS:
        raise OptionError(f"format is one of {', '.join(FORMATS)}, or None to send the source as it is, not {format!r}")
    if format is None and options:
        choices = " or ".join(f'format="{choice}"' for choice in FORMATS)
        raise OptionError(f"export={dict(options)!r} has no meaning without {choices}.")
    known = (*GeoJSONKeywords.__annotations__, *(() if format == "geojson" else TILE_KEYWORDS))
    for name in options or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}."
            if name in TILE_KEYWORDS:
                advice = "it is for tiles: choose mbtiles or auto."
            raise OptionError(f"export has {name!r}, which format {format!r} does not take: {advice}")
