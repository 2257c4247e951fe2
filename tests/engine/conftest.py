"""Stores for the tests of what every store must keep."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from systemprompt_cloud.engine.store import Ownership, Store

from tests.support.stores import OWNED, STORES


@pytest.fixture(params=OWNED)
async def owned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Ownership]:
    """A new store whose flows are claimed."""
    async with OWNED[request.param](tmp_path) as store:
        yield store


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    """A new store."""
    async with STORES[request.param](tmp_path) as opened:
        yield opened
