"""What `flows send` tells of an event, and that a drawing does not break a secret out of its pattern."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.cli.flows.history import draw
from systemprompt_cloud.cli.flows.send import fate_of, post_event
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock

from tests.support.journey import JOURNEY, Journey, journey

BODY = '{"event":"Noted","text":"twice"}'


def take(paths: CloudPaths, flow: str, kind: str) -> None:
    """The oldest event of the inbox leaves it, as the process that drives the flow would have it."""
    with closing(sqlite3.connect(paths.journal)) as journal, journal:
        journal.execute("DELETE FROM inbox WHERE id = (SELECT min(id) FROM inbox)")
        journal.execute("UPDATE flows SET seq = seq + 1 WHERE id = ?", (flow,))
        body = BODY if kind == "event" else '{"message":"no","event":"Noted"}'
        journal.execute(
            "INSERT INTO events SELECT id, seq, updated, ?, 'Noted', ?, state, state, incarnation, NULL FROM flows",
            (kind, body),
        )


async def test_an_event_is_told_from_an_equal_one_that_waited_before(paths: CloudPaths, clock: VirtualClock) -> None:
    """The first is refused or taken while the second waits; then the second has a fate of its own."""
    async with open_engine(paths, [journey()]) as engine:
        flow = (await engine.start(JOURNEY, Journey())).id
    with closing(Journal(paths.journal)) as journal:
        sent = [post_event(journal, flow, moment_text(clock.now()), "Noted", BODY) for _ in range(3)]
        assert [fate_of(journal, each) for each in sent] == ["waiting"] * 3
        take(paths, flow, "event")
        assert [fate_of(journal, each) for each in sent] == ["taken", "waiting", "waiting"]
        take(paths, flow, "refused")
        assert [fate_of(journal, each) for each in sent] == ["taken", "refused", "waiting"]
        take(paths, flow, "event")
        assert [fate_of(journal, each) for each in sent] == ["taken", "refused", "taken"]


def test_a_secret_is_hidden_before_it_is_drawn() -> None:
    """A page is narrower than a token: no piece of it is left on the next line."""
    token = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiJhZGEifQ" * 12 + "." + "c2lnbmF0dXJl" * 5
    change = Change(
        flow="f",
        seq=1,
        at="2026-01-01T00:00:00.000000Z",
        machine="foreign",
        kind="event",
        event="Said",
        from_state="a",
        to_state="a",
        message=f"the server said {token}",
    )
    drawn = draw([[change]], {"width": 60, "color": False, "ascii_only": True})
    assert "the server said" in drawn
    assert not any(token[at : at + 12] in drawn for at in range(40, len(token) - 12))
