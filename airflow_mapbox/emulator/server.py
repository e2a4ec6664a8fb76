"""One emulator, running: the API's server, the staging bucket's server, the workers, and their start and end."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any
from wsgiref.types import WSGIApplication

import uvicorn
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

from airflow_mapbox.emulator.api import TILESET, UploadsApi
from airflow_mapbox.emulator.app import build_app
from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.connection import airflow_connection
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.faulty_api import Connections
from airflow_mapbox.emulator.faulty_s3 import with_s3_faults
from airflow_mapbox.emulator.guard import Guard, guarded_s3
from airflow_mapbox.emulator.processing import Processing
from airflow_mapbox.emulator.requests_seen import RequestLog, SeenRequest
from airflow_mapbox.emulator.s3 import StagingGate
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tiles import TilesetPages
from airflow_mapbox.emulator.tls import Tls, prepare_tls
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
    :param tls: speak https on both ports, with a certificate made here that :attr:`ca_file` vouches for.
    :param allowed_hosts: names by which it may be asked besides ``localhost`` and addresses in numbers.
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
        tls: bool = False,
        allowed_hosts: Iterable[str] = (),
    ) -> None:
        if not allow_public and not _is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines; allow that with allow_public or --public")
        self.folder = Path(folder).resolve()
        self.settings = settings or EmulatorSettings()
        self.host = host
        self.port = port
        self.s3_port = s3_port
        self.tls = tls
        self.allowed_hosts = tuple(allowed_hosts)
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
        return _url(self.host, self._started.api_port, tls=self.tls)

    @property
    def s3_url(self) -> str:
        """Endpoint of the staging bucket."""
        return _url(self.host, self._started.s3_port, tls=self.tls)

    @property
    def ca_file(self) -> Path | None:
        """The certificate of the authority that a client is to trust; None without TLS."""
        return self._started.tls.ca if self._started.tls else None

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

    def airflow_connection(self) -> str:
        """Return an Airflow connection to it as JSON, for ``AIRFLOW_CONN_…``; the token is in it."""
        return json.dumps(airflow_connection(url=self.url, s3_url=self.s3_url, account=self.account, token=self.token))

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

    def mark_tiling_service(self, tileset: str) -> None:
        """
        Have a tileset be one of the Mapbox Tiling Service, which no upload can replace.

        :param tileset: its id, ``account.name``; it need not exist.
        :raises ValueError: for what is no tileset's id.
        """
        if not TILESET.match(tileset):
            raise ValueError(f"{tileset!r} is no tileset's id")
        self._started.store.mark_tiling_service(tileset)

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
            self.tls = _prepare_tls(emulator) if emulator.tls else None
            self._gate = StagingGate(self.store, bucket=settings.bucket, clock=clock, faults=faults)
            stack.callback(self._gate.close)
            processing = Processing(self.store, settings=settings, faults=faults, clock=clock, finished=self._forget)
            stack.callback(processing.stop)
            processing.start()
            stopping = threading.Event()
            guard = Guard((emulator.host, *emulator.allowed_hosts))
            faulty = with_s3_faults(self._gate, faults, sleep=stopping.wait)
            s3 = _S3Server(guarded_s3(faulty, guard, bucket=settings.bucket), s3_socket, emulator.host, self.tls)
            s3.start()
            stack.callback(s3.stop)
            stack.callback(stopping.set)
            api = UploadsApi(self.store, settings=settings, seen=emulator._seen, clock=clock, created=processing.add)
            own_clock = clock if isinstance(clock, AdjustableClock) else None
            control = Control(faults=faults, clock=own_clock, seen=emulator._seen, store=self.store)
            pages = TilesetPages(self.store, settings=settings)
            connections = Connections()
            app = build_app(
                api,
                pages,
                control,
                faults=faults,
                connections=connections,
                guard=guard,
                clock=clock,
                seen=emulator._seen,
            )
            server = _ApiServer(app, api_socket, connections, self.tls)
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

    def __init__(self, app: Any, listening: socket.socket, connections: Connections, tls: Tls | None) -> None:
        self._connections = connections
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
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
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
        self._connections.stop()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()


class _QuietHandler(MotoRequestHandler):
    """moto's request handling without a line for every part of every file."""

    def log(self, type: str, message: str, *args: Any) -> None:
        log.debug(message, *args)


class _S3Server:
    """werkzeug's threaded server in a thread."""

    def __init__(self, gate: WSGIApplication, listening: socket.socket, host: str, tls: Tls | None) -> None:
        self._server: BaseWSGIServer = make_server(
            host,
            listening.getsockname()[1],
            gate,
            threaded=True,
            request_handler=_QuietHandler,
            fd=listening.fileno(),
            ssl_context=(str(tls.certificate), str(tls.key)) if tls else None,
        )
        if isinstance(self._server.socket, ssl.SSLSocket):
            # By default the accepting thread shakes hands, and a client that is silent would stop all others.
            self._server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
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
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno, f"{host}:{port} cannot be listened at ({error.strerror}): take another port"
        ) from None
    return listening


def _lock(folder: Path) -> IO[str]:
    """Take the folder; two emulators on one would publish over each other."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RuntimeError(f"{folder} is in use by another emulator: end that one, or take another folder") from None
    return file


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _prepare_tls(emulator: Emulator) -> Tls:
    # boto3 addresses a bucket by name before a host that is no number.
    names: tuple[str, ...] = (f"{emulator.settings.bucket}.localhost", *emulator.allowed_hosts)
    if emulator.host not in ("", "0.0.0.0", "::"):  # noqa: S104 - not listened on here
        names = (*names, emulator.host)
    return prepare_tls(emulator.folder / "tls", names=names)


def _url(host: str, port: int, *, tls: bool) -> str:
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
