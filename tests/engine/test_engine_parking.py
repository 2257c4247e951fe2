"""What stops a flow parks it: it keeps its state, says why, and can go on once that is mended."""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import ActivitiesRanDry
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.errors import Network, NotAuthenticated
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.parcel import PARCEL, Fails, Oops, Packed, Parcel, Stamped, deliver, parcel
from tests.support.rehearsal import wait_parked


@pytest.mark.parametrize(
    ("failure", "kind", "code", "hint"),
    [
        pytest.param(NotAuthenticated("the API refused it"), "NotAuthenticated", 4, "Log in.", id="login"),
        pytest.param(Network("no route", hint="plug it in"), "Network", 8, "plug it in", id="network"),
        pytest.param(Oops("what?"), "UnexpectedFailure", 8, "Engine.resume(flow)", id="bug"),
        pytest.param(ActivitiesRanDry("dry"), "ActivitiesRanDry", 8, "bug", id="dry"),
    ],
)
async def test_what_stops_a_flow_parks_it_and_resume_goes_on(
    paths: CloudPaths, failure: Exception, kind: str, code: int, hint: str
) -> None:
    """It keeps its state and says why, with the mend and the exit code; once mended it goes on from there."""
    fails = Fails(failure)
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=7))
        error = await wait_parked(flow)
        assert (error.flow, error.state, error.kind, error.code) == (flow.id, "packing", kind, code)
        assert hint in error.recovery_hint
        assert (flow.row.state, flow.row.status, flow.row.seq) == ("packing", "paused", 2)
        assert flow.row.owner is None
        assert (await wait_parked(flow)).user_message == error.user_message
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        again = await wait_parked(await engine.resume(flow.id))
        assert again.kind == kind
        fails.failure = None
        flow = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await flow.wait()).state == "delivered"
        assert flow.context == Parcel(stamps=7)
        assert [change.kind for change in flow.history][:4] == ["started", "paused", "resumed", "paused"]
        assert flow.row.trouble is None


async def test_activities_that_run_dry_park_the_flow_by_name(paths: CloudPaths) -> None:
    """The message has the state and the activities, so that the bug can be found."""

    async def looks(_visit: Visit[Parcel]) -> None:
        await trio.lowlevel.checkpoint()

    async def shrugs(_visit: Visit[Parcel]) -> Event:
        return Stamped()

    async with open_engine(paths, [parcel(looks, shrugs)]) as engine:
        error = await wait_parked(await engine.start(PARCEL, Parcel()))
        assert error.kind == "ActivitiesRanDry"
        assert "packing" in error.user_message
        assert "looks, shrugs" in error.user_message


async def test_a_failure_nobody_planned_for_is_in_the_log(paths: CloudPaths, logged: list[str]) -> None:
    """With its traceback; the person sees one sentence, without secrets."""
    secret = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlc2lnbmF0dXJl"
    async with open_engine(paths, [parcel(Fails(Oops(f"no: {secret}")))]) as engine:
        error = await wait_parked(await engine.start(PARCEL, Parcel()))
        assert error.user_message.startswith("Oops: no:")
        assert "If logging is configured, the traceback is in the log" in error.recovery_hint
        assert error.remedy == Remedy("see_traceback")
        assert "eyJ" not in error.user_message
        assert b"c2lnbmF0dXJl" not in engine.journal.path.read_bytes()
    said = "failed in packing with an unexpected error, in activity fails"
    assert any(said in line and "Traceback" in line for line in logged)


async def test_one_flow_parked_is_one_flow_parked(paths: CloudPaths) -> None:
    """The others of the same engine go on."""
    fails = Fails(Oops())
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        broken = await engine.start(PARCEL, Parcel())
        await wait_parked(broken)
        fails.failure = None
        with trio.fail_after(10):
            assert (await (await engine.start(PARCEL, Parcel())).wait()).succeeded
        assert broken.row.status == "paused"


async def test_a_parked_flow_can_be_cancelled_and_takes_no_events(paths: CloudPaths) -> None:
    """It is driven by nobody: events are left in its inbox for whoever resumes it."""
    async with open_engine(paths, [parcel(Fails(Oops()))]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await wait_parked(flow)
        before = flow.row
        assert await flow.send(Stamped()) is False
        assert flow.row == before
        await flow.cancel("enough")
        outcome = await flow.wait()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("cancelled", "cancelled", "enough")


async def test_an_event_that_comes_while_a_flow_is_being_parked_wins(paths: CloudPaths) -> None:
    """A flow that somebody led out of the state meanwhile is not parked in the next one."""

    async def fails(_visit: Visit[Parcel]) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async def breaks(_visit: Visit[Parcel]) -> None:
        await go.wait()
        raise Oops

    for _ in range(10):
        started, go = trio.Event(), trio.Event()
        async with open_engine(paths, [parcel(fails, breaks, travelling=deliver)]) as engine:
            flow = await engine.start(PARCEL, Parcel())
            await started.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flow.send, Packed())
                go.set()
            with trio.fail_after(10):
                assert (await flow.wait()).state == "delivered"
