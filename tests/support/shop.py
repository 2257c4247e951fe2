"""A parent that runs children of two kinds, for tests of cancelling: some end with success when they are cancelled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import trio
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit


class Worked(Event, frozen=True):
    """The work, or the child, is done."""


class Undone(Event, frozen=True):
    """What was begun is undone."""


def worker(name: str, *, obstinate: bool) -> Machine[Context]:
    """A leaf; an obstinate one ends with success when it is cancelled."""
    return Machine(
        name,
        version=1,
        initial="working",
        context=Context,
        states=[
            State("working", "working"),
            State("done", "done", verdict=Verdict.SUCCESS),
            *([] if obstinate else [State("cancelled", "cancelled", verdict=Verdict.CANCELLED)]),
        ],
        rows=[on(Worked, "working", "done"), on(CancelRequested, ANY, "done" if obstinate else "cancelled")],
    )


PLAIN, OBSTINATE = worker("plain", obstinate=False), worker("obstinate", obstinate=True)
PARENT = Machine(
    "boss",
    version=1,
    initial="delegating",
    context=Context,
    states=[
        State("delegating", "the children work"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Worked, "delegating", "done"), on(CancelRequested, ANY, "cancelled")],
)


class Shop:
    """Children of several kinds, whose tasks are counted, and a parent that runs them all."""

    def __init__(self) -> None:
        self.at_work: Counter[str] = Counter()

    async def work(self, visit: Visit[Context]) -> Event | None:
        """Work until cancelled; letting go takes some turns."""
        self.at_work[visit.flow] += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            self.at_work[visit.flow] -= 1

    async def delegate(self, visit: Visit[Context]) -> Event:
        """Run two of each kind; done as soon as all are."""
        async with trio.open_nursery() as nursery:
            for machine in (PLAIN, OBSTINATE):
                for key in ("a", "b"):
                    nursery.start_soon(self._run, visit, machine, key)
        return Worked()

    async def _run(self, visit: Visit[Context], machine: Machine[Context], key: str) -> None:
        await visit.run_child(Program(machine, {"working": [self.work]}), Context(), key=key)

    @property
    def programs(self) -> list[Program[Any]]:
        """The parent and both kinds."""
        leaves = [Program(machine, {"working": [self.work]}) for machine in (PLAIN, OBSTINATE)]
        return [Program(PARENT, {"delegating": [self.delegate]}), *leaves]
