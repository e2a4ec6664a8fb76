"""Tilesets as Airflow assets, ``mapbox://tilesets/{account}.{name}``: their events, and what they were made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_mapbox.compat import asset_state, newest_events
from airflow_mapbox.uploads.once.ledger import Published

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# The key of the source in an asset's state, and in the extra of its events.
_SOURCE_KEY = "mapbox_source"
# Search this many events of a DAG's tilesets, newest first.
_EVENTS = 100


def tileset_asset(tileset: str) -> Asset:
    """
    Return the asset of a tileset. DAGs can be scheduled on it.

    :param tileset: ``account.name``.
    """
    uri = f"mapbox://tilesets/{tileset}"
    return Asset(name=uri, uri=uri)


def tileset_alias(dag_id: str) -> AssetAlias:
    """
    Return the alias of all tilesets of a DAG. A tileset's id may be known only when its task runs.

    :param dag_id: the DAG whose tasks make the tilesets.
    """
    return AssetAlias(f"mapbox_tilesets/{dag_id}")


def add_event(context: Context, alias: AssetAlias, upload: Upload, source: Mapping[str, Any]) -> None:
    """
    Add an event of the tileset. Airflow sends it after the task has succeeded.

    :param context: the task's context. The alias is among the task's outlets.
    :param alias: alias of the DAG's tilesets.
    :param upload: the finished upload.
    :param source: facts about its source. They are in the event's extra, beside the upload.
    """
    events = cast("dict[str, Any]", context).get("outlet_events")
    if events is None:
        return  # a test that calls `poke` itself
    facts = {name: source[name] for name in ("features", "bytes", "bounds", "bill") if name in source}
    extra = {"upload_id": upload.id, "name": upload.name, "modified": upload.modified, **facts}
    events[alias].add(tileset_asset(upload.tileset), extra={**extra, _SOURCE_KEY: dict(source)})


def last_published(alias: AssetAlias, tileset: str) -> Published | None:
    """
    Return what a task of this DAG last made a tileset from, or None if Airflow does not know.

    It is in the tileset's last event, if the sensor was given the whole result of the upload task. Otherwise it is in
    the asset's state. Airflow keeps that state only after the asset's first event, and while a DAG refers to the asset.

    :param alias: alias of the DAG's tilesets.
    :param tileset: ``account.name``.
    """
    asset = tileset_asset(tileset)
    of_tileset = (event.extra for event in newest_events(alias, _EVENTS) if event.asset.uri == asset.uri)
    published = next(filter(None, map(_source_in, of_tileset)), None)
    if published is None:
        state = asset_state(alias, asset)
        published = None if state is None else state.get(_SOURCE_KEY)
    return Published.from_json(published) if isinstance(published, Mapping) else None


def _source_in(extra: Mapping[str, Any] | None) -> dict[str, Any] | None:
    source = (extra or {}).get(_SOURCE_KEY)
    if extra is None or not isinstance(source, Mapping) or not source:
        return None  # the sensor was given the id alone, so it had no facts about the source
    return {**source, "upload_id": extra["upload_id"]}


def remember(alias: AssetAlias, tileset: str, published: Published) -> None:
    """
    Store what a tileset is made from, for later DAG runs. See :func:`last_published`.

    :param alias: alias of the DAG's tilesets.
    :param tileset: ``account.name``.
    :param published: the upload and its source.
    """
    state = asset_state(alias, tileset_asset(tileset))
    if state is None:
        return
    try:
        state.set(_SOURCE_KEY, published.to_json())
    except AirflowRuntimeError as error:
        # Airflow answers 404 for the state of an asset that no DAG refers to.
        log.info(
            "The asset of tileset %s has no state (%s). Its next event has the same facts", tileset, error.error.error
        )
