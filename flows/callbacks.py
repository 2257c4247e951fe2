"""Waiting for a browser: what login and checkout have in common.

The listener is up before the URL is shown, and the URL is shown before a browser is opened. A browser that comes back
hears "done" only when its event is on disk; if it cannot be written, the page says so and the same tab may be reloaded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from ..errors import CallbackRejected, CloudError
from ..io.callback import CallbackHit, StatusView, listen_for_callback
from ..io.pages import error_page
from ..machines.machine import Event
from .services import ReadLine
from .visit import Visit

PASTE = "If the browser is on another computer, paste the address it ended on:"


class Reply(msgspec.Struct, frozen=True):
    """What a callback means: the event it becomes, and the page the browser gets once that is durable."""

    event: Event
    page: str


Read = Callable[[dict[str, str]], Awaitable[Reply]]
"""Makes a reply of a callback's parameters, or raises `CallbackRejected`: the wait goes on then."""


async def await_browser(
    visit: Visit[Any],
    *,
    port: int,
    nonce: str | None,
    read: Read,
    invite: Callable[[], Awaitable[Event | None]],
    status: Callable[[], StatusView] | None = None,
    read_line: ReadLine | None = None,
) -> None:
    """Listen, invite the person, and give the flow every callback that can be read; until the state is left.

    Raises:
        PortBusy: Somebody else has the port. Nobody was invited.
    """

    async def inviting() -> None:
        if (event := await invite()) is not None:
            await visit.send(event)

    async def take_pasted(ask: ReadLine) -> None:
        question = PASTE
        while (line := await ask(question)) is not None:
            try:
                await listener.take_pasted(line)
            except CallbackRejected as exc:
                question = f"{exc.user_message} {PASTE}"

    async with (
        listen_for_callback(port=port, nonce=nonce, status_page=status) as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(inviting)
        if read_line is not None:
            nursery.start_soon(take_pasted, read_line)
        while True:
            await _take(visit, await listener.wait_hit(), read)


async def _take(visit: Visit[Any], hit: CallbackHit, read: Read) -> None:
    try:
        reply = await read(hit.params)
    except CallbackRejected as exc:
        hit.refuse(error_page("Not what was expected", exc.user_message))
        return
    try:
        recorded = await visit.send(reply.event)
    except CloudError:
        # Nothing holds what the browser brought but its address bar: the page must leave it there.
        hit.refuse(error_page("Not recorded yet", "Your terminal says why. Then reload this page.", retry=True))
        raise
    if recorded:
        hit.accept(reply.page)
    else:
        hit.refuse(error_page("Too late", "The command in your terminal has already gone on."))
