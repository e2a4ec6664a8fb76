"""The outlets of a task, the events of its tileset, and what a tileset was last made from."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, Self

import airflow.sdk.execution_time.context as airflow_context
import pytest
from airflow.sdk import DAG, Asset, AssetAlias, BaseOperator
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_mapbox.exceptions import MapboxFailError
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.tasks import assets
from airflow_mapbox.tasks.assets import add_event, last_published, tileset_alias, tileset_asset
from airflow_mapbox.uploads.models import Upload
from tests.unit.support import Reply, ScriptedServer, make_token, upload_json

TILESET = "demo.parcels"
ASSET = tileset_asset(TILESET)
ALIAS = tileset_alias("tested")
KNOWN = {"fingerprint": {"size": 2}, "sha256": "d" * 64}
PARCELS = Upload.from_json(upload_json(tileset=TILESET, complete=True, progress=1))


def operator(tileset: Any = TILESET, **options: Any) -> StageAndCreateUploadOperator:
    options = {"task_id": "upload", "wait_for_completion": True, **options}
    with DAG("tested", schedule=None):
        return StageAndCreateUploadOperator(source="/data/x.geojson", tileset=tileset, **options)


def sensor(upload_id: Any = "cid", **options: Any) -> UploadCompleteSensor:
    with DAG("tested", schedule=None):
        return UploadCompleteSensor(task_id="wait", upload_id=upload_id, **options)


class TestOutlets:
    @pytest.mark.parametrize("make", [operator, lambda **options: sensor(tileset=TILESET, **options)])
    def test_a_tileset_with_its_account_is_an_asset(self, make: Any) -> None:
        assert make().outlets == [ASSET]

    @pytest.mark.parametrize("tileset", ["parcels", "demo.parcels-{{ ds }}", "{{ params.account }}.parcels"])
    def test_a_tileset_that_is_known_at_run_time_goes_by_the_alias(self, tileset: str) -> None:
        assert operator(tileset).outlets == [ALIAS]
        assert sensor(tileset=tileset).outlets == [ALIAS]

    def test_an_operator_that_does_not_wait_has_no_outlet(self) -> None:
        assert operator(wait_for_completion=False).outlets == []

    @pytest.mark.parametrize("key", [None, "id"])
    def test_a_sensor_knows_the_tileset_of_the_task_that_creates_the_upload(self, key: str | None) -> None:
        with DAG("tested", schedule=None):
            created = StageAndCreateUploadOperator(task_id="upload", source="/data/x.geojson", tileset=TILESET).output
            waiting = UploadCompleteSensor(task_id="wait", upload_id=created if key is None else created[key])

        assert waiting.outlets == [ASSET]

    @pytest.mark.parametrize("other", ["demo.roads", "roads", "acme.parcels"])
    def test_a_sensor_with_another_tileset_than_its_creators_breaks_the_import(self, other: str) -> None:
        created = operator(wait_for_completion=False).output

        with pytest.raises(
            ValueError, match=f"tileset is {other}, but the task that creates its upload makes {TILESET}"
        ):
            sensor(created, tileset=other)

    @pytest.mark.parametrize(
        ("own", "creators"),
        [
            (TILESET, TILESET),
            (TILESET, "parcels"),
            ("parcels", TILESET),
            (TILESET, "{{ params.x }}"),
            ("{{ ds }}", "x"),
        ],
    )
    def test_a_sensor_whose_tileset_may_be_its_creators_does_not(self, own: str, creators: str) -> None:
        with DAG("tested", schedule=None):
            created = StageAndCreateUploadOperator(task_id="upload", source="/data/x.geojson", tileset=creators).output
            assert UploadCompleteSensor(task_id="wait", upload_id=created, tileset=own).tileset == own

    def test_an_asset_that_the_author_gives_another_name_is_the_one_that_is_used(self) -> None:
        named = Asset(name="parcels", uri=ASSET.uri)

        assert operator(outlets=[named]).outlets == [named]

    def test_other_outlets_of_the_author_stay(self) -> None:
        other = Asset("s3://bucket/key")

        assert operator(outlets=[other]).outlets == [other, ASSET]

    def test_an_instance_of_a_mapped_task_goes_by_the_alias_because_airflow_never_parsed_it(self) -> None:
        with DAG("tested", schedule=None):
            mapped: Any = UploadCompleteSensor.partial(task_id="wait", tileset=TILESET).expand(upload_id=["a"])

        assert mapped.unmap({"upload_id": "a"}).outlets == [ALIAS]

    def test_an_instance_of_a_mapped_task_uses_an_asset_of_partial(self) -> None:
        with DAG("tested", schedule=None):
            partial = UploadCompleteSensor.partial(task_id="wait", tileset=TILESET, outlets=[ASSET], partition="a")
            mapped: Any = partial.expand(upload_id=["a"])

        assert mapped.unmap({"upload_id": "a"}).outlets == [ASSET]

    def test_an_impossible_tileset_is_an_error_of_the_parameter(self) -> None:
        with pytest.raises(MapboxFailError, match="Change the `tileset` parameter"):
            sensor(tileset="demo.par cels")


def sent(task: BaseOperator, upload: Upload = PARCELS, partition: str | None = None) -> OutletEventAccessors:
    events = OutletEventAccessors()
    add_event({"outlet_events": events}, task, upload, {"features": 3, **KNOWN}, partition)  # type: ignore[typeddict-item]
    return events


class TestEvents:
    def test_the_event_of_an_asset_has_the_upload_and_its_source(self) -> None:
        extra = sent(operator())[ASSET].extra

        assert (extra["upload_id"], extra["features"]) == (PARCELS.id, 3)
        assert extra["mapbox_source"] == {"features": 3, **KNOWN}

    def test_the_event_of_an_alias_has_the_same(self) -> None:
        task = operator("parcels")

        (event,) = sent(task)[ALIAS].asset_alias_events

        assert event.dest_asset_key.uri == ASSET.uri
        assert event.extra == sent(operator())[ASSET].extra

    def test_an_asset_has_no_second_event_by_an_alias(self) -> None:
        assert [key.uri for key in sent(operator()) if isinstance(key, Asset)] == [ASSET.uri]
        assert not [key for key in sent(operator()) if isinstance(key, AssetAlias)]

    def test_a_partition_is_the_key_of_the_event(self) -> None:
        assert sent(operator(partition="2018-02-01"), partition="2018-02-01")[ASSET].partition_keys == {"2018-02-01"}
        assert sent(operator())[ASSET].partition_keys == set()

    def test_a_partition_of_a_tileset_that_turns_out_to_be_another_is_an_error(self) -> None:
        task = operator("{{ params.tileset }}", outlets=[tileset_asset("demo.other")], partition="a")

        with pytest.raises(MapboxFailError, match=r"mapbox://tilesets/demo\.parcels is not among the task's outlets"):
            sent(task, partition="a")


class TestInstancesOfAMappedTask:
    """Airflow sends an event of each asset that is an outlet when a task succeeds, also an empty one."""

    A, B = tileset_asset("demo.a"), tileset_asset("demo.b")
    OTHER = Asset("s3://bucket/key")

    def instances(self, kind: Any, parameter: str, **options: Any) -> list[Any]:
        with DAG("tested", schedule=None):
            partial = kind.partial(task_id="mapped", outlets=[self.A, self.B, self.OTHER], **options)
            mapped = partial.expand(**{parameter: ["a", "b"]})
        return [mapped.unmap({parameter: tileset}) for tileset in ("demo.a", "b")]

    @pytest.mark.parametrize(
        ("kind", "parameter", "options"),
        [
            (StageAndCreateUploadOperator, "tileset", {"source": "/data/x.geojson", "wait_for_completion": True}),
            (UploadCompleteSensor, "upload_id", {}),
        ],
    )
    def test_each_sends_the_event_of_its_own_tileset_alone(self, kind: Any, parameter: str, options: Any) -> None:
        for task, own in zip(self.instances(kind, parameter, **options), (self.A, self.B), strict=True):
            upload = Upload.from_json(upload_json(tileset=own.name.rpartition("/")[2], complete=True, progress=1))

            events = sent(task, upload)

            assert [key for key in events if isinstance(key, Asset)] == [own]
            assert [outlet for outlet in task.outlets if isinstance(outlet, Asset)] == [own, self.OTHER]

    def test_one_whose_tileset_is_not_in_partial_sends_its_event_by_the_alias_alone(self) -> None:
        task, _ = self.instances(UploadCompleteSensor, "upload_id")

        (event,) = sent(task)[ALIAS].asset_alias_events

        assert event.dest_asset_key.uri == ASSET.uri
        assert task.outlets == [self.OTHER, ALIAS]

    def test_the_outlets_of_a_task_that_is_not_mapped_are_left_as_its_author_wrote_them(self) -> None:
        task = sensor(outlets=[self.A], tileset=TILESET)

        sent(task)

        assert task.outlets == [self.A, ASSET]


class TestSensorOnATaskThatWaitsItself:
    """Both would send the event of the tileset."""

    def test_it_breaks_the_import_of_the_dag(self) -> None:
        with pytest.raises(ValueError, match=r"Task upload waits for its upload itself .*would be sent twice"):
            sensor(operator().output)

    def test_so_does_a_sensor_on_the_output_of_a_mapped_task(self) -> None:
        with DAG("tested", schedule=None):
            options = {"task_id": "upload", "source": "/data/x.geojson", "wait_for_completion": True}
            mapped = StageAndCreateUploadOperator.partial(**options).expand(tileset=["a", "b"])

            with pytest.raises(ValueError, match="Task upload waits for its upload itself"):
                UploadCompleteSensor(task_id="wait", upload_id=mapped.output)

    def test_an_instance_of_a_mapped_sensor_sends_no_second_event(self) -> None:
        done = {**PARCELS.to_json(), "tileset_url": "", "source": {}}
        with DAG("tested", schedule=None):
            mapped: Any = UploadCompleteSensor.partial(task_id="wait", outlets=[ASSET]).expand(upload_id=[done])
        task, events = mapped.unmap({"upload_id": done}), OutletEventAccessors()

        task._finish({"outlet_events": events}, PARCELS, None)

        assert not len(events)
        assert task.outlets == [ALIAS]


class TestPartition:
    @pytest.mark.parametrize("make", [operator, lambda **options: sensor(tileset=TILESET, **options)])
    @pytest.mark.parametrize("partition", ["2018-02-01", "{{ partition_key }}"])
    def test_a_known_tileset_can_have_one(self, make: Any, partition: str) -> None:
        assert make(partition=partition).partition == partition

    @pytest.mark.parametrize("tileset", ["parcels", "demo.parcels-{{ ds }}"])
    def test_another_breaks_the_import_of_the_dag_and_says_what_to_write(self, tileset: str) -> None:
        with pytest.raises(ValueError, match=r"(?s)partition needs a tileset that is known.*tileset='acme\.parcels'"):
            operator(tileset, partition="{{ ds }}")
        with pytest.raises(ValueError, match="partition needs a tileset that is known"):
            sensor(partition="{{ ds }}")

    def test_without_waiting_there_is_no_event_to_have_one(self) -> None:
        with pytest.raises(ValueError, match="partition has no effect without wait_for_completion"):
            operator(partition="a", wait_for_completion=False)

    @pytest.mark.parametrize("partition", ["", " ", "x" * 251])
    def test_a_key_that_airflow_would_refuse_breaks_the_import(self, partition: str) -> None:
        with pytest.raises(ValueError, match="partition must be 1 to 250 characters"):
            operator(partition=partition)

    @pytest.mark.parametrize("make", [operator, lambda **options: sensor(tileset=TILESET, **options)])
    def test_a_number_of_native_rendering_is_a_key(self, make: Any) -> None:
        task = make(partition="{{ ds_nodash }}")
        task.partition = 20180201

        task._check(rendered=True)

        assert task.partition == "20180201"

    @pytest.mark.parametrize("partition", [True, 1.5, ["a"]])
    def test_another_type_is_no_key(self, partition: Any) -> None:
        task = operator(partition="{{ params.key }}")
        task.partition = partition

        with pytest.raises(ValueError, match="partition must be 1 to 250 characters"):
            task._check(rendered=True)

    def test_a_run_without_a_key_fails_before_anything_is_uploaded(self) -> None:
        task = operator(partition="{{ partition_key }}")
        task.render_template_fields({"partition_key": None})  # type: ignore[typeddict-item]

        with pytest.raises(MapboxFailError, match="this DAG run has none"):
            task.execute({})  # type: ignore[typeddict-item]

    def test_a_sensor_without_a_key_fails_before_its_first_poll(self) -> None:
        task = sensor(tileset=TILESET, partition="{{ partition_key }}")
        task.render_template_fields({"partition_key": None})  # type: ignore[typeddict-item]

        with pytest.raises(MapboxFailError, match="this DAG run has none"):
            task.execute({})  # type: ignore[typeddict-item]


class TestPartitionOfAnotherTileset:
    """The asset of another tileset is among the outlets, so only the rendered tileset shows the mistake."""

    @pytest.fixture(autouse=True)
    def connected(self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
        described = {"conn_type": "mapbox", "host": server.url, "login": "demo", "password": make_token("demo")}
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", json.dumps(described))

    @pytest.mark.parametrize("tileset", ["parcels", "{{ account }}.parcels"])
    def test_it_is_refused_before_anything_is_uploaded(self, tileset: str, server: ScriptedServer) -> None:
        task = operator(tileset, outlets=[tileset_asset("demo.other")], partition="a")
        task.render_template_fields({"account": "demo"})  # type: ignore[typeddict-item]

        with pytest.raises(MapboxFailError, match=r"mapbox://tilesets/demo\.parcels is not among the task's outlets"):
            task.execute({})  # type: ignore[typeddict-item]

        assert not server.requests

    def test_a_tileset_that_the_connection_completes_to_the_outlets_own_goes_on(self) -> None:
        task = operator("parcels", outlets=[ASSET], partition="a")

        with pytest.raises(MapboxFailError, match="does not exist"):  # the source: the next thing to be checked
            task.execute({})  # type: ignore[typeddict-item]

    def test_a_sensor_is_refused_before_its_first_poll(self, server: ScriptedServer) -> None:
        task = sensor(tileset="demo.{{ name }}", outlets=[tileset_asset("demo.other")], partition="a")
        task.render_template_fields({"name": "parcels"})  # type: ignore[typeddict-item]

        with pytest.raises(MapboxFailError, match=r"mapbox://tilesets/demo\.parcels is not among the task's outlets"):
            task.execute({})  # type: ignore[typeddict-item]

        assert not server.requests

    def test_a_sensor_that_learns_the_tileset_from_mapbox_fails_at_its_first_poll(self, server: ScriptedServer) -> None:
        task = sensor(outlets=[tileset_asset("demo.other")], partition="a")
        server.script(Reply(json=upload_json(id="cid", tileset=TILESET, progress=0.1)))

        with pytest.raises(MapboxFailError, match=r"mapbox://tilesets/demo\.parcels is not among the task's outlets"):
            task.poke({})  # type: ignore[typeddict-item]


class Events:
    """A tileset's asset events, newest first."""

    def __init__(self, *extras: dict[str, Any]) -> None:
        self._events = [SimpleNamespace(extra=extra) for extra in extras]

    def __getitem__(self, _: object) -> Any:
        return self

    def ascending(self, _: bool) -> Self:
        return self

    def limit(self, count: int) -> list[Any]:
        return self._events[:count]


def last(monkeypatch: pytest.MonkeyPatch, events: Events, state: dict[str, Any]) -> Any:
    monkeypatch.setattr(airflow_context, "InletEventsAccessors", lambda _: events)
    monkeypatch.setattr(assets, "asset_state", lambda _: state)
    return last_published(operator(), TILESET)


class TestLastPublished:
    def test_its_last_event_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        events = Events({"upload_id": "second", "mapbox_source": KNOWN}, {"upload_id": "first", "mapbox_source": KNOWN})

        assert last(monkeypatch, events, {}).upload_id == "second"

    def test_an_event_that_knows_no_source_leaves_it_to_the_asset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As where the sensor was given the upload's id alone."""
        events = Events({"upload_id": "first", "mapbox_source": {}})

        found = last(monkeypatch, events, {"mapbox_source": {"upload_id": "first", **KNOWN}})

        assert (found.upload_id, found.sha256) == ("first", "d" * 64)
        assert last(monkeypatch, events, {}) is None
