"""The base of the clients of Mapbox's APIs: the token, attempts, rate limits, pages, JSON and errors."""

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
from typing import ClassVar, Self
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from airflow_mapbox import __version__
from airflow_mapbox.errors import (
    ApiError,
    ConfigurationError,
    InvalidAnswerError,
    InvalidRequestError,
    MapboxError,
    MissingScopeError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    ServerError,
    ThrottledError,
    TokenRejectedError,
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
from airflow_mapbox.limits import LIST_BYTES
from airflow_mapbox.names import account_of_token, check_account
from airflow_mapbox.security.endpoints import API_URL, check_endpoint, origin
from airflow_mapbox.security.redaction import guard_loggers, redact, register_secret

log = logging.getLogger(__name__)

# Seconds to connect, for the next bytes, and for the whole reply.
TIMEOUT = (10.0, 30.0, 120.0)
_HEADERS = {
    "Accept-Encoding": "gzip",
    "Cache-Control": "no-cache",
    "User-Agent": f"airflow-provider-mapbox/{__version__}",
}
_MAX_REPLY_BYTES = 8 * LIST_BYTES  # a larger reply does not come from Mapbox
# Characters that a message quotes.
_QUOTED_FROM_OTHER_SERVER = 120
_QUOTED_FROM_MAPBOX = 500
# The reply of the tilesets' endpoints to a token without the scope. The Uploads API answers 404 instead.
_MISSING_SCOPE = re.compile(r"requires a token with (?:the )?([\w:-]{1,60}) scope", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """
    One call of an API, with all its attempts.

    :param method: the HTTP method.
    :param path: the path, without the base URL and the query.
    :param scope: the scope that it needs; empty for none.
    :param repeatable: whether the request may be sent again after its reply was lost.
    :param accept: the content type of its reply.
    """

    method: str
    path: str
    scope: str
    repeatable: bool = True
    accept: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Refusal:
    """
    One refusal of an API that has a meaning of its own.

    :param error_class: its error.
    :param advice: what to do next, for the error's message.
    :param method: the HTTP method of the calls that it belongs to; empty for all.
    :param message: a part of the API's message, in lower case; empty for any message.
    :param status: the HTTP status; None for any status, because some are undocumented.
    """

    error_class: type[ApiError]
    advice: str
    method: str = ""
    message: str = ""
    status: int | None = None

    def fits(self, call: Call, status: int, message: str) -> bool:
        """
        Return whether a reply is this refusal.

        :param call: the call.
        :param status: the HTTP status of the reply.
        :param message: the API's message.
        """
        return self.method in ("", call.method) and self.status in (None, status) and self.message in message.lower()


@dataclass(frozen=True)
class ListPage:
    """
    One page of a list of the account.

    :param items: the items of the reply, unchecked.
    :param next: URL of the next page; None at the last page.
    """

    items: Sequence[object]
    next: str | None


class ApiClient:
    """
    The base of the clients of Mapbox's APIs.

    A client waits out rate limits, and retries 5xx replies and broken connections. It logs each wait at INFO. It sends
    the token to ``base_url`` only, and never writes it into a message, a log line or an exception.

    :param access_token: a secret token (``sk.…``) with the scopes of the API.
    :param username: the account; None to read it from the token.
    :param base_url: base URL of the API. Plain http is allowed for this machine (loopback) only.
    :param timeout: seconds to connect, for the next bytes, and for the whole reply.
    :param retry: how long a call may take.
    :param sleep: called with the seconds to wait.
    :param clock: returns the Unix time.
    :param monotonic: returns seconds by a clock that cannot be set.
    :param rng: the source of the jitter.
    :raises ConfigurationError: if the token is missing or names no account, or the address cannot be used.
    """

    # Set by the client of each API.
    api: ClassVar[str]  # its name in messages
    purpose: ClassVar[str]  # what a secret token is necessary for
    scopes: ClassVar[tuple[str, ...]]
    refusals: ClassVar[tuple[Refusal, ...]] = ()

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
            *scopes, last = self.scopes
            raise ConfigurationError(
                f"The access token is public (pk.), so it cannot {self.purpose}: put a secret token (sk.) with the "
                f"scopes {', '.join(scopes)} and {last} into the connection's password."
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
        # The server's Unix time in its last reply, and our monotonic time then.
        self._server_time: tuple[float, float] | None = None
        # By the account's rate limit, as the last reply that named it has it.
        self.seconds_per_request: float | None = None
        self._attempt_seconds = math.inf
        self._transport = Transport(self.base_url, token, timeout)

    @classmethod
    def sharing(cls, other: ApiClient) -> Self:
        """
        Return a client of this API for another client's account. It uses that client's token and connections.

        :param other: a client of any of Mapbox's APIs.
        """
        client = cls.__new__(cls)
        vars(client).update(vars(other))
        client.seconds_per_request = None  # each API has its own rate limit
        return client

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
        Return the Unix time by the server's clock; before the first reply, by this machine's clock.

        It uses a monotonic clock, so setting this machine's clock does not change it.
        """
        if self._server_time is None:
            return self._clock()
        time_then, monotonic_then = self._server_time
        return time_then + self._monotonic() - monotonic_then

    def _pages(self, call: Call, query: Mapping[str, str | int], *, what: str) -> Iterator[Sequence[object]]:
        """
        Yield the pages of a list. Each page is requested when it is needed.

        :param call: the call of the list.
        :param query: the query of the first page.
        :param what: the items in the plural, for messages.
        :raises InvalidAnswerError: if a page is not an array, or links to another host or to an earlier page.
        """
        url, visited = None, set[str]()
        while True:
            page = self._page(call, url, query, what=what)
            yield page.items
            url = page.next
            if url is None:
                return
            if url in visited:
                raise InvalidAnswerError(f"A page of {call} links to an earlier page.")
            visited.add(url)

    def _page(self, call: Call, url: str | None, query: Mapping[str, str | int], *, what: str) -> ListPage:
        """Return one page: the first one, or that of a URL."""
        if url is None:
            url = f"{self.base_url}{call.path}?{urlencode(query)}"
        answer = self._request(call, url=url)
        document = self._json(call, answer)
        if not isinstance(document, list):
            raise InvalidAnswerError(f"{call} should return an array of {what}.")
        return ListPage(document, self._next_page(call, url, answer.next_link))

    def _next_page(self, call: Call, url: str, link: str | None) -> str | None:
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
        call: Call,
        *,
        url: str | None = None,
        body: Mapping[str, object] | None = None,
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

    def _attempt(self, call: Call, url: str, body: Mapping[str, object] | None) -> Answer | MapboxError:
        """Send one request, and return the reply or the error."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": call.accept} | _HEADERS | ({} if body is None else {"Content-Type": "application/json"})
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
                f"{call} was redirected to {redact(target)}, but the {self.api} never redirects. The token was not "
                "sent there.\nCheck the connection's host."
            )
        return answer

    def _no_answer(self, call: Call, error: NoAnswerError) -> str:
        return (
            f"{call} at {self.base_url}: {error}.\nCheck the connection's host, and whether this machine can reach "
            "that server."
        )

    def _json(self, call: Call, answer: Answer) -> object:
        # Raise outside the handler, so that the error has no context.
        try:
            return json.loads(answer.body or b"")
        except (ValueError, RecursionError):
            pass
        raise InvalidAnswerError(
            f"{call} at {self.base_url} answered {answer.status} without JSON ({_message(answer)}).\nCheck that the "
            "connection's host is the Mapbox API, and that no proxy answers instead."
        )

    def _error(self, call: Call, answer: Answer) -> ApiError:
        """Return the error for a reply that is not a success."""
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
        error_class, advice = self._refusal(call, status, message)
        if error_class is NotFoundError:
            advice += self._login_hint
        error = error_class(f"{reply}\n{advice}", status=status, message=message)
        if error.retryable:
            error.retry_after = retry_after(answer.headers, now)
        return error

    def _refusal(self, call: Call, status: int, message: str) -> tuple[type[ApiError], str]:
        """Return the error class and the advice for a refusal other than a rate limit."""
        for refusal in self.refusals:
            if refusal.fits(call, status, message):
                return refusal.error_class, refusal.advice
        if status >= 500:
            return ServerError, "Mapbox has a fault. Try again later."
        if status in LOST_ON_THE_WAY:
            return ServerError, "A gateway on the way to Mapbox dropped the request. Try again later."
        if (scope := _MISSING_SCOPE.search(message)) is not None:
            return MissingScopeError, (
                f"The token lacks the scope {scope[1]}: add it to the token on the account's tokens page, or put a "
                "token that has it into the connection's password."
            )
        if status == 401:
            return TokenRejectedError, (
                "Check the token in the connection's password: it is missing, mistyped or revoked."
            )
        if status == 404:
            if not call.scope:
                return NotFoundError, "Check that the connection's host is the Mapbox API."
            return NotFoundError, (
                "Mapbox answers this for an unknown id, for an unknown token, and for a token without the scope "
                f"{call.scope}, which this call needs. Check the id, then the token's scopes."
            )
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
