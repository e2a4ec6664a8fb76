"""Start and stop an emulator: the API's server, the staging bucket's server, and the workers."""

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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any
from wsgiref.types import WSGIApplication

import uvicorn
from moto.moto_server import werkzeug_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from airflow_mapbox.emulator.api import UploadsApi
from airflow_mapbox.emulator.app import build_app
from airflow_mapbox.emulator.calls import TILESET
from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.connection import airflow_connection
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.faulty_api import Connections
from airflow_mapbox.emulator.faulty_s3 import with_s3_faults
from airflow_mapbox.emulator.guard import Guard, guarded_s3
from airflow_mapbox.emulator.processing import Processing
from airflow_mapbox.emulator.request_log import RequestLog, RequestRecord
from airflow_mapbox.emulator.s3 import StagingGate
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tiles import TilesetPages
from airflow_mapbox.emulator.tilesets import describe_tileset
from airflow_mapbox.emulator.tilesets_api import TilesetsApi
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

    :param folder: folder for all state. An emulator that starts on the same folder continues with this state.
    :param settings: settings of the emulator's behaviour.
    :param host: address to listen on.
    :param port: port of the API; 0 takes a free port.
    :param s3_port: port of the staging bucket; 0 takes a free port.
    :param clock: returns the Unix time in seconds. By default it is this machine's clock, which :attr:`clock` can
        advance and speed up.
    :param allow_public: allow a ``host`` that other machines can reach.
    :param tls: use https on both ports. Clients must trust :attr:`ca_file`.
    :param allowed_hosts: host names of the emulator, besides ``localhost`` and numeric addresses.
    :raises ValueError: if other machines can reach the host and ``allow_public`` is False.
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
            raise ValueError(f"other machines can reach {host}; allow that with allow_public or --public")
        self.folder = Path(folder).resolve()
        self.settings = settings or EmulatorSettings()
        self.host = host
        self.port = port
        self.s3_port = s3_port
        self.tls = tls
        self.allowed_hosts = tuple(allowed_hosts)
        self.faults = Faults()
        self._clock: Callable[[], float] = clock or AdjustableClock()
        self._request_log = RequestLog()
        self._running: _Running | None = None

    def start(self) -> Emulator:
        """Start the servers and the workers. Unfinished uploads of an earlier run are processed again.

        :raises RuntimeError: if another emulator uses the folder.
        """
        if self._running is not None:
            raise RuntimeError("the emulator is already started")
        self._running = _Running(self)
        return self

    def stop(self) -> None:
        """Stop the servers and the workers. An upload in processing is processed again at the next start."""
        if self._running is not None:
            running, self._running = self._running, None
            running.stop()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The API's base URL, without a slash at the end."""
        return _url(self.host, self._started.api_port, tls=self.tls)

    @property
    def s3_url(self) -> str:
        """The staging bucket's endpoint."""
        return _url(self.host, self._started.s3_port, tls=self.tls)

    @property
    def ca_file(self) -> Path | None:
        """The CA certificate that clients must trust; None without TLS."""
        return self._started.tls.ca if self._started.tls else None

    @property
    def account(self) -> str:
        """The account's name."""
        return self.settings.account

    @property
    def token(self) -> str:
        """A secret token of the account with all scopes."""
        return self._started.token

    @property
    def clock(self) -> AdjustableClock:
        """
        The emulator's own clock.

        :raises RuntimeError: if the emulator was made with ``clock=``.
        """
        if not isinstance(self._clock, AdjustableClock):
            # Not a TypeError: this call has no wrong argument.
            raise RuntimeError("the emulator was made with clock=; change that clock instead")  # noqa: TRY004
        return self._clock

    @property
    def token_file(self) -> Path | None:
        """The file that contains the token; None if the settings contain the token."""
        return self._started.token_file

    @property
    def requests(self) -> list[RequestRecord]:
        """Requests to Mapbox's endpoints so far, oldest first."""
        return self._request_log.all()

    def airflow_connection(self) -> str:
        """Return an Airflow connection to the emulator as JSON, for ``AIRFLOW_CONN_…``. It contains the token."""
        return json.dumps(airflow_connection(url=self.url, s3_url=self.s3_url, account=self.account, token=self.token))

    def create_token(
        self,
        *,
        scopes: Iterable[str] = SCOPES,
        state: TokenState | str = TokenState.VALID,
        account: str | None = None,
        usage: str = "sk",
    ) -> str:
        """Create a token and return it.

        :param scopes: the token's scopes.
        :param state: the ``code`` of ``GET /tokens/v2``. The other endpoints refuse every state but ``TokenValid``.
        :param account: the token's account. A token of another account than the emulator's reads only public tilesets.
        :param usage: ``sk`` (secret), ``pk`` (public) or ``tk`` (temporary).
        """
        token = make_token(account or self.account, usage=usage)
        self._started.store.add_token(token, scopes=frozenset(scopes), state=TokenState(state))
        return token

    def mark_tiling_service(self, tileset: str) -> None:
        """
        Mark a tileset as made by the Mapbox Tiling Service. An upload cannot replace it then.

        :param tileset: the tileset's id, ``account.name``. The tileset need not exist.
        :raises ValueError: for an invalid id.
        """
        if not TILESET.match(tileset):
            raise ValueError(f"{tileset!r} is not a tileset's id (account.name)")
        self._started.store.tilesets.mark_tiling_service(tileset)

    def add_tileset(self, tileset: str, **fields: Any) -> None:
        """
        Add a tileset without an upload, or replace it. It has one small tile, whatever its ``filesize``.

        .. code-block:: python

            for day in range(400):
                emulator.add_tileset(f"{emulator.account}.day-{day}", created=emulator.clock() - day * 86_400)

        :param tileset: the tileset's id, ``account.name``.
        :param fields: fields of the tileset. ``created`` and ``modified`` are Unix seconds, a ``datetime`` with a time
            zone, or an ISO 8601 string with one. Their defaults are now, and ``created``. ``visibility`` is ``private``
            or ``public``, ``filesize`` is in bytes, ``type`` is ``vector`` or ``raster``, and ``status`` is
            ``available``, ``pending`` or ``invalid``. ``name``, ``description`` and ``created_by_client`` are strings.
        :raises ValueError: for an invalid value.
        :raises TypeError: for an unknown field, and for a value of a wrong type.
        """
        self._add_tileset(tileset, fields)

    def _add_tileset(self, tileset: object, fields: Mapping[str, Any]) -> None:
        made = describe_tileset(tileset, fields, account=self.account, now=self._clock())
        self._started.store.tilesets.add(made)

    @property
    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the emulator is not started")
        return self._running


class _Running:
    """The servers, workers and files of a started emulator."""

    def __init__(self, emulator: Emulator) -> None:
        settings, clock, faults = emulator.settings, emulator._clock, emulator.faults
        # The stack stops everything in reverse order, also if the start fails half-way.
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
            processing = Processing(
                self.store, settings=settings, faults=faults, clock=clock, on_finished=self._remove_staged_object
            )
            stack.callback(processing.stop)
            processing.start()
            guard = Guard((emulator.host, *emulator.allowed_hosts))
            self._start_s3(emulator, guard, s3_socket, stack)
            self._start_api(emulator, guard, processing, api_socket, stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        self._stack.close()

    def _start_s3(
        self, emulator: Emulator, guard: Guard, listening: socket.socket, stack: contextlib.ExitStack
    ) -> None:
        stopping = threading.Event()
        faulty = with_s3_faults(self._gate, emulator.faults, sleep=stopping.wait)
        app = guarded_s3(faulty, guard, bucket=emulator.settings.bucket)
        server = _S3Server(app, listening, emulator.host, self.tls)
        server.start()
        stack.callback(server.stop)
        stack.callback(stopping.set)

    def _start_api(
        self,
        emulator: Emulator,
        guard: Guard,
        processing: Processing,
        listening: socket.socket,
        stack: contextlib.ExitStack,
    ) -> None:
        settings, clock, request_log = emulator.settings, emulator._clock, emulator._request_log
        own_clock = clock if isinstance(clock, AdjustableClock) else None
        connections = Connections()
        app = build_app(
            UploadsApi(self.store, settings=settings, request_log=request_log, clock=clock, on_created=processing.add),
            TilesetsApi(self.store, settings=settings, request_log=request_log, clock=clock),
            TilesetPages(self.store, settings=settings, request_log=request_log, clock=clock),
            Control(
                faults=emulator.faults,
                clock=own_clock,
                request_log=request_log,
                store=self.store,
                add_tileset=emulator._add_tileset,
            ),
            faults=emulator.faults,
            connections=connections,
            guard=guard,
            clock=clock,
            request_log=request_log,
        )
        server = _ApiServer(app, listening, connections, self.tls)
        stack.callback(server.stop)
        server.start()

    def _remove_staged_object(self, upload: Upload) -> None:
        if upload.staged is not None:
            self._gate.backend.remove_object(upload.staged)


class _ApiServer:
    """uvicorn in a thread."""

    def __init__(self, app: Any, listening: socket.socket, connections: Connections, tls: Tls | None) -> None:
        self._connections = connections
        # No access log, because its lines contain the token.
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
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the API's server did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        self._connections.stop()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()


# moto has a request handler of its own since 5.2.5. It keeps underscores in the names of object metadata.
_Handler: type[WSGIRequestHandler] = getattr(werkzeug_app, "MotoRequestHandler", WSGIRequestHandler)


class _QuietHandler(_Handler):  # type: ignore[misc, valid-type]
    """The request handler of the bucket, which logs each request at debug level only."""

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
            # By default the accepting thread does the TLS handshake, so a silent client would block all others.
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
        raise OSError(error.errno, f"cannot listen on {host}:{port} ({error.strerror}); use another port") from None
    return listening


def _lock(folder: Path) -> IO[str]:
    """Lock the folder: two emulators on one folder would overwrite each other's tilesets."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RuntimeError(f"another emulator uses {folder}; stop that emulator, or use another folder") from None
    return file


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _prepare_tls(emulator: Emulator) -> Tls:
    # boto3 puts the bucket's name before the host, unless the host is a numeric address.
    names: tuple[str, ...] = (f"{emulator.settings.bucket}.localhost", *emulator.allowed_hosts)
    if emulator.host not in ("", "0.0.0.0", "::"):  # noqa: S104 - not listened on here
        names = (*names, emulator.host)
    return prepare_tls(emulator.folder / "tls", names=names)


def _url(host: str, port: int, *, tls: bool) -> str:
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
