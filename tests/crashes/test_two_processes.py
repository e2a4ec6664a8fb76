"""A process that was taken for dead lives on beside its successor: two processes, one upload."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from airflow_mapbox.uploads.once.one_upload import _NOTE_VALID_SECONDS
from tests.crashes.conftest import MakeTask
from tests.crashes.one_try import Step
from tests.crashes.task import await_stopped, go_on
from tests.crashes.test_matrix import assert_one_whole_upload

pytestmark = pytest.mark.timeout(120)

STEPS = [Step.CREDENTIALS, Step.FIRST_PART, Step.LAST_PART, Step.STAGED, Step.NOTED, Step.SENT, Step.ANSWERED]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_predecessor_that_wakes_up_makes_no_second_upload(
    make_task: MakeTask, large: Path, made_of: dict[str, str], step: Step
) -> None:
    task = make_task(large)
    zombie, its = task.start((step, signal.SIGSTOP))
    await_stopped(zombie)

    successor = task.end(*task.start())
    task.await_idle()
    go_on(zombie)
    woken = task.end(zombie, its)

    assert_one_whole_upload(task, successor, made_of)
    assert woken.get("error") == "LedgerError" or woken == {"upload": successor["upload"]}


@pytest.mark.parametrize("step", [Step.CREDENTIALS, Step.STAGED, Step.NOTED], ids=str)
def test_a_predecessor_that_wakes_up_to_a_changed_source_makes_no_second_upload(
    make_task: MakeTask,
    small: Path,
    made_of: dict[str, str],
    tmp_path: Path,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "changing.csv"
    source.write_bytes(small.read_bytes())
    task = make_task(source)
    zombie, its = task.start((step, signal.SIGSTOP))
    await_stopped(zombie)
    with source.open("a") as more:
        more.write("1,2,3\n")

    successor = task.end(*task.start())
    task.await_idle()
    if step is Step.NOTED:
        _await_note_expired(its.folder)
    go_on(zombie)
    woken = task.end(zombie, its)

    # Where it had not read the source yet, it sees the change itself.
    assert woken.get("error") in ("LedgerError", "StagingError"), woken
    # Once its create call was announced, the upload of what it had staged may exist already: it is this intent's one.
    assert_one_whole_upload(task, successor, made_of, of=small if step is Step.NOTED else source)


def test_both_create_at_the_same_moment(make_task: MakeTask, small: Path, made_of: dict[str, str]) -> None:
    task = make_task(small)
    first, its = task.start((Step.NOTED, signal.SIGSTOP))
    await_stopped(first)
    second, others = task.start((Step.NOTED, signal.SIGSTOP))
    await_stopped(second)

    go_on(first)
    go_on(second)
    outcomes = [task.end(first, its), task.end(second, others)]
    task.await_idle()
    outcome = task.run()

    assert_one_whole_upload(task, outcome, made_of)
    for each in outcomes:
        assert each in ({"upload": outcome["upload"]},) or each["error"] in ("UploadActiveError", "LedgerError")


def _await_note_expired(folder: Path) -> None:
    """Wait until the note of a coming create call is older than it holds, which is seconds of real time."""
    age = time.time() - (folder / "entry.json").stat().st_mtime
    time.sleep(max(0.0, _NOTE_VALID_SECONDS + 0.5 - age))
