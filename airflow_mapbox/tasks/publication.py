"""What a task does after Mapbox has made its tileset: verify it, make it public or private, and note what it costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import MapboxError
from airflow_mapbox.tilesets.expected import Expected

if TYPE_CHECKING:
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    from airflow_mapbox.tilesets.client import TilesetsClient
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload

ON_DIFFERENCE_CHOICES = ("fail", "warn")
VISIBILITIES = ("public", "private")

# After the CDN's time, ask as often and for as long whether the tileset was replaced, and while Mapbox has a fault.
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 60.0, 900.0
# The clocks of Mapbox's services may differ by so much.
_CLOCK_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicationOptions:
    """
    The parameters of the operator and of the sensor.

    :param verify: True, or what is expected as JSON; None or False for no verification.
    :param on_difference: ``"fail"`` or ``"warn"``.
    :param visibility: ``"public"`` or ``"private"``; None to leave it.
    :param if_visibility_refused: ``"fail"`` or ``"warn"``.
    :raises ValueError: for another value.
    """

    verify: bool | Mapping[str, Any] | None = None
    on_difference: str = "fail"
    visibility: str | None = None
    if_visibility_refused: str = "fail"

    def __post_init__(self) -> None:
        if self.verify is not None and not isinstance(self.verify, bool | Mapping):
            raise ValueError(
                f"verify must be True or a mapping of what is expected, got {self.verify!r}; it cannot be templated"
            )
        for name in ("on_difference", "if_visibility_refused"):
            if getattr(self, name) not in ON_DIFFERENCE_CHOICES:
                raise ValueError(f'{name} must be "fail" or "warn", got {getattr(self, name)!r}')
        if self.visibility is not None and self.visibility not in VISIBILITIES:
            raise ValueError(f'visibility must be "public" or "private", got {self.visibility!r}')
        Expected.from_json(self._expected())  # a mistake breaks the DAG's import

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.verify not in (None, False) or self.visibility is not None

    def expected(self, source: Mapping[str, Any]) -> Expected | None:
        """
        Return what the tileset is expected to be; None if it is not verified.

        :param source: facts about the source of the upload.
        """
        return Expected.from_json(self._expected(), source) if self.verify not in (None, False) else None

    def _expected(self) -> Mapping[str, Any]:
        return self.verify if isinstance(self.verify, Mapping) else {}


@dataclass(frozen=True)
class Outcome:
    """
    What became of it.

    :param delay: seconds after which to do it again; None if it is done.
    :param facts: what is known now, for the asset event and the task's result.
    """

    delay: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def publish(
    options: PublicationOptions, uploads_client: UploadsClient, upload: Upload, source: Mapping[str, Any]
) -> Outcome:
    """
    Verify the tileset of a finished upload, change its visibility, and read what it costs.

    It can be done again after a crash. It never waits: a tileset that Mapbox's CDN still shows as it was, a rate limit
    and a fault have a delay instead.

    :param options: what to do.
    :param uploads_client: client of the account, which makes one attempt for each call.
    :param upload: the finished upload.
    :param source: facts about its source.
    :raises TilesetDiffersError: if the tileset is not as expected, and that is an error.
    :raises NotUpdatableError: if Mapbox does not let its visibility be changed, and that is an error.
    :raises MapboxError: for an error that another try cannot fix.
    """
    from airflow_mapbox.tilesets.client import TilesetsClient

    client = TilesetsClient.sharing(uploads_client)
    try:
        return _publish(options, client, upload, source)
    except MapboxError as error:
        if not error.retryable or client.server_now() > _finished(upload, client) + _MAX_RETRY_SECONDS:
            raise
        delay = getattr(error, "retry_after", None) or _RETRY_SECONDS
        log.info("%s\nTrying again in %.0f s.", error, delay)
        return Outcome(delay)


def _publish(options: PublicationOptions, client: TilesetsClient, upload: Upload, source: Mapping[str, Any]) -> Outcome:
    from airflow_mapbox.tilesets.errors import NotUpdatableError, TilesetDiffersError
    from airflow_mapbox.tilesets.verify import CDN_SECONDS, verify_tileset

    facts: dict[str, Any] = {}
    expected = options.expected(source)
    if expected is not None:
        created, finished = upload.created_at, _finished(upload, client)
        since = None if created is None else created - timedelta(seconds=_CLOCK_SECONDS)
        result = verify_tileset(client, upload.tileset, expected, modified_since=since)
        remaining = finished + CDN_SECONDS - client.server_now()
        if result.is_outdated and remaining > -_MAX_RETRY_SECONDS:
            delay = remaining if remaining > 0 else _RETRY_SECONDS
            log.info(
                "Mapbox's CDN still shows tileset %s as it was before the upload. Reading it again in %.0f s.",
                upload.tileset,
                delay,
            )
            return Outcome(delay)
        if result.differences and options.on_difference == "fail":
            raise TilesetDiffersError(
                f"{result}\nUpload {upload.id} is done and billed, and clients see this tileset. Correct the source or "
                "`verify`, then upload again."
            )
        log.log(logging.WARNING if result.differences else logging.INFO, "%s", result)
        visible_by = datetime.fromtimestamp(finished + CDN_SECONDS, UTC).isoformat(timespec="seconds")
        facts |= {"verification": result.to_json(), "visible_by": visible_by}
    if options.visibility is not None:
        try:
            client.update_tileset(upload.tileset, private=options.visibility == "private")
        except NotUpdatableError as error:
            if options.if_visibility_refused == "fail":
                advice = 'Or keep its visibility: if_visibility_refused="warn".'
                raise NotUpdatableError(f"{error}\n{advice}", status=error.status, message=error.message) from None
            log.warning("%s", error)
        else:
            log.info("Tileset %s is %s", upload.tileset, options.visibility)
            facts["visibility"] = options.visibility
    if expected is not None:
        facts |= _listed(client, upload.tileset)
    return Outcome(facts=facts)


def _listed(client: TilesetsClient, tileset: str) -> dict[str, Any]:
    """Return the size and the compute units of a tileset that has just changed, if the account's list has them."""
    from airflow_mapbox.limits import TILESETS_PAGE

    try:
        for item in client.list_tilesets(sortby="modified", limit=TILESETS_PAGE):
            if item.id.lower() == tileset.lower():
                known = {"filesize": item.filesize, "cu": item.cu, "visibility": item.visibility}
                return {name: value for name, value in known.items() if value is not None}
    except MapboxError as error:
        log.info("The size and the compute units of tileset %s are unknown: %s", tileset, error)
    return {}


def _finished(upload: Upload, client: TilesetsClient) -> float:
    """Return the unix time when processing ended, by Mapbox's clock."""
    finished = upload.modified_at or upload.created_at
    return client.server_now() if finished is None else finished.timestamp()


def timer(seconds: float) -> DateTimeTrigger:
    """
    Return the trigger with which a deferred task waits some seconds.

    :param seconds: the seconds; the shortest safe delay if that is longer.
    """
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    from airflow_mapbox.tasks.rescheduling import min_reschedule_delay

    return DateTimeTrigger(datetime.now(UTC) + timedelta(seconds=max(seconds, min_reschedule_delay())))
