"""The buttons of a task in Airflow's UI that open its tileset's page and its upload's page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from airflow_mapbox.security.redaction import has_secret
from airflow_mapbox.uploads.links import tileset_page, upload_page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_mapbox.uploads.models import Upload


@dataclass(frozen=True)
class Pages:
    """
    The addresses that a task knows. They contain no secret.

    :param tileset: address of the tileset's page, or empty.
    :param upload: address of the upload's page, or empty.
    """

    tileset: str = ""
    upload: str = ""

    @classmethod
    def of(cls, upload: Upload, base_url: str | None) -> Pages:
        """
        Return the pages of an upload.

        :param upload: the upload.
        :param base_url: base URL of the API; None if it is unknown.
        """
        if base_url is None:
            return cls()
        return cls(tileset_page(upload.tileset, base_url), upload_page(upload.id, base_url))

    def describe_finished(self, upload: Upload) -> str:
        """
        Return the last line of a task's log.

        :param upload: the finished upload.
        """
        return f"Upload {upload.id} is done: tileset {upload.tileset}{self.tileset and f', {self.tileset}'}"

    @classmethod
    def from_result(cls, result: object) -> Pages:
        """
        Return the pages that the result of the task that created the upload names.

        :param result: the whole result, or an upload's id, which names none.
        """
        tileset = result.get("tileset_url") if isinstance(result, Mapping) else None
        is_page = isinstance(tileset, str) and tileset.startswith(("https://", "http://")) and not has_secret(tileset)
        return cls(str(tileset) if is_page else "")


class TilesetLink(BaseOperatorLink):
    """
    Opens the tileset: in Mapbox's console, or on the emulator's page.

    Airflow asks for the link in the worker whenever the task exits, and stores it. So Airflow's API server needs no
    connection, and the link works while the task waits and after the task has failed.
    """

    @property
    def name(self) -> str:
        """The button's label."""
        return "Tileset"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address of the tileset's page.

        :param operator: the task that has just run.
        :param ti_key: the task instance. It is not needed, because the task itself knows its pages.
        :return: the address; empty before the upload exists.
        """
        return _pages(operator).tileset


class UploadLink(BaseOperatorLink):
    """Opens the upload's state on the emulator's page. It is disabled for Mapbox, which has no page for one upload."""

    @property
    def name(self) -> str:
        """The button's label."""
        return "Upload"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the address of the upload's page.

        :param operator: the task that has just run.
        :param ti_key: the task instance. It is not needed, because the task itself knows its pages.
        :return: the address; empty before the upload exists, and at Mapbox.
        """
        return _pages(operator).upload


def _pages(operator: BaseOperator) -> Pages:
    # A mapped task that fails before its arguments are known has no operator of ours.
    pages = getattr(operator, "pages", None)
    return pages if isinstance(pages, Pages) else Pages()
