"""Tilesets as Airflow assets, ``mapbox://tilesets/{account}.{name}``: their events, and what they were made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, cast
from urllib.parse import urlsplit, urlunsplit

from airflow.sdk import Asset, AssetAlias

from airflow_mapbox.assets.uris import check_uri
from airflow_mapbox.compat import asset_of_checked_uri, asset_state, is_mapped_instance, newest_events
from airflow_mapbox.exceptions import MapboxFailError
from airflow_mapbox.names import is_tileset_id
from airflow_mapbox.tasks.parameters import is_template
from airflow_mapbox.uploads.once.ledger import Published

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# The key of the source in an asset's state, and in the extra of its events.
_SOURCE_KEY = "mapbox_source"
# Search this many events of a tileset, newest first.
_EVENTS = 100
_TILESETS = "mapbox://tilesets/"
# The longest key that Airflow stores (airflow.models.base.ID_LEN).
_KEY_CHARACTERS = 250


def tileset_asset(tileset: str) -> Asset:
    """
    Return the asset of a tileset. DAGs can be scheduled on it.

    :param tileset: ``account.name``.
    :raises ValueError: if it has another form.
    """
    uri = f"{_TILESETS}{tileset}"
    return asset_of_checked_uri(urlunsplit(check_uri(urlsplit(uri))))


def tileset_alias(dag_id: str) -> AssetAlias:
    """
    Return the alias of those tilesets of a DAG whose id is known only when their task runs.

    :param dag_id: the DAG whose tasks make the tilesets.
    """
    return AssetAlias(f"mapbox_tilesets/{dag_id}")


def add_tileset_outlet(task: BaseOperator, tileset: object) -> None:
    """
    Add the outlet through which a task sends the events of its tileset.

    It is the tileset's asset if the id is known when the DAG is parsed. Airflow then shows it in the graph, also before
    the first run. Otherwise it is the alias of the DAG. This is so for a template, and for a name whose
    account only the connection knows. It is so in a mapped task too, because Airflow parses none of its instances.

    :param task: the task.
    :param tileset: the parameter.
    """
    # An instance of a mapped task may use an asset that the author has added to the outlets in `partial`. Those of its
    # other tilesets stay until `drop_other_tilesets`: the tileset may still be incomplete, or a template.
    if isinstance(tileset, str) and _asset_among(task.outlets, tileset) is not None:
        return
    if isinstance(tileset, str) and is_tileset_id(tileset) and not is_mapped_instance(task):
        task.outlets = [*task.outlets, tileset_asset(tileset)]
    else:
        task.outlets = [*task.outlets, tileset_alias(task.dag_id)]


def to_key(partition: object) -> Any:
    """
    Return a partition as a string, if native rendering has made a whole number of it, such as 20180201.

    :param partition: the parameter.
    """
    return str(partition) if isinstance(partition, int) and not isinstance(partition, bool) else partition


def check_partition(partition: object, outlets: Sequence[object], *, rendered: bool) -> None:
    """
    Refuse a partition that cannot become the key of an event.

    :param partition: the parameter; None for an event without a key.
    :param outlets: the outlets of the task.
    :param rendered: whether templates are rendered. When the DAG is parsed, a template cannot be checked.
    :raises ValueError: if Airflow would refuse the key, or no outlet can have one.
    """
    if partition is None:
        return
    if not any(map(_is_tileset, outlets)):
        raise ValueError(
            "partition needs a tileset that is known when the DAG is parsed.\nWrite the tileset with its account and "
            "without a template, such as tileset='acme.parcels'.\nIn a mapped task, add the assets of all its tilesets "
            "to the outlets in partial(…), such as Asset('mapbox://tilesets/acme.parcels')."
        )
    if not rendered and (not isinstance(partition, str) or is_template(partition)):
        return
    if not isinstance(partition, str) or partition.strip() in ("", "None") or len(partition) > _KEY_CHARACTERS:
        raise ValueError(
            f"partition must be 1 to {_KEY_CHARACTERS} characters, got {str(partition)[:80]!r}.\n"
            "If it comes from {{ partition_key }}: this DAG run has none. Trigger the DAG with a partition key."
        )


def check_partition_outlet(partition: str | None, outlets: Sequence[object], tileset: str) -> None:
    """
    Refuse a partition if the tileset's asset is not among the outlets, before anything is uploaded.

    :param partition: the rendered parameter; None for an event without a key.
    :param outlets: the outlets of the task.
    :param tileset: the task's tileset, ``account.name``.
    :raises MapboxFailError: if the event could not have the key.
    """
    if partition is not None and _asset_among(outlets, tileset) is None:
        raise MapboxFailError(
            f"The event of tileset {tileset} cannot have the partition {partition!r}: the asset {_TILESETS}{tileset} "
            "is not among the task's outlets.\nAdd it to the outlets, or leave out the partition."
        )


def drop_other_tilesets(task: BaseOperator, tileset: str) -> None:
    """
    Drop the outlets of other tilesets from an instance of a mapped task.

    All instances have the outlets of `partial`, and Airflow sends an event of each outlet when a task succeeds.

    :param task: the task. If it is not mapped, its outlets stay as they are.
    :param tileset: its own tileset, ``account.name``.
    """
    if is_mapped_instance(task):
        uri = f"{_TILESETS}{tileset}"
        task.outlets = [outlet for outlet in task.outlets if not _is_tileset(outlet) or outlet.uri == uri]


def drop_tilesets(task: BaseOperator) -> None:
    """
    Drop the outlets of all tilesets from a task whose event another task has sent.

    :param task: the task.
    """
    task.outlets = [outlet for outlet in task.outlets if not _is_tileset(outlet)]


def add_event(
    context: Context,
    task: BaseOperator,
    upload: Upload,
    source: Mapping[str, Any],
    partition: str | None = None,
    published: Mapping[str, Any] | None = None,
) -> None:
    """
    Add an event of the tileset. Airflow sends it after the task has succeeded.

    :param context: the task's context.
    :param task: the task, with the outlet that :func:`add_tileset_outlet` added.
    :param upload: the finished upload.
    :param source: facts about its source. They are in the event's extra, beside the upload.
    :param partition: the event's partition key, or None.
    :param published: what is known about the tileset after it was verified, for the event's extra.
    :raises MapboxFailError: if there is a partition, but the tileset's asset is not among the outlets.
    """
    drop_other_tilesets(task, upload.tileset)
    events = cast("dict[Any, Any] | None", cast("dict[str, Any]", context).get("outlet_events"))
    if events is None:
        return  # a test that calls `poke` itself
    facts = {name: source[name] for name in ("features", "bytes", "bounds", "bill") if name in source}
    extra = {"upload_id": upload.id, "name": upload.name, "modified": upload.modified, **facts, **(published or {})}
    extra[_SOURCE_KEY] = dict(source)
    check_partition_outlet(partition, task.outlets, upload.tileset)
    asset = _asset_among(task.outlets, upload.tileset)
    if asset is not None:
        events[asset].extra = extra
        if partition is not None:
            events[asset].add_partitions(partition)
        return
    events[tileset_alias(task.dag_id)].add(tileset_asset(upload.tileset), extra=extra)


def last_published(task: BaseOperator, tileset: str) -> Published | None:
    """
    Return what a tileset was last made from, or None if Airflow does not know.

    It is in the tileset's last event, if the sensor was given the whole result of the upload task. Otherwise it is in
    the asset's state. Airflow keeps that state only while a DAG refers to the asset.

    :param task: the task that makes it.
    :param tileset: ``account.name``.
    """
    asset = _asset_of(task, tileset)
    from_events = filter(None, (_source_in(event.extra) for event in newest_events(asset, _EVENTS)))
    published = next(from_events, None) or _stored_source(asset)
    return Published.from_json(published) if isinstance(published, Mapping) else None


def _source_in(extra: Mapping[str, Any] | None) -> dict[str, Any] | None:
    source = (extra or {}).get(_SOURCE_KEY)
    if extra is None or not isinstance(source, Mapping) or not source:
        return None  # the sensor was given the id alone, so it had no facts about the source
    return {**source, "upload_id": extra["upload_id"]}


def remember(task: BaseOperator, tileset: str, published: Published) -> None:
    """
    Store what a tileset is made from, for later DAG runs. See :func:`last_published`.

    :param task: the task that makes it.
    :param tileset: ``account.name``.
    :param published: the upload and its source.
    """
    try:
        asset_state(_asset_of(task, tileset)).set(_SOURCE_KEY, published.to_json())
    except Exception as error:
        # Airflow answers 404 for the state of an asset that no DAG refers to. Its errors have a root of their own, and
        # are not public. The upload exists in any case.
        log.info(
            "The asset of tileset %s has no state (%s). Its next event has the same facts",
            tileset,
            type(error).__name__,
        )


def _stored_source(asset: Asset) -> object:
    try:
        return asset_state(asset).get(_SOURCE_KEY)
    except Exception:
        return None  # Airflow does not know the asset yet, as in `remember`


def _asset_of(task: BaseOperator, tileset: str) -> Asset:
    asset = _asset_among(task.outlets, tileset)
    return tileset_asset(tileset) if asset is None else asset


def _is_tileset(outlet: object) -> TypeGuard[Asset]:
    return isinstance(outlet, Asset) and outlet.uri.startswith(_TILESETS)


def _asset_among(outlets: Sequence[object], tileset: str) -> Asset | None:
    """Return the asset of a tileset among the outlets. Its author may have given it another name."""
    uri = f"{_TILESETS}{tileset}"
    return next((outlet for outlet in outlets if isinstance(outlet, Asset) and outlet.uri == uri), None)
