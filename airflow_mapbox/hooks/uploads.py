"""From an Airflow connection to the Uploads API, with the S3 half done by the Amazon provider."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.log import mask_secret

from airflow_mapbox.defaults import WAIT_TIMEOUT_SECONDS
from airflow_mapbox.errors import MapboxError, OptionError, SourceError, without_frames
from airflow_mapbox.export.formats import ExportFormat, check_format
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.limits import STAGING_REGION
from airflow_mapbox.preflight import check_source
from airflow_mapbox.security.endpoints import API_URL, refuse_secrets
from airflow_mapbox.sources.source import Source, SourceLike, open_source, read_report
from airflow_mapbox.tasks.connection import CONN_TYPE, Access, access_by
from airflow_mapbox.tasks.export_source import exported
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import NotFoundError, TokenRejectedError, UploadActiveError
from airflow_mapbox.uploads.models import StagingCredentials, TokenState, Upload, check_display_name, is_dataset_url
from airflow_mapbox.uploads.once.ledger import Ledger, MemoryLedger, Published
from airflow_mapbox.uploads.once.one_upload import OneUpload
from airflow_mapbox.uploads.staging.stager import StagedFile, Stager, StagingOptions
from airflow_mapbox.uploads.waiting.blocking import wait_for_upload
from airflow_mapbox.uploads.waiting.interval import interval_while_active

if TYPE_CHECKING:
    from airflow_mapbox.export.readers import ExportSource

# Schemes that the core reads itself; every other one is object storage.
_READ_BY_CORE = re.compile(r"(https?|file)://", re.IGNORECASE)


class MapboxUploadsHook(BaseHook):
    """
    The Mapbox Uploads API by an Airflow connection of type ``mapbox``.

    The connection's ``password`` is the secret token and ``login`` the account (read from the token where it is
    empty). ``host`` is another API base URL and the extra ``s3_endpoint_url`` another S3 endpoint, both for servers
    that stand in for Mapbox; plain http is taken on the loopback only.

    :param mapbox_conn_id: the connection.
    :param retry: how long one call may go on; by default a rate limit is waited out, however long.
    :param staging: how sources are sent to the staging bucket.
    """

    conn_name_attr = "mapbox_conn_id"
    default_conn_name = "mapbox_default"
    conn_type = CONN_TYPE
    hook_name = "Mapbox"

    def __init__(
        self,
        mapbox_conn_id: str = default_conn_name,
        *,
        retry: RetryPolicy | None = None,
        staging: StagingOptions | None = None,
    ) -> None:
        super().__init__()
        self.mapbox_conn_id = mapbox_conn_id
        self._retry = retry
        self._stager = Stager(self.create_credentials, self._s3_client, staging)

    @cached_property
    def _access(self) -> Access:
        access = access_by(self.mapbox_conn_id, self._retry)
        if access.client.base_url != API_URL and access.s3_endpoint() is None:
            self.log.warning(
                "Connection %r names a host of its own (%s) and no s3_endpoint_url: files are staged at Amazon's S3.",
                self.mapbox_conn_id,
                access.client.base_url,
            )
        return access

    def get_conn(self) -> UploadsClient:
        """
        Give the client that the connection describes.

        :raises ConfigurationError: where the connection is missing, has no token, or has an address that cannot be
            used.
        """
        return self._access.client

    def test_connection(self) -> tuple[bool, str]:
        """
        Say whether the token is valid, and which of the scopes work. Makes at most four requests and no upload.

        :return: whether uploads can be made with this connection, and a sentence for the form.
        """
        try:
            # The form waits for this, in the API server: one try at each request, no waiting for a rate limit's reset.
            client = self.get_conn().with_one_try()
            state = client.check_token()
            if not state.is_valid:
                return False, f"Mapbox answers {state.code} for this token: put a valid secret token into the password."
            if state.account is not None and state.account != client.username:
                return False, f"The token belongs to account {state.account!r}, the login is {client.username!r}."
            return _describe_scopes(client)
        except MapboxError as error:
            return False, str(error)

    def create_credentials(self) -> StagingCredentials:
        """
        Get temporary credentials for one staged file, masked in the task's log.

        :raises MapboxError: as the API or the network has it.
        """
        credentials = self.get_conn().create_credentials()
        _mask(credentials)
        return credentials

    def create_upload(self, tileset: str, url: str, name: str | None = None) -> Upload:
        """
        Create an upload of what is staged at a URL; see :meth:`UploadsClient.create_upload`.

        :param tileset: ``name`` or ``account.name``.
        :param url: of the staging credentials, or ``mapbox://datasets/{user}/{id}``.
        :param name: the display name.
        :raises MapboxError: as the API or the network has it.
        """
        return self.get_conn().create_upload(tileset, url, name)

    def get_upload(self, upload_id: str) -> Upload:
        """
        Get the state of an upload.

        :param upload_id: the id that creation gave.
        :raises MapboxError: as the API or the network has it.
        """
        return self.get_conn().get_upload(upload_id)

    def list_uploads(self, *, limit: int | None = None, reverse: bool = False) -> Iterator[Upload]:
        """
        Go through the account's recent uploads.

        :param limit: how many at most, in all.
        :param reverse: oldest first.
        :raises MapboxError: as the API or the network has it.
        """
        return self.get_conn().list_uploads(limit=limit, reverse=reverse)

    def delete_upload(self, upload_id: str) -> None:
        """
        Remove the status of a completed upload from the list; the tileset stays.

        :param upload_id: the id that creation gave.
        :raises MapboxError: as the API or the network has it.
        """
        self.get_conn().delete_upload(upload_id)

    def check_token(self) -> TokenState:
        """
        Ask Mapbox whether the token is valid.

        :raises MapboxError: as the API or the network has it.
        """
        return self.get_conn().check_token()

    def stage(self, source: SourceLike) -> str:
        """
        Check a source and send it to the staging bucket.

        :param source: a local path, an object-storage or ``https://`` URL, an ``ObjectStoragePath``, an open binary
            stream, or an iterator of bytes.
        :return: the URL that :meth:`create_upload` takes, once.
        :raises SourceError: where it is missing, or Mapbox would refuse it; nothing is sent.
        :raises StagingError: where it did not arrive whole.
        :raises MapboxError: as the API or the network has it.
        """
        with open_source(_object_storage(source)) as opened:
            return self._checked_and_staged(opened).url

    def upload(
        self,
        source: SourceLike | Mapping[str, Any] | ExportSource | Callable[[], ExportSource],
        tileset: str,
        name: str | None = None,
        *,
        format: ExportFormat | None = None,
        export: Mapping[str, Any] | None = None,
        if_active: str = "wait",
        active_timeout: float = WAIT_TIMEOUT_SECONDS,
        ledger: Ledger | None = None,
        published: Published | None = None,
    ) -> Upload:
        """
        Check a source, stage it and create its upload, once.

        What Mapbox would refuse is found before a byte is sent. A create call whose answer was lost is not made twice.

        :param source: as for :meth:`stage`; the report of an export as JSON, whose counts and bounds are kept with the
            upload; or ``mapbox://datasets/{user}/{id}``, for which nothing is staged; with a ``format`` geodata, as
            :func:`~airflow_mapbox.export.stream_geojson` takes it, or a function that gives it.
        :param tileset: ``name`` or ``account.name``; an existing tileset of that id is replaced.
        :param name: the display name, at most 64 characters.
        :param format: what geodata is exported to: ``"geojson"``, which is sent while it is made, ``"mbtiles"``, or
            ``"auto"`` for GeoJSON up to Mapbox's limit and MBTiles beyond it; None sends the source as it is.
        :param export: keywords of the export, such as ``crs`` or ``columns``; for tiles also ``maxzoom`` or ``tier``.
        :param if_active: where the tileset is being processed by another upload: ``"wait"`` for it in this process, or
            ``"fail"`` with :class:`~airflow_mapbox.uploads.errors.UploadActiveError`.
        :param active_timeout: seconds to wait for it, at most; processing is capped at one hour, two for MBTiles.
        :param ledger: what outlives this process, so that the same call after a crash goes on instead of beginning
            anew; without one the promise of one upload holds for this call only.
        :param published: what the tileset was last made from, where an upload of the same is not wanted.
        :return: the upload, which is still being processed.
        :raises UnchangedSourceError: where the tileset's last finished upload came from the same bytes.
        :raises InvalidTilesetError: for a name that Mapbox would refuse.
        :raises SourceError: for data that Mapbox would refuse.
        :raises ExportError: for data that cannot be written as Mapbox wants it.
        :raises UploadActiveError: where another upload of the tileset goes on for too long.
        :raises MapboxError: as the API, S3 or the network has it.
        """
        if if_active not in ("wait", "fail"):
            raise OptionError(f'`if_active` is "wait" or "fail", not {if_active!r}')
        check_format(format, export)
        client = self.get_conn()
        tileset_id = client.tileset_id(tileset)
        check_display_name(name)
        facts: dict[str, Any] = {}
        if isinstance(source, Mapping):
            source, facts = read_report(source)
            if format is not None:
                raise SourceError(f"The report of an export is given as source: leave the format ({format}) out.")
        refuse_secrets(source)
        dataset = is_dataset_url(source)
        if dataset and format is not None:
            raise SourceError(f"{source} is made into a tileset by Mapbox itself: leave the format ({format}) out.")
        sendable: Any = source if dataset else _object_storage(source)
        if format is not None:
            sendable = exported(sendable, format, export, name=tileset_id.name)
        once = OneUpload(client, ledger or MemoryLedger(), self._checked_and_staged, published=published, facts=facts)
        while True:
            try:
                if dataset:
                    upload = once.upload_dataset(str(source), str(tileset_id), name)
                else:
                    upload = once.upload_file(sendable, str(tileset_id), name)
            except UploadActiveError as error:
                waited = client.server_now() - (error.since or client.server_now())
                if if_active == "fail" or waited >= active_timeout:
                    raise
                pause = interval_while_active(waited)
                self.log.info("%s Asking again in %.0f s.", error, pause)
                time.sleep(pause)
            else:
                self.log.info("Upload %s of tileset %s is being processed", upload.id, upload.tileset)
                return upload

    def cancel(self) -> None:
        """Stop a staging that is under way and take its parts back; safe in a signal handler."""
        self._stager.cancel()

    def wait(
        self,
        upload_id: str | Upload,
        *,
        timeout: float = WAIT_TIMEOUT_SECONDS,
        poll_interval: float = 15.0,
        stall_timeout: float | None = None,
        progress: Callable[[Upload], None] | None = None,
    ) -> Upload:
        """
        Wait for an upload in this process; a task waits better with :class:`UploadCompleteSensor`.

        :param upload_id: the id that creation gave, or the upload itself.
        :param timeout: seconds to wait at most; processing is capped at one hour, two for MBTiles.
        :param poll_interval: seconds between two looks.
        :param stall_timeout: seconds without progress that end the wait; None for any number.
        :param progress: called with the upload after each look.
        :return: the successful upload.
        :raises UploadFailedError: where processing failed, with Mapbox's message and a hint.
        :raises UploadStalledError: where the progress has not moved for too long.
        :raises UploadGoneError: where Mapbox does not know the upload.
        :raises WaitTimeoutError: where it has not ended in time.
        """
        return wait_for_upload(
            self.get_conn(),
            upload_id.id if isinstance(upload_id, Upload) else upload_id,
            timeout=timeout,
            poll_interval=poll_interval,
            stall_timeout=stall_timeout,
            progress=progress,
        )

    def _checked_and_staged(self, source: Source) -> StagedFile:
        report = check_source(source)
        report.raise_for_problems()
        for warning in report.warnings:
            self.log.warning("%s", warning)
        size = "unknown size" if source.size is None else f"{source.size:,} bytes"
        self.log.info("Source %s: %s, %s", source.description, report.format, size)
        return self._stager.stage(source, report.limit)

    def _s3_client(self, credentials: StagingCredentials) -> Any:
        # Here and not above: boto3 and the Amazon provider take half a second, and a status request needs neither.
        from airflow_mapbox.hooks.staging import staging_s3_client

        return staging_s3_client(credentials, self._access.s3_endpoint(), region=STAGING_REGION)


@without_frames
def _mask(credentials: StagingCredentials) -> None:
    for secret in credentials.secrets:
        mask_secret(secret)


def _object_storage(source: Any) -> Any:
    """Give a URL that Airflow's object storage reads as a path of it."""
    if not isinstance(source, str) or "://" not in source or _READ_BY_CORE.match(source):
        return source
    if source.startswith("mapbox://"):
        raise SourceError(f"{source!r} is no dataset: a dataset's source is mapbox://datasets/{{user}}/{{id}}.")
    problem = None
    try:
        path = ObjectStoragePath(source)
        path.fs  # noqa: B018 - the file system is looked up, and its package imported, only now
    except (ImportError, ValueError) as error:
        problem = str(error)
    if problem is not None:
        raise SourceError(
            f"The source {source} cannot be read: {problem}.\nInstall the provider of that storage with its file "
            "system, such as apache-airflow-providers-amazon[s3fs] for s3:// (the extra `s3` of this package)."
        )
    return path


def _describe_scopes(client: UploadsClient) -> tuple[bool, str]:
    """Try each scope by a request that changes nothing."""
    works: dict[str, bool | None] = {}
    newest: list[Upload] = []
    try:
        newest = list(client.list_uploads(limit=1))
        works["uploads:list"] = True
    except (NotFoundError, TokenRejectedError):
        works["uploads:list"] = False
    try:
        client.create_credentials()
        works["uploads:write"] = True
    except (NotFoundError, TokenRejectedError):
        works["uploads:write"] = False
    if newest:
        try:
            client.get_upload(newest[0].id)
            works["uploads:read"] = True
        except (NotFoundError, TokenRejectedError):
            works["uploads:read"] = False
    else:
        # Without an upload to ask for, a missing scope and an unknown id get the same answer.
        works["uploads:read"] = None
    words = {True: "works", False: "is missing", None: "cannot be told until there is an upload"}
    scopes = ", ".join(f"{scope} {words[state]}" for scope, state in works.items())
    usable = all(state is not False for state in works.values())
    advice = "" if usable else " Give the token the missing scopes on the account's tokens page."
    return usable, f"Account {client.username} at {client.base_url}: {scopes}.{advice}"
