"""A trip, whose machine has an older table and a newer one."""

from __future__ import annotations

from typing import Any

import trio
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Intent, Program, Visit, await_signal
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.local.paths import CloudPaths


class OldTrip(Context, frozen=True, kw_only=True):
    """What version 1 knew of a trip."""

    miles: int = 0


class Trip(Context, frozen=True, kw_only=True):
    """What version 2 knows of a trip."""

    metres: int = 0


class Walked(Event, frozen=True):
    """A mile was walked."""


class Boarded(Event, frozen=True):
    """On the train."""


class Arrived(Event, frozen=True):
    """There."""


def a_mile(context: OldTrip, _event: Walked) -> OldTrip:
    return OldTrip(miles=context.miles + 1)


DONE = State("there", "arrived", verdict=Verdict.SUCCESS)
OFF = State("off", "called off", verdict=Verdict.CANCELLED)

OLD = Machine(
    "trip",
    version=1,
    initial="walking",
    context=OldTrip,
    states=[
        State("walking", "on foot"),
        State(
            "on_board",
            "on the train",
            timeout=100.0,
            late="continue",
            effect="takes a seat",
            resume=ResumePolicy.RECONCILE,
        ),
        DONE,
        OFF,
    ],
    rows=[
        on(Walked, "walking", None, update=a_mile),
        on(Boarded, "walking", "on_board"),
        on(Arrived, "on_board", "there"),
        on(DeadlinePassed, "on_board", "off"),
        on(CancelRequested, ANY, "off"),
    ],
)


def new(*migrations: Migration, effect: str | None = "takes a seat", child: str | None = None) -> Machine[Trip]:
    """The table of version 2."""
    return Machine(
        "trip",
        version=2,
        initial="on_foot",
        context=Trip,
        states=[
            State("on_foot", "on foot", timeout=50.0, child=child),
            State(
                "seated",
                "on the train, seated",
                timeout=70.0,
                late="continue",
                effect=effect,
                resume=ResumePolicy.RECONCILE,
            ),
            DONE,
            OFF,
        ],
        rows=[
            on(Boarded, "on_foot", "seated"),
            on(Arrived, "seated", "there"),
            on(DeadlinePassed, ANY, "off"),
            on(CancelRequested, ANY, "off"),
        ],
        migrations=migrations,
    )


TO_2 = Migration(
    1,
    states={"walking": "on_foot", "on_board": "seated"},
    context=lambda old: {"metres": old.get("miles", 0) * 1609},
)
NEW = new(TO_2)


class Seats:
    """Announces the seat it takes, and remembers what became of it."""

    def __init__(self, failing: bool = False) -> None:
        self.intents: list[Intent] = []
        self.failing = failing

    async def sit(self, visit: Visit[Any]) -> None:
        """Take a seat."""
        self.intents.append(await visit.announce("seat"))
        if self.failing:
            raise Network("no seat is free")
        await trio.sleep_forever()


def old_program(seats: Seats | None = None) -> Program[Any]:
    """What version 1 did."""
    return Program(OLD, {"walking": [await_signal], "on_board": [(seats or Seats()).sit]})


def new_program(machine: Machine[Trip] = NEW, seats: Seats | None = None) -> Program[Any]:
    """What version 2 does."""
    return Program(machine, {"on_foot": [await_signal], "seated": [(seats or Seats()).sit]})


async def begun(engine: Engine, *, board: bool = False) -> Flow:
    """A trip two miles long so far, perhaps on the train by now."""
    flow = await engine.start(OLD, OldTrip(), key="home", secrets={"ticket": "T-1000"})
    for _ in range(2):
        await flow.send(Walked())
    if board:
        await flow.send(Boarded())
        while flow.history[-1].kind != "intent":
            await trio.lowlevel.checkpoint()
    return flow


def problems(paths: CloudPaths, *programs: Program[Any]) -> list[str]:
    """What is wrong with the journal."""
    with Journal(paths.journal) as journal:
        return [problem for row in journal.flows() for problem in check_flow(journal, programs, row)]
