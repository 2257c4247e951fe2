"""The results a contestant returns."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Run(msgspec.Struct, frozen=True):
    """How long a number of durable transitions took.

    Attributes:
        flows: How many flows there were.
        seconds: From the first transition to the last, without setup and cleanup.
        transitions: How many there were.
        setup: Seconds of setup, used to predict how long the next size takes.
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
        """Compute them from all durations, in seconds."""
        ordered = sorted(taken)
        return cls(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])


class Seconds(msgspec.Struct, frozen=True):
    """How long one measurement took."""

    seconds: float


class Cost(msgspec.Struct, frozen=True):
    """What one measurement took, in the unit its table names."""

    value: float


class Bytes(msgspec.Struct, frozen=True):
    """The resident bytes of `count` things together."""

    size: int
    count: int


class Filled(msgspec.Struct, frozen=True):
    """A store full of finished flows.

    Attributes:
        flow: The one that is not finished.
    """

    flow: str
