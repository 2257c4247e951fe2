"""`demo`: the whole story on the embedded local cloud, in a directory of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ...base.errors import EXIT_DONE, EXIT_FAILED, CloudError, UnsafeFile
from ...errors import Network
from ..screen.terminal import put_drawn, say
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import Settings, is_local, settings_of, stored_api_url

if TYPE_CHECKING:
    import trio

    from ...engine.engine import Engine
    from ...engine.flow import Flow
    from ...engine.history import Change
    from ...flows.outside import OpenBrowser
    from ..run.drive import End, Presenter

FAULTS = (
    "foreign-event:after=1,path=/tenants/,says=provisioning_failed",
    "drop-stream:after=2,outage=3,path=/tenants/",
)
"""The stream reports another tenant's failure, which is dropped, and breaks; the outage is long enough to be shown
(`steady.py`)."""
STEP_SECONDS = 0.6
LONGEST_BACKOFF = 0.5
"""Seconds; short, so that the stream is surely back before the tenant is ready."""
POLL_SECONDS = 0.5


@click.command(cls=Command, epilog=f"Example: {CLI} demo --interrupt")
@click.option("--browser", is_flag=True, help="Click yourself, in your own browser.")
@click.option("--interrupt", is_flag=True, help="Stop after the payment, then resume.")
@click.pass_context
def demo(context: click.Context, browser: bool, interrupt: bool) -> None:
    """Show the whole story on a local cloud.

    Login, payment, an event stream that names another tenant and then drops, a tenant stored. Needs no account, no
    money and no network; your own credentials are not touched.
    """
    settings = settings_of(context)
    settings = in_own_directory(settings)
    import trio

    from ..run.drive import End, showing
    from ..shared.signals import until_interrupted

    end = End()

    async def main() -> None:
        with showing(settings) as shown:
            work = partial(_run_demo, settings, shown, end, browser=browser, interrupt=interrupt)
            end.stopped = await until_interrupted(work, shown.paused)

    trio.run(main)
    raise click.exceptions.Exit(_show_result(settings, end))


def in_own_directory(settings: Settings) -> Settings:
    """The same settings in a fresh directory, or in the one that was named.

    Raises:
        UnsafeFile: The named directory holds credentials of a real cloud.
    """
    from ...io.local.paths import CloudPaths
    from .demo_directories import new_demo_directory

    if settings.directory is None:
        directory = new_demo_directory(_user_directory() / "demo")
    else:
        directory = settings.paths.directory
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    stored = stored_api_url(paths)
    if stored is not None and not is_local(stored):
        raise UnsafeFile(
            f"{paths.credentials} is a real login at {stored}; the demo would replace it",
            hint="Leave --dir out, or name an empty directory.",
        )
    return msgspec.structs.replace(
        settings, paths=paths, directory=directory, reason="the demo's own", api_url=None, env=None
    )


def _user_directory() -> Path:
    import os

    from ...io.local.paths import resolve_cloud_paths

    environ = {name: value for name, value in os.environ.items() if name != "SYSTEMPROMPT_DIR"}
    return resolve_cloud_paths(None, environ, Path("/")).directory


async def _run_demo(settings: Settings, shown: Presenter, end: End, *, browser: bool, interrupt: bool) -> None:
    import trio

    from ...flows.onboarding import start_onboarding
    from ...io.http.polling import Backoff
    from ...io.loopback.browser import open_browser
    from ...machines.onboarding import OnboardingContext
    from ...sandbox import serve_sandbox
    from ..run.drive import run_flow

    async with serve_sandbox(faults=FAULTS, step_seconds=STEP_SECONDS) as cloud, trio.open_nursery() as people:
        shown.note(f"A local cloud runs at {cloud.url}; its event stream will name another tenant once, and drop once.")
        wanted = OnboardingContext(
            api_url=cloud.url, plan="plan_sandbox_starter", region="iad", login_port=0, checkout_port=0
        )
        opener = open_browser if browser else _scripted(people, shown)

        async def begin(engine: Engine) -> Flow:
            return await start_onboarding(engine, wanted)

        async def run(until: bool) -> None:
            await run_flow(
                settings,
                begin,
                shown,
                end,
                browser=opener,
                poll_seconds=POLL_SECONDS,
                backoff=Backoff(base=0.5, cap=LONGEST_BACKOFF),
                until=_is_paid if until else None,
            )

        await run(interrupt)
        if interrupt and end.outcome is None and end.error is None and end.row is not None:
            shown.note("")
            shown.note("Stopped right after the payment, as with Ctrl-C. On disk:")
            shown.note(f"  {settings.paths.journal}: {end.row.machine} {end.row.id} is in {end.row.state}")
            shown.note(f"  {settings.resume_command(end.row.id)}")
            shown.note("Resuming in a new engine:")
            shown.note("")
            await run(False)
        people.cancel_scope.cancel()


def _is_paid(change: Change) -> bool:
    return change.event == "PaymentCompleted"


def _scripted(people: trio.Nursery, shown: Presenter) -> OpenBrowser:
    """A browser that clicks by itself; its visits belong to `people`."""
    from ...io.loopback.browser import BrowserOutcome
    from ...sandbox.browser import ScriptedBrowser

    person = ScriptedBrowser()

    async def visit(url: str) -> None:
        try:
            await person.visit(url)
        except (Network, LookupError) as exc:
            shown.note(f"the scripted browser failed: {exc}")

    async def opening(url: str) -> BrowserOutcome:
        people.start_soon(visit, url)
        return BrowserOutcome(opened=True, reason="a scripted browser clicks")

    return opening


def _show_result(settings: Settings, end: End) -> int:
    from ..run.drive import showing, tell_end

    if end.outcome is None and end.error is None:
        say(f"Interrupted; the local cloud has stopped, too. To start again: {CLI} demo")
        return end.code
    done = end.outcome is not None and end.outcome.succeeded
    if done and end.outcome is not None and not settings.json:
        from ..flows.history import histories_of, summarize

        say()
        put_drawn(summarize(histories_of(settings, end.outcome.flow)).rstrip("\n"))
    with showing(settings) as shown:
        tell_end(settings, shown, end)
    if not done or end.outcome is None:
        return end.code
    if not settings.json:
        say(f"To see every step: {settings.command(f'flows history {end.outcome.flow} --verbose')}")
    return EXIT_DONE if _is_stored(settings, str(end.outcome.result["tenant_id"])) else EXIT_FAILED


def _is_stored(settings: Settings, tenant: str) -> bool:
    from ...io.local.tenants import TenantStore

    try:
        return TenantStore.load_from_path(settings.paths.tenants).find_tenant(tenant) is not None
    except CloudError:
        return False
