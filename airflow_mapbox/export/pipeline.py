"""Read a source in one thread, encode its features in others, and yield them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from os import PathLike
from typing import TypeAlias, TypeVar

import geopandas
import pyarrow as pa
from pyproj import CRS

from airflow_mapbox.export.area_zooms import NO_AREA, AreaZooms
from airflow_mapbox.export.cores import usable_cores
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.encode import encode
from airflow_mapbox.export.errors import AttributeNameError
from airflow_mapbox.export.options import Options, Selection
from airflow_mapbox.export.readers import ExportSource, read_source
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.readers.postgis import PostGISQuery
from airflow_mapbox.export.text.memory import keep_freed_memory
from airflow_mapbox.sources.source import OpenablePath

# Threads, because most of the work releases the GIL. Processes would have to copy their results, and a task's process
# may not be allowed to have children.
# The thread that reads cannot keep more of them busy (docs/project/performance.md).
MAX_DEFAULT_THREADS = 16
_BATCHES_IN_QUEUE = 2  # so that no thread waits for the one that reads

# Sources whose batches all have the same columns. Frames that come one by one may differ.
_ONE_TABLE = (geopandas.GeoDataFrame, PostGISQuery, str, PathLike, OpenablePath)

Encoded: TypeAlias = tuple[pa.Array, Counts]
_Result = TypeVar("_Result")


def encoded_features(
    source: ExportSource,
    crs: CRS | None,
    options: Options,
    selection: Selection,
    batch_rows: int | None,
    threads: int | None,
    opening: str,
    *,
    area_zooms: AreaZooms = NO_AREA,
) -> Iterator[Encoded]:
    """
    Encode the features of a source.

    :param source: the source. It is read in the caller's thread, when the next result is requested.
    :param crs: the reference system of data that declares none.
    :param options: how to write features.
    :param selection: the part of the source to read.
    :param batch_rows: maximum features in a batch; None for batches of two megabytes.
    :param threads: number of threads that encode; None for one for each usable core, at most 16.
    :param opening: the string at the start of each feature.
    :param area_zooms: the zooms whose tiles are collected for the bill.
    :return: the features of one batch after the other, as :func:`encode` returns them, in the source's order.
    :raises AttributeNameError: if ``as_text`` names a column that does not exist.
    :raises ExportError: if the source or a feature cannot be exported.
    """
    keep_freed_memory()
    columns = _ColumnCheck(options.as_text, one_table=isinstance(source, _ONE_TABLE))
    thread_count = threads or min(usable_cores(), MAX_DEFAULT_THREADS)
    pool = ThreadPoolExecutor(thread_count, thread_name_prefix="export")
    encode_batch = partial(encode, crs=crs, options=options, opening=opening, area_zooms=area_zooms)
    try:
        for batches in read_source(source, selection):
            parts = small_batches(columns.watched(batches), batch_rows)
            yield from in_order(pool, thread_count + _BATCHES_IN_QUEUE, encode_batch, parts)
            del batches, parts
        columns.check()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _ColumnCheck:
    """
    Checks that the columns of ``as_text`` exist, as the columns of the source become known.

    :param as_text: their names.
    :param one_table: whether every batch has the same columns, so that the first one is enough.
    """

    def __init__(self, as_text: Collection[str], *, one_table: bool) -> None:
        self._as_text = as_text
        self._one_table = one_table
        self._columns: dict[str, None] | None = None

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._columns = self._columns or {}
            self._columns.update(dict.fromkeys(batch.columns))
            if self._one_table:
                self.check()
            yield batch
            del batch

    def check(self) -> None:
        if self._columns is None:
            return
        missing = sorted(set(self._as_text) - self._columns.keys())
        if missing:
            raise AttributeNameError(
                f"as_text= names {', '.join(missing)}, but there is no such column. The columns to write are "
                f"{', '.join(self._columns) or 'none'}."
            )


def small_batches(batches: Iterator[Batch], rows: int | None) -> Iterator[Batch]:
    """
    Split batches.

    :param batches: batches of any size.
    :param rows: maximum features in a batch; None for batches of two megabytes.
    """
    for batch in batches:
        yield from batch.split(rows)
        del batch


def in_order(
    pool: ThreadPoolExecutor, max_pending: int, work: Callable[[Batch], _Result], batches: Iterator[Batch]
) -> Iterator[_Result]:
    """
    Work on batches in threads and yield the results in order.

    :param pool: the threads.
    :param max_pending: maximum batches that wait or are worked on.
    :param work: what a thread does with a batch.
    :param batches: the batches, which are read in the caller's thread.
    """
    pending: deque[Future[_Result]] = deque()
    try:
        for batch in batches:
            pending.append(pool.submit(work, batch))
            del batch  # memory must not hold it longer than its thread does
            if len(pending) >= max_pending:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
