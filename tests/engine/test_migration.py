"""Flows of an older table are carried into the newer one by what is written beside it, or refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.errors import IncompatibleFlow, MachineInvalid
from systemprompt_cloud.engine.machine.carry import carry
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration, PlainContext
from systemprompt_cloud.engine.machine.parts import Context, Event, ResumePolicy, State, Verdict, on


class Order(Context, frozen=True, kw_only=True):
    """What version 3 knows of an order."""

    cents: int
    currency: str = "EUR"


class Paid(Event, frozen=True):
    """The money is there."""


def machine(*migrations: Migration, version: int = 3, **changes: Any) -> Machine[Order]:
    """The order's table today."""
    first = msgspec.structs.replace(State("awaiting_payment", "waiting for the money"), **changes)
    return Machine(
        "order",
        version=version,
        initial="awaiting_payment",
        context=Order,
        states=[first, State("paid", "paid", verdict=Verdict.SUCCESS)],
        rows=[on(Paid, "awaiting_payment", "paid")],
        migrations=migrations,
    )


def in_cents(old: PlainContext) -> PlainContext:
    """Version 1 counted in whole euros."""
    return {"cents": old["euros"] * 100}


FROM_1 = Migration(1, states={"waiting": "paying"}, context=in_cents)
FROM_2 = Migration(2, states={"paying": "awaiting_payment"})


def carried(table: Machine[Order], version: int, state: str, context: str, fingerprint: str = "f") -> tuple[str, Order]:
    """Where a flow stands after it was carried over."""
    state, order = carry(table, version=version, fingerprint=fingerprint, state=state, context=context)
    assert isinstance(order, Order)
    return state, order


def test_one_version_after_the_other() -> None:
    """A flow of version 1 goes through both migrations, one of version 2 through the second."""
    table = machine(FROM_1, FROM_2)
    assert carried(table, 1, "waiting", '{"euros":7}') == ("awaiting_payment", Order(cents=700))
    assert carried(table, 2, "paying", '{"cents":700,"currency":"USD","gone":1}') == (
        "awaiting_payment",
        Order(cents=700, currency="USD"),
    )


def test_a_table_that_changed_within_its_version_is_told_by_its_fingerprint() -> None:
    """Exactly that table's flows go on; others of the same version are refused."""
    table = machine(Migration(3, fingerprint="abc"))
    assert carried(table, 3, "awaiting_payment", '{"cents":1}', "abc") == ("awaiting_payment", Order(cents=1))
    with pytest.raises(IncompatibleFlow, match=r"version 3 \(abd\).*no migration"):
        carried(table, 3, "awaiting_payment", '{"cents":1}', "abd")


def test_the_migration_for_one_table_goes_before_the_one_for_its_version() -> None:
    """Two tables of one version may need different things."""
    table = machine(FROM_2, Migration(2, fingerprint="odd", context=lambda old: {"cents": old["pennies"]}))
    assert carried(table, 2, "awaiting_payment", '{"pennies":4}', "odd")[1] == Order(cents=4)
    assert carried(table, 2, "paying", '{"cents":5}', "even")[1] == Order(cents=5)


@pytest.mark.parametrize(
    ("version", "state", "context", "words"),
    [
        (1, "waiting", '{"euros":7}', r"version 1 \(f\).*version 3.*no migration"),
        (2, "lost", '{"cents":1}', "is in the state lost, which cannot be continued here"),
        (2, "paid", '{"cents":1}', "is in the state paid, which cannot be continued here"),
        (2, "paying", '{"cents":"many"}', "does not fit version 3"),
        (2, "paying", "{}", "does not fit version 3"),
    ],
)
def test_what_cannot_be_carried_is_refused(version: int, state: str, context: str, words: str) -> None:
    """Nothing is guessed: the versions, the state and the reason are named."""
    with pytest.raises(IncompatibleFlow, match=words):
        carried(machine(FROM_2), version, state, context)


def test_a_migration_that_fails_is_named() -> None:
    """Which one, and what it met; the flow is untouched."""
    with pytest.raises(
        IncompatibleFlow, match=r"migration from version 1 cannot take its context: KeyError\('euros'\)"
    ):
        carried(machine(FROM_1, FROM_2), 1, "waiting", "{}")


def test_a_newer_flow_says_that_upgrading_mends_it() -> None:
    """An old program must not touch it."""
    with pytest.raises(IncompatibleFlow, match=r"version 4.*an older one") as caught:
        carried(machine(FROM_2), 4, "awaiting_payment", '{"cents":1}')
    assert "Upgrade" in caught.value.recovery_hint


@pytest.mark.parametrize(
    ("migrations", "words"),
    [
        ([FROM_1, FROM_1], "from version 1 is written twice"),
        ([Migration(3)], "does not lead to version 3 from an older table"),
        ([Migration(4)], "does not lead to version 3"),
        ([Migration(0)], "does not lead to version 3"),
        ([Migration(3, fingerprint=machine().fingerprint)], "does not lead to version 3"),
        ([Migration(2, states={"paying": "nowhere"})], "leads to nowhere, in which no flow can continue"),
        ([Migration(2, states={"paying": "paid"})], "leads to paid, in which no flow can continue"),
    ],
)
def test_a_wrong_migration_is_refused_with_its_table(migrations: list[Migration], words: str) -> None:
    """While the machine is built, not when somebody's flow needs it."""
    with pytest.raises(MachineInvalid, match=words):
        machine(*migrations)


def test_migrations_and_words_are_not_in_the_fingerprint() -> None:
    """Rewording a state, or adding a way for older flows, locks nobody out."""
    plain = machine()
    assert machine(FROM_1, FROM_2).fingerprint == plain.fingerprint
    assert machine(meaning="waiting, still").fingerprint == plain.fingerprint
    assert machine(tags=("quiet",)).fingerprint == plain.fingerprint
    effect = machine(effect="sends a bill", resume=ResumePolicy.ASK)
    assert effect.fingerprint != plain.fingerprint
    assert machine(effect="sends an invoice", resume=ResumePolicy.ASK).fingerprint == effect.fingerprint
    assert msgspec.json.encode(plain.describe()) != msgspec.json.encode(machine(meaning="other").describe())
