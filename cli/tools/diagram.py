"""`diagram`: a machine, or a flow with its path, drawn from the same table that runs it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.errors import FlowNotFound
from ..screen.terminal import DrawingStyle, clean, put, put_done, put_json, stream_style
from ..shared.arguments import known_path
from ..shared.names import CLI
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from ...engine.machine.machine import Machine


class Format(StrEnum):
    """How it is drawn."""

    MERMAID = "mermaid"
    TEXT = "text"


def diagram(
    context: typer.Context,
    machine: Annotated[
        str | None, typer.Argument(metavar="MACHINE", help="login, checkout, provisioning, deployment or onboarding.")
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", metavar="ID", help="Draw this flow's path.")] = None,
    how: Annotated[Format, typer.Option("--format", help="How it is drawn.")] = Format.MERMAID,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", callback=known_path, help="Write it there.")
    ] = None,
) -> None:
    """Draw a machine, or the path of a flow. Without either, the onboarding machine."""
    settings = settings_of(context)
    style = stream_style(sys.stdout)
    if settings.json or output is not None:
        style["color"] = False
    if flow is not None:
        text = _flow(settings, flow, machine, how, style)
    else:
        text = _machine(machine or "onboarding", how, style)
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
        raise typer.BadParameter(f"the table of {wanted} is not here; its path is drawn without by --format text")
    return redact(mermaid(known_machine(wanted), changes=changes))


def known_machine(name: str) -> Machine[Any]:
    """The machine of this name. Raises `typer.BadParameter` that lists what there is."""
    from ..screen.render import MACHINES

    if name not in MACHINES:
        raise typer.BadParameter(f"no machine {name!r}. Machines: {', '.join(MACHINES)}")
    return MACHINES[name]


def _save(path: Path, text: str) -> None:
    from ...base.errors import Io

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Io(f"cannot write {path}: {exc.strerror}") from exc


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} diagram checkout --format text")(diagram)
