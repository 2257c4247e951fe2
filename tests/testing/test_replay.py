"""Recorded histories are replayed against today's table, and resumed from each of their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.replay import (
    Recording,
    check_recording,
    clock_after,
    killed_after,
    read_recordings,
    record,
    save,
)
from trio.testing import MockClock


class Trip(Context, frozen=True, kw_only=True):
    """What is known."""

    miles: int = 0
    ticket: str = ""


class Moved(Event, frozen=True):
    """Progress."""


class Booked(Event, frozen=True):
    """A ticket, in the vault."""

    ticket: str


class Arrived(Event, frozen=True):
    """The end of a part."""


def _move(trip: Trip, _event: Moved) -> Trip:
    return msgspec.structs.replace(trip, miles=trip.miles + 1)


def _book(trip: Trip, event: Booked) -> Trip:
    return msgspec.structs.replace(trip, ticket=event.ticket)


def trip(*, goes_by: str = "driving") -> Machine[Trip]:
    """A trip; a table of a later version has another state on the way."""
    return Machine(
        "trip",
        version=1,
        initial="booking",
        context=Trip,
        states=[
            State("booking", "being booked", effect="books a seat", resume=ResumePolicy.RETRY),
            State(goes_by, "on the way"),
            State("walking", "the last part", child="walk"),
            State("there", "arrived", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Booked, "booking", goes_by, update=_book),
            on(Moved, goes_by, STAY, update=_move),
            on(Arrived, goes_by, "walking"),
            on(Arrived, "walking", "there"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


TRIP = trip()
WALK: Machine[Context] = Machine(
    "walk",
    version=1,
    initial="walking",
    context=Context,
    states=[
        State("walking", "on foot"),
        State("there", "arrived", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Arrived, "walking", "there"), on(CancelRequested, ANY, "cancelled")],
)


class Traveller:
    """The activities, and what they did.

    Attributes:
        booked: Whether each booking was uncertain.
    """

    def __init__(self) -> None:
        self.booked: list[bool] = []

    async def book(self, visit: Visit[Trip]) -> Event:
        """An effect, and a secret."""
        self.booked.append((await visit.announce("seat")).uncertain)
        return Booked(await visit.keep("ticket", "seat 12"))

    async def drive(self, visit: Visit[Trip]) -> Event:
        """Three miles, wherever it begins."""
        assert await visit.reveal(visit.context.ticket) == "seat 12"
        while visit.context.miles < 3:
            await visit.send(Moved())
        return Arrived()

    async def walk(self, visit: Visit[Trip]) -> Event:
        """A child."""
        assert (await visit.run_child(self.programs()[1], Context())).succeeded
        return Arrived()

    async def step(self, _visit: Visit[Context]) -> Event:
        """The child's way."""
        return Arrived()

    def programs(self) -> list[Program[Any]]:
        """Both machines."""
        walk = Program(WALK, {"walking": [self.step]})
        return [Program(TRIP, {"booking": [self.book], "driving": [self.drive], "walking": [self.walk]}), walk]


async def travelled(directory: Path) -> Recording:
    """One trip, recorded."""
    programs = Traveller().programs()
    paths = EnginePaths.inside(directory)
    async with open_engine(paths, programs, clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(TRIP, Trip())
        assert (await flow.wait()).succeeded
        return record(engine.journal, programs, flow.id, story="There.")


async def test_a_flow_goes_on_after_each_of_its_records(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The process dies right after it, and the user's own activities take the flow to its end."""
    recording = await travelled(tmp_path / "recorded")
    outer = recording.flows[0]
    assert [flow.row.machine for flow in recording.flows] == ["trip", "walk"]
    counts = range(1, len(outer.moments))
    assert len(counts) > 6
    for count in counts:
        traveller, paths = Traveller(), EnginePaths.inside(tmp_path / f"{count}")
        programs = traveller.programs()
        secrets = {"ticket": "seat 12"} if count > 1 else {}
        flow = killed_after(recording, count, paths, secrets=secrets)
        clock = clock_after(recording, count)
        async with open_engine(paths, programs, clock=clock, inline=True) as engine:
            assert engine.row(flow).state == outer.moments[count - 1].record.to_state
            assert engine.journal.records(flow) == outer.records[:count]
            resumed = await engine.resume(flow)
            assert (await resumed.wait()).succeeded
            assert engine.context(flow) == Trip(miles=3, ticket="vault:ticket")
            assert traveller.booked == ([False] if count == 1 else [True] if count == 2 else [])
            assert audit_journal(engine.journal, programs) == []


async def test_a_saved_recording_is_checked_against_a_later_table(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Today's takes it; one that goes another way without a migration is found."""
    recording = await travelled(tmp_path / "recorded")
    (tmp_path / "histories").mkdir()
    save(recording, tmp_path / "histories" / "trip.json")
    (found,) = read_recordings(tmp_path / "histories")
    assert found == recording
    assert check_recording(found, Traveller().programs()) == []
    later = Program(trip(goes_by="flying"), {name: [Traveller().step] for name in ("booking", "flying", "walking")})
    problems = check_recording(found, [later, Traveller().programs()[1]])
    assert any("after record" in problem for problem in problems)


async def test_what_cannot_be_recorded_or_killed_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    """By name."""
    recording = await travelled(tmp_path / "recorded")
    for count in (0, 100):
        with pytest.raises(ValueError, match=f"not {count}"):
            killed_after(recording, count, EnginePaths.inside(tmp_path / "new"))
    with pytest.raises(ValueError, match="exists already"):
        killed_after(recording, 1, EnginePaths.inside(tmp_path / "recorded"))
    programs = Traveller().programs()
    async with open_engine(EnginePaths.inside(tmp_path / "recorded"), programs, inline=True) as engine:
        with pytest.raises(LookupError, match="no program is given for walk"):
            record(engine.journal, programs[:1], recording.flows[0].row.id)
