"""Pictures for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..flows.flow import Change
from ..machines.machine import Machine


def draw_path(
    machine: Machine[Any],
    changes: Sequence[Change],
    *,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw."""
    del machine, changes, width, color, ascii_only
    raise NotImplementedError


def draw_tree(
    machines: Iterable[Machine[Any]],
    histories: Iterable[Sequence[Change]],
    *,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw."""
    del machines, histories, width, color, ascii_only
    raise NotImplementedError


def draw_table(machine: Machine[Any], *, width: int = 100, color: bool = False, ascii_only: bool = False) -> str:
    """Draw."""
    del machine, width, color, ascii_only
    raise NotImplementedError
