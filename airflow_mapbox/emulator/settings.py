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
    :param page_bytes: bytes of JSON after which a page of the list ends early (Mapbox: one megabyte).
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

    def __post_init__(self) -> None:
        if not ACCOUNT.match(self.account):
            raise ValueError(f"account must be 1 to 32 characters of [A-Za-z0-9_-], not {self.account!r}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", self.bucket):
            raise ValueError(f"bucket must be an S3 bucket name without dots, not {self.bucket!r}")
        for name in ("early_delete_status", "name_status"):
            if not 400 <= getattr(self, name) <= 499:
                raise ValueError(f"{name} must be a 4xx status")
        positive = ("processing_limit", "rate_window", "credentials_lifetime", "workers", "page_bytes")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.create_looks_first not in ("used", "staged", "active"):
            raise ValueError("create_looks_first must be used, staged or active")
        for name in ("processing_seconds", "rate_limit", "unseen_seconds", "unlisted_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")
