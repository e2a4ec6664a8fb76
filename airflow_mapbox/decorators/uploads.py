"""``@task.mapbox_upload``: a function's frames, exported and staged while it yields them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
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

    from airflow_mapbox.export.formats import ExportFormat


class _MapboxUploadOperator(DecoratedOperator, StageAndCreateUploadOperator):
    """Upload the GeoDataFrames that a function gives."""

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
        format: ExportFormat = "geojson",
        **kwargs: Any,
    ) -> None:
        # The result is an upload, whatever the function's own annotation says.
        kwargs["multiple_outputs"] = True
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            source=SET_DURING_EXECUTION,
            format=format,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Call the function, unless an earlier try has staged what it gave, and upload its frames.

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
    Make a task of a function that returns a GeoDataFrame, or yields several: ``@task.mapbox_upload(tileset=…)``.

    The frames are exported to GeoJSON in CRS84 and staged while the function yields, with no file in between, unless
    another ``format`` is chosen. The task keeps the promises of
    :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, whose parameters it takes. On a retry the
    function is called again only where nothing is staged yet.

    :param python_callable: the function.
    :param kwargs: parameters of the operator but for ``source``; ``format`` is ``"geojson"`` where it is not given.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_MapboxUploadOperator, **kwargs
    )
