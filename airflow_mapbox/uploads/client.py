"""The Uploads API, one method an endpoint. Retries faults, waits out rate limits, never logs the token."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from airflow_mapbox.errors import InvalidAnswerError, InvalidUploadIdError
from airflow_mapbox.http.api import TIMEOUT, ApiClient, Call, ListPage, Refusal
from airflow_mapbox.http.session import Answer
from airflow_mapbox.limits import LIST_PAGE
from airflow_mapbox.names import TilesetId, check_display_name
from airflow_mapbox.security.redaction import redact, register_secret
from airflow_mapbox.sources.identity import is_dataset_url
from airflow_mapbox.uploads.errors import (
    StagedUrlNotReadableError,
    StagedUrlUsedError,
    UploadActiveError,
    UploadIncompleteError,
)
from airflow_mapbox.uploads.models import StagingCredentials, TokenState, Upload
from airflow_mapbox.uploads.selection import Moment, UploadSelection, UploadState

__all__ = ("TIMEOUT", "ListPage", "UploadsClient")

log = logging.getLogger(__name__)

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Match on the message first: the status of some refusals is undocumented (docs/reference/errors.md, "Refused
# requests"). Each message belongs to one method.
_REFUSALS = (
    Refusal(
        StagedUrlNotReadableError,
        "There is no staged file at that URL: stage the file, then create the upload.",
        method="POST",
        message="could not access url",
    ),
    Refusal(
        UploadActiveError,
        "Wait until the tileset's other upload has ended, then create this upload.",
        method="POST",
        message="upload is already active",
    ),
    Refusal(
        UploadIncompleteError,
        "Only a completed upload can be removed from the list: wait for it.",
        method="DELETE",
        message="upload is incomplete",
    ),
    Refusal(
        StagedUrlUsedError,
        "A staged file makes only one upload: find it in the list, or stage the file again.",
        status=409,
    ),
)


class UploadsClient(ApiClient):
    """
    A client of the Mapbox Uploads API.

    Each method is one endpoint. The client waits out rate limits, and retries 5xx replies and broken connections. It
    logs each wait at INFO. It sends the token to ``base_url`` only, and never writes it into a message, a log line or
    an exception. It imports nothing of Airflow.

    :param access_token: a secret token (``sk.…``) with the scopes uploads:read, uploads:write and uploads:list.
    :param username: the account; None to read it from the token.
    :param base_url: base URL of the API. Plain http is allowed for this machine (loopback) only.
    :param timeout: seconds to connect, for the next bytes, and for the whole reply.
    :param retry: how long a call may take.
    :param sleep: called with the seconds to wait.
    :param clock: returns the Unix time.
    :param monotonic: returns seconds by a clock that cannot be set.
    :param rng: the source of the jitter.
    :raises ConfigurationError: if the token is missing or names no account, or the address cannot be used.

    Example::

        with UploadsClient(access_token) as client:
            for upload in client.list_uploads(limit=5):
                print(upload.id, upload.tileset, upload.progress)
    """

    api = "Uploads API"
    purpose = "make uploads"
    scopes = ("uploads:read", "uploads:write", "uploads:list")
    refusals = _REFUSALS

    def tileset_id(self, tileset: str) -> TilesetId:
        """
        Complete ``name`` to ``account.name`` and check it.

        :param tileset: ``name`` or ``account.name``.
        :raises InvalidTilesetError: if Mapbox would refuse it.
        """
        return TilesetId.parse(tileset, self.username)

    def create_credentials(self) -> StagingCredentials:
        """
        Get temporary credentials for one key of the staging bucket (scope uploads:write).

        :return: credentials for one file. Each call returns another key.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("POST", f"/uploads/v1/{self.username}/credentials", "uploads:write")
        credentials = StagingCredentials.from_json(self._json(call, self._request(call)))
        register_secret(*credentials.secrets)
        return credentials

    def create_upload(
        self, tileset: str, url: str, name: str | None = None, *, before_sending: Callable[[], None] | None = None
    ) -> Upload:
        """
        Create an upload of a staged file (scope uploads:write). It is billed.

        An attempt whose reply is lost may have taken effect. With a staged URL, the retry then gets a 409, and this
        method raises :class:`~airflow_mapbox.uploads.errors.StagedUrlUsedError`. Dataset uploads have no staging URL,
        so Mapbox cannot deduplicate them: there a lost reply is not retried.

        :param tileset: ``name`` or ``account.name``. An existing tileset is replaced.
        :param url: the ``url`` of the staging credentials, or ``mapbox://datasets/{user}/{id}``.
        :param name: the display name, at most 64 characters.
        :param before_sending: called immediately before each attempt. An exception aborts the call.
        :raises InvalidTilesetError: if Mapbox would refuse the tileset or the name. No request is sent.
        :raises MapboxError: for every error of the API or the network.
        """
        check_display_name(name)
        body = {"tileset": str(self.tileset_id(tileset)), "url": url}
        if name is not None:
            body["name"] = name
        call = Call("POST", f"/uploads/v1/{self.username}", "uploads:write", repeatable=not is_dataset_url(url))
        try:
            answer = self._request(call, body=body, before_sending=before_sending)
            return self._upload(call, answer, "tileset", body["tileset"])
        except InvalidAnswerError as error:
            error.in_doubt = True  # an unreadable reply may report a success
            raise

    def get_upload(self, upload_id: str) -> Upload:
        """
        Return the state of an upload (scope uploads:read).

        :param upload_id: the upload's id.
        :raises InvalidUploadIdError: if the string cannot be an id. No request is sent.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("GET", self._upload_path(upload_id), "uploads:read")
        return self._upload(call, self._request(call), "id", upload_id)

    def list_uploads(
        self,
        *,
        limit: int | None = None,
        reverse: bool = False,
        since: Moment | None = None,
        until: Moment | None = None,
        tileset: str | None = None,
        state: UploadState | None = None,
    ) -> Iterator[Upload]:
        """
        Yield the account's recent uploads (scope uploads:list). Pages are requested as they are needed.

        The list is newest first, so ``since`` ends the reading. With ``reverse``, ``until`` ends it. Mapbox cannot
        filter, so the client reads the list and filters it. With ``since`` or ``until``, an upload without a readable
        time of creation is left out, with a warning.

        :param limit: number of uploads at most; None for all.
        :param reverse: yield the oldest first instead of the newest.
        :param since: only uploads that were created at this time or later. It is a datetime with a time zone, the same
            in ISO 8601, or a timedelta as an age by the server's clock.
        :param until: only uploads that were created before this time.
        :param tileset: only uploads of this tileset, ``name`` or ``account.name``.
        :param state: only uploads in this state: ``"processing"``, ``"done"`` or ``"failed"``.
        :raises OptionError: if a time has no time zone or cannot be read, the period is empty, or the state is unknown.
            No request is sent.
        :raises InvalidTilesetError: if it cannot be a tileset of the account. No request is sent.
        :raises InvalidAnswerError: if a page links to another host, or to an earlier page.
        :raises MapboxError: for every error of the API or the network.

        Example::

            for upload in client.list_uploads(since=timedelta(days=7), state="failed"):
                print(upload.tileset, upload.error)
        """
        identifier = None if tileset is None else str(self.tileset_id(tileset))
        selection = UploadSelection.parse(since, until, identifier, state)
        if selection.is_everything:
            return self._readable(self.list_items(limit=limit, reverse=reverse))
        return islice(self._selected(selection, reverse=reverse), limit if limit is None else max(0, limit))

    def count_uploads(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        tileset: str | None = None,
        state: UploadState | None = None,
    ) -> int:
        """
        Count the account's recent uploads (scope uploads:list). It reads no more pages than :meth:`list_uploads`.

        :param since: as for :meth:`list_uploads`.
        :param until: as for :meth:`list_uploads`.
        :param tileset: as for :meth:`list_uploads`.
        :param state: as for :meth:`list_uploads`.
        :raises OptionError: as :meth:`list_uploads` does.
        :raises MapboxError: for every error of the API or the network.
        """
        return sum(1 for _ in self.list_uploads(since=since, until=until, tileset=tileset, state=state))

    def _readable(self, items: Iterable[object]) -> Iterator[Upload]:
        for item in items:
            try:
                upload = Upload.from_json(item)
            except InvalidAnswerError as error:
                log.warning("Skipping an unreadable item of the account's list. %s", error)
            else:
                yield upload

    def _selected(self, selection: UploadSelection, *, reverse: bool) -> Iterator[Upload]:
        resolved: UploadSelection | None = None
        for upload in self._readable(self.list_items(reverse=reverse)):
            # Only now has a reply shown the server's clock.
            resolved = resolved or selection.at(self.server_now())
            if resolved.ends_at(upload, reverse=reverse):
                return
            if resolved.has(upload):
                yield upload

    def list_items(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[object]:
        """
        Yield the items of the account's list, unchecked; otherwise like :meth:`list_uploads`.

        :param limit: number of items at most; None for all.
        :param reverse: yield the oldest first instead of the newest.
        :raises MapboxError: as :meth:`list_uploads` does.
        """
        remaining = math.inf if limit is None else limit
        if remaining <= 0:
            return
        for items in self._pages(self._list, _list_query(int(min(remaining, LIST_PAGE)), reverse), what="uploads"):
            yield from items[: None if limit is None else int(remaining)]
            remaining -= len(items)
            if remaining <= 0:
                return

    def list_page(self, url: str | None = None, *, size: int = LIST_PAGE, reverse: bool = False) -> ListPage:
        """
        Return one page of the account's recent uploads (scope uploads:list) with one request.

        :param url: the ``next`` of the page before; None for the first page.
        :param size: number of uploads on the first page, at most 100. A shorter page may have a next one.
        :param reverse: the oldest first instead of the newest.
        :raises InvalidAnswerError: if the reply is not an array, or the next page is on another host.
        :raises MapboxError: for every error of the API or the network.
        """
        return self._page(self._list, url, _list_query(size, reverse), what="uploads")

    def delete_upload(self, upload_id: str) -> None:
        """
        Remove the status of a completed upload from the list (scope uploads:write). The tileset stays.

        :param upload_id: the upload's id.
        :raises UploadIncompleteError: if Mapbox is still processing it.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("DELETE", self._upload_path(upload_id), "uploads:write")
        self._request(call, missing_is_success=True)

    def check_token(self) -> TokenState:
        """
        Return the state of the token (no scope needed).

        :return: the state, also of an invalid token.
        :raises MapboxError: for every error of the API or the network.
        """
        call = Call("GET", "/tokens/v2", "")
        answer = self._request(call, expected=(401,))
        document = self._json(call, answer)
        if answer.status == 401 and not (isinstance(document, dict) and "code" in document):
            raise self._error(call, answer)
        return TokenState.from_json(document)

    @property
    def _list(self) -> Call:
        return Call("GET", f"/uploads/v1/{self.username}", "uploads:list")

    def _upload_path(self, upload_id: str) -> str:
        # This also refuses `..`, which requests would resolve to another endpoint.
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise InvalidUploadIdError(
                f"{redact(upload_id)[:80]!r} is not an upload id: take the `id` of an upload object."
            )
        return f"/uploads/v1/{self.username}/{upload_id}"

    def _upload(self, call: Call, answer: Answer, field: str, value: str) -> Upload:
        """Read an upload, and check that the reply is about the upload of the call."""
        upload = Upload.from_json(self._json(call, answer))
        actual = getattr(upload, field)
        if actual.lower() != value.lower():
            raise InvalidAnswerError(f"{call} asked for an upload with {field} {value}; the reply has {actual}.")
        return upload


def _list_query(size: int, reverse: bool) -> dict[str, str | int]:
    return {"limit": size} | ({"reverse": "true"} if reverse else {})
