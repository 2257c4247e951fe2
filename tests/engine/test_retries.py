"""An activity that is listed with a retry is tried again: counted in the journal, on the engine's clock."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.diagrams.text import draw_path
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, MachineInvalid
from systemprompt_cloud.engine.fold import check_flow
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
from systemprompt_cloud.engine.retries import Failed, Retry, activity, failed_in
from systemprompt_cloud.engine.visit import Activity, Intent, Program, Visit, await_signal
from systemprompt_cloud.errors import Network, NotAuthenticated
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock

from tests.support.commits import WatchedCommits
from tests.support.rehearsal import wait_parked


class Seen(Event, frozen=True):
    """Progress."""


class Again(Event, frozen=True):
    """The same state, anew."""


class Done(Event, frozen=True):
    """The end."""


def job(policy: ResumePolicy = ResumePolicy.RETRY, timeout: float | None = None) -> Machine[Context]:
    """One state with an effect and two ends."""
    return Machine(
        "job",
        version=1,
        initial="working",
        context=Context,
        states=[
            State("working", "being done", effect="orders it", resume=policy, timeout=timeout, late="continue"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("late", "too late", verdict=Verdict.FAILURE),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Seen, "working", STAY),
            on(Again, "working", "working"),
            on(Done, "working", "done"),
            on(DeadlinePassed, "working", "late"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


JOB = job()


class Weather:
    """An activity that fails so often, and what it saw.

    Attributes:
        troubles: What it raises, one after the other; after the last it is done.
        moments: When it was tried, in seconds since New Year.
    """

    def __init__(self, clock: VirtualClock, *troubles: BaseException) -> None:
        self.clock = clock
        self.troubles = list(troubles)
        self.moments: list[float] = []
        self.intents: list[Intent] = []
        self.withdraws = False

    async def call(self, _visit: Visit[Any]) -> Event:
        """Fail, or be done."""
        await trio.lowlevel.checkpoint()
        self.moments.append(round((self.clock.now() - NEW_YEAR).total_seconds(), 3))
        if self.troubles:
            raise self.troubles.pop(0)
        return Done()

    async def order(self, visit: Visit[Any]) -> Event:
        """The same, with an effect that is announced before."""
        self.intents.append(await visit.announce("order"))
        if self.withdraws:
            visit.withdraw(self.intents[-1])
        return await self.call(visit)


def program(function: Activity, retry: Retry, *others: Activity, machine: Machine[Any] = JOB) -> Program[Any]:
    """The job with one retried activity."""
    return Program(machine, {"working": [activity(function, retry=retry), *others]})


def is_no_route(exc: Exception) -> bool:
    """A choice by the message."""
    return "no route" in str(exc)


def says_no(_exc: Exception) -> bool:
    """A choice that retries nothing."""
    return False


def down(times: int) -> list[Network]:
    """So many failures of the network."""
    return [Network(f"no route, {number}", sent=False) for number in range(1, times + 1)]


async def test_a_failure_is_tried_again_after_its_backoff(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Each wait is twice the one before, up to the longest; every failure is a line of the history."""
    weather = Weather(clock, *down(4))
    working = program(weather.call, Retry(5, 10.0, on=Network, longest=35.0))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await flow.wait()).succeeded
        assert weather.moments == [0, 10, 30, 65, 100]
        changes = flow.history
        assert [change.kind for change in changes] == ["started", *["retried"] * 4, "event"]
        assert changes[1].event == "call"
        assert changes[1].message == "no route, 1 (retry 1 of 5 in 10 s)"
        assert changes[4].message == "no route, 4 (retry 4 of 5 in 35 s)"
        body = failed_in(engine.journal.records(flow.id)[1].body)
        assert body == Failed("Network", "no route, 1", 1, 5, 10.0, moment_text(NEW_YEAR + timedelta(seconds=10)))
        assert audit_journal(engine.journal, [working]) == []
        assert "call failed, to be tried again: no route, 4" in draw_path(JOB, changes)


async def test_the_last_failure_pauses_the_flow(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """As any failure does; a person who resumes it gives it all attempts again, the first of them at once."""
    weather = Weather(clock, *down(6))
    working = program(weather.call, Retry(2, 10.0))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        error = await wait_parked(flow)
        assert (error.kind, error.user_message) == ("Network", "no route, 3")
        assert weather.moments == [0, 10, 30]
        await engine.resume(flow.id)
        assert (await wait_parked(flow)).user_message == "no route, 6"
        assert weather.moments[3:] == [30, 40, 60]
        kinds = ["retried", "retried", "paused"]
        assert [change.kind for change in flow.history] == ["started", *kinds, "resumed", *kinds]
        assert check_flow(engine.journal, [working], flow.row) == []


@pytest.mark.parametrize(
    ("choice", "retried"),
    [
        (Network, True),
        ((OSError, Network), True),
        (OSError, False),
        (is_no_route, True),
        (says_no, False),
    ],
    ids=["class", "classes", "another", "function", "never"],
)
async def test_only_what_is_chosen_is_retried(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, choice: Any, retried: bool
) -> None:
    """Classes of exceptions, or a function of the exception."""
    weather = Weather(clock, *down(1))
    working = program(weather.call, Retry(3, on=choice))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        if retried:
            assert (await flow.wait()).succeeded
        else:
            assert (await wait_parked(flow)).kind == "Network"


@pytest.mark.parametrize(
    "trouble",
    [
        SystemExit(3),
        GeneratorExit(),
        FlowParked("f", "s", kind="Network", message="a child is paused", hint="", exit_code=8),
    ],
    ids=["exit", "generator", "paused"],
)
async def test_what_another_attempt_cannot_change_is_never_retried(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, trouble: BaseException
) -> None:
    """A paused child needs a person, and no exception that ends programs is a failure of the weather."""
    weather = Weather(clock, trouble)
    async with open_engine(paths, [program(weather.call, Retry(3))], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await wait_parked(flow)
        assert [change.kind for change in flow.history] == ["started", "paused"]


async def test_a_group_is_judged_by_what_is_in_it(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """An activity with a nursery of its own raises groups: of several failures every one must be covered."""
    covered = ExceptionGroup("two", [OSError("a"), OSError("b")])
    mixed = ExceptionGroup("two", [OSError("a"), ValueError("b")])
    weather = Weather(clock, covered, ExceptionGroup("one", [OSError("c")]), mixed)
    async with open_engine(paths, [program(weather.call, Retry(9, on=OSError))], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await wait_parked(flow)).kind == "UnexpectedFailure"
        assert [change.kind for change in flow.history] == ["started", "retried", "retried", "paused"]


async def test_a_choice_that_raises_pauses_the_flow(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Its own error is what has to be fixed."""

    def choose(_exc: Exception) -> bool:
        raise LookupError("no such rule")

    weather = Weather(clock, *down(1))
    async with open_engine(paths, [program(weather.call, Retry(3, on=choose))], clock=clock, inline=True) as engine:
        error = await wait_parked(await engine.start(JOB, Context()))
        assert "LookupError: no such rule" in error.user_message


@pytest.mark.parametrize("why", ["person", "handover"])
async def test_the_count_survives_a_crash(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, why: Any
) -> None:
    """In the same visit it goes on. Another process waits the rest of the backoff; for a person nothing waits."""
    weather = Weather(clock, *down(9))
    working = program(weather.call, Retry(3, 100.0, factor=1.0))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await trio.sleep(150)
    assert weather.moments == [0, 100]
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id, why=why)
        assert (await wait_parked(flow)).user_message == "no route, 4"
        assert weather.moments[2:] == ([150, 250] if why == "person" else [200, 300])
        assert [change.kind for change in flow.history] == ["started", *["retried"] * 2, "resumed", "retried", "paused"]


async def test_a_resume_while_it_is_paused_counts_anew(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The flow goes on instead of being paused, with as many attempts as after a pause."""
    weather = Weather(clock, *down(3))
    cancelled, let_go = trio.Event(), trio.Event()

    async def linger(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                cancelled.set()
                await let_go.wait()

    async with open_engine(paths, [program(weather.call, Retry(1, 10.0), linger)], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await cancelled.wait()
        await engine.resume(flow.id)
        let_go.set()
        assert (await flow.wait()).succeeded
        assert [change.kind for change in flow.history] == ["started", "retried", "resumed", "retried", "event"]


async def test_a_new_visit_counts_anew(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """Attempts belong to a visit, also over a restart."""
    weather = Weather(clock, *down(4))
    working = program(weather.call, Retry(2, 10.0, factor=1.0))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await trio.sleep(15)
        await flow.send(Again())
        await trio.sleep(5)
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert (await flow.wait()).succeeded
    assert weather.moments == [0, 10, 15, 20, 30]


async def test_each_activity_has_its_own_count(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """And another one that fails without a retry pauses the flow while the first waits."""
    one, other = Weather(clock, *down(2)), Weather(clock, *down(9))
    working = Program(
        JOB,
        {
            "working": [
                activity(one.call, retry=Retry(2, 50.0), name="one"),
                activity(other.call, retry=Retry(1, 10.0), name="other"),
            ]
        },
    )
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await wait_parked(flow)).user_message == "no route, 2"
        assert (one.moments, other.moments) == ([0], [0, 10])
        assert sorted(change.event for change in flow.history) == ["Network", "one", "other", "started"]


async def test_the_deadline_runs_on(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """A retry gives a state no more time than it has."""
    machine = job(timeout=25.0)
    weather = Weather(clock, *down(9))
    working = program(weather.call, Retry(9, 10.0, factor=1.0), machine=machine)
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(machine, Context())
        assert (await flow.wait()).state == "late"
        assert weather.moments == [0, 10, 20]


@pytest.mark.parametrize("others", [(), (await_signal,)], ids=["alone", "beside another"])
async def test_an_event_that_leads_out_ends_the_wait(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, others: tuple[Activity, ...]
) -> None:
    """Nothing is tried again in a state that was left."""
    weather = Weather(clock, *down(9))
    async with open_engine(
        paths, [program(weather.call, Retry(9, 1000.0), *others)], clock=clock, inline=True
    ) as engine:
        flow = await engine.start(JOB, Context())
        await trio.sleep(5)
        await flow.cancel("enough")
        assert (await flow.wait()).state == "cancelled"
        await trio.sleep(5000)
        assert weather.moments == [0]


async def test_an_attempt_that_was_tried_again_can_still_be_led_out_of(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """An attempt whose event the table refuses has not let go of its state; the next one is cancelled like any."""

    async def hangs(visit: Visit[Any]) -> Event:
        attempts.append(visit.state)
        if len(attempts) == 1:
            raise OSError("once")
        await trio.sleep_forever()
        return Done()

    attempts: list[str] = []
    async with open_engine(paths, [program(hangs, Retry(1, 1.0))], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await trio.sleep(5)
        assert len(attempts) == 2
        await flow.send(Done())
        assert (await flow.wait()).succeeded


async def test_a_generator_is_tried_from_its_beginning(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """What it yielded before it failed has happened."""

    async def yields(_visit: Visit[Any]) -> AsyncGenerator[Event, None]:
        yield Seen()
        if not troubles:
            yield Done()
        raise troubles.pop()

    troubles = down(1)
    async with open_engine(paths, [program(yields, Retry(1))], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await flow.wait()).succeeded
        assert [change.event for change in flow.history] == ["started", "Seen", "yields", "Seen", "Done"]


async def test_an_effect_of_an_earlier_attempt_is_uncertain(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The next attempt has the same key and is told that nobody knows; the intent is written once."""
    weather = Weather(clock, *down(2))
    working = program(weather.order, Retry(3))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await flow.wait()).succeeded
        key = f"{flow.id}:1:order"
        assert weather.intents == [Intent(key, uncertain=uncertain) for uncertain in (False, True, True)]
        assert [change.kind for change in flow.history].count("intent") == 1
        assert audit_journal(engine.journal, [working]) == []


async def test_an_effect_that_did_not_happen_is_announced_again(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Withdrawn with the record of the failure, also for the process after a crash."""
    weather = Weather(clock, *down(2))
    weather.withdraws = True
    working = program(weather.order, Retry(9, 100.0, factor=1.0))
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        await trio.sleep(150)
        assert engine.journal.intents(flow.id, 1) == frozenset()
    async with open_engine(paths, [working], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert (await flow.wait()).succeeded
        assert [intent.uncertain for intent in weather.intents] == [False] * 3
        kinds = [change.kind for change in flow.history]
        assert kinds == ["started", "intent", "retried", "intent", "retried", "resumed", "intent", "event"]
        assert audit_journal(engine.journal, [working]) == []


async def test_where_a_person_has_to_decide_nothing_is_retried(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """`ask`: the second attempt asks, and that is no failure to be tried again."""
    machine = job(ResumePolicy.ASK)
    weather = Weather(clock, *down(2))
    async with open_engine(
        paths, [program(weather.order, Retry(9), machine=machine)], clock=clock, inline=True
    ) as engine:
        flow = await engine.start(machine, Context())
        assert (await wait_parked(flow)).kind == "EffectUncertain"
        assert [change.kind for change in flow.history] == ["started", "intent", "retried", "paused"]
        await engine.resume(flow.id, repeat=True)
        assert (await wait_parked(flow)).kind == "EffectUncertain"
        assert [intent.key[-7:] for intent in weather.intents] == ["1:order", "2:order"]


async def test_what_another_activity_announced_stays_certain(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """An attempt answers for what it has begun, in all of its tasks, and for nothing else."""
    certain: list[Intent] = []

    async def announces(visit: Visit[Any], effect: str) -> None:
        certain.append(await visit.announce(effect))

    async def fails(visit: Visit[Any]) -> Event:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announces, visit, "inner")
        if len(certain) < 3:
            raise OSError("once")
        return Done()

    async def other(visit: Visit[Any]) -> None:
        await announces(visit, "other")
        await trio.sleep_forever()

    async with open_engine(paths, [program(fails, Retry(2), other)], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context())
        assert (await flow.wait()).succeeded
        assert sorted((each.key[-7:], each.uncertain) for each in certain) == [
            ("1:inner", False),
            ("1:inner", True),
            ("1:other", False),
        ]


async def test_a_failure_that_cannot_be_written_is_not_retried(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Nothing happens that the journal does not know: the flow is paused as soon as it can be written."""
    weather = Weather(clock, *down(1))
    async with open_engine(paths, [program(weather.call, Retry(3))], clock=clock, inline=True) as engine:
        commits = WatchedCommits(engine)
        flow = await engine.start(JOB, Context())
        commits.refused = 1
        error = await wait_parked(flow)
        assert error.kind == "JournalError"
        assert [change.kind for change in flow.history] == ["started", "paused"]


async def test_jitter_spreads_what_failed_together(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A share of the wait, longer or shorter; tests on a virtual clock are spared it."""
    retry = Retry(1, 10.0, jitter=0.5)
    assert [retry.seconds(1, chance) for chance in (0.0, 0.5, 1.0)] == [5.0, 10.0, 15.0]
    weather = Weather(clock, *down(1))
    async with open_engine(paths, [program(weather.call, retry)], clock=clock, inline=True) as engine:
        assert (await (await engine.start(JOB, Context())).wait()).succeeded
    assert weather.moments == [0, 10]


@given(
    st.integers(1, 10_000),
    st.floats(0, 1e6),
    st.floats(1, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_wait_is_always_within_its_bounds(
    failures: int, backoff: float, factor: float, longest: float, jitter: float, chance: float
) -> None:
    """Whatever is multiplied, and however often."""
    seconds = Retry(1, backoff, factor=factor, longest=longest, jitter=jitter).seconds(failures, chance)
    assert math.isfinite(seconds)
    assert 0 <= seconds <= longest * (1 + jitter) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(0), r"Retry\(times=0\): it must be a whole number from 1 on"),
        (lambda: Retry(True), "times=True"),
        (lambda: Retry(1, -1.0), "backoff=-1.0"),
        (lambda: Retry(1, math.nan), "backoff=nan"),
        (lambda: Retry(1, factor=0.5), "factor=0.5"),
        (lambda: Retry(1, longest=math.inf), "longest=inf"),
        (lambda: Retry(1, jitter=2.0), "jitter=2.0"),
        (lambda: Retry(1, on=()), r"on=\(\)"),
        (lambda: Retry(1, on=KeyboardInterrupt), "on=<class 'KeyboardInterrupt'>"),  # pyright: ignore[reportArgumentType]
        (lambda: Retry(1, on=(OSError, "x")), "on="),  # pyright: ignore[reportArgumentType]
        (lambda: Retry(1, on=await_signal), "on="),  # pyright: ignore[reportArgumentType]
        (lambda: activity(await_signal, retry=3), "is given 3 as its retry"),  # pyright: ignore[reportArgumentType]
        (lambda: activity(await_signal, retry=Retry(1), name=" "), "given ' ' as its name"),
        (lambda: program(lambda _visit: None, Retry(1)), "no coroutine function"),  # pyright: ignore[reportArgumentType]
        (lambda: program("x", Retry(1)), "'x' among its activities"),  # pyright: ignore[reportArgumentType]
        (
            lambda: program(await_signal, Retry(1), activity(await_signal, retry=Retry(2))),
            "two retried activities with the name await_signal",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(make: Callable[[], object], message: str) -> None:
    """By name, with the value."""
    with pytest.raises(MachineInvalid, match=message):
        make()


async def test_other_failures_than_those_chosen_still_need_a_login(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A retry for the network leaves the exit codes of pauses alone."""
    weather = Weather(clock, *down(1), NotAuthenticated("the API refused it"))
    async with open_engine(paths, [program(weather.call, Retry(3, on=Network))], clock=clock, inline=True) as engine:
        error = await wait_parked(await engine.start(JOB, Context()))
        assert (error.kind, error.code) == ("NotAuthenticated", 4)
