"""The task that stages a file and creates its upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mapbox.exceptions import airflow_errors
from airflow_mapbox.uploads.address import refuse_secrets
from airflow_mapbox.uploads.models import check_display_name, check_tileset_part

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.uploads.sources import SourceLike


class StageAndCreateUploadOperator(BaseOperator):
    """
    Stage a file at Mapbox and create an upload of it, which makes or replaces a tileset.

    The result is the upload object, as multiple outputs: ``upload.output["id"]`` feeds
    :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor`. All parameters are templated.

    :param source: a local path, an object-storage or ``https://`` URL, an ``ObjectStoragePath``, or
        ``mapbox://datasets/{user}/{id}``, for which nothing is staged. One that carries a password or a signature is
        refused, because parameters are shown in the UI: name a connection in the URL instead.
    :param tileset: ``name`` or ``account.name``, 1 to 32 of A-Z, a-z, 0-9, - and _; take it from the data interval, so
        that each run has its own.
    :param name: the display name, at most 64 characters.
    :param mapbox_conn_id: the connection.
    :raises MapboxFailError: where a name, the source or the connection must be changed first; not retried.
    :raises MapboxTaskError: where S3, Mapbox or the network failed; retried as the task's ``retries`` say.
    """

    template_fields: Sequence[str] = ("source", "tileset", "name", "mapbox_conn_id")
    ui_color = "#dfe9ff"

    def __init__(
        self,
        *,
        source: SourceLike,
        tileset: str,
        name: str | None = None,
        mapbox_conn_id: str = "mapbox_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.source = source
        self.tileset = tileset
        self.name = name
        self.mapbox_conn_id = mapbox_conn_id
        self._check_literals()

    def _check_literals(self) -> None:
        """Refuse while the DAG is parsed what needs no run to be known as wrong."""
        _refuse_secrets(self.source)
        with airflow_errors():
            if _is_literal(self.tileset):
                account, dot, name = self.tileset.rpartition(".")
                check_tileset_part(name, "name")
                if dot:
                    check_tileset_part(account, "account")
            if _is_literal(self.name):
                check_display_name(self.name)

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse a source with a secret in it before Airflow stores the rendered fields."""
        rendered = super().render_template(content, *args, **kwargs)
        _refuse_secrets(rendered)
        return rendered

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Stage and create.

        :return: the upload object.
        """
        from airflow_mapbox.hooks.uploads import MapboxUploadsHook

        with airflow_errors():
            return MapboxUploadsHook(self.mapbox_conn_id).upload(self.source, self.tileset, self.name).to_json()


def _is_literal(value: object) -> bool:
    return isinstance(value, str) and not any(mark in value for mark in ("{{", "{%", "{#"))


def _refuse_secrets(value: object) -> None:
    with airflow_errors():
        refuse_secrets(value)
