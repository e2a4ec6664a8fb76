"""The control endpoint: faults, the clock and the recorded requests over HTTP, for clients on this machine."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.api import TILESET, read_body
from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.request_log import RequestLog
from airflow_mapbox.emulator.store import Store

PREFIX = "/_emulator"

Endpoint = Callable[[Request], Awaitable[Response]]


class Control:
    """
    The endpoints under ``/_emulator``.

    :param faults: the faults to list, add and clear.
    :param clock: the clock to advance; None if the program that started the emulator controls the clock.
    :param request_log: the requests so far.
    :param store: stores the marks of the Mapbox Tiling Service's tilesets.
    """

    def __init__(self, *, faults: Faults, clock: AdjustableClock | None, request_log: RequestLog, store: Store) -> None:
        self._faults = faults
        self._clock = clock
        self._request_log = request_log
        self._store = store

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [
            Route(f"{PREFIX}/faults", _local(self._on_faults), methods=["GET", "POST", "DELETE"]),
            Route(f"{PREFIX}/faults/{{fault}}", _local(self._remove_fault), methods=["DELETE"]),
            Route(f"{PREFIX}/clock", _local(self._on_clock), methods=["GET", "POST"]),
            Route(f"{PREFIX}/requests", _local(self._requests), methods=["GET"]),
            Route(f"{PREFIX}/tiling-service", _local(self._on_tiling_service), methods=["GET", "POST"]),
        ]

    async def _on_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            try:
                fields = await _fields(request)
                fault = self._faults.add(fields.pop("kind", ""), **fields)
            except (ValueError, TypeError, RecursionError) as error:
                return _unprocessable(error)
            return JSONResponse(fault.as_json(), status_code=201)
        return JSONResponse([fault.as_json() for fault in self._faults.all()])

    async def _remove_fault(self, request: Request) -> Response:
        fault_id = request.path_params["fault"]
        if not re.fullmatch(r"[0-9]{1,9}", fault_id) or not self._faults.clear(int(fault_id)):
            return JSONResponse({"message": ApiMessage.NOT_FOUND}, status_code=404)
        return Response(status_code=204)

    async def _on_tiling_service(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                tileset = (await _fields(request)).get("tileset")
            except (ValueError, TypeError, RecursionError) as error:
                return _unprocessable(error)
            if not isinstance(tileset, str) or not TILESET.match(tileset):
                return _unprocessable(ValueError(ApiMessage.INVALID_VALUE.format("tileset")))
            await run_in_threadpool(self._store.mark_tiling_service, tileset)
        return JSONResponse(await run_in_threadpool(self._store.tiling_service_tilesets))

    async def _on_clock(self, request: Request) -> Response:
        if self._clock is None:
            return JSONResponse({"message": "The program that started the emulator controls its clock."}, 409)
        if request.method == "POST":
            try:
                _set_clock(self._clock, await _fields(request))
            except (ValueError, TypeError, RecursionError) as error:
                return _unprocessable(error)
        return JSONResponse({"now": self._clock(), "speed": self._clock.speed})

    async def _requests(self, _request: Request) -> Response:
        return JSONResponse(
            [
                {"method": record.method, "path": record.path, "status": record.status, "time": record.time}
                for record in self._request_log.all()
            ]
        )


def _set_clock(clock: AdjustableClock, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name not in ("advance", "speed"):
            raise TypeError(f"a clock has no field {name!r}, only advance and speed")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} of a clock must be a number, not {value!r}")
    clock.advance(fields.get("advance", 0.0))
    if "speed" in fields:
        clock.run(fields["speed"])


async def _fields(request: Request) -> dict[str, Any]:
    try:
        fields = json.loads(await read_body(request))
    except RefusedError as refusal:
        raise ValueError(refusal.message) from None
    except ValueError:
        raise ValueError(ApiMessage.NO_JSON) from None
    if not isinstance(fields, dict):
        raise TypeError(ApiMessage.NO_OBJECT)
    return fields


def _unprocessable(error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, status_code=422)


def _local(endpoint: Endpoint) -> Endpoint:
    """Hide the endpoint from other machines if they can reach the emulator."""

    async def handle(request: Request) -> Response:
        try:
            is_local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
        except ValueError:
            is_local = False
        return await endpoint(request) if is_local else JSONResponse({"message": ApiMessage.NOT_FOUND}, status_code=404)

    return handle
