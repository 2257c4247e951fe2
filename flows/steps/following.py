"""A server is followed at its work: the activities that checkout and provisioning have in common.

How it is followed is written in `streaming.py` and `watching.py`. Here that becomes activities; what differs between
the two machines is which stream is opened, what its events mean, and what is asked instead while it is away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeVar

from ...base.errors import CloudError
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...io.cloud.api import CloudApiClient
from ...io.sse.decoder import EventStream, ServerSentEvent
from ...machines.checkout import CheckoutContext
from ...machines.provisioning import ProvisioningContext
from ..services import Services
from .streaming import Connect, Interpret, follow_and_look, poll_without_stream
from .watching import Ask, Pauses, refusal

W = TypeVar("W", bound=CheckoutContext | ProvisioningContext)
S = TypeVar("S")
P = ParamSpec("P")


def ended_by_refusal(
    activity: Callable[Concatenate[S, P], Awaitable[Event]],
) -> Callable[Concatenate[S, P], Awaitable[Event]]:
    """An activity that is over, too, when the API says that the thing is not ours or not there."""

    @wraps(activity)
    async def until_refused(self: S, *args: P.args, **kwargs: P.kwargs) -> Event:
        try:
            return await activity(self, *args, **kwargs)
        except CloudError as exc:
            if (over := refusal(exc)) is None:
                raise
            return over

    return until_refused


class Following(ABC, Generic[W]):
    """The activities of the states in which a server is followed.

    Args:
        services: The outside world.
    """

    def __init__(self, services: Services) -> None:
        self.services = services

    @abstractmethod
    def open_stream(
        self, api: CloudApiClient, context: W, after: str | None
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the event stream after the event with this id; None for all of it."""

    @abstractmethod
    def interpret(self, context: W, sse: ServerSentEvent) -> Event | None:
        """What an event of the stream means; None for nothing."""

    @abstractmethod
    async def ask(self, api: CloudApiClient, context: W) -> Event | None:
        """Ask how far the server is; what the answer means, None for nothing."""

    async def api(self, visit: Visit[W]) -> CloudApiClient:
        """The API as the logged-in user; raises as `Services.api`."""
        return await self.services.api(visit.context.api_url)

    async def connect(self, visit: Visit[W]) -> Connect:
        """How the stream is opened in this visit."""
        api = await self.api(visit)
        return lambda after: self.open_stream(api, visit.context, after or None)

    # --- activities -----------------------------------------------------------------------------------------------

    async def watch_events(self, visit: Visit[W]) -> None:
        """Follow the stream until it is lost, and find out beside it whether all is over already."""
        connect, ask = await self.connect(visit), await self._asking(visit)
        await follow_and_look(visit, self.services, connect, self._interpreting(visit), ask, Pauses.of(visit))

    async def poll_status(self, visit: Visit[W]) -> None:
        """Ask while the stream is away, and get it back."""
        connect, ask = await self.connect(visit), await self._asking(visit)
        await poll_without_stream(visit, self.services, connect, self._interpreting(visit), ask, Pauses.of(visit))

    def _interpreting(self, visit: Visit[W]) -> Interpret:
        return lambda sse: self.interpret(visit.context, sse)

    async def _asking(self, visit: Visit[W]) -> Ask:
        api = await self.api(visit)
        return lambda: self.ask(api, visit.context)
