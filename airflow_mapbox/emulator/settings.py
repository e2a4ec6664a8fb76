"""How one emulator behaves: every number and every choice that Mapbox has not shown, in one frozen dataclass."""

from __future__ import annotations

import re
from dataclasses import dataclass

ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


@dataclass(frozen=True)
class EmulatorSettings:
    """The settings of an emulator; the defaults are Mapbox's documented values where there are any.

    :param account: the one account the emulator serves.
    :param token: the account's full token; None makes one at the first start and keeps it in the folder.
    :param processing_seconds: how long processing takes at least, by the emulator's clock, so that progress shows.
    :param processing_limit: seconds after which tiling is given up with ``Processing timed out.`` (Mapbox: one hour).
    :param rate_limit: Uploads API requests per account in one window; 0 switches the limit off.
    :param rate_window: length of that window in seconds.
    :param credentials_lifetime: seconds until issued S3 credentials expire.
    :param workers: uploads processed at the same time.
    :param bucket: name of the staging bucket.
    :param failed_complete: what ``complete`` says of a failed upload; nobody outside Mapbox has shown it.
    :param early_delete_status: status of a refused ``DELETE`` of an incomplete upload; only its message is known.
    :param name_status: status of a refused tileset, name or property; 422 is probable.
    :param unseen_seconds: how long a fresh upload's status is still ``Not Found``, as where a replica lags behind.
    :param unlisted_seconds: how long a fresh upload is missing in the list, likewise.
    :param create_looks_first: what a create call is refused for where several things speak against it: ``"used"``, that
        its URL made an upload before, ``"staged"``, that nothing is there (any more), or ``"active"``, that the tileset
        is being processed; nobody outside Mapbox has shown it.
    :param page_bytes: bytes of JSON after which a list page ends early (Mapbox: one megabyte).
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
            raise ValueError(f"account {self.account!r} is not 1 to 32 of [A-Za-z0-9_-]")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", self.bucket):
            raise ValueError(f"bucket {self.bucket!r} is no S3 bucket name without dots")
        for name in ("early_delete_status", "name_status"):
            if not 400 <= getattr(self, name) <= 499:
                raise ValueError(f"{name} must be a 4xx status")
        positive = ("processing_limit", "rate_window", "credentials_lifetime", "workers", "page_bytes")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if self.create_looks_first not in ("used", "staged", "active"):
            raise ValueError("create_looks_first is used, staged or active")
        for name in ("processing_seconds", "rate_limit", "unseen_seconds", "unlisted_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0")
