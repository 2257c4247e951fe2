"""What one history does: processes, flows, and bursts of operations that run at the same time.

A plan is data: made from a seed (`generate`), by hypothesis (`strategies.py`), or read from the JSON that a failing
run prints. The same plan leads to the same history, task switch by task switch.

Delays are counted in checkpoints of the scheduler, never in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Kind: TypeAlias = Literal[
    "start",
    "resume",
    "repeat",
    "cancel",
    "send",
    "wait",
    "order",
    "close",
    "kill",
    "fail_writes",
    "fail_vault",
    "set_clock",
]
Latency: TypeAlias = Literal["none", "one", "random", "threads"]

MACHINES: Final = ("plain", "timed", "retries", "asks", "parent", "outer", "fan", "rests")
HABITS: Final = ("waits", "quick", "loops", "keeps", "lingers", "raises", "announces")
EVENTS: Final = ("Poked", "Stepped", "Early", "Late", "Foreign")
ORDERS: Final = ("step", "twice", "raise", "exit", "stop", "announce")
WRITES: Final = ("any", "paused", "resumed", "event", "claimed", "posted", "dropped", "intent")
"""Which writes fail; `any` is a full disk."""
KINDS: Final[dict[Kind, int]] = {
    "start": 5,
    "resume": 20,
    "repeat": 4,
    "cancel": 14,
    "send": 20,
    "wait": 5,
    "order": 26,
    "close": 3,
    "kill": 2,
    "fail_writes": 7,
    "fail_vault": 2,
    "set_clock": 4,
}
"""How often each kind comes up."""
CALLS: Final = frozenset[Kind]({"start", "resume", "repeat", "cancel", "send", "wait"})
ABOUT_A_FLOW: Final = CALLS | {"order"}
QUIET: Final = -1
"""The gap after a burst that waits until no task can run, and then lets a moment pass."""
RESTING: Final = (11, {6, 8})
"""Flows rest in histories whose seed, divided by this, leaves one of these; other seeds mean what they always did."""
FOREVER: Final = 1e9
SHORT: Final = 2.0
"""A timeout that a whole history does not take, so that the clock can be set before it is over."""


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a flow is started.

    Attributes:
        machine: One of `MACHINES`.
        habit: What its activities do by themselves; one of `HABITS`.
        key: The key, or None.
        secret: Whether it is started with a secret.
        patience: The timeout of the states that have one, in virtual seconds.
        after_end: What becomes of a key whose flow has ended; see `Engine.start`.
    """

    machine: str = "plain"
    habit: str = "waits"
    key: str | None = None
    secret: bool = False
    patience: float = FOREVER
    after_end: Literal["again", "return"] = "again"


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation.

    Attributes:
        kind: What is done.
        process: The number of the process that does it, or to which it happens.
        flow: Which flow, counted in the order they began, modulo their number; for `start`
            which `Start`, modulo their number.
        after: Checkpoints to wait before.
        timeout: The host cancels the call after so many checkpoints; None for never.
        what: The event of a `send`, the order of an `order`, the writes of a `fail_writes`.
        times: How many writes fail; after how many checkpoints a closed or killed process is replaced; by how many
            hours the wall clock is set forward.
    """

    kind: Kind
    process: int = 0
    flow: int = 0
    after: int = 0
    timeout: int | None = None
    what: str = ""
    times: int = 0


class Burst(msgspec.Struct, frozen=True, omit_defaults=True):
    """Operations that run at the same time.

    Attributes:
        operations: They.
        gap: Checkpoints until the next burst begins, whether these have returned or not; or `QUIET`.
    """

    operations: tuple[Operation, ...]
    gap: int = QUIET


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """One history.

    Attributes:
        seed: Decides the order of tasks in each turn of the scheduler, and the latencies.
        processes: How many engines are open at the beginning.
        latency: How many checkpoints a write takes; with `threads` writes form groups, which are written in threads
            when the disk is slow, both at random.
        starts: How flows are started.
        bursts: What is done, one burst after the other.
    """

    seed: int
    processes: int
    latency: Latency
    starts: tuple[Start, ...]
    bursts: tuple[Burst, ...]

    def start(self, operation: Operation) -> Start:
        """How the flow of a `start` is started."""
        return self.starts[operation.flow % len(self.starts)]

    @property
    def wakes(self) -> bool:
        """Whether the engines let flows rest, and wake them."""
        return any(start.machine == "rests" for start in self.starts)

    @property
    def sets_clock(self) -> bool:
        """Whether the wall clock is set."""
        return any(operation.kind == "set_clock" for burst in self.bursts for operation in burst.operations)

    def lines(self) -> Iterator[str]:
        """The plan for people, an operation a line."""
        yield f"seed {self.seed}, {self.processes} processes, latency {self.latency}"
        yield from (f"start {number}: {_text(start)}" for number, start in enumerate(self.starts))
        for burst in self.bursts:
            yield from (f"  {_text(operation)}" for operation in burst.operations)
            yield "  -- quiet" if burst.gap == QUIET else f"  -- {burst.gap} checkpoints"


def _text(struct: msgspec.Struct) -> str:
    return msgspec.json.encode(struct).decode()


# --- from a seed ------------------------------------------------------------------------------------------------------


def generate(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)  # noqa: S311 no secret
    processes = rng.choices((1, 2, 3), (55, 33, 12))[0]
    starts = tuple(_start(rng) for _ in range(rng.choices((1, 2, 3, 4), (45, 30, 15, 10))[0]))
    if seed % RESTING[0] in RESTING[1]:
        starts = (msgspec.structs.replace(starts[0], machine="rests"), *starts[1:])
    first = [
        Operation("start", process=rng.randrange(processes), flow=number, after=rng.randrange(4))
        for number, start in enumerate(starts)
        for _ in range(2 if start.key is not None and rng.random() < 0.4 else 1)
    ]
    bursts = [Burst(tuple(first), _gap(rng))]
    for _ in range(rng.randint(2, 6)):
        focus = rng.randrange(8) if rng.random() < 0.8 else None
        operations = [
            _operation(rng, processes, len(starts), focus)
            for _ in range(rng.choices((1, 2, 3, 4), (20, 40, 25, 15))[0])
        ]
        bursts.append(Burst(tuple(operations), _gap(rng)))
    latency: Latency = rng.choices(("none", "one", "random", "threads"), (10, 20, 40, 30))[0]
    return Plan(seed, processes, latency, starts, tuple(bursts))


def _start(rng: random.Random) -> Start:
    machine = rng.choices(MACHINES, (30, 14, 9, 14, 18, 5, 10, 0))[0]
    return Start(
        machine=machine,
        habit=rng.choices(HABITS, (46, 6, 3, 12, 10, 8, 15))[0],
        key=rng.choice((None, None, "one", "two")),
        secret=rng.random() < 0.25,
        patience=rng.choice((FOREVER, 0.3, SHORT, SHORT)),
        after_end="return" if rng.random() < 0.2 else "again",
    )


def _operation(rng: random.Random, processes: int, starts: int, focus: int | None) -> Operation:
    kind: Kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    flow = rng.randrange(starts) if kind == "start" else rng.randrange(8) if focus is None else focus
    return Operation(
        kind,
        process=0 if kind == "order" else rng.randrange(processes),
        flow=flow if kind in ABOUT_A_FLOW else 0,
        after=rng.choice((0, 0, 1, 2, 3, 5, 8)),
        timeout=rng.choice((0, 1, 2, 3, 5, 8)) if kind in CALLS and rng.random() < 0.25 else None,
        what=_what(rng, kind),
        times=_times(rng, kind),
    )


def _what(rng: random.Random, kind: Kind) -> str:
    match kind:
        case "send":
            return rng.choices(EVENTS, (27, 35, 10, 23, 5))[0]
        case "order":
            return rng.choices(ORDERS, (25, 8, 35, 5, 10, 17))[0]
        case "fail_writes":
            return rng.choices(WRITES, (25, 25, 10, 10, 10, 8, 6, 6))[0]
        case "close":
            return rng.choice(("", "abruptly"))
        case "resume":
            return rng.choice(("person", "person", "handover"))
        case _:
            return ""


def _times(rng: random.Random, kind: Kind) -> int:
    match kind:
        case "close" | "kill":
            return rng.randrange(6)
        case "fail_writes" | "fail_vault":
            return rng.choice((1, 1, 2, 3))
        case "set_clock":
            return rng.choice((-2, 1))
        case _:
            return 0


def _gap(rng: random.Random) -> int:
    return QUIET if rng.random() < 0.45 else rng.randrange(12)


# --- shorter ----------------------------------------------------------------------------------------------------------


def shrink(plan: Plan, fails: Callable[[Plan], bool], *, most: int = 400) -> Plan:
    """A plan with fewer operations, flows and delays that still fails; tries at most `most` plans."""
    left = most
    changed = True
    while changed and left > 0:
        changed = False
        for smaller in _smaller(plan):
            left -= 1
            if fails(smaller):
                plan, changed = smaller, True
                break
            if left <= 0:
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    replace = msgspec.structs.replace
    for at, burst in enumerate(plan.bursts):
        yield replace(plan, bursts=_without(plan.bursts, at))
        for number, operation in enumerate(burst.operations):
            yield _with_burst(plan, at, replace(burst, operations=_without(burst.operations, number)))
            if operation.timeout is not None:
                yield _with_operation(plan, at, number, replace(operation, timeout=None))
            if operation.after:
                yield _with_operation(plan, at, number, replace(operation, after=0))
            if operation.process:
                yield _with_operation(plan, at, number, replace(operation, process=0))
        if burst.gap != QUIET:
            yield _with_burst(plan, at, replace(burst, gap=QUIET))
    for number, start in enumerate(plan.starts):
        for simpler in (
            replace(start, habit="waits"),
            replace(start, secret=False),
            replace(start, key=None),
            replace(start, after_end="again"),
            replace(start, patience=FOREVER),
            replace(start, machine="plain"),
        ):
            if simpler != start:
                yield replace(plan, starts=(*plan.starts[:number], simpler, *plan.starts[number + 1 :]))
    if plan.processes > 1:
        yield replace(plan, processes=plan.processes - 1)
    if plan.latency == "random":
        yield replace(plan, latency="one")


def _without(items: Sequence[T], at: int) -> tuple[T, ...]:
    return (*items[:at], *items[at + 1 :])


def _with_burst(plan: Plan, at: int, burst: Burst) -> Plan:
    return msgspec.structs.replace(plan, bursts=(*plan.bursts[:at], burst, *plan.bursts[at + 1 :]))


def _with_operation(plan: Plan, at: int, number: int, operation: Operation) -> Plan:
    burst = plan.bursts[at]
    operations = (*burst.operations[:number], operation, *burst.operations[number + 1 :])
    return _with_burst(plan, at, msgspec.structs.replace(burst, operations=operations))
