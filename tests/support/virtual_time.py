"""An event loop with virtual time: when all coroutines wait, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            return super().select(timeout)
        self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer whenever nothing else is ready."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the loop's time in seconds since its start."""
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine in virtual time.

    :param main: the coroutine. It may wait for timers and coroutines, but not for threads or the network.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def clock(start: float) -> Callable[[], float]:
    """
    Return a clock that follows the running loop.

    :param start: Unix time in seconds at the loop's start.
    """
    loop = asyncio.get_running_loop()
    return lambda: start + loop.time()


class AtOnce(Executor):
    """An executor that runs each call at once, in the calling thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the call, and return its result or exception as a finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
