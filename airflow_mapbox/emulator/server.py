"""One emulator, running: the API's server, the staging bucket's server, the workers, and their start and end."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any
from wsgiref.types import WSGIApplication

import uvicorn
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from airflow_mapbox.emulator.api import UploadsApi
from airflow_mapbox.emulator.app import build_app
from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.faulty_api import Connections
from airflow_mapbox.emulator.faulty_s3 import with_s3_faults
from airflow_mapbox.emulator.processing import Processing
from airflow_mapbox.emulator.requests_seen import RequestLog, SeenRequest
from airflow_mapbox.emulator.s3 import StagingGate
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tiles import TilesetPages
from airflow_mapbox.emulator.tokens import SCOPES, TokenState, make_token

log = logging.getLogger(__name__)

START_SECONDS = 30.0


class Emulator:
    """Mapbox's Uploads API on this machine, for one account.

    .. code-block:: python

        with Emulator(tmp_path, settings=EmulatorSettings(processing_seconds=0)) as emulator:
            requests.post(f"{emulator.url}/uploads/v1/{emulator.account}/credentials",
                          params={"access_token": emulator.token})

    :param folder: where all state is kept; starting on the same folder again goes on where it was.
    :param settings: how it behaves.
    :param host: address to listen on.
    :param port: port of the API; 0 takes a free one.
    :param s3_port: port of the staging bucket; 0 takes a free one.
    :param clock: Unix time in seconds; by default the machine's, which :attr:`clock` can move on and speed up.
    :param allow_public: listen on an address that others can reach, too.
    :raises ValueError: for a host that others can reach.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        settings: EmulatorSettings | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        s3_port: int = 0,
        clock: Callable[[], float] | None = None,
        allow_public: bool = False,
    ) -> None:
        if not allow_public and not _is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines; allow that with allow_public or --public")
        self.folder = Path(folder).resolve()
        self.settings = settings or EmulatorSettings()
        self.host = host
        self.port = port
        self.s3_port = s3_port
        self.faults = Faults()
        self._clock: Callable[[], float] = clock or AdjustableClock()
        self._seen = RequestLog()
        self._running: _Running | None = None

    def start(self) -> Emulator:
        """Start serving, and processing what an earlier run left unfinished.

        :raises RuntimeError: where the folder is in use by another emulator.
        """
        if self._running is not None:
            raise RuntimeError("the emulator is started already")
        self._running = _Running(self)
        return self

    def stop(self) -> None:
        """Stop promptly; an upload in processing is processed again at the next start."""
        if self._running is not None:
            running, self._running = self._running, None
            running.stop()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL of the API, without a slash at the end."""
        return _url(self.host, self._started.api_port)

    @property
    def s3_url(self) -> str:
        """Endpoint of the staging bucket."""
        return _url(self.host, self._started.s3_port)

    @property
    def account(self) -> str:
        """The account that is served."""
        return self.settings.account

    @property
    def token(self) -> str:
        """A secret token of the account with all scopes."""
        return self._started.token

    @property
    def clock(self) -> AdjustableClock:
        """
        The emulator's own clock.

        :raises RuntimeError: where the emulator was given another.
        """
        if not isinstance(self._clock, AdjustableClock):
            raise RuntimeError("the emulator was given a clock: move that one")  # noqa: TRY004 - the call came too late
        return self._clock

    @property
    def token_file(self) -> Path | None:
        """The file the token is kept in; None where the token was given."""
        return self._started.token_file

    @property
    def requests(self) -> list[SeenRequest]:
        """Requests to the Uploads API and the tokens endpoint so far, oldest first."""
        return self._seen.all()

    def create_token(
        self,
        *,
        scopes: Iterable[str] = SCOPES,
        state: TokenState | str = TokenState.VALID,
        account: str | None = None,
        usage: str = "sk",
    ) -> str:
        """Return a new token.

        :param scopes: what it allows.
        :param state: what ``GET /tokens/v2`` says of it; anything but ``TokenValid`` is refused elsewhere.
        :param account: another account's, which can do nothing here.
        :param usage: ``sk``, ``pk`` or ``tk``.
        """
        token = make_token(account or self.account, usage=usage)
        self._started.store.add_token(token, scopes=frozenset(scopes), state=TokenState(state))
        return token

    @property
    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the emulator is not started")
        return self._running


class _Running:
    """What exists between start and stop."""

    def __init__(self, emulator: Emulator) -> None:
        settings, clock, faults = emulator.settings, emulator._clock, emulator.faults
        # What was begun is ended in the other order, be it by a start that fails half-way.
        with contextlib.ExitStack() as stack:
            emulator.folder.mkdir(parents=True, exist_ok=True)
            stack.callback(_lock(emulator.folder).close)
            api_socket = stack.enter_context(_listen(emulator.host, emulator.port))
            s3_socket = stack.enter_context(_listen(emulator.host, emulator.s3_port))
            self.api_port = int(api_socket.getsockname()[1])
            self.s3_port = int(s3_socket.getsockname()[1])
            self.store = Store(emulator.folder, clock=clock)
            stack.callback(self.store.close)
            self.token, self.token_file = self.store.own_token(settings.account, settings.token)
            self._gate = StagingGate(self.store, bucket=settings.bucket, clock=clock)
            stack.callback(self._gate.close)
            processing = Processing(self.store, settings=settings, faults=faults, clock=clock, finished=self._forget)
            stack.callback(processing.stop)
            processing.start()
            s3 = _S3Server(with_s3_faults(self._gate, faults), s3_socket, emulator.host)
            s3.start()
            stack.callback(s3.stop)
            api = UploadsApi(self.store, settings=settings, seen=emulator._seen, clock=clock, created=processing.add)
            own_clock = clock if isinstance(clock, AdjustableClock) else None
            control = Control(faults=faults, clock=own_clock, seen=emulator._seen)
            pages = TilesetPages(self.store, settings=settings)
            connections = Connections()
            app = build_app(api, pages, control, faults=faults, connections=connections, clock=clock)
            server = _ApiServer(app, api_socket, connections)
            stack.callback(server.stop)
            server.start()
            self._ends = stack.pop_all()

    def stop(self) -> None:
        self._ends.close()

    def _forget(self, upload: Upload) -> None:
        if upload.staged is not None:
            self._gate.backend.forget(upload.staged)


class _ApiServer:
    """uvicorn in a thread."""

    def __init__(self, app: Any, listening: socket.socket, connections: Connections) -> None:
        # No access log: its lines have the token in them.
        config = uvicorn.Config(
            app,
            http=connections.protocol(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="mapbox-api", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        until = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise RuntimeError("the API's server did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()


class _QuietHandler(MotoRequestHandler):
    """moto's request handling without a line for every part of every file."""

    def log(self, type: str, message: str, *args: Any) -> None:
        log.debug(message, *args)


class _S3Server:
    """werkzeug's threaded server in a thread."""

    def __init__(self, gate: WSGIApplication, listening: socket.socket, host: str) -> None:
        self._server: BaseWSGIServer = make_server(
            host,
            listening.getsockname()[1],
            gate,
            threaded=True,
            request_handler=_QuietHandler,
            fd=listening.fileno(),
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="mapbox-s3", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def _lock(folder: Path) -> IO[str]:
    """Take the folder; two emulators on one would publish over each other."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RuntimeError(f"{folder} is in use by another emulator") from None
    return file


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
