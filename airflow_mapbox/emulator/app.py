"""The HTTP application: all routes, and one shape for every error."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from airflow_mapbox.emulator import assets
from airflow_mapbox.emulator.api import UploadsApi, refused
from airflow_mapbox.emulator.control import PREFIX as CONTROL_PREFIX
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.errors import RefusedError, Said
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.faulty_api import Connections, with_faults
from airflow_mapbox.emulator.guard import Guard, guarded
from airflow_mapbox.emulator.requests_seen import RequestLog, SeenRequest
from airflow_mapbox.emulator.tiles import TilesetPages

# What Mapbox answers, too; everything else is the emulator's own.
MAPBOX_PATHS = ("/uploads/", "/tokens/", "/v4/")


def build_app(
    api: UploadsApi,
    tilesets: TilesetPages,
    control: Control,
    *,
    faults: Faults,
    connections: Connections,
    guard: Guard,
    clock: Callable[[], float],
    seen: RequestLog,
) -> ASGIApp:
    """Return the application.

    Whatever goes wrong is answered ``{"message": …}``, as Mapbox does; an unknown route and a known one by another
    method are the same ``Not Found``.

    :param faults: what is to go wrong with the API's answers; the emulator's own pages and its control are spared.
    :param connections: of the server, so that one can be cut.
    :param seen: where requests are noted that a fault keeps from the API.
    :param guard: who is answered at all; outermost, so that others meet no fault and leave no trace.
    :param clock: Unix time in seconds; what ``Date`` says, so that a client can hold a reset against it.
    """
    handlers: dict[int | type[Exception], ExceptionHandler] = {HTTPException: _not_found, Exception: _internal}
    app = Starlette(
        routes=[*api.routes(), *tilesets.routes(), *control.routes(), *assets.routes()], exception_handlers=handlers
    )
    # A redirect to the path without its slash would carry the token on.
    app.router.redirect_slashes = False

    def noted(method: str, path: str, status: int) -> None:
        seen.add(SeenRequest(method, path, status, clock()))

    faulty = with_faults(app, faults, connections, spared=_is_our_own, noted=noted)
    return _dated(guarded(faulty, guard, is_page=_is_page), clock)


def _is_page(path: str) -> bool:
    return _is_our_own(path) and not path.startswith(CONTROL_PREFIX)


def _is_our_own(path: str) -> bool:
    return not path.startswith(MAPBOX_PATHS)


def _dated(app: ASGIApp, clock: Callable[[], float]) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Date"] = formatdate(clock(), usegmt=True)
            await send(message)

        await app(scope, receive, send_dated)

    return answer


def _not_found(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refused(RefusedError(404, Said.NOT_FOUND) if status in (404, 405) else RefusedError(status, str(error)))


def _internal(_request: Request, _error: Exception) -> Response:
    return refused(RefusedError(500, Said.INTERNAL))
