"""
Contracts with the private parts of Airflow, the Amazon provider and botocore that this package uses.

Each test checks the installed version itself, and names the part that has changed. ``airflow_mapbox/compat.py`` has the
reason for the use of each part. ``tests/unit/hooks/test_environment.py`` runs ``set_route`` against servers.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_mapbox import compat
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASSET = Asset("mapbox://tilesets/acme.places")


@contextmanager
def contract(part: str) -> Iterator[None]:
    """Name the part if anything in the block fails."""
    try:
        yield
    except Exception as error:
        pytest.fail(
            f"{part} has changed ({type(error).__name__}: {error}). Adapt airflow_mapbox/compat.py, or the sensor."
        )


def run_context(task: BaseOperator, *, max_tries: int = 0, reschedules: int = 0, map_index: int = -1) -> Any:
    """Return the context that Airflow's task runner gives to a task."""
    from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    names: dict[str, Any] = {"dag_id": task.dag_id, "run_id": "run"}
    moments = ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date")
    dag_run = DagRun.model_validate(
        names
        | dict.fromkeys(moments, NOW)
        | {"run_type": "manual", "state": "running", "end_date": None}
        | {"consumed_asset_events": [], "partition_key": None}
    )
    from_server = TIRunContext(dag_run=dag_run, task_reschedule_count=reschedules, max_tries=max_tries)
    instance = RuntimeTaskInstance.model_construct(
        **names,
        id=uuid.uuid4(),
        task_id=task.task_id,
        try_number=1,
        map_index=map_index,
        task=task,
        start_date=NOW,
        max_tries=from_server.max_tries,
        _ti_context_from_server=from_server,
    )
    return instance.get_template_context()


def test_airflow_accepts_an_argument_that_is_set_during_execution() -> None:
    with contract("airflow.sdk.definitions._internal.types.SET_DURING_EXECUTION"):
        from airflow.providers.common.compat import sdk

        # The public name, which older versions of the provider lack.
        assert compat.set_during_execution() is sdk.SET_DURING_EXECUTION


@pytest.fixture
def task() -> BaseOperator:
    with DAG("contract", schedule=None):
        return BaseOperator(task_id="task")


class Supervisor:
    """Stands in for Airflow's supervisor: keeps each request, and returns the same response to all."""

    def __init__(self, response: Any) -> None:
        self.requests: list[Any] = []
        self._response = response

    def send(self, msg: Any) -> Any:
        self.requests.append(msg)
        return self._response


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Supervisor]:
    def install(response: Any) -> Supervisor:
        supervisor = Supervisor(response)
        monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", supervisor, raising=False)
        return supervisor

    return install


class TestContextOfATask:
    def test_task_state_store_is_in_the_context_and_gets_sets_and_deletes(self, task: BaseOperator) -> None:
        with contract("context['task_state_store']"):
            store: Any = compat.state_store(run_context(task))

            inspect.signature(store.get).bind("key", None)
            inspect.signature(store.set).bind("key", {"a": 1})
            inspect.signature(store.delete).bind("key")

    def test_max_tries_is_an_attribute_of_the_task_instance_in_the_context(self, task: BaseOperator) -> None:
        with contract("context['ti'].max_tries"):
            assert compat.intent_number(run_context(task, max_tries=3)) == 3

    def test_max_tries_rises_when_a_task_is_cleared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.models import taskinstance

        bag = MagicMock()
        for dag in (bag.get_dag_for_run.return_value, bag.get_latest_version_of_dag.return_value):
            dag.get_task.return_value.retries = 1
        monkeypatch.setattr("airflow.models.dagbag.DBDagBag", lambda **_: bag)  # it reads the database
        instance = MagicMock(try_number=2, max_tries=1, state="success")
        instance.dag_run.context_carrier = {}
        with contract("clear_task_instances, which raises TaskInstance.max_tries"):
            taskinstance.clear_task_instances([instance], MagicMock(), dag_run_state=False)

            assert instance.max_tries == 3

    def test_max_tries_stays_the_same_in_a_retry(self) -> None:
        from airflow.models.taskinstance import TaskInstance

        instance = MagicMock(try_number=1, max_tries=5)
        with contract("TaskInstance.refresh_from_task, which leaves max_tries as it is"):
            TaskInstance.refresh_from_task(instance, MagicMock(retries=2))

            assert instance.max_tries == 5

    @pytest.mark.parametrize(("reschedules", "expected"), [(0, False), (2, True)])
    def test_task_reschedule_count_is_in_the_context(
        self, task: BaseOperator, reschedules: int, expected: bool
    ) -> None:
        context = run_context(task, reschedules=reschedules)

        with contract("context['task_reschedule_count']"):
            assert context["task_reschedule_count"] == reschedules
            assert compat.is_rescheduled(context) is expected

    def test_map_index_template_is_read_from_the_context_after_the_task_has_run(self, task: BaseOperator) -> None:
        from airflow.sdk.execution_time import task_runner

        context = run_context(task, map_index=0)
        with contract("context['map_index_template'] and task_runner._render_map_index"):
            assert context["map_index_template"] is None

            compat.label_map_index(context, "acme.places")

            assert task_runner._render_map_index(context, context["ti"], MagicMock()) == "acme.places"
            source = inspect.getsource(task_runner)
            assert source.index("= _execute_task(context") < source.rindex("= _render_map_index(context")


class TestMappedTasks:
    def test_an_instance_of_a_mapped_task_is_marked_as_such_in_its_init(self) -> None:
        seen: list[bool] = []

        class Seeing(BaseOperator):
            def __init__(self, *, value: int, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                seen.append(compat.is_mapped_instance(self))

        with contract("BaseOperator.__from_mapped"), DAG("contract", schedule=None):
            Seeing(task_id="plain", value=1)
            mapped: Any = Seeing.partial(task_id="mapped").expand(value=[1])
            mapped.unmap({"value": 1})

            assert seen == [False, True]


class TestAssets:
    def test_an_asset_that_is_made_without_the_providers_checks_is_the_one_that_airflow_makes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
        from airflow.serialization.encoders import encode_asset_like

        def refuse(_: object) -> Any:
            raise AssertionError("the checks of all providers were loaded")

        with contract("Asset, whose uri is set after its __init__"):
            with monkeypatch.context() as patch:
                patch.setattr(ProvidersManagerTaskRuntime, "asset_uri_handlers", property(refuse))
                with pytest.raises(AssertionError):
                    Asset(ASSET.uri)
                asset = compat.asset_of_checked_uri(ASSET.uri)

            assert asset == ASSET
            assert hash(asset) == hash(ASSET)
            assert repr(asset) == repr(ASSET)
            assert encode_asset_like(asset) == encode_asset_like(ASSET)
            assert copy.deepcopy(asset) == pickle.loads(pickle.dumps(asset)) == ASSET

    def test_inlet_events_accessors_ask_for_the_newest_events_of_an_asset(
        self, supervisor: Callable[[Any], Supervisor]
    ) -> None:
        from airflow.sdk.execution_time.comms import AssetEventsResult

        airflow = supervisor(AssetEventsResult(asset_events=[]))
        with contract("InletEventsAccessors([asset])[asset].ascending().limit()"):
            assert list(compat.newest_events(ASSET, 7)) == []

            (request,) = airflow.requests
            assert (request.name, request.uri) == (ASSET.name, ASSET.uri)
            assert (request.ascending, request.limit) == (False, 7)

    def test_asset_state_store_accessors_reach_an_asset_by_its_name(
        self, supervisor: Callable[[Any], Supervisor]
    ) -> None:
        from airflow.sdk.execution_time.comms import AssetStateStoreResult

        airflow = supervisor(AssetStateStoreResult(value={"a": 1}))
        with contract("AssetStateStoreAccessors([asset])[asset]"):
            state = compat.asset_state(ASSET)

            assert state.get("key") == {"a": 1}
            assert airflow.requests[0].name == ASSET.name
            inspect.signature(state.set).bind("key", {"a": 1})

    def test_asset_state_store_of_a_trigger_has_the_accessors_of_its_assets_by_name_and_by_uri(self) -> None:
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        trigger = TilesetUpdatedTrigger("acme.places")
        with contract("AssetStateStoreAccessors._by_name and _by_uri"):
            assert compat.watched_asset_states(trigger) == []
            trigger.asset_state_store = AssetStateStoreAccessors([ASSET, Asset("mapbox://tilesets/acme.roads")])
            states = compat.watched_asset_states(trigger)

            assert states[0] == trigger.asset_state_store[ASSET]
            assert len(states) == 2
            for state in states:
                inspect.signature(state.get).bind("key")
                inspect.signature(state.set).bind("key", "2026")

    @pytest.mark.parametrize("has_asynchronous_methods", [True, False])
    def test_an_assets_state_is_read_and_written_with_and_without_asynchronous_methods(
        self, has_asynchronous_methods: bool
    ) -> None:
        """Airflow 3.3.0 and 3.3.1 have the synchronous ones only."""
        values: dict[str, str] = {}
        threads: list[int] = []

        class Synchronous:
            def get(self, key: str) -> str | None:
                threads.append(threading.get_ident())
                return values.get(key)

            def set(self, key: str, value: str) -> None:
                values[key] = value

        class Asynchronous:
            async def aget(self, key: str) -> str | None:
                return values.get(key)

            async def aset(self, key: str, value: str) -> None:
                values[key] = value

        state = Asynchronous() if has_asynchronous_methods else Synchronous()

        async def both() -> object:
            await compat.write_asset_state(state, "last", "2026")
            return await compat.read_asset_state(state, "last")

        assert asyncio.run(both()) == "2026"
        assert threading.get_ident() not in threads


class TestConnectionsOfACommand:
    def test_airflow_process_context_lets_a_command_read_the_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

        monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)

        def is_database_read() -> bool:
            return "MetastoreBackend" in {type(backend).__name__ for backend in ensure_secrets_backend_loaded()}

        with contract("_AIRFLOW_PROCESS_CONTEXT"):
            assert not is_database_read()
            with compat.connections_from_database():
                assert is_database_read()
        assert "_AIRFLOW_PROCESS_CONTEXT" not in os.environ


class TestS3Hook:
    def test_conn_config_of_s3_hook_is_a_cached_property_that_gives_the_credentials(self) -> None:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        with contract("S3Hook.conn_config"):
            assert isinstance(inspect.getattr_static(S3Hook, "conn_config"), cached_property)

            client = compat.s3_client("mapbox", "key-id", "secret", {"aws_session_token": "session"})

            credentials = client._request_signer._credentials
            assert (credentials.access_key, credentials.secret_key, credentials.token) == (
                "key-id",
                "secret",
                "session",
            )

    def test_get_credentials_of_the_connection_wrapper_takes_keywords_and_returns_three_values(self) -> None:
        from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

        with contract("AwsConnectionWrapper._get_credentials"):
            wrapper = AwsConnectionWrapper.from_connection_metadata(login="key-id", password="secret")

            assert wrapper._get_credentials(aws_session_token="session") == ("key-id", "secret", "session")

    def test_from_connection_metadata_takes_the_parts_of_a_connection(self) -> None:
        from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

        with contract("AwsConnectionWrapper.from_connection_metadata"):
            wrapper = AwsConnectionWrapper.from_connection_metadata(
                conn_id="mapbox", login="key-id", password="secret", extra={"endpoint_url": "https://s3.example"}
            )

            assert (wrapper.conn_id, wrapper.login, wrapper.password) == ("mapbox", "key-id", "secret")
            assert wrapper.endpoint_url == "https://s3.example"


@pytest.fixture(scope="module")
def session() -> Any:
    client = compat.s3_client("mapbox", "key-id", "secret", {"region_name": "us-east-1"})
    with contract("client._endpoint.http_session"):
        return client._endpoint.http_session


class TestBotocore:
    def test_setup_ssl_cert_takes_a_connection_first_and_is_called_by_send(self, session: Any) -> None:
        with contract("URLLib3Session._setup_ssl_cert"):
            assert next(iter(inspect.signature(session._setup_ssl_cert).parameters)) == "conn"
            assert "self._setup_ssl_cert(conn" in inspect.getsource(type(session).send)

    def test_get_ssl_context_makes_the_context_of_each_pool(self, session: Any, monkeypatch: Any) -> None:
        with contract("URLLib3Session._get_ssl_context"):
            monkeypatch.setattr(session, "_get_ssl_context", lambda: "context")

            assert session._get_pool_manager_kwargs()["ssl_context"] == "context"

    def test_get_pool_manager_kwargs_are_arguments_of_urllib3(self, session: Any) -> None:
        import urllib3

        with contract("URLLib3Session._get_pool_manager_kwargs"):
            assert urllib3.PoolManager(**session._get_pool_manager_kwargs())

    def test_manager_is_the_pool_manager_that_send_uses(self, session: Any) -> None:
        import urllib3

        with contract("URLLib3Session._manager"):
            assert isinstance(session._manager, urllib3.PoolManager)
            assert isinstance(session._manager.connection_pool_kw, dict)
            assert set(session._manager.pool_classes_by_scheme) == {"http", "https"}
            assert session._get_connection_manager("https://s3.example", None) is session._manager


class TestSensor:
    def test_next_poke_interval_has_the_parameters_that_the_sensor_overrides(self) -> None:
        with contract("the signature of BaseSensorOperator._get_next_poke_interval"):
            expected = list(inspect.signature(BaseSensorOperator._get_next_poke_interval).parameters)

            assert list(inspect.signature(UploadCompleteSensor._get_next_poke_interval).parameters) == expected

    def test_next_poke_interval_decides_when_a_rescheduled_sensor_returns(self) -> None:
        class Sensor(BaseSensorOperator):
            def poke(self, context: Any) -> bool:
                return False

            def _get_next_poke_interval(
                self, started_at: Any, run_duration: Callable[[], float], poke_count: int
            ) -> float:
                assert run_duration() >= 0
                return 5000.0

        sensor = Sensor(task_id="sensor", mode="reschedule", timeout=1e6)
        context: Any = {"ti": MagicMock(get_first_reschedule_date=lambda _: None), "task_reschedule_count": 0}
        with contract("the use of BaseSensorOperator._get_next_poke_interval"):
            with pytest.raises(AirflowRescheduleException) as caught:
                sensor.execute(context)

            delay = caught.value.reschedule_date - datetime.now(UTC)
            assert timedelta(seconds=4900) < delay <= timedelta(seconds=5000)
