"""What happens to one order, and what is said of it: made from a seed."""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

OLD, OTHERS, OURS = "tnt_old", "tnt_others", "tnt_ours"

Window = tuple[float, float]

Command = Literal["up", "checkout", "cancel", "up as bob"]
"""A command of the person; `cancel` ends the onboarding, and `up as bob` is run while another account is logged in."""

Person = Literal["nobody", "honest", "unwilling", "impatient"]
"""Who answers: nobody; somebody who knows what they bought; one who says no to everything; one who has not paid, and
wants another order whenever that is offered."""


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one order, and what is said of it. Moments are seconds after the payment page was shown.

    Attributes:
        pay_at: When it is paid; None for never.
        ready_after: Seconds from the payment until the tenant runs.
        fails: The tenant fails instead.
        callbacks: Moments and parameters of the browser's returns.
        streams: What becomes of each connection to an event stream; the last one stays.
        behind: When answers come from a replica that is behind, and by how many seconds.
        pages: When a proxy answers in the API's place, and with which status.
        refusals: When the token is refused.
        others_at: When a tenant appears that another order bought; None for never.
        old_hidden: No read before the page is shown lists the tenant that was there before.
        person: Who answers questions.
        commands: What is run, one after the other.
        keys: Whether idempotency keys are honoured.
        answer_lost: Whether the answer to the order is lost.
        timeout: Seconds to pay.
        patience: Seconds after which the command is run again when it was paused.
    """

    pay_at: float | None
    ready_after: float
    fails: bool
    callbacks: tuple[tuple[float, dict[str, str]], ...]
    streams: tuple[str, ...]
    behind: tuple[tuple[Window, float], ...]
    pages: tuple[tuple[Window, int], ...]
    refusals: tuple[float, ...]
    others_at: float | None
    old_hidden: bool
    keys: bool
    answer_lost: bool
    timeout: float
    patience: float
    person: Person = "nobody"
    commands: tuple[Command, ...] = ("up",) * 4


STREAMS = (
    "true",
    "true",
    "silent",
    "heartbeats",
    "missing",
    "not allowed",
    "page",
    "refused",
    "breaks",
    "foreign",
    "failed before",
    "ready before",
    "repeats",
    "late",
    "nameless",
)

LIARS = frozenset({"foreign", "failed before", "ready before", "nameless"})
"""Streams whose first event is not so."""


def sale_of(seed: int) -> Sale:
    """The sale of a seed: the same seed is the same sale."""
    chance = Random(seed)  # noqa: S311 no secret
    timeout = chance.choice([5.0, 30.0])
    old_hidden = chance.random() < 0.2
    pay_at = None if chance.random() < 0.35 else chance.choice([0.5, 2.0, timeout - 0.1, timeout + 1, timeout + 15])
    session = {"checkout_session_id": "cs_1"}
    lies: list[dict[str, str]] = [
        {"error": "payment_declined"},
        {"error": "payment_declined", **session},
        {"status": "completed", "tenant_id": "tnt_bogus", "transaction_id": "txn_9"},
        {"status": "completed", "tenant_id": OLD, "transaction_id": "txn_1", **session},
        {"status": "completed", "tenant_id": OURS, "transaction_id": "txn_1", "checkout_session_id": "cs_2"},
        {"status": "unknown"},
        {},
        {"status": "pending", **session},
    ]
    if old_hidden:  # nobody but the payment page could know better then
        lies = [lie for lie in lies if lie.get("tenant_id") != OLD]
    callbacks = [
        (chance.uniform(0.1, timeout + 30), chance.choice(lies)) for _ in range(chance.choice([0, 0, 1, 2, 3]))
    ]
    if pay_at is not None and chance.random() < 0.6:
        told = {"status": "completed", "tenant_id": OURS, "transaction_id": "txn_1", **session}
        callbacks.append((pay_at + chance.choice([0.1, 3.0]), chance.choice([told, {"status": "pending", **session}])))

    def windows() -> list[Window]:
        return [
            (begin := chance.uniform(0, timeout + 40), begin + chance.choice([1.0, 5.0, 20.0]))
            for _ in range(chance.choice([0, 0, 1, 2]))
        ]

    people: list[Person] = ["nobody", "nobody", "honest", "unwilling"]
    commands: list[Command] = ["up", "up", "up", "up", "up", "checkout", "cancel", "up as bob"]

    return Sale(
        pay_at=pay_at,
        ready_after=chance.choice([0.0, 3.0, 40.0]),
        fails=chance.random() < 0.1,
        callbacks=tuple(sorted(callbacks, key=lambda each: each[0])),
        streams=tuple(chance.choice(STREAMS) for _ in range(chance.choice([1, 1, 2, 4]))),
        behind=tuple((each, chance.choice([2.0, 30.0, 1000.0])) for each in windows()),
        pages=tuple((each, chance.choice([200, 403, 404, 502])) for each in windows()),
        refusals=tuple(chance.uniform(0, timeout + 40) for _ in range(chance.choice([0, 0, 0, 1]))),
        others_at=None if chance.random() < 0.7 else chance.uniform(0, timeout + 20),
        old_hidden=old_hidden,
        keys=chance.random() < 0.5,
        answer_lost=chance.random() < 0.15,
        timeout=timeout,
        patience=chance.choice([1.0, 20.0, 200.0]),
        person=chance.choice(people if pay_at is not None else [*people, "impatient"]),
        commands=("up", *(chance.choice(commands) for _ in range(3)), "up"),
    )
