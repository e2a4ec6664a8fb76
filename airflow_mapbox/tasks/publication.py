"""What a task does after Mapbox has made its tileset: verify it, make it public or private, and note what it costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import MapboxError
from airflow_mapbox.tilesets.expected import Expected

if TYPE_CHECKING:
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    from airflow_mapbox.tasks.state import MemoryValue, StoredValue
    from airflow_mapbox.tilesets.client import TilesetsClient
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload

ON_DIFFERENCE_CHOICES = ("fail", "warn")
VISIBILITIES = ("public", "private")

# The key of the state in the task state store.
PUBLICATION_KEY = "mapbox_publication"
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
    The result of an attempt.

    :param delay: seconds after which to do it again; None if it is done.
    :param facts: what is known now, for the asset event and the task's result.
    """

    delay: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Publication:
    """
    Verifies the tileset of a finished upload, changes its visibility, and reads what it costs.

    It can be done again after a crash. It never waits: a tileset that Mapbox's CDN still shows as it was, a rate limit
    and a fault have a delay instead. The task's state keeps when the task first saw that the upload was done, because
    Mapbox does not say when the processing ended.

    :param options: what to do.
    :param uploads_client: client of the account, which makes one attempt for each call.
    :param store: where the state is kept from one attempt to the next.
    :param try_number: the number of the task's try. Each has its own time for faults.
    :param timeout: seconds for which a rate limit may delay it.
    :param uploads_again: whether the task uploads again when it is cleared.
    """

    def __init__(
        self,
        options: PublicationOptions,
        uploads_client: UploadsClient,
        store: StoredValue | MemoryValue,
        *,
        try_number: int,
        timeout: float,
        uploads_again: bool,
    ) -> None:
        from airflow_mapbox.tilesets.client import TilesetsClient

        self._options = options
        self._client = TilesetsClient.sharing(uploads_client)
        self._store = store
        self._try_number = try_number
        self._timeout = timeout
        self._uploads_again = uploads_again
        saved = store.read() or {}
        self._state: dict[str, Any] = saved if saved.get("try") == try_number else {"try": try_number}

    def publish(self, upload: Upload, source: Mapping[str, Any]) -> Outcome:
        """
        Do what is possible now.

        :param upload: the finished upload.
        :param source: facts about its source.
        :raises TilesetDiffersError: if the tileset is not as expected, and that is an error.
        :raises NotUpdatableError: if Mapbox does not let its visibility be changed, and that is an error.
        :raises MapboxError: for an error that another try cannot fix, or that has lasted too long.
        """
        try:
            facts: dict[str, Any] = {}
            expected = self._options.expected(source)
            if expected is not None:
                verified = self._verify(expected, upload)
                if isinstance(verified, float):
                    return Outcome(verified)
                facts |= verified
            if self._options.visibility is not None:
                facts |= self._change_visibility(upload.tileset, self._options.visibility)
            if expected is not None:
                facts |= _listed(self._client, upload.tileset)
            return Outcome(facts=facts)
        except MapboxError as error:
            delay = self._delay_after(error)
            if delay is None:
                error.args = (f"{error}\n{self._after(upload)}", *error.args[1:])
                raise
            log.info("%s\nTrying again in %.0f s.", error, delay)
            return Outcome(delay)

    def _verify(self, expected: Expected, upload: Upload) -> dict[str, Any] | float:
        """Return what is known now, or the seconds after which to compare again."""
        from airflow_mapbox.errors import MissingScopeError
        from airflow_mapbox.http.retry import RetryPolicy
        from airflow_mapbox.tilesets.client import TilesetsClient
        from airflow_mapbox.tilesets.errors import TilesetDiffersError
        from airflow_mapbox.tilesets.verify import CDN_SECONDS, verify_tileset

        created, remaining = upload.created_at, CDN_SECONDS
        if "done" in self._state:
            remaining -= self._client.server_now() - self._done()
        if created is not None and remaining <= 0:
            # The clocks of Mapbox's services may differ. Earlier, the upload before this one would pass for it.
            created -= timedelta(seconds=_CLOCK_SECONDS)
        try:
            without_sample = replace(expected, sample=0)
            result = verify_tileset(self._client, upload.tileset, without_sample, modified_since=created)
            if result.is_outdated and remaining > -_MAX_RETRY_SECONDS:
                delay = max(self._remaining(CDN_SECONDS), _RETRY_SECONDS if remaining <= 0 else 1.0)
                log.info(
                    "Mapbox's CDN still shows tileset %s as it was before the upload. Reading it again in %.0f s.",
                    upload.tileset,
                    delay,
                )
                return delay
            if expected.sample and not result.differences:
                # The CDN keeps each tile for itself, and may have old ones beside the new TileJSON.
                if (delay := self._remaining(CDN_SECONDS)) > 0:
                    log.info("Reading a sample of tileset %s in %.0f s, when the CDN has it", upload.tileset, delay)
                    return delay
                reader = TilesetsClient.sharing(self._client)
                reader.retry = RetryPolicy(attempts=3, max_throttle_wait=_RETRY_SECONDS)
                result = verify_tileset(reader, upload.tileset, expected, modified_since=created)
        except MissingScopeError as error:
            if self._options.on_difference == "fail":
                raise
            log.warning("Tileset %s was not verified. %s", upload.tileset, error)
            return {}
        if result.differences and self._options.on_difference == "fail":
            raise TilesetDiffersError(
                f"{result}\nClients see this tileset. If the source is wrong, correct it and upload again. If `verify` "
                "is wrong, correct that."
            )
        log.log(logging.WARNING if result.differences else logging.INFO, "%s", result)
        visible_by = datetime.fromtimestamp(self._done() + CDN_SECONDS, UTC).isoformat(timespec="seconds")
        return {"verification": result.to_json(), "visible_by": visible_by}

    def _after(self, upload: Upload) -> str:
        """Return what to know and to do after an error: the upload itself is done."""
        clearing = (
            "Clearing this task would upload again. An UploadCompleteSensor with this id does not."
            if self._uploads_again
            else "Clearing this task makes no other upload."
        )
        return f"Upload {upload.id} is done and billed. {clearing}"

    def _change_visibility(self, tileset: str, visibility: str) -> dict[str, Any]:
        from airflow_mapbox.errors import ApiError, TokenRejectedError
        from airflow_mapbox.tilesets.errors import NotUpdatableError

        try:
            self._client.update_tileset(tileset, private=visibility == "private")
        except ApiError as error:
            # How Mapbox refuses to change a tileset that an upload made is undocumented.
            if error.retryable or isinstance(error, TokenRejectedError):
                raise
            if self._options.if_visibility_refused == "fail":
                advice = 'Or keep its visibility: if_visibility_refused="warn".'
                raise NotUpdatableError(f"{error}\n{advice}", status=error.status, message=error.message) from None
            log.warning("%s", error)
            return {}
        log.info("Tileset %s is %s", tileset, visibility)
        return {"visibility": visibility}

    def _delay_after(self, error: MapboxError) -> float | None:
        """Return the seconds after which to try again; None if the error is final."""
        from airflow_mapbox.errors import MissingScopeError, NotFoundError, ThrottledError, TokenRejectedError
        from airflow_mapbox.tilesets.verify import CDN_SECONDS

        elapsed = self._client.server_now() - self._done()
        if isinstance(error, ThrottledError):
            return error.retry_after or _RETRY_SECONDS if elapsed < self._timeout else None
        if error.retryable:
            delay = getattr(error, "retry_after", None) or _RETRY_SECONDS
            return delay if elapsed < CDN_SECONDS + _MAX_RETRY_SECONDS else None
        is_refusal = isinstance(error, TokenRejectedError | NotFoundError) and not isinstance(error, MissingScopeError)
        if is_refusal and "refused" not in self._state:
            # A gateway or a deployment can refuse a single request. It is final only if it is repeated.
            self._save(refused=self._client.server_now())
            return _RETRY_SECONDS
        return None

    def _done(self) -> float:
        """Return the Unix time when the task first saw that the upload was done, by Mapbox's clock."""
        if "done" not in self._state:
            if not self._client.knows_server_time:
                return self._client.server_now()
            self._save(done=self._client.server_now())
        return float(self._state["done"])

    def _remaining(self, seconds: float) -> float:
        return self._done() + seconds - self._client.server_now()

    def _save(self, **values: float) -> None:
        self._state |= values
        self._store.write(self._state)


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


def timer(seconds: float) -> DateTimeTrigger:
    """
    Return the trigger with which a deferred task waits some seconds.

    :param seconds: the seconds; the shortest safe delay if that is longer.
    """
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    from airflow_mapbox.tasks.rescheduling import min_reschedule_delay

    return DateTimeTrigger(datetime.now(UTC) + timedelta(seconds=max(seconds, min_reschedule_delay())))
