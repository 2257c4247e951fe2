"""What a look of `doctor` finds."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: What it is, in a word or two.
        status: Whether it is well (`ok`), may matter (`warning`), or has to be mended (`failed`).
        message: What was found.
        hint: What to do about it; empty when there is nothing to do.
    """

    check: str
    status: Literal["ok", "warning", "failed"]
    message: str
    hint: str = ""
