"""Random accounts and policies, and which tilesets may go by the sentences of the documentation."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.tilesets.retention import RetentionPolicy

CLIENTS = ("airflow", "studio", None)
SERIES = ("quakes-", "quakes-de-", "Quakes-", "roads_v2-", "q-3-")


@dataclass(frozen=True)
class Made:
    """A tileset, and the facts that it was made from."""

    listed: Tileset
    series: str | None  # None if the name has no date
    day: datetime | None
    created: datetime | None
    modified: datetime | None


@dataclass(frozen=True)
class Account:
    name: str
    tilesets: tuple[Made, ...]
    active: tuple[str, ...]

    def changed(self, rng: random.Random, now: datetime) -> Account:
        """Return the account some time later: some tilesets are gone, replaced or public, and uploads have begun."""
        after = []
        for made in self.tilesets:
            change = rng.choice(("none",) * 6 + ("gone", "replaced", "public", "pending"))
            listed = made.listed
            if change == "gone":
                continue
            if change == "replaced":
                made = replace(made, modified=now, listed=replace(listed, modified=now.isoformat()))
            elif change in ("public", "pending"):
                field = {"public": {"visibility": "public"}, "pending": {"status": "pending"}}[change]
                made = replace(made, listed=replace(listed, **field))
            after.append(made)
        begun = rng.sample(after, min(len(after), rng.randrange(3)))
        return Account(self.name, tuple(after), tuple(made.listed.id for made in begun))


def random_account(rng: random.Random, name: str, now: datetime) -> Account:
    """Return an account with up to 40 tilesets of a few series, days and kinds."""
    made: dict[str, Made] = {}
    for _ in range(rng.randrange(41)):
        series = rng.choice((*SERIES, None))
        day = datetime(2018, 1, 1, tzinfo=now.tzinfo) + timedelta(days=rng.randrange(400))
        own = f"{series}{day:%Y%m%d}" if series else rng.choice(("quakes-strong", "quakes", "roads"))
        owner = name if rng.random() < 0.9 else rng.choice(("other", name.upper(), f"{name}x"))
        created = now - timedelta(hours=rng.randrange(-24, 24 * 200)) if rng.random() < 0.9 else None
        modified = created + timedelta(hours=rng.randrange(24 * 30)) if created and rng.random() < 0.9 else None
        listed = Tileset(
            f"{owner}.{own}",
            type="vector",
            visibility=rng.choice(("private",) * 8 + ("public", None)),
            status=rng.choice(("available",) * 8 + ("pending", "invalid", None)),
            created=created.isoformat() if created else rng.choice((None, "", "soon")),
            modified=modified.isoformat() if modified else rng.choice((None, "2018-13-45", "soon")),
            filesize=rng.choice((None, rng.randrange(10**9))),
            created_by_client=rng.choice(CLIENTS),
        )
        made[listed.id] = Made(listed, series, day if series else None, created, modified)
    tilesets = list(made.values())
    active = rng.sample(tilesets, min(len(tilesets), rng.randrange(4)))
    return Account(name, tuple(tilesets), tuple(rng.choice((str, str.upper))(made.listed.id) for made in active))


def random_policy(rng: random.Random) -> RetentionPolicy:
    """Return a policy that is valid."""
    match = rng.choice(("quakes-*", "quakes-2018*", "*2018*", "roads*", "q*", "?uakes-*", "[qQ]uakes-*", "*"))
    by_age = rng.random() < 0.4
    keep = None if by_age else rng.randrange(12)
    return RetentionPolicy(
        match,
        keep=keep,
        older_than=timedelta(hours=rng.randrange(1, 24 * 220)) if by_age else None,
        by=rng.choice((None, "created", "modified") if by_age else (None, "name", "created", "modified")),
        created_by=rng.choice((None, None, "airflow")),
        include_public=rng.random() < 0.3,
        allow_all=match == "*",
        allow_empty=keep == 0,
    )


def may_go(made: Made, account: Account, policy: RetentionPolicy, now: datetime) -> bool:
    """Return whether a tileset may be deleted, sentence by sentence."""
    tileset = made.listed
    # Only tilesets of the connection's account, never one whose name doesn't match.
    if not is_meant(made, account, policy):
        return False
    # Never one that an upload is being made of.
    if tileset.status == "pending" or tileset.id.lower() in {active.lower() for active in account.active}:
        return False
    # Public tilesets need include_public=True. One whose visibility is unknown may be public.
    if tileset.visibility != "private" and not policy.include_public:
        return False
    # A tileset whose time is missing or unreadable is never deleted.
    if made.modified is None:
        return False
    if policy.older_than is not None:
        time = made.created if policy.by == "created" else made.modified
        return time is not None and now - time > policy.older_than
    # The newest are kept: it goes only if as many are newer.
    assert policy.keep is not None
    if policy.by in (None, "name"):
        others = [other for other in account.tilesets if other.series == made.series]
        own, times = made.day, [(other, other.day) for other in others]
    elif policy.by == "created":
        own, times = made.created, [(other, other.created) for other in account.tilesets]
    else:
        own, times = made.modified, [(other, other.modified) for other in account.tilesets]
    if own is None:
        return False
    newer = [
        other
        for other, time in times
        if time is not None
        and time > own
        and is_meant(other, account, policy)
        and other.listed.status in (None, "available")
    ]
    return len(newer) >= policy.keep


def is_meant(made: Made, account: Account, policy: RetentionPolicy) -> bool:
    owner, _, own = made.listed.id.partition(".")
    if owner != account.name or not fnmatchcase(own, policy.match):
        return False
    return policy.created_by is None or made.listed.created_by_client == policy.created_by
