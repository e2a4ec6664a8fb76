"""The ledger: what is stored about one intended upload, so that a retry knows how far the last attempt came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Protocol, Self

from airflow_mapbox.uploads.errors import LedgerError
from airflow_mapbox.uploads.models import Upload

# Increased with each change that an older version would misread.
_VERSION = 2
_REQUIRED = frozenset({"tileset", "source", "url", "state"})


class State(StrEnum):
    """
    The state of one intended upload. A new one has no entry in the ledger yet.

    :class:`~airflow_mapbox.uploads.once.one_upload.OneUpload` says what an attempt does in each state.
    """

    STAGED = "staged"
    ASKED = "asked"
    IN_DOUBT = "in doubt"
    CREATED = "created"


@dataclass(frozen=True)
class Entry:
    """
    The stored state of one intended upload: JSON without a secret.

    :param tileset: ``account.name``.
    :param source: description of the source; for a dataset its ``mapbox://datasets`` URL.
    :param url: URL to create the upload from.
    :param first_asked: Unix time by the server's clock, before the first create call that may have taken effect.
    :param last_asked: Unix time by the server's clock, before the last create call that may have taken effect.
    :param fingerprint: fingerprint of the source, as far as it is known without reading it.
    :param sha256: checksum of the staged bytes; None for a dataset.
    :param facts: facts about the content: ``bytes``, and after an export ``features`` and ``bounds``.
    :param state: the state; for a dataset, ``staged`` means that there was no create call.
    :param active_since: Unix time by the server's clock, when Mapbox was first seen to process another upload of the
        tileset.
    :param upload: the upload object in state ``created``.
    :param listed: ids of the tileset's uploads that the account's list showed before the first create call. None of
        them belongs to this intent.
    """

    tileset: str
    source: str
    url: str
    first_asked: float = 0.0
    last_asked: float = 0.0
    fingerprint: Mapping[str, str | int] = field(default_factory=dict)
    sha256: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.STAGED
    active_since: float | None = None
    upload: Mapping[str, Any] | None = None
    listed: Sequence[str] = ()

    @property
    def in_doubt(self) -> bool:
        """Whether a create call may have taken effect. After a crash, ``asked`` is in doubt as well."""
        return self.state in (State.ASKED, State.IN_DOUBT)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {"version": _VERSION, **asdict(self), "state": self.state.value, "listed": list(self.listed)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """
        Read the result of :meth:`to_json`.

        :param document: the decoded JSON. Unknown fields are ignored.
        :raises LedgerError: if another version of this package wrote it.
        """
        values = {name.name: document[name.name] for name in fields(cls) if name.name in document}
        if document.get("version") == _VERSION and values.keys() >= _REQUIRED and values["state"] in set(State):
            return cls(**values | {"state": State(values["state"]), "listed": tuple(values.get("listed", ()))})
        raise LedgerError(
            "An earlier try of this task stored its upload in a form that this version of the provider cannot read.\n"
            "Check in the account's list whether the upload exists. To make a new one, clear the task."
        )

    def created_upload(self) -> Upload | None:
        """Return the upload in state ``created``, or None."""
        return None if self.upload is None else Upload.from_json(self.upload)

    def source_to_json(self) -> dict[str, Any]:
        """Return the facts about the source, for the tasks after the upload."""
        return {"fingerprint": dict(self.fingerprint), "sha256": self.sha256, **self.facts}


@dataclass(frozen=True)
class Published:
    """
    What a tileset was last made from.

    :param upload_id: the upload that made it.
    :param fingerprint: fingerprint of the source.
    :param sha256: checksum of the staged bytes, or None.
    """

    upload_id: str
    fingerprint: Mapping[str, str | int]
    sha256: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self | None:
        """
        Read the result of :meth:`to_json`.

        :param document: the decoded JSON.
        :return: None if it has another form.
        """
        upload_id, fingerprint, sha256 = (document.get(name) for name in ("upload_id", "fingerprint", "sha256"))
        if not isinstance(upload_id, str) or not isinstance(fingerprint, Mapping):
            return None
        return cls(upload_id, fingerprint, sha256 if isinstance(sha256, str) else None)


class Ledger(Protocol):
    """Where the entry of one intended upload is kept. It outlives the process."""

    def read(self) -> Entry | None:
        """
        Return the entry, or None.

        :raises LedgerError: if it cannot be read.
        """
        ...

    def write(self, entry: Entry) -> None:
        """
        Replace the entry.

        :param entry: the new entry.
        :raises LedgerError: if it cannot be written, or another process has taken over.
        """
        ...


class MemoryLedger:
    """A ledger that ends with the process."""

    def __init__(self) -> None:
        self.entry: Entry | None = None

    def read(self) -> Entry | None:
        """Return the entry, or None."""
        return self.entry

    def write(self, entry: Entry) -> None:
        """Replace the entry."""
        self.entry = entry
