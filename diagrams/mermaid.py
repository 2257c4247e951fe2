"""A machine as a Mermaid state diagram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..flows.flow import Change
from ..machines.machine import Machine


def mermaid(machine: Machine[Any], *, changes: Sequence[Change] = (), current: str | None = None) -> str:
    """Draw."""
    del machine, changes, current
    raise NotImplementedError
