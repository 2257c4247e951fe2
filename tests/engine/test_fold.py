"""The row in `flows` is only a cache: replaying the events gives it again, whatever a flow went through."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowParked, JournalCorrupted
from systemprompt_cloud.engine.fold import Folded, check_flow, check_records, fold
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import Record
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.length import by_length
from tests.support.rows import BEGAN, flow_record, flow_row


class Walk(Context, frozen=True, kw_only=True):
    """How far one walked."""

    steps: tuple[str, ...] = ()


class Stepped(Event, frozen=True):
    """Progress, remembered."""

    how: str


class Turned(Event, frozen=True):
    """On to the other side."""


class Tired(Event, frozen=True):
    """Parks the walk."""


def step(context: Walk, event: Stepped) -> Walk:
    return msgspec.structs.replace(context, steps=(*context.steps, event.how))


def stop(context: Walk, event: CancelRequested) -> Walk:
    return msgspec.structs.replace(context, problem=event.reason)


WALK = Machine(
    "walk",
    version=1,
    initial="left",
    context=Walk,
    states=[
        State("left", "on the left", timeout=50.0, effect="leaves traces", resume=ResumePolicy.ASK),
        State("right", "on the right", timeout=20.0, late="continue"),
        State("home", "home", verdict=Verdict.SUCCESS),
        State("lost", "given up", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Stepped, ANY, STAY, update=step),
        on(Turned, "left", "right"),
        on(Turned, "right", "left"),
        on(DeadlinePassed, "left", "right"),
        on(DeadlinePassed, "right", "home"),
        on(CancelRequested, ANY, "lost", update=stop),
    ],
)


WALK_AWAY = [row for row in WALK.rows if row.event is not Stepped and row.event is not CancelRequested] + [
    on(CancelRequested, ANY, "lost")
]
"""The rows that change no context."""


class Legs:
    """What walks: announces on the left, and fails when it is told to."""

    def __init__(self) -> None:
        self.tired = trio.Event()

    async def left(self, visit: Visit[Any]) -> None:
        """Leave a trace, then wait."""
        await visit.announce("trace")
        await self.right(visit)

    async def right(self, _visit: Visit[Any]) -> None:
        """Wait until it is too much."""
        await self.tired.wait()
        self.tired = trio.Event()
        raise Network("too far")

    def program(self) -> Program[Walk]:
        """The walk on these legs."""
        return Program(WALK, {"left": [self.left], "right": [self.right]})


actions = st.lists(
    st.one_of(
        st.builds(Stepped, st.text(max_size=5)),
        st.just(Turned()),
        st.sampled_from(["wait", "park", "crash", "repeat", "cancel"]),
    ),
    max_size=12,
)


async def walk(paths: CloudPaths, story: Sequence[Event | str], clock: VirtualClock) -> None:
    """Live through a story, checking the stored row against the fold after every chapter."""
    legs = Legs()
    program, left = legs.program(), list(story)
    while True:
        async with open_engine(paths, [program], clock=clock, inline=True) as engine:
            known = engine.journal.flows()
            wanted = bool(left) and left[0] == "repeat"
            # Only where something waits for a person's decision can it be repeated.
            repeat = wanted and bool(known) and bool(engine.journal.intents(known[0].id, known[0].incarnation))
            flow = await (engine.resume(known[0].id, repeat=repeat) if known else engine.start(WALK, Walk()))
            if wanted:
                left.pop(0)
            while left:
                action = left.pop(0)
                await trio.testing.wait_all_tasks_blocked()
                if flow.row.status != "running" or action in ("crash", "repeat"):
                    break
                match action:
                    case "wait":
                        await trio.sleep(15)
                    case "park":
                        legs.tired.set()
                        with pytest.raises(FlowParked):
                            await flow.wait()
                    case "cancel":
                        await flow.cancel("enough")
                    case Event():
                        await flow.send(action)
                    case _:
                        raise AssertionError(action)
                assert check_flow(engine.journal, [program], engine.journal.flows()[0]) == []
        with Journal(paths.journal) as journal:
            (row,) = journal.flows()
            assert check_flow(journal, [program], row) == []
            folded = fold(WALK, journal.records(row.id))
            assert (folded.state, folded.status, folded.seq) == (row.state, row.status, row.seq)
            if not left or row.status == "ended":
                return


@settings(max_examples=by_length(25, 400), deadline=None)
@given(actions)
def test_replaying_the_events_gives_the_stored_row(
    tmp_path_factory: pytest.TempPathFactory, story: list[Event | str]
) -> None:
    """Progress, transitions, deadlines, parking, crashes, repeated effects, cancelling: in any order."""
    directory = tmp_path_factory.mktemp("walk") / ".systemprompt"
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    trio.run(walk, paths, story, VirtualClock(), clock=MockClock(autojump_threshold=0.001))


# --- what is wrong is told -----------------------------------------------------------------------------


@pytest.fixture
async def walked(paths: CloudPaths) -> CloudPaths:
    """A journal with one walk that is not over."""
    async with open_engine(paths, [Legs().program()]) as engine:
        flow = await engine.start(WALK, Walk())
        async with aclosing(flow.changes()) as changes:
            async for change in changes:
                if change.kind == "intent":
                    break
        await flow.send(Stepped("one"))
        await flow.send(Turned())
        await flow.send(Stepped("two"))
        with pytest.raises(EventNotAccepted):
            await flow.send(Tired())
    return paths


def problems(paths: CloudPaths, sql: str, program: Program[Any] | None = None) -> list[str]:
    """What `check_flow` says after somebody changed the file by hand."""
    with closing(sqlite3.connect(paths.journal)) as plain:
        plain.execute(sql)
        plain.commit()
    with Journal(paths.journal) as journal:
        (row,) = journal.flows()
        found = check_flow(journal, [] if program is None else [program], row)
        assert all(problem.startswith(f"flow {row.id}: ") for problem in found)
        return [problem.removeprefix(f"flow {row.id}: ") for problem in found]


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE flows SET state = 'left'", "the stored state is left; by its records it is right"),
        ("UPDATE flows SET incarnation = 9", "the stored visit is 9; by its records it is 2"),
        ("UPDATE flows SET status = 'paused'", "the stored status is paused; by its records it is running"),
        ("UPDATE flows SET verdict = 'success'", "the stored verdict is success; by its records it is None"),
        ("UPDATE flows SET deadline = NULL", "the stored deadline is None; by its records it is "),
        ("UPDATE flows SET trouble = '{}'", "the stored trouble is {}; by its records it is None"),
        (
            """UPDATE flows SET context = '{"steps":["one"]}'""",
            "the stored context differs from its records: steps",
        ),
        ("UPDATE flows SET context = '[]'", "the stored context cannot be read: "),
        ("UPDATE flows SET seq = 6", "the stored last record is 6; by its records it is "),
        ("DELETE FROM events WHERE name = 'Turned'", "record 5 (Stepped): it follows record 3"),
        ("DELETE FROM events WHERE seq = 1", "the history does not begin with its start"),
        ("DELETE FROM events", "there is not one record"),
        ("UPDATE events SET body = 'x' WHERE seq = 1", "record 1 (started): its context cannot be read"),
        ("UPDATE events SET body = '{}' WHERE name = 'Turned'", "record 4 (Turned): it cannot be read: "),
        (
            """UPDATE events SET body = '{"event":"DeadlinePassed"}' WHERE name = 'Stepped'""",
            "record 3 (Stepped): it leads from left to left, visit 1; by the table it leads from left to right",
        ),
        ("""UPDATE events SET "to" = 'home' WHERE name = 'Turned'""", "record 4 (Turned): it leads from left to home"),
        ("UPDATE events SET deadline = NULL WHERE seq = 3", "record 3 (Stepped): it moves the deadline from "),
        ("UPDATE events SET kind = 'started' WHERE seq = 3", "record 3 (Stepped): a flow starts only once"),
    ],
)
async def test_every_difference_is_told_in_words(walked: CloudPaths, sql: str, problem: str) -> None:
    """Which record, or which part of the row, and what it should be."""
    assert problem in problems(walked, sql, Legs().program())[0]


@pytest.mark.parametrize("raised", [KeyError("total"), SystemExit("total"), RecursionError("total")], ids=repr)
async def test_a_table_that_raises_now_is_a_problem_of_its_flow(walked: CloudPaths, raised: BaseException) -> None:
    """The check goes on with the next flow; the record is named, and what was raised."""

    def broken(_context: Walk, _event: Stepped) -> Walk:
        raise raised

    rows = [msgspec.structs.replace(row, update=broken) if row.event is Stepped else row for row in WALK.rows]
    table = Machine("walk", version=1, initial="left", context=Walk, states=[*WALK.states.values()], rows=rows)
    program = Program(table, {"left": [Legs().left], "right": [Legs().right]})
    assert problems(walked, "SELECT 1", program) == [
        f"record 3 (Stepped): its table raised {type(raised).__name__}: {raised}"
    ]


class Point(msgspec.Struct, frozen=True, eq=False):
    """What `==` says nothing about."""

    x: int = 1


class Mapped(Context, frozen=True, kw_only=True):
    """A context with one."""

    point: Point = Point()


@pytest.mark.parametrize("x", [1, 2])
def test_values_that_compare_with_nothing_are_compared_by_what_is_in_them(x: int) -> None:
    """Equal ones are no difference, others are."""
    states = [*WALK.states.values()]
    table = Machine("map", version=1, initial="left", context=Mapped, states=states, rows=WALK_AWAY)
    deadline = BEGAN.replace("00:00:00", "00:00:50")
    row = flow_row(
        "f", machine="map", fingerprint=table.fingerprint, state="left", deadline=deadline,
        context=f'{{"point":{{"x":{x}}}}}',
    )  # fmt: skip
    start = flow_record("f", from_state="left", to_state="left", deadline=deadline)
    told = check_records(table, row, [start])
    assert told == ([] if x == 1 else ["flow f: the stored context differs from its records: point"])


async def test_a_whole_journal_has_no_problems(walked: CloudPaths) -> None:
    """Nothing is told when nothing is wrong, with the machine known or not."""
    assert problems(walked, "SELECT 1", Legs().program()) == []
    assert problems(walked, "SELECT 1") == []


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE flows SET state = 'left'", "the stored state is left; by its records it is right"),
        ("DELETE FROM events WHERE seq = 3", "records are missing: there are 4 of 5"),
        (
            """UPDATE events SET "from" = 'home' WHERE seq = 5""",
            "record 5 (Stepped) continues from home; the one before led to right",
        ),
    ],
)
async def test_a_flow_of_an_unknown_machine_is_checked_without_it(walked: CloudPaths, sql: str, problem: str) -> None:
    """That its records are complete and lead where it stands can be seen without the table."""
    assert problems(walked, sql) == [problem]


async def test_records_written_meanwhile_are_left_out(walked: CloudPaths) -> None:
    """A flow may run on in another process while it is checked."""
    with Journal(walked.journal) as journal:
        (row,) = journal.flows()
        older = msgspec.structs.replace(
            row, seq=1, state="left", incarnation=1, context="{}", updated=journal.records(row.id)[0].at
        )
        older = msgspec.structs.replace(older, deadline=journal.records(row.id)[0].deadline)
        assert check_flow(journal, [Legs().program()], older) == []


def test_a_history_after_the_end_is_no_history() -> None:
    """Nothing follows a final state."""
    start = Record(
        flow="f",
        seq=1,
        at="",
        kind="started",
        name="started",
        body="{}",
        from_state="left",
        to_state="left",
        incarnation=1,
        deadline=None,
    )
    end = msgspec.structs.replace(
        start,
        seq=2,
        kind="event",
        name="CancelRequested",
        body='{"event":"CancelRequested","reason":"r"}',
        to_state="lost",
        incarnation=2,
    )
    after = msgspec.structs.replace(start, seq=3, kind="resumed", from_state="lost", to_state="lost", incarnation=2)
    assert fold(WALK, [start, end]) == Folded(
        state="lost", context=Walk(problem="r"), incarnation=2, seq=2, deadline=None, status="ended"
    )
    with pytest.raises(JournalCorrupted, match="the flow had ended in lost"):
        fold(WALK, [start, end, after])
    with pytest.raises(JournalCorrupted, match="it starts in right, not in left"):
        fold(WALK, [msgspec.structs.replace(start, to_state="right")])
