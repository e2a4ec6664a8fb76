"""Everything that can go wrong between a file and its tileset: one class per meaning, each saying what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import Upload

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def without_frames(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """
    Let errors leave a function without the frames below it, their causes and their contexts.

    For functions that handle a token or a credential: a traceback that shows local variables (rich, Sentry) would show
    it. Interrupts and timeouts of a task, which can come at any line, lose their frames too.

    :param function: whose arguments and local variables must not be shown.
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
    """A parameter has a value that it cannot have; the message names the parameter."""


class MapboxError(Exception):
    """
    The root of the tree.

    :ivar retryable: whether the same call may succeed later with nothing changed. What is not retryable needs a
        person: another token, another name, other data.
    :ivar may_have_happened: whether the call may have taken effect all the same, because an answer to it was lost.
    :ivar new_upload_may_help: whether the same data may do better in another upload.
    :ivar retry_after: seconds until another try makes sense, if that is known.
    """

    retryable: bool = False
    may_have_happened: bool = False
    new_upload_may_help: bool = False
    retry_after: float | None = None


class ConfigurationError(MapboxError):
    """The token, account or address that the client was given cannot be used."""


class ConnectionNotFoundError(ConfigurationError):
    """
    Airflow gives no such connection.

    It answers alike for one that does not exist and while a secrets backend or its own API server is away, so another
    try may find it.
    """

    retryable = True


class InvalidTilesetError(MapboxError, ValueError):
    """A tileset id or display name that Mapbox would refuse."""


class InvalidUploadIdError(MapboxError, ValueError):
    """A text that cannot be the id of an upload."""


class SourceError(MapboxError):
    """The data to upload is missing, unreadable, or something that Mapbox would refuse."""


class SourceUnavailableError(SourceError):
    """The data could not be fetched just now."""

    retryable = True


class UnchangedSourceError(SourceError):
    """The tileset's last finished upload came from the very same data, so nothing is to be done."""


class StagingError(MapboxError):
    """The bytes did not reach the staging bucket whole; nothing was created."""

    retryable = True


class StagingCredentialsExpiredError(StagingError):
    """Mapbox's temporary credentials ended before all bytes were sent."""


class StagingStoppedError(StagingError):
    """The task was asked to end while it was staging."""


class NoAnswerError(MapboxError):
    """No answer came: the server could not be reached, was too slow, or broke the connection off."""

    retryable = True


class NotSentError(NoAnswerError):
    """
    No connection was made, so the request has not taken effect.

    :param text: the whole sentence for the reader.
    :param retryable: whether another try may succeed; a certificate that cannot be verified stays so.
    """

    def __init__(self, text: str, *, retryable: bool = True) -> None:
        super().__init__(text)
        self.retryable = retryable


class InvalidAnswerError(MapboxError):
    """An answer that is not the Uploads API's: no JSON, a field missing, a redirect, a link to another host."""

    retryable = True


class ApiError(MapboxError):
    """
    The API refused a request.

    :param text: the whole sentence for the reader.
    :param status: the HTTP status.
    :param message: the API's own ``message``, redacted.
    """

    def __init__(self, text: str, *, status: int, message: str) -> None:
        super().__init__(text)
        self.status = status
        self.message = message


class TokenRejectedError(ApiError):
    """401: there is no token, or it is not one of Mapbox's."""


class NotFoundError(ApiError):
    """404: no such thing, or the token is unknown or lacks the scope, which Mapbox answers alike by design."""


class StagedUrlUsedError(ApiError):
    """409: an upload of this staged URL exists already."""


class StagedUrlNotReadableError(ApiError):
    """422 ``Could not access url``: nothing is staged there."""

    retryable = True


class UploadActiveError(ApiError):
    """
    The tileset is being processed by another upload.

    :ivar since: unix time by the server's clock at which this was first seen for the same staged file, where known.
    """

    retryable = True
    since: float | None = None


class UploadIncompleteError(ApiError):
    """An upload's status can be deleted only once it has completed."""

    retryable = True


class InvalidRequestError(ApiError):
    """Any other request that the API does not accept."""


class ThrottledError(ApiError):
    """
    429: the account has spent its requests.

    :param retry_after: seconds until another request makes sense, jitter included.
    """

    retryable = True
    retry_after: float

    def __init__(self, text: str, *, status: int, message: str, retry_after: float) -> None:
        super().__init__(text, status=status, message=message)
        self.retry_after = retry_after


class ServerError(ApiError):
    """5xx: the fault is on Mapbox's side."""

    retryable = True


class UploadNotListedError(MapboxError):
    """A create call has taken effect, and the list does not show its upload (yet)."""

    retryable = True


class UnclaimedUploadError(MapboxError):
    """
    A create call got no answer, and the account's list shows uploads that may or may not be what it made.

    :param source: of the call.
    :param tileset: of the call.
    :param candidates: the uploads.
    """

    may_have_happened = True

    def __init__(self, source: str, tileset: str, candidates: Sequence[Upload]) -> None:
        self.candidates = tuple(candidates)
        listed = "\n".join(
            f"  {upload.id}, created {upload.created}, name {upload.name!r}, {upload.progress:.0%}"
            for upload in self.candidates
        )
        super().__init__(
            f"The create call for tileset {tileset} from {source} got no answer, and these uploads were made at that "
            f"time, by it or by another client:\n{listed}\nNothing new was created.\n"
            "If one of them is this task's, wait for it by its id. If none is, clear the task to upload again. To have "
            "such an upload recognised, give each run a display name of its own (`name`)."
        )


class CreationUnknownError(MapboxError):
    """
    It cannot be told yet whether an earlier create call has taken effect.

    :param text: the whole sentence for the reader.
    :param retry_after: seconds until it can be.
    """

    retryable = True
    may_have_happened = True
    retry_after: float

    def __init__(self, text: str, *, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class LedgerError(MapboxError):
    """What was about to be done could not be written down, so it was not done."""

    retryable = True


class UploadFailedError(MapboxError):
    """
    Mapbox could not make a tileset of the data.

    :param upload: the failed upload.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.cause = explain_failure(upload.error or "")
        self.new_upload_may_help = not self.cause.data_at_fault
        # Mapbox's own words are quoted, so that they end before ours begin: most of them have no stop.
        stop = "" if (upload.error or "").endswith((".", "!", "?")) else "."
        said = f'Mapbox says: "{upload.error}"{stop}' if upload.error else "Mapbox gave no message."
        super().__init__(
            f"Upload {upload.id} of tileset {upload.tileset} failed in processing.\n{said}\n{self.cause.hint}"
        )

    @property
    def data_at_fault(self) -> bool:
        """Whether the same data would fail again, so that a new upload would be billed for nothing."""
        return self.cause.data_at_fault


class UploadStalledError(MapboxError):
    """The upload's progress has not moved for longer than the waiting side is ready to watch."""

    new_upload_may_help = True


class UploadGoneError(MapboxError):
    """Mapbox does not know the upload, and it is not so fresh that this may change."""


class UnexpectedError(MapboxError):
    """An error of another library that this package did not foresee; it may pass."""

    retryable = True


class InvalidEventError(MapboxError):
    """What a trigger sent to its task tells of no upload's end."""

    retryable = True


class WaitTimeoutError(MapboxError):
    """The upload was still being processed when the time to wait was over."""

    retryable = True


@dataclass(frozen=True)
class FailureCause:
    """
    What a message of failed processing means.

    :param data_at_fault: the same data would fail again.
    :param hint: what to do next.
    """

    data_at_fault: bool
    hint: str


_NEW_UPLOAD = FailureCause(
    False, "The fault is not known to lie in the data: clear the task that created the upload to upload again."
)

_SMALLER = "Simplify or split the data, or upload it as MBTiles."
_MBTILES = "Repair the MBTiles file with the tool that made it; its metadata and tiles must agree."
_COLUMNS = (
    "The CSV needs UTF-8 and a header row with columns lon and lat (or wkt, geom, geometry, geojson), separated by "
    "commas, tabs, semicolons or pipes."
)
_GEOJSON = "Send a FeatureCollection; airflow_mapbox.export.write_geojson writes one that Mapbox takes."
_RANGE = "Coordinates must be longitude, latitude (CRS84) within ±180 and ±85.0511; write_geojson reprojects the data."
_ZIP = "Send one .zip that holds the .shp, .dbf, .shx and .prj of one shapefile."
_EMPTY = "Check the query or the filter that chose the data: no feature was in it."
_TIFF = "The TIFF must be 8-bit and georeferenced, with a coordinate reference system."

# The messages of failed processing whose cause is the data (docs/reference/mapbox-uploads-api.md).
_DATA_AT_FAULT: tuple[tuple[str, str], ...] = (
    (r"Failed to find a shapefile in your zip", _ZIP),
    (r"Invalid shapefile: (missing|invalid) projection file", _ZIP),
    (r"vector_layers must be an array of layer objects", _MBTILES),
    (r'Vector source must include "vector_layers" key', _MBTILES),
    (r'Vector source "vector_layers" contains duplicate ID', _MBTILES),
    (r"Metadata exceeds limit of", "Shorten the MBTiles metadata: fewer layers or attributes, no tile statistics."),
    (r"In mbtiles file, ", _MBTILES),
    (r"Tile is invalid", _MBTILES),
    (r"Invalid tile based on the Mapbox Vector Tile spec", _MBTILES),
    (r"Tileset is empty", _EMPTY),
    (r"KML does not contain any layers", _EMPTY),
    (r"KML does not contain any valid features", _EMPTY),
    (r"GPX does not contain any valid features", _EMPTY),
    (r"CSV file does not contain any features", _EMPTY),
    (r"Invalid geojson: does not contain any features", _EMPTY),
    (r"\d+ layers found\. Maximum of \d+ layers allowed", "Send fewer layers in one file."),
    (r"Duplicate layer names", "Give each layer a name of its own."),
    (r"Tileset exceeds processing limit", _SMALLER),
    (r"Tile exceeds maximum size", _SMALLER),
    (r"Tile size exceeds limit", _SMALLER),
    (r"File is larger than .* Too big to process", _SMALLER),
    (r"Failed to parse geojson feature", _GEOJSON),
    (r"Error creating Mapnik Datasource", _GEOJSON),
    (r"Coordinates beyond web mercator range", _RANGE),
    (r"bounds (west|south|east|north) value must be", _RANGE),
    (r"Error calculating min/max zoom: Bounds invalid", _RANGE),
    (r"Unable to reproject data", _RANGE),
    (r"Unable to reproject tif", _TIFF),
    (r"Invalid raster", _TIFF),
    (r"Unknown filetype", "Mapbox did not recognise the format: send GeoJSON, CSV, KML, GPX, MBTiles, TIFF or a zip."),
    (r"Unknown format", "Mapbox did not recognise the format: send GeoJSON, CSV, KML, GPX, MBTiles, TIFF or a zip."),
    (r"File is zero bytes", "The file is empty: look at the task that wrote it."),
    (r"File too small", "The file is too small to be of its format: look at the task that wrote it."),
    (r"Invalid CSV", _COLUMNS),
    (r"Dataset not found", "The dataset was deleted or never existed: check the mapbox://datasets/ source."),
)


def explain_failure(message: str) -> FailureCause:
    """
    Say whose fault a failed upload is, and what to do.

    :param message: the ``error`` field of the upload.
    :return: the cause; a message that nobody has documented is not blamed on the data.
    """
    # Compiled here and not on import: few uploads fail, and every look imports this.
    for pattern, hint in _DATA_AT_FAULT:
        if re.search(pattern, message, re.IGNORECASE):
            return FailureCause(True, hint)
    return _NEW_UPLOAD
