"""Process uploads in worker threads: read the data, make tiles, publish, or fail with Mapbox's message."""

from __future__ import annotations

import logging
import queue
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.faults import Fault, Faults, ProcessingFault
from airflow_mapbox.emulator.mbtilescheck import check_made_tiles
from airflow_mapbox.emulator.readers import PreparedData, prepare
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tiler import TilerError, tile
from airflow_mapbox.emulator.urls import DATASET
from airflow_mapbox.emulator.zooms import pick_maxzoom, pick_minzoom

log = logging.getLogger(__name__)

# Progress stays below 1 until the tileset is published.
MAX_UNPUBLISHED_PROGRESS = 0.99
# Share of the progress that reading takes; tiling takes the rest.
READING_SHARE = 0.1
POLL_SECONDS = 0.05


class _StoppedError(Exception):
    """The emulator is stopping. The upload is processed again at the next start."""


class _FaultError(Exception):
    """A fault fails the processing. The exception's message becomes the upload's ``error``."""


class Processing:
    """Worker threads that process unfinished uploads.

    :param store: all state.
    :param faults: the pending faults.
    :param clock: Unix time in seconds.
    :param on_finished: called with every upload after it completed or failed.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: EmulatorSettings,
        faults: Faults,
        clock: Callable[[], float],
        on_finished: Callable[[Upload], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._faults = faults
        self._clock = clock
        self._on_finished = on_finished
        self._queue: queue.SimpleQueue[Upload | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers. The unfinished uploads of an earlier run are first in the queue."""
        for upload in self._store.unfinished_uploads():
            self.add(upload)
        for _ in range(self._settings.workers):
            self._start_worker()

    def _start_worker(self) -> None:
        with self._lock:
            # A worker that started after `stop` would never end.
            if not self._stop.is_set():
                worker = threading.Thread(target=self._run, name="mapbox-processing", daemon=True)
                self._threads.append(worker)
                worker.start()

    def add(self, upload: Upload) -> None:
        """Put an upload at the end of the queue."""
        self._queue.put(upload)

    def stop(self) -> None:
        """Abort the current jobs and wait until the workers end."""
        with self._lock:
            self._stop.set()
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        is_replaced = False
        while not is_replaced and not self._stop.is_set() and (upload := self._queue.get()) is not None:
            try:
                with tempfile.TemporaryDirectory(dir=self._store.work, ignore_cleanup_errors=True) as work:
                    is_replaced = self._process(upload, Path(work))
            except _StoppedError:
                return
            except Exception:
                log.exception("upload %s failed because of an error in the emulator", upload.id)
                self._store.fail_upload(upload, FailureMessage.INTERNAL)
            finally:
                self._faults.release(upload.id)
            self._on_finished(upload)

    def _process(self, upload: Upload, work: Path) -> bool:
        """Process an upload; return whether another worker was started to replace this one."""
        job = _Job(
            self._store, upload, self._settings, self._faults, self._clock, self._stop, on_stalled=self._start_worker
        )
        try:
            self._make_tileset(upload, work, job)
        except _FaultError as error:
            self._store.fail_upload(upload, str(error))
        return job.has_stalled

    def _make_tileset(self, upload: Upload, work: Path, job: _Job) -> None:
        try:
            prepared = prepare(
                self._find_data(upload),
                work,
                layer=self._source_layer(upload),
                tick=job.tick,
                staged=upload.staged is not None,
            )
            job.report(READING_SHARE)
            mbtiles = self._make_tiles(upload, prepared, work, job)
            job.wait_out()
        except DataError as error:
            job.wait_out()
            self._store.fail_upload(upload, str(error))
        except TilerError as error:
            log.warning("upload %s: %s", upload.id, error)
            job.wait_out()
            self._store.fail_upload(upload, FailureMessage.INTERNAL)
        else:
            name = upload.name or upload.tileset.partition(".")[2]
            self._store.publish(upload, mbtiles, name=name, layer=prepared.kept_layer)

    def _find_data(self, upload: Upload) -> Path:
        if upload.staged is not None:
            staged = self._store.take_staged(upload)
            if staged is None:
                raise DataError(FailureMessage.INTERNAL)
            return staged
        match = DATASET.match(upload.url)
        if match is not None and match[1] == upload.owner:
            file = self._store.folder / "datasets" / match[1] / f"{match[2]}.geojson"
            if file.is_file():
                return file
        raise DataError(FailureMessage.DATASET_MISSING)

    def _source_layer(self, upload: Upload) -> str:
        """Return the source layer's name for data without layer names. A replaced tileset keeps its layer's name."""
        tileset = self._store.tilesets.find(upload.tileset)
        if tileset is not None and tileset.layer is not None:
            return tileset.layer
        return layer_name(upload.name or upload.tileset.partition(".")[2])

    def _make_tiles(self, upload: Upload, prepared: PreparedData, work: Path, job: _Job) -> Path:
        name = upload.name or upload.tileset.partition(".")[2]

        def progress(share: float) -> None:
            job.report(READING_SHARE + share * (1 - READING_SHARE))

        return make_tiles(prepared, work, name=name, progress=progress, tick=job.tick)


def make_tiles(
    prepared: PreparedData, work: Path, *, name: str, progress: Callable[[float], None], tick: Callable[[], None]
) -> Path:
    """Return the MBTiles file of prepared data.

    :param prepared: the data.
    :param work: a folder for the file and intermediate files.
    :param name: the tileset's display name.
    :param progress: called with the share of finished work, 0 to 1.
    :param tick: called regularly; raises to abort the work.
    :raises DataError: with Mapbox's message.
    :raises TilerError: if tippecanoe failed, or a package is missing.
    """
    if prepared.mbtiles is not None:
        return prepared.mbtiles
    output = work / "tiles.mbtiles"
    if prepared.image is not None:
        # Imported here, because loading GDAL would slow every start of the emulator.
        try:
            from airflow_mapbox.emulator.raster import tile_raster
        except ImportError as error:
            raise TilerError(
                f"rasters need more packages ({error}): pip install 'airflow-provider-mapbox[emulator]'"
            ) from error
        tile_raster(prepared.image, output, name=name, progress=progress, tick=tick)
        return output
    size, bounds = prepared.size, prepared.stats.bounds
    zooms = pick_minzoom(size, bounds), pick_maxzoom(size, bounds)
    tile(prepared.layers, output, zooms=zooms, name=name, progress=progress, tick=tick)
    check_made_tiles(output)
    return output


class _Job:
    """The processing of an upload over time: its progress, its faults, its timeout and its minimum duration."""

    def __init__(
        self,
        store: Store,
        upload: Upload,
        settings: EmulatorSettings,
        faults: Faults,
        clock: Callable[[], float],
        stop: threading.Event,
        *,
        on_stalled: Callable[[], None],
    ) -> None:
        self._store = store
        self._upload = upload
        self._settings = settings
        self._faults = faults
        self._clock = clock
        self._stop = stop
        self._on_stalled = on_stalled
        self._started = clock()
        self._work_share = 0.0
        self._reported = 0.0
        self._fall: float | None = None
        self.has_stalled = False

    def tick(self) -> None:
        """Record the progress. Raise if the emulator is stopping, the time limit is over, or a fault applies."""
        if self._stop.is_set():
            raise _StoppedError
        if self._clock() - self._started > self._settings.processing_limit:
            raise DataError(FailureMessage.TIMED_OUT)
        self._update_progress()

    def report(self, share: float) -> None:
        """Set the share of finished work. The thread that reads tippecanoe's output calls it, too."""
        self._work_share = max(self._work_share, share)

    def wait_out(self) -> None:
        """Return once the minimum duration is over and no fault stalls the upload."""
        self._work_share = 1.0
        while True:
            if self._stop.is_set():
                raise _StoppedError
            self._update_progress()
            remaining = self._started + self._settings.processing_seconds - self._clock()
            is_stalled = self._is_stalled()
            if remaining <= 0 and not is_stalled:
                return
            if is_stalled and not self.has_stalled:
                # Another worker takes over, so that a stalled upload does not delay the others.
                self.has_stalled = True
                self._on_stalled()
            self._stop.wait(min(remaining, POLL_SECONDS) if remaining > 0 else POLL_SECONDS)

    def _is_stalled(self) -> bool:
        fault = self._faults.claim(self._upload.tileset, self._upload.id)
        return fault is not None and fault.kind == ProcessingFault.STALL

    def _update_progress(self) -> None:
        min_seconds = self._settings.processing_seconds
        time_share = (self._clock() - self._started) / min_seconds if min_seconds else 1.0
        # The smaller share counts: progress must not end before the work, nor before the minimum duration.
        progress = round(MAX_UNPUBLISHED_PROGRESS * max(0.0, min(self._work_share, time_share, 1.0)), 2)
        fault = self._faults.claim(self._upload.tileset, self._upload.id)
        if fault is not None and progress >= min(fault.progress, MAX_UNPUBLISHED_PROGRESS):
            self._apply_fault(fault, progress)
            if fault.kind == ProcessingFault.STALL:
                progress = fault.progress
        progress = self._apply_fall(progress)
        if progress != self._reported:
            self._reported = progress
            self._store.set_progress(self._upload.id, progress, may_fall=self._fall is not None)

    def _apply_fault(self, fault: Fault, progress: float) -> None:
        if fault.kind == ProcessingFault.FAIL:
            self._store.set_progress(self._upload.id, fault.progress)
            raise _FaultError(fault.message)
        if fault.kind == ProcessingFault.BACKWARDS and self._fall is None:
            # Recorded first, so that a client can see the progress before it falls.
            self._store.set_progress(self._upload.id, progress)
            self._fall = progress

    def _apply_fall(self, progress: float) -> float:
        """Return the progress after a fall to half: scaled so that it still reaches the end."""
        fall = self._fall
        return progress if fall is None else round(fall / 2 + (progress - fall) * (1 - fall / 2) / (1 - fall), 2)


def layer_name(name: str) -> str:
    """Return a source layer's name for a tileset's name: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^\w-]+", "_", name.strip()).strip("_") or "layer"
