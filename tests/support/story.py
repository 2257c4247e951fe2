"""A server that tells one story in two ways, and everything that can become of the telling: in memory, on trio's clock.

Theory. What two sources make of a server's work can only be judged against what really happened there. So the story
comes first: a list of steps, each with its moment. A stream and a status are two views of it, and a `Telling` says what
goes wrong with them: connections that open late, break, repeat, swap or forget; answers that are slow, or refused;
times at which nobody is there. None of it changes the story. So the end must be the same for all tellings, and what
somebody was told must be the story, once and forward.

`story_services` hands the server to the activities in place of the API; nothing else of them is replaced.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeVar, cast

import msgspec
import trio
from systemprompt_cloud.errors import ApiError, Network, StreamLost
from systemprompt_cloud.flows.outside import Api
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.cloud.wire import (
    CheckoutEvent,
    ProvisioningEvent,
    TenantInfo,
    TenantSecrets,
    TenantStatus,
    UserInfo,
    UserMeResponse,
)
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from typing_extensions import override

T = TypeVar("T")

TENANT = "tenant_1"
NAME = "acme"
SESSION = "session_1"
APP_URL = "https://acme.example"
SECRETS_URL = "/secrets"
HEARTBEAT = ServerSentEvent("heartbeat", "{}", "")
HEARTBEAT_SECONDS = 5.0
ENDS = frozenset({"tenant_ready", "provisioning_failed"})


class Happening(msgspec.Struct, frozen=True):
    """A step of the story: when (seconds since the beginning), which, and in what words."""

    at: float
    step: str
    message: str


class Connection(msgspec.Struct, frozen=True):
    """What becomes of one connection to the stream.

    Attributes:
        opens_after: Seconds until it answers.
        swapped: The places at which an event changes place with the next one.
        doubled: The places of events that come twice.
        breaks_after: It breaks after so many events; None for never.
        mute: It is open and says nothing.
        pace: Seconds an event is on its way; the next one follows it.
        greets: It begins with a heartbeat.
    """

    opens_after: float = 0.0
    swapped: frozenset[int] = frozenset()
    doubled: frozenset[int] = frozenset()
    breaks_after: int | None = None
    mute: bool = False
    pace: float = 0.0
    greets: bool = False


class Telling(msgspec.Struct, frozen=True):
    """What goes wrong with the telling of a story. Lists are taken in turn, and the last of them then stays.

    Attributes:
        replay: What a new connection tells of the past: what comes after the client's `Last-Event-ID`, all, or nothing.
        connections: What becomes of each connection to the stream.
        away: When no stream is to be had: pairs of beginning and length.
        refused: When the status is answered with 503, likewise; `retry_after` goes with it.
        retry_after: Seconds, or None.
        latencies: Seconds each answer about the status takes; it is about the moment it was asked for.
        silent_status: The status has no words for what is not over yet.
    """

    replay: Literal["after", "all", "none"] = "after"
    connections: tuple[Connection, ...] = (Connection(),)
    away: tuple[tuple[float, float], ...] = ()
    refused: tuple[tuple[float, float], ...] = ()
    retry_after: float | None = None
    latencies: tuple[float, ...] = (0.0,)
    silent_status: bool = False


class StoryServer:
    """Stands in for the API's client (`io.api.CloudApiClient`) in everything that watching a tenant calls.

    Args:
        story: What happens; from the moment the server is made.
        telling: What becomes of the telling.

    Attributes:
        questions: When the status was asked for, in seconds since the beginning.
    """

    def __init__(self, story: Sequence[Happening], telling: Telling | None = None) -> None:
        self._story = story
        self._telling = telling or Telling()
        self._began = trio.current_time()
        self._opened = 0
        self.questions: list[float] = []

    @property
    def time(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self._began

    def happened(self) -> int:
        """How many steps there have been."""
        return sum(each.at <= self.time for each in self._story)

    # --- asked ----------------------------------------------------------------------------------------------------

    async def tenant_status(self, _tenant: str) -> TenantStatus:
        """How things stand, or stood when the question was on its way."""
        self.questions.append(self.time)
        refused, status = _within(self._telling.refused, self.time), self._status()
        await trio.sleep(_nth(self._telling.latencies, len(self.questions) - 1))
        if refused:
            raise ApiError("busy", status=503, retry_after=self._telling.retry_after)
        return status

    def _status(self) -> TenantStatus:
        if not self.happened():
            return TenantStatus(status="provisioning")
        last = self._story[self.happened() - 1]
        if last.step == "tenant_ready":
            return TenantStatus(status="ready", message=last.message, app_url=APP_URL, secrets_url=SECRETS_URL)
        if last.step == "provisioning_failed":
            return TenantStatus(status="failed", message=last.message)
        if last is self._story[-1]:
            return TenantStatus(status="infrastructure_ready", message=last.message, secrets_url=SECRETS_URL)
        return TenantStatus(status="provisioning", message=None if self._telling.silent_status else last.message)

    async def me(self) -> UserMeResponse:
        """Whose the tenant is."""
        await trio.lowlevel.checkpoint()
        tenant = TenantInfo(id=TENANT, name=NAME, database_url="postgres://u:***@db/t")
        return UserMeResponse(user=UserInfo(id="user_1", email="ada@example.org"), tenants=[tenant])

    async def tenant_secrets(self, _url: str) -> TenantSecrets:
        """What is stored at the end."""
        await trio.lowlevel.checkpoint()
        inside = "postgres://u:p@db/t"
        return TenantSecrets(
            jwt_secret="j",
            database_url=inside,
            internal_database_url=inside,
            app_url=APP_URL,
            sync_token="s",
        )

    # --- told -----------------------------------------------------------------------------------------------------

    def tenant_events(
        self, _tenant: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractAsyncContextManager[EventStream]:
        """The story as a tenant's event stream."""
        return self._open(last_event_id, idle_timeout, checkout=False)

    def checkout_events(
        self, _session: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractAsyncContextManager[EventStream]:
        """The story as a checkout's event stream."""
        return self._open(last_event_id, idle_timeout, checkout=True)

    @asynccontextmanager
    async def _open(
        self, last_event_id: str | None, idle_timeout: float, *, checkout: bool
    ) -> AsyncGenerator[EventStream]:
        connection = _nth(self._telling.connections, self._opened)
        self._opened += 1
        await trio.sleep(connection.opens_after)
        if _within(self._telling.away, self.time):
            raise Network("the stream is away", sent=True)
        begin = {"after": int(last_event_id or 0), "all": 0, "none": self.happened()}[self._telling.replay]
        told = _Told(self, connection, begin, idle_timeout, checkout=checkout)
        # Not the class itself: it reads a response, and the activities only iterate.
        yield cast("EventStream", cast("object", told))

    def away_at(self) -> float:
        """When the next stretch without streams begins; infinitely late when none does."""
        return min((start for start, _ in self._telling.away if start > self.time), default=float("inf"))

    def event(self, number: int, *, checkout: bool) -> ServerSentEvent:
        """An event of the stream; its number counts from 1."""
        happening = self._story[number - 1]
        status = "ready" if happening.step == "tenant_ready" else "provisioning"
        told = {"tenant_id": TENANT, "event_type": happening.step, "status": status, "message": happening.message}
        if checkout:
            record = CheckoutEvent(checkout_session_id=SESSION, tenant_name=NAME, **told)
        else:
            record = ProvisioningEvent(**told)
        return ServerSentEvent("provisioning", msgspec.json.encode(record).decode(), str(number))

    def order(self, connection: Connection, begin: int) -> list[int]:
        """The numbers of the events a connection tells, in its own order."""
        numbers = list(range(begin + 1, len(self._story) + 1))
        for place in sorted(connection.swapped):
            if place + 1 < len(numbers):
                numbers[place], numbers[place + 1] = numbers[place + 1], numbers[place]
        return [each for place, each in enumerate(numbers) for _ in range(1 + (place in connection.doubled))]

    async def until(self, number: int) -> None:
        """Wait until a step has happened."""
        await trio.sleep_until(self._began + self._story[number - 1].at)


class _Told:
    """One connection: iterates over its events, and is lost as it is told to be."""

    def __init__(
        self, server: StoryServer, connection: Connection, begin: int, idle_timeout: float, *, checkout: bool
    ) -> None:
        self._server = server
        self._connection = connection
        self._idle = idle_timeout
        self._checkout = checkout
        self._left = server.order(connection, begin)
        self._told = 0
        self._greeting = connection.greets
        self._breaks_at = server.away_at() - server.time + trio.current_time()

    def __aiter__(self) -> _Told:
        return self

    async def __anext__(self) -> ServerSentEvent:
        await trio.lowlevel.checkpoint()
        if self._told == self._connection.breaks_after:
            raise StreamLost("the event stream broke")
        with trio.move_on_at(self._breaks_at):
            return await self._next()
        raise StreamLost("the event stream broke, and is away")

    async def _next(self) -> ServerSentEvent:
        if self._connection.mute:
            await trio.sleep(self._idle)
            raise StreamLost("the event stream fell silent")
        if self._greeting:
            self._greeting = False
            return HEARTBEAT
        if not self._left:
            raise StreamLost("the server ended the event stream")
        with trio.move_on_after(HEARTBEAT_SECONDS) as waiting:
            await self._server.until(self._left[0])
        if waiting.cancelled_caught:
            return HEARTBEAT
        await trio.sleep(self._connection.pace)
        self._told += 1
        return self._server.event(self._left.pop(0), checkout=self._checkout)


class LastingApi(Api):
    """A `StoryServer`: it lives on when a process that asks it dies."""

    def __init__(self, server: StoryServer, paths: CloudPaths) -> None:
        super().__init__(paths)
        self.server = server

    @override
    async def as_user(self, api_url: str) -> CloudApiClient:
        """The server, whatever the address."""
        await trio.lowlevel.checkpoint()
        return cast("CloudApiClient", cast("object", self.server))


def story_services(paths: CloudPaths, server: StoryServer, **changes: Any) -> Services:
    """Services whose API is the server."""
    made = Services(paths, **changes)
    made.cloud_api = LastingApi(server, paths)
    return made


def _nth(items: Sequence[T], number: int) -> T:
    return items[min(number, len(items) - 1)]


def _within(stretches: Sequence[tuple[float, float]], moment: float) -> bool:
    return any(start <= moment < start + length for start, length in stretches)
