"""Create exactly one upload for one intent, continuing from the ledger after a crash."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from airflow_mapbox.errors import InvalidAnswerError, MapboxError, SourceError
from airflow_mapbox.sources.source import Fingerprint, Source, SourceLike, describe, identity, open_source
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
from airflow_mapbox.uploads.models import Upload, is_dataset_url
from airflow_mapbox.uploads.once.ledger import Entry, Ledger, Published
from airflow_mapbox.uploads.once.unchanged import is_last_finished, is_same
from airflow_mapbox.uploads.staging.stager import StagedFile

log = logging.getLogger(__name__)

# The `Date` header has whole seconds, and servers of one service differ by some of a second. An older upload of the
# tileset than this would have had to be processed in less, as Mapbox takes no second one before.
_CLOCKS_APART = 3.0
# A fresh upload may take a moment to be listed.
_LOOKS_AT_LIST = 3
_SECONDS_BETWEEN_LOOKS = 2.0
_CREATE_CALLS = 3
# Seconds by which the note of a create call may be older than the call.
_NOTE_HOLDS = 5.0
# No call is still on its way after this: the client gives up each answer after two minutes.
_SECONDS_UNTIL_CALLS_HAVE_ENDED = 180.0


class Stage(Protocol):
    """What puts a source into the staging bucket."""

    def __call__(self, source: Source) -> StagedFile:
        """Stage it under a key of its own."""
        ...


class OneUpload:
    """
    The one upload of an intent.

    An entry in the ledger comes before each create call, and the staged URL in it makes one upload at most, by
    Mapbox's own rule (409). So every later try can ask again without ever making a second one.

    :param client: for the account.
    :param ledger: what outlives this process.
    :param stage: stages a source.
    :param published: what the tileset was last made from, where an upload of the same is not wanted.
    :param facts: what is known of the content beforehand: ``features``, ``bounds``.
    :param sleep: called with the seconds to wait.
    :param clock: gives seconds that go on also while this process is stopped.
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

    def of_source(self, source: SourceLike, tileset: str, name: str | None) -> Upload:
        """
        Stage a source and create its upload, or adopt the one that an earlier try has made.

        A source that has changed since is staged again only while no create call was made: what was created, or may
        have been, is this intent's upload. Clear the task to upload the changed source.

        :param source: what to upload; it is not read where it is staged already.
        :param tileset: ``account.name``.
        :param name: the display name.
        :raises UploadActiveError: where the tileset is being processed by another upload: the same call goes on later.
        :raises UnchangedSourceError: where the tileset's last finished upload came from the same bytes.
        :raises LedgerError: where the ledger could not be written; nothing was created.
        :raises CreationUnknownError: where an earlier call may still be under way.
        :raises UnclaimedUploadError: if the list shows uploads that an earlier call may have made, or somebody else.
        :raises MapboxError: as the API, S3, the source or the network has it.
        """
        entry = self._entry_of(tileset)
        if entry is not None and entry.upload is not None:
            return self._adopted(entry)
        if entry is None or not (entry.uncertain or self._is_staged(entry, source)):
            return self._create_of_changed(self._staged(source, tileset), name)
        try:
            return self._create_of_changed(entry, name)
        except StagedUrlNotReadableError:
            log.info("What an earlier try staged is no longer there: staging %s again", entry.source)
        return self._create(self._staged(source, tileset), name)

    def of_dataset(self, url: str, tileset: str, name: str | None) -> Upload:
        """
        Create an upload of a Mapbox dataset, or adopt the one that an earlier try has made.

        A dataset's URL makes any number of uploads, so nothing at Mapbox stops a second one: what an earlier try may
        have made is looked for in the list, once no call can be on its way any more.

        :param url: ``mapbox://datasets/{user}/{id}``.
        :param tileset: ``account.name``.
        :param name: the display name.
        :raises CreationUnknownError: where an earlier try may still be under way.
        :raises UnclaimedUploadError: if the list shows uploads that an earlier try may have made, or somebody else.
        :raises UploadActiveError: where the tileset is being processed by another upload: the same call goes on later.
        :raises MapboxError: as the API or the network has it.
        """
        entry = self._entry_of(tileset)
        if entry is None:
            return self._create(Entry(tileset, url, url), name)
        if entry.upload is not None:
            return self._adopted(entry)
        if entry.uncertain:
            upload = self._find_by_name(entry, name, looks=1)
            if upload is not None:
                return self._keep(entry, upload)
            unknown = self._unknown(entry)
            if unknown is not None:
                raise unknown
            entry = replace(entry, uncertain=False)
        return self._create(entry, name)

    def _entry_of(self, tileset: str) -> Entry | None:
        """
        Return what an earlier try of this intent wrote down about the tileset.

        Its source may be spelt otherwise since: with the time of the try in its query, or in another folder.
        """
        entry = self._ledger.read()
        return entry if entry is not None and entry.tileset == tileset else None

    def _is_staged(self, entry: Entry, source: SourceLike) -> bool:
        """Tell whether a source is what an earlier try has staged; nothing was created of that yet."""
        text = identity(source)
        if entry.source != describe(source) or (text and entry.fingerprint.get("source", text) != text):
            return False
        try:
            with open_source(source) as opened:
                if opened.fingerprint == dict(entry.fingerprint) or is_same(opened, entry.fingerprint, entry.sha256):
                    return True
                fingerprint = opened.fingerprint
        except SourceError as error:
            log.info("%s It is staged already, so this try does without it.", error)
            return True
        log.info(
            "%s is not as it was at an earlier try of this task (%s, now %s)",
            entry.source,
            _shown(entry.fingerprint),
            _shown(fingerprint),
        )
        return False

    def _staged(self, source: SourceLike, tileset: str) -> Entry:
        with open_source(source) as opened:
            fingerprint = opened.fingerprint  # before it is read: what is written meanwhile is another content
            if self._published is not None and is_same(opened, self._published.fingerprint, self._published.sha256):
                self._refuse_unchanged(opened.description, tileset, self._published)
            staged = self._stage(opened)
            if opened.has_changed():
                raise StagingError(
                    f"{opened.description} was written to while it was sent, so what is staged may be half of each. "
                    "Nothing was created; upload it once it is whole."
                )
            facts = {"bytes": staged.bytes, **self._facts, **opened.facts}
            return Entry(
                tileset, opened.description, staged.url, fingerprint=fingerprint, sha256=staged.sha256, facts=facts
            )

    def _create_of_changed(self, entry: Entry, name: str | None) -> Upload:
        """Create, unless what is staged turns out to be what the tileset was last made from."""
        # What only streams by is known by its digest alone, and only now; it is the upload that costs.
        if self._published is not None and not entry.uncertain and entry.sha256 == self._published.sha256:
            self._ledger.write(entry)  # asking the list may fail, and the next try has it staged
            self._refuse_unchanged(entry.source, entry.tileset, self._published)
        return self._create(entry, name)

    def _refuse_unchanged(self, description: str, tileset: str, published: Published) -> None:
        if is_last_finished(self._client, tileset, published.upload_id):
            raise UnchangedSourceError(
                f"{description} is unchanged since upload {published.upload_id}, the last finished one of tileset "
                f"{tileset}: there is nothing to upload."
            )
        log.info(
            "%s is unchanged, but upload %s is not known to be the last finished one of tileset %s: uploading again",
            description,
            published.upload_id,
            tileset,
        )

    def _adopted(self, entry: Entry) -> Upload:
        known = entry.known_upload()
        assert known is not None  # noqa: S101 - the caller has looked
        try:
            upload = self._client.get_upload(known.id)
        except NotFoundError:
            upload = known  # too fresh, or its status was deleted: it exists, and that is what is asked
        log.info(
            "An earlier try of this task has created upload %s of tileset %s (%.0f %%): adopting it",
            upload.id,
            upload.tileset,
            upload.progress * 100,
        )
        return upload

    def _create(self, entry: Entry, name: str | None) -> Upload:
        """Write down that the call is coming, make it, and find out what became of it."""
        entry = self._before_first_call(entry)
        announced = _Announced(self._ledger, entry, self._client.server_now, self._clock)
        unanswered = entry.asked if entry.uncertain else None  # the last call of which nobody knows what became
        for left in reversed(range(_CREATE_CALLS)):
            try:
                upload = self._client.create_upload(entry.tileset, entry.url, name, before_sending=announced.again)
            except LedgerError:
                raise  # nothing was sent, or an earlier note still holds
            except StagedUrlUsedError as error:
                # Whether it was created before this process asked, or by an answer that this process has lost.
                lost_here = error.in_doubt or unanswered not in (None, entry.asked)
                parted = announced.began if lost_here and entry.uncertain else None
                return self._keep(announced.entry, self._find_or_fail(announced.entry, name, parted))
            except MapboxError as error:
                if error.in_doubt:
                    unanswered = announced.entry.asked
                noted = replace(announced.entry, uncertain=unanswered is not None, asked=unanswered or 0.0)
                if noted.uncertain and self._may_be_listed(entry, error):
                    try:
                        listed = self._find_by_name(noted, name, looks=_LOOKS_AT_LIST)
                    except MapboxError as failure:
                        raise self._refused(noted, failure) from None
                    if listed is not None:
                        return self._keep(noted, listed)
                if isinstance(error, InvalidAnswerError) and left and not is_dataset_url(entry.url):
                    log.info("%s Asking again, which makes no second upload of the same file.", error)
                    self._sleep(_SECONDS_BETWEEN_LOOKS)
                    continue
                gone = isinstance(error, StagedUrlNotReadableError)
                unknown = self._unknown(noted) if gone and noted.uncertain else None
                raise self._refused(noted, unknown or error) from None
            else:
                return self._keep(announced.entry, upload)
        raise AssertionError("the last call returns or raises")

    def _before_first_call(self, entry: Entry) -> Entry:
        """
        Ask for the account's list once, for the server's clock and for the uploads that are there already.

        A staged URL needs neither if an answer has told the clock: a second upload of it is refused (409).
        """
        if self._client.knows_server_time and (entry.uncertain or not is_dataset_url(entry.url)):
            return entry
        with suppress(NotFoundError):  # without the scope for it the answer tells the clock as well
            listed = [
                str(item["id"])
                for item in self._client.list_page().items
                if isinstance(item, Mapping) and item.get("tileset") == entry.tileset and "id" in item
            ]
            if not entry.uncertain:
                return replace(entry, listed=tuple(listed))
        return entry

    def _unknown(self, entry: Entry) -> CreationUnknownError | None:
        """Give the error for a call without an answer that may be on its way still, or its upload not listed yet."""
        left = entry.asked + _SECONDS_UNTIL_CALLS_HAVE_ENDED - self._client.server_now()
        if left <= 0:
            return None
        return CreationUnknownError(
            f"An earlier call has asked for the upload of {entry.source} and got no answer, and the list does not show "
            f"the upload. In {left:.0f} s it can be told whether there is one; run the task again then.",
            retry_after=left + 1,  # the server's clock is told in whole seconds
        )

    @staticmethod
    def _may_be_listed(entry: Entry, error: MapboxError) -> bool:
        """
        Say whether the list is to be asked what became of an earlier call.

        A staged URL can be tried again instead, which is surer. Not so a dataset's, nor a file that may be gone because
        it was processed.
        """
        if is_dataset_url(entry.url):
            return not isinstance(error, UploadActiveError)
        return isinstance(error, StagedUrlNotReadableError)

    def _refused(self, entry: Entry, error: MapboxError) -> MapboxError:
        """Write down what a refusal tells; the error itself is the caller's."""
        if isinstance(error, UploadActiveError):
            entry = replace(entry, busy_since=entry.busy_since or self._client.server_now())
            error.in_doubt, error.since = entry.uncertain, entry.busy_since
        try:
            self._ledger.write(entry)
        except LedgerError as failure:
            log.info("%s The next try asks Mapbox again.", failure)
        return error

    def _keep(self, entry: Entry, upload: Upload) -> Upload:
        try:
            self._ledger.write(replace(entry, uncertain=False, upload=upload.to_json()))
        except LedgerError as failure:
            # The staged URL is written down, so the next try is told 409 and finds this upload.
            log.warning("Upload %s was created, but: %s", upload.id, failure)
        return upload

    def _find_or_fail(self, entry: Entry, name: str | None, parted: float | None) -> Upload:
        """
        Find the upload of a staged URL that Mapbox says is used, so that it exists.

        Mapbox takes no second upload of a tileset while one is active, so it is the earliest since the call was
        announced: others may follow before this is asked. One that is a moment older is by a clock that differs.

        :param parted: unix time by the server's clock of this process' own call, if an earlier process and this one
            have each lost an answer: then the upload may be on either side of it.
        :raises UnclaimedUploadError: if there are uploads on both sides.
        """
        for left in reversed(range(_LOOKS_AT_LIST)):
            candidates = self._candidates(entry)
            named = [upload for upload in candidates if upload.name == name]
            candidates = named or [upload for upload in candidates if name is None or upload.name is None]
            if parted is not None and len({_created(upload) < parted for upload in candidates}) > 1:
                raise UnclaimedUploadError(entry.source, entry.tileset, candidates)
            in_time = [upload for upload in candidates if _created(upload) >= entry.sent - 1]
            if candidates:
                return _adopt(in_time[0] if in_time else candidates[-1])
            if left:
                self._sleep(_SECONDS_BETWEEN_LOOKS)
        raise UploadNotListedError(
            f"An upload of tileset {entry.tileset} was created from {entry.source} by an earlier call, and the "
            "account's list does not show it. Nothing new was created.\nTry again in a minute; if it never shows up, "
            "look at the tileset, and clear the task to upload again."
        )

    def _find_by_name(self, entry: Entry, name: str | None, *, looks: int) -> Upload | None:
        """
        Find the upload that an earlier call may have made; nothing but its display name can tell it from another's.

        :raises UnclaimedUploadError: if there are some, and none or several of them have the name.
        """
        for left in reversed(range(looks)):
            candidates = self._candidates(entry)
            named = [upload for upload in candidates if name is not None and upload.name == name]
            if len(named) == 1:
                return _adopt(named[0])
            if named or (candidates and name is None):
                raise UnclaimedUploadError(entry.source, entry.tileset, named or candidates)
            if left:
                self._sleep(_SECONDS_BETWEEN_LOOKS)
        return None

    def _candidates(self, entry: Entry) -> list[Upload]:
        """Return the uploads, oldest first, that the create calls of an entry may have made, by their times."""
        earliest = entry.sent - _CLOCKS_APART
        latest = max(entry.sent, entry.asked) + _SECONDS_UNTIL_CALLS_HAVE_ENDED
        candidates: list[Upload] = []
        for upload in self._client.list_uploads():
            if upload.created_at is None:
                continue  # it may be older
            if _created(upload) < earliest:
                break  # newest first: all that follow are older
            if upload.tileset == entry.tileset and upload.id not in entry.listed and _created(upload) <= latest:
                candidates.insert(0, upload)
        return candidates


def _created(upload: Upload) -> float:
    return upload.created_at.timestamp() if upload.created_at else 0.0


def _adopt(upload: Upload) -> Upload:
    log.info("The create call had taken effect: adopting upload %s of tileset %s", upload.id, upload.tileset)
    return upload


class _Announced:
    """
    An entry whose create call is coming, and has been written down to be.

    :param ledger: where; it refuses where another process has taken over.
    :param entry: before the call.
    :param server_now: gives the unix time by the server's clock.
    :param clock: gives seconds that go on also while this process is stopped.
    """

    def __init__(
        self, ledger: Ledger, entry: Entry, server_now: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.entry = entry
        self.began: float | None = None
        self._ledger = ledger
        self._server_now = server_now
        self._clock = clock
        self._written = -float("inf")

    def again(self) -> None:
        """
        Write it down for the call that follows at once.

        A call that comes long after the note is announced anew: this process may have been stopped, or have waited for
        a rate limit, while another took over.
        """
        while self._clock() - self._written > _NOTE_HOLDS:
            self._written, now = self._clock(), self._server_now()
            self.began = now if self.began is None else self.began
            # The first call that may have taken effect is the one that an upload cannot be older than.
            sent = self.entry.sent if self.entry.uncertain else now
            self.entry = replace(self.entry, uncertain=True, sent=sent, asked=now)
            self._ledger.write(self.entry)


def _shown(fingerprint: Fingerprint) -> str:
    return ", ".join(f"{key} {value}" for key, value in fingerprint.items()) or "nothing known"
