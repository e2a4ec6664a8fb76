"""``@task.mapbox_upload``: a function's frames, exported and staged while it yields them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.uploads.sources import ByteStream, Source


class _MapboxUploadOperator(DecoratedOperator, StageAndCreateUploadOperator):
    """
    Upload the GeoDataFrames that a function gives.

    :param export: keywords of :func:`airflow_mapbox.export.stream_geojson`, such as ``crs`` or ``decimals``.
    """

    # Neither of the two knows the other's, and `source` is not the user's to give.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(field for field in StageAndCreateUploadOperator.template_fields if field != "source"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict(DecoratedOperator.template_fields_renderers)
    custom_operator_name = "@task.mapbox_upload"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        export: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # The result is an upload, whatever the function's own annotation says.
        kwargs["multiple_outputs"] = True
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            source=SET_DURING_EXECUTION,
            **kwargs,
        )
        self.export = dict(export or {})

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Call the function, unless an earlier try has staged what it gave, and upload its frames.

        :return: the upload object.
        """
        from airflow_mapbox.uploads.sources import Source

        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)

        def geojson() -> ByteStream:
            from airflow_mapbox.uploads.sources import IteratorStream

            return IteratorStream(self._exported(self.python_callable(*self.op_args, **arguments), source))

        source = Source(f"{self.python_callable.__name__}()", None, geojson)
        return self.upload(source, context)

    def _exported(self, frames: Any, source: Source) -> Iterator[bytes]:
        from airflow_mapbox.export import stream_geojson

        with stream_geojson(frames, **self.export) as stream:
            yield from stream
            report = stream.report
        self.log.info("Exported %s", report)
        source.facts.update(features=report.features, bounds=list(report.bounds))


def mapbox_upload_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task of a function that returns a GeoDataFrame, or yields several: ``@task.mapbox_upload(tileset=…)``.

    The frames are exported to GeoJSON in CRS84 and staged while the function yields, with no file in between, and the
    task keeps the promises of :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, whose
    parameters it takes. On a retry the function is called again only where nothing is staged yet.

    :param python_callable: the function.
    :param kwargs: parameters of the operator but for ``source``, and ``export``: keywords of
        :func:`airflow_mapbox.export.stream_geojson`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_MapboxUploadOperator, **kwargs
    )
