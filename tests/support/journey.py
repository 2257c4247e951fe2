"""A sample machine for events that come early: at home, at the station, in the train, there.

Only the train has a row for `Noted`, so a note that is sent earlier waits. A seat is taken at the station, if the guard
allows it: the station is open, and the seat has a number. The way back home leads past the station again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
import trio.testing
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, await_signal
from systemprompt_cloud.machines.parts.vocabulary import cancelled


class Journey(Context, frozen=True, kw_only=True):
    """What a journey knows."""

    notes: tuple[str, ...] = ()
    seat: int = 0
    open: bool = True


class Left(Event, frozen=True):
    """From home to the station."""


class Opened(Event, frozen=True):
    """The station opened, or closed."""

    open: bool = True


class Boarded(Event, frozen=True):
    """A seat in the train."""

    seat: int = 1


class Noted(Event, frozen=True):
    """A note, written in the train."""

    text: str = ""


class Returned(Event, frozen=True):
    """From the station back home."""


class Arrived(Event, frozen=True):
    """The end."""


def may_board(context: Journey, event: Boarded) -> bool:
    """Whether the station is open and the seat has a number."""
    return context.open and event.seat > 0


def board(context: Journey, event: Boarded) -> Journey:
    """Take the seat."""
    return msgspec.structs.replace(context, seat=event.seat)


def note(context: Journey, event: Noted) -> Journey:
    """One more note."""
    return msgspec.structs.replace(context, notes=(*context.notes, event.text))


def set_open(context: Journey, event: Opened) -> Journey:
    """Whether the station is open."""
    return msgspec.structs.replace(context, open=event.open)


def journey_machine(
    name: str = "journey", version: int = 1, *, noted: Callable[[Journey, Noted], Journey] = note, **more: Any
) -> Machine[Journey]:
    """The table, under a name and version of one's own; `noted` is what a note does."""
    return Machine(
        name,
        version=version,
        initial="home",
        context=Journey,
        states=[
            State("home", "at home"),
            State("station", "at the station"),
            State("train", "in the train"),
            State("there", "arrived", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Left, "home", "station"),
            on(Opened, "home", STAY, update=set_open),
            on(Opened, "station", STAY, update=set_open),
            on(Returned, "station", "home"),
            on(Boarded, "station", "train", when=may_board, update=board),
            on(Noted, "train", STAY, update=noted),
            on(Arrived, "train", "there"),
            on(CancelRequested, ANY, "cancelled", update=cancelled),
        ],
        **more,
    )


JOURNEY = journey_machine()


def journey(
    machine: Machine[Journey] = JOURNEY,
    *,
    home: Activity = await_signal,
    station: Activity = await_signal,
    train: Activity = await_signal,
) -> Program[Journey]:
    """The machine with these activities."""
    return Program(machine, {"home": [home], "station": [station], "train": [train]})


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other tasks or processes are about to do."""
    with trio.fail_after(20):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)


def waiting(engine: Engine, flow: Flow) -> list[str]:
    """The names of the events in a flow's inbox, the oldest first."""
    return [signal.name for signal in engine.journal.signals(flow.id)]


def events(flow: Flow) -> list[str]:
    """The names of what happened to a flow."""
    return [change.event for change in flow.history]
