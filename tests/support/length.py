"""How long the searches of the tests are: `pytest --long` (`make test-long`) looks further than `make test`.

    @settings(max_examples=by_length(60, 2000))
    @pytest.mark.long                            # not run without --long

`tests/conftest.py` hears the option before any other module of the tests is imported.
"""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

VARIABLE: Final = "TESTS_LONG"
"""Set by the option; pytest's workers and the programs that tests start inherit it."""


def by_length(short: T, long: T) -> T:
    """What holds in this run: `short`, or `long` with `--long`."""
    return long if os.environ.get(VARIABLE) else short
