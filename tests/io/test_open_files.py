"""Room for many open files is made where it is allowed, and asked for where it is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
soft, hard, count = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.io.http.open_files import allow_open_files
try:
    allow_open_files(count)
except Io as exc:
    print(exc.user_message, exc.recovery_hint)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "count", "left"), [(128, 1024, 512, "512"), (512, 1024, 128, "512"), (128, 256, 512, "128")]
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(soft: int, hard: int, count: int, left: str) -> None:
    """Never lowered; over the hard limit the error says both numbers and what to do, and nothing is changed."""
    argv = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(count)]
    *said, limit = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert limit == left
    if count > hard:
        assert "512" in said[0]
        assert "256" in said[0]
        assert "ulimit" in said[0]
    else:
        assert said == []
