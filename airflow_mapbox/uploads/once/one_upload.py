"""Create exactly one upload for one intent, resuming from the ledger after a crash."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from airflow_mapbox.errors import InvalidAnswerError, MapboxError, SourceError
from airflow_mapbox.sources.identity import describe, identity, is_dataset_url
from airflow_mapbox.sources.resolve import SourceLike, open_source
from airflow_mapbox.sources.source import Fingerprint, Source
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import (
    CreationUnknownError,
    LedgerError,
    NotFoundError,
    StagedUrlNotReadableError,
    StagedUrlUsedError,
    StagingError,
    UnchangedSourceError,
    UnclaimedUploadError,
    UploadActiveError,
    UploadNotListedError,
)
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.once.ledger import Entry, Ledger, Published, State
from airflow_mapbox.uploads.once.unchanged import is_last_finished, is_same
from airflow_mapbox.uploads.staging.stager import StagedFile

log = logging.getLogger(__name__)

# The `Date` header has whole seconds, and the clocks of one service's servers differ by less than a second. An older
# upload of the tileset cannot be ours. A younger one cannot be another's: it would still be active, and Mapbox would
# have refused ours.
_CLOCK_SKEW_SECONDS = 3.0
# A new upload may be missing in the list for a moment.
_LIST_ATTEMPTS = 3
_LIST_RETRY_SECONDS = 2.0
_CREATE_CALLS = 3
# Announce a create call again if the last note is older.
_NOTE_VALID_SECONDS = 5.0
# Every create call has ended after this time: the client gives each reply at most two minutes.
_CALL_SECONDS = 180.0


class Stage(Protocol):
    """Sends a source to the staging bucket."""

    def __call__(self, source: Source) -> StagedFile:
        """Stage the source under a key of its own."""
        ...


class OneUpload:
    """
    The one upload of an intent.

    The ledger is written before each create call. A staged URL makes at most one upload, because Mapbox refuses the
    second with 409. So every later attempt can ask again without a second upload::

                         refused
                  ┌────────────────────┐
                  ▼                    │
        new ─► staged ─► announce ─► asked ─► 201, or 409 and found in the list ─► created
                            ▲          │                                             ▲
                            │      reply lost          found in the list             │
                            │          ▼               (dataset, or file missing)    │
                            └────── in doubt ────────────────────────────────────────┘

    ========  ==========================================  =============================================================
    state     the ledger has                              an attempt that starts in this state
    ========  ==========================================  =============================================================
    new       nothing                                     stages the source
    staged    the staged URL; no create call may have     creates from the URL; stages again if the source has changed
              taken effect
    asked     the same, and the time before the call      is in doubt, because the process that asked has crashed
    in doubt  the same; a reply was lost                  asks again with the same URL. A 409 proves that the upload
                                                          exists. It is then found in the list and adopted
    created   the upload                                  adopts the upload, also if the source has changed
    ========  ==========================================  =============================================================

    A dataset has no staged URL, so Mapbox makes a second upload of it. If a call is in doubt, its upload is searched in
    the list by display name. An empty result means that there is no upload only after every call has ended.

    :param client: client of the account.
    :param ledger: keeps the state; it outlives this process.
    :param stage: stages a source.
    :param published: what the tileset was last made from, if an upload of the same content is not wanted.
    :param facts: facts about the content that are known before it is read: ``features``, ``bounds``.
    :param sleep: called with the seconds to wait.
    :param clock: returns seconds. It must continue while this process is stopped.
    """

    def __init__(
        self,
        client: UploadsClient,
        ledger: Ledger,
        stage: Stage,
        *,
        published: Published | None = None,
        facts: Mapping[str, Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._published = published
        self._facts = facts or {}
        self._client = client
        self._ledger = ledger
        self._stage = stage
        self._sleep = sleep
        self._clock = clock

    def upload_file(self, source: SourceLike, tileset: str, name: str | None) -> Upload:
        """
        Stage a source and create its upload, or adopt the upload of an earlier attempt.

        A source that has changed since is staged again only if no create call may have taken effect. Otherwise the
        upload of the earlier content is this intent's upload. Clear the task to upload the changed source.

        :param source: the source. It is not read if it is staged already.
        :param tileset: ``account.name``.
        :param name: the display name, or None.
        :raises UploadActiveError: if Mapbox is processing another upload of the tileset. Make the same call later.
        :raises UnchangedSourceError: if the tileset's last finished upload came from the same content.
        :raises LedgerError: if the ledger cannot be written. No upload was created.
        :raises CreationUnknownError: if an earlier create call may still be running.
        :raises UnclaimedUploadError: if the list shows uploads of an earlier call or of another client.
        :raises MapboxError: for every error of the API, S3, the source or the network.
        """
        entry = self._entry_of(tileset)
        if entry is not None and entry.state is State.CREATED:
            return self._adopt_created(entry)
        if entry is None or not (entry.in_doubt or self._is_staged(entry, source)):
            return self._create_if_changed(self._stage_source(source, tileset), name)
        try:
            return self._create_if_changed(entry, name)
        except StagedUrlNotReadableError:
            log.info("The staged file of an earlier try is missing: staging %s again", entry.source)
        return self._create(self._stage_source(source, tileset), name)

    def upload_dataset(self, url: str, tileset: str, name: str | None) -> Upload:
        """
        Create an upload of a Mapbox dataset, or adopt the upload of an earlier attempt.

        :param url: ``mapbox://datasets/{user}/{id}``.
        :param tileset: ``account.name``.
        :param name: the display name, or None.
        :raises CreationUnknownError: if an earlier create call may still be running.
        :raises UnclaimedUploadError: if the list shows uploads of an earlier call or of another client.
        :raises UploadActiveError: if Mapbox is processing another upload of the tileset. Make the same call later.
        :raises MapboxError: for every error of the API or the network.
        """
        entry = self._entry_of(tileset)
        if entry is None:
            return self._create(Entry(tileset, url, url), name)
        if entry.state is State.CREATED:
            return self._adopt_created(entry)
        if entry.in_doubt:
            upload = self._find_in_list(entry, name, attempts=1)
            if upload is not None:
                return self._record_upload(entry, upload)
            still_in_doubt = self._still_in_doubt(entry)
            if still_in_doubt is not None:
                raise still_in_doubt
            entry = replace(entry, state=State.STAGED)
        return self._create(entry, name)

    def _entry_of(self, tileset: str) -> Entry | None:
        """
        Return the entry of an earlier attempt at the tileset, or None.

        The source's text may differ: its query may contain the time of the try, and its folder may be temporary.
        """
        entry = self._ledger.read()
        return entry if entry is not None and entry.tileset == tileset else None

    def _is_staged(self, entry: Entry, source: SourceLike) -> bool:
        """Return whether an earlier attempt has staged the same content of a source."""
        text = identity(source)
        if entry.source != describe(source) or (text and entry.fingerprint.get("source", text) != text):
            return False
        try:
            with open_source(source) as opened:
                if opened.fingerprint == dict(entry.fingerprint) or is_same(opened, entry.fingerprint, entry.sha256):
                    return True
                fingerprint = opened.fingerprint
        except SourceError as error:
            log.info("%s An earlier try has staged it, so this try does not need it.", error)
            return True
        log.info(
            "%s has changed since an earlier try of this task (%s, now %s)",
            entry.source,
            _to_text(entry.fingerprint),
            _to_text(fingerprint),
        )
        return False

    def _stage_source(self, source: SourceLike, tileset: str) -> Entry:
        with open_source(source) as opened:
            fingerprint = opened.fingerprint  # before it is read: bytes written later are another content
            if self._published is not None and is_same(opened, self._published.fingerprint, self._published.sha256):
                self._refuse_unchanged(opened.description, tileset, self._published)
            staged = self._stage(opened)
            if opened.has_changed():
                raise StagingError(
                    f"{opened.description} was changed during staging, so the staged file may mix old and new data. No "
                    "upload was created. Upload the file once it is complete."
                )
            facts = {"bytes": staged.bytes, **self._facts, **opened.facts}
            return Entry(
                tileset, opened.description, staged.url, fingerprint=fingerprint, sha256=staged.sha256, facts=facts
            )

    def _create_if_changed(self, entry: Entry, name: str | None) -> Upload:
        """Create the upload, unless the tileset was last made from the staged content."""
        # The checksum of a stream is known only after staging. An upload costs more than staging.
        if self._published is not None and not entry.in_doubt and entry.sha256 == self._published.sha256:
            self._ledger.write(entry)  # the list request may fail; then the next attempt need not stage again
            self._refuse_unchanged(entry.source, entry.tileset, self._published)
        return self._create(entry, name)

    def _refuse_unchanged(self, description: str, tileset: str, published: Published) -> None:
        if is_last_finished(self._client, tileset, published.upload_id):
            raise UnchangedSourceError(
                f"{description} is unchanged since upload {published.upload_id}, the last finished upload of tileset "
                f"{tileset}: there is nothing to upload."
            )
        log.info(
            "%s is unchanged, but upload %s may not be the last finished upload of tileset %s: uploading again",
            description,
            published.upload_id,
            tileset,
        )

    def _adopt_created(self, entry: Entry) -> Upload:
        created = entry.created_upload()
        assert created is not None  # noqa: S101 - an entry in state created has its upload
        try:
            upload = self._client.get_upload(created.id)
        except NotFoundError:
            upload = created  # too new, or its status was deleted; it was created in any case
        log.info(
            "An earlier try of this task has created upload %s of tileset %s (%.0f %%): adopting it",
            upload.id,
            upload.tileset,
            upload.progress * 100,
        )
        return upload

    def _create(self, entry: Entry, name: str | None) -> Upload:
        """Announce the create call in the ledger, make it, and find out whether it took effect."""
        entry = self._list_before_first_call(entry)
        call = _Call(self._ledger, entry, self._client.server_now, self._clock)
        for calls_left in reversed(range(_CREATE_CALLS)):
            try:
                upload = self._client.create_upload(entry.tileset, entry.url, name, before_sending=call.announce)
            except LedgerError:
                raise  # the request was not sent, or an earlier note is still valid
            except StagedUrlUsedError as error:
                upload = self._find_or_fail(call.entry, name, call.own_start(lost_now=error.in_doubt))
                return self._record_upload(call.entry, upload)
            except MapboxError as error:
                adopted = self._after_error(call, error, name)
                if adopted is not None:
                    return adopted
                retry = isinstance(error, InvalidAnswerError) and calls_left and not is_dataset_url(entry.url)
                if not retry:
                    raise self._record_refusal(call, error) from None
                log.info("%s Asking again. The same staged file makes no second upload.", error)
                self._sleep(_LIST_RETRY_SECONDS)
            else:
                return self._record_upload(call.entry, upload)
        raise AssertionError("the last call returns or raises")

    def _after_error(self, call: _Call, error: MapboxError, name: str | None) -> Upload | None:
        """Note what the error says about the call. Return the upload if the list shows it."""
        call.end(reply_lost=error.in_doubt)
        if not call.entry.in_doubt or not self._list_decides(call.entry, error):
            return None
        try:
            upload = self._find_in_list(call.entry, name, attempts=_LIST_ATTEMPTS)
        except MapboxError as failure:
            self._record_error(call.entry, failure)
            raise failure from None
        return None if upload is None else self._record_upload(call.entry, upload)

    def _list_before_first_call(self, entry: Entry) -> Entry:
        """
        Request the account's list once, for the server's clock and for the tileset's existing uploads.

        A staged URL needs neither if a reply has already told the clock: Mapbox refuses a second upload of it (409).
        """
        if self._client.knows_server_time and (entry.in_doubt or not is_dataset_url(entry.url)):
            return entry
        with suppress(NotFoundError):  # the token may lack the scope; the reply tells the clock all the same
            listed = [
                str(item["id"])
                for item in self._client.list_page().items
                if isinstance(item, Mapping) and item.get("tileset") == entry.tileset and "id" in item
            ]
            if not entry.in_doubt:
                return replace(entry, listed=tuple(listed))
        return entry

    def _still_in_doubt(self, entry: Entry) -> CreationUnknownError | None:
        """Return the error for a call that may still be running, or whose upload may not be listed yet."""
        remaining = entry.last_asked + _CALL_SECONDS - self._client.server_now()
        if remaining <= 0:
            return None
        return CreationUnknownError(
            f"An earlier create call for {entry.source} got no reply, and the list does not show its upload. Run the "
            f"task again in {remaining:.0f} s: the list is then complete.",
            retry_after=remaining + 1,  # the server's clock has whole seconds
        )

    @staticmethod
    def _list_decides(entry: Entry, error: MapboxError) -> bool:
        """
        Return whether the list decides if an earlier call took effect.

        With a staged URL, asking again is more certain. That does not work for a dataset, nor for a staged file that is
        missing, perhaps because it was processed.
        """
        if is_dataset_url(entry.url):
            return not isinstance(error, UploadActiveError)
        return isinstance(error, StagedUrlNotReadableError)

    def _record_refusal(self, call: _Call, error: MapboxError) -> MapboxError:
        """Write the refusal into the ledger, and return the error to raise."""
        if isinstance(error, StagedUrlNotReadableError) and call.entry.in_doubt:
            error = self._still_in_doubt(call.entry) or error
        self._record_error(call.entry, error)
        return error

    def _record_error(self, entry: Entry, error: MapboxError) -> None:
        if isinstance(error, UploadActiveError):
            entry = replace(entry, active_since=entry.active_since or self._client.server_now())
            error.in_doubt, error.since = entry.in_doubt, entry.active_since
        try:
            self._ledger.write(entry)
        except LedgerError as failure:
            log.info("%s The next try asks Mapbox again.", failure)

    def _record_upload(self, entry: Entry, upload: Upload) -> Upload:
        try:
            self._ledger.write(replace(entry, state=State.CREATED, upload=upload.to_json()))
        except LedgerError as failure:
            # The ledger has the staged URL, so the next attempt gets a 409 and finds this upload.
            log.warning("Upload %s was created, but: %s", upload.id, failure)
        return upload

    def _find_or_fail(self, entry: Entry, name: str | None, own_start: float | None) -> Upload:
        """
        Find the upload of a staged URL after a 409, which proves that it exists.

        Mapbox accepts no second upload of a tileset while one is active, so ours is the earliest since the call was
        announced. Later ones may follow before the list is read. An upload just before the call is ours too: the clocks
        differ.

        :param own_start: Unix time by the server's clock of this process' first call, if an earlier process and this
            one have both lost a reply. Our upload may then be older or newer than this time.
        :raises UnclaimedUploadError: if there are uploads both before and after it.
        """
        for attempts_left in reversed(range(_LIST_ATTEMPTS)):
            candidates = self._candidates(entry)
            named = [upload for upload in candidates if upload.name == name]
            candidates = named or [upload for upload in candidates if name is None or upload.name is None]
            if own_start is not None and len({_created(upload) < own_start for upload in candidates}) > 1:
                raise UnclaimedUploadError(entry.source, entry.tileset, candidates)
            in_time = [upload for upload in candidates if _created(upload) >= entry.first_asked - 1]
            if candidates:
                return _adopt(in_time[0] if in_time else candidates[-1])
            if attempts_left:
                self._sleep(_LIST_RETRY_SECONDS)
        raise UploadNotListedError(
            f"An earlier call has created an upload of tileset {entry.tileset} from {entry.source}, but the account's "
            "list does not show it. No new upload was created.\nRun the task again in a minute. If the upload never "
            "appears, check the tileset, and clear the task to upload again."
        )

    def _find_in_list(self, entry: Entry, name: str | None, *, attempts: int) -> Upload | None:
        """
        Find the upload that an earlier call may have made. Only its display name distinguishes it from others.

        :raises UnclaimedUploadError: if there are uploads, and not exactly one of them has the name.
        """
        for attempts_left in reversed(range(attempts)):
            candidates = self._candidates(entry)
            named = [upload for upload in candidates if name is not None and upload.name == name]
            if len(named) == 1:
                return _adopt(named[0])
            if named or (candidates and name is None):
                raise UnclaimedUploadError(entry.source, entry.tileset, named or candidates)
            if attempts_left:
                self._sleep(_LIST_RETRY_SECONDS)
        return None

    def _candidates(self, entry: Entry) -> list[Upload]:
        """Return the uploads, oldest first, whose time fits the create calls of an entry."""
        earliest = entry.first_asked - _CLOCK_SKEW_SECONDS
        latest = max(entry.first_asked, entry.last_asked) + _CALL_SECONDS
        candidates: list[Upload] = []
        for upload in self._client.list_uploads():
            if upload.created_at is None:
                continue
            if _created(upload) < earliest:
                break  # the list has the newest first, so the rest is older
            if upload.tileset == entry.tileset and upload.id not in entry.listed and _created(upload) <= latest:
                candidates.insert(0, upload)
        return candidates


def _created(upload: Upload) -> float:
    return upload.created_at.timestamp() if upload.created_at else 0.0


def _adopt(upload: Upload) -> Upload:
    log.info("The create call took effect: adopting upload %s of tileset %s", upload.id, upload.tileset)
    return upload


class _Call:
    """
    A create call: announced in the ledger, and what its replies say.

    :param ledger: refuses to write after another process has taken over.
    :param entry: the entry before the call.
    :param server_now: returns the Unix time by the server's clock.
    :param clock: returns seconds. It must continue while this process is stopped.
    """

    def __init__(
        self, ledger: Ledger, entry: Entry, server_now: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.entry = entry
        self._before = entry
        self._started: float | None = None
        # Unix time of the last call whose reply was lost.
        self._lost = entry.last_asked if entry.in_doubt else None
        self._ledger = ledger
        self._server_now = server_now
        self._clock = clock
        self._written = -float("inf")

    def announce(self) -> None:
        """
        Write into the ledger that the call follows at once.

        A call long after its note is announced again. This process may have been stopped, or have waited for a rate
        limit, while another process continued.
        """
        while self._clock() - self._written > _NOTE_VALID_SECONDS:
            self._written, now = self._clock(), self._server_now()
            self._started = now if self._started is None else self._started
            # The upload cannot be older than the first call that may have taken effect.
            first_asked = self.entry.first_asked if self.entry.in_doubt else now
            self.entry = replace(self.entry, state=State.ASKED, first_asked=first_asked, last_asked=now)
            self._ledger.write(self.entry)

    def end(self, *, reply_lost: bool) -> None:
        """
        Note that the call has ended with an error.

        :param reply_lost: whether it may have taken effect all the same.
        """
        if reply_lost:
            self._lost = self.entry.last_asked
        state = State.STAGED if self._lost is None else State.IN_DOUBT
        self.entry = replace(self.entry, state=state, last_asked=self._lost or 0.0)

    def own_start(self, *, lost_now: bool) -> float | None:
        """
        Return the time of this process' first call, if both an earlier process and this one have lost a reply.

        :param lost_now: whether this call has lost a reply before it got a 409.
        """
        lost_here = lost_now or self._lost not in (None, self._before.last_asked)
        return self._started if lost_here and self._before.in_doubt else None


def _to_text(fingerprint: Fingerprint) -> str:
    return ", ".join(f"{key} {value}" for key, value in fingerprint.items()) or "nothing known"
