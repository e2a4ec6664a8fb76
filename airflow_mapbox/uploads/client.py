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
    Attempts,
    RetryPolicy,
    retry_after,
    seconds_per_request,
    server_time,
    throttle_delay,
)
from airflow_mapbox.http.session import Answer, Transport
from airflow_mapbox.limits import LIST_BYTES, LIST_PAGE
from airflow_mapbox.security.endpoints import API_URL, check_endpoint, origin
from airflow_mapbox.security.redaction import guard_loggers, redact, register_secret
from airflow_mapbox.sources.identity import is_dataset_url
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
from airflow_mapbox.uploads.models import StagingCredentials, TokenState, Upload
from airflow_mapbox.uploads.names import TilesetId, account_of_token, check_account, check_display_name

log = logging.getLogger(__name__)

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Seconds to connect, for the next bytes, and for the whole reply.
TIMEOUT = (10.0, 30.0, 120.0)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Cache-Control": "no-cache",
    "User-Agent": f"airflow-provider-mapbox/{__version__}",
}
_MAX_REPLY_BYTES = 8 * LIST_BYTES  # a larger reply does not come from the Uploads API
# Characters that a message quotes.
_QUOTED_FROM_OTHER_SERVER = 120
_QUOTED_FROM_MAPBOX = 500


@dataclass(frozen=True)
class _Call:
    """One call of the API, with all its attempts."""

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

    :param items: the items of the reply, unchecked.
    :param next: URL of the next page; None at the last page.
    """

    items: Sequence[object]
    next: str | None


class UploadsClient:
    """
    A client of the Mapbox Uploads API.

    Each method is one endpoint. The client waits out rate limits, and retries 5xx replies and broken connections. It
    logs each wait at INFO. It sends the token to ``base_url`` only, and never writes it into a message, a log line or
    an exception. It imports nothing of Airflow.

    :param access_token: a secret token (``sk.…``) with the scopes uploads:read, uploads:write and uploads:list.
    :param username: the account; None to read it from the token.
    :param base_url: base URL of the API. Plain http is allowed on the loopback only.
    :param timeout: seconds to connect, for the next bytes, and for the whole reply.
    :param retry: how long a call may take.
    :param sleep: called with the seconds to wait.
    :param clock: returns the unix time.
    :param monotonic: returns seconds by a clock that cannot be set.
    :param rng: the source of the jitter.
    :raises ConfigurationError: if the token is missing or names no account, or the address cannot be used.

    Example::

        with UploadsClient(access_token) as client:
            for upload in client.list_uploads(limit=5):
                print(upload.id, upload.tileset, upload.progress)
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
            raise ConfigurationError("The access token is missing: put it into the connection's password.")
        register_secret(token, quote(token, safe=""))
        if token.startswith("pk."):
            raise ConfigurationError(
                "The access token is public (pk.), so it cannot make uploads: put a secret token (sk.) with the "
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
        # The server's unix time in its last reply, and our monotonic time then.
        self._server_time: tuple[float, float] | None = None
        # By the account's rate limit, as the last reply that named it has it.
        self.seconds_per_request: float | None = None
        self._attempt_seconds = math.inf
        self._transport = Transport(self.base_url, token, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        values = vars(self)  # incomplete if a traceback shows a client during __init__
        return f"{type(self).__name__}(username={values.get('username')!r}, base_url={values.get('base_url')!r})"

    def close(self) -> None:
        """Close the connections, which stay open between calls."""
        self._transport.close()

    def with_one_try(self, seconds: float = math.inf) -> Self:
        """
        Return a client for the same account, over the same connections, that neither retries nor waits.

        :param seconds: upper bound of each of the three timeouts.
        """
        other = copy.copy(self)
        other.retry, other._attempt_seconds = ONE_TRY, seconds
        return other

    @property
    def knows_server_time(self) -> bool:
        """Whether a reply has already shown the server's clock."""
        return self._server_time is not None

    def server_now(self) -> float:
        """
        Return the unix time by the server's clock; before the first reply, by this machine's clock.

        It uses a monotonic clock, so setting this machine's clock does not change it.
        """
        if self._server_time is None:
            return self._clock()
        time_then, monotonic_then = self._server_time
        return time_then + self._monotonic() - monotonic_then

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
        call = _Call("POST", f"/uploads/v1/{self.username}/credentials", "uploads:write")
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
        call = _Call("POST", f"/uploads/v1/{self.username}", "uploads:write", repeatable=not is_dataset_url(url))
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
        call = _Call("GET", self._upload_path(upload_id), "uploads:read")
        return self._upload(call, self._request(call), "id", upload_id)

    def list_uploads(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[Upload]:
        """
        Yield the account's recent uploads (scope uploads:list). Pages are requested as they are needed.

        :param limit: number of uploads at most; None for all.
        :param reverse: yield the oldest first instead of the newest.
        :raises InvalidAnswerError: if a page links to another host, or to an earlier page.
        :raises MapboxError: for every error of the API or the network.
        """
        for item in self.list_items(limit=limit, reverse=reverse):
            try:
                upload = Upload.from_json(item)
            except InvalidAnswerError as error:
                log.warning("Skipping an unreadable item of the account's list. %s", error)
            else:
                yield upload

    def list_items(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[object]:
        """
        Yield the items of the account's list, unchecked; otherwise like :meth:`list_uploads`.

        :param limit: number of items at most; None for all.
        :param reverse: yield the oldest first instead of the newest.
        :raises MapboxError: as :meth:`list_uploads` does.
        """
        remaining = math.inf if limit is None else limit
        url, visited = None, set[str]()
        while remaining > 0:
            page = self.list_page(url, size=int(min(remaining, LIST_PAGE)), reverse=reverse)
            yield from page.items[: None if limit is None else int(remaining)]
            remaining -= len(page.items)
            url = page.next
            if url is None:
                return
            if url in visited:
                raise InvalidAnswerError(f"A page of GET /uploads/v1/{self.username} links to an earlier page.")
            visited.add(url)

    def list_page(self, url: str | None = None, *, size: int = LIST_PAGE, reverse: bool = False) -> ListPage:
        """
        Return one page of the account's recent uploads (scope uploads:list) with one request.

        :param url: the ``next`` of the page before; None for the first page.
        :param size: number of uploads on the first page, at most 100. A shorter page may have a next one.
        :param reverse: the oldest first instead of the newest.
        :raises InvalidAnswerError: if the reply is not an array, or the next page is on another host.
        :raises MapboxError: for every error of the API or the network.
        """
        call = _Call("GET", f"/uploads/v1/{self.username}", "uploads:list")
        if url is None:
            query = urlencode({"limit": size} | ({"reverse": "true"} if reverse else {}))
            url = f"{self.base_url}{call.path}?{query}"
        answer = self._request(call, url=url)
        document = self._json(call, answer)
        if not isinstance(document, list):
            raise InvalidAnswerError(f"{call} should return an array of uploads.")
        return ListPage(document, self._next_page(call, url, answer.next_link))

    def delete_upload(self, upload_id: str) -> None:
        """
        Remove the status of a completed upload from the list (scope uploads:write). The tileset stays.

        :param upload_id: the upload's id.
        :raises UploadIncompleteError: if Mapbox is still processing it.
        :raises MapboxError: for every error of the API or the network.
        """
        call = _Call("DELETE", self._upload_path(upload_id), "uploads:write")
        self._request(call, missing_is_success=True)

    def check_token(self) -> TokenState:
        """
        Return the state of the token (no scope needed).

        :return: the state, also of an invalid token.
        :raises MapboxError: for every error of the API or the network.
        """
        call = _Call("GET", "/tokens/v2", "")
        answer = self._request(call, expected=(401,))
        document = self._json(call, answer)
        if answer.status == 401 and not (isinstance(document, dict) and "code" in document):
            raise self._error(call, answer)
        return TokenState.from_json(document)

    def _upload_path(self, upload_id: str) -> str:
        # This also refuses `..`, which requests would resolve to another endpoint.
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise InvalidUploadIdError(
                f"{redact(upload_id)[:80]!r} is not an upload id: take the `id` of an upload object."
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
            raise InvalidAnswerError(f"{call} links to a next page, but the link is not a URL.")
        if target_origin != origin(self.base_url):
            raise InvalidAnswerError(
                f"The next page of {call} is on another host, {redact(parts.hostname or 'none')}. "
                "The token is not sent there."
            )
        # `reverse` may come back without a value.
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
        missing_is_success: bool = False,
        before_sending: Callable[[], None] | None = None,
    ) -> Answer:
        """Make a call: attempt it until it succeeds, has a status of ``expected``, or a retry cannot help."""
        attempts, in_doubt = Attempts(self.retry, self._rng), False
        while True:
            error: MapboxError
            if before_sending is not None:
                before_sending()
            outcome = self._attempt(call, url or f"{self.base_url}{call.path}", body)
            if isinstance(outcome, Answer):
                log.info("%s answered %s", call, outcome.status)
                if 200 <= outcome.status < 300 or outcome.status in expected:
                    return outcome
                if outcome.status == 404 and missing_is_success and in_doubt:
                    return outcome  # an earlier attempt, whose reply was lost, has deleted it
                error = self._error(call, outcome)
            else:
                error = outcome
            lost = isinstance(error, NoAnswerError | ServerError) and not isinstance(error, NotSentError)
            in_doubt = error.in_doubt = in_doubt or lost
            delay = attempts.delay_after(error, repeatable=call.repeatable)
            if delay is None:
                raise error
            if isinstance(error, ThrottledError):
                log.info("%s met the rate limit; retrying in %.1f s", call, delay)
            else:
                number, limit = attempts.number, self.retry.attempts
                log.info("%s Retrying in %.1f s (attempt %d of %d).", error, delay, number, limit)
            self._sleep(delay)

    def _attempt(self, call: _Call, url: str, body: Mapping[str, str] | None) -> Answer | MapboxError:
        """Send one request, and return the reply or the error."""
        content = None if body is None else json.dumps(body).encode()
        headers = _HEADERS | ({} if body is None else {"Content-Type": "application/json"})
        try:
            answer = self._transport.exchange(
                call.method, url, headers, content, max_bytes=_MAX_REPLY_BYTES, seconds=self._attempt_seconds
            )
        except NotSentError as error:
            return NotSentError(self._no_answer(call, error), retryable=error.retryable)
        except NoAnswerError as error:
            return NoAnswerError(self._no_answer(call, error))
        date = server_time(answer.headers)
        if date is not None:
            self._server_time = date, self._monotonic()
        self.seconds_per_request = seconds_per_request(answer.headers) or self.seconds_per_request
        if answer.body is None:
            return InvalidAnswerError(f"The reply to {call} is larger than any reply of the API.")
        if 300 <= answer.status < 400:
            target = _host_of(answer.headers.get("Location", "")) or "another path"
            return InvalidAnswerError(
                f"{call} was redirected to {redact(target)}, but the Uploads API never redirects. The token was not "
                "sent there.\nCheck the connection's host."
            )
        return answer

    def _no_answer(self, call: _Call, error: NoAnswerError) -> str:
        return (
            f"{call} at {self.base_url}: {error}.\nCheck the connection's host, and whether this machine can reach "
            "that server."
        )

    def _upload(self, call: _Call, answer: Answer, field: str, value: str) -> Upload:
        """Read an upload, and check that the reply is about the upload of the call."""
        upload = Upload.from_json(self._json(call, answer))
        actual = getattr(upload, field)
        if actual.lower() != value.lower():
            raise InvalidAnswerError(f"{call} asked for an upload with {field} {value}; the reply has {actual}.")
        return upload

    def _json(self, call: _Call, answer: Answer) -> object:
        # Raise outside the handler, so that the error has no context.
        try:
            return json.loads(answer.body or b"")
        except (ValueError, RecursionError):
            pass
        raise InvalidAnswerError(
            f"{call} at {self.base_url} answered {answer.status} without JSON ({_message(answer)}).\nCheck that the "
            "connection's host is the Mapbox API, and that no proxy answers instead."
        )

    def _error(self, call: _Call, answer: Answer) -> ApiError:
        """Return the error for a reply that is not a success (Uploads API, "Upload errors")."""
        status, message = answer.status, _message(answer)
        reply = f"{call} answered {status} ({message})."
        now = self.server_now()
        if status == 429:
            delay = throttle_delay(answer.headers, now, self._rng)
            return ThrottledError(
                f"{reply}\nThe account has reached its rate limit. Try again in {delay:.0f} s.",
                status=status,
                message=message,
                retry_after=delay,
            )
        error_class, advice = _refusal(call, status, message)
        if error_class is NotFoundError:
            advice += self._login_hint
        error = error_class(f"{reply}\n{advice}", status=status, message=message)
        if error.retryable:
            error.retry_after = retry_after(answer.headers, now)
        return error


# Match on the message first: the status of some refusals is undocumented (docs/reference/errors.md, "Refused
# requests"). Each message belongs to one method.
_REFUSALS_BY_MESSAGE: tuple[tuple[str, str, type[ApiError], str], ...] = (
    (
        "POST",
        "could not access url",
        StagedUrlNotReadableError,
        "There is no staged file at that URL: stage the file, then create the upload.",
    ),
    (
        "POST",
        "upload is already active",
        UploadActiveError,
        "Wait until the tileset's other upload has ended, then create this upload.",
    ),
    (
        "DELETE",
        "upload is incomplete",
        UploadIncompleteError,
        "Only a completed upload can be removed from the list: wait for it.",
    ),
)


def _refusal(call: _Call, status: int, message: str) -> tuple[type[ApiError], str]:
    """Return the error class and the advice for a refusal other than a rate limit."""
    for method, text, error_class, advice in _REFUSALS_BY_MESSAGE:
        if call.method == method and text in message.lower():
            return error_class, advice
    if status >= 500:
        return ServerError, "Mapbox has a fault. Try again later."
    if status in LOST_ON_THE_WAY:
        return ServerError, "A gateway on the way to Mapbox dropped the request. Try again later."
    if status == 401:
        return TokenRejectedError, "Check the token in the connection's password: it is missing, mistyped or revoked."
    if status == 404:
        if not call.scope:
            return NotFoundError, "Check that the connection's host is the Mapbox API."
        return NotFoundError, (
            "Mapbox answers this for an unknown id, for an unknown token, and for a token without the scope "
            f"{call.scope}, which this call needs. Check the id, then the token's scopes."
        )
    if status == 409:
        return StagedUrlUsedError, "A staged file makes only one upload: find it in the list, or stage the file again."
    return InvalidRequestError, "Mapbox does not accept this request: correct what its message names."


def _login_hint(token: str, username: str) -> str:
    """Return the advice for a 404 if the login is not the account of the token."""
    try:
        account = account_of_token(token)
    except ConfigurationError:
        return ""  # not every token names its account
    if account == username:
        return ""
    return (
        f"\nThe connection's login is {username!r}, but the token belongs to account {account!r}. Correct the login "
        "first."
    )


def _message(answer: Answer) -> str:
    """Return the API's message, redacted and short enough for a log line."""
    body = answer.body or b""
    try:
        document = json.loads(body)
        message = document["message"] if isinstance(document, dict) else None
    except (ValueError, KeyError, RecursionError):
        message = None
    # Redact before cutting: half a secret cannot be recognised.
    if isinstance(message, str):
        return redact(message.strip())[:_QUOTED_FROM_MAPBOX]
    content_type = redact(answer.headers.get("Content-Type", "no content type"))
    return f"{content_type}: {redact(body.decode('utf-8', 'replace'))[:_QUOTED_FROM_OTHER_SERVER]}".strip()


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
