"""Counting answers that are only believed when they come several times in a row.

The API is several replicas, of which one may be behind. So an answer that ends a wait badly, and one that says what no
other answer may contradict, has to come `IN_A_ROW` times, one time after the other. This is the one counter for it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

IN_A_ROW: Final = 3
"""How often an answer that ends a wait badly has to come, one time after the other."""


class InARow:
    """Counts the same answer, one time after the other; any other answer starts the count anew."""

    def __init__(self) -> None:
        self._answer: Hashable = None
        self._count = 0

    def count(self, answer: Hashable) -> int:
        """Take the next answer in.

        Args:
            answer: What it says; None for an answer that says nothing of the kind.

        Returns:
            How often it has come in a row by now; 0 for None.
        """
        self._count = self._count + 1 if answer == self._answer else 1
        self._answer = answer
        return self._count if answer is not None else 0
