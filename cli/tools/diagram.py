"""`diagram`: a machine, or a flow with its path, drawn from the same table that runs it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...engine.errors import FlowNotFound
from ..screen.terminal import DrawingStyle, clean, put, put_done, put_json, stream_style
from ..shared.arguments import known_path
from ..shared.completion import MACHINES, complete_flows, complete_from
from ..shared.names import CLI
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from ...engine.machine.machine import Machine


class Format(StrEnum):
    """How it is drawn."""

    MERMAID = "mermaid"
    TEXT = "text"


@click.command(cls=Command, epilog=f"Example: {CLI} diagram checkout --format text")
@click.argument(
    "machine",
    cls=Argument,
    metavar="MACHINE",
    required=False,
    shell_complete=complete_from(MACHINES),
    about="login, checkout, provisioning, deployment or onboarding.",
)
@click.option("--flow", metavar="ID", shell_complete=complete_flows, help="Draw this flow's path.")
@click.option(
    "--format",
    "how",
    type=click.Choice([each.value for each in Format]),
    default=Format.MERMAID.value,
    help="How it is drawn.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=checking(known_path),
    help="Write it there.",
)
@click.pass_context
def diagram(context: click.Context, machine: str | None, flow: str | None, how: str, output: Path | None) -> None:
    """Draw a machine, or the path of a flow. Without either, the onboarding machine."""
    settings = settings_of(context)
    drawn = Format(how)
    style = stream_style(sys.stdout)
    if settings.json or output is not None:
        style["color"] = False
    if flow is not None:
        text = _flow(settings, flow, machine, drawn, style)
    else:
        text = _machine(machine or "onboarding", drawn, style)
    if output is not None:
        _save(output, text)
        put_done(settings, {"format": how, "file": str(output)}, f"Wrote {clean(str(output))}")
    elif settings.json:
        put_json({"format": how, "diagram": text})
    else:
        put(text.rstrip("\n"))


def _machine(name: str, how: Format, style: DrawingStyle) -> str:
    from ...diagrams.mermaid import mermaid
    from ...diagrams.text import draw_table

    machine = known_machine(name)
    return mermaid(machine) if how is Format.MERMAID else draw_table(machine, **style)


def _flow(settings: Settings, flow: str, machine: str | None, how: Format, style: DrawingStyle) -> str:
    from ...base.redaction import redact
    from ...diagrams.mermaid import mermaid
    from ..flows.history import draw, histories_of
    from ..flows.ways_on import is_ours

    histories = histories_of(settings, flow)
    if how is Format.TEXT:
        return draw(histories, style)
    wanted = machine or histories[0][0].machine
    changes = next((changes for changes in histories if changes[0].machine == wanted), None)
    if changes is None:
        raise FlowNotFound(f"flow {flow} ran no {wanted}")
    if not is_ours(wanted):
        raise click.BadParameter(f"the table of {wanted} is not here; its path is drawn without by --format text")
    return redact(mermaid(known_machine(wanted), changes=changes))


def known_machine(name: str) -> Machine[Any]:
    """The machine of this name. Raises `click.BadParameter` that lists what there is."""
    from ..screen.render import MACHINES

    if name not in MACHINES:
        raise click.BadParameter(f"no machine {name!r}. Machines: {', '.join(MACHINES)}")
    return MACHINES[name]


def _save(path: Path, text: str) -> None:
    from ...base.errors import Io

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Io(f"cannot write {path}: {exc.strerror}") from exc
