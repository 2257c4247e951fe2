"""A journal that a release wrote is opened by this version, and every flow in it goes on where it was left.

Where a table has a newer version since, its flows are carried over, and what is checked is that they stand where the
migration says, with what they knew, and can be ended.

The journals are made by `tests/journals/record.py`: flows in every state of every machine, running and paused, and
flows that have ended in every way. The manifest beside each says what is in it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from msgspec import structs
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
    Intent,
    Machine,
    Program,
    Visit,
    open_engine,
)

# The only import that is not public: it changes when modules move.
from systemprompt_cloud.engine.fold import check_flow

JOURNALS = Path(__file__).parents[1] / "journals"
RELEASES = sorted(path.name for path in JOURNALS.iterdir() if (path / "journal.db").exists())
MACHINES: dict[str, Machine[Any]] = {
    machine.name: machine for machine in (LOGIN, CHECKOUT, PROVISIONING, DEPLOYMENT, ONBOARDING)
}


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flow as it was left.

    Attributes:
        history: Kind and name of every record.
        vault: The text of its file in the vault, if it has one.
        inbox: How many signals are in its inbox.
        rest: Events that lead from here to an end, those in the inbox first.
        end: That end.
        learned: What the context has there that it has not now.
    """

    id: str
    machine: str
    parent: str | None
    key: str | None
    state: str
    status: str
    verdict: str | None
    owner: str | None
    context: dict[str, Any]
    history: tuple[str, ...]
    vault: str | None
    inbox: int
    rest: tuple[dict[str, Any], ...]
    end: str
    learned: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in a journal."""

    release: str
    now: datetime
    flows: tuple[Recorded, ...]

    @property
    def unfinished(self) -> list[Recorded]:
        """The flows that can go on, children before the flows that run them."""
        return sorted((flow for flow in self.flows if flow.status != "ended"), key=lambda flow: flow.parent is None)


def read_manifest(release: str) -> Manifest:
    """What was in a journal, in today's words: a paused flow was called parked."""
    manifest = msgspec.json.decode((JOURNALS / release / "manifest.json").read_bytes(), type=Manifest)
    return structs.replace(
        manifest,
        flows=tuple(
            structs.replace(
                flow,
                status="paused" if flow.status == "parked" else flow.status,
                history=tuple(
                    f"paused {each.removeprefix('parked ')}" if each.startswith("parked ") else each
                    for each in flow.history
                ),
            )
            for flow in manifest.flows
        ),
    )


MANIFESTS = {release: read_manifest(release) for release in RELEASES}


def carried(flow: Recorded) -> bool:
    """Whether the flow has to be carried over to a newer version of its table."""
    return flow.status != "ended" and MACHINES[flow.machine].version > 1


def state_now(flow: Recorded) -> str:
    """The state a flow is in, in today's terms."""
    states = {old: new for each in MACHINES[flow.machine].migrations for old, new in each.states.items()}
    return states.get(flow.state, flow.state) if carried(flow) else flow.state


def same_table(machine: str) -> bool:
    """Whether the release had today's table."""
    return MACHINES[machine].version == 1


class Still:
    """A clock that has stopped; no deadline passes."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        """Always the same moment."""
        return self._moment

    def elapsed(self) -> float:
        return 0.0

    async def sleep_until(self, moment: datetime) -> None:  # noqa: ARG002 it never comes
        """Wait for ever."""
        await trio.sleep_forever()


class Journal:
    """A copy of a recorded journal, and the programs to open it with.

    Attributes:
        manifest: What is in it.
        paths: Where the copy is.
        intents: By flow, the effect announced by the first visit after it was resumed.
        revealed: By flow and reference, the secrets its context refers to.
    """

    def __init__(self, release: str, directory: Path) -> None:
        self.manifest = MANIFESTS[release]
        self.paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
        self.intents: dict[str, Intent] = {}
        self.revealed: dict[tuple[str, str], str] = {}
        self._flows = {flow.id: flow for flow in self.manifest.flows}
        self.programs = {name: self._program(machine) for name, machine in MACHINES.items()}
        directory.mkdir(mode=0o700)
        shutil.copyfile(JOURNALS / release / "journal.db", self.paths.journal)
        self.paths.journal.chmod(0o600)
        self.paths.vault_directory.mkdir(mode=0o700)
        for flow in self.manifest.flows:
            if flow.vault is not None:
                file = self.paths.vault_directory / f"{flow.id}.json"
                file.touch(0o600)
                file.write_text(flow.vault)

    def _started(self, flow: Recorded) -> Context:
        with closing(sqlite3.connect(self.paths.journal)) as plain:
            (body,) = plain.execute("SELECT body FROM events WHERE flow = ? AND seq = 1", (flow.id,)).fetchone()
        return MACHINES[flow.machine].decode_context(body)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Engine]:
        """An engine on the copy."""
        with trio.fail_after(60):
            clock = Still(self.manifest.now)
            async with open_engine(self.paths, self.programs.values(), clock=clock, inline=True) as engine:
                yield engine

    def problems(self, engine: Engine) -> list[str]:
        """What the check finds in the whole journal."""
        journal = engine.journal
        rows = [engine.row(flow) for flow in journal.begun()]
        found = [problem for row in rows for problem in check_flow(journal, self.programs.values(), row)]
        return journal.integrity_problems() + found

    def _program(self, machine: Machine[Any]) -> Program[Any]:
        return Program(machine, {name: [self._wait] for name, state in machine.states.items() if not state.final})

    async def _wait(self, visit: Visit[Any]) -> None:
        if visit.resumed:
            flow = self._flows[visit.flow]
            state = MACHINES[flow.machine].states[visit.state]
            for value in flow.context.values():
                if str(value).startswith("vault:"):
                    self.revealed[flow.id, value] = await visit.reveal(value)
            if state.effect is not None:
                self.intents[flow.id] = await visit.announce(visit.state)
            # An onboarding that was stopped by its own error has started no child.
            inside = self._flows.get(f"{visit.flow}.{state.child}-{visit.incarnation}")
            if inside is not None:
                # A child is found again with the context it was started with, and with no other.
                await visit.run_child(self.programs[inside.machine], self._started(inside))
        await trio.sleep_forever()


@pytest.fixture(params=RELEASES)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """A copy of each recorded journal."""
    return Journal(request.param, tmp_path / ".systemprompt")


@pytest.mark.parametrize("release", RELEASES)
def test_every_state_of_every_machine_is_recorded(release: str) -> None:
    """A running and a paused flow in every state that is not final, a flow that has ended in every one that is."""
    flows = MANIFESTS[release].flows
    wanted = {
        (machine.name, name, status)
        for machine in MACHINES.values()
        if same_table(machine.name)
        for name, state in machine.states.items()
        for status in (("ended",) if state.final else ("running", "paused"))
    }
    assert {(flow.machine, flow.state, flow.status) for flow in flows if same_table(flow.machine)} == wanted


@pytest.mark.parametrize("release", RELEASES)
def test_every_child_is_recorded_in_its_parent(release: str) -> None:
    """An onboarding whose child runs, is paused, or has just ended, for each of its children."""
    flows = {flow.id: flow for flow in MANIFESTS[release].flows}
    wanted = {
        (state.name, state.child, status)
        for state in ONBOARDING.states.values()
        if state.child is not None
        for status in ("ended", "running", "paused")
    }
    families = [(flows[flow.parent], flow) for flow in flows.values() if flow.parent is not None]
    assert {(parent.state, child.machine, child.status) for parent, child in families} == wanted
    assert all(parent.status == ("paused" if child.status == "paused" else "running") for parent, child in families)


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_of_every_table_is_in_a_recorded_history(release: str) -> None:
    """Each event of each machine was taken at least once, and the other kinds of records are there too."""
    flows = MANIFESTS[release].flows
    seen = {(flow.machine, *record.split(" ")) for flow in flows for record in flow.history}
    current = {name: machine for name, machine in MACHINES.items() if same_table(name)}
    assert {(name, "event", event) for name, machine in current.items() for event in machine.events} <= seen
    assert {kind for _, kind, _ in seen} == {"started", "event", "intent", "paused", "resumed"}
    assert any(flow.owner for flow in flows), "left behind by a process that is dead"
    assert {flow.inbox for flow in flows} == {0, 1}


async def test_the_journal_is_read_as_it_was_written(recorded: Journal) -> None:
    """State, status, context and history of every flow are as recorded, and the check finds no difference."""
    async with recorded.open() as engine:
        assert sorted(engine.journal.begun()) == sorted(flow.id for flow in recorded.manifest.flows)
        for flow in recorded.manifest.flows:
            row = engine.row(flow.id)
            found = (row.machine, row.parent, row.key, row.state, row.status, row.verdict, row.owner)
            assert found == (flow.machine, flow.parent, flow.key, flow.state, flow.status, flow.verdict, flow.owner)
            assert msgspec.json.decode(row.context) == flow.context
            if not carried(flow):
                assert engine.context(flow.id) == MACHINES[flow.machine].decode_context(row.context)
            assert tuple(f"{each.kind} {each.event}" for each in engine.history(flow.id)) == flow.history
            assert len(engine.journal.signals(flow=flow.id)) == flow.inbox
            assert MACHINES[flow.machine].wrote(row.version, row.fingerprint) == same_table(flow.machine)
        assert recorded.problems(engine) == []


async def test_every_flow_is_resumed_and_led_to_an_end(recorded: Journal, autojump_clock: trio.abc.Clock) -> None:
    """Signals are taken, secrets and announced effects are found, children go on, and the table leads to the end."""
    async with recorded.open() as engine:
        for flow in recorded.manifest.unfinished:
            machine = MACHINES[flow.machine]
            if flow.key is not None:
                same = await engine.start(machine, engine.context(flow.id), key=flow.key)
                assert same.id == flow.id
            elif flow.parent is None:
                await engine.resume(flow.id)
        await trio.sleep(1)  # the inbox is looked into ten times a second
        for flow in recorded.manifest.unfinished:
            machine = MACHINES[flow.machine]
            if carried(flow):  # an event in its inbox may be none of its new table's
                await assert_carried_over(engine, flow)
                continue
            assert engine.journal.signals(flow=flow.id) == []
            for event in flow.rest[flow.inbox :]:
                assert await engine.send(flow.id, machine.decode_event(msgspec.json.encode(event)))
            # The parent goes on only when it has seen the end of its child.
            await trio.testing.wait_all_tasks_blocked()
            outcome = await engine.wait(flow.id)
            assert (outcome.state, engine.row(flow.id).state) == (flow.end, flow.end)
            learned = msgspec.json.encode({**flow.context, **flow.learned})
            known, expected = (  # with the fields that contexts have got since
                msgspec.to_builtins(machine.decode_context(each)) for each in (engine.row(flow.id).context, learned)
            )
            for each in (known, expected):
                each.pop("problem_code", None)  # 0.1.0 knew no codes
            assert known == expected
            history = [f"{each.kind} {each.event}" for each in engine.history(flow.id)]
            assert tuple(history[: len(flow.history)]) == flow.history
            assert history[len(flow.history)] == "resumed resumed"
        assert recorded.problems(engine) == []
        assert len(engine.journal.begun()) == len(recorded.manifest.flows), "no child was started a second time"
    assert_effects_and_secrets(recorded)
    assert list(recorded.paths.vault_directory.iterdir()) == [], "the secrets of a flow go when it ends"


async def assert_carried_over(engine: Engine, flow: Recorded) -> None:
    """The flow is in today's table, where the migration says, with what it knew; then it is ended."""
    row, history = engine.row(flow.id), engine.history(flow.id)
    machine = MACHINES[flow.machine]
    assert machine.wrote(row.version, row.fingerprint)
    (migrated,) = [each for each in history if each.kind == "migrated"]
    assert (migrated.from_state, migrated.to_state) == (flow.state, state_now(flow))
    if flow.inbox == 0:
        assert row.state == state_now(flow)
        known = msgspec.json.decode(msgspec.json.encode(engine.context(flow.id)))
        same = {name: value for name, value in flow.context.items() if name in known and name not in RENAMED}
        assert {name: known[name] for name in same} == same
    if row.status != "ended":
        await engine.cancel(flow.id, "enough")
    await trio.testing.wait_all_tasks_blocked()
    assert engine.row(flow.id).status == "ended"


RENAMED = frozenset({"tenant_id"})
"""What a checkout called the tenant was what the browser had named; it is known under another name now."""


def assert_effects_and_secrets(recorded: Journal) -> None:
    """What the resumed visits found is what was recorded; where an event waited, it was taken before any visit."""
    for flow in (each for each in recorded.manifest.unfinished if not each.inbox):
        effect = MACHINES[flow.machine].states[state_now(flow)].effect is not None
        assert (flow.id in recorded.intents) == effect
        if effect:
            intent = recorded.intents[flow.id]
            announced = [record.removeprefix("intent ") for record in flow.history if record.startswith("intent ")]
            # Where it was paused, the error proved that nothing had happened: the announcement was withdrawn.
            assert (intent.key, intent.uncertain) == (announced[-1], flow.status == "running")
        secrets = {} if flow.vault is None else msgspec.json.decode(flow.vault, type=dict[str, str])
        wanted = {value for value in flow.context.values() if str(value).startswith("vault:")}
        found = {reference: secret for (owner, reference), secret in recorded.revealed.items() if owner == flow.id}
        assert found == {value: secrets[value.removeprefix("vault:")] for value in wanted}


async def test_every_flow_can_be_cancelled(recorded: Journal, autojump_clock: trio.abc.Clock) -> None:
    """Where it was left, without being resumed; its children end first."""
    async with recorded.open() as engine:
        for flow in recorded.manifest.unfinished:
            machine = MACHINES[flow.machine]
            context = engine.context(flow.id)
            expected = machine.step(state_now(flow), context, CancelRequested("not needed")).state
            assert await engine.cancel(flow.id, "not needed")
            assert (engine.row(flow.id).state, engine.row(flow.id).status) == (expected, "ended")
        assert recorded.problems(engine) == []
    assert list(recorded.paths.vault_directory.iterdir()) == []
