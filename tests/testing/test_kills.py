"""A flow whose engine is killed at any of its records comes to its end; a program that does not survive is found."""

from __future__ import annotations

from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.testing.kills import Survived, kill_and_resume
from trio.testing import MockClock

DAY: Final = 86_400.0
RECORDS: Final = 7
"""How many an order and its parcel have, when nothing goes wrong."""


class Order(Context, frozen=True, kw_only=True):
    """What an order knows."""

    receipt: str = ""


class Charged(Event, frozen=True):
    """It is paid; the receipt is in the vault."""

    receipt: str


class Approved(Event, frozen=True):
    """A signal."""


class Arrived(Event, frozen=True):
    """The parcel is there."""


def _charge(order: Order, event: Charged) -> Order:
    return msgspec.structs.replace(order, receipt=event.receipt)


ENDS: Final = [
    State("there", "arrived", verdict=Verdict.SUCCESS),
    State("late", "too late", verdict=Verdict.FAILURE),
    State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
]
PARCEL: Machine[Context] = Machine(
    "parcel",
    version=1,
    initial="travelling",
    context=Context,
    states=[State("travelling", "on its way", timeout=30 * DAY, late="continue"), *ENDS],
    rows=[
        on(Arrived, "travelling", "there"),
        on(DeadlinePassed, "travelling", "late"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)
ORDER: Machine[Order] = Machine(
    "order",
    version=1,
    initial="charging",
    context=Order,
    states=[
        State("charging", "is paid", effect="charges the card", resume=ResumePolicy.RECONCILE),
        State("waiting", "waits for approval", timeout=9 * DAY, late="continue"),
        State("sending", "is sent", child="parcel"),
        *ENDS,
    ],
    rows=[
        on(Charged, "charging", "waiting", update=_charge),
        on(Approved, "waiting", "sending"),
        on(DeadlinePassed, "waiting", "late"),
        on(Arrived, "sending", "there"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)


class Bank:
    """The world outside, which survives: what was charged, by idempotency key."""

    def __init__(self) -> None:
        self.charged: list[str] = []


class Shop:
    """One process's activities.

    Args:
        bank: Where cards are charged.
        careless: Whether a charge that may have happened is made again.
        forgetful: Whether what a later state needs is in memory only.
        failing: Whether parcels are lost.
    """

    def __init__(self, bank: Bank, *, careless: bool = False, forgetful: bool = False, failing: bool = False) -> None:
        self._bank = bank
        self._careless, self._forgetful, self._failing = careless, forgetful, failing
        self._receipt = ""

    async def charge(self, visit: Visit[Order]) -> Event:
        """Once, whatever happens."""
        intent = await visit.announce("charge")
        if self._careless or not (intent.uncertain and intent.key in self._bank.charged):
            self._bank.charged.append(intent.key)
        await trio.sleep(DAY)
        self._receipt = f"receipt of {intent.key}"
        return Charged(await visit.keep("receipt", self._receipt))

    async def send(self, visit: Visit[Order]) -> Event:
        """The receipt goes along."""
        receipt = self._receipt if self._forgetful else await visit.reveal(visit.context.receipt)
        assert receipt == f"receipt of {self._bank.charged[0]}"
        assert (await visit.run_child(self.programs()[1], Context())).succeeded
        return Arrived()

    async def carry(self, _visit: Visit[Context]) -> Event:
        """A week."""
        if self._failing:
            raise OSError("the van has broken down")
        await trio.sleep(7 * DAY)
        return Arrived()

    def programs(self) -> list[Program[Any]]:
        """Both machines."""
        parcel = Program(PARCEL, {"travelling": [self.carry]})
        return [Program(ORDER, {"charging": [self.charge], "waiting": [await_signal], "sending": [self.send]}), parcel]


async def start(engine: Engine) -> Flow[Order]:
    """An order."""
    return await engine.start(ORDER, Order())


async def approve(flow: Flow[Order]) -> None:
    """Once it waits for that, unless it was approved before."""
    async with aclosing(flow.changes()) as changes:
        async for change in changes:
            if change.to_state == flow.state == "waiting":
                await flow.send(Approved())


async def each_kill(directory: Path, written: bool, **faults: bool) -> list[tuple[Bank, Survived[Order]]]:
    """Kill a shop at each record of its order, in a world of its own each time."""
    found: list[tuple[Bank, Survived[Order]]] = []
    for number in count(1):
        bank = Bank()

        def programs(bank: Bank = bank) -> list[Program[Any]]:
            return Shop(bank, **faults).programs()

        survived = await kill_and_resume(
            number, directory / str(number), programs, start, written=written, meanwhile=approve
        )
        if survived is None:
            assert not (directory / str(number)).exists()
            break
        found.append((bank, survived))
    return found


@pytest.mark.parametrize("written", [True, False])
async def test_an_order_survives_a_kill_at_every_record(
    tmp_path: Path, autojump_clock: MockClock, written: bool
) -> None:
    """Paid once, its receipt in the vault, and one more record to begin with at each kill."""
    found = await each_kill(tmp_path, written)
    assert len(found) == RECORDS
    for bank, survived in found:
        assert survived.outcome.state == "there"
        assert survived.outcome.context.receipt == "vault:receipt"
        assert len(bank.charged) == 1
    lengths = [len(survived.history) for _, survived in found]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == ((1, 5) if written else (0, 4))


async def test_a_charge_that_is_made_twice_is_found(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Right before the record of its result, and at no other: after each record all is known."""
    careless = [len(bank.charged) for bank, _ in await each_kill(tmp_path / "before", written=False, careless=True)]
    assert careless.count(2) == 1
    careless = [len(bank.charged) for bank, _ in await each_kill(tmp_path / "after", written=True, careless=True)]
    assert careless.count(2) == 0


async def test_what_is_only_in_memory_is_found(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A second process does not have it."""
    with pytest.raises(FlowParked, match="AssertionError"):
        await each_kill(tmp_path, written=True, forgetful=True)


async def test_time_passes_while_there_is_no_process(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The deadline of the state that was entered last has passed when the flow is resumed."""
    programs = Shop(Bank()).programs
    survived = await kill_and_resume(3, tmp_path / "flow", programs, start, away=10 * DAY)
    assert survived is not None
    assert (survived.history[-1].to_state, survived.outcome.state) == ("waiting", "late")


async def test_what_cannot_be_killed_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    """By name; and a flow that is paused without a kill is no survivor."""
    programs = Shop(Bank(), failing=True).programs
    with pytest.raises(ValueError, match="not from 0"):
        await kill_and_resume(0, tmp_path / "flow", programs, start)
    with pytest.raises(ValueError, match="exists already"):
        await kill_and_resume(1, tmp_path, programs, start)
    with pytest.raises(FlowParked, match="the van has broken down"):
        await kill_and_resume(100, tmp_path / "flow", programs, start, meanwhile=approve)
