"""
The parts of Airflow, of the Amazon provider and of botocore that are not public, each with the reason for its use.

The rest of this package uses public interfaces only, with these exceptions, which have to stay where they are:

- The sensors override ``BaseSensorOperator._get_next_poke_interval``: there is no other way to choose the time of the
  next poke and to keep ``timeout``.
- ``airflow_mapbox.cli`` uses ``airflow.cli`` and ``airflow.utils.cli``, as every provider with commands does.

``tests/unit/test_compat.py`` has a test for each part in this module and for the sensor's method.
If a new version of Airflow changes one, that test names it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from airflow.sdk import Asset, BaseOperator, Context
    from airflow.triggers.base import BaseEventTrigger

    from airflow_mapbox.http.environment import Route


# --- Tasks ---


def set_during_execution() -> Any:
    """
    Return the value of an operator's parameter that a decorated function replaces.

    The provider common.compat exports it since version 1.21. The constraints of Airflow 3.3 have older versions.
    """
    from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION

    return SET_DURING_EXECUTION


def state_store(context: Context) -> Any | None:
    """
    Return the task state store of a running task.

    :param context: the task's context.
    :return: None outside of Airflow's task runner, for example in a test that calls ``execute`` itself.
    """
    return cast("Mapping[str, Any]", context).get("task_state_store")


def intent_number(context: Context) -> int:
    """
    Return a number that stays the same in every retry of a task, and changes when the task is cleared.

    The task state store survives both. ``max_tries`` is the only value that tells them apart: Airflow raises it when a
    task is cleared.

    :param context: the task's context.
    """
    return int(cast("Mapping[str, Any]", context)["ti"].max_tries)


def is_rescheduled(context: Context) -> bool:
    """
    Return whether an earlier process of this try asked to be rescheduled.

    ``task_reschedule_count`` is not in the documented context.

    :param context: the task's context.
    """
    return bool(cast("Mapping[str, Any]", context).get("task_reschedule_count"))


def label_map_index(context: Context, label: str) -> None:
    """
    Show a label instead of the map index of a mapped task, unless its author has set ``map_index_template``.

    Airflow renders the template after the task has run, and reads both from the context. There is no public way to set
    a default.

    :param context: the task's context.
    :param label: the label, such as a tileset.
    """
    values = cast("dict[str, Any]", context)
    if getattr(values.get("ti"), "map_index", -1) >= 0 and values.get("map_index_template") is None:
        values |= {"mapbox_tileset": label, "map_index_template": "{{ mapbox_tileset }}"}


def is_mapped_instance(task: BaseOperator) -> bool:
    """
    Return whether Airflow makes this task from a mapped one, in the worker. Airflow parses only the mapped task.

    There is no public way to tell.

    :param task: the task, in or after its ``__init__``.
    """
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


# --- Assets ---


def asset_of_checked_uri(uri: str) -> Asset:
    """
    Return the asset of a URI that is in its normal form already.

    The public way, ``Asset(uri)``, looks for a check of the URI in every installed provider. This imports all of their
    checks, of the Amazon provider also boto3: 0.3 s of CPU in each process that parses a DAG or polls.

    :param uri: the URI. It is the asset's name, too.
    """
    from airflow.sdk import Asset

    asset = Asset(name=uri, uri="not-yet-set")  # no URI, so Airflow does not look for its check
    object.__setattr__(asset, "uri", uri)  # `asset.uri = …` would run Airflow's converter
    return asset


def newest_events(asset: Asset, limit: int) -> Any:
    """
    Return the events of an asset, newest first.

    The public way, ``context["inlet_events"]``, needs the asset among the task's inlets.

    :param asset: the asset.
    :param limit: number of events at most.
    """
    from airflow.sdk.execution_time.context import InletEventsAccessors

    return InletEventsAccessors([asset])[asset].ascending(False).limit(limit)


def asset_state(asset: Asset) -> Any:
    """
    Return the state store of an asset. Its methods raise an error of Airflow's own if Airflow does not know the asset.

    The public way, ``context["asset_state_store"]``, needs the asset among the task's inlets or outlets.

    :param asset: the asset.
    """
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    return AssetStateStoreAccessors([asset])[asset]


def watched_asset_states(trigger: BaseEventTrigger) -> list[Any]:
    """
    Return the state stores of the assets that a trigger watches. Their methods are those of :func:`asset_state`.

    ``trigger.asset_state_store`` is a mapping by asset, and a trigger does not know its assets. Assets whose watchers
    are equal share one trigger.

    :param trigger: the trigger. That of a task has none.
    """
    store = trigger.asset_state_store
    return [] if store is None else [*store._by_name.values(), *store._by_uri.values()]


async def read_asset_state(state: Any, key: str) -> object:
    """
    Return a value of an asset's state without blocking the event loop.

    :param state: the state store of an asset.
    :param key: the key.
    """
    return await (state.aget(key) if hasattr(state, "aget") else _in_airflows_thread(state.get, key))


async def write_asset_state(state: Any, key: str, value: str) -> None:
    """
    Set a value of an asset's state without blocking the event loop.

    :param state: the state store of an asset.
    :param key: the key.
    :param value: the value.
    """
    await (state.aset(key, value) if hasattr(state, "aset") else _in_airflows_thread(state.set, key, value))


def _in_airflows_thread(function: Callable[..., Any], *arguments: str) -> Awaitable[Any]:
    """Call a method of Airflow 3.3.0 and 3.3.1, which have no asynchronous ones. asgiref returns to this loop."""
    from asgiref.sync import sync_to_async

    return sync_to_async(function)(*arguments)


# --- The command line ---


@contextmanager
def connections_from_database() -> Iterator[None]:
    """
    Let ``BaseHook.get_connection`` read Airflow's database in a command.

    Outside of a task, Airflow reads its database only in a server's process. Otherwise it looks in environment
    variables and secrets backends alone.
    """
    name = "_AIRFLOW_PROCESS_CONTEXT"
    before = os.environ.get(name)
    os.environ[name] = "server"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# --- S3 ---


def s3_client(name: str, access_key_id: str, secret_access_key: str, extra: Mapping[str, Any]) -> Any:
    """
    Return a boto3 S3 client of the Amazon provider, with credentials that are in no Airflow connection.

    ``S3Hook`` reads its credentials from a connection only, so its connection is replaced. Mapbox's credentials last as
    long as one upload, so the provider's advice to renew them is left out.

    :param name: what the provider's log lines call the connection.
    :param access_key_id: the access key.
    :param secret_access_key: the secret key.
    :param extra: the connection's extra, as the Amazon provider reads it.
    """
    connection_class, hook_class = _s3_classes()
    connection = connection_class.from_connection_metadata(
        conn_id=name, login=access_key_id, password=secret_access_key, extra=dict(extra)
    )
    return hook_class(connection).get_conn()


@cache
def _s3_classes() -> tuple[Any, Any]:
    """Return the classes of the connection and the hook. They are made once: the Amazon provider is slow to import."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    class TemporaryConnection(AwsConnectionWrapper):
        def _get_credentials(self, *, aws_session_token: Any = None, **_: Any) -> tuple[Any, Any, Any]:
            return self.login, self.password, aws_session_token

    class TemporaryS3Hook(S3Hook):
        def __init__(self, connection: AwsConnectionWrapper) -> None:
            super().__init__(aws_conn_id=None)
            self._connection = connection

        @cached_property
        def conn_config(self) -> AwsConnectionWrapper:
            return self._connection

    return TemporaryConnection, TemporaryS3Hook


def set_route(client: Any, route: Route) -> None:
    """
    Let a boto3 client use a SOCKS proxy, and a folder of certificate authorities.

    botocore's HTTP session supports neither, and has no public way to add them.

    :param client: the client.
    :param route: the proxy and the authorities.
    """
    from airflow_mapbox.http.environment import trust_in

    socks = route.proxy is not None and route.proxy.lower().startswith("socks")
    folder = Path(route.authorities).is_dir()
    if not socks and not folder:
        return
    session = client._endpoint.http_session
    if folder:
        trust = trust_in(route)
        session._setup_ssl_cert = lambda connection, *_: setattr(connection, "cert_reqs", "CERT_REQUIRED")
        session._get_ssl_context = lambda: trust
    options = session._get_pool_manager_kwargs()
    if not socks:
        session._manager.connection_pool_kw.update(options)
        return
    from botocore.awsrequest import AWSConnection
    from urllib3.contrib.socks import SOCKSHTTPSConnection, SOCKSHTTPSConnectionPool, SOCKSProxyManager

    connection = type("Connection", (AWSConnection, SOCKSHTTPSConnection), {})
    pool = type("Pool", (SOCKSHTTPSConnectionPool,), {"ConnectionCls": connection})
    session._manager = SOCKSProxyManager(str(route.proxy), **options)
    session._manager.pool_classes_by_scheme = {"https": pool}
