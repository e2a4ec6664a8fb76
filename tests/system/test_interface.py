"""
What a data engineer sees and clicks in Airflow's pages: a real Airflow 3.3 in headless Chromium.

Screenshots are left in build/screenshots, or in the folder SCREENSHOTS. ``make screenshots`` takes those of the
documentation anew.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, expect

from demo.postgres import Postgres
from demo.stack import Stack, every
from tests.conftest import ROOT
from tests.support.browser import CHROMIUM, Browser, browser

pytestmark = [
    pytest.mark.timeout(420),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; .ci/run installs it"),
]
SECONDS = 240
HASTY = "approved_in_seconds"
WRONG_TOKEN = "sk.eyJ1IjoiZGVtbyJ9.wrong"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # The pictures show paths, so the DAGs stand in a folder with a short name.
    with tempfile.TemporaryDirectory(prefix="airflow-") as folder:
        dags = Path(folder) / "dags"
        shutil.copytree(ROOT / "dags", dags)
        for dag in (ROOT / "tests/system/dags/interface").glob("*.py"):
            shutil.copy(dag, dags)
        # The example waits a day for an answer.
        example = (ROOT / "dags" / "counties_approved.py").read_text()
        hasty = example.replace("timedelta(days=1)", "timedelta(seconds=5)").replace("counties_approved", HASTY)
        (dags / f"{HASTY}.py").write_text(hasty)
        options = {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
        emulator = ("--rate-limit", "0", "--processing-seconds", "1")
        # On SQLite, Airflow refuses a backfill while a busy scheduler writes.
        postgres = Postgres.is_installed()
        with Stack(
            Path(folder), triggerer=True, airflow_options=options, emulator_options=emulator, postgres=postgres
        ) as up:
            for dag_id in ("earthquakes_daily", "mapped_layers", HASTY):
                up.await_dag(dag_id)
            yield up


@pytest.fixture
def person(stack: Stack) -> Iterator[Browser]:
    with browser(ROOT / "build" / "screenshots") as opened:
        opened.page.goto(stack.url)
        yield opened
        assert opened.foreign == []


def await_run(stack: Stack, started: dict[str, Any], *, state: str = "success") -> dict[str, Any]:
    """Wait until a run has ended, and return it."""
    for _ in every(1, SECONDS):
        stack.check_alive()
        now = stack.api("GET", f"dags/{started['dag_id']}/dagRuns/{started['dag_run_id']}")
        if now["state"] in ("success", "failed"):
            assert now["state"] == state
            return dict(now)
    pytest.fail(f"{started['dag_run_id']} of DAG {started['dag_id']} did not end within {SECONDS} s")


def run(stack: Stack, dag_id: str, *, state: str = "success") -> dict[str, Any]:
    """Trigger a DAG by the API, and wait until its run has ended."""
    started = stack.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None})
    return await_run(stack, started, state=state)


def click(person: Browser, button: Locator, path: str) -> dict[str, Any]:
    """Click a button, and return the API's answer to the request that it sends."""
    with person.page.expect_response(lambda answer: answer.request.method == "POST" and path in answer.url) as caught:
        button.click()
    assert caught.value.ok, caught.value.text()
    return dict(caught.value.json())


def uploads(stack: Stack) -> list[dict[str, Any]]:
    address = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}"
    return list(requests.get(address, params={"access_token": stack.emulator.token}, timeout=10).json())


# --- The connection ---


def add_connection(person: Browser, stack: Stack, connection_id: str, token: str) -> Locator:
    """Create a connection in its form, and return its row in the list."""
    page = person.page
    page.goto(f"{stack.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill(connection_id)
    form.get_by_role("combobox").first.fill("mapbox")
    page.get_by_role("option", name="Mapbox", exact=True).click()
    form.locator("input[name=host]").fill(stack.emulator.url)
    form.locator("input[name=password]").fill(token)
    form.locator("input[name=port]").fill("0")
    if token != WRONG_TOKEN:
        person.picture("connection-form")
    form.get_by_text("Extra Fields", exact=True).click()
    form.locator("#element_s3_endpoint_url").fill(stack.emulator.s3_url)
    form.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=connection_id)
    row.wait_for()
    return row


@pytest.mark.parametrize(("token", "colour"), [("", "green"), (WRONG_TOKEN, "red")], ids=["good", "wrong"])
def test_a_connection_is_created_in_its_form_and_tested_by_its_icon(
    person: Browser, stack: Stack, token: str, colour: str
) -> None:
    row = add_connection(person, stack, f"mapbox_{colour}", token or stack.emulator.token)

    icon = row.get_by_role("button", name="Test Connection")
    icon.click()

    expect(icon.locator("svg")).to_have_css("color", {"green": "rgb(0, 128, 0)", "red": "rgb(255, 0, 0)"}[colour])
    person.picture(f"connection-test-{colour}")
    assert stack.emulator.token not in person.page.content()


# --- Runs ---


def open_trigger(person: Browser, stack: Stack, dag_id: str) -> Locator:
    person.page.goto(f"{stack.url}/dags/{dag_id}")
    person.page.get_by_test_id("trigger-dag-button").first.click()
    return person.page.get_by_role("dialog").filter(has_text="Trigger a single run")


def pick_date(person: Browser, field: Locator, day: str) -> None:
    field.click()
    date = person.page.locator('input[placeholder="YYYY/MM/DD"]:visible')
    date.fill(day)
    person.page.keyboard.press("Escape")
    date.wait_for(state="hidden")


def test_a_dag_is_triggered_with_parameters(person: Browser, stack: Stack) -> None:
    form = open_trigger(person, stack, "earthquakes_daily")
    other = Path(stack.environment()["AIRFLOW__CORE__DAGS_FOLDER"]) / "data" / "one-earthquake.geojson"
    other.write_text(ONE_EARTHQUAKE)
    form.locator("input[name=element_feed]").fill(str(other))
    form.get_by_role("button", name="Advanced Options").click()
    pick_date(person, form.get_by_test_id("datetime-input").first, "2020/01/02")
    person.picture("trigger-with-parameters")

    started = click(person, form.get_by_test_id("trigger-dag-submit"), "/dagRuns")

    done = await_run(stack, started)
    assert done["conf"] == {"feed": str(other)}
    assert [upload["tileset"] for upload in uploads(stack)] == ["demo.earthquakes-20200101"]


ONE_EARTHQUAKE = """{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "us1", "properties":
{"mag": 5.1, "place": "near Bonn", "time": 1577880000000, "title": "M 5.1", "type": "earthquake", "url": ""},
"geometry": {"type": "Point", "coordinates": [7.1, 50.7, 10.0]}}]}"""


def test_a_backfill_of_a_range_of_dates_ends_green(person: Browser, stack: Stack) -> None:
    form = open_trigger(person, stack, "earthquakes_daily")
    form.locator("//label[.//input[@value='backfill']]").click()
    form = person.page.get_by_role("dialog").filter(has_text="Date Range")
    for field, day in zip(form.get_by_test_id("datetime-input").all(), ("2018/01/31", "2018/02/02"), strict=True):
        pick_date(person, field, day)
    expect(form.get_by_text("3 runs will be triggered")).to_be_visible()
    person.picture("backfill-form")

    started = click(person, form.get_by_role("button", name="Run Backfill"), "/backfills")

    assert any(stack.api("GET", f"backfills/{started['id']}")["completed_at"] for _ in every(1, SECONDS))
    runs = stack.api("GET", "dags/earthquakes_daily/dagRuns", params={"limit": 20})["dag_runs"]
    assert [run["state"] for run in runs if run["run_type"] == "backfill"] == ["success"] * 3
    person.page.goto(f"{stack.url}/dags/earthquakes_daily")
    expect(person.page.get_by_role("link", name="wait").first).to_be_visible()
    person.picture("backfill-grid")
    tilesets = [upload["tileset"] for upload in uploads(stack)]
    assert sorted(name for name in tilesets if "earthquakes-2018" in name) == [
        "demo.earthquakes-20180131",
        "demo.earthquakes-20180201",
        "demo.earthquakes-20180202",
    ]


# --- What a task shows ---


def open_task(person: Browser, stack: Stack, of: dict[str, Any], task_id: str, tab: str = "") -> None:
    person.page.goto(f"{stack.url}/dags/{of['dag_id']}/runs/{of['dag_run_id']}/tasks/{task_id}{tab}")


def test_the_log_shows_progress_and_no_token(person: Browser, stack: Stack) -> None:
    done = run(stack, "virginia_counties")

    open_task(person, stack, done, "upload")

    log = person.page.get_by_test_id("virtualized-list")
    for progress in ("Preflight of", "Staged", "Mapbox is processing upload"):
        expect(log).to_contain_text(progress)
    person.picture("log-of-an-upload")
    assert stack.emulator.token not in person.page.content()


def test_the_log_of_a_refused_file_has_a_problem_a_line(person: Browser, stack: Stack) -> None:
    done = run(stack, "refused_file", state="failed")

    open_task(person, stack, done, "upload")

    log = person.page.get_by_test_id("virtualized-list")
    expect(log).to_contain_text("Problem geojson-crs")
    expect(log).to_contain_text("Problem geojson-range")
    person.picture("log-of-a-refused-file", height=550)  # below is a traceback, with this machine's paths


def test_mapped_tasks_are_named_by_their_tilesets(person: Browser, stack: Stack) -> None:
    done = run(stack, "mapped_layers")

    open_task(person, stack, done, "upload", "/mapped")

    for tileset in ("rivers", "lakes"):
        expect(person.page.get_by_role("link", name=re.compile(tileset)).first).to_be_visible()
    person.picture("mapped-tasks")


def test_the_options_of_an_export_are_shown_as_json(person: Browser, stack: Stack) -> None:
    done = run(stack, "counties_as_tiles")

    open_task(person, stack, done, "upload", "/rendered_templates")

    row = person.page.get_by_role("row").filter(has_text="export")
    expect(row).to_contain_text('"maxzoom": 9')
    person.picture("rendered-templates")


# --- The tileset ---


def test_a_link_leads_from_the_task_to_a_map_with_its_data(person: Browser, stack: Stack) -> None:
    done = run(stack, "virginia_counties")
    open_task(person, stack, done, "wait", "/details")
    link = person.page.get_by_role("link", name="Tileset")
    expect(link).to_have_attribute("href", f"{stack.emulator.url}/tilesets/{stack.emulator.account}.virginia-counties")
    person.picture("links-of-a-task")

    with person.page.context.expect_page() as opened:
        link.click()

    page = opened.value
    page.locator("#map[data-drawn]").wait_for(timeout=60_000)
    assert int(page.locator("#map").get_attribute("data-drawn") or 0) > 100
    person.picture_of(page, "map-of-a-tileset")


def test_a_link_leads_to_the_state_of_the_upload(person: Browser, stack: Stack) -> None:
    done = run(stack, "virginia_counties")
    open_task(person, stack, done, "upload", "/details")

    with person.page.context.expect_page() as opened:
        person.page.get_by_role("link", name="Upload", exact=True).click()

    expect(opened.value.get_by_text("virginia-counties").first).to_be_visible()
    person.picture_of(opened.value, "state-of-an-upload")


def test_the_asset_shows_its_events_and_what_waits_for_it(person: Browser, stack: Stack) -> None:
    run(stack, "virginia_counties")
    assets = stack.api("GET", "assets", params={"uri_pattern": "virginia-counties", "only_active": False})["assets"]
    (asset,) = [found for found in assets if found["uri"].endswith(f"{stack.emulator.account}.virginia-counties")]

    person.page.goto(f"{stack.url}/assets/{asset['id']}")

    expect(person.page.get_by_text("after_counties").first).to_be_visible()
    expect(person.page.get_by_text("virginia_counties").first).to_be_visible()
    expect(person.page.get_by_text(re.compile(r"\d+ Asset Events?$")).first).to_be_visible()
    person.picture("asset-of-a-tileset")


# --- A person in the loop ---


def await_question(stack: Stack, dag_id: str, **conf: Any) -> dict[str, Any]:
    """Start a run, and wait until it asks."""
    started = stack.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
    assert any(state_of(stack, started, "approve") == "awaiting_input" for _ in every(1, SECONDS))
    return dict(started)


def state_of(stack: Stack, of: dict[str, Any], task_id: str) -> str:
    return str(stack.api("GET", f"dags/{of['dag_id']}/dagRuns/{of['dag_run_id']}/taskInstances/{task_id}")["state"])


def answer(stack: Stack, of: dict[str, Any], option: str) -> None:
    task = f"dags/{of['dag_id']}/dagRuns/{of['dag_run_id']}/taskInstances/approve/-1/hitlDetails"
    # An answer within a second of the question fails the task: Airflow's executor has not noticed its exit yet.
    time.sleep(4)
    stack.api("PATCH", task, json={"chosen_options": [option], "params_input": {}})


def test_a_person_reads_the_report_and_approves(person: Browser, stack: Stack) -> None:
    started = await_question(stack, "counties_approved")
    open_task(person, stack, started, "approve", "/required_actions")
    expect(person.page.get_by_text("Mapbox should accept").first).to_be_visible()
    person.picture("approval")

    person.page.get_by_test_id("hitl-option-Approve").click()

    await_run(stack, started)
    assert state_of(stack, started, "upload") == "success"


def test_an_approval_through_the_api_starts_the_upload(stack: Stack) -> None:
    started = await_question(stack, "counties_approved_above", limit_kilobytes=1)

    answer(stack, started, "Approve")

    await_run(stack, started)
    assert [state_of(stack, started, task) for task in ("upload", "wait")] == ["success", "success"]


@pytest.mark.parametrize(
    ("dag_id", "conf"), [("counties_approved", {}), ("counties_approved_above", {"limit_kilobytes": 1})]
)
def test_a_rejection_through_the_api_uploads_nothing(stack: Stack, dag_id: str, conf: dict[str, Any]) -> None:
    before = uploads(stack)
    started = await_question(stack, dag_id, **conf)

    answer(stack, started, "Reject")

    await_run(stack, started)
    assert [state_of(stack, started, task) for task in ("upload", "wait")] == ["skipped", "skipped"]
    assert uploads(stack) == before


def test_no_answer_in_time_fails_and_uploads_nothing(stack: Stack) -> None:
    before = uploads(stack)

    started = run(stack, HASTY, state="failed")

    assert [state_of(stack, started, task) for task in ("approve", "upload")] == ["failed", "upstream_failed"]
    assert uploads(stack) == before


def test_below_the_limit_no_person_is_asked(stack: Stack) -> None:
    done = run(stack, "counties_approved_above")

    assert [state_of(stack, done, task) for task in ("approve", "upload", "wait")] == ["skipped", "success", "success"]
