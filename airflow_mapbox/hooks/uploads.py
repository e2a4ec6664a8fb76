"""The hook: the Uploads API through an Airflow connection. The Amazon provider makes its S3 client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.log import mask_secret

from airflow_mapbox import defaults
from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.billing.ceilings import Ceilings
from airflow_mapbox.errors import MapboxError, OptionError, SourceError, without_frames
from airflow_mapbox.export.options import ExportFormat, check_format
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.limits import STAGING_REGION
from airflow_mapbox.names import check_display_name
from airflow_mapbox.preflight import SourceReport, check_source
from airflow_mapbox.preflight.source import check_while_sent
from airflow_mapbox.security.endpoints import API_URL, refuse_secrets
from airflow_mapbox.sources.failures import package_advice
from airflow_mapbox.sources.identity import is_dataset_url
from airflow_mapbox.sources.resolve import ReportedFile, SourceLike, open_source, read_report
from airflow_mapbox.sources.source import Source
from airflow_mapbox.tasks.connection import CONN_TYPE, Access, access_by
from airflow_mapbox.tasks.export_source import export_source
from airflow_mapbox.tasks.lineage import report_to_collector
from airflow_mapbox.tasks.rates import amount_of, configured_rates, describe_amount
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.scopes import describe_scopes, probe_scopes
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import NotFoundError, TokenRejectedError, UploadActiveError
from airflow_mapbox.uploads.models import StagingCredentials, TokenState, Upload
from airflow_mapbox.uploads.once.ledger import Ledger, MemoryLedger, Published
from airflow_mapbox.uploads.once.one_upload import OneUpload
from airflow_mapbox.uploads.selection import Moment, UploadState
from airflow_mapbox.uploads.staging.stager import StagedFile, Stager, StagingOptions
from airflow_mapbox.uploads.waiting.blocking import wait_for_upload
from airflow_mapbox.uploads.waiting.interval import interval_while_active

if TYPE_CHECKING:
    from airflow_mapbox.export.readers import ExportSource

# URLs that the core reads itself. All others are object storage.
_CORE_URL = re.compile(r"(https?|file)://", re.IGNORECASE)
# Longest time for a request that only adds to the message of the connection test. A person waits for it.
_PROBE_SECONDS = 10.0


class MapboxUploadsHook(BaseHook):
    """
    The Mapbox Uploads API through an Airflow connection of type ``mapbox``.

    The connection's ``password`` is the secret token. Its ``login`` is the account; without it, the token names the
    account. ``host`` is another API base URL and the extra ``s3_endpoint_url`` another S3 server: both are for servers
    that replace Mapbox in tests. Plain http is allowed for this machine (loopback) only.

    :param mapbox_conn_id: the connection.
    :param retry: how long one call may take. By default the hook waits out every rate limit.
    :param staging: how to send sources to the staging bucket.

    Example::

        hook = MapboxUploadsHook()
        upload = hook.upload("parcels.geojson", "parcels", name="Parcels")
        hook.wait(upload.id)
    """

    conn_name_attr = "mapbox_conn_id"
    default_conn_name = defaults.CONN_ID
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
                "Connection %r has a host (%s) but no s3_endpoint_url: files are staged at Amazon's S3.",
                self.mapbox_conn_id,
                access.client.base_url,
            )
        return access

    def get_conn(self) -> UploadsClient:
        """
        Return the client of the connection.

        :raises ConfigurationError: if the connection is missing, has no token, or has an address that cannot be used.
        """
        return self._access.client

    def test_connection(self) -> tuple[bool, str]:
        """
        Check the token and its scopes, with at most seven requests that change nothing.

        :return: whether the connection can make uploads, and a message for the form. The message also tells which
            scopes the token has for existing tilesets. Uploads do not need these.
        """
        try:
            # The form waits for this in the API server: do not retry, and do not wait for a rate limit's reset.
            client = self.get_conn().with_one_try()
            state = client.check_token()
            if not state.is_valid:
                return False, f"Mapbox answers {state.code} for this token: put a valid secret token into the password."
            if state.account is not None and state.account != client.username:
                return False, f"The token belongs to account {state.account!r}, but the login is {client.username!r}."
            usable, message = _describe_scopes(client)
            tilesets = TilesetsClient.sharing(client).with_one_try(_PROBE_SECONDS)
            return usable, f"{message} {describe_scopes(probe_scopes(tilesets))}"
        except MapboxError as error:
            return False, str(error)

    def create_credentials(self) -> StagingCredentials:
        """
        Return temporary credentials for one staged file. They are masked in the task's log.

        :raises MapboxError: for every error of the API or the network.
        """
        credentials = self.get_conn().create_credentials()
        _mask(credentials)
        return credentials

    def create_upload(self, tileset: str, url: str, name: str | None = None) -> Upload:
        """
        Create an upload of a staged file; see :meth:`.UploadsClient.create_upload`.

        :param tileset: ``name`` or ``account.name``.
        :param url: the ``url`` of the staging credentials, or ``mapbox://datasets/{user}/{id}``.
        :param name: the display name.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().create_upload(tileset, url, name)

    def get_upload(self, upload_id: str) -> Upload:
        """
        Return the state of an upload.

        :param upload_id: the upload's id.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().get_upload(upload_id)

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
        Yield the account's recent uploads; see :meth:`.UploadsClient.list_uploads`.

        :param limit: number of uploads at most; None for all.
        :param reverse: yield the oldest first instead of the newest.
        :param since: only uploads that were created at this time or later. It ends the reading of the list.
        :param until: only uploads that were created before this time.
        :param tileset: only uploads of this tileset.
        :param state: only uploads in this state: ``"processing"``, ``"done"`` or ``"failed"``.
        :raises OptionError: if a time has no time zone or cannot be read, the period is empty, or the state is unknown.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().list_uploads(
            limit=limit, reverse=reverse, since=since, until=until, tileset=tileset, state=state
        )

    def count_uploads(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        tileset: str | None = None,
        state: UploadState | None = None,
    ) -> int:
        """
        Count the account's recent uploads.

        :param since: as for :meth:`list_uploads`.
        :param until: as for :meth:`list_uploads`.
        :param tileset: as for :meth:`list_uploads`.
        :param state: as for :meth:`list_uploads`.
        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().count_uploads(since=since, until=until, tileset=tileset, state=state)

    def delete_upload(self, upload_id: str) -> None:
        """
        Remove the status of a completed upload from the list. The tileset stays.

        :param upload_id: the upload's id.
        :raises MapboxError: for every error of the API or the network.
        """
        self.get_conn().delete_upload(upload_id)

    def check_token(self) -> TokenState:
        """
        Return the state of the token.

        :raises MapboxError: for every error of the API or the network.
        """
        return self.get_conn().check_token()

    def stage(self, source: SourceLike) -> str:
        """
        Check a source and send it to the staging bucket.

        :param source: a local path, an object-storage or ``https://`` URL, an ``ObjectStoragePath``, an open binary
            stream, or an iterator of bytes.
        :return: the URL for one call of :meth:`create_upload`.
        :raises SourceError: if it is missing, or Mapbox would refuse it. No byte is sent.
        :raises StagingError: if not all bytes arrived.
        :raises MapboxError: for every error of the API or the network.
        """
        with open_source(readable_source(source)) as opened:
            return self._check_and_stage(opened).url

    def upload(
        self,
        source: SourceLike | Mapping[str, Any] | ExportSource | Callable[[], ExportSource],
        tileset: str,
        name: str | None = None,
        *,
        format: ExportFormat | None = None,
        export: Mapping[str, Any] | None = None,
        if_active: str = defaults.IF_ACTIVE,
        active_timeout: float = defaults.WAIT_TIMEOUT_SECONDS,
        ledger: Ledger | None = None,
        published: Published | None = None,
        preflight: bool = True,
        ceilings: Ceilings | None = None,
    ) -> Upload:
        """
        Check a source, stage it and create its upload, once.

        The source is checked before a byte is sent. If a reply of Mapbox is lost, no second upload is created.

        :param source: as for :meth:`stage`; the report of an export as JSON, whose counts and bounds are kept with the
            upload; or ``mapbox://datasets/{user}/{id}``, which needs no staging. With a ``format``: geodata, as
            :func:`~airflow_mapbox.export.stream_geojson` takes it, or a function that returns it.
        :param tileset: ``name`` or ``account.name``. An existing tileset is replaced.
        :param name: the display name, at most 64 characters.
        :param format: format to export geodata to. ``"geojson"`` is sent during the export, and ``"mbtiles"`` is
            written first. ``"auto"`` is GeoJSON up to Mapbox's limit and MBTiles beyond it. None sends the source as it
            is.
        :param export: options of the export, such as ``crs`` or ``columns``; for vector tiles also ``maxzoom`` or
            ``tier``.
        :param if_active: what to do if Mapbox is processing another upload of the tileset: ``"wait"`` for it in this
            process, or ``"fail"`` with :class:`~airflow_mapbox.uploads.errors.UploadActiveError`.
        :param active_timeout: longest time to wait for that other upload, in seconds.
        :param ledger: keeps the state of this upload, so that the same call after a crash continues. Without a ledger,
            the promise of one upload holds for this call only.
        :param published: what the tileset was last made from; None to upload even if the content is the same.
        :param preflight: check the source for what Mapbox would refuse, before a byte is sent. The report is logged.
        :param ceilings: how large the upload may be.
        :return: the upload, which Mapbox is processing.
        :raises UnchangedSourceError: if the tileset's last finished upload came from the same content.
        :raises InvalidTilesetError: if Mapbox would refuse the tileset or the name.
        :raises SourceError: if Mapbox would refuse the data.
        :raises CeilingError: if the upload would be larger than a ceiling. It is not created.
        :raises ExportError: if the data cannot be written in a form that Mapbox accepts.
        :raises UploadActiveError: if another upload of the tileset takes too long.
        :raises MapboxError: for every error of the API, S3 or the network.
        """
        if if_active not in ("wait", "fail"):
            raise OptionError(f'`if_active` must be "wait" or "fail", got {if_active!r}')
        check_format(format, export)
        client = self.get_conn()
        tileset_id = client.tileset_id(tileset)
        check_display_name(name)
        reported = read_report(source) if isinstance(source, Mapping) else None
        prepared = _prepare(source if reported is None else reported, format, export, layer=tileset_id.name)
        facts = {} if reported is None else reported.facts
        limits = ceilings or Ceilings()
        if is_dataset_url(prepared) and limits != Ceilings():
            raise SourceError(f"The size of {prepared} is unknown before Mapbox processes it: leave out the ceilings.")
        stage = partial(
            self._check_and_stage,
            tileset=tileset,
            name=name,
            preflight=preflight,
            ceilings=limits,
            reported=reported,
        )
        once = OneUpload(client, ledger or MemoryLedger(), stage, published=published, facts=facts)
        while True:
            try:
                if is_dataset_url(prepared):
                    upload = once.upload_dataset(prepared, str(tileset_id), name)
                else:
                    upload = once.upload_file(prepared, str(tileset_id), name)
            except UploadActiveError as error:
                waited = client.server_now() - (error.since or client.server_now())
                if if_active == "fail" or waited >= active_timeout:
                    raise
                delay = interval_while_active(waited)
                self.log.info("%s Trying again in %.0f s.", error, delay)
                time.sleep(delay)
            else:
                self.log.info("Mapbox is processing upload %s of tileset %s", upload.id, upload.tileset)
                report_to_collector(self, source, upload.tileset)
                return upload

    def cancel(self) -> None:
        """Stop a running staging and delete its parts. Safe in a signal handler."""
        self._stager.cancel()

    def wait(
        self,
        upload_id: str | Upload,
        *,
        timeout: float = defaults.WAIT_TIMEOUT_SECONDS,
        poll_interval: float = 15.0,
        stall_timeout: float | None = None,
        progress: Callable[[Upload], None] | None = None,
    ) -> Upload:
        """
        Wait for an upload in this process. In a DAG, use :class:`.UploadCompleteSensor`.

        :param upload_id: the upload's id, or the upload itself.
        :param timeout: seconds to wait at most. Mapbox stops processing after one hour, for MBTiles after two.
        :param poll_interval: seconds between two polls.
        :param stall_timeout: end the wait after this many seconds without progress; None for never.
        :param progress: called with the upload after each poll.
        :return: the successful upload.
        :raises UploadFailedError: if processing failed. The message has Mapbox's message and a hint.
        :raises UploadStalledError: if the progress has not changed for ``stall_timeout``.
        :raises UploadGoneError: if Mapbox does not know the upload.
        :raises WaitTimeoutError: if the timeout has passed.
        """
        return wait_for_upload(
            self.get_conn(),
            upload_id.id if isinstance(upload_id, Upload) else upload_id,
            timeout=timeout,
            poll_interval=poll_interval,
            stall_timeout=stall_timeout,
            progress=progress,
        )

    def _check_and_stage(
        self,
        source: Source,
        *,
        tileset: str | None = None,
        name: str | None = None,
        preflight: bool = True,
        ceilings: Ceilings = Ceilings(),  # noqa: B008 - frozen
        reported: ReportedFile | None = None,
    ) -> StagedFile:
        limit, rates = None, configured_rates()
        facts = {} if reported is None else reported.facts
        if preflight:
            needs_area = ceilings.max_area_km2 is not None
            report = check_source(source, tileset=tileset, name=name, area=needs_area)
            self._log_report(report)
            report.raise_for_problems()
            source.facts.update(_known_facts(source, report, facts))
            limit, learns_more = report.limit, check_while_sent(source, report, self._log_report)
            if source.size is not None:
                bill = Bill.from_json(source.facts["bill"], size=source.size)
                # Sending a file tells neither the area nor, of most formats, the maxzoom.
                is_final = needs_area or not learns_more
                ceilings.check(bill, source.description, is_final=is_final and source.checksum is None)
        else:
            source.facts.update(_known_facts(source, None, facts))
            if source.size is not None:
                ceilings.check(Bill(bytes=source.size), source.description, is_final=False)
        staged = self._stager.stage(source, limit)
        if reported is not None:
            reported.check(source.description, staged.sha256)
        known = source.facts.get("bill", {})
        bill = Bill.from_json(known, size=staged.bytes)
        amount = amount_of(bill, rates)
        self.log.info("The bill of %s: %s %s", source.description, bill, describe_amount(amount))
        ceilings.check(bill, source.description, is_final=True)
        source.facts["bill"] = {**bill.to_json(), "savings": known.get("savings"), **amount}
        return staged

    def _log_report(self, report: SourceReport) -> None:
        self.log.info("Preflight of %s", report)
        for warning in report.warnings:
            self.log.warning("%s", warning)

    def _s3_client(self, credentials: StagingCredentials) -> Any:
        # Imported here: boto3 and the Amazon provider take half a second, and a status request needs neither.
        from airflow_mapbox.hooks.staging import staging_s3_client

        return staging_s3_client(credentials, self._access.s3_endpoint(), region=STAGING_REGION)


@without_frames
def _mask(credentials: StagingCredentials) -> None:
    for secret in credentials.secrets:
        mask_secret(secret)


def _prepare(source: Any, format: ExportFormat | None, export: Mapping[str, Any] | None, *, layer: str) -> Any:
    """Return a dataset's URL, an export, or the source itself."""
    if isinstance(source, ReportedFile):
        if format is not None:
            raise SourceError(f"The source is the report of an export: leave out the format ({format}).")
        source = source.path
    refuse_secrets(source)
    if is_dataset_url(source):
        if format is not None:
            raise SourceError(f"Mapbox itself makes the tileset of {source}: leave out the format ({format}).")
        return source
    prepared = readable_source(source)
    return prepared if format is None else export_source(prepared, format, export, name=layer)


def _known_facts(source: Source, report: SourceReport | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known about the content before it is sent."""
    if source.checksum is not None:
        # An export knows more than the preflight of its beginning. It may have ended already.
        return {} if report is None or "bill" in source.facts else {"bill": report.bill.to_json()}
    known = {} if report is None else report.source_facts()
    made = facts.get("bill") or {}
    # The export that wrote the file knows its area.
    return known | ({"bill": made} if made and made.get("bytes") == source.size else {})


def readable_source(source: Any) -> Any:
    """
    Return the path of a URL that Airflow's object storage reads; any other source unchanged.

    :param source: the source.
    :raises SourceError: if no installed package reads such URLs.
    """
    if not isinstance(source, str) or "://" not in source or _CORE_URL.match(source):
        return source
    refuse_secrets(source)
    if source.startswith("mapbox://"):
        raise SourceError(f"{source!r} is not a dataset: the source of a dataset is mapbox://datasets/{{user}}/{{id}}.")
    problem = None
    try:
        path = ObjectStoragePath(source)
        path.fs  # noqa: B018 - Airflow imports the file system's package only now
    except (ImportError, ValueError) as error:
        problem = str(error)
    if problem is not None:
        raise SourceError(f"The source {source} cannot be read: {problem}.\n{package_advice(source)}")
    return path


def _describe_scopes(client: UploadsClient) -> tuple[bool, str]:
    """Check each scope with a request that changes nothing."""
    scopes: dict[str, bool | None] = {}
    newest: list[Upload] = []
    try:
        newest = list(client.list_uploads(limit=1))
        scopes["uploads:list"] = True
    except (NotFoundError, TokenRejectedError):
        scopes["uploads:list"] = False
    try:
        client.create_credentials()
        scopes["uploads:write"] = True
    except (NotFoundError, TokenRejectedError):
        scopes["uploads:write"] = False
    if newest:
        try:
            client.get_upload(newest[0].id)
            scopes["uploads:read"] = True
        except (NotFoundError, TokenRejectedError):
            scopes["uploads:read"] = False
    else:
        # Without an upload, a missing scope and an unknown id get the same reply.
        scopes["uploads:read"] = None
    words = {True: "works", False: "is missing", None: "is unknown until there is an upload"}
    listed = ", ".join(f"{scope} {words[state]}" for scope, state in scopes.items())
    usable = all(state is not False for state in scopes.values())
    advice = "" if usable else " Give the token the missing scopes on the account's tokens page."
    return usable, f"Account {client.username} at {client.base_url}: {listed}.{advice}"
