"""The control endpoint: faults, the clock and what was asked, over HTTP, for whoever is on this machine."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.errors import Said
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.requests_seen import RequestLog

PREFIX = "/_emulator"

Endpoint = Callable[[Request], Awaitable[Response]]


class Control:
    """
    What ``/_emulator`` answers.

    :param faults: that it adds to and clears.
    :param clock: that it moves on; None where the clock is somebody else's.
    :param seen: the requests so far.
    """

    def __init__(self, *, faults: Faults, clock: AdjustableClock | None, seen: RequestLog) -> None:
        self._faults = faults
        self._clock = clock
        self._seen = seen

    def routes(self) -> list[Route]:
        """Give the routes for the application."""
        return [
            Route(f"{PREFIX}/faults", _local(self._on_faults), methods=["GET", "POST", "DELETE"]),
            Route(f"{PREFIX}/faults/{{fault:int}}", _local(self._remove_fault), methods=["DELETE"]),
            Route(f"{PREFIX}/clock", _local(self._on_clock), methods=["GET", "POST"]),
            Route(f"{PREFIX}/requests", _local(self._requests), methods=["GET"]),
        ]

    async def _on_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            try:
                fault = self._faults.add(**await _fields(request))
            except (ValueError, TypeError) as error:
                return _unusable(error)
            return JSONResponse(fault.as_json(), status_code=201)
        return JSONResponse([fault.as_json() for fault in self._faults.all()])

    async def _remove_fault(self, request: Request) -> Response:
        self._faults.clear(request.path_params["fault"])
        return Response(status_code=204)

    async def _on_clock(self, request: Request) -> Response:
        if self._clock is None:
            return JSONResponse({"message": "The clock was given by the program that started the emulator."}, 409)
        if request.method == "POST":
            try:
                _set_clock(self._clock, **await _fields(request))
            except (ValueError, TypeError) as error:
                return _unusable(error)
        return JSONResponse({"now": self._clock(), "speed": self._clock.speed})

    async def _requests(self, _request: Request) -> Response:
        seen = self._seen.all()
        return JSONResponse(
            [{"method": one.method, "path": one.path, "status": one.status, "time": one.time} for one in seen]
        )


def _set_clock(clock: AdjustableClock, *, advance: float = 0.0, speed: float | None = None) -> None:
    if speed is not None:
        clock.run(float(speed))
    clock.advance(float(advance))


async def _fields(request: Request) -> dict[str, Any]:
    fields = json.loads(await request.body())
    if not isinstance(fields, dict):
        raise TypeError(Said.NO_OBJECT)
    return fields


def _unusable(error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, status_code=422)


def _local(endpoint: Endpoint) -> Endpoint:
    """Hide the endpoint from other machines, where the emulator is open to them."""

    async def answer(request: Request) -> Response:
        try:
            is_local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
        except ValueError:
            is_local = False
        return await endpoint(request) if is_local else JSONResponse({"message": Said.NOT_FOUND}, status_code=404)

    return answer
