"""The Uploads API, one method an endpoint. Retries faults, waits out rate limits, never logs the token."""

from __future__ import annotations

import copy
import json
import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from airflow_mapbox import __version__
from airflow_mapbox.errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidUploadIdError,
    MapboxError,
    NoAnswerError,
    NotSentError,
    without_frames,
)
from airflow_mapbox.http.retry import (
    LOST_ON_THE_WAY,
    ONE_TRY,
    RetryPolicy,
    retry_after,
    server_time,
    throttle_delay,
)
from airflow_mapbox.http.session import Answer, Transport
from airflow_mapbox.limits import LIST_BYTES, LIST_PAGE
from airflow_mapbox.security.endpoints import API_URL, check_endpoint, origin
from airflow_mapbox.security.redaction import guard_loggers, redact, register_secret
from airflow_mapbox.uploads.errors import (
    ApiError,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    StagedUrlNotReadableError,
    StagedUrlUsedError,
    ThrottledError,
    TokenRejectedError,
    UploadActiveError,
    UploadIncompleteError,
)
from airflow_mapbox.uploads.models import (
    StagingCredentials,
    TilesetId,
    TokenState,
    Upload,
    account_of_token,
    check_account,
    check_display_name,
    is_dataset_url,
)

log = logging.getLogger(__name__)

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Seconds for a connection, for the next bytes, and for a whole answer.
TIMEOUT = (10.0, 30.0, 120.0)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Cache-Control": "no-cache",
    "User-Agent": f"airflow-provider-mapbox/{__version__}",
}
_LARGEST_ANSWER = 8 * LIST_BYTES  # a larger reply does not come from the Uploads API
_SHOWN_OF_FOREIGN_ANSWER = 120
_SHOWN_OF_MESSAGE = 500


@dataclass(frozen=True)
class _Call:
    """One call of the API, through all its tries."""

    method: str
    path: str
    scope: str
    repeatable: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class ListPage:
    """
    One page of the account's list.

    :param items: of the answer, as they came: uploads, if the server is sound.
    :param next: where the following page is; None at the last one.
    """

    items: Sequence[object]
    next: str | None


class UploadsClient:
    """
    A client of the Mapbox Uploads API.

    Each method is one endpoint. A rate limit is waited out, 5xx answers and broken connections are tried again, each
    visibly at INFO. The token is sent to ``base_url`` and to no other host; it is in no message, log line or
    exception.

    :param access_token: a secret token (``sk.…``) with the scopes uploads:read, uploads:write and uploads:list.
    :param username: the account; read from the token where it is not given.
    :param base_url: another server than Mapbox; plain http only on the loopback.
    :param timeout: seconds to wait for a connection, for the next bytes, and for a whole answer.
    :param retry: how long a call may go on.
    :param sleep: called with the seconds to wait.
    :param clock: gives the unix time.
    :param monotonic: gives seconds by a clock that nobody sets.
    :param rng: the source of the jitter.
    :raises ConfigurationError: where there is no token, it names no account, or the address cannot be used.
    """

    @without_frames
    def __init__(
        self,
        access_token: str,
        username: str | None = None,
        *,
        base_url: str = API_URL,
        timeout: tuple[float, float, float] = TIMEOUT,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        token = access_token.strip()
        if not token:
            raise ConfigurationError("There is no access token: put one into the connection's password.")
        register_secret(token, quote(token, safe=""))
        if token.startswith("pk."):
            raise ConfigurationError(
                "The access token is a public one (pk.), which can make no uploads: put a secret one (sk.) with the "
                "scopes uploads:read, uploads:write and uploads:list into the connection's password."
            )
        guard_loggers()
        self.base_url = check_endpoint(base_url, "the connection's host")
        self.username = check_account(username) if username else account_of_token(token)
        self._login_hint = _login_hint(token, self.username)
        self.retry = retry or RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._monotonic = monotonic
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        # The server's unix time in its last answer, and our own monotonic time then.
        self._server_time: tuple[float, float] | None = None
        self._longest_try = math.inf
        self._transport = Transport(self.base_url, token, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        known = vars(self)  # a traceback may show a client that is still being made
        return f"{type(self).__name__}(username={known.get('username')!r}, base_url={known.get('base_url')!r})"

    def close(self) -> None:
        """Close the connections that are kept open between calls."""
        self._transport.close()

    def with_one_try(self, seconds: float = math.inf) -> Self:
        """
        Return a client for the same account, over the same connections, that neither retries nor waits.

        :param seconds: that a call may take at most for each of connecting, the next bytes, and the whole answer.
        """
        other = copy.copy(self)
        other.retry, other._longest_try = ONE_TRY, seconds
        return other

    @property
    def knows_server_time(self) -> bool:
        """Whether an answer has told the server's clock yet."""
        return self._server_time is not None

    def server_now(self) -> float:
        """
        Return the unix time by the server's clock; by this machine's clock before the first answer.

        It is kept by a monotonic clock: setting this machine's clock does not change it.
        """
        if self._server_time is None:
            return self._clock()
        told, then = self._server_time
        return told + self._monotonic() - then

    def tileset_id(self, tileset: str) -> TilesetId:
        """
        Complete ``name`` to ``account.name`` and check it.

        :param tileset: ``name`` or ``account.name``.
        :raises InvalidTilesetError: where Mapbox would refuse it.
        """
        return TilesetId.parse(tileset, self.username)

    def create_credentials(self) -> StagingCredentials:
        """
        Get temporary credentials for one key of the staging bucket (scope uploads:write).

        :return: credentials for one file; each call gives another key.
        :raises MapboxError: as the API or the network has it.
        """
        call = _Call("POST", f"/uploads/v1/{self.username}/credentials", "uploads:write")
        credentials = StagingCredentials.from_json(self._json(call, self._request(call)))
        register_secret(*credentials.secrets)
        return credentials

    def create_upload(
        self, tileset: str, url: str, name: str | None = None, *, before_sending: Callable[[], None] | None = None
    ) -> Upload:
        """
        Create an upload of what is staged (scope uploads:write). It is billed.

        A try whose answer is lost may have taken effect. Tried again with a staged URL it then answers 409, which
        surfaces as :class:`~airflow_mapbox.uploads.errors.StagedUrlUsedError`; a ``mapbox://datasets`` URL has no such
        safeguard, so there a lost answer is not tried again.

        :param tileset: ``name`` or ``account.name``; an existing tileset of that id is replaced.
        :param url: the ``url`` of the staging credentials, or ``mapbox://datasets/{user}/{id}``.
        :param name: the display name, at most 64 characters.
        :param before_sending: called before each try, as late as can be; what it raises stops the call.
        :raises InvalidTilesetError: for a tileset or name that Mapbox would refuse; nothing is sent.
        :raises MapboxError: as the API or the network has it.
        """
        check_display_name(name)
        body = {"tileset": str(self.tileset_id(tileset)), "url": url}
        if name is not None:
            body["name"] = name
        call = _Call("POST", f"/uploads/v1/{self.username}", "uploads:write", repeatable=not is_dataset_url(url))
        try:
            answer = self._request(call, body=body, before_sending=before_sending)
            return self._upload(call, answer, "tileset", body["tileset"])
        except InvalidAnswerError as error:
            error.in_doubt = True  # what cannot be read may be the news of a success
            raise

    def get_upload(self, upload_id: str) -> Upload:
        """
        Get the state of an upload (scope uploads:read).

        :param upload_id: the id that creation gave.
        :raises InvalidUploadIdError: where the text cannot be an id; nothing is sent.
        :raises MapboxError: as the API or the network has it.
        """
        call = _Call("GET", self._upload_path(upload_id), "uploads:read")
        return self._upload(call, self._request(call), "id", upload_id)

    def list_uploads(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[Upload]:
        """
        Go through the account's recent uploads (scope uploads:list), page by page as they are asked for.

        :param limit: how many at most, in all; None for every one.
        :param reverse: oldest first instead of newest first.
        :raises InvalidAnswerError: where a page links to another host, or pages run in a circle.
        :raises MapboxError: as the API or the network has it.
        """
        for item in self.list_items(limit=limit, reverse=reverse):
            try:
                upload = Upload.from_json(item)
            except InvalidAnswerError as error:
                log.warning("Passing over an item of the account's list that cannot be read. %s", error)
            else:
                yield upload

    def list_items(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[object]:
        """
        Go through the account's recent uploads as :meth:`list_uploads` does, and give each item as it came.

        :param limit: how many at most, in all; None for every one.
        :param reverse: oldest first instead of newest first.
        :raises MapboxError: as for :meth:`list_uploads`.
        """
        left = math.inf if limit is None else limit
        url, seen = None, set[str]()
        while left > 0:
            page = self.list_page(url, size=int(min(left, LIST_PAGE)), reverse=reverse)
            yield from page.items[: None if limit is None else int(left)]
            left -= len(page.items)
            url = page.next
            if url is None:
                return
            if url in seen:
                raise InvalidAnswerError(f"The pages of GET /uploads/v1/{self.username} run in a circle.")
            seen.add(url)

    def list_page(self, url: str | None = None, *, size: int = LIST_PAGE, reverse: bool = False) -> ListPage:
        """
        Get one page of the account's recent uploads (scope uploads:list): one request.

        :param url: of a further page, as the one before gave it; the first page where it is None.
        :param size: of the first page, at most 100; a page may be short, and is not the last one for that.
        :param reverse: oldest first instead of newest first.
        :raises InvalidAnswerError: where the answer is no array, or the next page is on another host.
        :raises MapboxError: as the API or the network has it.
        """
        call = _Call("GET", f"/uploads/v1/{self.username}", "uploads:list")
        if url is None:
            query = urlencode({"limit": size} | ({"reverse": "true"} if reverse else {}))
            url = f"{self.base_url}{call.path}?{query}"
        answer = self._request(call, url=url)
        document = self._json(call, answer)
        if not isinstance(document, list):
            raise InvalidAnswerError(f"{call} should answer an array of uploads.")
        return ListPage(document, self._next_page(call, url, answer.next_link))

    def delete_upload(self, upload_id: str) -> None:
        """
        Remove the status of a completed upload from the list (scope uploads:write); the tileset stays.

        :param upload_id: the id that creation gave.
        :raises UploadIncompleteError: where it is still being processed.
        :raises MapboxError: as the API or the network has it.
        """
        call = _Call("DELETE", self._upload_path(upload_id), "uploads:write")
        self._request(call, gone_is_done=True)

    def check_token(self) -> TokenState:
        """
        Ask Mapbox whether the token is valid (no scope needed).

        :return: the state; an invalid token is an answer, not an error.
        :raises MapboxError: as the API or the network has it.
        """
        call = _Call("GET", "/tokens/v2", "")
        answer = self._request(call, expected=(401,))
        document = self._json(call, answer)
        if answer.status == 401 and not (isinstance(document, dict) and "code" in document):
            raise self._error(call, answer)
        return TokenState.from_json(document)

    def _upload_path(self, upload_id: str) -> str:
        # Also keeps `..` out of the path, which requests would resolve to another endpoint.
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise InvalidUploadIdError(
                f"{redact(upload_id)[:80]!r} is no upload id: take the `id` of an upload object."
            )
        return f"/uploads/v1/{self.username}/{upload_id}"

    def _next_page(self, call: _Call, url: str, link: str | None) -> str | None:
        if link is None:
            return None
        try:
            target = urljoin(url, link)
            parts, target_origin = urlsplit(target), origin(target)
        except ValueError:
            target_origin = None
        if target_origin is None:
            raise InvalidAnswerError(f"{call} links to a next page with something that is no URL.")
        if target_origin != origin(self.base_url):
            raise InvalidAnswerError(
                f"The next page of {call} is on another host, {redact(parts.hostname or 'none')}; "
                "the token is not sent there."
            )
        # One client's `reverse` has no value, and the server may give it back so.
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = urlencode([(key, value) for key, value in pairs if key != "access_token"])
        return urlunsplit(parts._replace(netloc=urlsplit(self.base_url).netloc, query=query, fragment=""))

    def _request(
        self,
        call: _Call,
        *,
        url: str | None = None,
        body: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (),
        gone_is_done: bool = False,
        before_sending: Callable[[], None] | None = None,
    ) -> Answer:
        """Try a call until it succeeds, is answered with a status of ``expected``, or another try cannot help."""
        attempt, throttled_for, in_doubt = 1, 0.0, False
        while True:
            error: MapboxError
            if before_sending is not None:
                before_sending()
            outcome = self._attempt(call, url or f"{self.base_url}{call.path}", body)
            if isinstance(outcome, Answer):
                log.info("%s answered %s", call, outcome.status)
                if 200 <= outcome.status < 300 or outcome.status in expected:
                    return outcome
                if outcome.status == 404 and gone_is_done and in_doubt:
                    return outcome  # an earlier try, whose answer was lost, has deleted it
                error = self._error(call, outcome)
            else:
                error = outcome
            lost = isinstance(error, NoAnswerError | ServerError) and not isinstance(error, NotSentError)
            in_doubt = error.in_doubt = in_doubt or lost
            if isinstance(error, ThrottledError):
                limit = self.retry.max_throttle_wait
                if limit is not None and (limit <= 0 or throttled_for + error.retry_after > limit):
                    raise error
                pause = error.retry_after
                throttled_for += pause
                log.info("%s was rate limited; trying again in %.1f s", call, pause)
            elif self._worth_another_try(call, error) and attempt < self.retry.attempts:
                asked_for, limit = error.retry_after or 0.0, self.retry.max_throttle_wait
                if asked_for and limit is not None and throttled_for + asked_for > limit:
                    raise error
                throttled_for += asked_for
                pause = max(self.retry.backoff(attempt, self._rng), asked_for)
                attempt += 1
                log.info("%s Trying again in %.1f s (try %d of %d).", error, pause, attempt, self.retry.attempts)
            else:
                raise error
            self._sleep(pause)

    @staticmethod
    def _worth_another_try(call: _Call, error: MapboxError) -> bool:
        if isinstance(error, NotSentError):
            return error.retryable
        return call.repeatable and isinstance(error, NoAnswerError | ServerError)

    def _attempt(self, call: _Call, url: str, body: Mapping[str, str] | None) -> Answer | MapboxError:
        """Send one request and return its answer, or what went wrong."""
        content = None if body is None else json.dumps(body).encode()
        headers = _HEADERS | ({} if body is None else {"Content-Type": "application/json"})
        try:
            answer = self._transport.exchange(
                call.method, url, headers, content, largest=_LARGEST_ANSWER, seconds=self._longest_try
            )
        except NotSentError as error:
            return NotSentError(self._no_answer(call, error), retryable=error.retryable)
        except NoAnswerError as error:
            return NoAnswerError(self._no_answer(call, error))
        told = server_time(answer.headers)
        if told is not None:
            self._server_time = told, self._monotonic()
        if answer.body is None:
            return InvalidAnswerError(f"{call} answered more than the API ever sends.")
        if 300 <= answer.status < 400:
            target = _host_of(answer.headers.get("Location", "")) or "another path"
            return InvalidAnswerError(
                f"{call} was redirected to {redact(target)}, and the Uploads API never redirects. The token was not "
                "sent on.\nCheck the connection's host."
            )
        return answer

    def _no_answer(self, call: _Call, error: NoAnswerError) -> str:
        return (
            f"{call} at {self.base_url}: {error}.\nCheck the connection's host, and whether that server can be reached "
            "from here."
        )

    def _upload(self, call: _Call, answer: Answer, field: str, value: str) -> Upload:
        """Read an upload, and check that it is the one that the call was about."""
        upload = Upload.from_json(self._json(call, answer))
        if (answered := getattr(upload, field)).lower() != value.lower():
            raise InvalidAnswerError(
                f"{call} was about an upload with the {field} {value}, and the answer is about {answered}."
            )
        return upload

    def _json(self, call: _Call, answer: Answer) -> object:
        # A UnicodeDecodeError is a ValueError too. Raised outside of the handler, so that nothing hangs on the error.
        try:
            return json.loads(answer.body or b"")
        except (ValueError, RecursionError):
            pass
        raise InvalidAnswerError(
            f"{call} at {self.base_url} answered {answer.status} with no JSON ({_message(answer)}).\nCheck that the "
            "connection's host is the Mapbox API and that no proxy answers in its place."
        )

    def _error(self, call: _Call, answer: Answer) -> ApiError:
        """Turn an answer that is no success into the error that means it (Uploads API, "Upload errors")."""
        status, message = answer.status, _message(answer)
        said = f"{call} answered {status} ({message})."
        now = self.server_now()
        if status == 429:
            delay = throttle_delay(answer.headers, now, self._rng)
            return ThrottledError(
                f"{said}\nThe account's rate limit is spent; another request makes sense in {delay:.0f} s.",
                status=status,
                message=message,
                retry_after=delay,
            )
        kind, advice = _refusal(call, status, message)
        if kind is NotFoundError:
            advice += self._login_hint
        error = kind(f"{said}\n{advice}", status=status, message=message)
        if error.retryable:
            error.retry_after = retry_after(answer.headers, now)
        return error


# What the API says in words decides before the status, which nobody outside Mapbox has shown for some of them.
# Each is an answer to one kind of call, and to no other.
_REFUSALS_BY_MESSAGE: tuple[tuple[str, str, type[ApiError], str], ...] = (
    (
        "POST",
        "could not access url",
        StagedUrlNotReadableError,
        "Nothing is staged at that URL: stage the file, then create the upload.",
    ),
    (
        "POST",
        "upload is already active",
        UploadActiveError,
        "Wait until the tileset's other upload has ended, then create this one.",
    ),
    (
        "DELETE",
        "upload is incomplete",
        UploadIncompleteError,
        "Only a completed upload can be removed from the list: wait for it.",
    ),
)


def _refusal(call: _Call, status: int, message: str) -> tuple[type[ApiError], str]:
    """Give the class and the advice for an answer that is no success and no rate limit."""
    for method, words, kind, advice in _REFUSALS_BY_MESSAGE:
        if call.method == method and words in message.lower():
            return kind, advice
    if status >= 500:
        return ServerError, "The fault is on Mapbox's side; try later."
    if status in LOST_ON_THE_WAY:
        return ServerError, "A gateway on the way to Mapbox gave the request up; try later."
    if status == 401:
        return TokenRejectedError, "Check the token in the connection's password: it is missing, mistyped or revoked."
    if status == 404:
        if not call.scope:
            return NotFoundError, "Check that the connection's host is the Mapbox API."
        return NotFoundError, (
            "Mapbox answers this for a thing that does not exist, for a token that it does not know, and for a token "
            f"without the scope {call.scope}, which this call needs: check the id, then the token's scopes."
        )
    if status == 409:
        return StagedUrlUsedError, "A staged file makes one upload only: look for it in the list, or stage again."
    return InvalidRequestError, "Mapbox does not accept this request: change what the message names."


def _login_hint(token: str, username: str) -> str:
    """Return what a 404 should say of a login that is not the account of the token."""
    try:
        account = account_of_token(token)
    except ConfigurationError:
        return ""  # not every token names its account
    if account == username:
        return ""
    return (
        f"\nThe connection's login is {username!r}, and the token is of account {account!r}: correct the login first."
    )


def _message(answer: Answer) -> str:
    """Return the API's own words, redacted and short enough for a log line."""
    body = answer.body or b""
    try:
        document = json.loads(body)
        text = document["message"] if isinstance(document, dict) else None
    except (ValueError, KeyError, RecursionError):
        text = None
    # Redacted before it is cut: half a secret is no longer recognised as one.
    if isinstance(text, str):
        return redact(text.strip())[:_SHOWN_OF_MESSAGE]
    kind = redact(answer.headers.get("Content-Type", "no content type"))
    return f"{kind}: {redact(body.decode('utf-8', 'replace'))[:_SHOWN_OF_FOREIGN_ANSWER]}".strip()


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
