"""Secrets live as long as their flow, in the vault and nowhere else."""

from __future__ import annotations

import trio
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.parcel import PARCEL, Delivered, Fails, Labelled, Packed, Parcel, parcel
from tests.support.rehearsal import wait_parked


async def test_secrets_live_as_long_as_their_flow(paths: CloudPaths) -> None:
    """Kept while it runs, is parked or waits for another process; gone when it has ended; never in the journal."""
    secret = "correct horse battery staple"
    fails = Fails(Network("away"))

    async def keeps(visit: Visit[Parcel]) -> Event | None:
        await visit.send(Labelled(await visit.keep("label", secret)))
        return await fails(visit)

    async def reads(visit: Visit[Parcel]) -> Event:
        assert await visit.reveal(visit.context.label) == secret
        assert await visit.reveal("vault:given") == "handed in"
        return Delivered()

    async with open_engine(paths, [parcel(keeps, travelling=reads)]) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"given": "handed in"})
        await wait_parked(flow)
        assert engine.vault.has(flow.id, "vault:given")
        fails.failure = None
    async with open_engine(paths, [parcel(keeps, travelling=reads)]) as engine:
        assert engine.vault.has(flow.id, "vault:given")
        flow = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded
        assert list(paths.vault.iterdir()) == []
    for file in paths.state_directory.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()


async def test_the_redactor_forgets_a_secret_with_its_flow_or_engine(paths: CloudPaths) -> None:
    """Hidden until the flow has ended or the engine is closed. Whoever resumes it hides it again."""
    async with open_engine(paths, [parcel()]) as engine:
        ended = await engine.start(PARCEL, Parcel(), secrets={"token": "shapeless one"})
        running = await engine.start(PARCEL, Parcel(), secrets={"token": "shapeless two"})
        assert redact("shapeless one, shapeless two") == "***, ***"
        await ended.cancel()
        with trio.fail_after(10):
            await ended.wait()
        assert redact("shapeless one, shapeless two") == "shapeless one, ***"
    assert redact("shapeless one, shapeless two") == "shapeless one, shapeless two"
    async with open_engine(paths, [parcel()]) as engine:
        await engine.resume(running.id)
        assert redact("shapeless one, shapeless two") == "shapeless one, ***"


async def test_unreadable_secrets_do_not_keep_a_flow_from_being_resumed(paths: CloudPaths, warned: list[str]) -> None:
    """It may need none of them any more; that they are unreadable is logged."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
    (paths.vault / f"{flow.id}.json").write_text("not JSON")
    async with open_engine(paths, [parcel()]) as engine:
        assert (await engine.resume(flow.id)).state == "packing"
    assert any("cannot be read" in line for line in warned)


async def test_secrets_of_a_flow_that_could_not_start_are_gone(paths: CloudPaths) -> None:
    """No flow, no secrets: also when the start was cancelled between the two."""
    async with open_engine(paths, [parcel()]) as engine:
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.start(PARCEL, Parcel(), secrets={"one": "1" * 10, "two": "2" * 10})
        assert engine.journal.flows() == []
        assert list(paths.vault.glob("*")) == []


async def test_secrets_a_killed_process_left_behind_are_removed(paths: CloudPaths) -> None:
    """Killed between the last commit and the removal: the next engine removes them, and only those."""
    async with open_engine(paths, [parcel()]) as engine:
        ended = await engine.start(PARCEL, Parcel())
        await ended.cancel()
        running = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
        engine.vault.put(ended.id, "token", "left behind")
    async with open_engine(paths, [parcel()]) as engine:
        assert not engine.vault.has(ended.id, "vault:token")
        assert engine.vault.has(running.id, "vault:token")


async def test_secrets_that_cannot_be_removed_do_not_stop_the_flow(paths: CloudPaths, logged: list[str]) -> None:
    """The flow has ended; that its secrets are still there is logged."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
        file = paths.vault / f"{flow.id}.json"
        file.unlink()
        file.mkdir()
        await flow.send(Packed())
        await flow.cancel()
        with trio.fail_after(10):
            assert (await flow.wait()).state == "cancelled"
    assert any("are still kept" in line for line in logged)


async def test_secrets_that_could_not_be_removed_are_removed_later(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The engine that could not remove them tries again, for as long as it is open."""
    async with open_engine(paths, [parcel()], clock=clock, inline=True) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
        file = paths.vault / f"{flow.id}.json"
        kept = file.rename(paths.vault.parent / "kept")
        file.mkdir()
        await flow.cancel()
        await flow.wait()
        file.rmdir()
        kept.rename(file)
        await trio.sleep(2)
        assert not file.exists()
