"""`sandbox`: the local cloud on its own, for development and tests."""

from __future__ import annotations

import sys
from typing import Any

import click
from typing_extensions import override

from ..screen.terminal import put, put_json, say
from ..shared.bounds import any_whole_number, number
from ..shared.completion import FAULTS, complete_from
from ..shared.names import CLI
from ..shared.options import PORTS
from ..shared.parameters import Command
from ..shared.settings import program, settings_of


class _ListingFaults(Command):
    """The help of this command ends with the faults there are; they are looked up only when it is asked for."""

    @override
    def get_help(self, ctx: Any) -> str:
        from ...sandbox.faults import FAULTS, fault_syntax

        listed = "\n".join(f"  {fault_syntax(name)}\n      {what}" for name, what in FAULTS.items())
        return f"{super().get_help(ctx)}\n\nFaults, with their defaults:\n{listed}"


@click.command(
    cls=_ListingFaults,
    epilog=f"Example: {CLI} sandbox --port 8800 --fault drop-stream:after=3 --fault slow:seconds=2",
)
@click.option("--port", type=PORTS, default=0, metavar="PORT", help="0 for any free one.")
@click.option(
    "--seed", type=any_whole_number, metavar="N", help="Equal seeds give equal ids and keys. [default: fresh ones]"
)
@click.option(
    "--fault",
    metavar="NAME:KEY=VALUE,...",
    multiple=True,
    shell_complete=complete_from(FAULTS),
    help="Something that goes wrong, see below; repeatable.",
)
@click.option("--step", type=number(0, 3600), default=0.3, metavar="SECONDS", help="Per step of provisioning.")
@click.pass_context
def sandbox(context: click.Context, port: int, seed: int | None, fault: tuple[str, ...], step: float) -> None:
    """Run a local cloud on loopback until Ctrl-C.

    Its address is the first line on stdout. It needs no account, no money and no network, and forgets
    everything when it ends.
    """
    settings = settings_of(context)
    import trio

    from ...sandbox import serve_sandbox
    from ..shared.signals import until_interrupted

    async def work() -> None:
        async with serve_sandbox(port, seed=seed, faults=fault, step_seconds=step) as cloud:
            if settings.json:
                put_json({"url": cloud.url})
            else:
                put(cloud.url)
            if sys.stderr.isatty():
                say(f"Use it: {program()} up --plan plan_sandbox_starter --region iad --api-url {cloud.url}")
                say("Ctrl-C ends it.")
            await trio.sleep_forever()

    trio.run(until_interrupted, work)
