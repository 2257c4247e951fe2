"""Record a journal with flows in every state of every machine: `python tests/journals/record.py`.

The real engine writes it. Its programs have the real machines, and activities that wait to be sent the next event, so
a flow can be left anywhere. Ids and times are fixed: recording the same version twice gives the same manifest.

A journal is recorded once for each release, and for a tree (by its date) before its tables or its schema change, and
never changed afterwards. `tests/engine/test_recorded_journals.py` opens
it with every later version. Until the release is out, `--again` replaces it.

What is in `tests/journals/<release>/`:

- `journal.db`: the SQLite file, with its write-ahead log folded in;
- `manifest.json`: for each flow what must be found in the file, its vault, the signals in its inbox, and the events
  that lead it from there to an end.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sqlite3
import sys
import tempfile
import typing
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
import trio.testing
from systemprompt_cloud import (
    CHECKOUT,
    DEPLOYMENT,
    LOGIN,
    ONBOARDING,
    PROVISIONING,
    CancelRequested,
    CloudPaths,
    Context,
    Engine,
    Event,
    Flow,
    Machine,
    Network,
    Program,
    Visit,
    __version__,
    open_engine,
)

# The only imports that are not public: they change when modules move.
from systemprompt_cloud.testing.paths import Path as Way
from systemprompt_cloud.testing.paths import covering_paths

HERE: Final = Path(__file__).parent
MACHINES: Final[tuple[Machine[Any], ...]] = (LOGIN, CHECKOUT, PROVISIONING, DEPLOYMENT, ONBOARDING)
BY_NAME: Final[dict[str, Machine[Any]]] = {machine.name: machine for machine in MACHINES}
BEGIN: Final = datetime(2026, 11, 30, 9, tzinfo=UTC)
DEAD_OWNER: Final = "0123456789abcdef:4242:ada.example"
"""In place of the process that recorded: its host and process id are not for publishing."""

IN_THE_VAULT: Final = frozenset({"nonce", "url", "token", "secrets"})
"""Fields of events that hold a reference to the vault, never the value."""

WORDS: Final = {
    "api_url": "https://api.example.com",
    "plan": "starter",
    "region": "iad",
    "image": "registry.example.com/ada:1",
    "path": "/home/ada/.systemprompt/cloud.json",
    "app_url": "https://ada.example.com",
    "at": "2026-11-30T09:00:00.000000Z",
    "user_email": "ada@example.com",
    "tenant_name": "Zoë & sons",
    "name": "Zoë & sons",
    "status": "ready",
}


class Ticking:
    """A clock that moves by a millisecond each time it is read; no deadline passes."""

    def __init__(self) -> None:
        self._moment = BEGIN

    def now(self) -> datetime:
        """The next millisecond."""
        self._moment += timedelta(milliseconds=1)
        return self._moment

    def elapsed(self) -> float:
        return 0.0

    async def sleep_until(self, moment: datetime) -> None:  # noqa: ARG002 it never comes
        """Wait for ever."""
        await trio.sleep_forever()


class Route(msgspec.Struct, frozen=True):
    """A path through a machine, with values as real flows have them.

    Attributes:
        machine: The table.
        context: What the flow is started with.
        events: What is sent to it, in order.
        states: The state before each event, and the end.
    """

    machine: Machine[Any]
    context: Context
    events: tuple[Event, ...]
    states: tuple[str, ...]

    def after(self, count: int) -> tuple[str, Context]:
        """State and context after so many of the events."""
        return followed(self.machine, self.states[0], self.context, self.events[:count])


def followed(machine: Machine[Any], state: str, context: Context, events: Sequence[Event]) -> tuple[str, Context]:
    """State and context after some events, by the table alone."""
    for event in events:
        step = machine.step(state, context, event)
        state, context = step.state, step.context
    return state, context


def routes(machine: Machine[Any]) -> list[Route]:
    """Paths that together take every row of the table.

    Raises:
        ValueError: Our values took another path than the one that was found.
    """
    found: list[Route] = []
    for way in covering_paths(machine):
        events = tuple(_worded(event, f"{number}") for number, event in enumerate(way.events, 1))
        route = Route(machine, _asked(way), events, (*(step.state for step in way.steps), way.end))
        if any(route.after(count)[0] != state for count, state in enumerate(route.states)):
            raise ValueError(f"{machine.name}: {way.id} goes elsewhere with other words")
        found.append(route)
    return found


def _asked(way: Way[Context]) -> Context:
    """The context a path begins with: required words filled in, numbers as they are by default."""
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(way.begins)):
        if field.required:
            changes[field.name] = WORDS.get(field.name, f"{field.name}-0")
        elif type(field.default) in (int, float):
            changes[field.name] = field.default
    return msgspec.structs.replace(way.begins, **changes)


def _worded(event: Event, number: str) -> Event:
    """The event with words in its texts; choices, numbers and flags stay, because guards look at them."""
    changes: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(type(event)).items():
        if kind is str:
            changes[name] = f"vault:{name}" if name in IN_THE_VAULT else WORDS.get(name, f"{name}-{number}")
        elif kind == tuple[str, ...]:
            changes[name] = (f"{name}-1", f"{name}-2")
    return msgspec.structs.replace(event, **changes)


class Left(msgspec.Struct, frozen=True):
    """A flow somewhere on its route.

    Attributes:
        flow: Its id.
        rest: The events that lead from there to an end.
    """

    flow: str
    rest: tuple[Event, ...]


class Recorder:
    """Leaves flows in a journal.

    Args:
        paths: Where the journal is made.
    """

    def __init__(self, paths: CloudPaths) -> None:
        self.paths = paths
        self.clock = Ticking()
        self.left: list[Left] = []
        self.inbox: dict[str, int] = {}
        self.children: dict[str, Context] = {}
        """By parent: the context of the child that its next state with a child runs."""
        self._stops: dict[str, trio.Event] = {}
        self.programs = {machine.name: self._program(machine) for machine in MACHINES}

    def _program(self, machine: Machine[Any]) -> Program[Any]:
        states = [state for state in machine.states.values() if not state.final]
        return Program(machine, {state.name: [self._activity(machine, state.name)] for state in states})

    def _activity(self, machine: Machine[Any], name: str) -> Any:
        state = machine.states[name]

        async def wait(visit: Visit[Any]) -> None:
            intent = None if state.effect is None else await visit.announce(name)
            if state.children and visit.flow in self.children:
                await visit.run_child(self.programs[state.children[0]], self.children[visit.flow])
                await trio.sleep_forever()
            await self._stops.setdefault(visit.flow, trio.Event()).wait()
            if intent is not None:
                visit.withdraw(intent)
            raise Network("https://api.example.com did not answer", hint="Check the connection.")

        return wait

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Engine]:
        """The engine; leaving the block leaves the flows where they are."""
        async with open_engine(self.paths, self.programs.values(), clock=self.clock, inline=True) as engine:
            yield engine

    # --- one flow ---------------------------------------------------------------------------------------------------

    async def start(self, engine: Engine, route: Route, count: int, key: str | None = None) -> str:
        """Start a flow and send it so many events of its route."""
        flow = await engine.start(route.machine, route.context, key=key)
        await self.lead(engine, flow.id, route, count)
        return flow.id

    async def lead(self, engine: Engine, flow: str, route: Route, count: int) -> None:
        """Send a flow so many events of its route, and note what is left."""
        for event in route.events[:count]:
            await trio.testing.wait_all_tasks_blocked()
            for name in event.__struct_fields__:
                if getattr(event, name) == f"vault:{name}":
                    engine.vault.put(flow, name, f"{name} of {route.machine.name}")
            await engine.send(flow, event)
        await trio.testing.wait_all_tasks_blocked()
        self.left.append(Left(flow, route.events[count:]))

    async def park(self, flow: str) -> None:
        """Stop a flow by an error in its activity."""
        self._stops.setdefault(flow, trio.Event()).set()
        await trio.testing.wait_all_tasks_blocked()

    # --- all of them ------------------------------------------------------------------------------------------------

    async def leave_everywhere(self, engine: Engine, machine: Machine[Any]) -> None:
        """Every route to its end; in every state a flow that runs and one that is parked."""
        found = routes(machine)
        for route in found:
            await self.start(engine, route, len(route.events))
        for name, state in machine.states.items():
            if state.final:
                continue
            here = [(route, count) for route in found for count, at in enumerate(route.states) if at == name]
            # The one left behind has seen everything that can happen there; the parked one has only arrived.
            route, count = max(here, key=lambda pair: pair[1])
            await self.start(engine, route, count, key=f"{name}, running")
            route, count = min(here, key=lambda pair: pair[1])
            await self.park(await self.start(engine, route, count, key=f"{name}, parked"))

    async def leave_children(self, engine: Engine) -> None:
        """Onboardings whose child is in every of its states, running and parked, or has ended."""
        found = routes(ONBOARDING)
        for name, state in ONBOARDING.states.items():
            if not state.children:
                continue
            (child_machine,) = state.children
            route = next(each for each in found if name in each.states)
            inner = routes(BY_NAME[child_machine])
            for child_name, child_state in BY_NAME[child_machine].states.items():
                child = next(each for each in inner if child_name in each.states)
                count = child.states.index(child_name)
                for parked in (False,) if child_state.final else (False, True):
                    machine: Machine[Any] = ONBOARDING
                    flow = await engine.start(machine, route.context)
                    for event in route.events[: route.states.index(name)]:
                        await trio.testing.wait_all_tasks_blocked()
                        if machine_state(engine, flow, event) == name:
                            self.children[flow.id] = child.context
                        await engine.send(flow.id, event)
                    await trio.testing.wait_all_tasks_blocked()
                    self.left.append(Left(flow.id, route.events[route.states.index(name) :]))
                    inside = f"{flow.id}.{child_machine}-{flow.row.incarnation}"
                    await self.lead(engine, inside, child, count)
                    if parked:
                        await self.park(inside)

    async def come_back(self, engine: Engine) -> None:
        """Another process: some flows are resumed and left again, some are sent signals while nobody drives them."""
        for machine in MACHINES:
            here = [
                each
                for each in self.left
                if engine.row(each.flow).machine == machine.name and each.rest and "." not in each.flow
            ]
            running = [
                each
                for each in here
                if engine.row(each.flow).status == "running" and not engine.journal.children(each.flow)
            ]
            parked = [each for each in here if engine.row(each.flow).status == "paused"]
            parked = [each for each in parked if not engine.journal.children(each.flow)]
            await engine.resume(running[0].flow)
            for each in (running[1], running[2], parked[0]):
                await engine.send(each.flow, each.rest[0])
                self.inbox[each.flow] = 1
            cancelled = parked[1]
            await engine.send(cancelled.flow, CancelRequested("not needed any more"))
            self.inbox[cancelled.flow] = 1
            self.left[self.left.index(cancelled)] = Left(cancelled.flow, (CancelRequested("not needed any more"),))
        await trio.testing.wait_all_tasks_blocked()

    def manifest(self, engine: Engine) -> dict[str, Any]:
        """What must be found in the journal."""
        flows = [self._entry(engine, each) for each in sorted(self.left, key=lambda each: each.flow)]
        return {"release": __version__, "now": self.clock.now().isoformat(), "flows": flows}

    def _entry(self, engine: Engine, left: Left) -> Mapping[str, Any]:
        row = engine.row(left.flow)
        machine = BY_NAME[row.machine]
        vault = self.paths.vault_directory / f"{row.id}.json"
        state, context = followed(machine, row.state, engine.context(row.id), left.rest)
        known = msgspec.json.decode(row.context)
        learned = {name: value for name, value in msgspec.to_builtins(context).items() if value != known[name]}
        return {
            "id": row.id,
            "machine": row.machine,
            "parent": row.parent,
            "key": row.key,
            "state": row.state,
            "status": row.status,
            "verdict": row.verdict,
            "owner": None if row.owner is None else DEAD_OWNER,
            "context": known,
            "history": [f"{change.kind} {change.event}" for change in engine.history(row.id)],
            "vault": vault.read_text() if vault.exists() else None,
            "inbox": self.inbox.get(row.id, 0),
            "rest": [msgspec.to_builtins(event) for event in left.rest],
            "end": state,
            "learned": msgspec.json.decode(msgspec.json.encode(learned)),
        }


def machine_state(engine: Engine, flow: Flow, event: Event) -> str:
    """Where an event leads a flow."""
    row = engine.row(flow.id)
    return BY_NAME[row.machine].step(row.state, engine.context(flow.id), event).state


async def record(paths: CloudPaths) -> dict[str, Any]:
    """Make a journal; returns its manifest."""
    # Ids end in random characters, and what is recorded should not differ each time.
    secrets.choice = random.Random(0).choice  # noqa: S311 no secret
    recorder = Recorder(paths)
    async with recorder.open() as engine:
        for machine in MACHINES:
            await recorder.leave_everywhere(engine, machine)
        await recorder.leave_children(engine)
    async with recorder.open() as engine:
        await recorder.come_back(engine)
        manifest = recorder.manifest(engine)
    with closing(sqlite3.connect(recorder.paths.journal, isolation_level=None)) as connection:
        connection.execute("UPDATE flows SET owner = ? WHERE owner IS NOT NULL", (DEAD_OWNER,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int | str:
    """The command line; returns the exit code, or why it did not work."""
    parser = argparse.ArgumentParser(prog="python tests/journals/record.py", description=__doc__)
    parser.add_argument("--again", action="store_true", help="replace what was recorded before")
    given = parser.parse_args(arguments)
    target = HERE / __version__
    if target.exists() and not given.again:
        return f"{target} is recorded already; the journal of a release never changes"
    with tempfile.TemporaryDirectory() as name:
        paths = CloudPaths(directory=Path(name), state_directory=Path(name), origin="explicit")
        manifest = trio.run(record, paths)
        target.mkdir(exist_ok=True)
        shutil.copyfile(paths.journal, target / "journal.db")
        text = "[\n" + ",\n".join(msgspec.json.encode(flow).decode() for flow in manifest["flows"]) + "\n]"
        head = f'{{"release": "{manifest["release"]}", "now": "{manifest["now"]}", "flows": '
        (target / "manifest.json").write_text(f"{head}{text}}}\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {len(manifest['flows'])} flows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
