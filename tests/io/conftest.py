"""What several tests of this room need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import loguru
import pytest
from systemprompt_cloud.io.journal import Journal
from systemprompt_cloud.testing.scripted import ScriptedServer, serve_scripted


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """Every warning logged during the test."""
    messages: list[str] = []
    sink = loguru.logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    loguru.logger.remove(sink)


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    """Where a journal is to be."""
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
def journal(journal_path: Path) -> Iterator[Journal]:
    """A new journal, open."""
    with Journal(journal_path) as journal:
        yield journal


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A real server on loopback that gives the planned answers."""
    async with serve_scripted() as scripted:
        yield scripted
