"""A sample machine: a parcel is packed, travels and is delivered. Small, and with everything a flow can do.

It has progress that stays and progress that re-enters, an update with a bug, and a way to be called back. What is done
in its two states a test says itself: `parcel(pack, travelling=deliver)`.
"""

from __future__ import annotations

import msgspec
import trio
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.machines.parts.vocabulary import cancelled


class Parcel(Context, frozen=True, kw_only=True):
    """What a delivery knows."""

    stamps: int = 0
    label: str = ""


class Stamped(Event, frozen=True):
    """Progress."""


class Labelled(Event, frozen=True):
    """A reference to a secret came."""

    label: str


class Packed(Event, frozen=True):
    """The parcel is closed."""


class Delivered(Event, frozen=True):
    """It arrived."""


class Refused(Event, frozen=True):
    """A row whose update has a bug."""


class Oops(Exception):
    """A bug."""


def stamp(context: Parcel, _event: Stamped) -> Parcel:
    """One more."""
    return msgspec.structs.replace(context, stamps=context.stamps + 1)


def label(context: Parcel, event: Labelled) -> Parcel:
    """Keep the reference."""
    return msgspec.structs.replace(context, label=event.label)


def bug(_context: Parcel, _event: Refused) -> Parcel:
    """Raises `Oops`."""
    raise Oops


PARCEL = Machine(
    "parcel",
    version=1,
    initial="packing",
    context=Parcel,
    states=[
        State("packing", "being packed"),
        State("travelling", "on its way"),
        State("delivered", "there", verdict=Verdict.SUCCESS),
        State("cancelled", "called back", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Stamped, "packing", STAY, update=stamp),
        on(Labelled, "packing", STAY, update=label),
        on(Refused, "packing", STAY, update=bug),
        on(Packed, "packing", "travelling"),
        on(Stamped, "travelling", "travelling", update=stamp),
        on(Delivered, "travelling", "delivered"),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)


def parcel(packing: Activity = await_signal, *more: Activity, travelling: Activity = await_signal) -> Program[Parcel]:
    """The machine with these activities."""
    return Program(PARCEL, {"packing": [packing, *more], "travelling": [travelling]})


async def pack(_visit: Visit[Parcel]) -> Event:
    """Done at once."""
    return Packed()


async def deliver(_visit: Visit[Parcel]) -> Event:
    """There at once."""
    return Delivered()


class Fails:
    """An activity that fails until it is mended (`failure = None`); then it packs."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.__name__ = "fails"

    async def __call__(self, _visit: Visit[Parcel]) -> Event | None:
        """Fail, or pack."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return Packed()
