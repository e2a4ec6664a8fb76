"""Hours of an event loop's time in a moment: where everything waits, the clock goes on to the next timer."""

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
    """An event loop whose time passes only while nothing is to be done, and then at once."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Give the loop's time in seconds, from 0."""
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine in virtual time.

    :param main: it may wait for timers and for other coroutines, not for threads or for the network.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def clock(start: float) -> Callable[[], float]:
    """
    Give a clock that goes with the running loop.

    :param start: unix time at the loop's time 0.
    """
    loop = asyncio.get_running_loop()
    return lambda: start + loop.time()


class AtOnce(Executor):
    """Makes each call where it is asked for, in no time."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Make the call."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
