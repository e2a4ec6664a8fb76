"""``@task.mapbox_upload``: export and stage the GeoDataFrames of a function while it yields them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_mapbox.compat import set_during_execution
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.export.options import ExportFormat


class _MapboxUploadOperator(DecoratedOperator, StageAndCreateUploadOperator):
    """Upload the GeoDataFrames that a function returns or yields."""

    # The fields of both base classes. The function replaces `source`.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(field for field in StageAndCreateUploadOperator.template_fields if field != "source"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **StageAndCreateUploadOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.mapbox_upload"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        format: ExportFormat = "geojson",
        **kwargs: Any,
    ) -> None:
        # The result is an upload object, not what the function's annotation says.
        kwargs["multiple_outputs"] = True
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            source=set_during_execution(),
            format=format,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Call the function and upload its GeoDataFrames, unless an earlier attempt has staged them.

        :param context: the task's context.
        :return: the upload object.
        """
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)

        @wraps(self.python_callable)
        def frames() -> Any:
            return self.python_callable(*self.op_args, **arguments)

        return self.upload(frames, context)


def mapbox_upload_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a task from a function that returns a GeoDataFrame or yields several: ``@task.mapbox_upload(tileset=…)``.

    The frames are exported to GeoJSON in CRS84 and staged while the function yields them, without a file on disk. A
    ``format`` for vector tiles uses temporary disk space. The task takes the parameters of
    :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator` and gives the same guarantees. A retry
    calls the function again only if nothing is staged yet.

    :param python_callable: the function.
    :param kwargs: parameters of the operator except ``source``. The default of ``format`` is ``"geojson"``.

    Example::

        @task.mapbox_upload(tileset="quakes-{{ ds_nodash }}")
        def quakes(data_interval_start=None):
            return geopandas.read_parquet(f"/data/{data_interval_start:%Y%m%d}.parquet")
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_MapboxUploadOperator, **kwargs
    )
