"""Findings of checks: those of `doctor` and of `flows check`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...base.errors import EXIT_DONE, EXIT_FAILED
from ..screen.terminal import put, put_done
from ..shared.settings import Settings


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: What it is, in a word or two.
        status: Whether it is fine (`ok`), may be a problem (`warning`), or has to be fixed (`failed`).
        message: What was found.
        hint: What to do about it; empty when there is nothing to do.
    """

    check: str
    status: Literal["ok", "warning", "failed"]
    message: str
    hint: str = ""


def counted(number: int, noun: str) -> str:
    """A number with its noun, plural where it is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def put_problems(settings: Settings, found: dict[str, Any], summary: str) -> int:
    """What a check found, its problems among it, and the exit code."""
    problems: list[str] = found["problems"]
    if not settings.json:
        for problem in problems:
            put(problem)
    put_done(settings, found, f"{summary}, {counted(len(problems), 'problem')}.")
    return EXIT_FAILED if problems else EXIT_DONE
