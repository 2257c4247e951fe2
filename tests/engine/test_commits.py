"""Group commit: everybody's write is on disk before they go on, and nobody pays for somebody else's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.engine.errors import FlowBusy, FlowExists
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.engine.journal.journal import Journal
from typing_extensions import override

from tests.support.rows import flow_record, flow_row


class Counted(Journal):
    """A journal that counts its transactions."""

    groups: list[int]

    @override
    def write(self, operations: Sequence[Callable[[], object]], *, patience: float | None = None) -> None:
        """Note how many operations came together."""
        self.groups.append(len(operations))
        super().write(operations, patience=patience)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Counted]:
    """A new journal."""
    with Counted(tmp_path / "state" / "journal.sqlite3") as journal:
        journal.groups = []
        yield journal


def begin(journal: Journal, flow: str) -> Callable[[], None]:
    """The write of a new flow."""
    return partial(journal.begin, flow_row(flow), flow_record(flow))


def ids(journal: Journal) -> set[str]:
    """Which flows another process would find."""
    with sqlite3.connect(journal.path) as connection:
        found = {id_ for (id_,) in connection.execute("SELECT id FROM flows")}
    connection.close()
    return found


@pytest.mark.parametrize("inline", [False, True])
async def test_a_write_is_on_disk_when_it_returns(journal: Counted, inline: bool) -> None:
    """Another connection finds it."""
    await Commits(journal, inline=inline).write(begin(journal, "one"))
    assert ids(journal) == {"one"}


async def test_writes_that_wait_share_a_transaction(journal: Counted) -> None:
    """A hundred writers cost a few commits, and every one of them is on disk before its writer goes on."""
    commits = Commits(journal)
    missing: list[str] = []

    async def write(flow: str) -> None:
        await commits.write(begin(journal, flow))
        if journal.flow(flow) is None:
            missing.append(flow)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(write, f"f{number:02}")
    assert missing == []
    assert len(ids(journal)) == 100
    assert sum(journal.groups) == 100
    assert len(journal.groups) < 10


async def test_a_bad_write_does_not_take_its_neighbours(journal: Counted) -> None:
    """The group is tried again one by one; only the one that was wrong gets its own error, and wrote nothing."""
    commits = Commits(journal)
    await commits.write(begin(journal, "taken"))
    errors: dict[int, type[Exception]] = {}

    async def write(number: int, operation: Callable[[], None]) -> None:
        try:
            await commits.write(operation)
        except (FlowExists, FlowBusy, ZeroDivisionError) as exc:
            errors[number] = type(exc)

    def halfway() -> None:
        journal.begin(flow_row("half"), flow_record("half"))
        raise ZeroDivisionError

    async with trio.open_nursery() as nursery:
        for number, operation in enumerate(
            [
                begin(journal, "one"),
                begin(journal, "taken"),
                begin(journal, "two"),
                halfway,
                partial(journal.claim, flow_row("taken", owner="somebody:1:else"), None),
                begin(journal, "three"),
            ]
        ):
            nursery.start_soon(write, number, operation)
    assert errors == {1: FlowExists, 3: ZeroDivisionError, 4: FlowBusy}
    assert ids(journal) == {"taken", "one", "two", "three"}
    await commits.write(begin(journal, "later"))
    assert "later" in ids(journal)


async def test_cancelling_a_writer_does_not_tear_its_write(journal: Counted) -> None:
    """Leader or follower, the write that was begun is finished and acknowledged; the cancellation waits behind it."""
    commits = Commits(journal)
    done: list[str] = []

    async def write(flow: str, scope: trio.CancelScope) -> None:
        with scope:
            await commits.write(begin(journal, flow))
            done.append(flow)
            await trio.sleep_forever()

    scopes = {flow: trio.CancelScope() for flow in ("leader", "follower", "third")}
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for flow, scope in scopes.items():
                nursery.start_soon(write, flow, scope)
            await trio.lowlevel.checkpoint()
            for scope in scopes.values():
                scope.cancel()
    assert sorted(done) == ["follower", "leader", "third"]
    assert ids(journal) == {"leader", "follower", "third"}
    await commits.write(begin(journal, "later"))


async def test_a_writer_cancelled_beforehand_still_finishes_what_it_began(journal: Counted) -> None:
    """`write` either happens or raises what went wrong, never something in between."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await Commits(journal).write(begin(journal, "one"))
    assert ids(journal) == {"one"}


async def test_writes_of_one_task_stay_in_order(journal: Counted) -> None:
    """Each sees what the one before it wrote."""
    commits = Commits(journal)

    async def story(flow: str) -> None:
        await commits.write(begin(journal, flow))
        for step in range(5):
            before, after = (None, "0:1:h") if step % 2 == 0 else ("0:1:h", None)
            known = flow_row(flow, owner=before)
            await commits.write(partial(journal.claim, known, after))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(story, f"f{number}")
    assert {flow.owner for flow in journal.flows(limit=20)} == {"0:1:h"}


async def test_an_interrupt_in_the_middle_of_a_commit_stops_no_later_writer(journal: Counted) -> None:
    """Ctrl-C may arrive anywhere: whoever led the group is interrupted, and the next write goes on."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    commits = Commits(journal)
    with pytest.raises(KeyboardInterrupt):
        await commits.write(interrupted)
    with trio.fail_after(10):
        await commits.write(begin(journal, "later"))
    assert ids(journal) == {"later"}
