"""A provisioning reaches its end whatever becomes of the stream, and what it stores is right."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.provisioning import start_provisioning
from systemprompt_cloud.flows.steps.counting import IN_A_ROW
from systemprompt_cloud.io.cloud.wire import ProvisioningEventType as Event
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore
from systemprompt_cloud.machines.provisioning import ProvisioningContext
from systemprompt_cloud.sandbox import Fault, views
from systemprompt_cloud.sandbox.faults import FaultPlan
from systemprompt_cloud.sandbox.provisioning import MESSAGES, timeline

from tests.support.rehearsal import Rehearsal, open_rehearsal, wait_for_change, wait_for_state

EVENTS = "path=/events"


async def run(engine: Engine, rehearsal: Rehearsal, **changes: object) -> Outcome:
    """The wait for a tenant bought this moment, from its start to its end."""
    return await (await begin(engine, rehearsal, **changes)).wait()


async def begin(engine: Engine, rehearsal: Rehearsal, **changes: object) -> Flow:
    """Start the wait for a tenant bought this moment."""
    rehearsal.log_in()
    return await start_provisioning(engine, rehearsal.provisioning(rehearsal.buy().id, **changes))


def stored(rehearsal: Rehearsal) -> StoredTenant:
    """The one tenant in tenants.json."""
    (tenant,) = TenantStore.load_from_path(rehearsal.paths.tenants).tenants
    return tenant


def events(flow: Flow) -> list[str]:
    """What happened to a flow, by name."""
    return [change.event for change in flow.history if change.kind == "event"]


def known_steps(flow: Flow) -> list[str]:
    """The steps a flow has seen, in the order in which it did."""
    context = flow.context
    assert isinstance(context, ProvisioningContext)
    return list(context.steps)


# --- how it ends ---------------------------------------------------------------------------------------------------


async def test_a_tenant_becomes_ready_and_is_stored(tmp_path: Path) -> None:
    """Every step is seen once, in order; the tenant stands in tenants.json, 0600, with its secrets.

    The first question gets no answer: one that knows of the end would end the wait before the stream has told all.
    """
    async with (
        open_rehearsal(tmp_path, faults=["error:path=/status"]) as rehearsal,
        rehearsal.open_engine(idle_seconds=60.0, poll_seconds=2.0) as engine,
    ):
        flow = await begin(engine, rehearsal)
        outcome = await flow.wait()
        (tenant,) = rehearsal.cloud.tenants.values()
        assert (outcome.state, outcome.verdict) == ("ready", "success")
        assert outcome.result["app_url"] == views.app_url(tenant)
        assert outcome.result["tenants"] == str(rehearsal.paths.tenants)
        assert known_steps(flow) == list(MESSAGES)
        assert rehearsal.paths.tenants.stat().st_mode & 0o777 == 0o600
        secrets, kept = views.tenant_secrets(rehearsal.cloud, tenant), stored(rehearsal)
        assert (kept.id, kept.name, kept.tenant_type) == (tenant.id, tenant.name, "cloud")
        assert kept.internal_database_url == secrets.internal_database_url
        assert kept.sync_token == secrets.sync_token
        assert kept.database_url is None
        assert not [path for path in rehearsal.paths.vault.rglob("*") if path.is_file()]


async def test_other_tenants_stay(tmp_path: Path) -> None:
    """A second tenant is stored beside the first."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        for _ in range(2):
            assert (await run(engine, rehearsal)).succeeded
        kept = TenantStore.load_from_path(rehearsal.paths.tenants).tenants
        assert {tenant.id for tenant in kept} == set(rehearsal.cloud.tenants)


FAULTS = {
    "the stream breaks": [f"drop-stream:after=3,{EVENTS}"],
    "the stream breaks at once": [f"drop-stream:after=0,{EVENTS}"],
    "the stream breaks again and again": [f"drop-stream:after=1,times=5,{EVENTS}"],
    "streams are out for a while": [f"drop-stream:after=2,outage=0.1,{EVENTS}"],
    "streams are out for good": [f"drop-stream:after=2,outage=1000,{EVENTS}"],
    "there is no stream": [f"error:status=503,times=0,{EVENTS}"],
    "the stream falls silent": [f"silence:after=2,{EVENTS}"],
    "one event is malformed": [f"malformed:after=2,{EVENTS}"],
    "every other event is malformed": [f"malformed:after=0,times=0,{EVENTS}"],
    "a portal instead of the stream": [f"content-type:times=2,{EVENTS}"],
    "503, and 500 for the status": [f"drop-stream:{EVENTS}", "error:status=500,path=/status"],
    "everything is slow": ["slow:seconds=0.05"],
    "the secrets hiccup": ["error:path=/provisioned-secrets"],
}


@pytest.mark.parametrize("name", FAULTS)
async def test_whatever_becomes_of_the_stream_the_tenant_is_stored(tmp_path: Path, name: str) -> None:
    """Stream, polling or both in turn: `ready`, with the last step known and the secrets stored."""
    async with open_rehearsal(tmp_path, faults=FAULTS[name]) as rehearsal, rehearsal.open_engine() as engine:
        flow = await begin(engine, rehearsal)
        assert (await flow.wait()).state == "ready", flow.history
        assert stored(rehearsal).sync_token
        steps = known_steps(flow)
        assert steps[-1] == "tenant_ready"
        assert len(set(steps)) == len(steps)


async def test_a_lost_stream_is_noted_and_opened_again(tmp_path: Path) -> None:
    """The loss is a row; the stream goes on after the last event's id, so nothing is told twice."""
    faults = [f"drop-stream:after=3,{EVENTS}"]
    async with (
        open_rehearsal(tmp_path, faults=faults, step_seconds=1000.0) as rehearsal,
        rehearsal.open_engine(idle_seconds=60.0) as engine,
    ):
        rehearsal.log_in()
        tenant = rehearsal.buy()
        tenant.started -= 3 * 1000.0
        flow = await start_provisioning(engine, rehearsal.provisioning(tenant.id))
        await wait_for_change(flow, lambda change: change.event == "StreamLost")
        tenant.started -= 6 * 1000.0
        rehearsal.cloud.wake()
        await wait_for_change(flow, lambda _: Event.INFRASTRUCTURE_READY in known_steps(flow))
        tenant.started -= 1000.0
        rehearsal.cloud.wake()
        assert (await flow.wait()).succeeded
        assert known_steps(flow) == list(MESSAGES)


async def test_a_busy_stream_is_tried_again_when_the_server_says(tmp_path: Path) -> None:
    """`Retry-After: 60` holds for the stream; polling brings the tenant meanwhile."""
    faults = [f"error:status=503,retry_after=60,times=0,{EVENTS}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await begin(engine, rehearsal)
        assert (await flow.wait()).succeeded
        assert rehearsal.cloud.ledger.requests["GET /api/v1/tenants/{id}/events"] == 1


async def test_a_token_that_ends_midway_parks_and_a_new_login_goes_on(tmp_path: Path) -> None:
    """401 on the status: exit code 4 and the command that fixes it; after a login the same flow becomes ready."""
    faults = ["unauthorized:after=0,path=/status"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        flow = await begin(engine, rehearsal)
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.code == EXIT_LOGIN_NEEDED
        assert parked.value.remedy in (Remedy("log_in"), Remedy("log_in_again"))
        rehearsal.log_in()
        again = await engine.resume(flow.id)
        assert (await again.wait()).succeeded


async def test_a_stream_that_refuses_the_token_is_no_reason_to_stop(tmp_path: Path) -> None:
    """The status call has the word about the token."""
    faults = [f"unauthorized:after=0,times=0,{EVENTS}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        assert (await run(engine, rehearsal)).succeeded


async def test_the_server_gives_up(tmp_path: Path) -> None:
    """`failed`, with the server's words."""
    faults = ["provisioning-failure:after=4"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        assert outcome.state == "failed"
        assert "The virtual machine did not start" in outcome.problem
        assert not rehearsal.paths.tenants.exists()


async def test_the_server_gives_up_while_the_stream_is_away(tmp_path: Path) -> None:
    """Polling tells the same end in the same words."""
    faults = ["provisioning-failure:after=4", f"error:times=0,{EVENTS}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        assert (outcome.state, outcome.problem) == (
            "failed",
            "The virtual machine did not start (a scripted sandbox failure)",
        )


@pytest.mark.parametrize("faults", [[], [f"error:times=0,{EVENTS}"]])
async def test_an_unknown_tenant_ends_the_wait(tmp_path: Path, faults: list[str]) -> None:
    """404, from the stream or from polling: `failed` at once, with a message that says so."""
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        outcome = await (await start_provisioning(engine, rehearsal.provisioning("tnt_nobody"))).wait()
        assert outcome.state == "failed"
        assert "tenant_not_found" in outcome.problem
        assert "tnt_nobody" in outcome.problem


async def test_somebody_elses_tenant_ends_the_wait(tmp_path: Path) -> None:
    """The API does not say that it exists, and neither do we."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        outcome = await (await start_provisioning(engine, rehearsal.provisioning(rehearsal.buy(person=1).id))).wait()
        assert outcome.state == "failed"
        assert not rehearsal.paths.tenants.exists()


@pytest.mark.parametrize("faults", [["needs-deploy"], ["needs-deploy", f"error:times=0,{EVENTS}"]])
async def test_a_tenant_without_an_image_is_as_far_as_it_can_come(tmp_path: Path, faults: list[str]) -> None:
    """Asked to wait for the infrastructure only: `ready` there, `needs_deploy`, secrets stored."""
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, until="infrastructure_ready")
        assert outcome.state == "ready"
        assert outcome.result["needs_deploy"] is True
        assert stored(rehearsal).sync_token


# --- time ----------------------------------------------------------------------------------------------------------


async def test_a_tenant_that_is_not_ready_in_time(tmp_path: Path) -> None:
    """What is paid for is not given up: asked once more, then parked with the last word; resumed, it waits on."""
    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal, rehearsal.open_engine() as engine:
        flow = await begin(engine, rehearsal, timeout=0.2)
        with pytest.raises(FlowParked, match=r"not ready within 0\.2 s; last message: Payment received") as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.code, parked.value.state) == ("StillPending", 8, "overdue")
        assert events(flow)[-2:] == ["DeadlinePassed", "StillWorking"]
        (tenant,) = rehearsal.cloud.tenants.values()
        tenant.steps = timeline(0.0)
        assert (await (await engine.resume(flow.id)).wait()).state == "ready"


async def test_the_last_question_may_find_it_ready(tmp_path: Path) -> None:
    """No stream, a slow poll, and the time is up: asked once more, the server says ready, and the tenant is stored."""
    async with (
        open_rehearsal(tmp_path, faults=[f"error:times=0,{EVENTS}"], step_seconds=60) as rehearsal,
        rehearsal.open_engine(poll_seconds=60.0) as engine,
    ):
        flow = await begin(engine, rehearsal, timeout=0.8)
        while not rehearsal.cloud.ledger.requests["GET /api/v1/tenants/{id}/status"]:
            await trio.lowlevel.checkpoint()
        (tenant,) = rehearsal.cloud.tenants.values()
        tenant.steps = timeline(0.0)
        assert (await flow.wait()).state == "ready"
        passed = events(flow).index("DeadlinePassed")
        assert events(flow)[passed : passed + 2] == ["DeadlinePassed", "TenantBecameReady"]


async def test_a_tenant_that_became_ready_while_nobody_looked(tmp_path: Path) -> None:
    """A laptop asleep over the deadline: resumed long after, it asks once more, and the tenant is ready."""
    async with open_rehearsal(tmp_path, step_seconds=0.03) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await begin(engine, rehearsal, timeout=0.1)
        (tenant,) = rehearsal.cloud.tenants.values()
        await rehearsal.cloud.wait_until(tenant.started + 11 * 0.03)
        async with rehearsal.open_engine() as engine:
            again = await engine.resume(flow.id)
            assert (await again.wait()).state == "ready"


# --- the database --------------------------------------------------------------------------------------------------


async def test_a_database_that_is_wanted_outside(tmp_path: Path) -> None:
    """Opened once; the stored address has the outside host and asks for TLS (docs/reference/wire.md section 2)."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, external_db=True)
        assert outcome.result["external_db_access"] is True
        kept = stored(rehearsal)
        parts = urlsplit(kept.database_url or "")
        assert parts.hostname == "db-sandbox.systemprompt.io"
        assert parse_qs(parts.query)["sslmode"] == ["require"]
        assert kept.external_db_access
        assert "sslmode=disable" in (kept.internal_database_url or "")
        assert rehearsal.cloud.ledger.requests["PUT /api/v1/tenants/{id}/external-db-access"] == 1


async def test_a_database_that_cannot_be_opened_is_a_warning(tmp_path: Path) -> None:
    """The tenant runs all the same: `ready`, and the warning says what the API said."""
    faults = ["error:status=403,path=/external-db-access"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, external_db=True)
        assert outcome.state == "ready"
        assert "sandbox_fault" in str(outcome.result["warning"])
        assert outcome.result["external_db_access"] is False
        assert stored(rehearsal).database_url is None


async def test_a_lost_answer_about_the_database_is_asked_for_again(tmp_path: Path) -> None:
    """Opening it twice is the same as once: no warning."""
    faults = ["lose-answer:path=/external-db-access"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal, external_db=True)
        assert (outcome.state, outcome.result["warning"]) == ("ready", "")
        assert rehearsal.cloud.ledger.replayed == 1


# --- what parks it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/provisioned-secrets", "/auth/me", "/status"])
@pytest.mark.parametrize("fault", ["content-type", "error:status=503", "error:status=403", "error:status=404"])
async def test_an_api_that_is_away_for_a_moment_is_asked_again(tmp_path: Path, path: str, fault: str) -> None:
    """A portal, a failure or a replica that is behind, wherever: the tenant is stored with its secrets."""
    name, _, rest = fault.partition(":")
    faults = [f"{name}:{rest + ',' if rest else ''}path={path},times={IN_A_ROW - 1}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        assert (outcome.state, outcome.result["warning"]) == ("ready", "")
        assert stored(rehearsal).sync_token


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_tenant_that_runs_is_stored_without_its_secrets(tmp_path: Path, status: int) -> None:
    """They are refused again and again: `ready`, with a warning and without a second state for it."""
    faults = [f"error:status={status},path=/provisioned-secrets,times=0"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await run(engine, rehearsal)
        assert (outcome.state, outcome.result["secrets_missing"]) == ("ready", True)
        assert "the tenant's secrets could not be fetched" in str(outcome.result["warning"])
        assert stored(rehearsal).sync_token is None


async def test_an_api_that_goes_down_midway_is_waited_for(tmp_path: Path) -> None:
    """Neither stream nor polling for a while: the wait goes on by itself when the API is back."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        flow = await begin(engine, rehearsal)
        await wait_for_change(flow, lambda change: change.event == "StepObserved")
        await rehearsal.go_down()
        await wait_for_change(flow, lambda change: change.event == "StreamLost")
        await rehearsal.come_up()
        assert (await flow.wait()).succeeded


async def test_a_corrupt_tenants_file_is_set_aside(tmp_path: Path) -> None:
    """What could not be read is kept under another name, and the tenant is stored (SECURITY 11)."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.paths.tenants.write_bytes(b"[1, 2")
        assert (await run(engine, rehearsal)).succeeded
        (kept,) = rehearsal.paths.directory.glob("tenants.json.unreadable-*")
        assert kept.read_bytes() == b"[1, 2"
        assert stored(rehearsal).sync_token


async def test_secrets_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    """Somebody removed the vault while the flow was interrupted: it says so instead of storing half a tenant."""
    async with open_rehearsal(tmp_path) as rehearsal:
        faults = Fault.parse("slow:seconds=1000,path=/auth/me")
        async with rehearsal.open_engine() as engine:
            flow = await begin(engine, rehearsal)
            rehearsal.cloud.faults = FaultPlan([faults])
            await wait_for_state(flow, "saving_tenant")
        shutil.rmtree(rehearsal.paths.vault)
        rehearsal.cloud.faults = FaultPlan()
        async with rehearsal.open_engine() as engine:
            again = await engine.resume(flow.id)
            with pytest.raises(FlowParked) as parked:
                await again.wait()
            assert parked.value.kind == "VaultMissing"
        assert not rehearsal.paths.tenants.exists()
