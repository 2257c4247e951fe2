"""What a contestant answers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Run(msgspec.Struct, frozen=True):
    """So many transitions made durable in so many seconds.

    Attributes:
        flows: How many flows there were.
        seconds: From the first transition to the last; setting up and clearing away are not in it.
        transitions: How many there were.
        setup: Seconds it took to set up; only used to judge whether a size is worth asking for.
    """

    flows: int
    seconds: float
    transitions: int
    setup: float = 0.0

    @property
    def rate(self) -> float:
        """Transitions a second."""
        return self.transitions / self.seconds


class Latencies(msgspec.Struct, frozen=True):
    """The median and the 99th percentile, in seconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, taken: Sequence[float]) -> Latencies:
        """From every single duration."""
        ordered = sorted(taken)
        return cls(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])


class Seconds(msgspec.Struct, frozen=True):
    """How long something took, once."""

    seconds: float


class Bytes(msgspec.Struct, frozen=True):
    """How much memory so many things took, all together."""

    size: int
    count: int


class Filled(msgspec.Struct, frozen=True):
    """A store full of finished flows.

    Attributes:
        flow: The one that is not finished.
    """

    flow: str
