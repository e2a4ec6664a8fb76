"""Compare a published tileset with the expected one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import NotFoundError
from airflow_mapbox.tilesets.expected import Expected

if TYPE_CHECKING:
    from airflow_mapbox.tilesets.client import TilesetsClient
    from airflow_mapbox.tilesets.models import TileJson
    from airflow_mapbox.tilesets.sample import Sample

# Mapbox's CDN answers with a TileJSON or a tile for as long after they were replaced (`s-maxage=300`).
CDN_SECONDS = 300.0
# Names that a table shows of a long list.
_MAX_NAMES = 10
_WORLD_DEGREES = 360.0
# Bounds may differ by a tile of the highest zoom, but not by more than this.
_MAX_MARGIN_DEGREES = 1.0
_ROUNDING_DEGREES = 1e-6
# Layers, and attributes of each, that an asset event lists.
_MAX_LAYERS, _MAX_FIELDS = 20, 50


@dataclass(frozen=True)
class Difference:
    """
    A difference between a tileset and the expected one.

    :param what: what differs, such as ``"fields of layer parcels"``.
    :param expected: what is expected.
    :param found: what the tileset has.
    """

    what: str
    expected: str
    found: str


@dataclass(frozen=True)
class Verification:
    """
    The result of a comparison.

    :param tileset: ``account.name``.
    :param differences: the differences. Empty if the tileset is as expected.
    :param notes: what could not be compared, and why, in whole sentences.
    :param found: what the tileset has, as JSON types: layers with their fields, zooms, bounds and time of the last
        change. After a sample, also its number of tiles and features.
    :param is_outdated: whether Mapbox still shows the tileset as it was before its upload, or does not show it. If so,
        this is the only difference.
    """

    tileset: str
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)
    is_outdated: bool = False

    def __str__(self) -> str:
        if not self.differences:
            return "\n".join((f"Tileset {self.tileset} is as expected: {self._describe()}.", *self.notes))
        count = len(self.differences)
        lines = [f"Tileset {self.tileset} has {count} difference{'s' if count > 1 else ''} from what is expected:"]
        rows = [("", "expected", "found"), *((row.what, row.expected, row.found) for row in self.differences)]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines += [f"  {what:<{widths[0]}}  {expected:<{widths[1]}}  {found}".rstrip() for what, expected, found in rows]
        return "\n".join((*lines, *self.notes))

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON types, small enough for an asset event."""
        return {
            "ok": not self.differences,
            "differences": [asdict(row) for row in self.differences],
            "notes": list(self.notes),
            **self.found,
        }

    def _describe(self) -> str:
        layers = [layer["id"] for layer in self.found.get("layers", ())]
        fields = len({name for layer in self.found.get("layers", ()) for name in layer["fields"]})
        parts = [f"layers {_listed(layers)}, {fields} fields"] if layers else []
        parts.append(f"zoom {self.found.get('minzoom')} to {self.found.get('maxzoom')}")
        sample = self.found.get("sample")
        if sample:
            parts.append(f"{sample['features']:,} features in {sample['tiles']} tiles")
        return "; ".join(parts)


def verify_tileset(
    client: TilesetsClient, tileset: str, expected: Expected, *, modified_since: datetime | None = None
) -> Verification:
    """
    Compare a tileset with the expected one.

    It reads the TileJSON with one request, and a sample of tiles with one request for each tile. Mapbox's CDN
    caches each of them separately. For ``CDN_SECONDS`` after a replacement, new TileJSON can come with old tiles.

    :param client: client of an account that may read the tileset.
    :param tileset: ``name`` or ``account.name``.
    :param expected: the expected layers, fields, zooms, bounds and features.
    :param modified_since: when the upload that made it was created, by Mapbox's clock. None to compare the
        tileset as it is.
    :raises MapboxError: for every other error of the API or the network.

    Example::

        result = verify_tileset(client, "parcels", Expected(layers=("parcels",), fields={None: ("owner",)}))
        print(result)
    """
    try:
        tilejson = client.get_tilejson(tileset)
    except NotFoundError:
        if modified_since is None:
            raise
        return _outdated(tileset, modified_since, "no tileset, or the token lacks tilesets:read")
    notes = list(expected.source.notes)
    if modified_since is not None:
        modified = tilejson.modified_at
        if modified is None:
            notes.append("Mapbox does not tell when the tileset was changed, so this may be its earlier version.")
        elif modified < modified_since:
            return _outdated(tileset, modified_since, modified.isoformat(timespec="seconds"))
    differences = [*_differing_layers(tilejson, expected), *_differing_zooms(tilejson, expected)]
    differences += _differing_bounds(tilejson, expected)
    found = _found(tilejson)
    if expected.sample and not tilejson.vector_layers:
        notes.append("The tileset has no vector layers, so no sample of features was read.")
    elif expected.sample:
        # Imported here: GDAL decodes tiles, and takes a second to import.
        from airflow_mapbox.tilesets.sample import sample_tiles

        sample = sample_tiles(client, tileset, tilejson, expected.sample)
        found["sample"] = sample.to_json()
        differences += _differing_sample(sample, expected)
        notes += _sample_notes(sample, expected)
    return Verification(tileset, tuple(differences), tuple(notes), found)


def _outdated(tileset: str, modified_since: datetime, found: str) -> Verification:
    expected = f"after {modified_since.isoformat(timespec='seconds')}"
    return Verification(tileset, (Difference("last change", expected, found),), is_outdated=True)


def _differing_layers(tilejson: TileJson, expected: Expected) -> Iterator[Difference]:
    layers = {layer.id: layer for layer in tilejson.vector_layers}
    wanted = tuple(dict.fromkeys((*expected.layers, *expected.fields, *expected.source.layers)))
    if any(name is not None and name not in layers for name in wanted):
        yield Difference("layers", _listed([name for name in wanted if name is not None]), _listed(list(layers)))
    fields = dict(expected.fields)
    fields[None] = (*fields.get(None, ()), *expected.source.fields)
    for name, names in fields.items():
        if name is not None and name not in layers:
            continue
        chosen = layers.values() if name is None else [layers[name]]
        present = list(dict.fromkeys(attribute for layer in chosen for attribute in layer.fields))
        lost = [attribute for attribute in dict.fromkeys(names) if attribute not in present]
        if lost:
            what = "fields" if name is None else f"fields of layer {name}"
            yield Difference(what, _listed(lost), f"missing; there are {_listed(present)}")


def _differing_zooms(tilejson: TileJson, expected: Expected) -> Iterator[Difference]:
    for name in ("minzoom", "maxzoom"):
        wanted, found = getattr(expected, name), getattr(tilejson, name)
        if wanted is not None and wanted != found:
            yield Difference(name, str(wanted), "unknown" if found is None else str(found))


def _differing_bounds(tilejson: TileJson, expected: Expected) -> Iterator[Difference]:
    found, within, source = tilejson.bounds, expected.bounds_within, expected.source.bounds
    if found is None:
        if within is not None:
            yield Difference("bounds", f"within {_degrees(within)}", "unknown")
        return
    if within is not None:
        beyond = (within[0] - found[0], within[1] - found[1], found[2] - within[2], found[3] - within[3])
        if max(beyond) > _ROUNDING_DEGREES:
            yield Difference("bounds", f"within {_degrees(within)}", _degrees(found))
    if source is not None:
        # Positions in tiles are rounded.
        tile = min(_WORLD_DEGREES / 2.0 ** (tilejson.maxzoom or 0), _MAX_MARGIN_DEGREES)
        if any(abs(side - wanted) > tile for side, wanted in zip(found, source, strict=True)):
            yield Difference("bounds", f"{_degrees(source)} of the source", _degrees(found))


def _differing_sample(sample: Sample, expected: Expected) -> Iterator[Difference]:
    if not sample.features:
        yield Difference("features in the sample", "some", f"none in {sample.tiles} tiles")
        return
    if not sample.is_complete:
        return
    if expected.min_features is not None and sample.features < expected.min_features:
        yield Difference("features", f"at least {expected.min_features:,}", f"{sample.features:,}")
    for name, fields in expected.fields.items():
        layers = sample.fields.values() if name is None else [sample.fields.get(name, ())]
        present = {attribute for attributes in layers for attribute in attributes}
        lost = [attribute for attribute in fields if attribute not in present]
        if lost:
            what = "fields of features" if name is None else f"fields of features in layer {name}"
            yield Difference(what, _listed(lost), "no feature has a value")


def _sample_notes(sample: Sample, expected: Expected) -> Iterator[str]:
    where = f"in {sample.tiles:,} of {sample.all_tiles:,} tiles of zoom {sample.zoom}"
    wanted, of_source = expected.min_features, expected.source.features
    if wanted is not None and not sample.is_complete and sample.features < wanted:
        yield (
            f"The sample has {sample.features:,} features, {where}, so whether there are {wanted:,} is unknown. "
            "A larger sample reads more tiles."
        )
    elif of_source is not None:
        yield f"The source has {of_source:,} features, and the sample {sample.features:,}, {where}."


def _found(tilejson: TileJson) -> dict[str, Any]:
    modified = tilejson.modified_at
    return {
        "layers": [
            {"id": layer.id, "fields": list(layer.fields)[:_MAX_FIELDS]}
            for layer in tilejson.vector_layers[:_MAX_LAYERS]
        ],
        "minzoom": tilejson.minzoom,
        "maxzoom": tilejson.maxzoom,
        "bounds": None if tilejson.bounds is None else list(tilejson.bounds),
        "modified": None if modified is None else modified.isoformat(),
    }


def _degrees(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else ", ".join(f"{side:.6g}" for side in bounds)


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
