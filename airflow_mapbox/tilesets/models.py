"""The objects of Mapbox's tilesets: an entry of the account's list, and TileJSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.http.fields import number_or_none, read_object, read_string, read_time, string_or_none
from airflow_mapbox.security.redaction import redact


@dataclass(frozen=True)
class Tileset:
    """
    A tileset in the account's list. A field that Mapbox does not give, or gives in an unknown form, is None.

    :param id: ``account.name``.
    :param name: the display name.
    :param type: ``vector`` or ``raster``.
    :param visibility: ``public`` or ``private``.
    :param status: ``available``, ``pending`` or ``invalid``.
    :param created: when it was created, ISO 8601.
    :param modified: when it last changed, ISO 8601.
    :param filesize: size of its tiles in bytes.
    :param cu: compute units of its processing. Older tilesets have none.
    :param precisions: processed area in km² for each tier of precision, such as ``{"10m": 658.7}``; empty if unknown.
        The area is None if Mapbox names only the tier.
    :param created_by_client: the program that made it, if Mapbox tells.
    :param center: longitude and latitude in degrees, and zoom.
    :param description: the description.
    """

    id: str
    name: str | None = None
    type: str | None = None
    visibility: str | None = None
    status: str | None = None
    created: str | None = None
    modified: str | None = None
    filesize: int | None = None
    cu: float | None = None
    precisions: Mapping[str, float | None] = field(default_factory=dict)
    created_by_client: str | None = None
    center: tuple[float, ...] | None = None
    description: str | None = None

    @classmethod
    def from_json(cls, document: object) -> Tileset:
        """
        Read an item of the account's list. Only its id is necessary.

        :param document: the decoded JSON.
        :raises InvalidAnswerError: if it is not an object, or its id is not ``account.name``.
        """
        fields = read_object(document, "tileset")
        identifier = redact(read_string(fields, "id", "tileset"))
        if not all(identifier.rpartition(".")):
            raise InvalidAnswerError(f"Expected the tileset's 'id' to be account.name; it is {identifier[:80]!r}.")
        strings = ("name", "type", "visibility", "status", "created", "modified", "created_by_client", "description")
        return cls(
            id=identifier,
            filesize=_whole(fields.get("filesize")),
            cu=number_or_none(fields.get("cu")),
            precisions=_precisions(fields.get("tileset_precisions")),
            center=_numbers(fields.get("center")),
            **{name: string_or_none(fields.get(name)) for name in strings},
        )

    @property
    def account(self) -> str:
        """The account, which is the id's part before the dot."""
        return self.id.rpartition(".")[0]

    @property
    def own_name(self) -> str:
        """The id's part after the account's dot. The display name (``name``) may differ from it."""
        return self.id.rpartition(".")[2]

    @property
    def is_public(self) -> bool:
        """Whether others may see it. If Mapbox does not tell, it counts as public."""
        return self.visibility != "private"

    @property
    def created_at(self) -> datetime | None:
        """The time of creation in UTC; None if it is missing or unreadable."""
        return read_time(self.created)

    @property
    def modified_at(self) -> datetime | None:
        """The time of the last change in UTC; None if it is missing or unreadable."""
        return read_time(self.modified)

    def is_older_than(self, age: timedelta, now: datetime) -> bool:
        """
        Return whether its last change, or its creation if that is unknown, was longer ago than an age.

        :param age: the age.
        :param now: the time that the age is measured to, by the server's clock.
        :return: False if both times are unknown.
        """
        changed = self.modified_at or self.created_at
        return changed is not None and now - changed > age

    @property
    def area(self) -> float | None:
        """The processed area of all tiers together in km²; None if it is unknown."""
        areas = [area for area in self.precisions.values() if area is not None]
        return sum(areas) if areas else None

    def to_json(self) -> dict[str, Any]:
        """Return the tileset as JSON: small, no secret. Tasks pass it on."""
        return asdict(self)


@dataclass(frozen=True)
class VectorLayer:
    """
    A layer of a vector tileset.

    :param id: the layer's name (``source-layer`` in a style).
    :param fields: the type of each attribute in TileJSON, such as ``{"name": "String"}``.
    :param minzoom: the lowest zoom, or None.
    :param maxzoom: the highest zoom, or None.
    """

    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    minzoom: int | None = None
    maxzoom: int | None = None


@dataclass(frozen=True)
class TileJson:
    """
    What a map reads about a tileset (TileJSON 2.x). A field that is missing, or has an unknown form, is None.

    Mapbox's CDN caches it for five minutes. For that time, TileJSON shows a replaced tileset as it was before.

    :param tiles: URL templates of the tiles, without a token.
    :param bounds: west, south, east and north in degrees.
    :param center: longitude and latitude in degrees, and zoom.
    :param minzoom: the lowest zoom.
    :param maxzoom: the highest zoom.
    :param vector_layers: the layers; empty for raster tiles.
    :param modified: when the tileset last changed: ISO 8601, or milliseconds since 1970.
    :param name: the display name.
    :param private: whether only the account's own tokens may read it.
    """

    tiles: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None
    center: tuple[float, ...] | None = None
    minzoom: int | None = None
    maxzoom: int | None = None
    vector_layers: tuple[VectorLayer, ...] = ()
    modified: str | float | None = None
    name: str | None = None
    private: bool | None = None

    @classmethod
    def from_json(cls, document: object) -> TileJson:
        """
        Read TileJSON.

        :param document: the decoded JSON.
        :raises InvalidAnswerError: if it is not an object, or has neither tiles nor zooms.
        """
        fields = read_object(document, "TileJSON")
        if not {"tiles", "minzoom", "maxzoom"} & fields.keys():
            raise InvalidAnswerError("Expected TileJSON with 'tiles', 'minzoom' or 'maxzoom'; all of them are missing.")
        tiles, private, bounds = fields.get("tiles"), fields.get("private"), _numbers(fields.get("bounds"))
        return cls(
            tiles=tuple(_without_token(url) for url in _list(tiles) if isinstance(url, str)),
            bounds=bounds if bounds is not None and len(bounds) == 4 else None,
            center=_numbers(fields.get("center")),
            minzoom=_whole(fields.get("minzoom")),
            maxzoom=_whole(fields.get("maxzoom")),
            vector_layers=tuple(_vector_layers(fields.get("vector_layers"))),
            modified=string_or_none(fields.get("modified")) or number_or_none(fields.get("modified")),
            name=string_or_none(fields.get("name")),
            private=private if isinstance(private, bool) else None,
        )

    @property
    def modified_at(self) -> datetime | None:
        """The time of the last change in UTC; None if it is missing or unreadable."""
        return read_time(self.modified)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON: no secret. Tasks pass it on."""
        return asdict(self)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: object) -> int | None:
    number = number_or_none(value)
    return None if number is None else int(number)


def _numbers(value: object) -> tuple[float, ...] | None:
    numbers = tuple(number_or_none(item) for item in _list(value))
    known = tuple(number for number in numbers if number is not None)
    return known if known and len(known) == len(numbers) else None


def _precisions(value: object) -> dict[str, float | None]:
    if isinstance(value, Mapping):
        return {redact(str(tier)): number_or_none(area) for tier, area in value.items()}
    tiers = [value] if isinstance(value, str) else _list(value)
    return {redact(tier): None for tier in tiers if isinstance(tier, str)}


def _vector_layers(value: object) -> list[VectorLayer]:
    layers = []
    for layer in _list(value):
        if not isinstance(layer, Mapping) or not isinstance(layer.get("id"), str):
            continue
        fields = layer.get("fields")
        attributes = fields if isinstance(fields, Mapping) else {}
        layers.append(
            VectorLayer(
                id=redact(layer["id"]),
                fields={redact(str(name)): redact(str(kind)) for name, kind in attributes.items()},
                minzoom=_whole(layer.get("minzoom")),
                maxzoom=_whole(layer.get("maxzoom")),
            )
        )
    return layers


def _without_token(url: str) -> str:
    """Return a URL without the token of the request, which Mapbox puts into the templates of the tiles."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return redact(url)
    query = urlencode([(name, value) for name, value in pairs if name != "access_token"])
    return redact(urlunsplit(parts._replace(query=query)))
