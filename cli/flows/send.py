"""`flows send`: an event for a flow, from another terminal.

The event goes into the flow's inbox, on disk. The process that drives the flow takes it from there within a quarter of
a second; if there is none, the next process that resumes the flow takes it. An event that the flow's state does not
accept is refused here, so that the user sees the reason.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import typer

from ...base.errors import EXIT_PENDING
from ...engine.errors import EventNotAccepted
from ...engine.journal.records import CANCEL, Record, Signal
from ..screen.terminal import clean, put_json, say, shortened
from ..shared.names import CLI
from ..shared.settings import settings_of
from .flows import Id, open_journal
from .status import as_json, driver_of, way_on_of

if TYPE_CHECKING:
    from ...engine.journal.journal import Journal
    from ...engine.machine.machine import Machine
    from ...engine.machine.parts import Event

WAIT_SECONDS = 5.0
TICK_SECONDS = 0.05


def send(
    context: typer.Context,
    flow: Id,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name, as `diagram` shows it.")],
    data: Annotated[str, typer.Option("--data", metavar="JSON", help="Its fields, as a JSON object.")] = "{}",
) -> None:
    """Send a flow an event, also when another process drives it.

    Ends with 8 when the flow keeps the event: until it is resumed, or until it is in a state that takes it.
    """
    settings = settings_of(context)
    from ...base.moments import moment_text
    from ...engine.signals import inbox_text
    from ..screen.render import MACHINES
    from .ways_on import refuse_unknown

    with open_journal(settings) as journal:
        row = journal.find(flow)
        machine = MACHINES.get(row.machine)
        if machine is None:
            raise refuse_unknown(settings, row, "Engine.send(flow, event)")
        body = inbox_text(machine, row, _event(machine, event, data))
        sent = post_event(journal, row.id, moment_text(datetime.now(UTC)), event, body)
        until = time.monotonic() + WAIT_SECONDS
        while (fate := fate_of(journal, sent)) == "waiting":
            if time.monotonic() > until or not driver_of(settings, journal.flow(row.id) or row):
                break
            time.sleep(TICK_SECONDS)
        after = journal.flow(row.id) or row
    if fate == "refused":
        raise EventNotAccepted(after.state, event, machine=row.machine, ended=after.status == "ended")
    if settings.json:
        put_json(as_json(settings, after) | {"event": event, "taken": fate == "taken"})
    elif fate == "taken":
        say(f"{row.machine} {shortened(row.id)} took {event}; it is now in {after.state}.")
    elif driver := driver_of(settings, after):
        say(f"{row.machine} {shortened(row.id)} keeps {event} until a state takes it; process {driver} drives it.")
    else:
        say(f"No process drives {row.machine} {shortened(row.id)}; it takes {event} when it is resumed.")
        say(way_on_of(settings, row))
    if fate == "waiting":
        raise typer.Exit(EXIT_PENDING)


def _event(machine: Machine[Any], name: str, data: str) -> Event:
    """Decode the event. Raises `typer.BadParameter` that lists the events or fields there are."""
    from ...base.misfit import misfit_of_json
    from ...base.redaction import redact

    kind = machine.events.get(name)
    if kind is None:
        names = ", ".join(sorted(machine.events))
        raise typer.BadParameter(f"{machine.name} knows no event {name!r}; it knows {names}", param_hint="EVENT")
    fields = ", ".join(kind.__struct_fields__) or "none"
    try:
        given = msgspec.json.decode(data, type=dict[str, Any])
        found = machine.decode_event(msgspec.json.encode({**given, "event": name}))
    except (msgspec.DecodeError, UnicodeError) as exc:
        words = misfit_of_json(data.encode(), kind, exc)
        raise typer.BadParameter(f"{clean(words)}; the fields of {name}: {fields}", param_hint="--data") from exc
    if unknown := sorted(set(given) - set(kind.__struct_fields__)):
        raise typer.BadParameter(f"{name} has no field {', '.join(unknown)}; its fields: {fields}", param_hint="--data")
    if redact(data) != data:
        raise typer.BadParameter(
            "this looks like a secret; an event is written to the journal, which keeps none", param_hint="--data"
        )
    return found


class Sent(NamedTuple):
    """An event in an inbox: its number, where the flow's history was then, and how many of the same waited before."""

    signal: Signal
    seq: int
    ahead: int


def post_event(journal: Journal, flow: str, at: str, name: str, body: str) -> Sent:
    """Leave an event in a flow's inbox; what it is compared with is read in the same transaction."""
    sent: list[Sent] = []

    def post() -> None:
        row = journal.flow(flow)
        ahead = 0 if name == CANCEL else sum(_is_same(each, name, body) for each in journal.signals(flow))
        number = journal.post_signal(flow, at, name, body)
        signal = Signal(id=number, flow=flow, at=at, name=name, body=body)
        sent.append(Sent(signal, 0 if row is None else row.seq, ahead))

    journal.write([post])
    return sent[0]


def _is_same(each: Signal | Record, name: str, body: str) -> bool:
    return (each.name, each.body) == (name, body)


def fate_of(journal: Journal, sent: Sent) -> Literal["waiting", "taken", "refused"]:
    """Whether an event is still in the inbox, was taken, or was refused."""
    signal, seq, ahead = sent
    if any(each.id == signal.id for each in journal.signals(signal.flow)):
        return "waiting"
    # Read after the inbox: an event leaves it in the transaction that writes its record, the oldest of the same first.
    fates = [
        record.kind
        for record in journal.records(signal.flow, after=seq)
        if _is_same(record, signal.name, signal.body) or (record.kind, record.name) == ("refused", signal.name)
    ]
    return "taken" if fates[ahead : ahead + 1] == ["event"] else "refused"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f'Example: {CLI} flows send 01jq CancelRequested --data \'{{"reason": "wrong plan"}}\'')(send)
