"""The environment of every test: an Airflow home of its own, and a network that ends at the loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.answers import ANSWERS
from tests.support.ids import readable

if TYPE_CHECKING:
    from airflow_mapbox.emulator import EmulatorSettings

ROOT = Path(__file__).resolve().parent.parent

# Airflow reads its configuration when it is first imported, so this stands before any test module's imports.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "MAPBOX", "AWS_"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db?timeout=60",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "MAPBOX_EXPORT_FOLDER": str(_HOME / "exports"),
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "no_proxy": "127.0.0.1,localhost,::1",
}

# tippecanoe opens as many files as it may when it starts: with Linux's usual limit that takes a third of a second less
# than with the 20,000 or more of many machines, and hundreds of tests start it.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, _most))

# A shell makes commands in the background ignore Ctrl-C, and their children inherit that. Tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--answers",
        type=int,
        choices=range(len(ANSWERS)),
        default=0,
        help="number of the form of Mapbox's undocumented behaviour that the tests run with",
    )


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    return readable(val, argname)


def pytest_report_header(config: pytest.Config) -> str:
    return f"undocumented behaviour: {ANSWERS[config.getoption('answers')]}"


@pytest.fixture(scope="session")
def make_settings(pytestconfig: pytest.Config) -> Callable[..., EmulatorSettings]:
    """Make settings of an emulator for the provider's tests, with this run's form of undocumented behaviour."""
    from airflow_mapbox.emulator import EmulatorSettings

    answers = ANSWERS[pytestconfig.getoption("answers")]

    def make(**more: Any) -> EmulatorSettings:
        limits = {"rate_limit": 0, "tilesets_read_limit": 0, "tilesets_write_limit": 0}
        return EmulatorSettings(**{"processing_seconds": 0, **limits, **answers, **more})

    return make


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    return _HOME


class OutsideWorldError(AssertionError):
    """A test tried to leave this machine."""


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Refuse every connection and name look-up that would leave the machine, so that no test can reach a service."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):  # type: ignore[index]
            raise OutsideWorldError(f"a test tried to connect to {address}")
        return connect(self, address)  # type: ignore[arg-type]

    def guarded_look_up(host: object, *arguments: object, **options: object) -> object:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if host is not None and name not in ("", "localhost", socket.gethostname()) and not _is_loopback(name):
            raise socket.gaierror(f"a test tried to look up {name}")
        return look_up(host, *arguments, **options)  # type: ignore[arg-type]

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def prompt_stop() -> Iterator[None]:
    """Have uvicorn see at once that it is to stop, not within two tenths of a second: hundreds of tests wait for it."""
    import uvicorn.server

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    async def wait_for(connections: Any, timeout: float) -> None:  # which clients keep open
        await asyncio.wait_for(connections, min(timeout, 0.1))

    patch = pytest.MonkeyPatch()
    quick = {**vars(asyncio), "sleep": sleep, "wait_for": wait_for}
    patch.setattr(uvicorn.server, "asyncio", SimpleNamespace(**quick))
    yield
    patch.undo()


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
