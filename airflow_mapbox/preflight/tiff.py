"""
Check a GeoTIFF by its tags for what Mapbox would refuse.

The format is in TIFF 6.0, BigTIFF and OGC GeoTIFF 1.1. Mapbox reads it with GDAL, so the position follows GDAL's order:
scale and tiepoint first, else the matrix. Of large arrays only the end is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.rules import tiff as rules
from airflow_mapbox.sources.ranges import CachedRanges, Ranges

_MAX_TAGS = 4096
_MAX_VALUE_BYTES = 1 << 20
# As many of the last strips or tiles are compared with the file's end.
_LAST_BLOCKS = 512
# Size and struct code of each type. TIFF 6.0, section 2; BigTIFF has the last three.
_TYPES = {
    1: (1, "B"),
    2: (1, "B"),
    3: (2, "H"),
    4: (4, "I"),
    5: (8, ""),
    6: (1, "b"),
    7: (1, "B"),
    8: (2, "h"),
    9: (4, "i"),
    10: (8, ""),
    11: (4, "f"),
    12: (8, "d"),
    13: (4, "I"),
    16: (8, "Q"),
    17: (8, "q"),
    18: (8, "Q"),
}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 259, 277, 339
_STRIPS, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _TILES, _TILE_BYTES = 273, 278, 279, 284, 324, 325
_SCALE, _TIEPOINT, _MATRIX, _GEO_KEYS = 33550, 33922, 34264, 34735
# GDAL reads samples of an undefined format as unsigned.
_UNSIGNED = (1, 4)
# Keys that define a reference system: codes, and the first of the parameters that a user-defined system has.
_MODEL, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNIT = 1024, 2048, 3072, 3076
_CRS_KEYS = (_GEOGRAPHIC, _PROJECTED, 2050, 2056, 3074, 3075)
# GDAL takes WGS 84 for a geographic system without a code.
_MODEL_GEOGRAPHIC = 2
_METRE = 9001
_USER_DEFINED = 32767
_MERCATOR_RADIUS = 6378137.0
_CORNER_SAMPLES = 21


class _BrokenError(Exception):
    """The tags contradict the format or the file's size."""


@dataclass(frozen=True)
class _Tag:
    """A tag whose values are in the file at an offset."""

    type: int
    count: int
    offset: int

    @property
    def bytes(self) -> int:
        return self.count * _TYPES[self.type][0]


def check_tiff(file: Ranges, content: Content) -> Iterator[Finding]:
    """
    Check a GeoTIFF.

    :param file: the file. Usually three reads of 16 KiB are enough.
    :param content: receives the bounds.
    """
    cached = CachedRanges(file)
    if (beginning := cached.read(0, 4)) == b"MM\x00+":
        yield finding(
            rules.BIG_ENDIAN_BIGTIFF, "is a big-endian BigTIFF, which Mapbox does not recognise.", where="header"
        )
    if beginning not in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        yield finding(rules.BROKEN, "does not begin with the header of a TIFF.", where="header")
        return
    try:
        yield from _check_image(_Directory(cached), content)
    except _BrokenError as error:
        yield finding(rules.BROKEN, f"{error}.", where="first image")


class _Directory:
    """
    The first directory of tags.

    :param file: the file.
    :raises _BrokenError: if it is not inside the file or has too many tags.
    """

    def __init__(self, file: CachedRanges) -> None:
        self._file = file
        self.size = file.size
        head = file.read(0, 16)
        self._order = "<" if head.startswith(b"II") else ">"
        big = 43 in head[2:4]
        number, tag_bytes, count_bytes, head_bytes = ("Q", 20, 8, 16) if big else ("I", 12, 2, 8)
        if len(head) < head_bytes:
            raise _BrokenError(f"is a TIFF of {len(head)} bytes and contains no image")
        (start,) = self._unpack(number, head[head_bytes - (8 if big else 4) : head_bytes])
        self.start = start
        if not head_bytes <= start <= self.size - count_bytes:
            raise _BrokenError(
                f"is a TIFF whose directory should be at byte {start:,}, beyond the file's {self.size:,} bytes: it is "
                "cut off"
            )
        (count,) = self._unpack("Q" if big else "H", file.read(start, count_bytes))
        if not 0 < count <= _MAX_TAGS:
            raise _BrokenError(f"is a TIFF whose directory has {count:,} tags")
        length = count * tag_bytes + (8 if big else 4)
        entries = file.read(start + count_bytes, length)
        if len(entries) < count * tag_bytes:
            raise _BrokenError("is a TIFF that ends inside its directory: it is cut off")
        self._tags: dict[int, _Tag] = {}
        for at in range(0, count * tag_bytes, tag_bytes):
            code, kind, values = self._unpack(f"HH{number}", entries[at : at + (12 if big else 8)])
            if kind not in _TYPES:
                continue  # a reader skips types that it does not know
            inline = start + count_bytes + at + (12 if big else 8)
            tag = _Tag(kind, values, inline)
            if tag.bytes > (8 if big else 4):
                (offset,) = self._unpack(number, entries[at + (12 if big else 8) : at + tag_bytes])
                tag = _Tag(kind, values, offset)
            self._tags.setdefault(code, tag)
        following = entries[count * tag_bytes :]
        (self.next_directory,) = self._unpack(number, following) if len(following) == (8 if big else 4) else (0,)

    def values(self, code: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """
        Return all values of a tag.

        :param code: the tag.
        :param default: the values of a missing tag.
        :raises _BrokenError: if they are not inside the file, or are too many.
        """
        tag = self._tags.get(code)
        if tag is None or not tag.count:
            return default
        if tag.bytes > _MAX_VALUE_BYTES:
            raise _BrokenError(f"is a TIFF whose tag {code} has {tag.count:,} values")
        return self._read(code, tag, 0, tag.count)

    def number(self, code: int, default: int = 0) -> int:
        """Return the first value of a tag as an integer."""
        tag = self._tags.get(code)
        if tag is None or not tag.count:
            return default
        (value,) = self._read(code, tag, 0, 1)
        return int(value) if math.isfinite(value) else default

    def count(self, code: int) -> int:
        """Return the number of a tag's values."""
        tag = self._tags.get(code)
        return 0 if tag is None else tag.count

    def integers(self, code: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return all values of a tag that has integers."""
        self._refuse_fractions(code)
        return self.values(code, default)

    def last(self, code: int, number: int) -> tuple[int, ...]:
        """Return a tag's last integers, at most ``number`` of them."""
        self._refuse_fractions(code)
        tag = self._tags.get(code)
        if tag is None or not tag.count:
            return ()
        first = max(0, tag.count - number)
        return self._read(code, tag, first, tag.count - first)

    def _refuse_fractions(self, code: int) -> None:
        if code in self._tags and _TYPES[self._tags[code].type][1] in ("f", "d"):
            raise _BrokenError(f"is a TIFF whose tag {code} has fractions")

    def _read(self, code: int, tag: _Tag, first: int, number: int) -> tuple[Any, ...]:
        size, letter = _TYPES[tag.type]
        if not letter:
            raise _BrokenError(f"is a TIFF whose tag {code} has fractions")
        if tag.offset + tag.bytes > self.size:
            raise _BrokenError(
                f"is a TIFF whose tag {code} ends at byte {tag.offset + tag.bytes:,} of {self.size:,}: it is cut off"
            )
        return self._unpack(f"{number}{letter}", self._file.read(tag.offset + first * size, number * size))

    def _unpack(self, form: str, data: bytes) -> tuple[Any, ...]:
        try:
            return struct.unpack(self._order + form, data)
        except struct.error:
            raise _BrokenError("is a TIFF that ends inside its tags: it is cut off") from None


def _check_image(directory: _Directory, content: Content) -> Iterator[Finding]:
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    if width < 1 or height < 1:
        raise _BrokenError(f"is a TIFF of {width} x {height} pixels")
    yield from _check_end(directory, width, height)
    yield from _check_samples(directory)
    transform = _transform(directory)
    if transform is None:
        yield finding(
            rules.NOT_REFERENCED,
            "has neither a scale with a tiepoint nor a matrix: its place is unknown.",
            where="tags",
        )
    else:
        yield from _check_transform(transform)
    keys = _geo_keys(directory)
    if not any(keys.get(key) for key in _CRS_KEYS) and keys.get(_MODEL) != _MODEL_GEOGRAPHIC:
        yield finding(rules.NO_CRS, "has no coordinate reference system.", where="GeoKeyDirectoryTag")
    elif not keys.get(_MODEL) and not keys.get(_PROJECTED):
        # GDAL, which reads the file at Mapbox, has no reference system then.
        yield finding(
            rules.NO_CRS,
            "does not say that its coordinate reference system is geographic (GTModelTypeGeoKey).",
            where="GeoKeyDirectoryTag",
        )
    elif transform is not None:
        yield from _check_bounds(keys, transform, width, height, content)


def _check_end(directory: _Directory, width: int, height: int) -> Iterator[Finding]:
    tiled = directory.count(_TILES) > 0
    offsets_tag, bytes_tag = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
    blocks = directory.count(offsets_tag)
    if not blocks:
        yield finding(rules.BROKEN, "is a TIFF whose directory names no image data.", where="first image")
        return
    offsets = directory.last(offsets_tag, _LAST_BLOCKS)
    # A directory behind the data is lost first when a file is cut, so reading the sizes would be wasted.
    has_sizes = directory.count(bytes_tag) == blocks and directory.start < max(offsets)
    sizes = directory.last(bytes_tag, _LAST_BLOCKS) if has_sizes else (1,) * len(offsets)
    longest = None if tiled else _uncompressed_strip(directory, width, height)
    ends = [
        # Some writers give an uncompressed strip more bytes than it has rows for. libtiff corrects this.
        offset + (size if longest is None else min(size, longest))
        for offset, size in zip(offsets, sizes, strict=True)
        if offset and size  # a sparse file has no data for some blocks
    ]
    end = max(ends, default=0)
    if end > directory.size:
        kind = "tile" if tiled else "strip"
        yield finding(
            rules.BROKEN,
            f"has {directory.size:,} bytes, but its last {kind} ends at byte {end:,}: it is cut off.",
            where=f"last {kind}",
        )
    elif directory.next_directory > directory.size:
        yield finding(
            rules.BROKEN,
            f"has {directory.size:,} bytes, but its next directory is at byte {directory.next_directory:,}: it is cut "
            "off.",
            where="second image",
        )


def _uncompressed_strip(directory: _Directory, width: int, height: int) -> int | None:
    """Return the bytes of a full strip; None if strips are compressed."""
    if directory.number(_COMPRESSION, 1) != 1:
        return None
    samples = directory.number(_SAMPLES, 1) if directory.number(_PLANAR, 1) == 1 else 1
    rows = min(directory.number(_ROWS_PER_STRIP, height), height)
    return rows * ((width * samples * directory.number(_BITS, 1) + 7) // 8)


def _check_samples(directory: _Directory) -> Iterator[Finding]:
    bits, formats = set(directory.integers(_BITS, (1,))), set(directory.integers(_SAMPLE_FORMAT, (1,)))
    if bits == {8} and formats <= set(_UNSIGNED):
        return
    names = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "unsigned", 5: "complex", 6: "complex"}
    kind = ", ".join(sorted({names.get(code, "unknown") for code in formats}))
    sizes = ", ".join(map(str, sorted(bits)))
    yield finding(
        rules.BITS, f"has samples of {sizes} bits ({kind}); Mapbox reads 8 bits, unsigned.", where="BitsPerSample"
    )


def _transform(directory: _Directory) -> tuple[float, ...] | None:
    """Return x of the origin, pixel width, row rotation, y of the origin, column rotation, pixel height; or None."""
    scale, tiepoint = directory.values(_SCALE), directory.values(_TIEPOINT)
    if len(scale) >= 2 and scale[0] and scale[1]:
        if len(tiepoint) < 6:
            return None
        # GDAL ignores the sign of the height, because some writers have it wrong.
        x, y = scale[0], -abs(scale[1])
        return tiepoint[3] - tiepoint[0] * x, x, 0.0, tiepoint[4] - tiepoint[1] * y, 0.0, y
    matrix = directory.values(_MATRIX)
    if len(matrix) == 16:
        return matrix[3], matrix[0], matrix[1], matrix[7], matrix[4], matrix[5]
    return None


def _check_transform(transform: tuple[float, ...]) -> Iterator[Finding]:
    _, width, row_rotation, _, column_rotation, height = transform
    if not all(map(math.isfinite, transform)) or width <= 0 or height >= 0 or not 0.5 <= abs(width / height) <= 2:
        yield finding(
            rules.PIXELS,
            f"has pixels of {width:g} x {-height:g}; both must be above 0, and neither more than twice the other.",
            where="ModelPixelScaleTag",
        )
    if row_rotation or column_rotation:
        yield finding(rules.ROTATED, "is rotated or sheared.", where="ModelTransformationTag")


def _geo_keys(directory: _Directory) -> dict[int, int]:
    """Return the keys. A key whose value is in another tag has the value 32767, user-defined."""
    values = directory.integers(_GEO_KEYS)
    keys: dict[int, int] = {}
    for at in range(4, min(len(values), 4 + 4 * (values[3] if len(values) > 3 else 0)) - 3, 4):
        key, location, _, value = values[at : at + 4]
        keys.setdefault(key, value if location == 0 else _USER_DEFINED)
    return keys


def _check_bounds(
    keys: dict[int, int], transform: tuple[float, ...], width: int, height: int, content: Content
) -> Iterator[Finding]:
    x, pixel_width, row_rotation, y, column_rotation, pixel_height = transform
    corners = [
        (x + column * pixel_width + row * row_rotation, y + column * column_rotation + row * pixel_height)
        for column in (0, width)
        for row in (0, height)
    ]
    if not all(math.isfinite(value) for corner in corners for value in corner):
        yield finding(rules.BOUNDS, "has a corner that is not a number.", where="tags")
        return
    xs, ys = zip(*corners, strict=True)
    box = min(xs), min(ys), max(xs), max(ys)
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC) or _USER_DEFINED
    bounds = _degrees(box, code, unit=keys.get(_LINEAR_UNIT, _METRE))
    if bounds is None:
        return
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        yield finding(
            rules.BOUNDS, f"reaches from {box[:2]} to {box[2:]}, where EPSG:{code} is not defined.", where="tags"
        )
        return
    # Pixel centres at ±180 and ±90 put the edges half a pixel outside.
    across, along = (abs(pixel_width), abs(pixel_height)) if code == 4326 else (0.0, 0.0)
    if south < -90 - along or north > 90 + along or west < -360 - across or east > 360 + across:
        yield finding(
            rules.BOUNDS, f"reaches from {west:g}, {south:g} to {east:g}, {north:g} degrees: outside.", where="tags"
        )
        return
    content.bounds = bounds


def _degrees(
    box: tuple[float, float, float, float], code: int, *, unit: int
) -> tuple[float, float, float, float] | None:
    """Return a box in degrees, with infinity where its system is not defined; None if the system is unknown here."""
    if code == 4326:
        return box
    if code == 3857 and unit == _METRE:
        (west, south), (east, north) = _from_mercator(*box[:2]), _from_mercator(*box[2:])
        return west, south, east, north
    if not 1024 <= code < _USER_DEFINED:
        return None
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        crs = CRS.from_epsg(code)
        if unit != _METRE and all(axis.unit_name == "metre" for axis in crs.axis_info):
            return None  # the file's own unit replaces the system's
        to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        west, south, east, north = to_degrees.transform_bounds(*box, densify_pts=_CORNER_SAMPLES)
    except ProjError:  # also for a code that PROJ does not know
        return None
    return (west, south, east, north) if west <= east else (west, south, east + 360, north)


def _from_mercator(x: float, y: float) -> tuple[float, float]:
    # Beyond this, the hyperbolic sine overflows; the latitude is 90 degrees long before.
    latitude = math.atan(math.sinh(max(-700.0, min(700.0, y / _MERCATOR_RADIUS))))
    return math.degrees(x / _MERCATOR_RADIUS), math.degrees(latitude)
