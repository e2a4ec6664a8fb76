"""Tilesets as Airflow assets, ``mapbox://tilesets/{account}.{name}``: announced when they are made, remembered by."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_mapbox.uploads.once.ledger import Published

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# Of the asset's state, and of the extra of its events.
_KEY = "mapbox_source"
# Events of a DAG's tilesets that are looked through, newest first, where an asset has no state yet.
_EVENTS = 100


def tileset_asset(tileset: str) -> Asset:
    """
    Give the asset of a tileset, which DAGs can be scheduled on.

    :param tileset: ``account.name``.
    """
    uri = f"mapbox://tilesets/{tileset}"
    return Asset(name=uri, uri=uri)


def tilesets_of(dag_id: str) -> AssetAlias:
    """
    Give the alias under which a DAG's tilesets are known, since a tileset's id is known only when its task runs.

    :param dag_id: of the DAG whose tasks make them.
    """
    return AssetAlias(f"mapbox_tilesets/{dag_id}")


def announce(context: Context, alias: AssetAlias, upload: Upload, source: Mapping[str, Any]) -> None:
    """
    Have an event of the tileset sent once the task has succeeded.

    :param context: of the task, which has the alias among its outlets.
    :param alias: of the DAG's tilesets.
    :param upload: the finished one.
    :param source: what is known of its source; it is in the event's extra beside the upload.
    """
    events = cast("dict[str, Any]", context).get("outlet_events")
    if events is None:
        return  # a test that calls `poke` itself
    facts = {name: source[name] for name in ("features", "bytes", "bounds") if name in source}
    extra = {"upload_id": upload.id, "name": upload.name, "modified": upload.modified, **facts, _KEY: dict(source)}
    events[alias].add(tileset_asset(upload.tileset), extra=extra)


def last_published(alias: AssetAlias, tileset: str) -> Published | None:
    """
    Say what a tileset was last made from by a task of this DAG, as far as Airflow knows.

    Its last event tells, where the sensor was given what the upload came from; else the asset's state, which there is
    only once an event has named the asset, and only while a DAG refers to it.

    :param alias: of the DAG's tilesets.
    :param tileset: ``account.name``.
    """
    from airflow.sdk.execution_time.context import InletEventsAccessors

    uri = tileset_asset(tileset).uri
    events = InletEventsAccessors([alias])[alias].ascending(False).limit(_EVENTS)
    known = next((told for event in events if event.asset.uri == uri and (told := _told_by(event.extra))), None)
    if known is None:
        state = _state_of(alias, tileset)
        known = None if state is None else state.get(_KEY)
    return Published.from_json(known) if isinstance(known, Mapping) else None


def _told_by(extra: Mapping[str, Any] | None) -> dict[str, Any] | None:
    source = (extra or {}).get(_KEY)
    if extra is None or not isinstance(source, Mapping) or not source:
        return None  # a sensor that was given the id alone knows nothing of the source
    return {**source, "upload_id": extra["upload_id"]}


def remember(alias: AssetAlias, tileset: str, published: Published) -> None:
    """
    Keep what a tileset is made from for later runs, where Airflow lets it: see :func:`last_published`.

    :param alias: of the DAG's tilesets.
    :param tileset: ``account.name``.
    :param published: the upload and its source.
    """
    state = _state_of(alias, tileset)
    if state is None:
        return
    try:
        state.set(_KEY, published.to_json())
    except AirflowRuntimeError as error:
        # Airflow sets an asset aside that no DAG refers to, and answers 404 for its state.
        log.info(
            "The asset of tileset %s keeps no state (%s); its next event tells the same", tileset, error.error.error
        )


def _state_of(alias: AssetAlias, tileset: str) -> Any:
    # A mapped task has in its context what stood in `partial` alone, so the context's own accessors would not do.
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    try:
        return AssetStateStoreAccessors([alias])[tileset_asset(tileset)]
    except KeyError:
        return None  # no event has named it yet
