"""Running trio from a thread that does not run it: one loop in a thread of its own.

Theory: anyio's blocking portal is the loop; what is added here is what a library needs around it. A call that is no
longer waited for (Ctrl-C, `stop`) is cancelled, and has let go of its connection before its caller continues. After
`stop`, every call is a RuntimeError that names the reason, also one that was on its way in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

_CLOSE_SECONDS: Final = 3.0
"""How long a cancelled call may take to close its connection; it needs less than one second."""

_OUTSIDE: Final = "the client is used outside its `with` block"

P = ParamSpec("P")
T = TypeVar("T")


class BlockingLoop:
    """A trio loop in a thread of its own, from `start` to `stop`; any thread may ask it to run something."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._running: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None
        self._waited_for: Final[set[Future[Any]]] = set()

    def start(self) -> None:
        """Start the thread and its loop. Raises `RuntimeError` when it is running."""
        with self._lock:
            if self._running is not None:
                raise RuntimeError("the client is open already")
            running = start_blocking_portal("trio", name="systemprompt-cloud API")
            self._portal = running.__enter__()
            self._running = running

    def stop(self, before_close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel the calls that still run, run `before_close` in the loop, end the thread; nothing if it has ended."""
        with self._lock:
            running, portal = self._running, self._portal
            self._running = self._portal = None
        if running is None or portal is None:
            return
        try:
            for future in tuple(self._waited_for):
                future.cancel()
            portal.call(before_close)
        finally:
            portal.call(portal.stop, True)
            running.__exit__(None, None, None)

    @property
    def portal(self) -> BlockingPortal:
        """The running loop's portal. Raises `RuntimeError` when the loop does not run."""
        portal = self._portal
        if portal is None:
            raise RuntimeError(_OUTSIDE)
        return portal

    def wait(self, call: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the loop; return its result or raise its error.

        Raises:
            RuntimeError: The loop does not run, or was stopped meanwhile.
        """
        ended = threading.Event()

        async def run() -> T:
            try:
                return await call(*args, **kwargs)
            finally:
                ended.set()

        # Either `stop` sees this one and cancels it, or this one sees that the loop was stopped.
        with self._lock:
            future = self.portal.start_task_soon(run)
            self._waited_for.add(future)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the client was closed while one of its calls was waiting") from None
        finally:
            # Ctrl-C: the call is not waited for any more (cancelling a finished one does nothing). A cancelled call
            # still has to close its connection, and the caller must not touch its stream before.
            future.cancel()
            ended.wait(_CLOSE_SECONDS)
            self._waited_for.discard(future)

    def take(self, following: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what an asynchronous iterator's `__anext__` returns; its end becomes `StopIteration`."""
        try:
            return self.wait(following)
        except StopAsyncIteration:
            raise StopIteration from None

    @contextmanager
    def hold(self, opening: AbstractAsyncContextManager[T]) -> Generator[T]:
        """Enter an asynchronous context manager and leave it, both in one task of the loop."""
        opened = self.portal.wrap_async_context_manager(opening)
        held = opened.__enter__()
        try:
            yield held
        finally:
            with self.unless_stopped():
                opened.__exit__(None, None, None)

    @contextmanager
    def unless_stopped(self) -> Generator[None]:
        """Suppress the errors of closing something in a loop that was stopped, which has closed it already."""
        portal = self._portal
        try:
            yield
        except (RuntimeError, CancelledError):
            if portal is not None and self._portal is portal:
                raise
