"""What every release recorded can be gone on with by this one, wherever it stood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from systemprompt_cloud import __version__
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import Record
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration, PlainContext
from systemprompt_cloud.engine.machine.parts import Context, DeadlinePassed
from systemprompt_cloud.engine.recordings import RecordedFlow, Recording, check_recording, read_recordings
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.testing.clock import VirtualClock

from tests.support.recorder import STORIES

HISTORIES = Path(__file__).parents[1] / "histories"
RECORDINGS = {f"{each.release}-{each.story}": each for each in read_recordings(HISTORIES)}


def waiting(machine: Machine[Any]) -> Program[Any]:
    """A program that does nothing but wait to be told what happened."""
    return Program(machine, {name: [await_signal] for name, state in machine.states.items() if not state.final})


WAITING = [waiting(machine) for machine in MACHINES]
TABLES = {program.machine.name: program.machine for program in WAITING}


def changed(machine: Machine[Any], *migrations: Migration, rename: Mapping[str, str] | None = None) -> Machine[Any]:
    """The next version of a machine, perhaps with renamed states."""
    names = rename or {}
    return Machine(
        machine.name,
        version=machine.version + 1,
        initial=names.get(machine.initial, machine.initial),
        context=machine.context_type,
        states=[
            msgspec.structs.replace(state, name=names.get(state.name, state.name)) for state in machine.states.values()
        ],
        rows=[
            msgspec.structs.replace(
                row, source=names.get(row.source, row.source), to=None if row.to is None else names.get(row.to, row.to)
            )
            for row in machine.rows
        ],
        migrations=migrations,
    )


def test_todays_tables_are_recorded() -> None:
    """Every story, and nothing else, in the newest directory; until that release is out, it is recorded again."""
    newest = max((path.name for path in HISTORIES.iterdir()), key=lambda name: [int(part) for part in name.split(".")])
    assert {path.stem for path in (HISTORIES / newest).iterdir()} == set(STORIES)
    recorded = [each for each in RECORDINGS.values() if each.release == newest]
    assert {each.story for each in recorded} == set(STORIES)
    assert [flow.row.id for each in recorded for flow in each.flows if not by_today(flow)] == []


def by_today(flow: RecordedFlow) -> bool:
    """Whether a flow was recorded with today's table."""
    return TABLES[flow.row.machine].wrote(flow.row.version, flow.row.fingerprint)


def test_between_them_the_recordings_know_every_machine_and_every_kind_of_record() -> None:
    """All five machines, parked and resumed flows, announced effects, every end but running out of time."""
    flows = [flow for recording in RECORDINGS.values() for flow in recording.flows]
    assert {flow.row.machine for flow in flows} == set(TABLES)
    kinds = {moment.record.kind for flow in flows for moment in flow.moments}
    assert kinds >= {"started", "event", "intent", "paused", "resumed"}
    assert {flow.row.verdict for flow in flows} == {"success", "failure", "cancelled", None}


@pytest.mark.parametrize("path", sorted(HISTORIES.rglob("*.json")), ids=lambda path: path.stem)
def test_a_recording_holds_no_secret(path: Path) -> None:
    """No token, no nonce, no database URL, no directory of whoever recorded it."""
    text = path.read_text()
    assert not re.search(r"eyJ|postgres|state=|Bearer|/tmp/|/root", text)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_point_of_every_recording_can_be_taken_up(name: str, paths: CloudPaths) -> None:
    """Today's tables replay it to what was stored, or carry it over."""
    assert check_recording(RECORDINGS[name], all_programs(Services(paths))) == []


@pytest.mark.parametrize("name", RECORDINGS)
async def test_every_point_is_resumed_by_the_engine(name: str, paths: CloudPaths) -> None:
    """Set up in a journal as it stood after each record, resumed, told what was recorded next: the same end."""
    flows = RECORDINGS[name].flows
    points = [(flow, count) for flow in flows for count in range(1, len(flow.moments) + 1)]
    rests: dict[str, Sequence[Record]] = {}
    ends: dict[str, tuple[str, Context | None]] = {}
    with Journal(paths.journal) as journal:
        for flow, count in points:
            if flow.after(count).status == "ended":
                continue
            point = f"{flow.row.id}.{count}"
            row = msgspec.structs.replace(flow.after(count), id=point, key=None, parent=None)
            records = [msgspec.structs.replace(record, flow=point) for record in flow.records]
            machine = next(each for each in MACHINES if each.name == flow.row.machine)
            # What an older table wrote is carried over, and told nothing: its events are none of today's.
            today = by_today(flow)
            # That a deadline has passed only the engine says: a point is told what came before the next one.
            told = next(at for at in range(count, len(records) + 1) if at == len(records) or _is_deadline(records[at]))
            rests[point] = records[count:told] if today else []
            stands = {old: new for each in machine.migrations for old, new in each.states.items()}
            end = flow.after(told)
            state = end.state if today else stands.get(row.state, row.state)
            ends[point] = (state, uncoded(machine.decode_context(end.context)) if today else None)
            journal.write([lambda row=row, first=records[0]: journal.begin(row, first)])
            for record in records[1:count]:
                journal.write([lambda row=row, record=record: journal.advance(row, row, record)])
    clock = VirtualClock(min(parse_moment(flow.row.created) for flow in flows))
    async with open_engine(paths, WAITING, clock=clock) as engine:
        for point, rest in rests.items():
            await tell(engine, point, rest)
            state, wanted = ends[point]
            assert engine.row(point).state == state
            assert wanted is None or uncoded(engine.context(point)) == wanted


def _is_deadline(record: Record) -> bool:
    return record.kind == "event" and record.name == DeadlinePassed.__name__


def uncoded(context: Context) -> Context:
    """The same without the code of a problem: 0.1.0 knew none."""
    return msgspec.structs.replace(context, problem_code="")


async def tell(engine: Engine, flow: str, rest: Sequence[Record]) -> None:
    """Resume a flow and send it every event that is left."""
    live = await engine.resume(flow)
    machine = TABLES[live.row.machine]
    for record in rest:
        if record.kind == "event":
            await live.send(machine.decode_event(record.body))


# --- what it would say -----------------------------------------------------------------------------------------


def login() -> Recording:
    """A login that went well."""
    return RECORDINGS[f"{__version__}-login"]


def test_a_table_that_changed_without_a_migration_is_told() -> None:
    """For every point a flow could stand at: release, story, record, state, and what is missing."""
    problems = check_recording(login(), [waiting(changed(LOGIN))])
    (flow,) = login().flows
    assert len(problems) == len(flow.moments) - 1  # an ended flow needs none
    assert problems[0].startswith(f"{__version__} login: after record 1, in requesting_authorization: flow ")
    assert problems[0].endswith("and no migration leads from the one to the other")


def test_a_state_the_migration_forgot_is_told() -> None:
    """Only the points at which a flow would be stuck."""
    newer = changed(LOGIN, Migration(LOGIN.version), rename={"verifying_token": "checking_token"})
    problems = check_recording(login(), [waiting(newer)])
    assert problems
    assert all("is in the state verifying_token, which cannot be continued here" in problem for problem in problems)
    whole = changed(
        LOGIN,
        Migration(LOGIN.version, states={"verifying_token": "checking_token"}),
        rename={"verifying_token": "checking_token"},
    )
    assert check_recording(login(), [waiting(whole)]) == []


def test_a_migration_that_fails_somewhere_is_told() -> None:
    """A context is tried as it was after each record, not only as it was in the end."""

    def impatient(old: PlainContext) -> PlainContext:
        return {**old, "user_email": old["user_email"].split("@")[1] and old["user_email"]}

    problems = check_recording(login(), [waiting(changed(LOGIN, Migration(LOGIN.version, context=impatient)))])
    assert problems
    assert all("cannot take its context: IndexError" in problem for problem in problems)
    assert not any("saving_credentials" in problem for problem in problems)


def test_damage_is_told() -> None:
    """A recording whose records do not lead to its row is no recording."""
    (flow,) = login().flows
    damaged = msgspec.structs.replace(flow, row=msgspec.structs.replace(flow.row, state="denied"))
    recording = msgspec.structs.replace(login(), flows=(damaged,))
    assert any("the stored state is denied" in problem for problem in check_recording(recording, WAITING))


def test_an_unknown_machine_is_told() -> None:
    """A machine that was taken out leaves its flows behind."""
    problems = check_recording(login(), [])
    assert problems[0].endswith("the machine login is not known here")


def test_a_directory_without_recordings_is_named(tmp_path: Path) -> None:
    """So is a file that is none."""
    with pytest.raises(Io, match="no recorded histories in"):
        list(read_recordings(tmp_path))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(Io, match=r"other\.json is no recorded history"):
        list(read_recordings(tmp_path))
