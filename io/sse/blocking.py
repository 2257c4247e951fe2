"""Event streams for programs that do not run trio: plain iterators over a loop in another thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Final, Self

from typing_extensions import override

from ..http.blocking import BlockingLoop
from .decoder import EventStream, ServerSentEvent
from .event_source import EventSource, SourceState


class SyncEventStream:
    """The events of one open response; iterating waits for the next one and raises what `EventStream` raises.

    Made by `SyncCloudApiClient.checkout_events` and `.tenant_events`.
    """

    def __init__(self, stream: EventStream, loop: BlockingLoop) -> None:
        self._stream: Final = stream
        self._loop: Final = loop

    @property
    def last_event_id(self) -> str:
        """What to send as `Last-Event-ID` to go on after the last event that was handed out."""
        return self._stream.last_event_id

    @property
    def retry_ms(self) -> int | None:
        """Milliseconds the server asked to wait before reconnecting; None until it does."""
        return self._stream.retry_ms

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerSentEvent:
        """Wait for the next event; StreamLost and TooLarge as `EventStream`."""
        return self._loop.wait(self._stream.__anext__)


class SyncEventSource:
    """The events of a stream across as many connections as it takes; a context manager and iterator for one thread.

    What it waits for, raises and ends on is what `EventSource` does. Made by `SyncCloudApiClient.follow_checkout` and
    `.follow_tenant`.
    """

    def __init__(self, source: EventSource, loop: BlockingLoop) -> None:
        self._source: Final = source
        self._loop: Final = loop

    @property
    def last_event_id(self) -> str:
        """What the next connection says it had last: the id of the last event that was handed out."""
        return self._source.last_event_id

    @property
    def state(self) -> SourceState:
        """The current state. It changes only while somebody iterates, or leaves the block."""
        return self._source.state

    def with_states(self) -> Iterator[ServerSentEvent | SourceState]:
        """Iterate over events and over every state as it is entered, in the order they happen."""
        everything = self._source.with_states()

        async def take() -> ServerSentEvent | SourceState:
            return await anext(everything)

        return _Taking(take, self._loop)

    def __enter__(self) -> Self:
        self._loop.wait(self._source.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A client that was closed in the meantime has closed its streams.
        with self._loop.unless_stopped():
            self._loop.wait(self._source.__aexit__, None, None, None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerSentEvent:
        """Wait for the next event, over as many connections as it takes; errors are those of `EventSource`."""
        return self._loop.take(self._source.__anext__)


class _Taking(Iterator[ServerSentEvent | SourceState]):
    def __init__(
        self, take: Callable[[], Coroutine[Any, Any, ServerSentEvent | SourceState]], loop: BlockingLoop
    ) -> None:
        self._take: Final = take
        self._loop: Final = loop

    @override
    def __next__(self) -> ServerSentEvent | SourceState:
        return self._loop.take(self._take)
