"""Following a server at its work: the activities that checkout and provisioning have in common.

How it is followed is written in `streaming.py` and `watching.py`. Here that becomes activities; what differs between
the two machines is their `Source`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeVar

from ...base.errors import CloudError
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...machines.parts.watching import WatchingContext
from .source import Source
from .streaming import follow_and_look, poll_without_stream
from .watching import refusal

W = TypeVar("W", bound=WatchingContext)
S = TypeVar("S")
P = ParamSpec("P")


def ended_by_refusal(
    activity: Callable[Concatenate[S, P], Awaitable[Event]],
) -> Callable[Concatenate[S, P], Awaitable[Event]]:
    """Let an activity end with `AccessRefused` when the API says that the thing is not ours or not there."""

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
    """The activities of the states in which a server is followed."""

    @abstractmethod
    async def source(self, visit: Visit[W]) -> Source[W]:
        """What is followed in this visit, as the logged-in user; raises as `Api.as_user`."""

    async def watch_events(self, visit: Visit[W]) -> None:
        """Follow the stream until it is lost, and find out beside it whether all is over already."""
        await follow_and_look(await self.source(visit))

    async def poll_status(self, visit: Visit[W]) -> None:
        """Ask while the stream is away, and get it back."""
        await poll_without_stream(await self.source(visit))
