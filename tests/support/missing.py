"""What a test needs and this computer does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End a test that cannot run here: skipped on somebody's computer, failed where everything has to be (CI=true).

    Args:
        what: What is missing, and how to get it.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
