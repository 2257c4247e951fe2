"""Waiting for a browser: what login and checkout have in common.

The listener is up before the URL is shown, and the URL is shown before a browser is opened. A browser that comes back
sees "done" only when its event is on disk; if it cannot be written, the page says so and the same tab may be reloaded.
Where one state that listens follows another, the port stays open in between, and from the look whether it is free on.

A callback with the right nonce that cannot be used is shown in the terminal, too: the person may never look at the tab
again. Without a nonce any program may have sent it, so only the page says what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import CallbackRejected
from ...io.loopback.brought import SECRET_PARAMETERS
from ...io.loopback.callback import CallbackHit, StatusView
from ...io.loopback.pages import error_page
from ...io.loopback.serving import HandOver, bind_loopback
from ...machines.checkout import CheckoutContext
from ...machines.login import LoginContext
from ...machines.parts.vocabulary import BrowserNotOpened, BrowserOpened
from ..outside import Browser, ReadLine

logger = get_logger(__name__)

LONGEST_DESCRIPTION = 300
"""Characters of a provider's error description that are shown; it comes from a URL anybody could have made."""

PORT_KEPT = "callback port"
"""In a flow's scratch: what keeps the port open between two states that listen."""

TAKEN = "callbacks taken"
"""In a flow's scratch: what browsers brought since the page was shown. It is a callback only once (SECURITY 3)."""

MOST_TAKEN = 100
"""Callbacks of one page that are taken: each one is a row in the journal."""

PASTE = "If the browser is on another computer, paste the address it ended on:"


class Reply(msgspec.Struct, frozen=True):
    """What a callback means: the event it becomes, and the page the browser gets once that is durable."""

    event: Event
    page: str


CallbackKey = frozenset[tuple[str, str]]
"""A callback's parameters, to know it again."""

Read = Callable[[dict[str, str]], Awaitable[Reply]]
"""Makes a reply of a callback's parameters, or raises `CallbackRejected`: the wait goes on then."""


def free_port(port: int) -> int:
    """The port a callback can come to: `port`, or any free one for 0. Raises `PortBusy`."""
    with bind_loopback(port) as sock:
        return int(sock.getsockname()[1])


def keep_port(visit: Visit[Any], port: int) -> int:
    """Bind the port a callback can come to, and keep it open until `await_browser` listens there in this process.

    Args:
        visit: Of the flow that is going to listen.
        port: The port, 0 for any free one.

    Returns:
        The bound port.

    Raises:
        PortBusy: It is taken.
    """
    kept: HandOver = visit.scratch.setdefault(PORT_KEPT, HandOver())
    kept.close()
    with bind_loopback(port) as sock:
        kept.keep(sock)
        return int(sock.getsockname()[1])


def release_port(visit: Visit[Any]) -> None:
    """Close what `keep_port` keeps open: no browser is going to come there."""
    kept: HandOver = visit.scratch.setdefault(PORT_KEPT, HandOver())
    kept.close()


async def await_browser(
    visit: Visit[Any],
    browser: Browser,
    purpose: str,
    read: Read,
    *,
    status: Callable[[], StatusView] | None = None,
    read_line: ReadLine | None = None,
    invites: bool = True,
    once: bool = True,
    listening: Collection[str] = (),
    before_close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Listen, invite the person, and give the flow every callback that can be read; until the state is left.

    Args:
        visit: Of a login or a checkout.
        browser: Shows the URL, and opens it.
        purpose: What the person is to do there ("log in", "pay").
        read: Makes a reply of a callback.
        status: What a page that asks for the status is told.
        read_line: Asks for the address a browser on another computer ended on.
        invites: False to only listen.
        once: Whether a callback that was taken is the only one. Where it is but a hint, others may follow.
        listening: The states in which the same port is listened to.
        before_close: What is waited for before the listener closes.

    Raises:
        PortBusy: Somebody else has the port. Nobody was invited.
    """
    context: LoginContext | CheckoutContext = visit.context
    taken: set[CallbackKey] = visit.scratch.setdefault(TAKEN, set())
    if invites:  # a page that is shown again may end in the same way again
        taken.clear()
    hand_over: HandOver = visit.scratch.setdefault(PORT_KEPT, HandOver())

    def follows() -> bool:
        return visit.left and visit.current_state in listening

    async def invite() -> None:
        outcome = await browser.invite(purpose, url, again=context.invited)
        await visit.send(BrowserOpened() if outcome.opened else BrowserNotOpened(outcome.reason, outcome.code))
        if outcome.later is not None:  # the page was shown, and that is on disk
            outcome = await outcome.later()
            await visit.send(BrowserOpened() if outcome.opened else BrowserNotOpened(outcome.reason, outcome.code))

    async def take_pasted(ask: ReadLine) -> None:
        question = PASTE
        while (line := await ask(question)) is not None:
            try:
                await listener.take_pasted(line)
            except CallbackRejected as exc:
                question = f"{exc.user_message} {PASTE}"

    try:
        nonce = await visit.reveal(context.nonce)
        url = await visit.reveal(context.url) if invites else ""
        async with (
            browser.listen(
                port=context.port,
                nonce=nonce if context.bound else None,
                status_page=status,
                unusable=_tell,
                hand_over=hand_over,
                follows=follows,
            ) as listener,
            trio.open_nursery() as nursery,
        ):
            try:
                if invites:
                    nursery.start_soon(invite)
                if read_line is not None:
                    nursery.start_soon(take_pasted, read_line)
                while True:
                    await _take(visit, await listener.wait_hit(), read, taken, once=once)
            finally:
                if before_close is not None:
                    await before_close()
    finally:
        if not follows():
            hand_over.close()


async def _take(visit: Visit[Any], hit: CallbackHit, read: Read, taken: set[CallbackKey], *, once: bool) -> None:
    if hit.damage:
        _reject(visit, hit, hit.damage)
        return
    brought = frozenset(hit.params.items())
    if brought in taken:
        hit.answer(409, error_page("This was already used", "The terminal has what it needs from an earlier visit."))
        return
    if len(taken) >= MOST_TAKEN:
        _reject(visit, hit, "Your terminal takes no more answers for this page.", status=429)
        return
    try:
        reply = await read(hit.params)
    except CallbackRejected as exc:
        _reject(visit, hit, exc.user_message)
        return
    try:
        recorded = await visit.send(reply.event)
    except CloudError:
        # Nothing holds what the browser brought but its address bar: the page must leave it there.
        hit.refuse(
            error_page("Not recorded yet", "Your terminal shows why. Fix that, then reload this page.", retry=True)
        )
        raise
    if recorded:
        taken.add(brought)
    if recorded and once:
        hit.accept(reply.page)
    elif recorded:
        hit.answer(200, reply.page)
    else:
        hit.refuse(error_page("Too late", "The command in your terminal has already continued."))


def _reject(visit: Visit[Any], hit: CallbackHit, why: str, *, status: int = 503) -> None:
    """Turn a callback away: the page says why, and where only the right browser can have come, the terminal does."""
    if visit.context.bound:
        _tell(why)
    # Without a token in it the address may stay: what an API put behind `#` is nowhere else.
    kept = not hit.damage and not any(hit.params.get(name) for name in SECRET_PARAMETERS)
    hit.answer(status, error_page("Not what was expected", why, retry=kept))


def _tell(why: str) -> None:
    """A line in the terminal about an answer of no use: the person may never look at the tab again."""
    logger.warning("the browser came back, but its answer cannot be used: %s", why)
