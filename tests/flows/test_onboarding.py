"""An onboarding runs the three other machines to its end, and ends as the one of them that ends badly."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import trio
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import FlowBusy, FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.provisioning import timeline

from tests.support.ports import own_port
from tests.support.rehearsal import CLIENT_ATTEMPTS, Rehearsal, open_rehearsal, wait_for_change, wait_for_state


async def run(engine: Engine, rehearsal: Rehearsal, **changes: object) -> Outcome:
    """An onboarding from its start to its end."""
    return await (await start_onboarding(engine, rehearsal.onboarding(**changes))).wait()


def children(engine: Engine, flow: Flow | Outcome) -> dict[str, str]:
    """The state of each child flow, by machine."""
    parent = flow.id if isinstance(flow, Flow) else flow.flow
    return {row.machine: row.state for row in engine.journal.children(parent)}


async def test_from_nothing_to_a_running_tenant(tmp_path: Path) -> None:
    """Logged in, paid, ready, stored: one login reported, one checkout, one tenant."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        (tenant,) = rehearsal.cloud.tenants.values()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("ready", "success", "")
        assert outcome.result["user_email"] == "ada@sandbox.example"
        assert outcome.result["tenant_id"] == tenant.id
        assert outcome.result["needs_deploy"] is False
        assert children(engine, outcome) == {
            "login": "authenticated",
            "checkout": "completed",
            "provisioning": "ready",
        }
        ledger = rehearsal.cloud.ledger
        assert (ledger.checkouts, ledger.tenants, len(ledger.activities)) == (1, 1, 1)
        (kept,) = TenantStore.load_from_path(rehearsal.paths.tenants).tenants
        assert kept.id == tenant.id
        assert [shown.purpose for shown in rehearsal.shown] == ["log in", "pay"]


async def test_the_result_holds_no_secret(tmp_path: Path) -> None:
    """What a flow hands out may be printed."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        text = msgspec.json.encode(await run(engine, rehearsal)).decode()
        token = CloudCredentials.load_from_path(rehearsal.paths.credentials).api_token
        assert token not in text
        assert "postgres://" not in text


async def test_credentials_that_stand_are_not_asked_for_again(tmp_path: Path) -> None:
    """No login, no consent page: straight to the checkout."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in(person=1)
        outcome = await run(engine, rehearsal)
        assert outcome.succeeded
        assert outcome.result["user_email"] == "grace@sandbox.example"
        assert "login" not in children(engine, outcome)
        assert rehearsal.cloud.consents == {}


@pytest.mark.parametrize("bad", [b"", b"{ not json", b'{"api_token": ""}', b"\x00" * 64])
async def test_corrupted_credentials_lead_to_a_login(tmp_path: Path, bad: bytes) -> None:
    """Logged in anew; the unreadable file is kept under another name."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.paths.credentials.write_bytes(bad)
        assert (await run(engine, rehearsal)).succeeded
        (kept,) = rehearsal.paths.directory.glob("credentials.json.unreadable-*")
        assert kept.read_bytes() == bad


async def test_a_token_the_api_no_longer_takes_leads_to_a_login(tmp_path: Path) -> None:
    """Revoked: the login is part of it, and nobody has to know."""
    faults = ["unauthorized:path=/auth/me"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        outcome = await run(engine, rehearsal)
        assert outcome.succeeded
        assert children(engine, outcome)["login"] == "authenticated"


async def test_credentials_of_another_api_are_not_used(tmp_path: Path) -> None:
    """A login at this API follows; the token of the other one never comes here."""
    async with (
        open_rehearsal(tmp_path / "other") as other,
        open_rehearsal(tmp_path / "here") as here,
        here.open_engine() as engine,
    ):
        token = other.log_in(person=2)
        here.paths.credentials.write_bytes(other.paths.credentials.read_bytes())
        assert (await run(engine, here)).result["user_email"] == "ada@sandbox.example"
        assert CloudCredentials.load_from_path(here.paths.credentials).api_token != token


# --- the bad ends --------------------------------------------------------------------------------------------------


async def test_a_denied_login_denies_it(tmp_path: Path) -> None:
    """`denied`, naming the login and its words; nothing was ordered."""
    person = ScriptedBrowser(consent="deny", patience=5)
    async with open_rehearsal(tmp_path, browser=person) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        assert outcome.state == "denied"
        assert outcome.problem.startswith("login: ")
        assert rehearsal.cloud.ledger.checkouts == 0


async def test_a_declined_payment_pauses_it(tmp_path: Path) -> None:
    """The browser's word is no end: paused with its checkout, and the same command comes back to the same order."""
    person = ScriptedBrowser(payment="decline", patience=5)
    async with open_rehearsal(tmp_path, browser=person) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked, match="the browser reported payment_declined") as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.code) == ("OrderInDoubt", EXIT_PENDING)
        rehearsal.browser = None
        again = await start_onboarding(engine, rehearsal.onboarding())
        assert again.id == flow.id
        await rehearsal.wait_shown(3)  # the login, the payment page, and the same page again
        assert rehearsal.shown[-1].url == rehearsal.shown[-2].url
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_nobody_logs_in(tmp_path: Path) -> None:
    """`timed_out`, naming what nobody came to."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, login_timeout=0.2)
        assert outcome.state == "timed_out"
        assert outcome.problem.startswith("login: ")


async def test_nobody_pays(tmp_path: Path) -> None:
    """Paused: an order that nobody is known to have paid may still be paid."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding(payment_timeout=0.2))
        with pytest.raises(FlowParked, match=r"not paid within 0\.2 s, and the API knows of no payment"):
            await flow.wait()


async def test_a_paid_tenant_that_fails_is_provisioned_again(tmp_path: Path) -> None:
    """It never goes back to the checkout: paused with the tenant's name, and resumed with the same tenant."""
    faults = ["provisioning-failure:after=2"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked, match="provisioning: The virtual machine did not start") as parked:
            await flow.wait()
        (tenant,) = rehearsal.cloud.tenants.values()
        assert parked.value.remedy == Remedy("retry_tenant", {"tenant": tenant.id, "flow": flow.id})
        assert flow.state == "tenant_unready"
        rehearsal.cloud.provision_again(tenant)
        again = await start_onboarding(engine, rehearsal.onboarding())
        assert again.id == flow.id
        assert (await again.wait()).result["tenant_id"] == tenant.id
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_the_next_command_continues_with_the_tenant_that_was_paid_for(tmp_path: Path) -> None:
    """Cancelled after the payment, or ended well: no second order; nor when the tenant is no longer stored here."""
    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        await wait_for_state(flow, "provisioning")
        await flow.cancel("another day")
        await flow.wait()
        (tenant,) = rehearsal.cloud.tenants.values()
        tenant.steps = timeline(0.0)
        for _ in range(3):
            outcome = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
            assert (outcome.state, outcome.result["tenant_id"]) == ("ready", tenant.id)
            with TenantStore.updating(rehearsal.paths.tenants) as store:
                assert store.remove_tenant(tenant.id) is not None
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_another_account_does_not_continue_with_somebody_elses_tenant(tmp_path: Path) -> None:
    """The account is compared with the one that paid."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        assert (await run(engine, rehearsal)).succeeded
        rehearsal.log_in(person=1)
        await wait_for_state(await start_onboarding(engine, rehearsal.onboarding()), "checking_out")


async def test_a_paid_tenant_the_api_no_longer_has(tmp_path: Path) -> None:
    """Its own word, several times: a person decides whether another one is bought; without one it stays paused."""
    questions: list[str] = []

    async def yes(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return True

    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await start_onboarding(engine, rehearsal.onboarding())
            await wait_for_state(flow, "provisioning")
            (tenant,) = rehearsal.cloud.tenants.values()
            rehearsal.cloud.delete(tenant)
            with pytest.raises(FlowParked, match="tenant_not_found"):
                await flow.wait()
            flow = await engine.resume(flow.id)  # nobody to ask: the same tenant once more
            with pytest.raises(FlowParked, match="tenant_not_found"):
                await flow.wait()
        async with rehearsal.open_engine(confirm=yes) as engine:
            flow = await engine.resume(flow.id)
            await wait_for_change(flow, lambda change: change.event == "TenantGivenUp")
        assert questions == [f"The API no longer has the paid tenant {tenant.id}. Buy another one?"]


async def test_a_tenant_that_is_not_ready_in_time(tmp_path: Path) -> None:
    """Parked with its provisioning, so that the same command goes on with the tenant that is paid for."""
    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding(tenant_timeout=0.2))
        with pytest.raises(FlowParked, match="not ready within"):
            await flow.wait()
        again = await start_onboarding(engine, rehearsal.onboarding(tenant_timeout=0.2))
        assert again.id == flow.id
        assert rehearsal.cloud.ledger.checkouts == 1


@pytest.mark.parametrize(
    ("changes", "faults", "problem"),
    [
        ({"plan": "mars"}, [], "checkout: no plan 'mars'"),
        ({"region": "mars"}, [], "checkout: no region 'mars'"),
    ],
)
async def test_what_fails_fails_it(tmp_path: Path, changes: dict[str, str], faults: list[str], problem: str) -> None:
    """`failed`, with the name of the child and its words."""
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, **changes)
        assert outcome.state == "failed"
        assert outcome.problem.startswith(problem)


@pytest.mark.parametrize(("field", "machine"), [("login_port", "login"), ("checkout_port", "checkout")])
async def test_a_busy_port_fails_it_by_name(tmp_path: Path, field: str, machine: str) -> None:
    """`failed` before that child opens a browser; the port is named."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        with bind_loopback(0) as taken:
            port = int(taken.getsockname()[1])
            outcome = await run(engine, rehearsal, **{field: port})
        assert outcome.state == "failed"
        assert outcome.problem.startswith(f"{machine}: port {port}")


async def test_cancelling_it_cancels_the_child(tmp_path: Path) -> None:
    """The child first, then the parent; the port is free again and nobody's browser is heard."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        await rehearsal.wait_shown()
        await flow.cancel("enough")
        outcome = await flow.wait()
        assert (outcome.state, outcome.verdict) == ("cancelled", "cancelled")
        assert children(engine, flow) == {"login": "cancelled"}
        (page,) = rehearsal.cloud.consents.values()
        port = int((page.redirect_uri or "").split(":")[2].partition("/")[0])
        bind_loopback(port).close()


async def test_a_child_that_is_cancelled_alone_cancels_it(tmp_path: Path) -> None:
    """Whoever cancels the login meant the whole of it."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        await rehearsal.wait_shown()
        (child,) = engine.journal.children(flow.id)
        await engine.cancel(child.id)
        assert (await flow.wait()).state == "cancelled"


# --- parked --------------------------------------------------------------------------------------------------------


async def test_a_parked_child_parks_it(tmp_path: Path) -> None:
    """Both keep their states; what the child said is said; resuming the parent goes on with the same child."""
    faults = [f"error:path=/checkout/plans,times={CLIENT_ATTEMPTS}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.flow, parked.value.state, parked.value.code) == (flow.id, "checking_out", EXIT_PENDING)
        assert "sandbox_fault" in parked.value.user_message
        (child,) = [row for row in engine.journal.children(flow.id) if row.machine == "checkout"]
        assert (child.state, child.status) == ("validating_order", "paused")
        again = await start_onboarding(engine, rehearsal.onboarding())
        assert again.id == flow.id
        assert (await again.wait()).succeeded
        assert len(engine.journal.children(flow.id)) == 3


async def test_resuming_the_child_resumes_the_whole(tmp_path: Path) -> None:
    """`flows resume` with the child's id goes on with its parent."""
    faults = [f"error:path=/checkout/plans,times={CLIENT_ATTEMPTS}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked):
            await flow.wait()
        (child,) = [row for row in engine.journal.children(flow.id) if row.machine == "checkout"]
        resumed = await engine.resume(child.id)
        assert resumed.id == flow.id
        assert (await resumed.wait()).succeeded


async def test_a_token_that_ends_midway_asks_for_a_login(tmp_path: Path) -> None:
    """The status answers 401 while the tenant is made: exit code 4; after a login the same onboarding becomes ready."""
    faults = ["unauthorized:path=/status"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.state, parked.value.code) == ("provisioning", EXIT_LOGIN_NEEDED)
        rehearsal.log_in()
        assert (await (await engine.resume(flow.id)).wait()).state == "ready"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_api_that_is_down_parks_it(tmp_path: Path) -> None:
    """Stored credentials that cannot be checked are not thrown away: parked, still pending."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        await rehearsal.go_down()
        flow = await start_onboarding(engine, rehearsal.onboarding())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("Network", "checking_credentials")
        await rehearsal.come_up()
        assert (await (await engine.resume(flow.id)).wait()).succeeded
        assert rehearsal.cloud.consents == {}


# --- two at once ---------------------------------------------------------------------------------------------------


async def test_a_second_engine_is_told_who_drives_it(tmp_path: Path) -> None:
    """`FlowBusy` with the process and its host; the first is not disturbed and becomes ready."""
    async with (
        open_rehearsal(tmp_path, nobody=True) as rehearsal,
        rehearsal.open_engine() as first,
        rehearsal.open_engine() as second,
    ):
        flow = await start_onboarding(first, rehearsal.onboarding())
        url = (await rehearsal.wait_shown()).url
        before = len(flow.history)
        with pytest.raises(FlowBusy) as busy:
            await start_onboarding(second, rehearsal.onboarding())
        assert (busy.value.flow, busy.value.pid) == (flow.id, os.getpid())
        assert busy.value.host
        with pytest.raises(FlowBusy):
            await second.resume(flow.id)
        assert len(flow.history) == before
        rehearsal.browser = ScriptedBrowser(patience=5)
        await rehearsal.open_tab(url)
        assert (await flow.wait()).succeeded


async def test_a_second_engine_may_ask_for_the_end(tmp_path: Path) -> None:
    """A cancel from elsewhere reaches the driver through the inbox."""
    async with (
        open_rehearsal(tmp_path, nobody=True) as rehearsal,
        rehearsal.open_engine() as first,
        rehearsal.open_engine() as second,
    ):
        flow = await start_onboarding(first, rehearsal.onboarding())
        await wait_for_state(flow, "logging_in")
        await rehearsal.wait_shown()
        assert await second.cancel(flow.id, "from elsewhere") is False
        with trio.fail_after(5):
            assert (await flow.wait()).state == "cancelled"


async def test_two_of_different_plans_run_beside_each_other(tmp_path: Path) -> None:
    """Different orders are different flows, in one engine, on ports of their own."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flows = [
            await start_onboarding(engine, rehearsal.onboarding(plan=plan, checkout_port=own_port()))
            for plan in ("plan_sandbox_starter", "plan_sandbox_team")
        ]
        assert flows[0].id != flows[1].id
        assert all([(await flow.wait()).succeeded for flow in flows])
        assert len(TenantStore.load_from_path(rehearsal.paths.tenants).tenants) == 2
