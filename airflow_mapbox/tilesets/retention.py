"""Decide which tilesets of an account are deleted, without deleting any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_mapbox.errors import InvalidAnswerError, InvalidTilesetError, OptionError
from airflow_mapbox.http.fields import read_time
from airflow_mapbox.names import TilesetId
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tilesets.errors import CeilingExceededError
from airflow_mapbox.tilesets.match import compile_match
from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.tilesets.series import place_of

# Deletions at most, unless the policy says otherwise: what Mapbox allows in a minute.
DEFAULT_MAX_DELETIONS = 100
# The plan is an XCom and a value in the task state store, which both should stay small.
MAX_DELETIONS = 1000
# Tilesets that a result names of those that are kept or skipped.
_MAX_LISTED = 100
# Rows of each table in the Markdown and the log, and of an error's message.
_MAX_ROWS = MAX_DELETIONS
_MAX_QUOTED = 20
ORDERS = ("name", "created", "modified")
# An upload that was created longer ago is no longer processed. Mapbox stops after two hours. Uploads that stay
# incomplete for ever, and tilesets that stay active for hours, are known.
ACTIVE_UPLOAD_AGE = timedelta(days=7)
_BRACKETS = re.compile(r"\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class RetentionPolicy:
    """
    The rules that decide which tilesets are deleted. All others are kept.

    :param match: a shell pattern with ``*``, ``?`` and ``[…]`` for the name after the account's dot. Upper and lower
        case differ.
    :param keep: number of newest tilesets to keep; with ``by="name"``, of each series.
    :param older_than: delete tilesets that are older than this by Mapbox's clock.
    :param by: what decides which tileset is newer: ``"name"``, its date or last number; ``"created"``; or
        ``"modified"``. None for ``"name"`` with ``keep``, and ``"modified"`` with ``older_than``.
    :param created_by: only tilesets with this ``created_by_client`` in Mapbox's list.
    :param include_public: delete public tilesets too.
    :param allow_all: allow a pattern without a letter or digit, such as ``*``.
    :param allow_empty: allow ``keep=0``.
    :raises OptionError: if a value is invalid. The message has a line for each problem.

    Example::

        RetentionPolicy("earthquakes-*", keep=8)
    """

    match: str
    keep: int | None = None
    older_than: timedelta | None = None
    by: str | None = None
    created_by: str | None = None
    include_public: bool = False
    allow_all: bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        problems = [*self._match_problems(), *self._age_problems()]
        if self.created_by is not None and (not isinstance(self.created_by, str) or not self.created_by.strip()):
            problems.append("`created_by` is empty: name a `created_by_client` of Mapbox's list, or leave it out.")
        for name in ("include_public", "allow_all", "allow_empty"):
            if not isinstance(getattr(self, name), bool):
                problems.append(f"`{name}` must be True or False, got {getattr(self, name)!r}.")
        if problems:
            raise OptionError("\n".join(problems))

    @property
    def order(self) -> str:
        """What decides which tileset is newer: ``by`` or its default."""
        return self.by or ("name" if self.keep is not None else "modified")

    @property
    def pattern(self) -> str:
        """The pattern for the name, without the account."""
        return self.match.rpartition(".")[2]

    def compile(self, account: str) -> re.Pattern[str]:
        """
        Return the compiled pattern for the names of an account's tilesets.

        :param account: the account of the connection.
        :raises OptionError: if the pattern is for another account.
        """
        owner, dot, _ = self.match.rpartition(".")
        if dot and owner != account:
            raise OptionError(
                f"`match` is {self.match!r}, which is for account {owner!r}. The connection is to account "
                f"{account!r}, and only its own tilesets can be deleted.\nGive the pattern without an account, or use "
                "a connection of the other account."
            )
        return compile_match(self.pattern, account)

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON types."""
        seconds = None if self.older_than is None else self.older_than.total_seconds()
        return {**asdict(self), "older_than": seconds}

    @classmethod
    def from_json(cls, document: object) -> RetentionPolicy:
        """
        Read :meth:`to_json`.

        :raises OptionError: if the value has another form.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(document, Mapping) or not set(document) <= names or "match" not in document:
            raise OptionError("Its policy is missing, or has unknown fields.")
        fields = dict(document)
        if fields.get("older_than") is not None:
            try:
                fields["older_than"] = timedelta(seconds=fields["older_than"])
            except (TypeError, ValueError, OverflowError):
                fields["older_than"] = "?"  # refused with the other values
        return cls(**fields)

    def describe(self) -> str:
        """Return the policy as the end of a sentence "Keep …"."""
        if self.keep is not None:
            series = " of each series" if self.order == "name" else ""
            what = f"the {self.keep} newest{series} by {self.order}"
        else:
            what = f"those that are younger than {_span(self.older_than)} by {self.order}"
        client = f", made by {redact(self.created_by)}" if self.created_by else ""
        public = "public ones too" if self.include_public else "public ones are not deleted"
        return f"{what}, of tilesets {self.match}{client}; {public}"

    def _match_problems(self) -> Iterator[str]:
        if not isinstance(self.match, str) or not self.match.strip():
            yield "`match` is empty: give a pattern for the names of the tilesets, such as earthquakes-*."
            return
        owner, dot, pattern = self.match.rpartition(".")
        try:
            if dot:
                TilesetId(owner, "x")
            compile_match(pattern, owner)
        except (InvalidTilesetError, OptionError):
            yield (
                f"`match` is {self.match!r}, and no tileset can have such a name: give a pattern of A-Z, a-z, 0-9, -, "
                "_, *, ? and […], such as earthquakes-*."
            )
            return
        if not re.search(r"[A-Za-z0-9]", _BRACKETS.sub("", pattern)) and not self.allow_all:
            yield (
                f"`match` is {self.match!r}, which can match every tileset of the account: write a part of the names, "
                "such as earthquakes-*, or set `allow_all=True`."
            )

    def _age_problems(self) -> Iterator[str]:
        keep, older_than = self.keep, self.older_than
        if (keep is None) == (older_than is None):
            yield "Give either `keep` or `older_than`: " + ("neither is given." if keep is None else "both are given.")
        if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 0):
            yield f"`keep` must be a whole number of tilesets, 1 or greater, got {keep!r}."
        elif keep == 0 and not self.allow_empty:
            yield "`keep` is 0, which deletes every tileset that matches: set `allow_empty=True` if you mean that."
        if older_than is not None and not (isinstance(older_than, timedelta) and older_than > timedelta(0)):
            yield f"`older_than` must be a timedelta greater than 0, such as timedelta(days=90), got {older_than!r}."
        if self.by is not None and self.by not in ORDERS:
            yield f"`by` must be one of {', '.join(ORDERS)}, got {self.by!r}."
        elif self.by == "name" and older_than is not None:
            yield '`by="name"` has no effect with `older_than`: give "created" or "modified", or use `keep`.'


@dataclass(frozen=True)
class Deletion:
    """
    A tileset that a plan deletes, as it was when the plan was made.

    :param id: ``account.name``.
    :param created: when it was created, from Mapbox's list.
    :param modified: when it last changed, from Mapbox's list.
    :param filesize: size of its tiles in bytes, or None.
    :param visibility: ``public`` or ``private``, or None.
    :param reason: why it is deleted.
    """

    id: str
    created: str | None
    modified: str | None
    filesize: int | None
    visibility: str | None
    reason: str

    @classmethod
    def from_json(cls, document: object) -> Deletion:
        """
        Read an element of a plan's ``delete``.

        :raises OptionError: if the value has another form.
        """
        if not isinstance(document, Mapping) or set(document) != set(cls.__dataclass_fields__):
            raise OptionError("A tileset in its list `delete` has missing or unknown fields.")
        size = document["filesize"]
        if not all(isinstance(document[name], str) for name in ("id", "modified", "reason")):
            raise OptionError("A tileset in its list `delete` has no id, no reason or no time of its last change.")
        if not all(isinstance(document[name], str | None) for name in ("created", "visibility")) or not (
            size is None or (isinstance(size, int) and not isinstance(size, bool))
        ):
            raise OptionError("A tileset in its list `delete` has a value of a wrong type.")
        return cls(**document)


@dataclass(frozen=True)
class Plan:
    """
    The tilesets to delete, to keep and to skip.

    :param account: the account.
    :param policy: the policy.
    :param planned_at: the time by Mapbox's clock, ISO 8601.
    :param delete: the tilesets to delete, the oldest first.
    :param kept: ids of the tilesets that match and stay by the policy.
    :param skipped: tilesets that match and stay for another reason, by id.
    """

    account: str
    policy: RetentionPolicy
    planned_at: str
    delete: tuple[Deletion, ...] = ()
    kept: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types. It names at most 100 tilesets that are kept, and 100 that are skipped."""
        listed = list(self.skipped.items())[:_MAX_LISTED]
        return {
            "account": self.account,
            "policy": self.policy.to_json(),
            "planned_at": self.planned_at,
            "delete": [asdict(deletion) for deletion in self.delete],
            "kept": list(self.kept[:_MAX_LISTED]),
            "kept_count": len(self.kept),
            "skipped": [{"id": identifier, "reason": reason} for identifier, reason in listed],
            "skipped_count": len(self.skipped),
        }

    @classmethod
    def from_json(cls, document: object) -> Plan:
        """
        Read the account, the policy and the deletions from :meth:`to_json`. The kept and skipped tilesets are not read.

        :raises OptionError: if the value has another form.
        """
        if not isinstance(document, Mapping):
            raise OptionError(f"It is a {type(document).__name__}, not a mapping.")
        account, planned_at, listed = (document.get(name) for name in ("account", "planned_at", "delete"))
        if not isinstance(account, str) or not isinstance(planned_at, str) or not isinstance(listed, list):
            raise OptionError("Its account, its time or its list `delete` is missing.")
        policy = RetentionPolicy.from_json(document.get("policy"))
        return cls(account, policy, planned_at, tuple(map(Deletion.from_json, listed)))

    def check_ceiling(self, max_deletions: int) -> None:
        """
        Refuse a plan that deletes too many tilesets.

        :param max_deletions: number of deletions at most.
        :raises CeilingExceededError: if the plan has more. The message names the oldest tilesets.
        """
        if len(self.delete) > max_deletions:
            raise CeilingExceededError(
                f"{len(self.delete)} tilesets of account {self.account} would be deleted, more than max_deletions="
                f"{max_deletions}. None was deleted.\nKeep {self.policy.describe()}.\n"
                f"Oldest: {_listed([deletion.id for deletion in self.delete])}.\n"
                "To delete them, raise `max_deletions`. Otherwise correct `match`, `keep` or `older_than`."
            )

    def recheck(self, fresh: Plan) -> Plan:
        """
        Return this plan without the tilesets that must no longer be deleted.

        A tileset stays if it changed after this plan was made, or if the fresh plan would not delete it. For example,
        it is public now, it has an upload in processing, or newer tilesets are gone. A tileset that the list no longer
        shows is gone, and is dropped from the plan.

        :param fresh: a plan that was made now by the same policy.
        """
        due = {deletion.id: deletion for deletion in fresh.delete}
        kept, delete, skipped = set(fresh.kept), [], dict[str, str]()
        for deletion in self.delete:
            now = due.get(deletion.id)
            if deletion.id in fresh.skipped:
                skipped[deletion.id] = fresh.skipped[deletion.id]
            elif deletion.id in kept:
                skipped[deletion.id] = "the policy keeps it now"
            elif now is not None and _is_changed(deletion, now):
                skipped[deletion.id] = "it was changed after the plan was made"
            elif now is not None:
                delete.append(deletion)
        return replace(self, delete=tuple(delete), kept=fresh.kept, skipped=skipped)

    def __str__(self) -> str:
        lines = [f"Keep {self.policy.describe()}."]
        # A plan that another task made does not tell what it keeps.
        counts = ((len(self.kept), "kept"), (len(self.skipped), "skipped"))
        counted = "".join(f", {count} {what}" for count, what in counts if count)
        lines.append(f"{len(self.delete)} to delete{counted}, by Mapbox's list at {self.planned_at}.")
        rows = list(self._rows())
        if not rows:
            return "\n".join(lines)
        rows.insert(0, ("", "tileset", "created", "last change", "bytes", "why"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Return the plan for a person who has to approve the deletion."""
        count, size = len(self.delete), sum(deletion.filesize or 0 for deletion in self.delete)
        tilesets = "1 tileset" if count == 1 else f"{count} tilesets"
        title = f"Delete **{tilesets}** of account {_cell(self.account)} for good ({size:,} bytes)."
        lines = [title if count else f"Nothing to delete in account {_cell(self.account)}."]
        lines += ["", f"Keep {_cell(self.policy.describe())}. Kept: {len(self.kept)}. Skipped: {len(self.skipped)}."]
        rows = list(self._rows())
        if rows:
            lines += ["", "| | Tileset | Created | Last change | Bytes | Why |", "|---|---|---|---|---|---|"]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, str, str, str, str, str]]:
        for deletion in self.delete[:_MAX_ROWS]:
            size = "?" if deletion.filesize is None else f"{deletion.filesize:,}"
            times = (_day(deletion.created), _day(deletion.modified))
            yield ("delete", deletion.id, *times, size, deletion.reason)
        for identifier, reason in list(self.skipped.items())[:_MAX_LISTED]:
            yield ("skip", identifier, "", "", "", reason)


def make_plan(
    policy: RetentionPolicy, account: str, tilesets: Iterable[Tileset], active: Iterable[str], now: datetime
) -> Plan:
    """
    Decide which tilesets are deleted. It sends no request.

    A tileset is deleted only if all of this is true:

    - It belongs to the account, its name matches, and it has the policy's ``created_by``.
    - With ``keep``, at least ``keep`` matching tilesets are newer. With ``older_than``, it is older.
    - It is private, unless the policy includes public ones.
    - It has no upload in processing.
    - Mapbox's list has the time of its last change, and the time that decides which is newer.

    :param policy: the policy.
    :param account: the account.
    :param tilesets: the account's list. Tilesets that do not match are ignored.
    :param active: ids of the tilesets that have uploads in processing.
    :param now: the time by Mapbox's clock.
    :raises OptionError: if the policy's pattern is for another account.
    """
    pattern = policy.compile(account)
    matching = {
        tileset.id: tileset
        for tileset in tilesets
        if tileset.account == account and pattern.fullmatch(tileset.own_name) and _is_made_by(tileset, policy)
    }
    busy = {identifier.lower() for identifier in active}
    delete, kept, skipped = [], [], dict[str, str]()
    for tileset, reason, is_due in _judged(policy, list(matching.values()), now):
        if not is_due and reason is None:
            kept.append(tileset.id)
        elif not is_due:
            skipped[redact(tileset.id)] = str(reason)
        elif (protection := _protection(tileset, policy, busy)) is not None:
            skipped[redact(tileset.id)] = protection
        else:
            delete.append(
                Deletion(
                    tileset.id,
                    tileset.created,
                    tileset.modified,
                    tileset.filesize,
                    tileset.visibility,
                    str(reason),
                )
            )
    planned_at = now.astimezone(UTC).isoformat(timespec="seconds")
    return Plan(account, policy, planned_at, tuple(delete), tuple(kept), skipped)


def active_tilesets(uploads: Iterable[object], now: datetime) -> frozenset[str]:
    """
    Return the tilesets that have uploads in processing, in lower case.

    Uploads that began more than seven days ago are not read. Mapbox stops processing after two hours.

    :param uploads: the account's list of uploads as Mapbox sends it, newest first.
    :param now: the time by Mapbox's clock.
    :raises InvalidAnswerError: if an upload that may be active names no tileset.
    """
    active = set()
    for upload in uploads:
        fields = upload if isinstance(upload, Mapping) else {}
        created = read_time(fields.get("created"))
        if created is not None and created < now - ACTIVE_UPLOAD_AGE:
            break
        # A failed upload has an error, whatever its `complete`.
        if fields.get("complete") is True or fields.get("error"):
            continue
        tileset = fields.get("tileset")
        if not isinstance(tileset, str) or not tileset:
            raise InvalidAnswerError(
                "Mapbox's list of uploads has one that names no tileset, and Mapbox may be processing it.\nNothing is "
                "deleted while it is unknown which tilesets have uploads in processing. Try again later."
            )
        active.add(tileset.lower())
    return frozenset(active)


def _judged(
    policy: RetentionPolicy, tilesets: Sequence[Tileset], now: datetime
) -> Iterator[tuple[Tileset, str | None, bool]]:
    """Yield each tileset with a reason, and whether the policy deletes it; the oldest first."""
    if policy.older_than is not None:
        yield from _judged_by_age(policy, policy.older_than, tilesets, now)
        return
    places: dict[str, tuple[str, Any]] = {}
    for tileset in tilesets:
        place = _place(tileset, policy.order)
        if place is None:
            yield tileset, _unknown(policy.order), False
        else:
            places[tileset.id] = place
    by_id = {tileset.id: tileset for tileset in tilesets}
    series: dict[str, list[str]] = {}
    for identifier, (name, _) in places.items():
        series.setdefault(name, []).append(identifier)
    due: dict[str, str] = {}
    for identifiers in series.values():
        newer, last = 0, None
        for identifier in sorted(identifiers, key=lambda identifier: places[identifier][1], reverse=True):
            order = places[identifier][1]
            if order != last:
                newer_than_this, last = newer, order
            # A tileset that is not ready must not take the place of one that is.
            newer += by_id[identifier].status in (None, "available")
            if newer_than_this >= (policy.keep or 0):
                due[identifier] = f"{newer_than_this} are newer"
    for identifier in sorted(places, key=lambda identifier: (places[identifier], identifier)):
        yield by_id[identifier], due.get(identifier), identifier in due


def _judged_by_age(
    policy: RetentionPolicy, older_than: timedelta, tilesets: Sequence[Tileset], now: datetime
) -> Iterator[tuple[Tileset, str | None, bool]]:
    times = {tileset.id: _time(tileset, policy.order) for tileset in tilesets}
    for tileset in sorted(tilesets, key=lambda tileset: (times[tileset.id] or now, tileset.id)):
        time = times[tileset.id]
        if time is None:
            yield tileset, _unknown(policy.order), False
        elif now - time > older_than:
            yield tileset, f"{(now - time).days} days old", True
        else:
            yield tileset, None, False


def _place(tileset: Tileset, order: str) -> tuple[str, Any] | None:
    if order == "name":
        place = place_of(tileset.own_name)
        return None if place is None else (place.series, place.order)
    time = _time(tileset, order)
    return None if time is None else ("", time)


def _time(tileset: Tileset, order: str) -> datetime | None:
    return tileset.created_at if order == "created" else tileset.modified_at


def _unknown(order: str) -> str:
    if order == "name":
        return "its name has no date and no number"
    return f"its time ({order}) is missing or unreadable"


def _protection(tileset: Tileset, policy: RetentionPolicy, busy: set[str]) -> str | None:
    """Return why a tileset stays that the policy would delete; None if nothing protects it."""
    try:
        TilesetId(tileset.account, tileset.own_name)
    except InvalidTilesetError:
        return "its id is not one that the API takes"
    if tileset.id.lower() in busy or tileset.status == "pending":
        return "it has an upload in processing"
    if tileset.is_public and not policy.include_public:
        return "it is public" if tileset.visibility == "public" else "its visibility is unknown"
    if tileset.modified_at is None:
        return "its time (modified) is missing or unreadable"
    return None


def _is_made_by(tileset: Tileset, policy: RetentionPolicy) -> bool:
    return policy.created_by is None or tileset.created_by_client == policy.created_by


def _is_changed(planned: Deletion, now: Deletion) -> bool:
    became_public = now.visibility != planned.visibility and now.visibility != "private"
    return read_time(now.modified) != read_time(planned.modified) or became_public


def _day(time: str | None) -> str:
    return (time or "?")[:16].replace("T", " ")


def _listed(identifiers: Sequence[str]) -> str:
    more = f" and {len(identifiers) - _MAX_QUOTED} more" if len(identifiers) > _MAX_QUOTED else ""
    return ", ".join(identifiers[:_MAX_QUOTED]) + more


def _cell(text: str) -> str:
    """Return a string that stays in its cell of a table and is no markup."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)
    return " ".join(escaped.split())


def _span(span: timedelta | None) -> str:
    """Return a time span without zeros, such as "30 days"."""
    return str(span).removesuffix(", 0:00:00")
