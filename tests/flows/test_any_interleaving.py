"""One story, told in any way: the flow ends where the server says, and whoever looked on was told it once, forward.

The engine, the tables, the activities and the journal are the real ones; time is trio's and skipped; the server is
`testing.story`. A process that dies is a copy of its directory at that instant, taken up by another engine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.history import Change, Outcome
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.flows.checkout import checkout_program
from systemprompt_cloud.flows.provisioning import SECRETS_SECONDS, provisioning_program
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.machines.checkout import (
    CHECKOUT,
    CheckoutContext,
    CheckoutCreated,
    OrderValidated,
    PaymentPending,
)
from systemprompt_cloud.machines.parts.progress import ORDER, ProgressContext
from systemprompt_cloud.machines.provisioning import ProvisioningContext
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.stage import Witness

from tests.support.length import by_length
from tests.support.story import (
    APP_URL,
    NAME,
    SESSION,
    TENANT,
    Connection,
    Happening,
    StoryServer,
    Telling,
    story_services,
)

API = "http://127.0.0.1:1"
MEMORY = Path("/dev/shm")
PATIENCE = 10.0
"""Seconds until somebody goes on with a flow that is parked."""
PROGRESS = "vm_provisioning_progress"
PLACES = st.frozensets(st.integers(0, 9), max_size=4)


class Death(msgspec.Struct, frozen=True):
    """A process dies right after so many changes of its life; the next one begins after `away` seconds."""

    changes: int
    away: float


# --- stories and tellings ------------------------------------------------------------------------------------------


@st.composite
def stories(draw: st.DrawFn, ends: tuple[str, ...]) -> list[Happening]:
    """The steps in their order, some left out, some unknown, one that has much to say; then an end."""
    end = draw(st.sampled_from(ends))
    middle = [step for step in ORDER[: ORDER.index("infrastructure_ready")] if draw(st.integers(0, 4))]
    if draw(st.booleans()):
        middle.insert(draw(st.integers(0, len(middle))), "a step from the future")
    if PROGRESS in middle:
        middle[middle.index(PROGRESS) : middle.index(PROGRESS)] = [PROGRESS] * draw(st.integers(0, 2))
    at, story = 0.0, list[Happening]()
    for number, step in enumerate([*middle, end], start=1):
        at += draw(st.sampled_from([0.0, 0.1, 1.0, 3.0, 20.0]))
        story.append(Happening(at, step, f"{number}: {step}"))
    return story


@st.composite
def connections(draw: st.DrawFn, *, swaps: bool) -> Connection:
    """Any connection."""
    return Connection(
        opens_after=draw(st.sampled_from([0.0, 0.0, 0.2, 3.0])),
        swapped=draw(PLACES) if swaps else frozenset(),
        doubled=draw(PLACES),
        breaks_after=draw(st.sampled_from([None, None, 0, 1, 2, 5])),
        mute=draw(st.integers(0, 5)) == 5,
        pace=draw(st.sampled_from([0.0, 0.0, 0.4, 1.5, 4.0])),
        greets=draw(st.booleans()),
    )


STRETCHES = st.lists(st.tuples(st.floats(0.0, 60.0), st.sampled_from([0.5, 3.0, 30.0])), max_size=3).map(tuple)


@st.composite
def tellings(draw: st.DrawFn, *, swaps: bool) -> Telling:
    """Any telling; in the end the stream is what it should be, or all that it has to say is over."""
    return Telling(
        replay=draw(st.sampled_from(["after", "after", "all", "none"])),
        connections=(*draw(st.lists(connections(swaps=swaps), max_size=5)), Connection()),
        away=draw(STRETCHES),
        refused=draw(STRETCHES),
        retry_after=draw(st.sampled_from([None, 5.0, 40.0])),
        latencies=(*draw(st.lists(st.sampled_from([0.0, 0.05, 1.5, 8.0]), max_size=4)), 0.0),
        silent_status=draw(st.booleans()),
    )


DEATHS = st.lists(st.builds(Death, st.integers(1, 12), st.sampled_from([0.0, 1.0, 100.0])), max_size=3)


# --- a life after the other ----------------------------------------------------------------------------------------


class Told(msgspec.Struct):
    """What became of a story.

    Attributes:
        outcome: How the flow ended.
        context: What it knew at the end.
        seen: Every change that was shown, in order, over all its lives.
        stored: The tenants that were stored.
        questions: When the status was asked for.
    """

    outcome: Outcome
    context: ProgressContext
    seen: list[Change]
    stored: list[str]
    questions: list[float]

    @property
    def words(self) -> list[str]:
        """What was said of the server's steps."""
        return [each.message for each in self.seen if each.event in {"StepObserved", *ENDINGS} and each.message]


ENDINGS = ("TenantBecameReady", "TenantAnnounced")


def tell(
    story: list[Happening],
    telling: Telling,
    deaths: list[Death],
    program_of: Callable[[Services], Program[Any]],
    context: ProgressContext,
) -> Told:
    """Live through a story."""

    async def main() -> Told:
        home = Path(tempfile.mkdtemp(prefix="story-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        try:
            return await _live(home, story, telling, deaths, program_of, context)
        finally:
            shutil.rmtree(home)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))


async def _live(
    home: Path,
    story: list[Happening],
    telling: Telling,
    deaths: list[Death],
    program_of: Callable[[Services], Program[Any]],
    context: ProgressContext,
) -> Told:
    clock, server, seen = VirtualClock(), StoryServer(story, telling), list[Change]()
    chance = Random(0)  # noqa: S311 no secret; the same story must be the same again
    numbers = count()

    def new_paths() -> CloudPaths:
        directory = home / str(next(numbers))
        return CloudPaths(directory=directory, state_directory=directory, origin="explicit")

    async def live(paths: CloudPaths, death: Death | None) -> tuple[CloudPaths, Outcome | None, ProgressContext | None]:
        heir, scope, changes = new_paths(), trio.CancelScope(), 0

        def saw(change: Change) -> None:
            nonlocal changes
            if death is None or changes < death.changes:
                seen.append(change)
            changes += 1
            if program.machine.states[change.to_state].final:
                return  # who dies after the end has seen it
            if death is not None and changes == death.changes:
                shutil.copytree(paths.directory, heir.directory, ignore=shutil.ignore_patterns("*-shm"))
                scope.cancel()

        services = story_services(paths, server, clock=clock, backoff=Backoff(rng=chance))
        program = program_of(services)
        outcome: Outcome | None = None
        known: ProgressContext | None = None
        with scope:
            async with open_engine(paths, [program], clock=clock, inline=True) as engine:
                engine.feed = Witness(saw)
                flow = await engine.start(program.machine, context, key="k")
                while outcome is None:
                    try:
                        outcome = await flow.wait()
                    except FlowParked:  # a status that is refused where nothing else can be asked, or the time is up
                        await trio.sleep(PATIENCE)
                        flow = await engine.resume(flow.id)
                known = cast("ProgressContext", flow.context)
                assert audit_journal(engine.journal, [program]) == []
        return (paths if outcome is not None else heir), outcome, known

    paths = new_paths()
    for death in deaths:
        paths, outcome, known = await live(paths, death)
        if outcome is not None:
            break
        await trio.sleep(death.away)
    else:
        paths, outcome, known = await live(paths, None)
    assert outcome is not None
    assert known is not None
    tenants = [each.id for each in TenantStore.load_from_path(paths.tenants).tenants] if paths.tenants.exists() else []
    return Told(outcome, known, seen, tenants, server.questions)


def no_flicker(told: Told, story: list[Happening]) -> None:
    """Each word once, and in the story's order; the steps stand in it, too."""
    places = [int(word.partition(":")[0]) for word in told.words]
    assert all(sooner < later for sooner, later in pairwise(places)), told.words
    known = [step for step in told.context.steps if step in ORDER]
    assert known == sorted(known, key=ORDER.index)
    assert set(told.context.steps) <= {each.step for each in story}


# --- provisioning --------------------------------------------------------------------------------------------------


@settings(max_examples=by_length(50, 1000), deadline=None)
@given(st.data(), st.booleans(), DEATHS)
def test_a_provisioning_ends_where_the_server_does(data: st.DataObject, swaps: bool, deaths: list[Death]) -> None:
    """Any telling, any deaths: the same state, the same result, the same tenant stored, and nothing told twice."""
    story = data.draw(stories(("tenant_ready", "provisioning_failed", "infrastructure_ready"))) if not swaps else []
    story = story or [Happening(3.0 * number, step, f"{number}: {step}") for number, step in enumerate(ORDER, 1)]
    telling, end = data.draw(tellings(swaps=swaps)), story[-1].step
    context = ProvisioningContext(
        api_url=API, tenant_id=TENANT, until="infrastructure_ready" if end == "infrastructure_ready" else "tenant_ready"
    )
    told = tell(story, telling, deaths, provisioning_program, context)
    no_flicker(told, story)
    if end == "provisioning_failed":
        assert (told.outcome.state, told.outcome.problem, told.stored) == ("failed", story[-1].message, [])
        return
    assert (told.outcome.state, told.stored) == ("ready", [TENANT])
    result = dict(told.outcome.result)
    assert Path(str(result.pop("tenants"))).name == "tenants.json"
    # A tenant that runs is stored also when the API is away for as long as its secrets are asked for.
    missing = bool(result["secrets_missing"])
    assert not missing or any(seconds >= SECRETS_SECONDS for _, seconds in (*telling.refused, *telling.away))
    assert bool(result.pop("warning")) == missing
    assert result == {
        "tenant_id": TENANT,
        "tenant_name": NAME,
        "app_url": APP_URL if end == "tenant_ready" else "",
        "needs_deploy": end != "tenant_ready",
        "external_db_access": False,
        "secrets_missing": missing,
    }
    assert told.context.steps[-1] == end


def test_a_story_that_is_told_well_is_told_whole() -> None:
    """No trouble: every step, in its words, though the status is asked for beside it."""
    story = [Happening(3.0 * number, step, f"{number}: {step}") for number, step in enumerate(ORDER, 1)]
    told = tell(story, Telling(), [], provisioning_program, ProvisioningContext(api_url=API, tenant_id=TENANT))
    assert told.words == [each.message for each in story]
    assert told.context.steps == ORDER


@settings(max_examples=by_length(40, 1000), deadline=None)
@given(st.integers(0, 5), st.floats(0.1, 3.0), st.floats(0.0, 5.0), st.booleans())
def test_a_stream_that_takes_long_to_catch_up(breaks: int, seconds: float, pace: float, greets: bool) -> None:
    """Back again, it takes its time for each step that polling has overtaken: they are known, and not told."""
    story = [Happening(seconds * number, step, f"{number}: {step}") for number, step in enumerate(ORDER[:9], 1)]
    story.append(Happening(seconds * 9 + 100, ORDER[9], "10: ready"))
    back = Connection(opens_after=1.5, pace=pace, greets=greets)
    telling = Telling(connections=(Connection(breaks_after=breaks), back))
    told = tell(story, telling, [], provisioning_program, ProvisioningContext(api_url=API, tenant_id=TENANT))
    no_flicker(told, story)
    assert told.words[-2:] == [each.message for each in story[-2:]]
    assert told.context.steps == ORDER


def test_a_stream_that_breaks_before_it_has_caught_up() -> None:
    """Polling told 6; the stream is open again, tells all anew and breaks after 4: 3 and 4 are not told."""
    story = [Happening(0.1 * number, step, f"{number}: {step}") for number, step in enumerate(ORDER[:6], 1)]
    story.append(Happening(60.0, "tenant_ready", "7: tenant_ready"))
    mute = Connection(opens_after=2.0, mute=True)
    telling = Telling("all", (Connection(breaks_after=2), mute, Connection(breaks_after=4), Connection()))
    told = tell(story, telling, [], provisioning_program, ProvisioningContext(api_url=API, tenant_id=TENANT))
    no_flicker(told, story)
    assert told.words[-2:] == [story[5].message, story[6].message]


# --- checkout ------------------------------------------------------------------------------------------------------


def paid(services: Services) -> Program[CheckoutContext]:
    """The checkout's own watching, after a payment that is pending; no browser is waited for."""

    async def validated(_visit: Visit[Any]) -> Event:
        await trio.lowlevel.checkpoint()
        return OrderValidated("Starter", "pri_1", (), 0, "vault:nonce")

    async def created(visit: Visit[Any]) -> Event:
        await visit.announce("create_checkout")
        return CheckoutCreated("txn_1", SESSION, "vault:url")

    async def pending(_visit: Visit[Any]) -> Event:
        await trio.lowlevel.checkpoint()
        return PaymentPending(TENANT)

    own = checkout_program(services).activities
    watching = {
        state: [each for each in activities if getattr(each, "__name__", "") != "listen_for_browser"]
        for state, activities in own.items()
    }
    before = {"validating_order": [validated], "creating_checkout": [created], "awaiting_payment": [pending]}
    return Program(CHECKOUT, {**watching, **before})


@settings(max_examples=by_length(50, 1000), deadline=None)
@given(st.data(), st.booleans(), DEATHS)
def test_a_checkout_ends_where_the_server_does(data: st.DataObject, swaps: bool, deaths: list[Death]) -> None:
    """A payment that is pending, any telling, any deaths: the same tenant, and nothing told twice."""
    ends = ("infrastructure_ready", "tenant_ready")
    story = data.draw(stories(ends)) if not swaps else []
    built = ORDER[: ORDER.index("infrastructure_ready") + 1]
    story = story or [Happening(3.0 * number, step, f"{number}: {step}") for number, step in enumerate(built, 1)]
    told = tell(
        story,
        data.draw(tellings(swaps=swaps)),
        deaths,
        paid,
        CheckoutContext(api_url=API, plan="starter", region="fra", tenant_timeout=900.0),
    )
    no_flicker(told, story)
    end = story[-1].step
    assert told.outcome.state == "completed"
    assert told.outcome.result == {
        "tenant_id": TENANT,
        "tenant_name": NAME,
        "transaction_id": "txn_1",
        "needs_deploy": end == "infrastructure_ready",
        "checkout_session_id": SESSION,
        "known_tenants": (),
    }
