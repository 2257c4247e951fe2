"""Stop anywhere, go on, end the same: every flow is left at every committed change in turn and resumed.

Leaving an engine is what Ctrl-C does. The cloud's ledger is the witness: whatever was interrupted, there is one
checkout, one tenant and one reported login.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import all_programs, start_onboarding
from systemprompt_cloud.flows.provisioning import start_provisioning
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.rehearsal import Rehearsal, interrupt_after, open_rehearsal

Start = Callable[[Engine], Awaitable[Flow]]
Prepare = Callable[[Rehearsal], Start]

AT_ONCE = 8
"""How many interrupted runs are tried beside each other; each has a cloud and a directory of its own."""


def a_login(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_login(engine, rehearsal.login())


def a_checkout(rehearsal: Rehearsal) -> Start:
    rehearsal.log_in()
    return lambda engine: start_checkout(engine, rehearsal.checkout())


def a_provisioning(rehearsal: Rehearsal) -> Start:
    rehearsal.log_in()
    wanted = rehearsal.provisioning(rehearsal.buy().id, external_db=True)
    return lambda engine: start_provisioning(engine, wanted)


def a_deployment(rehearsal: Rehearsal) -> Start:
    rehearsal.log_in()
    wanted = rehearsal.deployment(rehearsal.build().id)
    return lambda engine: start_deployment(engine, wanted)


def an_onboarding(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_onboarding(engine, rehearsal.onboarding(external_db=True))


STORIES: dict[str, tuple[Prepare, str, list[str], str]] = {
    "login": (a_login, "pay", [], "authenticated"),
    "checkout": (a_checkout, "pay", [], "completed"),
    "pending checkout": (a_checkout, "pending", [], "completed"),
    "provisioning": (a_provisioning, "pay", [], "ready"),
    "provisioning with a broken stream": (a_provisioning, "pay", ["drop-stream:after=2,times=3"], "ready"),
    "deployment": (a_deployment, "pay", [], "deployed"),
    "deployment whose answer is lost": (a_deployment, "pay", ["lose-answer:path=/deploy"], "deployed"),
    "onboarding": (an_onboarding, "pay", [], "ready"),
}


def check_witnesses(name: str, rehearsal: Rehearsal) -> None:
    """Nothing happened twice, everything is where it belongs, and nothing is left over."""
    ledger = rehearsal.cloud.ledger
    assert ledger.checkouts == (0 if name == "login" else 1)
    assert ledger.tenants == (0 if name == "login" else 1)
    assert len(ledger.deployments) == (1 if "deployment" in name else 0)
    assert len(ledger.activities) == (1 if name in {"login", "onboarding"} else 0)
    CloudCredentials.load_and_validate_from_path(rehearsal.paths.credentials)
    if "provisioning" in name or name == "onboarding":
        (tenant,) = TenantStore.load_from_path(rehearsal.paths.tenants).tenants
        assert tenant.id in rehearsal.cloud.tenants
        assert tenant.sync_token
        assert "sslmode=require" in (tenant.database_url or "")
    assert not [path for path in rehearsal.paths.vault.rglob("*") if path.is_file()]


def check_journal(engine: Engine, services: Services) -> None:
    """Every flow has ended, there is one of each, and each stands where its records say."""
    rows = engine.journal.flows()
    assert [row.status for row in rows] == ["ended"] * len(rows)
    assert len({row.machine for row in rows}) == len(rows)
    assert [problem for row in rows for problem in check_flow(engine.journal, all_programs(services), row)] == []


def has_ended(engine: Engine) -> bool:
    """Whether the story is over: starting it once more would be another one."""
    return any(row.status == "ended" for row in engine.journal.flows() if row.parent is None)


async def interrupt_and_go_on(name: str, directory: Path, changes: tuple[int, ...]) -> bool:
    """Leave a story after so many changes of each run in turn, then let it end.

    Returns:
        False when it ended before the first interruption.
    """
    prepare, payment, faults, end = STORIES[name]
    person = ScriptedBrowser(payment="pending" if payment == "pending" else "pay", patience=15)
    async with open_rehearsal(directory, browser=person, faults=faults, step_seconds=0.01) as rehearsal:
        start = prepare(rehearsal)
        interrupted = False
        for count in changes:
            async with rehearsal.open_engine() as engine:
                if has_ended(engine) or not await interrupt_after(engine, start, count):
                    break
                interrupted = True
        async with Services(rehearsal.paths) as services, rehearsal.open_engine() as engine:
            (row,) = [row for row in engine.journal.flows() if row.parent is None]
            flow = await (engine.resume(row.id) if has_ended(engine) else start(engine))
            with trio.fail_after(15):
                outcome = await flow.wait()
            assert flow.id == row.id
            assert outcome.state == end, (changes, flow.history)
            check_journal(engine, services)
        check_witnesses(name, rehearsal)
    return interrupted


@pytest.mark.parametrize("name", STORIES)
async def test_a_flow_can_be_left_at_every_change(tmp_path: Path, name: str) -> None:
    """Left after its first, second, … last change and resumed: the same end, and nothing happened twice."""
    reached: dict[int, bool] = {}
    running = trio.CapacityLimiter(AT_ONCE)

    async def one(changes: int) -> None:
        async with running:
            reached[changes] = await interrupt_and_go_on(name, tmp_path / str(changes), (changes,))

    first = 1
    while all(reached.values()):
        async with trio.open_nursery() as nursery:
            for changes in range(first, first + AT_ONCE):
                nursery.start_soon(one, changes)
        first += AT_ONCE
    assert reached[5], "the story ended before anything happened"


@pytest.mark.parametrize("name", ["onboarding", "pending checkout"])
@pytest.mark.parametrize("every", [1, 2, 3, 5])
async def test_a_flow_can_be_left_again_and_again(tmp_path: Path, name: str, every: int) -> None:
    """Every run is left after a few changes of its own; it comes forward all the same, and ends the same."""
    assert await interrupt_and_go_on(name, tmp_path, (every,) * 12)


async def test_a_tab_that_waits_through_an_interruption_is_heard(tmp_path: Path) -> None:
    """The person approves while nobody listens; their tab reloads, and the resumed login takes it: one consent page."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        start = a_login(rehearsal)
        async with rehearsal.open_engine() as engine:
            flow = await start(engine)
            url = (await rehearsal.wait_shown()).url
        rehearsal.browser = ScriptedBrowser(patience=10)
        await rehearsal.open_tab(url)
        while not any(page.location for page in rehearsal.cloud.consents.values()):
            await trio.lowlevel.checkpoint()
        async with rehearsal.open_engine() as engine:
            again = await start(engine)
            assert again.id == flow.id
            assert (await again.wait()).succeeded
        assert (await rehearsal.wait_tab()).status == 200
        assert len(rehearsal.cloud.consents) == 1
        assert {shown.url for shown in rehearsal.shown} == {url}


async def test_a_payment_made_while_nobody_listened_is_heard(tmp_path: Path) -> None:
    """The terminal is closed, the person pays all the same: resumed, the checkout completes with that payment."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        start = a_checkout(rehearsal)
        async with rehearsal.open_engine() as engine:
            await start(engine)
            url = (await rehearsal.wait_shown()).url
        rehearsal.browser = ScriptedBrowser(patience=10)
        await rehearsal.open_tab(url)
        while not rehearsal.cloud.tenants:
            await trio.lowlevel.checkpoint()
        async with rehearsal.open_engine() as engine:
            assert (await (await start(engine)).wait()).succeeded
        check_witnesses("checkout", rehearsal)


@pytest.mark.parametrize(("again", "end", "checkouts"), [(True, "completed", 1), (False, "cancelled", 0)])
async def test_an_order_cut_off_in_the_middle_is_not_repeated_unasked(
    tmp_path: Path, again: bool, end: str, checkouts: int
) -> None:
    """Announced, cut off, and the server honours no keys: resumed, a person is asked before it is created once more."""
    questions: list[str] = []

    async def confirm(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return again

    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        start = a_checkout(rehearsal)
        async with rehearsal.open_engine() as engine:
            assert await interrupt_after(engine, start, 3)  # started, validated, announced
        created = rehearsal.cloud.ledger.checkouts
        async with rehearsal.open_engine(confirm=confirm) as engine:
            assert (await (await start(engine)).wait()).state == end
        assert "interrupted while the checkout was being created" in questions[0]
        assert rehearsal.cloud.ledger.checkouts == created + checkouts
        assert rehearsal.cloud.ledger.tenants == checkouts
