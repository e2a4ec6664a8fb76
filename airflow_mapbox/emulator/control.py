"""The control endpoint: faults, the clock and the recorded requests over HTTP, for clients on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.calls import TILESET, is_local, read_body
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
    :param store: all state.
    :param add_tileset: adds a tileset without an upload, by its id and its fields (:meth:`Emulator.add_tileset`).
    """

    def __init__(
        self,
        *,
        faults: Faults,
        clock: AdjustableClock | None,
        request_log: RequestLog,
        store: Store,
        add_tileset: Callable[[object, dict[str, Any]], None],
    ) -> None:
        self._faults = faults
        self._clock = clock
        self._request_log = request_log
        self._store = store
        self._add_tileset = add_tileset

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [
            Route(f"{PREFIX}/faults", _local(self._on_faults), methods=["GET", "POST", "DELETE"]),
            Route(f"{PREFIX}/faults/{{fault}}", _local(self._remove_fault), methods=["DELETE"]),
            Route(f"{PREFIX}/clock", _local(self._on_clock), methods=["GET", "POST"]),
            Route(f"{PREFIX}/requests", _local(self._requests), methods=["GET"]),
            Route(f"{PREFIX}/tiling-service", _local(self._on_tiling_service), methods=["GET", "POST"]),
            Route(f"{PREFIX}/tilesets", _local(self._add_tilesets), methods=["POST"]),
            Route(f"{PREFIX}/tilesets/{{tileset}}/delete", _local(self._delete_tileset), methods=["POST"]),
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
            await run_in_threadpool(self._store.tilesets.mark_tiling_service, tileset)
        return JSONResponse(await run_in_threadpool(self._store.tilesets.tiling_service_tilesets))

    async def _add_tilesets(self, request: Request) -> Response:
        """Add one tileset, or a list of them."""
        try:
            content = await _json(request)
            for fields in content if isinstance(content, list) else [content]:
                await run_in_threadpool(self._add_tileset, *_id_and_fields(fields))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            return _unprocessable(error)
        return Response(status_code=204)

    async def _delete_tileset(self, request: Request) -> Response:
        """Delete a tileset, for the button on its page. The guard refuses the forms of foreign pages."""
        tileset = request.path_params["tileset"]
        if not await run_in_threadpool(self._store.tilesets.delete, tileset, active_status=None):
            return JSONResponse({"message": ApiMessage.TILESET_MISSING}, status_code=404)
        return RedirectResponse("/", status_code=303)

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
    fields = await _json(request)
    if not isinstance(fields, dict):
        raise TypeError(ApiMessage.NO_OBJECT)
    return fields


def _id_and_fields(fields: Any) -> tuple[object, dict[str, Any]]:
    if not isinstance(fields, dict):
        raise TypeError(f"a tileset must be a JSON object, not {fields!r}")
    return fields.pop("id", None), fields


async def _json(request: Request) -> Any:
    try:
        return json.loads(await read_body(request))
    except RefusedError as refusal:
        raise ValueError(refusal.message) from None
    except ValueError:
        raise ValueError(ApiMessage.NO_JSON) from None


def _unprocessable(error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, status_code=422)


def _local(endpoint: Endpoint) -> Endpoint:
    """Hide the endpoint from other machines if they can reach the emulator."""

    async def handle(request: Request) -> Response:
        if not is_local(request):
            return JSONResponse({"message": ApiMessage.NOT_FOUND}, status_code=404)
        return await endpoint(request)

    return handle
