"""Uploads turned into tilesets by worker threads: read, tiled, published, or failed with Mapbox's message."""

from __future__ import annotations

import logging
import queue
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.faults import Fault, Faults, ProcessingFault
from airflow_mapbox.emulator.mbtilescheck import check_made
from airflow_mapbox.emulator.readers import Prepared, prepare
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tiler import TilerError, tile
from airflow_mapbox.emulator.urls import DATASET
from airflow_mapbox.emulator.zooms import pick_maxzoom, pick_minzoom

log = logging.getLogger(__name__)

# Progress stays below 1 until the tileset is published.
ALMOST = 0.99
# Share of the work that reading is, before tiling starts.
READING = 0.1
PACE = 0.05


class _StoppedError(Exception):
    """The emulator stops; the upload is processed again at the next start."""


class _FaultError(Exception):
    """Processing was asked to fail here and now; its text is what the upload's ``error`` says."""


class Processing:
    """Worker threads over the uploads that are not finished.

    :param store: all state.
    :param faults: what is to go wrong.
    :param clock: Unix time in seconds.
    :param finished: called with every upload that is done, well or not.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: EmulatorSettings,
        faults: Faults,
        clock: Callable[[], float],
        finished: Callable[[Upload], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._faults = faults
        self._clock = clock
        self._finished = finished
        self._waiting: queue.SimpleQueue[Upload | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers, with what an earlier run left unfinished first in the queue."""
        for upload in self._store.unfinished_uploads():
            self.add(upload)
        for _ in range(self._settings.workers):
            self._start_worker()

    def _start_worker(self) -> None:
        with self._lock:
            # One that starts behind the stop would wait for work for ever.
            if not self._stop.is_set():
                worker = threading.Thread(target=self._run, name="mapbox-processing", daemon=True)
                self._threads.append(worker)
                worker.start()

    def add(self, upload: Upload) -> None:
        """Put an upload at the end of the queue."""
        self._waiting.put(upload)

    def stop(self) -> None:
        """Give up what is being processed and wait for the workers to end."""
        with self._lock:
            self._stop.set()
            threads = list(self._threads)
        for _ in threads:
            self._waiting.put(None)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        is_relieved = False
        while not is_relieved and not self._stop.is_set() and (upload := self._waiting.get()) is not None:
            try:
                with tempfile.TemporaryDirectory(dir=self._store.work, ignore_cleanup_errors=True) as work:
                    is_relieved = self._process(upload, Path(work))
            except _StoppedError:
                return
            except Exception:
                log.exception("upload %s failed for a reason of the emulator's own", upload.id)
                self._store.fail_upload(upload, Failed.INTERNAL)
            finally:
                self._faults.release(upload.id)
            self._finished(upload)

    def _process(self, upload: Upload, work: Path) -> bool:
        """Process an upload; say whether another worker was started in this one's place."""
        run = _Run(
            self._store, upload, self._settings, self._faults, self._clock, self._stop, stalled=self._start_worker
        )
        try:
            self._make(upload, work, run)
        except _FaultError as error:
            self._store.fail_upload(upload, str(error))
        return run.has_stalled

    def _make(self, upload: Upload, work: Path, run: _Run) -> None:
        try:
            prepared = prepare(
                self._data_of(upload),
                work,
                layer=self._layer_of(upload),
                tick=run.tick,
                staged=upload.staged is not None,
            )
            run.report(READING)
            mbtiles = self._tiles_of(upload, prepared, work, run)
            run.wait_out()
        except DataError as error:
            run.wait_out()
            self._store.fail_upload(upload, str(error))
        except TilerError as error:
            log.warning("upload %s: %s", upload.id, error)
            run.wait_out()
            self._store.fail_upload(upload, Failed.INTERNAL)
        else:
            name = upload.name or upload.tileset.partition(".")[2]
            self._store.publish(upload, mbtiles, name=name, layer=prepared.kept_layer)

    def _data_of(self, upload: Upload) -> Path:
        if upload.staged is not None:
            staged = self._store.take_staged(upload)
            if staged is None:
                raise DataError(Failed.INTERNAL)
            return staged
        matched = DATASET.match(upload.url)
        if matched is not None and matched[1] == upload.owner:
            file = self._store.folder / "datasets" / matched[1] / f"{matched[2]}.geojson"
            if file.is_file():
                return file
        raise DataError(Failed.DATASET_MISSING)

    def _layer_of(self, upload: Upload) -> str:
        """Return the source layer for data that names none; a replaced tileset keeps the one it has."""
        present = self._store.find_tileset(upload.tileset)
        if present is not None and present.layer is not None:
            return present.layer
        return layer_name(upload.name or upload.tileset.partition(".")[2])

    def _tiles_of(self, upload: Upload, prepared: Prepared, work: Path, run: _Run) -> Path:
        if prepared.mbtiles is not None:
            return prepared.mbtiles
        output = work / "tiles.mbtiles"
        name = upload.name or upload.tileset.partition(".")[2]

        def progress(share: float) -> None:
            run.report(READING + share * (1 - READING))

        if prepared.image is not None:
            # GDAL is imported with the first file that needs it.
            from airflow_mapbox.emulator.raster import tile_raster

            tile_raster(prepared.image, output, name=name, progress=progress, tick=run.tick)
            return output
        size, bounds = prepared.size, prepared.measured.bounds
        zooms = pick_minzoom(size, bounds), pick_maxzoom(size, bounds)
        tile(prepared.layers, output, zooms=zooms, name=name, progress=progress, tick=run.tick)
        check_made(output)
        return output


class _Run:
    """One upload's time: how far it is, whether to go on, and no end before its least time."""

    def __init__(
        self,
        store: Store,
        upload: Upload,
        settings: EmulatorSettings,
        faults: Faults,
        clock: Callable[[], float],
        stop: threading.Event,
        *,
        stalled: Callable[[], None],
    ) -> None:
        self._store = store
        self._upload = upload
        self._settings = settings
        self._faults = faults
        self._clock = clock
        self._stop = stop
        self._stalled = stalled
        self._started = clock()
        self._done = 0.0
        self._reported = 0.0
        self._fell_back_at: float | None = None
        self.has_stalled = False

    def tick(self) -> None:
        """Raise where the work is to be given up."""
        if self._stop.is_set():
            raise _StoppedError
        if self._clock() - self._started > self._settings.processing_limit:
            raise DataError(Failed.TIMED_OUT)
        self._show()

    def report(self, done: float) -> None:
        """Note the share of the work that is done; it is called from the thread that listens to the tiler, too."""
        self._done = max(self._done, done)

    def wait_out(self) -> None:
        """Return once the least time has passed."""
        self._done = 1.0
        while True:
            if self._stop.is_set():
                raise _StoppedError
            self._show()
            left = self._started + self._settings.processing_seconds - self._clock()
            is_stalled = self._is_stalled()
            if left <= 0 and not is_stalled:
                return
            if is_stalled and not self.has_stalled:
                # Who is held up for ever must not hold up the others.
                self.has_stalled = True
                self._stalled()
            self._stop.wait(min(left, PACE) if left > 0 else PACE)

    def _is_stalled(self) -> bool:
        fault = self._faults.claim(self._upload.tileset, self._upload.id)
        return fault is not None and fault.kind == ProcessingFault.STALL

    def _show(self) -> None:
        least = self._settings.processing_seconds
        passed = (self._clock() - self._started) / least if least else 1.0
        progress = round(ALMOST * max(0.0, min(self._done, passed, 1.0)), 2)
        fault = self._faults.claim(self._upload.tileset, self._upload.id)
        if fault is not None and progress >= min(fault.progress, ALMOST):
            self._spoil(fault, progress)
            if fault.kind == ProcessingFault.STALL:
                progress = fault.progress
        progress = self._shown(progress)
        if progress != self._reported:
            self._reported = progress
            self._store.set_progress(self._upload.id, progress, may_fall=self._fell_back_at is not None)

    def _spoil(self, fault: Fault, progress: float) -> None:
        if fault.kind == ProcessingFault.FAIL:
            self._store.set_progress(self._upload.id, fault.progress)
            raise _FaultError(fault.message)
        if fault.kind == ProcessingFault.BACKWARDS and self._fell_back_at is None:
            # What it falls from is seen first, however large the step that led there was.
            self._store.set_progress(self._upload.id, progress)
            self._fell_back_at = progress

    def _shown(self, progress: float) -> float:
        """Give the progress that is told: from half of where it fell back, up to the end."""
        at = self._fell_back_at
        return progress if at is None else round(at / 2 + (progress - at) * (1 - at / 2) / (1 - at), 2)


def layer_name(name: str) -> str:
    """Return a source layer's name made of a tileset's: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^\w-]+", "_", name.strip()).strip("_") or "layer"
