"""The features of a source as text, written by threads and given in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike

import geopandas
import pyarrow as pa
from pyproj import CRS

from airflow_mapbox.export.cores import usable_cores
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.encode import encode
from airflow_mapbox.export.errors import AttributeNameError
from airflow_mapbox.export.options import Options
from airflow_mapbox.export.readers import ExportSource, read_source
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.readers.postgis import PostGISQuery
from airflow_mapbox.export.selection import Selection
from airflow_mapbox.export.text.memory import keep_freed_memory
from airflow_mapbox.sources.source import OpenablePath

# Most of the work is done outside of Python's lock; processes would have to send what they made to each other, and
# a task's process may be one that is not allowed to have any.
_MOST_THREADS = 16  # by themselves: the thread that reads keeps no more of them busy (docs/perform.md)
_WAITING = 2  # slices that wait for a thread, so that none waits for a slice
# What frames that come one by one are not: all of it has the same columns.
_ONE_TABLE = (geopandas.GeoDataFrame, PostGISQuery, str, PathLike, OpenablePath)

Encoded = tuple[pa.Array, Counts]


def encoded_features(
    source: ExportSource,
    *,
    crs: CRS | None,
    options: Options,
    selection: Selection,
    batch_rows: int | None,
    threads: int | None,
    opening: str,
) -> Iterator[Encoded]:
    """
    Write the features of a source.

    :param source: read in the caller's thread, as the result is asked for.
    :param crs: for data that does not name its own.
    :param options: what to do where there is a choice.
    :param selection: of what is in the source.
    :param batch_rows: features a slice, at most.
    :param threads: that write, or None for as many as there are cores.
    :param opening: how each feature begins.
    :return: slices of features, as :func:`encode` gives them, in the source's order.
    :raises AttributeNameError: where ``as_text`` names a column that there is not.
    :raises ExportError: for what cannot be exported.
    """
    keep_freed_memory()
    columns = _Columns(options.as_text, one_table=isinstance(source, _ONE_TABLE))
    count = threads or min(usable_cores(), _MOST_THREADS)
    pool = ThreadPoolExecutor(count, thread_name_prefix="export")
    ahead = count + _WAITING
    try:
        for batches in read_source(source, selection):
            yield from _in_order(pool, ahead, columns.noted(batches), crs, options, batch_rows, opening)
            del batches
        columns.check()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Columns:
    """
    The columns that a source turns out to have, among which those of ``as_text`` have to be.

    :param as_text: their names.
    :param one_table: whether every batch has the same columns, so that the first one tells.
    """

    def __init__(self, as_text: Collection[str], *, one_table: bool) -> None:
        self._as_text = as_text
        self._one_table = one_table
        self._known: dict[str, None] | None = None

    def noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._known = self._known or {}
            self._known.update(dict.fromkeys(batch.columns))
            if self._one_table:
                self.check()
            yield batch
            del batch

    def check(self) -> None:
        if self._known is None:
            return
        missing = sorted(set(self._as_text) - self._known.keys())
        if missing:
            raise AttributeNameError(
                f"as_text= names {', '.join(missing)}, which is no column: those to write are "
                f"{', '.join(self._known) or 'none'}."
            )


def _in_order(
    pool: ThreadPoolExecutor,
    ahead: int,
    batches: Iterator[Batch],
    crs: CRS | None,
    options: Options,
    rows: int | None,
    opening: str,
) -> Iterator[Encoded]:
    pending: deque[Future[Encoded]] = deque()
    try:
        for batch in batches:
            for part in batch.slices(rows):
                pending.append(pool.submit(encode, part, crs, options, opening))
                del part
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            del batch
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
