"""`diagram`: a machine, or a flow with its path, drawn from the same table that runs it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CLI, FlowNotFound
from .settings import Settings, settings_of
from .terminal import put, say, stream_style

if TYPE_CHECKING:
    from ..machines.machine import Machine


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
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
) -> None:
    """Draw a machine, or the path of a flow. Without either, the onboarding machine."""
    settings = settings_of(context)
    text = _flow(settings, flow, machine, how) if flow is not None else _machine(machine or "onboarding", how)
    if output is None:
        put(text.rstrip("\n"))
        return
    _save(output, text)
    say(f"Wrote {output}")


def _machine(name: str, how: Format) -> str:
    from ..diagrams.mermaid import mermaid
    from ..diagrams.text import draw_table

    machine = known_machine(name)
    return mermaid(machine) if how is Format.MERMAID else draw_table(machine, **stream_style(sys.stdout))


def _flow(settings: Settings, flow: str, machine: str | None, how: Format) -> str:
    from ..diagrams.mermaid import mermaid
    from ..io.log import redact
    from .history import draw, histories_of

    histories = histories_of(settings, flow)
    if how is Format.TEXT:
        return draw(histories)
    wanted = machine or histories[0][0].machine
    changes = next((changes for changes in histories if changes[0].machine == wanted), None)
    if changes is None:
        raise FlowNotFound(f"flow {flow} ran no {wanted}")
    return redact(mermaid(known_machine(wanted), changes=changes))


def known_machine(name: str) -> Machine[Any]:
    """The machine of this name. Raises `typer.BadParameter` that lists what there is."""
    from .render import MACHINES

    if name not in MACHINES:
        raise typer.BadParameter(f"there is no machine {name!r}; there are {', '.join(MACHINES)}")
    return MACHINES[name]


def _save(path: Path, text: str) -> None:
    from ..errors import Io

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Io(f"cannot write {path}: {exc.strerror}") from exc


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} diagram checkout --format text")(diagram)
