"""The crash matrix: a process dies after each step, or each request meets each fault; there is one upload, or none."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.staging import staging_s3_client
from airflow_mapbox.limits import STAGING_REGION
from airflow_mapbox.uploads.client import UploadsClient
from tests.crashes.conftest import POINT, MakeTask
from tests.crashes.one_try import Step
from tests.crashes.task import Task, digest, secrets_of

pytestmark = pytest.mark.timeout(180)

STAGING = (Step.FIRST_PART, Step.LAST_PART)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def unfinished_multiparts(emulator: Emulator) -> set[str]:
    """Give the uploads in parts that were begun at the bucket and neither completed nor aborted."""
    return set(emulator._started._gate.backend._bucket.multiparts)


def assert_one_whole_upload(
    task: Task, outcome: dict[str, Any], made_of: dict[str, str], *, of: Path | None = None
) -> None:
    task.await_idle()
    uploads = task.uploads()
    assert [upload["id"] for upload in uploads] == [outcome["upload"]], (task.outcomes, task.logs()[-3000:])
    assert made_of[outcome["upload"]] == digest(of or Path(task.source))


def assert_no_secret(task: Task) -> None:
    told = task.logs() + task.notes() + repr(task.outcomes)
    assert "DEBUG" in told
    found = [secret[:6] for secret in secrets_of(task.emulator) if secret in told]
    assert found == []


@pytest.mark.parametrize("by", SIGNALS, ids=lambda by: by.name)
@pytest.mark.parametrize("step", [step for step in Step if step not in STAGING], ids=str)
def test_a_small_file_has_one_upload_wherever_its_task_dies(
    make_task: MakeTask, small: Path, made_of: dict[str, str], step: Step, by: signal.Signals
) -> None:
    task = make_task(small)

    outcome = task.run([(step, by)])

    assert_one_whole_upload(task, outcome, made_of)
    assert_no_secret(task)
    assert by is signal.SIGTERM or task.outcomes[0] == {"died": -signal.SIGKILL}


@pytest.mark.parametrize("by", SIGNALS, ids=lambda by: by.name)
@pytest.mark.parametrize("step", list(Step), ids=str)
def test_a_large_file_has_one_upload_wherever_its_task_dies(
    make_task: MakeTask, large: Path, made_of: dict[str, str], step: Step, by: signal.Signals
) -> None:
    task = make_task(large)

    outcome = task.run([(step, by)])

    assert_one_whole_upload(task, outcome, made_of)
    assert_no_secret(task)


AFTER_STAGING = (Step.NOTED, Step.SENT, Step.ANSWERED, Step.RETURNED)


@pytest.mark.parametrize("step", AFTER_STAGING, ids=str)
def test_a_dataset_has_one_upload_wherever_its_task_dies(make_task: MakeTask, emulator: Emulator, step: Step) -> None:
    """A dataset's URL may be used any number of times: no 409 stands between a crash and a second upload."""
    folder = emulator.folder / "datasets" / emulator.account
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "places.geojson").write_text(POINT)
    task = make_task(f"mapbox://datasets/{emulator.account}/places")

    outcome = task.run([(step, signal.SIGKILL)])

    task.await_idle()
    assert [upload["id"] for upload in task.uploads()] == [outcome["upload"]], task.outcomes
    assert_no_secret(task)


@pytest.mark.parametrize("step", AFTER_STAGING[1:], ids=str)
def test_a_task_adopts_its_own_upload_and_not_that_of_a_rival(
    make_task: MakeTask, emulator: Emulator, small: Path, made_of: dict[str, str], tmp_path: Path, step: Step
) -> None:
    """Somebody else replaces the same tileset before the task comes again."""
    rivals = tmp_path / "rival.csv"
    rivals.write_text("lon,lat\n1,1\n")
    task = make_task(small)
    task.end(*task.start((step, signal.SIGKILL)))
    task.await_idle()
    with UploadsClient(emulator.token, emulator.account, base_url=emulator.url) as client:
        credentials = client.create_credentials()
        s3 = staging_s3_client(credentials, emulator.s3_url, region=STAGING_REGION)
        s3.upload_file(str(rivals), credentials.bucket, credentials.key)
        rival = client.create_upload(task.tileset, credentials.url, "A rival's")

    outcome = task.run()

    assert {upload["id"] for upload in task.uploads()} == {rival.id, outcome["upload"]}
    assert outcome["upload"] != rival.id
    assert made_of[outcome["upload"]] == digest(small)


@pytest.mark.parametrize("unlisted", [0, 1.5])
@pytest.mark.parametrize("looks_first", ["staged", "active"])
def test_the_order_of_refusals_and_a_list_that_lags_make_no_second_upload(
    tmp_path: Path, small: Path, made_of: dict[str, str], looks_first: str, unlisted: float
) -> None:
    settings = EmulatorSettings(
        processing_seconds=0, rate_limit=0, workers=1, create_looks_first=looks_first, unlisted_seconds=unlisted
    )
    with Emulator(tmp_path / "emulator", settings=settings) as emulator:
        for step in AFTER_STAGING:
            task = Task(emulator, tmp_path / step.name, str(small))

            outcome = task.run([(step, signal.SIGKILL)])

            assert_one_whole_upload(task, outcome, made_of)
            assert_no_secret(task)


@pytest.mark.parametrize("step", STAGING, ids=str)
def test_a_task_that_is_asked_to_end_while_it_stages_takes_its_parts_back(
    make_task: MakeTask, emulator: Emulator, large: Path, step: Step
) -> None:
    task = make_task(large)
    before = unfinished_multiparts(emulator)

    task.end(*task.start((step, signal.SIGTERM)))

    assert unfinished_multiparts(emulator) == before
    assert task.uploads() == []
    assert task.outcomes[0].get("error") == "StagingStoppedError" or "died" in task.outcomes[0]


@pytest.mark.parametrize("second", [Step.NOTED, Step.SENT, Step.ANSWERED, Step.RETURNED], ids=str)
@pytest.mark.parametrize("first", [Step.STAGED, Step.NOTED, Step.SENT, Step.ANSWERED], ids=str)
def test_a_task_that_dies_twice_has_one_upload(
    make_task: MakeTask, small: Path, made_of: dict[str, str], first: Step, second: Step
) -> None:
    task = make_task(small)

    outcome = task.run([(first, signal.SIGKILL), (second, signal.SIGKILL)])

    assert_one_whole_upload(task, outcome, made_of)


# Every request of an upload: the server, the method, the path.
REQUESTS = {
    "credentials": ("api", "POST", "/credentials"),
    "put": ("s3", "PUT", r"/orphan|_pending/[^?]*$"),
    "begin": ("s3", "POST", r"\?uploads"),
    "part": ("s3", "PUT", "partNumber=2"),
    "complete": ("s3", "POST", "uploadId="),
    "head": ("s3", "HEAD", ""),
    "create": ("api", "POST", r"/uploads/v1/[^/]*$"),
    "list": ("api", "GET", r"/uploads/v1/[^/]*\?"),
    "status": ("api", "GET", r"/uploads/v1/[^/]*/[^/]*$"),
}
API_FAULTS: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "429": {"kind": "status", "status": 429, "message": "Too Many Requests"},
    "401": {"kind": "status", "status": 401, "message": "Unauthorized"},
    "404": {"kind": "status", "status": 404, "message": "Not Found"},
    "active": {"kind": "status", "status": 422, "message": "An upload is already active"},
    "could not access": {"kind": "status", "status": 422, "message": "Could not access url"},
    "drop before": {"kind": "drop_before"},
    "drop after": {"kind": "drop_after"},
    "hang": {"kind": "hang", "seconds": 0.2},
    "delay": {"kind": "delay", "seconds": 0.2},
    "garbage": {"kind": "garbage"},
    "html": {"kind": "html", "status": 502},
    "html 200": {"kind": "html", "status": 200},
}
S3_FAULTS: dict[str, dict[str, Any]] = {
    "SlowDown": {"kind": "status", "status": 503, "code": "SlowDown"},
    "InternalError": {"kind": "status", "status": 500, "code": "InternalError"},
    "AccessDenied": {"kind": "status", "status": 403, "code": "AccessDenied"},
    "ExpiredToken": {"kind": "status", "status": 400, "code": "ExpiredToken"},
    "drop before": {"kind": "drop_before"},
    "drop after": {"kind": "drop_after"},
    "hang": {"kind": "hang", "seconds": 0.2},
    "delay": {"kind": "delay", "seconds": 0.2},
    "garbage": {"kind": "garbage"},
    "html": {"kind": "html", "status": 502},
}
CASES = [
    (request, name)
    for request, (where, _, _) in REQUESTS.items()
    for name in (API_FAULTS if where == "api" else S3_FAULTS)
]


def add_fault(emulator: Emulator, request: str, fault: str, **changes: Any) -> None:
    where, method, path = REQUESTS[request]
    options = dict((API_FAULTS if where == "api" else S3_FAULTS)[fault]) | changes
    emulator.faults.add(options.pop("kind"), where=where, method=method, path=path, **options)


def file_for(request: str, small: Path, large: Path) -> Path:
    return large if request in ("begin", "part", "complete") else small


def deaths_for(request: str) -> list[tuple[Step, signal.Signals]]:
    """Give the death that has the next try make this request."""
    match request:
        case "list":
            return [(Step.SENT, signal.SIGKILL)]
        case "status":
            return [(Step.RETURNED, signal.SIGKILL)]
    return []


@pytest.mark.parametrize(("request_name", "fault"), CASES, ids=lambda part: part.replace(" ", "-"))
def test_a_fault_that_passes_ends_with_one_upload(
    make_task: MakeTask,
    emulator: Emulator,
    small: Path,
    large: Path,
    made_of: dict[str, str],
    request_name: str,
    fault: str,
) -> None:
    task = make_task(file_for(request_name, small, large))
    add_fault(emulator, request_name, fault)

    outcome = task.run(deaths_for(request_name))

    if "upload" in outcome:
        assert_one_whole_upload(task, outcome, made_of)
    else:
        # What says that the token is wrong, or that makes no sense as an answer, a person must look at.
        senseless = request_name in ("credentials", "list", "status") and fault in ("active", "could not access")
        assert fault in ("401", "404", "AccessDenied") or senseless, outcome
        assert len(task.uploads()) == (request_name in ("list", "status"))
        assert outcome["text"]
    assert_no_secret(task)


@pytest.mark.parametrize(("request_name", "fault"), CASES, ids=lambda part: part.replace(" ", "-"))
def test_a_fault_that_stays_ends_with_a_clear_error_and_when_it_is_gone_with_one_upload(
    make_task: MakeTask,
    emulator: Emulator,
    small: Path,
    large: Path,
    made_of: dict[str, str],
    request_name: str,
    fault: str,
) -> None:
    task = make_task(file_for(request_name, small, large))
    for death in deaths_for(request_name):
        task.end(*task.start(death))
    add_fault(emulator, request_name, fault, times=0)

    for _ in range(2):
        outcome = task.end(*task.start())
        assert "died" not in outcome
        assert len(task.uploads()) <= 1
        if "error" in outcome:
            assert outcome["text"].endswith((".", "***")), outcome
    emulator.faults.clear()
    task.await_idle()

    assert_one_whole_upload(task, task.run(), made_of)
    assert_no_secret(task)
