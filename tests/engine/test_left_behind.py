"""A child flow never outlives what it was started for: what the model found by letting things happen at odd moments."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import UnexpectedFailure
from systemprompt_cloud.engine.feed import Feed
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from typing_extensions import override

from tests.support.journey import until
from tests.support.rows import flow_record


class Called(Event, frozen=True):
    """The child is wanted."""


class GrewUp(Event, frozen=True):
    """The parent goes on without its child."""


CHILD = Machine(
    "child",
    version=1,
    initial="playing",
    context=Context,
    states=[State("playing", "playing"), State("home", "home", verdict=Verdict.CANCELLED)],
    rows=[on(CancelRequested, ANY, "home")],
)
PARENT = Machine(
    "parent",
    version=1,
    initial="waiting",
    context=Context,
    states=[
        State("waiting", "waiting"),
        State("minding", "minding the child", child="child", effect="pays a sitter", resume=ResumePolicy.RETRY),
        State("resting", "resting", verdict=Verdict.SUCCESS),
    ],
    rows=[
        on(Called, "waiting", "minding"),
        on(GrewUp, "minding", "resting"),
        on(CancelRequested, ANY, "resting"),
    ],
)
PLAYING: Program[Any] = Program(CHILD, {"playing": [await_signal]})


async def mind(visit: Visit[Any]) -> None:
    await visit.run_child(PLAYING, Context())


MINDING: Program[Any] = Program(PARENT, {"waiting": [await_signal], "minding": [mind]})


class CopyingFeed(Feed):
    """Copies the directory when it hears of an event: what is there if the process dies at that instant."""

    def __init__(self, event: str, source: Path, target: Path) -> None:
        super().__init__()
        self._what = (event, source, target)

    @override
    def hears(self, flow: str) -> bool:
        return True

    @override
    def publish(self, change: Change) -> None:
        event, source, target = self._what
        if change.event == event:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))
        super().publish(change)


async def test_a_process_that_dies_between_the_ends_of_parent_and_child_leaves_no_child_behind(
    paths: CloudPaths, tmp_path: Path
) -> None:
    """The parent has ended, the child is still to be stopped: whoever opens the journal next stops it."""
    heir = tmp_path / "heir"
    async with open_engine(paths, [MINDING, PLAYING]) as engine:
        engine.feed = CopyingFeed("GrewUp", paths.directory, heir)
        flow = await engine.start(PARENT, Context())
        await flow.send(Called())
        await wait_for_children(engine, flow.id)
        await flow.send(GrewUp())
    copied = CloudPaths(directory=heir, state_directory=heir, origin="explicit")
    async with open_engine(copied, [MINDING, PLAYING]) as engine:
        (child,) = engine.journal.children(flow.id)
        await until(lambda: engine.row(child.id).status == "ended")
        assert (engine.row(flow.id).status, engine.row(child.id).state) == ("ended", "home")


async def test_a_child_whose_parent_has_ended_is_cancelled_instead_of_resumed(paths: CloudPaths) -> None:
    """A process died between the two ends while another was open, and somebody resumes the child there."""
    async with open_engine(paths, [MINDING, PLAYING]) as other:
        async with open_engine(paths, [MINDING, PLAYING]) as engine:
            flow = await engine.start(PARENT, Context())
            await flow.send(Called())
            await wait_for_children(engine, flow.id)
        row = other.row(flow.id)
        ended = msgspec.structs.replace(
            row, seq=row.seq + 1, state="resting", status="ended", verdict="success", owner=None
        )
        record = flow_record(row.id, ended.seq, name="GrewUp", to_state="resting", incarnation=ended.incarnation)
        other.journal.write([partial(other.journal.advance, row, ended, record)])
        (child,) = other.journal.children(flow.id)
        assert child.status == "running"
        resumed = await other.resume(child.id)
        assert (await resumed.wait()).state == "home"
        assert [change.kind for change in resumed.history] == ["started", "event"]


async def wait_for_children(engine: Engine, flow: str) -> None:
    with trio.fail_after(5):
        while not engine.journal.children(flow):
            await trio.lowlevel.checkpoint()


async def test_nothing_is_begun_in_a_visit_that_is_over(paths: CloudPaths, clock: VirtualClock) -> None:
    """Left before its activity took a step: no child is started and no effect announced, not even under a shield."""
    refused: list[str] = []

    async def hold_on(visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                with pytest.raises(UnexpectedFailure, match="minding was left; child is not begun any more"):
                    await visit.run_child(PLAYING, Context())
                with pytest.raises(UnexpectedFailure, match="minding was left; a sitter is not begun any more"):
                    await visit.announce("a sitter")
            refused.append(visit.state)

    program: Program[Any] = Program(PARENT, {"waiting": [await_signal], "minding": [hold_on]})
    async with open_engine(paths, [program, PLAYING], clock=clock, inline=True) as engine:
        flow = await engine.start(PARENT, Context())
        await flow.send(Called())
        await trio.testing.wait_all_tasks_blocked()
        await flow.send(GrewUp())
        await flow.wait()
        assert refused == ["minding"]
        assert engine.journal.children(flow.id) == []
        assert [change.kind for change in flow.history] == ["started", "event", "event"]
