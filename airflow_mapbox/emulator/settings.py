"""The settings of an emulator: limits, durations, and the choices about Mapbox's undocumented behaviour."""

from __future__ import annotations

import re
from dataclasses import dataclass

ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


@dataclass(frozen=True)
class EmulatorSettings:
    """The settings of an emulator. The defaults are Mapbox's documented values if there are any.

    Settings marked "unknown" answer a question of ``docs/reference/undocumented.md``. Tests should pass with each
    plausible value.

    :param account: the emulator's only account.
    :param token: the account's token with all scopes. None creates a token at the first start and stores it in the
        folder.
    :param processing_seconds: minimum duration of processing by the emulator's clock, so that clients see progress.
    :param processing_limit: seconds after which tiling fails with ``Processing timed out.`` (Mapbox: one hour).
    :param rate_limit: Uploads API requests per account in one window; 0 for no limit.
    :param rate_window: length of the window in seconds.
    :param credentials_lifetime: seconds until issued S3 credentials expire.
    :param workers: number of uploads that are processed at the same time.
    :param bucket: name of the staging bucket.
    :param failed_complete: ``complete`` of a failed upload; unknown.
    :param early_delete_status: status of the refusal to delete an incomplete upload; unknown.
    :param name_status: status of the refusal of a tileset, name or property; unknown, 422 is probable.
    :param unseen_seconds: seconds for which a new upload's status is still ``Not Found``, as with a slow replica.
    :param unlisted_seconds: seconds for which a new upload is still missing from the list, as with a slow replica.
    :param create_looks_first: the refusal of a create call that comes first if several apply; unknown. ``"used"``: the
        URL already made an upload. ``"staged"``: there is no staged file. ``"active"``: the tileset is in processing.
    :param page_bytes: bytes of JSON after which a page of a list ends early (Mapbox: one megabyte for uploads).
    :param tilesets_read_limit: lists of tilesets per account in one window; 0 for no limit.
    :param tilesets_write_limit: updates and deletions of tilesets per account in one window; 0 for no limit.
    :param cache_seconds: seconds for which the TileJSON and the tiles under ``/v4`` stay as they were at their first
        request. 0 for no cache.
    :param tileset_costs: whether the list of tilesets has ``cu``, ``tileset_precisions`` and ``created_by_client``.
        Clients read them, but Mapbox does not document them. Their values are invented here.
    :param tilesets_default_sort: the order of the list of tilesets without ``sortby``, the newest first:
        ``"created"`` or ``"modified"``; unknown.
    :param tilesets_show_pending: whether the list of tilesets shows a tileset in processing as ``pending``, also before
        it exists; unknown.
    :param start_keeps_deleted: whether a page can start after a tileset that was deleted meanwhile; unknown. If not,
        the answer is 422.
    :param tileset_delete_status: status of a deleted tileset: 200 (documented) or 204 (expected by Mapbox's clients).
    :param active_delete_status: status of the refusal to delete a tileset with an upload in processing; unknown.
        With None the deletion is allowed, and the upload makes the tileset again.
    :param missing_tileset_message: message of the 404 for an unknown tileset at the tilesets endpoints: ``"Not Found"``
        or ``"Cannot find tileset"``. Both are documented.
    :param update_refused_status: status of the refusal to update a tileset that an upload made; None if it is allowed;
        unknown.
    :param update_changes_modified: whether an update of name, description or visibility changes ``modified``; unknown.
    """

    account: str = "demo"
    token: str | None = None
    processing_seconds: float = 3.0
    processing_limit: float = 3600.0
    rate_limit: int = 30
    rate_window: float = 60.0
    credentials_lifetime: float = 3600.0
    workers: int = 2
    bucket: str = "tilestream-tilesets-production"
    failed_complete: bool = False
    early_delete_status: int = 400
    name_status: int = 422
    unseen_seconds: float = 0.0
    unlisted_seconds: float = 0.0
    create_looks_first: str = "used"
    page_bytes: int = 1_000_000
    tilesets_read_limit: int = 3000
    tilesets_write_limit: int = 100
    cache_seconds: float = 300.0
    tileset_costs: bool = True
    tilesets_default_sort: str = "created"
    tilesets_show_pending: bool = False
    start_keeps_deleted: bool = True
    tileset_delete_status: int = 200
    active_delete_status: int | None = None
    missing_tileset_message: str = "Not Found"
    update_refused_status: int | None = None
    update_changes_modified: bool = True

    def __post_init__(self) -> None:
        if not ACCOUNT.match(self.account):
            raise ValueError(f"account must be 1 to 32 characters of [A-Za-z0-9_-], not {self.account!r}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", self.bucket):
            raise ValueError(f"bucket must be an S3 bucket name without dots, not {self.bucket!r}")
        for name in ("early_delete_status", "name_status", "active_delete_status", "update_refused_status"):
            status = getattr(self, name)
            is_valid = name in _OPTIONAL_REFUSALS if status is None else 400 <= status <= 499
            if not is_valid:
                raise ValueError(f"{name} must be a 4xx status")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}")
        for name in ("processing_limit", "rate_window", "credentials_lifetime", "workers", "page_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")


_OPTIONAL_REFUSALS = ("active_delete_status", "update_refused_status")
_CHOICES: dict[str, tuple[object, ...]] = {
    "create_looks_first": ("used", "staged", "active"),
    "tilesets_default_sort": ("created", "modified"),
    "tileset_delete_status": (200, 204),
    "missing_tileset_message": ("Not Found", "Cannot find tileset"),
}
_NOT_NEGATIVE = (
    "processing_seconds",
    "rate_limit",
    "unseen_seconds",
    "unlisted_seconds",
    "tilesets_read_limit",
    "tilesets_write_limit",
    "cache_seconds",
)
