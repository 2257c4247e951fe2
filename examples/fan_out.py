"""A hundred child flows of one state: a mailing that sends a letter to each address, ten at a time.

    python examples/fan_out.py [DIRECTORY [LETTERS]]

Kill it wherever you like and run it again with the same DIRECTORY: each letter is sent once. A letter is a flow of its
own, found again by its key, the address. What "sending" means here is a file in `DIRECTORY/outbox`, named by the
idempotency key. Without DIRECTORY a new temporary one is used.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import trio
from systemprompt_cloud.engine import (
    ANY,
    CancelRequested,
    Context,
    EnginePaths,
    Event,
    Machine,
    Program,
    ResumePolicy,
    State,
    Verdict,
    Visit,
    on,
    open_engine,
)

AT_ONCE = 10


class Letter(Context, frozen=True, kw_only=True):
    address: str
    outbox: str


class Mailing(Context, frozen=True, kw_only=True):
    letters: int
    outbox: str


class Sent(Event, frozen=True):
    """The letter is on its way."""


class AllSent(Event, frozen=True):
    """Every letter is on its way."""


class SomeFailed(Event, frozen=True):
    """Some were not sent."""

    problem: str


LETTER = Machine(
    "letter",
    version=1,
    initial="sending",
    context=Letter,
    states=[
        State("sending", "being sent", effect="sends the letter", resume=ResumePolicy.RETRY),
        State("sent", "on its way", verdict=Verdict.SUCCESS),
        State("cancelled", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Sent, "sending", "sent"), on(CancelRequested, ANY, "cancelled")],
)

MAILING = Machine(
    "mailing",
    version=1,
    initial="sending",
    context=Mailing,
    states=[
        State("sending", "letters are being sent", child="letter"),
        State("done", "all letters are on their way", verdict=Verdict.SUCCESS),
        State("incomplete", "some letters were not sent", verdict=Verdict.FAILURE),
        State("cancelled", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(AllSent, "sending", "done"),
        on(SomeFailed, "sending", "incomplete"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)


async def send_letter(visit: Visit[Letter]) -> Event:
    intent = await visit.announce("send")
    # The other side honours the key: the same one twice is one letter.
    await trio.Path(visit.context.outbox, intent.key.replace(":", ".")).write_text(visit.context.address)
    return Sent()


LETTERS = Program(LETTER, {"sending": [send_letter]})


async def send_all(visit: Visit[Mailing]) -> Event:
    """One child for each address. The error of a paused one is let through: it pauses the mailing."""
    unsent: list[str] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def send_one(address: str) -> None:
        async with limit:
            outcome = await visit.run_child(LETTERS, Letter(address=address, outbox=visit.context.outbox), key=address)
        if not outcome.succeeded:
            unsent.append(address)

    async with trio.open_nursery() as nursery:
        for number in range(visit.context.letters):
            nursery.start_soon(send_one, f"reader-{number}@example.org")
    return SomeFailed(", ".join(unsent)) if unsent else AllSent()


MAILINGS = Program(MAILING, {"sending": [send_all]})


async def main(directory: Path, letters: int) -> str:
    """Send a mailing, or continue the unfinished one; the state it ended in."""
    outbox = directory / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    async with open_engine(EnginePaths.inside(directory / "state"), [MAILINGS, LETTERS]) as engine:
        # `handover`: no person is back when a killed program is run again, so its deadlines are not put off.
        flow = await engine.start(
            MAILING, Mailing(letters=letters, outbox=str(outbox)), key="spring", after_end="return", why="handover"
        )
        print("mailing", flow.id, flush=True)
        return (await flow.wait()).state


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send a mailing, or continue the unfinished one.")
    parser.add_argument("directory", nargs="?", type=Path, help="where its files are; a new temporary one by default")
    parser.add_argument("letters", nargs="?", type=int, default=100, help="how many letters; 100 by default")
    given = parser.parse_args()
    where = given.directory or Path(tempfile.mkdtemp())
    print("in", where)
    print(trio.run(main, where, given.letters))
