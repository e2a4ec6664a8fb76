"""The common errors: one base class, one class for each meaning."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def without_frames(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """
    Raise a function's errors again without their traceback, cause and context.

    Use it for functions that handle a token or a credential: a traceback that shows local variables (rich, Sentry)
    would show the secret. An interrupt or a timeout of the task can come at any line, so it loses its frames too.

    :param function: the function whose arguments and local variables must not be shown.
    """

    def bare(error: BaseException) -> BaseException:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)

    if iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                failure = bare(error)
            del args, kwargs
            raise failure

        return awaited  # type: ignore[return-value]

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            failure = bare(error)
        del args, kwargs
        raise failure

    return called


class OptionError(ValueError):
    """A parameter has an invalid value. The message names the parameter."""


class MapboxError(Exception):
    """
    The base class of this package's errors.

    :ivar retryable: whether the same call may succeed later without any change. If not, a person must act: another
        token, another name, other data.
    :ivar in_doubt: whether the call may have taken effect, because its reply was lost.
    :ivar new_upload_may_help: whether the same data may succeed in another upload.
    :ivar retry_after: seconds until a retry makes sense, or None if that is unknown.
    """

    retryable: bool = False
    in_doubt: bool = False
    new_upload_may_help: bool = False
    retry_after: float | None = None


class ConfigurationError(MapboxError):
    """The token, account or address of the connection cannot be used."""


class ConnectionNotFoundError(ConfigurationError):
    """
    Airflow finds no such connection.

    Airflow reports a missing connection in the same way as an unreachable secrets backend or API server, so a retry
    may find it.
    """

    retryable = True


class InvalidTilesetError(MapboxError, ValueError):
    """Mapbox would refuse the tileset id or the display name."""


class InvalidUploadIdError(MapboxError, ValueError):
    """The value cannot be the id of an upload."""


class SourceError(MapboxError):
    """The data to upload is missing, unreadable, or would be refused by Mapbox."""


class CeilingError(SourceError):
    """The upload would be larger than a ceiling that its owner has set. It was not created."""


class ExportError(MapboxError, ValueError):
    """The data cannot be written in a form that Mapbox accepts. No file is left behind."""


class UnreadableSourceError(SourceError, ExportError):
    """The source is missing, or its format cannot be read."""


class SourceUnavailableError(UnreadableSourceError):
    """The source cannot be read at the moment: a network, server or disk failed."""

    retryable = True


class NoAnswerError(MapboxError):
    """No complete reply arrived: the server was unreachable, too slow, or closed the connection."""

    retryable = True


class NotSentError(NoAnswerError):
    """
    No connection was made, so the request has not taken effect.

    :param description: the whole message.
    :param retryable: whether a retry may succeed. It cannot if the certificate is not valid.
    """

    def __init__(self, description: str, *, retryable: bool = True) -> None:
        super().__init__(description)
        self.retryable = retryable


class InvalidAnswerError(MapboxError):
    """The reply does not come from Mapbox: not JSON, a missing field, a redirect, a link to another host."""

    retryable = True


class ApiError(MapboxError):
    """
    Mapbox refused a request.

    :param description: the whole message.
    :param status: the HTTP status.
    :param message: the API's own ``message``, redacted.
    """

    def __init__(self, description: str, *, status: int, message: str) -> None:
        super().__init__(description)
        self.status = status
        self.message = message


class TokenRejectedError(ApiError):
    """401: the token is missing or invalid."""


class MissingScopeError(TokenRejectedError):
    """403: the token lacks the scope that the call needs. The message names the scope."""


class NotFoundError(ApiError):
    """404: the object does not exist, the token is unknown, or it lacks the scope. Mapbox does not say which."""


class InvalidRequestError(ApiError):
    """The API refused the request for another reason."""


class ThrottledError(ApiError):
    """
    429: the account has reached its rate limit.

    :param retry_after: seconds until the next request makes sense, jitter included.
    """

    retryable = True
    retry_after: float

    def __init__(self, description: str, *, status: int, message: str, retry_after: float) -> None:
        super().__init__(description, status=status, message=message)
        self.retry_after = retry_after


class ServerError(ApiError):
    """5xx: Mapbox has a fault."""

    retryable = True


class UnexpectedError(MapboxError):
    """An unexpected error of another library. A retry may succeed."""

    retryable = True
