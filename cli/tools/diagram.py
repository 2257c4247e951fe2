"""`diagram`: a machine, or a flow with its path, drawn from the same table that runs it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from ...engine.errors import FlowNotFound
from ..screen.terminal import DrawingStyle, clean, put_done, put_drawn, put_json, stream_style
from ..shared.arguments import known_path
from ..shared.completion import MACHINES, complete_flows, complete_from
from ..shared.names import CLI
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...engine.history import Change
    from ...engine.machine.machine import Machine

    Theme = Literal["auto", "light", "dark"]


class Format(StrEnum):
    """How it is drawn."""

    MERMAID = "mermaid"
    SVG = "svg"
    DOT = "dot"
    TEXT = "text"


@click.command(cls=Command, epilog=f"Example: {CLI} diagram checkout --format svg -o checkout.svg")
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
    "--theme",
    type=click.Choice(["auto", "light", "dark"]),
    default="auto",
    help="Colors of an SVG: auto follows the reader's setting.",
)
@click.option("--full", is_flag=True, help="SVG and DOT: every way to a failure or a cancellation is an arrow, too.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=checking(known_path),
    help="Write it there.",
)
@click.pass_context
def diagram(
    context: click.Context,
    machine: str | None,
    flow: str | None,
    how: str,
    theme: Theme,
    full: bool,
    output: Path | None,
) -> None:
    """Draw a machine, or the path of a flow. Without either, the onboarding machine."""
    settings = settings_of(context)
    drawn = Format(how)
    if theme != "auto" and drawn is not Format.SVG:
        raise click.BadParameter("only an SVG has a theme. Add --format svg", param_hint="--theme")
    if full and drawn not in {Format.SVG, Format.DOT}:
        raise click.BadParameter("add --format svg or --format dot", param_hint="--full")
    if flow is not None and drawn is Format.DOT:
        raise click.BadParameter("a DOT file has no path of a flow. Use --format svg", param_hint="--flow")
    style = stream_style(sys.stdout)
    if settings.json or output is not None:
        style["color"] = False
    look = _Look(drawn, style, theme, full)
    text = _machine(machine or "onboarding", look) if flow is None else _flow(settings, flow, machine, look)
    if output is not None:
        _save(output, text)
        put_done(settings, {"format": how, "file": str(output)}, f"Wrote {clean(str(output))}")
    elif settings.json:
        put_json({"format": how, "diagram": text})
    else:
        put_drawn(text.rstrip("\n"))


class _Look(NamedTuple):
    """How a drawing is wanted."""

    format: Format
    style: DrawingStyle
    theme: Theme
    full: bool


def _machine(name: str, look: _Look) -> str:
    from ...diagrams.text import draw_table

    machine = known_machine(name)
    return draw_table(machine, **look.style) if look.format is Format.TEXT else _drawn(machine, (), look)


def _drawn(machine: Machine[Any], changes: Sequence[Change], look: _Look) -> str:
    if look.format is Format.SVG:
        from ...diagrams.svg import svg

        return svg(machine, changes=changes, theme=look.theme, full=look.full)
    if look.format is Format.DOT:
        from ...diagrams.dot import dot

        return dot(machine, full=look.full)
    from ...diagrams.mermaid import mermaid

    return mermaid(machine, changes=changes)


def _flow(settings: Settings, flow: str, machine: str | None, look: _Look) -> str:
    from ...base.redaction import redact
    from ..flows.history import draw, histories_of
    from ..flows.ways_on import is_ours

    histories = histories_of(settings, flow)
    if look.format is Format.TEXT:
        return draw(histories, look.style)
    wanted = machine or histories[0][0].machine
    changes = next((changes for changes in histories if changes[0].machine == wanted), None)
    if changes is None:
        raise FlowNotFound(f"flow {flow} ran no {wanted}")
    if not is_ours(wanted):
        raise click.BadParameter(f"the table of {wanted} is not here; its path is drawn without by --format text")
    return redact(_drawn(known_machine(wanted), changes, look))


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
