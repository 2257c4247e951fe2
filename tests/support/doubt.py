"""Orders of which nobody knows whether they are paid, and people who answer questions about them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.sandbox.state import SandboxTenant

from tests.support.rehearsal import (
    Rehearsal,
    open_rehearsal,
    wait_parked,
)

NO_STREAM = "no-stream"
STALE = "stale:seconds=1000,times=0"


def answers(*given: bool) -> tuple[list[str], Callable[[str], Awaitable[bool]]]:
    """A person who gives these answers; the questions are kept."""
    questions, left = list[str](), list(given)

    async def confirm(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return left.pop(0)

    return questions, confirm


def pay(rehearsal: Rehearsal) -> SandboxTenant:
    """Pay for the only order there is, without a browser; the tenant."""
    (checkout,) = rehearsal.cloud.checkouts.values()
    rehearsal.cloud.answer_payment(checkout, "pay")
    assert checkout.tenant is not None
    return checkout.tenant


async def give_up_an_order(rehearsal: Rehearsal, engine: Engine) -> None:
    """Place an order, have its payment page shown, and cancel it."""
    flow = await start_checkout(engine, rehearsal.checkout())
    await rehearsal.wait_shown()
    await flow.cancel("another day")
    await flow.wait()


@asynccontextmanager
async def an_order_in_doubt(directory: Path, **changes: Any) -> AsyncGenerator[Rehearsal]:
    """A `checkout` whose payment nobody reported, paused."""
    async with open_rehearsal(directory, nobody=True, **changes) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await wait_parked(await start_checkout(engine, rehearsal.checkout(timeout=0.3)))
        yield rehearsal
