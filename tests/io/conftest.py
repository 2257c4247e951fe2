"""What several tests of this room need."""

from __future__ import annotations

from collections.abc import Iterator

import loguru
import pytest


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """Every warning logged during the test."""
    messages: list[str] = []
    sink = loguru.logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    loguru.logger.remove(sink)
