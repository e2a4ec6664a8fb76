"""What is written down about one intended upload, so that whoever comes after a crash knows how far it got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, Self

from airflow_mapbox.uploads.errors import LedgerError
from airflow_mapbox.uploads.models import Upload

# Raised with each change that an older reader would misunderstand.
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """
    How far one intended upload has got. It has no secret in it, and is JSON.

    :param tileset: ``account.name``.
    :param source: the source's description; the ``mapbox://datasets`` URL of a dataset.
    :param url: what the upload is created from.
    :param sent: unix time by the server's clock before the first create call that may have taken effect.
    :param asked: unix time by the server's clock before the last create call that may have taken effect.
    :param fingerprint: of the source, as far as it could be told without reading.
    :param sha256: digest of the bytes that were staged; None for a dataset.
    :param facts: what is known of the content: ``bytes``, and where the export told them ``features`` and ``bounds``.
    :param uncertain: whether a create call may have taken effect.
    :param busy_since: unix time by the server's clock at which the tileset was first found to be processed by another
        upload.
    :param upload: the upload object, once it is known.
    :param listed: ids of the tileset's uploads that the account's list showed before the first create call; none of
        them is this intent's.
    """

    tileset: str
    source: str
    url: str
    sent: float = 0.0
    asked: float = 0.0
    fingerprint: Mapping[str, str | int] = field(default_factory=dict)
    sha256: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    uncertain: bool = False
    busy_since: float | None = None
    upload: Mapping[str, Any] | None = None
    listed: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {"version": _VERSION, **asdict(self), "listed": list(self.listed)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """
        Read what :meth:`to_json` gave.

        :param document: the decoded JSON; fields that are not an entry's are passed over.
        :raises LedgerError: where it was written by another version of this package.
        """
        known = {name.name: document[name.name] for name in fields(cls) if name.name in document}
        if document.get("version") == _VERSION and known.keys() >= {"tileset", "source", "url", "sent", "uncertain"}:
            return cls(**known | {"listed": tuple(known.get("listed", ()))})
        raise LedgerError(
            "An earlier try of this task left a note about its upload that this version of the provider cannot read.\n"
            "Look in the account's list whether the upload exists; clear the task to make a new one."
        )

    def known_upload(self) -> Upload | None:
        """Give the upload, where it is known."""
        return None if self.upload is None else Upload.from_json(self.upload)

    def source_to_json(self) -> dict[str, Any]:
        """Give what is known of the source, for those who come after the upload."""
        return {"fingerprint": dict(self.fingerprint), "sha256": self.sha256, **self.facts}


@dataclass(frozen=True)
class Published:
    """
    What a tileset was last made from.

    :param upload_id: of the upload that made it.
    :param fingerprint: of the source.
    :param sha256: digest of the bytes that were staged, where there were any.
    """

    upload_id: str
    fingerprint: Mapping[str, str | int]
    sha256: str | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self | None:
        """
        Read what :meth:`to_json` gave; None where it is something else.

        :param document: the decoded JSON.
        """
        upload_id, fingerprint, sha256 = (document.get(name) for name in ("upload_id", "fingerprint", "sha256"))
        if not isinstance(upload_id, str) or not isinstance(fingerprint, Mapping):
            return None
        return cls(upload_id, fingerprint, sha256 if isinstance(sha256, str) else None)


class Ledger(Protocol):
    """Where the entry of one intended upload is kept: it outlives this process."""

    def read(self) -> Entry | None:
        """
        Give the entry, where there is one.

        :raises LedgerError: where it cannot be read.
        """
        ...

    def write(self, entry: Entry) -> None:
        """
        Replace the entry.

        :raises LedgerError: where it could not be written, or this process may no longer write it.
        """
        ...


class MemoryLedger:
    """A ledger for a caller that does not outlive its process."""

    def __init__(self) -> None:
        self.entry: Entry | None = None

    def read(self) -> Entry | None:
        """Give the entry."""
        return self.entry

    def write(self, entry: Entry) -> None:
        """Replace the entry."""
        self.entry = entry
