"""A state visited by itself finds what an engine would pause a flow for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.errors import (
    ActivitiesRanDry,
    EffectUncertain,
    EventNotAccepted,
    NotStorable,
    VaultMissing,
)
from systemprompt_cloud.engine.history import Outcome
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
from systemprompt_cloud.engine.retries import Retry, activity
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.testing.visiting import Visited, visit_state
from trio.testing import MockClock


class Box(Context, frozen=True, kw_only=True):
    """What is known."""

    stamps: int = 0
    token: str = ""


class Stamped(Event, frozen=True):
    """Progress."""


class Sent(Event, frozen=True):
    """Leads out."""

    token: str = ""


class Lost(Event, frozen=True):
    """Taken elsewhere only."""


class Strange(Event, frozen=True):
    """Of no table."""


def _stamp(box: Box, _event: Stamped) -> Box:
    return msgspec.structs.replace(box, stamps=box.stamps + 1)


def _send(box: Box, event: Sent) -> Box:
    return msgspec.structs.replace(box, token=event.token)


def table(policy: ResumePolicy = ResumePolicy.RETRY) -> Machine[Box]:
    """Two states."""
    return Machine(
        "box",
        version=1,
        initial="packing",
        context=Box,
        states=[
            State("packing", "being packed", effect="orders a van", resume=policy, timeout=3600, late="continue"),
            State("travelling", "on its way"),
            State("lost", "lost", verdict=Verdict.FAILURE),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Stamped, "packing", STAY, update=_stamp),
            on(Sent, "packing", "travelling", update=_send),
            on(DeadlinePassed, "packing", "lost"),
            on(Lost, "travelling", "lost"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


async def visited(*activities: Activity, policy: ResumePolicy = ResumePolicy.RETRY, **options: Any) -> Visited:
    """A visit of the first state with these activities."""
    program = Program(table(policy), {"packing": list(activities), "travelling": [await_signal]})
    return await visit_state(program, "packing", Box(), **options)


async def test_what_counts_and_where_it_leads(autojump_clock: MockClock) -> None:
    """Events, effects, secrets; the context is read back after each."""
    seen: list[Context] = []

    async def pack(visit: Visit[Box]) -> AsyncGenerator[Event, None]:
        seen.append(visit.context)
        yield Stamped()
        seen.append(visit.context)
        intent = await visit.announce("van")
        assert not intent.uncertain
        yield Sent(await visit.keep("token", "s3cret"))
        yield Stamped()

    found = await visited(pack)
    assert (found.to, found.trouble) == ("travelling", None)
    assert found.events == [Stamped(), Sent("vault:token")]
    assert (found.effects, found.secrets) == (["van"], {"token": "s3cret"})
    assert found.context == Box(stamps=1, token="vault:token")
    assert seen == [Box(), Box(stamps=1)]


async def test_running_dry_is_found(autojump_clock: MockClock) -> None:
    """All activities ended, and nothing led out."""

    async def stamp(_visit: Visit[Box]) -> Event:
        return Stamped()

    found = await visited(stamp)
    assert (found.to, type(found.trouble)) == (None, ActivitiesRanDry)
    assert found.events == [Stamped()]


@pytest.mark.parametrize("wrong", [Strange(), Lost(), "sent", Sent])
async def test_what_is_no_event_of_the_state_is_found(autojump_clock: MockClock, wrong: object) -> None:
    """Of no table, of another state, no event at all, a class instead of an instance."""

    async def give(_visit: Visit[Box]) -> Event:
        return cast("Event", wrong)

    found = await visited(give, await_signal)
    assert (found.to, found.events) == (None, [])
    assert isinstance(found.trouble, EventNotAccepted)


async def test_what_cannot_be_stored_is_found(autojump_clock: MockClock) -> None:
    """As an engine would."""

    async def give(_visit: Visit[Box]) -> Event:
        return Sent(cast("str", 7))

    assert isinstance((await visited(give)).trouble, NotStorable)


async def test_the_deadline_is_the_tables(autojump_clock: MockClock) -> None:
    """On trio's clock."""
    found = await visited(await_signal)
    assert (found.to, trio.current_time()) == ("lost", 3600)


async def test_a_visit_that_does_not_end_is_named(autojump_clock: MockClock) -> None:
    """By a timeout of the test."""
    with pytest.raises(trio.TooSlowError):
        await visited(await_signal, seconds=60)


async def test_retries_are_those_of_the_program(autojump_clock: MockClock) -> None:
    """Counted, with their waits; an effect of a failed attempt is uncertain to the next one."""
    uncertain: list[bool] = []

    async def order(visit: Visit[Box]) -> Event:
        uncertain.append((await visit.announce("van")).uncertain)
        if len(uncertain) < 3:
            raise OSError("no van")
        return Sent()

    found = await visited(activity(order, retry=Retry(2, 10, on=OSError)))
    assert (found.to, [name for name, _ in found.retried]) == ("travelling", ["order", "order"])
    assert uncertain == [False, True, True]
    assert trio.current_time() == 30
    uncertain.clear()
    assert isinstance((await visited(activity(order, retry=Retry(1)))).trouble, OSError)


@pytest.mark.parametrize("policy", [ResumePolicy.ASK, ResumePolicy.RETRY])
async def test_an_effect_of_an_earlier_process(autojump_clock: MockClock, policy: ResumePolicy) -> None:
    """Is uncertain, or a person has to decide."""

    async def order(visit: Visit[Box]) -> Event:
        return Sent("" if (await visit.announce("van")).uncertain else "new")

    found = await visited(order, policy=policy, uncertain=True)
    if policy is ResumePolicy.ASK:
        assert isinstance(found.trouble, EffectUncertain)
    else:
        assert found.events == [Sent("")]


async def test_children_end_as_the_test_says(autojump_clock: MockClock) -> None:
    """By their machine's name, or its key; one that nobody named is an error."""
    inner = Program(table(), {"packing": [await_signal], "travelling": [await_signal]})

    async def ask(visit: Visit[Box]) -> Event:
        one = await visit.run_child(inner, Box(), key="a")
        other = await visit.run_child(inner, Box(), key="b")
        return Sent(f"{one.state} {other.state}")

    def ended(state: str) -> Outcome:
        return Outcome(flow="f", machine="box", state=state, verdict="failure", problem="", result={})

    found = await visited(ask, children={"box": ended("lost"), "box:b": ended("cancelled")})
    assert found.events == [Sent("lost cancelled")]
    assert isinstance((await visited(ask)).trouble, LookupError)


async def test_a_missing_secret_is_trouble(autojump_clock: MockClock) -> None:
    """And one that the test gave is there."""

    async def use(visit: Visit[Box]) -> Event:
        return Sent(await visit.reveal("vault:token"))

    assert isinstance((await visited(use)).trouble, VaultMissing)
    assert (await visited(use, secrets={"token": "x"})).events == [Sent("x")]
