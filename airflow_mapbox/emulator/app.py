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
from airflow_mapbox.emulator.api import UploadsApi
from airflow_mapbox.emulator.calls import refused
from airflow_mapbox.emulator.control import PREFIX as CONTROL_PREFIX
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.faulty_api import Connections, with_faults
from airflow_mapbox.emulator.guard import Guard, guarded
from airflow_mapbox.emulator.request_log import RequestLog, RequestRecord
from airflow_mapbox.emulator.tiles import TilesetPages
from airflow_mapbox.emulator.tilesets_api import TilesetsApi

# The paths that Mapbox has, too. All other paths are the emulator's own.
MAPBOX_PATHS = ("/uploads/", "/tilesets/v1/", "/tokens/", "/v4/")


def build_app(
    uploads: UploadsApi,
    tilesets: TilesetsApi,
    pages: TilesetPages,
    control: Control,
    *,
    faults: Faults,
    connections: Connections,
    guard: Guard,
    clock: Callable[[], float],
    request_log: RequestLog,
) -> ASGIApp:
    """Return the application.

    Every error has the body ``{"message": …}``, as Mapbox's errors have. An unknown route and a wrong method both get
    ``Not Found``.

    :param faults: the faults of the API's responses; the emulator's own pages and its control endpoint have none.
    :param connections: the server's connections, so that a fault can cut one.
    :param request_log: records the requests that a fault keeps from the API.
    :param guard: refuses requests of foreign web pages. It is outermost, so that these use up no fault and are not
        recorded.
    :param clock: Unix time in seconds. It sets the ``Date`` header, so that a client can compare a rate limit's reset
        with it.
    """
    handlers: dict[int | type[Exception], ExceptionHandler] = {HTTPException: _not_found, Exception: _internal}
    app = Starlette(
        routes=[*uploads.routes(), *tilesets.routes(), *pages.routes(), *control.routes(), *assets.routes()],
        exception_handlers=handlers,
    )
    # A redirect to the path without its slash would repeat the token.
    app.router.redirect_slashes = False

    def record(method: str, path: str, status: int) -> None:
        request_log.add(RequestRecord(method, path, status, clock()))

    faulty = with_faults(app, faults, connections, is_exempt=_is_our_own, record=record)
    return _with_date(guarded(faulty, guard, is_page=_is_page), clock)


def _is_page(path: str) -> bool:
    return _is_our_own(path) and not path.startswith(CONTROL_PREFIX)


def _is_our_own(path: str) -> bool:
    return not path.startswith(MAPBOX_PATHS)


def _with_date(app: ASGIApp, clock: Callable[[], float]) -> ASGIApp:
    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_date(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Date"] = formatdate(clock(), usegmt=True)
            await send(message)

        await app(scope, receive, send_with_date)

    return handle


def _not_found(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refused(
        RefusedError(404, ApiMessage.NOT_FOUND) if status in (404, 405) else RefusedError(status, str(error))
    )


def _internal(_request: Request, _error: Exception) -> Response:
    return refused(RefusedError(500, ApiMessage.INTERNAL))
