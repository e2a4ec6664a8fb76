"""``skip_unchanged`` across the runs of a DAG under a real scheduler, and the asset events that it remembers by."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from demo.postgres import Postgres
from demo.stack import ROOT, Stack, every
from tests.system.canaries import exports_of

pytestmark = pytest.mark.timeout(900)

UPLOADS = ("upload", "frames", "parts")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        airflow_options={
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "tests" / "system" / "dags"),
            "PYTHONPATH": str(ROOT),
        },
        emulator_options=("--rate-limit", "0", "--processing-seconds", "0"),
        postgres=Postgres.is_installed(),
    )
    write(stack, 1)
    with stack:
        stack.await_dag("unchanged")
        yield stack


def write(stack: Stack, value: int) -> None:
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7, 50]}, "properties": {"n": value}}
    path = exports_of(stack) / "unchanged.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))


def run(stack: Stack, day: int) -> dict[str, set[str]]:
    """Run the DAG and give the states of its tasks that upload."""
    made = stack.api("POST", "dags/unchanged/dagRuns", json={"logical_date": f"2018-02-{day:02}T00:00:00Z"})
    path = f"dags/unchanged/dagRuns/{made['dag_run_id']}"
    for _ in every(1, 240):
        stack.check_alive()
        if stack.api("GET", path)["state"] in ("success", "failed"):
            break
    states: dict[str, set[str]] = {name: set() for name in UPLOADS}
    for instance in stack.api("GET", f"{path}/taskInstances")["task_instances"]:
        assert instance["state"] in ("success", "skipped"), instance
        if instance["task_id"] in states:
            states[instance["task_id"]].add(instance["state"])
    return states


def uploads(stack: Stack) -> list[dict[str, Any]]:
    address = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}"
    return list(requests.get(address, params={"access_token": stack.emulator.token, "limit": 100}, timeout=10).json())


def test_only_what_has_changed_is_uploaded(stack: Stack) -> None:
    done, skipped = {"success"}, {"skipped"}

    assert run(stack, 1) == {"upload": done, "frames": done, "parts": done}
    assert run(stack, 2) == {"upload": skipped, "frames": skipped, "parts": skipped}

    os.utime(exports_of(stack) / "unchanged.geojson")
    assert run(stack, 3)["upload"] == skipped, "written anew with the same bytes"

    write(stack, 2)
    assert run(stack, 4) == {"upload": done, "frames": done, "parts": skipped}
    assert run(stack, 5) == {"upload": skipped, "frames": skipped, "parts": skipped}
    assert len(uploads(stack)) == 4 + 2

    address = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}"
    newest = next(one for one in uploads(stack) if one["tileset"].endswith(".kept-file"))
    requests.delete(f"{address}/{newest['id']}", params={"access_token": stack.emulator.token}, timeout=10)
    assert run(stack, 6)["upload"] == done, "nobody can tell any more what the tileset shows"


def test_each_finished_tileset_has_an_event_of_its_asset(stack: Stack) -> None:
    events = stack.api("GET", "assets/events", params={"limit": 100})["asset_events"]
    by_uri = {event["uri"]: event for event in events}

    account = stack.emulator.account
    assert set(by_uri) == {
        f"mapbox://tilesets/{account}.{name}" for name in ("kept-file", "kept-frames", "mapped-0", "mapped-1")
    }
    extra = by_uri[f"mapbox://tilesets/{account}.kept-frames"]["extra"]
    assert extra["upload_id"] in {upload["id"] for upload in uploads(stack)}
    assert (extra["features"], extra["bounds"]) == (1, [7.0, 50.0, 7.0, 50.0])
    assert extra["bytes"] > 100
