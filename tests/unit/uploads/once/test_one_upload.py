"""One upload for one intent: what each answer of the API and each earlier crash lead to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.sources.identity import identity
from airflow_mapbox.sources.resolve import open_source
from airflow_mapbox.sources.source import Source
from airflow_mapbox.sources.streams import IteratorStream
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import (
    CreationUnknownError,
    InvalidRequestError,
    LedgerError,
    NoAnswerError,
    NotFoundError,
    StagedUrlNotReadableError,
    StagingError,
    ThrottledError,
    UnchangedSourceError,
    UnclaimedUploadError,
    UploadActiveError,
    UploadNotListedError,
)
from airflow_mapbox.uploads.once.ledger import Entry, MemoryLedger, Published, State
from airflow_mapbox.uploads.once.one_upload import OneUpload
from airflow_mapbox.uploads.staging.stager import StagedFile
from tests.unit.conftest import MakeClient
from tests.unit.support import ACCOUNT, FakeTime, Reply, ScriptedServer, upload_json

TILESET = f"{ACCOUNT}.harbours"
URL = "https://bucket.s3.amazonaws.com/43/_pending/1/orion"
DATASET = f"mapbox://datasets/{ACCOUNT}/cifzrl"
NOW = 1_700_000_000.0
USED = Reply(409, {"message": "The provided url has already been used by another upload. Fetch new credentials."})
ACTIVE = Reply(422, {"message": "An upload is already active"})
UNREADABLE = Reply(422, {"message": "Could not access url"})
MADE = Reply(201, upload_json(id="made", tileset=TILESET))
LOST = Reply(201, upload_json(id="made", tileset=TILESET), fault="drop")


def _listed(upload_id: str, *, after: float | None = 0.0, tileset: str = "harbours", **changed: Any) -> dict[str, Any]:
    created = None if after is None else datetime.fromtimestamp(NOW + after, UTC).isoformat().replace("+00:00", "Z")
    return upload_json(**({"id": upload_id, "created": created, "tileset": f"{ACCOUNT}.{tileset}"} | changed))


class Bucket:
    """Stages under a new key each time, and remembers what."""

    def __init__(self) -> None:
        self.staged: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, source: Source) -> StagedFile:
        self.staged.append(source.description)
        with source.open() as stream:
            data = stream.read()
        self.meanwhile()
        return StagedFile(URL.replace("/1/", f"/{len(self.staged)}/"), len(data), hashlib.sha256(data).hexdigest())


class Diary(MemoryLedger):
    """A ledger that remembers every entry, and refuses some."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.refuses: Callable[[Entry], bool] = lambda entry: False

    def write(self, entry: Entry) -> None:
        if self.refuses(entry):
            raise LedgerError("The task's state could not be written.")
        assert Entry.from_json(entry.to_json()) == entry
        self.entries.append(entry)
        super().write(entry)


def met(client: UploadsClient) -> UploadsClient:
    """Give a client that the server's clock has been told to, as the request for credentials does it."""
    client._server_time = NOW, client._monotonic()
    return client


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def diary() -> Diary:
    return Diary()


MakeOnce = Callable[..., OneUpload]


@pytest.fixture
def make(make_client: MakeClient, bucket: Bucket, diary: Diary, fake_time: FakeTime) -> MakeOnce:
    def make(client: UploadsClient | None = None, clock: Callable[[], float] = fake_time.clock) -> OneUpload:
        return OneUpload(client or met(make_client()), diary, bucket, sleep=fake_time.sleep, clock=clock)

    return make


@pytest.fixture
def once(make: MakeOnce) -> OneUpload:
    return make()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "harbours.geojson"
    made.write_text("{}")
    return made


def _entry(path: Path, **changed: Any) -> Entry:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = Entry(TILESET, str(path), URL, NOW, NOW, open_source(path).fingerprint, sha256)
    return replace(entry, **changed)


def _creates(server: ScriptedServer) -> list[str]:
    return [request.json["url"] for request in server.requests if request.method == "POST"]


class TestAFirstTry:
    def test_a_first_attempt_stages_then_writes_down_then_creates_then_writes_down(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        server.script(MADE)

        upload = once.upload_file(path, TILESET, "Harbours")

        assert (upload.id, bucket.staged, _creates(server)) == ("made", [str(path)], [URL])
        before, after = diary.entries
        assert (before.url, before.in_doubt, before.upload) == (URL, True, None)
        assert (after.in_doubt, after.upload) == (False, upload.to_json())
        assert after.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_first_attempt_whose_note_is_refused_creates_nothing(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        diary.refuses = lambda entry: True

        with pytest.raises(LedgerError):
            once.upload_file(path, TILESET, None)

        assert server.requests == []

    def test_a_first_attempt_that_was_stopped_after_its_note_asks_whether_it_may_still_continue(
        self, server: ScriptedServer, make: MakeOnce, path: Path, diary: Diary
    ) -> None:
        seconds = iter((0.0, 0.0, 400.0, 400.0))
        diary.refuses = lambda entry: len(diary.entries) == 1

        with pytest.raises(LedgerError):
            make(clock=lambda: next(seconds)).upload_file(path, TILESET, None)

        assert server.requests == []

    def test_a_first_attempt_that_waits_for_a_rate_limit_asks_before_it_continues(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        diary.refuses = lambda entry: len(diary.entries) == 1
        server.script(Reply(429, {"message": "no"}, headers={"X-Rate-Limit-Interval": "30"}))

        with pytest.raises(LedgerError):
            once.upload_file(path, TILESET, None)

        assert len(_creates(server)) == 1, "the one that was refused"

    def test_an_upload_that_cannot_be_recorded_is_still_returned(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, caplog: pytest.LogCaptureFixture
    ) -> None:
        diary.refuses = lambda entry: entry.upload is not None
        server.script(MADE)

        with caplog.at_level("WARNING", logger="airflow_mapbox"):
            assert once.upload_file(path, TILESET, None).id == "made"

        assert "made was created, but" in caplog.text

    def test_a_first_attempt_fails_if_the_staged_file_is_missing(
        self, server: ScriptedServer, once: OneUpload, path: Path, bucket: Bucket
    ) -> None:
        server.script(UNREADABLE)

        with pytest.raises(StagedUrlNotReadableError):
            once.upload_file(path, TILESET, None)
        assert bucket.staged == [str(path)]

    def test_a_first_attempt_that_is_refused_says_so_and_leaves_no_doubt(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        server.script(Reply(422, {"message": 'Invalid "tileset" value'}))

        with pytest.raises(InvalidRequestError):
            once.upload_file(path, TILESET, None)

        assert not diary.entries[-1].in_doubt


class TestALostAnswer:
    def test_a_lost_answer_ends_with_the_one_upload_it_made(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(LOST, USED, Reply(json=[_listed("mine", after=30)]))

        assert once.upload_file(path, TILESET, None).id == "mine"
        assert [request.method for request in server.requests] == ["POST", "POST", "GET"]

    def test_a_lost_answer_that_was_garbage_is_asked_for_again(
        self, server: ScriptedServer, once: OneUpload, path: Path, fake_time: FakeTime
    ) -> None:
        server.script(Reply(201, body=b"<html>"), USED, Reply(json=[_listed("mine", after=5)]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    def test_a_reply_that_is_lost_every_time_leaves_the_entry_in_doubt(
        self, server: ScriptedServer, make: MakeOnce, make_client: MakeClient, path: Path, diary: Diary
    ) -> None:
        server.script(LOST, LOST)

        with pytest.raises(NoAnswerError) as caught:
            make(met(make_client(attempts=2))).upload_file(path, TILESET, None)

        assert caught.value.retryable
        assert diary.entries[-1].in_doubt

    def test_a_lost_answer_and_then_an_active_upload_may_be_its_own_and_is_not_guessed(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        # Which of its rules Mapbox looks at first, nobody outside has shown.
        server.script(LOST, ACTIVE)

        with pytest.raises(UploadActiveError) as caught:
            once.upload_file(path, TILESET, None)

        assert caught.value.in_doubt
        assert diary.entries[-1].in_doubt

    def test_a_lost_answer_and_then_a_missing_file_is_known_by_its_display_name(
        self, server: ScriptedServer, once: OneUpload, path: Path, bucket: Bucket
    ) -> None:
        theirs = _listed("theirs", after=6, name="Theirs")
        server.script(LOST, UNREADABLE, Reply(json=[theirs, _listed("mine", after=5, name="Harbours")]))

        assert once.upload_file(path, TILESET, "Harbours").id == "mine"
        assert len(bucket.staged) == 1

    @pytest.mark.parametrize("name", [None, "Harbours"])
    def test_a_lost_answer_and_then_a_missing_file_adopts_no_upload_that_may_be_another_clients(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, name: str | None
    ) -> None:
        listed = [_listed(f"u{number}", after=5, name=name) for number in range(2 if name else 1)]
        server.script(LOST, UNREADABLE, Reply(json=listed))

        with pytest.raises(UnclaimedUploadError, match=r"(?s)u0, created 2023.*wait for it by its id") as caught:
            once.upload_file(path, TILESET, name)

        assert not caught.value.retryable
        assert diary.entries[-1].in_doubt
        assert len(_creates(server)) == 2

    def test_a_lost_reply_and_then_a_rate_limit_leave_the_entry_in_doubt(
        self, server: ScriptedServer, make: MakeOnce, make_client: MakeClient, path: Path, diary: Diary
    ) -> None:
        server.script(LOST, Reply(429, {"message": "no"}))

        with pytest.raises(ThrottledError):
            make(met(make_client(max_throttle_wait=0))).upload_file(path, TILESET, None)

        assert diary.entries[-1].in_doubt


class TestALaterTry:
    def test_a_retry_adopts_the_recorded_upload_in_its_present_state(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.CREATED, upload=upload_json(id="made", tileset=TILESET)))
        server.script(Reply(json=upload_json(id="made", tileset=TILESET, progress=0.4)))

        upload = once.upload_file(path, TILESET, None)

        assert (upload.id, upload.progress, bucket.staged) == ("made", 0.4, [])

    def test_a_retry_adopts_it_also_if_its_status_is_not_there(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        diary.write(_entry(path, state=State.CREATED, upload=upload_json(id="made", tileset=TILESET)))
        server.script(Reply(404, {"message": "Not Found"}))

        assert once.upload_file(path, TILESET, None).id == "made"
        assert _creates(server) == []

    def test_a_retry_creates_from_the_staged_file(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        server.script(MADE)

        assert once.upload_file(path, TILESET, None).id == "made"
        assert (bucket.staged, _creates(server)) == ([], [URL])

    def test_a_retry_finds_an_upload_that_was_created_but_not_recorded(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        server.script(USED, Reply(json=[_listed("mine", after=3)]))

        assert once.upload_file(path, TILESET, None).id == "mine"
        assert bucket.staged == []
        assert diary.entries[-1].created_upload() is not None

    def test_a_retry_stages_again_if_the_staged_file_is_missing(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, url=URL.replace("/1/", "/0/")))
        server.script(UNREADABLE, MADE)

        assert once.upload_file(path, TILESET, None).id == "made"
        assert bucket.staged == [str(path)]
        assert _creates(server) == [URL.replace("/1/", "/0/"), URL]

    def test_a_retry_without_its_source_searches_for_the_upload_first(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        server.script(UNREADABLE, Reply(json=[_listed("mine", after=3, name="Harbours")]))

        assert once.upload_file(path, TILESET, "Harbours").id == "mine"
        assert bucket.staged == []

    @pytest.mark.parametrize("after", [-60.0, 3600.0])
    def test_a_retry_of_a_missing_file_leaves_out_uploads_that_no_call_of_it_can_have_made(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, fake_time: FakeTime, after: float
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT, listed=("known",)))
        fake_time.now += 7200
        listed = sorted([_listed("theirs", after=after), _listed("known", after=1)], key=lambda one: one["created"])
        server.script(UNREADABLE, *(Reply(json=listed[::-1]) for _ in range(3)), MADE)

        assert once.upload_file(path, TILESET, None).id == "made"

    def test_a_retry_needs_the_source_no_more(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path))
        path.unlink()
        server.script(MADE)

        assert once.upload_file(path, TILESET, None).id == "made"

    def test_a_retry_of_a_changed_source_that_was_only_staged_stages_it_again_and_says_so(
        self,
        server: ScriptedServer,
        once: OneUpload,
        path: Path,
        diary: Diary,
        bucket: Bucket,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        diary.write(_entry(path, url=URL.replace("/1/", "/0/")))
        path.write_text("[]")
        os.utime(path, ns=(1, 1))
        server.script(MADE)

        with caplog.at_level("INFO", logger="airflow_mapbox"):
            assert once.upload_file(path, TILESET, None).id == "made"

        assert bucket.staged == [str(path)]
        assert _creates(server) == [URL]
        assert "has changed since an earlier try" in caplog.text
        assert "modified 1" in caplog.text

    def test_a_retry_of_a_changed_source_adopts_the_created_upload(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.CREATED, upload=upload_json(id="made", tileset=TILESET)))
        path.write_text("[]")
        os.utime(path, ns=(1, 1))
        server.script(Reply(json=upload_json(id="made", tileset=TILESET)))

        assert once.upload_file(path, TILESET, None).id == "made"
        assert (bucket.staged, _creates(server)) == ([], [])

    def test_a_retry_of_a_changed_source_asks_first_for_what_may_have_been_created(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        path.write_text("[]")
        server.script(USED, Reply(json=[_listed("mine", after=3)]))

        assert once.upload_file(path, TILESET, None).id == "mine"
        assert bucket.staged == []

    def test_a_retry_of_a_source_that_was_only_touched_is_the_same_upload(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        diary.write(_entry(path, state=State.CREATED, upload=upload_json(id="mine", tileset=TILESET)))
        os.utime(path, ns=(1, 1))
        server.script(Reply(json=upload_json(id="mine", tileset=TILESET)))

        assert once.upload_file(path, TILESET, None).id == "mine"
        assert bucket.staged == []

    def test_a_retry_of_a_source_that_differs_at_every_reading_is_the_same_upload(
        self, server: ScriptedServer, once: OneUpload, diary: Diary, bucket: Bucket
    ) -> None:
        def feed(generated: str) -> Source:
            data = f'{{"generated": "{generated}"}}'.encode()
            return Source("https://feed/a", len(data), lambda: IteratorStream([data]), fingerprint={"etag": generated})

        made = Reply(json=upload_json(id="made", tileset=TILESET))
        server.script(MADE, made, made)
        once.upload_file(feed("one"), TILESET, None)

        assert [once.upload_file(feed(later), TILESET, None).id for later in ("two", "three")] == ["made", "made"]
        assert len(bucket.staged) == 1
        assert len(_creates(server)) == 1

    @pytest.mark.parametrize(
        "known",
        [{"state": State.CREATED, "upload": upload_json(id="made", tileset=TILESET)}, {"state": State.IN_DOUBT}],
    )
    def test_a_retry_of_a_source_that_is_spelt_otherwise_at_each_try_is_the_same_upload(
        self, server: ScriptedServer, once: OneUpload, diary: Diary, bucket: Bucket, known: dict[str, Any]
    ) -> None:
        first = f"{server.url}/x.geojson?t=1"
        diary.write(Entry(TILESET, first, URL, NOW, NOW, fingerprint={"source": str(identity(first))}, **known))
        found = [Reply(json=[_listed("made", after=1)])] if "upload" not in known else []
        server.script(USED if found else Reply(json=upload_json(id="made", tileset=TILESET)), *found)

        assert once.upload_file(f"{server.url}/x.geojson?t=2", TILESET, None).id == "made"
        assert bucket.staged == []

    @pytest.mark.parametrize("query", ["?date=2026-01-02", ""])
    def test_a_retry_of_another_query_of_a_url_that_was_only_staged_stages_again(
        self, server: ScriptedServer, once: OneUpload, diary: Diary, query: str
    ) -> None:
        first, second = (f"{server.url}/x.geojson{one}" for one in ("?date=2026-01-01", query))
        staged = URL.replace("/1/", "/0/")
        diary.write(
            Entry(TILESET, f"{server.url}/x.geojson", staged, NOW, fingerprint={"source": str(identity(first))})
        )
        server.script(Reply(body=b"{}"), MADE)

        assert once.upload_file(second, TILESET, None).id == "made"
        assert _creates(server) == [URL]

    def test_a_retry_of_a_file_that_was_written_to_while_it_was_sent_creates_nothing(
        self, server: ScriptedServer, once: OneUpload, path: Path, bucket: Bucket
    ) -> None:
        bucket.meanwhile = lambda: path.write_text("[]")

        with pytest.raises(StagingError, match=r"harbours\.geojson was changed during staging"):
            once.upload_file(path, TILESET, None)

        assert server.requests == []

    def test_a_retry_ignores_the_entry_of_another_tileset(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket
    ) -> None:
        lights = f"{ACCOUNT}.lights"
        diary.write(_entry(path, tileset=lights, state=State.CREATED, upload=upload_json(id="other", tileset=lights)))
        server.script(MADE)

        assert once.upload_file(path, TILESET, None).id == "made"
        assert bucket.staged == [str(path)]

    @pytest.mark.parametrize("shows_up", [True, False])
    def test_a_retry_of_a_missing_file_waits_until_a_call_without_an_answer_is_over(
        self,
        server: ScriptedServer,
        once: OneUpload,
        path: Path,
        diary: Diary,
        bucket: Bucket,
        fake_time: FakeTime,
        shows_up: bool,
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        server.script(UNREADABLE, Reply(json=[]), Reply(json=[]), Reply(json=[]))

        with pytest.raises(CreationUnknownError) as caught:
            once.upload_file(path, TILESET, "Harbours")
        assert bucket.staged == []

        fake_time.now += 100
        server.script(UNREADABLE, Reply(json=[]), Reply(json=[]), Reply(json=[]))
        with pytest.raises(CreationUnknownError) as again:
            once.upload_file(path, TILESET, "Harbours")
        assert again.value.retry_after == pytest.approx(caught.value.retry_after - 100, abs=10), "it comes to an end"

        fake_time.now += again.value.retry_after
        if shows_up:
            server.script(UNREADABLE, Reply(json=[_listed("made", after=1, name="Harbours")]))
        else:
            server.script(UNREADABLE, Reply(json=[]), Reply(json=[]), Reply(json=[]), MADE)
        assert once.upload_file(path, TILESET, "Harbours").id == "made"
        assert len(bucket.staged) == (0 if shows_up else 1)


class TestTheServersClock:
    """What is older than a call is told by the server's clock, and not by this one's."""

    @pytest.mark.parametrize("ahead", [-600, 30])
    def test_the_servers_clock_is_asked_before_the_first_call_for_a_dataset(
        self, server: ScriptedServer, make: MakeOnce, make_client: MakeClient, diary: Diary, ahead: int
    ) -> None:
        date = {"Date": formatdate(NOW - ahead, usegmt=True)}
        older = _listed("older", after=-ahead - 5)
        server.script(
            Reply(json=[older], headers=date),
            LOST,
            Reply(json=[_listed("mine", after=-ahead + 1, name="Harbours"), older], headers=date),
        )

        assert make(make_client()).upload_dataset(DATASET, TILESET, "Harbours").id == "mine"
        assert diary.entries[0].listed == ("older",)
        assert diary.entries[0].first_asked == NOW - ahead

    def test_a_refusal_sets_the_servers_clock_too(
        self, server: ScriptedServer, make: MakeOnce, make_client: MakeClient, diary: Diary
    ) -> None:
        server.script(Reply(404, {"message": "Not Found"}, headers={"Date": formatdate(NOW + 90, usegmt=True)}), MADE)

        assert make(make_client()).upload_dataset(DATASET, TILESET, None).id == "made"
        assert diary.entries[0].first_asked == NOW + 90

    def test_the_servers_clock_of_a_call_counts_from_the_first_that_may_have_taken_effect(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, fake_time: FakeTime
    ) -> None:
        # Somebody else's upload is made while this one waits for a busy tileset.
        server.script(ACTIVE)
        with pytest.raises(UploadActiveError):
            once.upload_file(path, TILESET, "Harbours")
        fake_time.now += 600
        theirs = _listed("theirs", after=300, name="Harbours")

        server.script(LOST, USED, Reply(json=[_listed("mine", after=601, name="Harbours"), theirs]))

        assert once.upload_file(path, TILESET, "Harbours").id == "mine"
        assert diary.entries[-1].first_asked == NOW + 600

    def test_the_servers_clock_of_a_dataset_that_was_busy_waits_for_the_last_call(
        self, server: ScriptedServer, once: OneUpload, fake_time: FakeTime
    ) -> None:
        server.script(Reply(json=[]), ACTIVE)
        with pytest.raises(UploadActiveError):
            once.upload_dataset(DATASET, TILESET, None)
        fake_time.now += 1800
        server.script(Reply(json=[]), LOST, Reply(json=[]), Reply(json=[]), Reply(json=[]))
        with pytest.raises(NoAnswerError):
            once.upload_dataset(DATASET, TILESET, None)

        fake_time.now += 10
        server.script(Reply(json=[]))
        with pytest.raises(CreationUnknownError):
            once.upload_dataset(DATASET, TILESET, None)
        assert len(_creates(server)) == 2

    def test_the_servers_clock_is_learnt_too_by_a_retry_that_is_in_doubt(
        self, server: ScriptedServer, make: MakeOnce, make_client: MakeClient, path: Path, diary: Diary
    ) -> None:
        # The worker of the retry is ten minutes slow; its own call takes effect, and the next try must find it.
        diary.write(_entry(path, state=State.IN_DOUBT))
        date = {"Date": formatdate(NOW + 600, usegmt=True)}
        server.script(Reply(json=[], headers=date), LOST, LOST)

        with pytest.raises(NoAnswerError):
            make(make_client(attempts=2)).upload_file(path, TILESET, None)

        assert diary.entries[-1].last_asked >= NOW + 600


class TestAnAnswerThatEachOfTwoProcessesHasLost:
    """The 409 then says that one of the two calls took effect, and not which."""

    def test_an_answer_that_each_of_two_processes_has_lost_leaves_uploads_from_both_times_to_a_person(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, fake_time: FakeTime
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        fake_time.now += 600
        server.script(LOST, USED, Reply(json=[_listed("mine", after=600.5), _listed("foreign", after=60)]))

        with pytest.raises(UnclaimedUploadError):
            once.upload_file(path, TILESET, None)

    @pytest.mark.parametrize("after", [60, 600.5])
    def test_an_answer_that_each_of_two_processes_has_lost_adopts_the_upload_if_there_is_one_time(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, fake_time: FakeTime, after: float
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        fake_time.now += 600
        server.script(LOST, USED, Reply(json=[_listed("mine", after=after)]))

        assert once.upload_file(path, TILESET, None).id == "mine"


class TestATilesetThatIsBusy:
    def test_an_active_tileset_keeps_the_staged_url_and_the_time(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary, bucket: Bucket, fake_time: FakeTime
    ) -> None:
        server.script(ACTIVE, ACTIVE, MADE)
        seen = []
        for _ in range(2):
            with pytest.raises(UploadActiveError) as caught:
                once.upload_file(path, TILESET, None)
            seen.append((caught.value.since, caught.value.in_doubt))
            fake_time.now += 600

        assert once.upload_file(path, TILESET, None).id == "made"
        assert seen == [(NOW, False)] * 2
        assert bucket.staged == [str(path)]

    def test_a_tileset_that_is_busy_that_was_busy_with_the_own_upload_ends_with_that(
        self, server: ScriptedServer, once: OneUpload, path: Path, diary: Diary
    ) -> None:
        diary.write(_entry(path, state=State.IN_DOUBT))
        server.script(ACTIVE, USED, Reply(json=[_listed("mine", after=1)]))

        with pytest.raises(UploadActiveError) as caught:
            once.upload_file(path, TILESET, None)
        assert caught.value.in_doubt

        assert once.upload_file(path, TILESET, None).id == "mine"


class TestTheList:
    @pytest.fixture
    def once(self, once: OneUpload, diary: Diary, path: Path) -> OneUpload:
        diary.write(_entry(path, state=State.IN_DOUBT))
        return once

    def test_the_list_passes_over_other_tilesets_and_continues_to_later_pages(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(
            USED,
            Reply(json=[_listed("other", tileset="lights", after=50)], headers={"Link": '<?start=other>; rel="next"'}),
            Reply(json=[_listed("longer", tileset="harbours2", after=40), _listed("mine", after=30)]),
        )

        assert once.upload_file(path, TILESET, None).id == "mine"

    @pytest.mark.parametrize("age", [3.1, 3600.0])
    def test_the_list_never_gives_an_older_upload(
        self, server: ScriptedServer, once: OneUpload, path: Path, age: float
    ) -> None:
        old = Reply(json=[_listed("old", after=-age)], headers={"Link": '<?start=old>; rel="next"'})
        server.script(USED, old, old, old)

        with pytest.raises(UploadNotListedError) as caught:
            once.upload_file(path, TILESET, None)

        assert caught.value.retryable

    def test_the_list_that_lags_behind_is_looked_at_again(
        self, server: ScriptedServer, once: OneUpload, path: Path, fake_time: FakeTime
    ) -> None:
        server.script(USED, Reply(json=[]), Reply(json=[_listed("mine", after=1)]))

        assert once.upload_file(path, TILESET, None).id == "mine"
        assert fake_time.slept == [2.0]

    def test_the_list_gives_an_upload_of_the_second_of_the_call(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(USED, Reply(json=[_listed("mine", after=-0.9)]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    @pytest.mark.parametrize("created", [None, "", "a while ago"])
    def test_the_list_never_gives_an_upload_of_no_known_time(
        self, server: ScriptedServer, once: OneUpload, path: Path, created: str | None
    ) -> None:
        server.script(USED, Reply(json=[_listed("unknown", created=created), _listed("mine", after=5)]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    def test_the_list_has_times_without_a_zone_in_utc(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(USED, Reply(json=[_listed("mine", created="2023-11-14T22:13:25")]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    def test_the_list_gives_a_failed_upload_too_since_it_was_the_urls_one(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(USED, Reply(json=[_listed("mine", after=5, error="Tileset is empty.")]))

        assert once.upload_file(path, TILESET, None).is_failed

    def test_the_list_without_its_scope_is_reported(self, server: ScriptedServer, once: OneUpload, path: Path) -> None:
        server.script(USED, Reply(404, {"message": "Not Found"}))

        with pytest.raises(NotFoundError, match="uploads:list"):
            once.upload_file(path, TILESET, None)

    def test_the_list_of_several_gives_the_one_of_the_same_name(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        uploads = [
            _listed("theirs", after=40, name="Theirs"),
            _listed("mine", after=30, name="Harbours"),
            _listed("also theirs", after=20, name="Theirs"),
        ]
        server.script(USED, Reply(json=uploads))

        assert once.upload_file(path, TILESET, "Harbours").id == "mine"

    @pytest.mark.parametrize("name", ["Harbours", None])
    def test_the_list_of_several_gives_the_earliest_since_mapbox_takes_no_second_one_while_it_is_active(
        self, server: ScriptedServer, once: OneUpload, path: Path, name: str | None
    ) -> None:
        uploads = [_listed(one, after=after, name=name) for one, after in (("latest", 70), ("later", 50), ("mine", 30))]
        server.script(USED, Reply(json=uploads))

        assert once.upload_file(path, TILESET, name).id == "mine"

    def test_the_list_of_several_prefers_one_that_is_not_older_by_its_clock(
        self, server: ScriptedServer, once: OneUpload, path: Path
    ) -> None:
        server.script(USED, Reply(json=[_listed("mine", after=0.5), _listed("ended already", after=-2.5)]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    @pytest.mark.parametrize(
        "odd", [{"progress": None}, {"tileset": None}, {"complete": None}, {"error": 3}, "text", None, []]
    )
    def test_the_list_passes_over_items_that_cannot_be_read(
        self, server: ScriptedServer, once: OneUpload, path: Path, odd: Any
    ) -> None:
        item = _listed("odd", after=40) | odd if isinstance(odd, dict) else odd
        without_error = _listed("odder", after=50)
        del without_error["error"]
        server.script(USED, Reply(json=[without_error, item, _listed("mine", after=30)]))

        assert once.upload_file(path, TILESET, None).id == "mine"

    @pytest.mark.parametrize("apart", [0.9, 2.9])
    def test_the_list_may_have_a_clock_of_its_own(
        self, server: ScriptedServer, once: OneUpload, path: Path, apart: float
    ) -> None:
        listed = Reply(json=[_listed("mine", after=-apart, name="Harbours")])
        server.script(USED, listed)

        assert once.upload_file(path, TILESET, "Harbours").id == "mine"


class TestADataset:
    def test_a_dataset_is_recorded_before_it_is_created(
        self, server: ScriptedServer, once: OneUpload, diary: Diary, bucket: Bucket
    ) -> None:
        server.script(Reply(json=[]), MADE)

        assert once.upload_dataset(DATASET, TILESET, None).id == "made"
        assert [(entry.url, entry.in_doubt) for entry in diary.entries] == [(DATASET, True), (DATASET, False)]
        assert bucket.staged == []

    def test_a_dataset_that_was_created_is_adopted(self, server: ScriptedServer, once: OneUpload, diary: Diary) -> None:
        diary.write(
            Entry(TILESET, DATASET, DATASET, NOW, state=State.CREATED, upload=upload_json(id="made", tileset=TILESET))
        )
        server.script(Reply(json=upload_json(id="made", tileset=TILESET)))

        assert once.upload_dataset(DATASET, TILESET, None).id == "made"

    def test_a_dataset_whose_answer_was_lost_is_known_by_its_display_name_and_not_created_again(
        self, server: ScriptedServer, once: OneUpload
    ) -> None:
        server.script(
            Reply(json=[]), LOST, Reply(json=[_listed("theirs", after=1), _listed("mine", after=1, name="Harbours")])
        )

        assert once.upload_dataset(DATASET, TILESET, "Harbours").id == "mine"
        assert len(_creates(server)) == 1

    def test_a_dataset_whose_answer_was_lost_adopts_no_upload_that_may_be_another_clients(
        self, server: ScriptedServer, once: OneUpload
    ) -> None:
        known = _listed("known", after=-1)
        server.script(Reply(json=[known]), LOST, Reply(json=[_listed("whose", after=1), known]))

        with pytest.raises(UnclaimedUploadError, match="whose, created") as caught:
            once.upload_dataset(DATASET, TILESET, None)

        assert [upload.id for upload in caught.value.candidates] == ["whose"]
        assert len(_creates(server)) == 1

    def test_a_dataset_that_an_earlier_attempt_may_have_created_waits_until_it_is_known(
        self, server: ScriptedServer, once: OneUpload, diary: Diary, fake_time: FakeTime
    ) -> None:
        diary.write(Entry(TILESET, DATASET, DATASET, NOW - 600, NOW - 60, state=State.IN_DOUBT))
        server.script(Reply(json=[]), Reply(json=[]), Reply(json=[]), MADE)

        with pytest.raises(CreationUnknownError) as caught:
            once.upload_dataset(DATASET, TILESET, None)
        assert (caught.value.retry_after, _creates(server)) == (121, [])

        fake_time.now += caught.value.retry_after
        assert once.upload_dataset(DATASET, TILESET, None).id == "made"

    def test_a_dataset_that_an_earlier_attempt_has_created_is_found(
        self, server: ScriptedServer, once: OneUpload, diary: Diary
    ) -> None:
        diary.write(Entry(TILESET, DATASET, DATASET, NOW, state=State.IN_DOUBT))
        server.script(Reply(json=[_listed("mine", after=1, name="Harbours")]))

        assert once.upload_dataset(DATASET, TILESET, "Harbours").id == "mine"
        assert _creates(server) == []

    def test_a_dataset_that_an_earlier_attempt_may_have_created_is_not_taken_for_another_clients(
        self, server: ScriptedServer, once: OneUpload, diary: Diary
    ) -> None:
        diary.write(Entry(TILESET, DATASET, DATASET, NOW, state=State.IN_DOUBT))
        server.script(Reply(json=[_listed("theirs", after=1)]))

        with pytest.raises(UnclaimedUploadError):
            once.upload_dataset(DATASET, TILESET, None)
        assert _creates(server) == []


class TestAnUnchangedSource:
    """What the tileset was last made from is known, and an upload of the same is not wanted."""

    def _once(self, make_client: MakeClient, bucket: Bucket, diary: Diary, published: Published) -> OneUpload:
        return OneUpload(met(make_client()), diary, bucket, published=published)

    def test_an_unchanged_source_is_neither_staged_nor_uploaded(
        self, server: ScriptedServer, make_client: MakeClient, bucket: Bucket, diary: Diary, path: Path
    ) -> None:
        published = Published("last", open_source(path).fingerprint, None)
        server.script(Reply(json=[_listed("last", complete=True, progress=1)]))

        with pytest.raises(UnchangedSourceError, match=r"unchanged since upload last"):
            self._once(make_client, bucket, diary, published).upload_file(path, TILESET, None)

        assert (bucket.staged, diary.entries) == ([], [])

    def test_an_unchanged_source_with_a_new_time_is_recognised_by_its_checksum(
        self, server: ScriptedServer, make_client: MakeClient, bucket: Bucket, diary: Diary, path: Path
    ) -> None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        published = Published("last", open_source(path).fingerprint | {"modified": 1}, digest)
        server.script(Reply(json=[_listed("last", complete=True, progress=1)]))

        with pytest.raises(UnchangedSourceError):
            self._once(make_client, bucket, diary, published).upload_file(path, TILESET, None)

        assert bucket.staged == []

    def test_an_unchanged_stream_is_recognised_after_staging(
        self, server: ScriptedServer, make_client: MakeClient, bucket: Bucket, diary: Diary
    ) -> None:
        source = open_source(iter([b"{}"]))
        published = Published("last", {}, hashlib.sha256(b"{}").hexdigest())
        server.script(Reply(json=[_listed("last", complete=True, progress=1)]))

        with pytest.raises(UnchangedSourceError):
            self._once(make_client, bucket, diary, published).upload_file(source, TILESET, None)

        assert _creates(server) == []

    def test_an_unchanged_source_that_only_streams_by_is_not_staged_twice_if_the_list_fails(
        self, server: ScriptedServer, make_client: MakeClient, bucket: Bucket, diary: Diary
    ) -> None:
        published = Published("last", {}, hashlib.sha256(b"{}").hexdigest())
        server.script(Reply(429, {"message": "no"}), Reply(json=[_listed("last", complete=True, progress=1)]))
        once = OneUpload(met(make_client(max_throttle_wait=0)), diary, bucket, published=published)

        with pytest.raises(ThrottledError):
            once.upload_file(open_source(iter([b"{}"])), TILESET, None)
        with pytest.raises(UnchangedSourceError):
            once.upload_file(open_source(iter([b"{}"])), TILESET, None)

        assert len(bucket.staged) == 1
        assert _creates(server) == []

    @pytest.mark.parametrize(
        "published",
        [
            Published("last", {"size": 2, "modified": 1}, "0" * 64),
            Published("last", {"size": 3, "modified": 1}, "0" * 64),
            Published("last", {"size": 2}, None),
        ],
        ids=["other bytes", "other size", "nothing but the size"],
    )
    def test_an_unchanged_source_is_one_of_which_more_is_the_same_than_the_size(
        self,
        server: ScriptedServer,
        make_client: MakeClient,
        bucket: Bucket,
        diary: Diary,
        path: Path,
        published: Published,
    ) -> None:
        server.script(MADE)

        assert self._once(make_client, bucket, diary, published).upload_file(path, TILESET, None).id == "made"

    @pytest.mark.parametrize(
        "listed",
        [
            [],
            [_listed("other", complete=True, progress=1), _listed("last", complete=True, progress=1)],
            [_listed("on its way"), _listed("last", complete=True, progress=1)],
            [_listed("last", error="Processing timed out.")],
            [_listed("last", tileset="lights", complete=True, progress=1)],
            [_listed("newer", complete=True, progress=None), _listed("last", complete=True, progress=1)],
            [_listed("newer") | {"tileset": None}, _listed("last", complete=True, progress=1)],
        ],
        ids=["deleted", "replaced by another", "about to be replaced", "failed", "of another tileset", "odd", "whose"],
    )
    def test_an_unchanged_source_is_uploaded_if_the_tileset_may_show_something_else(
        self,
        server: ScriptedServer,
        make_client: MakeClient,
        bucket: Bucket,
        diary: Diary,
        path: Path,
        listed: list[dict[str, Any]],
    ) -> None:
        server.script(Reply(json=listed), MADE)
        published = Published("last", open_source(path).fingerprint, None)

        assert self._once(make_client, bucket, diary, published).upload_file(path, TILESET, None).id == "made"

    def test_an_unchanged_source_is_still_this_tasks_own_if_an_earlier_attempt_has_uploaded_it(
        self, server: ScriptedServer, make_client: MakeClient, bucket: Bucket, diary: Diary, path: Path
    ) -> None:
        diary.write(_entry(path, state=State.CREATED, upload=upload_json(id="last", tileset=TILESET)))
        server.script(Reply(json=upload_json(id="last", tileset=TILESET)))
        published = Published("last", open_source(path).fingerprint, None)

        assert self._once(make_client, bucket, diary, published).upload_file(path, TILESET, None).id == "last"


def test_a_note_of_another_version_is_not_guessed_at() -> None:
    with pytest.raises(LedgerError, match="this version"):
        Entry.from_json({"version": 99, "tileset": TILESET})


def test_a_note_of_a_version_before_the_last_is_read(path: Path) -> None:
    document = _entry(path, state=State.IN_DOUBT).to_json()
    del document["listed"]

    assert Entry.from_json(document) == _entry(path, state=State.IN_DOUBT)


def test_a_note_has_no_secret_in_it(path: Path) -> None:
    assert set(_entry(path).to_json()) == {
        "version", "tileset", "source", "url", "first_asked", "last_asked", "fingerprint", "sha256", "facts", "state",
        "active_since", "upload", "listed",
    }  # fmt: skip
