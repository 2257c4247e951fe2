"""Scripted faults: failures between a client and the cloud, on request.

A fault is one line of text, `name:key=value,key=value`, so that it fits a command-line option, a test parameter and a
bug report. `Fault` is that line, checked; `FaultPlan` holds a world's faults and counts how often each has still to
occur. The counters are the only state, so the same faults and requests give the same results.

`times` is how often a fault occurs before it is used up (0 = no limit); `path` limits it to requests whose path
contains the given text; `after` is how many requests or events pass first; `chance` is the probability (0 to 1) each
time it could occur. Chance is a hash of the seed, the path and how often that path was checked: so the faults of one
tenant do not depend on the requests of the others, and the same seed repeats them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ..errors import InvalidFault
from .fault_kinds import KINDS, Value

FAULTS: Final[dict[str, str]] = {name: kind.help for name, kind in KINDS.items()}
"""Every fault there is: its name and one line of help."""


def fault_syntax(name: str) -> str:
    """How a fault is written, with its defaults: `drop-stream:after=3,times=1,…`."""
    return _written(name, KINDS[name].defaults)


def _written(name: str, parameters: dict[str, Value]) -> str:
    return name + (":" + ",".join(f"{key}={value}" for key, value in parameters.items()) if parameters else "")


class Fault(msgspec.Struct, frozen=True):
    """One fault with all its parameters; build it with `parse`."""

    name: str
    parameters: dict[str, Value]

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `name` or `name:key=value,key=value`.

        Args:
            text: For instance `drop-stream:after=3` or `error:status=500,path=/status,times=2`.

        Raises:
            InvalidFault: For an unknown name or parameter or an impossible value; the message lists what there is.
        """
        name, _, rest = text.strip().partition(":")
        kind = KINDS.get(name)
        if kind is None:
            raise InvalidFault(f"no fault {name!r}; faults: {', '.join(sorted(KINDS))}")
        parameters = dict(kind.defaults)
        for part in filter(None, (piece.strip() for piece in rest.split(","))):
            key, equals, value = part.partition("=")
            if not equals or key not in kind.defaults:
                known = ", ".join(kind.defaults) or "none"
                raise InvalidFault(f"fault {name}: {part!r} is not a parameter of it; its parameters are: {known}")
            parameters[key] = _value(name, key, value, kind.defaults[key])
        return cls(name, parameters)

    @property
    def text(self) -> str:
        """The fault as it would be written, every parameter named; `parse` reads it back."""
        return _written(self.name, self.parameters)

    def number(self, key: str) -> float:
        """A numeric parameter."""
        return float(self.parameters[key])

    def matches(self, path: str) -> bool:
        """Whether this fault concerns a request to `path`."""
        return str(self.parameters.get("path", "")) in path


def _value(name: str, key: str, text: str, default: Value) -> Value:
    if isinstance(default, str):
        return text
    try:
        number = int(text) if isinstance(default, int) else float(text)
    except ValueError as exc:
        raise InvalidFault(f"fault {name}: {key}={text!r} is not a number") from exc
    # `not 0 <= n` also refuses NaN; a sleep of 1e300 seconds would only look like a hang.
    if not 0 <= number <= 1_000_000:
        raise InvalidFault(f"fault {name}: {key}={text} is out of range")
    if key == "chance" and number > 1:
        raise InvalidFault(f"fault {name}: chance={text} is no probability (0 to 1)")
    if key == "status" and not 400 <= number <= 599:
        raise InvalidFault(f"fault {name}: status={text} is not an error status (400 to 599)")
    return number


class _Armed:
    """A fault with its two counters: the requests that have passed, and how often it still occurs."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        times = int(fault.number("times")) if "times" in fault.parameters else 0
        self.left: int | None = times or None
        self.passed = 0

    def strike(self) -> bool:
        if self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class FaultPlan:
    """The faults of one world and how often each has occurred.

    Args:
        faults: Faults, or their text.
        seed: For faults with a `chance`; None for a random one.

    Attributes:
        struck: How often each fault has occurred, by name.
    """

    def __init__(self, faults: Iterable[Fault | str] = (), seed: int | None = 0) -> None:
        parsed = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        self._armed = [_Armed(fault) for fault in parsed]
        self._root = secrets.token_bytes(32) if seed is None else f"faults:{seed}".encode()
        self._asked: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults, in the order they were given."""
        return [armed.fault for armed in self._armed]

    def active(self, name: str) -> Fault | None:
        """The first fault of this name, without using it up: for faults that are properties of the world."""
        return next((armed.fault for armed in self._armed if armed.fault.name == name), None)

    def strike(self, name: str, path: str) -> Fault | None:
        """The fault of this name that occurs for this request, counted as used; None when none does."""
        for armed in self._armed:
            if armed.fault.name == name and armed.fault.matches(path) and self._strikes(armed, path):
                return armed.fault
        return None

    def strike_call(self, name: str, path: str) -> Fault | None:
        """Like `strike`, for faults whose `after` counts matching requests of the whole world."""
        for armed in self._armed:
            if armed.fault.name != name or not armed.fault.matches(path):
                continue
            armed.passed += 1
            if armed.passed > armed.fault.number("after") and self._strikes(armed, path):
                return armed.fault
        return None

    def strike_stream(self, name: str, path: str, sent: int) -> Fault | None:
        """Like `strike`, for faults whose `after` counts the `sent` events of one connection."""
        for armed in self._armed:
            fault = armed.fault
            due = fault.name == name and fault.matches(path) and sent >= fault.number("after")
            if due and self._strikes(armed, path):
                return fault
        return None

    def _strikes(self, armed: _Armed, path: str) -> bool:
        chance = armed.fault.number("chance")
        if chance < 1:
            self._asked[path] += 1
            label = f"{path} {self._asked[path]}".encode()
            drawn = hashlib.blake2b(label, key=self._root, digest_size=8).digest()
            if int.from_bytes(drawn) >= chance * 2**64:
                return False
        if not armed.strike():
            return False
        self.struck[armed.fault.name] += 1
        return True
